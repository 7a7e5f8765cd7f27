/* A member of a group that looks at raw data where they lie: what it has in hand and what it keeps, and how its events are done
 * or given back, by itself or by others. */
#ifndef EVENTBUS_LOOKER_H
#define EVENTBUS_LOOKER_H

#include "sights.h"

enum { GROUPS = 2, LOOKERS = 8, HAND = 5, KEPT = 4, EVENTS = 1 << 22 };

/* Of an event of the group that stays. */
typedef struct {
    _Atomic uint8_t in_hand, done;
} fate;

typedef struct {
    uint64_t sequence;
    keepsake seen; /* without a view: a copy, which is looked at no more */
} grip;

/* A member, one life after the other, and a thread that finishes for it if it does so by itself, and has what it keeps. */
typedef struct {
    unsigned group;
    bool manual;
    bool parts;           /* what it looks at is copied now and then, as before a fork */
    eb_subscription *sub; /* NULL: between two lives */
    uint64_t state, lent;
    pthread_rwlock_t here; /* read by whoever does something with it; written by itself, for all or nothing */
    pthread_mutex_t lock;  /* of what follows */
    grip hand[HAND];
    unsigned held;
    keepsake kept[KEPT];
} looker;

static looker lookers[LOOKERS];
static fate *fates;
static _Atomic uint64_t ended_apart, again, given_back;

/* --- what becomes of each event --- */

static fate *fate_of(unsigned group, uint64_t sequence)
{
    CHECK("the table of events is large enough", sequence > 0 && sequence < EVENTS);
    return group == 0 ? &fates[sequence] : NULL;
}

static void take(unsigned group, uint64_t sequence)
{
    fate *of = fate_of(group, sequence);
    if (!of) return;
    EQUAL("nobody else has it in hand", atomic_fetch_add(&of->in_hand, 1), 0);
    EQUAL("nor has anybody done it", atomic_load(&of->done), 0);
}

static void let_go(unsigned group, uint64_t sequence)
{
    if (group == 0) atomic_fetch_sub(&fate_of(group, sequence)->in_hand, 1);
}

static void finished(unsigned group, uint64_t sequence)
{
    if (group == 0) atomic_fetch_add(&fate_of(group, sequence)->done, 1);
}

/* --- what is kept --- */

static void look_at(const keepsake *seen)
{
    uint64_t names[2];
    if (seen->view) expect_whole(seen->data, seen->length, names);
}

/* Where publishers write, too, and a race detector sees them: of what is in hand, and was not copied. */
static inline void look_in_ring(const keepsake *seen)
{
    uint64_t names[2];
    if (seen->view) expect_whole(it.bus->ring.data + seen->view->offset, seen->length, names);
}

static void look_away(const keepsake *seen)
{
    look_at(seen);
    if (seen->view) release(seen->view);
}

/* From now on it is looked at by whoever wants to, also once its event is done. */
static void keep(looker *me, uint64_t *state, keepsake *seen)
{
    keepsake before = swap(&me->lock, &me->kept[draw(state) % KEPT], *seen);
    seen->view = NULL;
    look_away(&before);
}

static void drop_kept(looker *me)
{
    for (int i = 0; i < KEPT; i++) {
        keepsake one = swap(&me->lock, &me->kept[i], (keepsake){.view = NULL});
        look_away(&one);
    }
}

/* Somebody else's: it goes, or is looked at once more and stays. */
static void see_to_kept(looker *me, uint64_t *state)
{
    keepsake one = swap(&me->lock, &me->kept[draw(state) % KEPT], (keepsake){.view = NULL});
    if (one.view && draw(state) % 2) {
        EQUAL("one may be looked at again", eb_view_export(one.view), EB_OK);
        look_at(&one);
        eb_view_exported(one.view);
        one = swap(&me->lock, &me->kept[draw(state) % KEPT], one);
        atomic_fetch_add(&again, 1);
    }
    atomic_fetch_add(&ended_apart, one.view != NULL);
    look_away(&one);
}

/* --- in hand --- */

/* From then on another one may have it: it is done, or given back by whoever picked it, or with all by a member that leaves. */
static bool pick(looker *me, uint64_t *state, grip *one)
{
    pthread_mutex_lock(&me->lock);
    bool any = me->held > 0;
    if (any) {
        unsigned which = (unsigned)(draw(state) % me->held);
        *one = me->hand[which];
        me->hand[which] = me->hand[--me->held];
        let_go(me->group, one->sequence);
    }
    pthread_mutex_unlock(&me->lock);
    return any;
}

static void expect_end(const looker *me, int status)
{
    if (status == EB_OK || status == EB_NOTHING) return; /* it left meanwhile, or its group was removed and made anew */
    EQUAL("its group is no more", status, EB_CLOSED);
    EQUAL("which may be", me->group, 1);
}

/* Any event in hand is done, or given back; the look at it ends before that, or after it, or later. */
static bool finish_any(looker *me, uint64_t *state)
{
    grip one;
    if (!pick(me, state, &one)) return false;
    uint64_t chance = draw(state) % 64;
    if (chance % 3 == 0 && one.seen.view) keep(me, state, &one.seen);
    if (chance % 3 == 1) {
        look_away(&one.seen);
        one.seen.view = NULL;
    }
    bool back = chance < 12;
    int status = back ? eb_reject_event(me->sub, one.sequence, (int64_t)(draw(state) % 3 * 300000))
                      : eb_ack_event(me->sub, one.sequence);
    if (status == EB_OK && !back) finished(me->group, one.sequence);
    atomic_fetch_add(&given_back, back);
    expect_end(me, status);
    look_away(&one.seen);
    return true;
}

/* All that is in hand leaves it; what becomes of the looks is for the caller to say. */
static unsigned empty_hand(looker *me, grip *to)
{
    unsigned count = 0;
    while (pick(me, &me->state, &to[count]))
        count++;
    return count;
}

/* Beside a look that ends, and a thread that would have finished it. */
static void return_all(looker *me)
{
    grip all[HAND];
    pthread_rwlock_wrlock(&me->here);
    unsigned count = empty_hand(me, all);
    if (draw(&me->state) % 2 && count > 0) keep(me, &me->state, &all[0].seen);
    int status = eb_return(me->sub, (int64_t)(draw(&me->state) % 2 * 300000));
    pthread_rwlock_unlock(&me->here);
    expect_end(me, status);
    atomic_fetch_add(&given_back, count);
    for (unsigned i = 0; i < count; i++)
        look_away(&all[i].seen);
}

#endif
