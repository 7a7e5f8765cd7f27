/* The publish lock: csrc/bus.c (try_publish_lock, take_over, await_publish_lock, eb_bus_unlock_publish), csrc/wait.c
 * (the event count, eb_event_post_one), csrc/locks.c (eb_publisher_alive).
 *
 * Publishers want the lock ROUNDS times each. Its word is 0 or a token; the first TOGETHER of them are threads of one
 * attachment and share one. Whoever has the lock leaves the ring odd for a moment; killed then, it leaves it so until
 * somebody repairs it. The many tries before a publisher waits are one here; a repair succeeds (test_roster.c has the
 * other case). At a deadline, LEAVE times in all, a publisher gives up, and comes back or not; EARLY times a sleep ends
 * by itself while others are at work, by a signal or because it is time to look. A slice is when all look by themselves
 * because nobody can go on: one after each death, no more.
 *
 * CHECK one_has_it -DPUBLISHERS=3 -DEARLY=1 -DLEAVE=1: without a slice and without a death there is one owner at a time, and nobody sleeps for ever while the lock is free, though one may leave at its deadline
 * CHECK twice -DPUBLISHERS=3 -DROUNDS=2: the same where each comes for the lock again
 * CHECK threads -DPUBLISHERS=3 -DTOGETHER=2: the same as the first where two of them are threads with one token
 * CHECK one_dies -DPUBLISHERS=3 -DEARLY=1 -DLEAVE=1 -DDEATHS=1 -DSLICE: whoever is killed at any step, its work is repaired before the next one begins, and one slice later everybody living has had the lock
 * CHECK two_die -DPUBLISHERS=3 -DDEATHS=2 -DSLICE: the same with two deaths, the second perhaps in the middle of the take-over
 *
 * MUTANT no_second_look one_has_it: no look between raising the flag and sleeping
 * MUTANT look_before_raise one_has_it: the look comes before the flag is raised
 * MUTANT woken_does_not_raise one_has_it: the one that is woken looks without raising the flag again
 * MUTANT leaves_without_a_look one_has_it: the one that is woken leaves at its deadline before it raises the flag again and looks
 * MUTANT epoch_after_raise one_has_it: the epoch is loaded after the look, so that a post before the sleep is not noticed
 * MUTANT post_before_store one_has_it: the lock is announced before its word is 0
 * MUTANT flag_lowered_last one_has_it: a post lowers the flag after it has moved the epoch and woken one
 * MUTANT sleep_without_comparing one_has_it: the kernel puts to sleep without comparing the epoch
 * MUTANT taken_without_comparing one_has_it: a lock that was free a moment ago is taken by a store
 * MUTANT own_token_is_dead threads: another thread's token, whose byte our own description holds, counts as a dead one's
 * MUTANT no_slice one_dies: a sleeper never looks by itself
 * MUTANT nobody_takes_over one_dies: a dead owner keeps the lock
 * MUTANT taken_over_without_repair one_dies: the lock is taken over and the work of the dead left as it is
 * MUTANT repair_after_unlock one_dies: the repair comes after the lock is given on
 * MUTANT repair_before_take_over two_die: the repair comes before the lock is taken over
 * MUTANT take_over_without_comparing one_dies: the lock is taken over by a store, not by a compare-and-swap
 * MUTANT take_over_what_is_there one_dies: the lock is taken over from whoever has it by now, not from whom was found dead
 */
#include "step.h"

#ifndef TOGETHER
#define TOGETHER 1
#endif
#ifndef EARLY
#define EARLY 0
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef LEAVE
#define LEAVE 0
#endif

#define TOKEN(publisher) (publisher < TOGETHER -> TOGETHER : publisher)

byte lock;                   /* 0, or a token */
byte epoch;
bit waiters;
bool asleep[PUBLISHERS + 1]; /* in the kernel's queue of the epoch */
bool gone[PUBLISHERS + 1];   /* the token's byte is free: its owner is dead */

/* What nobody in the system knows. */
bool odd;   /* the ring is: what its owner writes is not committed */
byte inside; /* the living that have the lock */
byte left;
byte early, leaves;
byte sliced; /* deaths that a slice has come after */

/* Part of the step that takes the lock. */
inline enter()
{
    assert(!inside);
    inside++;
    mine = true
}

/* try_publish_lock. */
inline try()
{
    STEP(_, free = TRUTH(lock == 0));
    if
    :: free ->
#ifdef MUTANT_taken_without_comparing
        STEP(publish_locked, lock = TOKEN(_pid); enter())
#else
        STEP(publish_locked, /* [lock] */
            if
            :: lock == 0 -> lock = TOKEN(_pid); enter()
            :: else
            fi)
#endif
    :: else
    fi;
    free = false
}

/* eb_ring_repair. */
inline repair()
{
#ifndef MUTANT_taken_over_without_repair
    STEP(_, free = odd);
    if
    :: free -> STEP(_, odd = false)
    :: else
    fi;
    free = false
#else
    skip
#endif
}

inline take_over()
{
#ifdef MUTANT_repair_before_take_over
    repair();
#endif
#ifdef MUTANT_take_over_what_is_there
    STEP(_, owner = lock);
#endif
#ifdef MUTANT_take_over_without_comparing
    STEP(_, lock = TOKEN(_pid); enter());
#else
    STEP(repair_taken, /* [lock] */
        if
        :: lock == owner -> lock = TOKEN(_pid); enter()
        :: else
        fi);
#endif
#if !defined(MUTANT_repair_after_unlock) && !defined(MUTANT_repair_before_take_over)
    if
    :: mine -> repair()
    :: else
    fi
#else
    late = mine
#endif
}

/* eb_event_post_one: the kernel takes any one out of its queue. */
inline wake_one()
{
    STEP(_,
        if
        :: asleep[1] -> asleep[1] = false
        :: asleep[2] -> asleep[2] = false
        :: asleep[PUBLISHERS] -> asleep[PUBLISHERS] = false
        :: else
        fi)
}

inline post_one()
{
    STEP(_, found = waiters); /* [unlock] */
    if
    :: found ->
#ifdef MUTANT_flag_lowered_last
        STEP(_, epoch++);
        wake_one();
        STEP(_, waiters = 0)
#else
        STEP(_, waiters = 0);
        STEP(_, epoch++);
        wake_one()
#endif
    :: else
    fi;
    found = false
}

inline unlock()
{
#ifdef MUTANT_post_before_store
    post_one();
#endif
    STEP(_, assert(lock == TOKEN(_pid)); lock = 0; inside--; mine = false); /* [lock] [unlock] */
#ifndef MUTANT_post_before_store
    post_one()
#endif
}

#ifdef MUTANT_own_token_is_dead
#define OWN(token) false
#else
#define OWN(token) (token == TOKEN(_pid))
#endif
#ifdef MUTANT_nobody_takes_over
#define DEAD(token) false
#else
#define DEAD(token) (gone[token] || token == TOKEN(_pid)) /* our own description's lock is in nobody's way */
#endif

proctype publisher()
{
    byte owner, seen, rounds;
    bool mine, free, found;
#ifdef MUTANT_woken_does_not_raise
    bool raised;
#endif
#if defined(MUTANT_repair_after_unlock) || defined(MUTANT_repair_before_take_over)
    bool late;
#endif
again:
    try();
    do /* await_publish_lock */
    :: mine -> break
    :: else ->
#ifdef MUTANT_look_before_raise
        STEP(_, owner = lock);
#endif
#ifndef MUTANT_epoch_after_raise
        STEP(_, seen = epoch);
#endif
#ifdef MUTANT_woken_does_not_raise
        if
        :: !raised -> STEP(_, waiters = 1)
        :: else
        fi;
        raised = true;
#else
        STEP(_, waiters = 1); /* [unlock] */
#endif
#ifndef MUTANT_look_before_raise
        STEP(_, owner = lock); /* [unlock] */
#endif
#ifdef MUTANT_epoch_after_raise
        STEP(_, seen = epoch);
#endif
#ifdef MUTANT_no_second_look
        owner = TOKEN(_pid); /* as if somebody living had it */
#endif
        if
        :: owner == 0 -> try()
        :: owner != 0 ->
            if
            :: !OWN(owner) -> STEP(_, found = TRUTH(DEAD(owner))) /* the kernel is asked */
            :: else
            fi;
            if
            :: found -> take_over()
            :: else
            fi
        fi;
#ifndef MUTANT_leaves_without_a_look
        if
        :: true
        :: atomic { !mine && leaves < LEAVE -> leaves++ };
            goto at_its_end
        fi;
#endif
        if
        :: !mine && owner != 0 && !found ->
#ifdef MUTANT_sleep_without_comparing
            STEP(_, asleep[_pid] = true);
#else
            STEP(_, asleep[_pid] = TRUTH(epoch == seen));
#endif
            seen = 0;
            owner = 0;
            if
            :: atomic { !asleep[_pid] }
            :: atomic { asleep[_pid] && early < EARLY -> early++; asleep[_pid] = false }
#if DEATHS > 0
            :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
            fi;
            STEP(lock_woken, skip);
#ifdef MUTANT_leaves_without_a_look
            if
            :: true
            :: atomic { leaves < LEAVE -> leaves++ };
                goto at_its_end
            fi
#endif
        :: else
        fi;
        found = false;
        seen = 0;
        owner = 0
    od;
    seen = 0;
    owner = 0;
    STEP(publish_copied, assert(!odd); odd = true);
    STEP(publish_committed, assert(odd); odd = false);
    unlock();
#if defined(MUTANT_repair_after_unlock)
    if
    :: late -> repair()
    :: else
    fi;
#endif
    rounds++;
    if
    :: rounds < ROUNDS -> goto again
    :: else -> goto over
    fi;
at_its_end:
    found = false;
    seen = 0;
    owner = 0;
    if
    :: goto again /* EB_INTERRUPTED: its caller comes back */
    :: goto over  /* EB_BUSY */
    fi;
dead:
    atomic {
        gone[TOKEN(_pid)] = true;
        inside = inside - mine;
        asleep[_pid] = false
    }
over:
    left++
}

init
{
    byte i;
    atomic {
        for (i : 1 .. PUBLISHERS) {
            run publisher()
        }
    }
    do
#if defined(SLICE) && !defined(MUTANT_no_slice)
    :: atomic { timeout && sliced < deaths -> /* LOCK_LOOK_NS: each looks by itself */
        sliced = deaths;
        for (i : 1 .. PUBLISHERS) {
            asleep[i] = false
        }
        i = 0
    }
    :: atomic { timeout && sliced == deaths -> break }
#else
    :: atomic { timeout -> break }
#endif
    od;
    assert(left == PUBLISHERS)
}
