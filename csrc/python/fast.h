/* The module `eventbus._fast`: what a send and an event cost most in the interpreter, and what no signal handler may part,
 * done without it. From the bottom up:
 *
 *   object.c    how objects end
 *   others.c    whether there are other threads, which run while this one sends
 *   scope.c     Scope: one call at the end of a with-block, in the same step as the end
 *   fields.c    Fields: what an event is made of
 *   event.c     one event of a batch, or one request, made of what was read
 *   hand.c      Hand: the events of the batch in hand, each made when it is asked for; read, handed out, done
 *   view.c      View: raw data where it lies in the ring
 *   lent.c      what was handed out of these, until more is asked for
 *   texts.c     whether texts may be decoded together
 *   headers.c   where an event came from, and its headers
 *   unpack.c    what the core has read at once, into a Hand
 *   finish.c    what was read is handed out, buried, or given back
 *   fill.c      the next batch in hand, the last one's events acknowledged
 *   waiter.c    Waiter: what a task of an event loop waits with
 *   more.c      More: awaited, whether there is something in hand
 *   events.c    Events: one after the other, for who awaits them
 *   taking.c    Taking: what events are read to, acknowledged in the same step
 *   receiver.c  Receiver: what a subscription has of these
 *   parcel.c    Parcel: events that are sent together
 *   sender.c    Sender.send: two look-ups, a call of orjson, one of the core
 *   tickets.c   Ticket: one request that is waited for
 *   distant.c   who waits in an event loop
 *   replies.c   Replies: who of those that wait receives for all
 *   doorbell.c  Doorbell: who goes on when it was rung
 *   module.c    the module
 *
 * It knows the core by the addresses that cffi gives out of its own, so it goes with any build of it; cffi remains the way
 * to all else. One interpreter per process, as for cffi's modules. Python looks for signals between its own steps only, so
 * what is one call here is one step for whatever a signal handler raises. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <semaphore.h>
#include <stdbool.h>
#include <structmember.h>

#include "eventbus.h"
#include "direct.h"
#include "lent.h"

/* object.c: frees an object of a type that PyType_FromSpec made. */
void eb_fast_free(PyObject *object);

/* others.c: who waits for the GIL. What is sent lets them run meanwhile, if there are any. */
PyThreadState *eb_let_others(void);
void eb_back(PyThreadState *threads);

/* scope.c */
int eb_scope_ready(PyObject *module);

/* headers.c */
typedef struct {
    PyObject *headers;
    PyObject *origin;
    uint64_t time; /* where the record says when and by whom it was sent there, beside the origin; else 0 */
    uint32_t sender;
} eb_extension;

bool eb_headers_bind(PyTypeObject *headers);
eb_extension eb_no_extension(void);                                 /* borrowed */
eb_extension eb_extension_read(const char *bytes, uint32_t length); /* new; both NULL with an error */

/* fields.c */

enum { EB_EVENT_FIELDS = 10, EB_EVENT_PATH = 2 };

/* In the order of their tuple: but for numbers, which are so wide in the ring. All references are there, but in what
 * nobody sees yet. */
typedef struct {
    PyObject base;
    PyObject *system, *kind, *path, *data;
    uint64_t sequence, time;
    uint32_t sender, deliveries;
    PyObject *headers, *origin;
} fields_object;

int eb_fields_ready(PyObject *module);
bool eb_fields_set(PyObject *object, PyObject *(*values)[EB_EVENT_FIELDS]);

/* hand.c */

typedef struct receiver_object receiver_object;

/* What is in hand of a subscription: events that were put back, then those of the batch, of which the core's head says how
 * many were handed out and how many of these are done. A row is one event of the batch but for its path and data. */
typedef struct {
    uint64_t sequence;
    uint64_t time;
    uint32_t sender;
    PyObject *names; /* a tuple that begins with the two below; of requests, the kind as it was sent is the third */
    PyObject *system, *kind;
    bool asked; /* whether it is a request */
} hand_row;

typedef struct {
    PyObject base;
    PyObject *owner;     /* keeps the batch */
    receiver_object *of; /* whose hand it is, borrowed; NULL once that is gone */
    PyObject *front;     /* a list of events that were put back, or NULL */
    Py_ssize_t taken;    /* of it */
    PyObject *values;    /* path, data, path, data ... of the batch, or NULL */
    PyObject *made;      /* or a list of its events, all made already; what cannot be read is something else */
    PyObject *bus;       /* by which requests are answered, or NULL before there was one */
    eb_batch *batch;
    uint64_t generation; /* of the process whose it is */
    uint32_t count;      /* events of the batch */
    uint32_t number;     /* of the batch */
    char busy;           /* a batch is being taken, or events of it: whatever asks meanwhile gets nothing */
    char dropped;        /* meanwhile somebody dropped it */
    char copies;         /* raw data are bytes, whatever its owner wants */
    hand_row rows[EB_BATCH_LIMIT];
} hand_object;

int eb_hand_ready(PyObject *module);
void eb_hand_bind(const uint64_t *generation);
hand_object *eb_hand_new(PyObject *owner, eb_batch *batch);
void eb_hand_drop(hand_object *hand);
void eb_hand_busy(hand_object *hand);
void eb_hand_idle(hand_object *hand);
bool eb_hand_is_inherited(const hand_object *hand);
Py_ssize_t eb_hand_left(const hand_object *hand);
bool eb_hand_take(hand_object *hand, Py_ssize_t limit, PyObject *into); /* the next ones, to the end of a list */
PyObject *eb_hand_all(hand_object *hand); /* a list of the events of the batch; nothing is handed out by that */
PyObject *eb_hand_unreadable(const hand_object *hand); /* what comes next if that is no event, borrowed; else NULL */

/* event.c */
PyObject *eb_event_empty(const hand_object *hand, bool asked);
bool eb_event_fill(hand_object *hand, uint32_t index, PyObject *event); /* an empty one; collects no garbage */
bool eb_event_address(PyObject *request, PyObject *sent);
bool eb_is_addressed(PyObject *sent); /* whether a path is that of a request */
bool eb_is_event(PyObject *object);
bool eb_are_events(PyObject *list);
bool eb_is_request(PyObject *object);
void eb_event_bind(PyTypeObject *event, PyTypeObject *request);
int eb_event_ready(void);

/* What its doc in receiver.c says. */
struct receiver_object {
    PyObject base;
    PyObject *handle;
    PyObject *ready;
    PyObject *names;
    PyObject *turn;
    PyObject *doorbell;
    PyObject *letters;
    eb_subscription *sub;
    int limit;
    char ended;
    char manual; /* it says for itself which events are done */
    char asks;   /* who asks for the next event says by that that those before are done */
    char views;  /* raw data are memoryviews, which end when more is asked for */
    int in_a_row;
    PyObject *lent; /* a list: of each of those a weak reference, whose it is, and the sequence of its event */
    uint64_t next;  /* after what was handed out of the batches that have any, and */
    uint64_t told;  /* of which the core was told that more was asked for since */
};

/* view.c */
PyObject *eb_view_of(const eb_beside *beside);
void eb_view_bind(unsigned long long hold, unsigned long long release, unsigned long long export,
                  unsigned long long exported);
int eb_view_ready(void);

/* lent.c */
PyObject *eb_loan_of(receiver_object *self, PyObject *events, PyObject *whose);
bool eb_lend(receiver_object *self, PyObject *loan, PyObject *last);
bool eb_hand_asks(hand_object *hand, PyObject **whose);
bool eb_hand_looks(const hand_object *hand);
void eb_hand_forget(hand_object *hand, Py_ssize_t count);
void eb_hand_take_back(hand_object *hand, PyObject *events);
bool eb_lent_ask(receiver_object *self, PyObject **to);
bool eb_lent_back(receiver_object *self, PyObject *events);
PyObject *eb_receiver_release(PyObject *object, PyObject *given);
PyObject *eb_receiver_ask(PyObject *object, PyObject *unused);
void eb_lent_bind(unsigned long long lend, unsigned long long asked);
int eb_lent_ready(void);

/* texts.c: the text of event number `text` of those that have one begins there; behind it are a comma and a line break. */
uint64_t eb_text_start(const eb_batch *batch, uint32_t text);
bool eb_texts_stand_alone(const eb_batch *batch);

/* unpack.c: the batch that was read last, in hand; false with an error. */
bool eb_unpack(receiver_object *self, PyObject *handle, hand_object *hand);
void eb_unpack_bind(PyObject *loads);
int eb_unpack_ready(void);

/* finish.c */
void *eb_address_in(PyObject *handle, PyObject *attribute); /* NULL with an error, like the next */
eb_subscription *eb_subscription_of(PyObject *handle);
hand_object *eb_hand_of(const receiver_object *self);
bool eb_is_whole(const receiver_object *self);
void eb_count_delivery(eb_batch *batch, uint32_t index);
void eb_hand_out(eb_batch *batch, uint32_t count);
void eb_bury_event(eb_subscription *sub, uint64_t sequence);
void eb_give_batch_back(receiver_object *self);
PyObject *eb_receiver_bury(PyObject *object, PyObject *given);
PyObject *eb_receiver_give_back(PyObject *object, PyObject *given);
void eb_finish_bind(unsigned long long bury, unsigned long long give_back, unsigned long long reject);
int eb_finish_ready(void);

/* tickets.c */
enum { EB_PREFIX_LIMIT = 63 };

typedef struct ticket_object ticket_object;

typedef struct {
    PyObject base;
    receiver_object *subscription;
    PyObject *waiting;                /* by the identity of a request, the address of its ticket */
    char prefix[EB_PREFIX_LIMIT + 1]; /* of identities */
    uint64_t asked;                   /* how many so far */
    ticket_object *leader;            /* who receives for all, or is about to; or NULL */
    unsigned long thread;             /* the leader's; 0 before it leads */
    ticket_object *first, *last;      /* who sleeps until it has its answer, or the lead */
    Py_ssize_t distant;               /* how many wait in event loops */
    ticket_object *owed, *last_owed;  /* those of them who are to be told */
    char armed;                       /* whether a doorbell tells of the next answer */
    char attended, again;             /* whether a loop is receiving, or lying down; and is to look again after that */
} replies_object;

struct ticket_object {
    PyObject base;
    replies_object *replies;
    PyObject *identity;
    PyObject *answer;        /* or NULL */
    PyObject *loop, *future; /* of who waits in an event loop, or NULL */
    int64_t deadline;
    bool known; /* its identity is among those that are waited for */
    bool sleeps;
    sem_t news;
    ticket_object *previous, *next; /* of those who sleep, or are to be told */
};

/* NULL with an error, like the next. Who waits in a thread has no loop. */
ticket_object *eb_ticket_new(replies_object *replies, PyObject *timeout, PyObject *loop);
ticket_object *eb_ticket_of(PyObject *object, const replies_object *replies);
void eb_ticket_strike(ticket_object *ticket); /* from the list of what is waited for */
void eb_ticket_wake(ticket_object *ticket);
bool eb_ticket_is_late(const ticket_object *ticket);
int64_t eb_ticket_now(void);
int eb_ticket_sleep(ticket_object *ticket); /* EB_OK when woken, EB_NOTHING when the time is up, EB_INTERRUPTED */
void eb_replies_rest(replies_object *self);
bool eb_replies_inherited(const replies_object *self);
void eb_replies_hail(const replies_object *self); /* the loops */
void eb_tickets_bind(unsigned long long rest, unsigned long long attend, unsigned long long hail,
                     PyObject *deadline_after);
int eb_tickets_ready(void);

/* distant.c */
void eb_distant_owe(ticket_object *ticket);
PyObject *eb_distant_tell(PyObject *replies, PyObject *const *given, Py_ssize_t count);
PyObject *eb_distant_expire(PyObject *replies, PyObject *loop);
PyObject *eb_distant_release(PyObject *replies, PyObject *error);
int eb_distant_ready(void);

enum { EB_INBOX_LENGTH = 2 }; /* of an identity, its first characters: which inbox answers go to */

/* events.c */
int eb_events_ready(void);
PyObject *eb_events_of(PyObject *receiver);

/* fill.c: 1 when there is something in hand, 0 when the time is up or the end has come, -1 with an error. */
int eb_fill(receiver_object *self, PyObject *until);
int eb_poll(receiver_object *self); /* not waiting */
int eb_acknowledge(receiver_object *self, PyObject *handle);
/* 1 when it is this thread's turn to receive, 0 when the time is up, -1 with an error. */
int eb_turn_await(receiver_object *self, PyObject *turn, PyObject *deadline);
bool eb_turn_end(PyObject *turn); /* false with an error, also with one that there was before */
bool eb_asks_on(receiver_object *self);
void eb_fill_bind(unsigned long long receive, unsigned long long ack);
int eb_fill_ready(void);

/* waiter.c */
bool eb_waiter_is_of(PyObject *object, PyObject *loop);
bool eb_waiter_is_pending(PyObject *waiter); /* whether it was told nothing yet */
bool eb_waiter_is_timed(PyObject *waiter);
PyObject *eb_waiter_queue(PyObject *waiter); /* borrowed, or NULL */
PyObject *eb_waiter_begin(PyObject *waiter);
int eb_waiter_check(PyObject *waiter); /* 0 once it was told; -1 with an error, also while it is pending */
int eb_waiter_step(PyObject *waiter);  /* one that is pending; 0, or -1 with an error */
void eb_waiter_bind(PyObject *cancelled_error);
int eb_waiter_ready(PyObject *module);

/* more.c */
PyObject *eb_more_of(receiver_object *receiver, PyObject *deadline);
bool eb_more_waits(PyObject *more);
PyObject *eb_sent(PySendResult sent, PyObject *result);
PyObject *eb_thrown(PyObject *given);
int eb_more_ready(void);

/* taking.c */
PyObject *eb_receiver_taking(PyObject *receiver, PyObject *given);
int eb_taking_ready(void);

/* doorbell.c */
int eb_doorbell_ready(PyObject *module);
PyObject *eb_bind_doorbell(PyObject *module, PyObject *given);

/* receiver.c, sender.c and replies.c */
int eb_receiver_ready(PyObject *module);
int eb_receiver_poll(
    receiver_object *self); /* 1 when there is something in hand, 0 when there is not, -1 with an error */
bool eb_is_receiver(PyObject *object);
int eb_sender_ready(PyObject *module);
bool eb_is_raw(PyObject *data);
bool eb_is_path(PyObject *path);
PyObject *eb_raw(PyObject *data, const char **bytes, size_t *length); /* who has them; NULL with an error or without */
PyObject *eb_encoded(PyObject *path, PyObject *data);                 /* the same, of what cannot be encoded */
PyObject *eb_route_of(PyObject *sender, PyObject *system, PyObject *kind);

/* parcel.c */
PyObject *eb_parcel(PyObject *sender, PyObject *const *given, Py_ssize_t count);
void eb_parcel_bind(unsigned long long send);
int eb_parcel_ready(void);

int eb_replies_ready(PyObject *module);
PyObject *eb_bind_receive(PyObject *module, PyObject *given);
PyObject *eb_bind_views(PyObject *module, PyObject *given);
PyObject *eb_bind_send(PyObject *module, PyObject *given);
PyObject *eb_bind_replies(PyObject *module, PyObject *given);
