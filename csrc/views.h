/* What of the ring is looked at in place: window.c, views.c, and what lend.c needs of them. */
#ifndef EVENTBUS_VIEWS_H
#define EVENTBUS_VIEWS_H

#include "internal.h"
#include "lent.h"

typedef struct eb_window eb_window;

/* What a subscription looks at. */
struct eb_views {
    _Atomic int holders;  /* the subscription, and each view */
    uint64_t generation;  /* of the process whose it is: in a child nobody may take the lock */
    pthread_mutex_t lock; /* of what follows; whoever has it waits for nobody */
    eb_subscription *sub; /* NULL once it has left */
    bool of_member;  /* of a group: what is in hand is let go of by its event, and protected by a gate of its own */
    bool gated;      /* the slot of a member holds that gate */
    eb_view *graves; /* over before anybody had made anything of the batch, whose reader still may try to */
    eb_view *first, *last; /* in the order of their records; those that are protected by its cursor */
    uint64_t lent;         /* sequences before it were handed out, and */
    uint64_t asked;        /* before this one, more was asked for since */
    eb_window *window;     /* of what is read next, or NULL */
};

struct eb_view {
    eb_views *of;
    eb_view *next;
    eb_window *window;
    uint64_t position, sequence; /* of its record */
    bool done;                   /* its event is, of a member */
    bool copied;                 /* so it may be looked at by a child, too */
    uint64_t offset, bytes;      /* of its data */
    _Atomic int holders;         /* the list above, and whoever may export it */
    _Atomic uint32_t exports;    /* how many look at it; and EB_VIEW_GONE: nobody else may */
};

#define EB_VIEW_GONE (1u << 31)

/* window.c */
eb_window *eb_window_make(const eb_ring *ring);
void eb_window_hold(eb_window *window);
void eb_window_release(eb_window *window);
const char *eb_window_at(const eb_window *window, uint64_t offset);
bool eb_window_copy(eb_window *window, uint64_t offset, uint64_t bytes);
void eb_window_trim(eb_window *window, uint64_t offset, uint64_t bytes);

/* own_gate.c: of a member, with the lock of its views */
bool eb_own_gate_hold(eb_views *views, uint64_t position, uint64_t end);
void eb_own_gate_settle(eb_views *views);

/* batch.c */
void eb_batch_trim(eb_subscription *sub);
void eb_batch_begin(eb_subscription *sub);
void eb_batch_end(eb_batch *batch, uint32_t count);
int eb_batch_keep(eb_subscription *sub, const eb_record *record, uint64_t position, uint32_t index, bool shared,
                  bool looks);
uint64_t eb_batch_bytes(const eb_subscription *sub);

/* views.c */
eb_views *eb_views_new(eb_subscription *sub, bool of_member);
void eb_views_let_go(eb_views *views);
eb_view *eb_views_add(eb_subscription *sub, const eb_record *record, uint64_t position, uint64_t length);
const char *eb_view_data(const eb_view *view);
uint64_t eb_views_floor(eb_subscription *sub, uint64_t position);
void eb_views_done(eb_subscription *sub, uint64_t sequence);
void eb_views_forget(eb_subscription *sub);
bool eb_views_settle(eb_subscription *sub);
void eb_views_rest(eb_subscription *sub, bool ended);
eb_subscription *eb_views_exported(eb_view *view);
void eb_views_part(eb_subscription *sub);
bool eb_views_end(eb_subscription *sub);

#endif
