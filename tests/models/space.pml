/* A publisher that waits for room: csrc/publish.c (publish, await_room, may_hear, lags), csrc/news.c (eb_freed),
 * csrc/single.c (await), csrc/wait.c (the event count).
 *
 * The ring has room for CAPACITY units. Publishers send an event each, of SMALLEST units and up, APART from each other, and wait when it does not
 * fit; one subscriber frees what it reads, says so when EIGHTH units or all are free, and sleeps when it has read all.
 * A deaf one is not woken for events, only when it lags by half a ring or somebody lacks the room.
 *
 * CHECK room -DPUBLISHERS=2 -DSMALLEST=2: without a slice and without a death every publisher gets its room
 * CHECK death -DPUBLISHERS=2 -DSMALLEST=2 -DDEATHS=1 -DSLICE: the same whoever is killed at any step, once the slices of those who wait are over, a publisher's finding the dead
 * CHECK deaf -DPUBLISHERS=2 -DSMALLEST=1 -DAPART=2 -DUNREAD=2 -DDEAF: the same where the subscriber is deaf to all that is sent
 *
 * MUTANT no_second_look room: no look between saying that one waits and sleeping
 * MUTANT look_before_flag room: the look comes before one says that one waits
 * MUTANT post_before_cursor room: room is announced before the cursor is stored
 * MUTANT slice_without_reaping death: nobody looks for the dead at the end of a slice
 * MUTANT epoch_before_waiters deaf: a post raises the epoch before it clears the flag
 * MUTANT lagging_sleeper_is_left_asleep deaf: whoever waits for room wakes nobody
 * MUTANT wake_before_look deaf: whoever waits for room wakes the sleepers before its look, not after it
 */
#include "step.h"

#define CAPACITY 3
#define EIGHTH 2
#define SLICES 2 /* of publishers, that may end in all */
#ifdef SLICE
#define SLICED true
#else
#define SLICED false
#endif

#ifndef APART
#define APART 1
#endif
#ifndef UNREAD
#define UNREAD 0
#endif

byte committed;
byte cursor;
byte locked;                /* the publish lock: free with its owner's death, see lock.pml */
byte epoch;
bit waiters;
bool waits[PUBLISHERS + 2]; /* asleep in the kernel on the epoch */
bit flag, word;             /* the subscriber's in the waiter set, and its semaphore */
bool asleep;
bool slot_open, gone;       /* the subscriber's slot; whether its byte is unlocked */
byte done;                  /* publishers that have ended */
byte sent, slices;
bool looked;                /* the sleeper's own slice is over */

#define GATE (slot_open -> cursor : committed)
#define FITS (committed + need - GATE <= CAPACITY)

/* Wakes the subscriber if its flag is up and `condition` holds. */
inline wake_if(condition)
{
    STEP(_, chosen = flag); /* [wake] */
    if
    :: chosen -> STEP(_, chosen = TRUTH(condition))
    :: else
    fi;
    if
    :: chosen ->
        STEP(wake_lowered, chosen = flag; flag = 0);
        if
        :: chosen ->
            STEP(_, chosen = !word; word = 1);
            if
            :: chosen -> STEP(wake_posted, asleep = false)
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    chosen = false
}

proctype publisher(byte need)
{
    byte seen;
    bool fits, chosen;
again:
    STEP(publish_locked, locked == 0 -> locked = _pid);
    STEP(_, fits = TRUTH(FITS));
    if
    :: fits ->
        STEP(publish_committed, committed = committed + need; sent++); /* [commit] [wake] [gate] */
        STEP(publish_unlocked, locked = 0);
#ifdef DEAF
        wake_if(committed - cursor > CAPACITY / 2);
#else
        wake_if(true);
#endif
        goto over
    :: else
    fi;
    STEP(publish_unlocked, locked = 0);
#ifdef MUTANT_wake_before_look /* what another publisher sends in between is what keeps us out */
    wake_if(committed - cursor > 0);
#endif
#ifdef MUTANT_look_before_flag
    STEP(_, fits = TRUTH(FITS));
#endif
    STEP(_, seen = epoch);
    STEP(event_flagged, waiters = 1); /* [space] */
#ifdef MUTANT_no_second_look
    fits = false;
#else
#ifndef MUTANT_look_before_flag
    STEP(_, fits = TRUTH(FITS)); /* [space] */
#endif
#endif
    if
    :: fits ->
        fits = false;
        seen = 0;
        goto again
    :: else
    fi;
#if !defined(MUTANT_wake_before_look) && !defined(MUTANT_lagging_sleeper_is_left_asleep)
    wake_if(committed - cursor > 0);
#endif
    STEP(_, waits[_pid] = TRUTH(epoch == seen));
    seen = 0;
    if
    :: atomic { !waits[_pid] }
#ifdef SLICE
    :: atomic { timeout && slices < SLICES && (looked || !asleep || committed == cursor) && waits[_pid] -> slices++; waits[_pid] = false; /* EB_SPACE_SLICE_NS, then eb_bus_reap */
#ifndef MUTANT_slice_without_reaping
           slot_open = slot_open && !gone
#endif
       }
#endif
#if DEATHS > 0
    :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
    fi;
    goto again;
dead:
    atomic {
        waits[_pid] = false;
        locked = (locked == _pid -> 0 : locked)
    }
over:
    done++
}

/* eb_event_post. */
inline post()
{
#ifdef MUTANT_epoch_before_waiters
    STEP(_, epoch++);
    STEP(_, waiters = 0);
#else
    STEP(_, waiters = 0);
    STEP(_, epoch++);
#endif
    STEP(_, waits[1] = false; waits[2] = false; waits[PUBLISHERS] = false)
}

inline freed()
{
    STEP(_, told = waiters); /* [space] */
    if
    :: !told -> credit = 0
    :: told && (position == seen || credit >= EIGHTH) ->
        credit = 0;
        STEP(_, told = waiters); /* [space] */
        if
        :: told -> post()
        :: else
        fi
    :: else
    fi;
    told = false
}

proctype subscriber()
{
    byte position, seen, credit;
    bool told, moved;
again:
    STEP(_, seen = committed); /* [commit] */
    do
    :: position < seen -> /* a batch of one unit, or all there is */
        if
        :: credit = credit + 1;
            position++
        :: credit = credit + seen - position;
            position = seen
        fi;
#ifdef MUTANT_post_before_cursor
        freed();
        STEP(receive_advanced, cursor = position)
#else
        STEP(receive_advanced, cursor = position); /* [cursor] [space] */
        freed()
#endif
    :: else -> break
    od;
    STEP(waiter_raised, flag = 1); /* [wake] */
    STEP(_, moved = TRUTH(committed != position)); /* [wake] */
    if
    :: !moved ->
        STEP(_, moved = word; word = 0);
        if
        :: !moved ->
            STEP(_, asleep = !word);
end_asleep:
            if
            :: atomic { !asleep }
#ifdef SLICE
            :: atomic { timeout && asleep && committed != position && !looked -> looked = true; asleep = false } /* EB_SLICE_NS */
#endif
#if DEATHS > 0
            :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
            fi;
            STEP(_, word = 0)
        :: else
        fi
    :: else
    fi;
    moved = false;
    STEP(waiter_woken, flag = 0);
    goto again;
dead:
    gone = true;
    asleep = false
}

init
{
    byte i;
    atomic {
        slot_open = true;
        committed = UNREAD;
        for (i : 1 .. PUBLISHERS) {
            run publisher(SMALLEST + APART * (i - 1))
        }
        run subscriber()
    }
    timeout && (!SLICED || done == PUBLISHERS || (slices == SLICES && (looked || !asleep)));
    assert(done == PUBLISHERS);
#if !defined(DEAF) && DEATHS == 0
    assert(cursor == committed)
#endif
}
