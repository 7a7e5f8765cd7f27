/* Publish, commit and wake against sleep: csrc/wake.c (eb_wake), csrc/rouse.c (eb_rouse), csrc/single.c (await), csrc/wait.c
 * (the semaphore), csrc/doze.c (eb_doze, eb_bell_told).
 *
 * Publishers send one event each and one shuts the bus down; subscribers hear all of it, asleep in between. What the
 * code does with one seq_cst operation is one step here. A semaphore is a word and the kernel's queue: who sleeps was
 * put there by a comparison of the word, and is taken out by a wake-up. Each time, a subscriber sleeps in a call or dozes in
 * an event loop, as its slot's doorbell says; its bell remembers that it was rung, and it is told if its flag is down.
 *
 * CHECK wake -DPUBLISHERS=2 -DSUBSCRIBERS=1: without a slice and without a death nobody sleeps while there is something to hear, and whoever sees the end has heard all
 * CHECK slice -DPUBLISHERS=2 -DSUBSCRIBERS=1 -DDEATHS=1 -DSLICE: whoever is killed at any step, one slice later nobody sleeps while there is something to hear
 *
 * MUTANT no_second_look wake: no look between raising the flag and sleeping
 * MUTANT look_before_raise wake: the look comes before the flag is raised
 * MUTANT bits_before_commit wake: the flags are loaded before the commit, which is also what a weaker store may come to
 * MUTANT post_before_lower wake: the semaphore is posted before the flag is lowered
 * MUTANT wake_without_word wake: the kernel is called without the word that remembers the post
 * MUTANT sleep_without_comparing wake: the kernel puts to sleep without comparing the word
 * MUTANT doorbell_after_flag wake: the doorbell is stored after the flag is raised
 * MUTANT doorbell_before_lower wake: the doorbell is loaded before the flag is lowered
 * MUTANT no_look_after_draining wake: the loop looks who is told only before it makes the bell forget
 * MUTANT closed_after_scan wake: the end of the bus is looked for after the scan
 * MUTANT no_slice slice: a sleeper never looks by itself
 */
#include "step.h"

byte committed;
bool closed;
byte locked;             /* the publish lock: its owner; how others find it dead is the matter of lock.pml */
byte bits;               /* the waiter set */
bit word[SUBSCRIBERS];   /* a slot's semaphore */
bool asleep[SUBSCRIBERS]; /* in the kernel's queue of that word */
bool doorbell[SUBSCRIBERS]; /* whether it is rung instead */
bool rung[SUBSCRIBERS];  /* at its socket, and not looked at yet */
byte position[SUBSCRIBERS];
bool looked[SUBSCRIBERS]; /* a slice has ended */
byte gone;               /* publishers that have ended, in whatever way */

inline lower_and_post()
{
#ifdef MUTANT_post_before_lower /* the sleeper may be back before its bit goes down */
    STEP(_, old = word[slot]; word[slot] = 1);
    if
    :: !old -> STEP(wake_posted, asleep[slot] = false)
    :: else
    fi;
    STEP(wake_lowered, bits = bits & ~(1 << slot))
#else
#ifdef MUTANT_doorbell_before_lower
    STEP(_, bell = doorbell[slot]);
#endif
    STEP(wake_lowered, up = (bits >> slot) & 1; bits = bits & ~(1 << slot));
    if
    :: up ->
#ifndef MUTANT_doorbell_before_lower
        STEP(_, bell = doorbell[slot]); /* [wake] */
#endif
        if
        :: bell -> STEP(bell_rung, rung[slot] = true)
        :: else ->
#ifndef MUTANT_wake_without_word /* futex_wake alone: who is about to sleep does not see it */
            STEP(_, old = word[slot]; word[slot] = 1);
#endif
            if
            :: !old -> STEP(wake_posted, asleep[slot] = false)
            :: else
            fi
        fi;
        bell = false
    :: else
    fi
#endif
}

/* The bits are loaded as one word. [wake] */
#define LOAD_BITS STEP(_, seen = bits)

inline wake()
{
    slot = 0;
    do
    :: slot < SUBSCRIBERS ->
        if
        :: (seen >> slot) & 1 -> lower_and_post()
        :: else
        fi;
        slot++
    :: else -> break
    od
}

proctype publisher(bool last)
{
    byte seen, slot;
    bit up, old;
    bool refused, bell;
    STEP(publish_locked, !locked -> locked = _pid);
#ifdef MUTANT_bits_before_commit /* also what a committed stored without seq_cst may come to */
    LOAD_BITS;
#endif
    if
    :: last -> STEP(shutdown_stored, closed = true) /* [wake] */
    :: else ->
        STEP(_, refused = closed);
        if
        :: !refused -> STEP(publish_committed, committed++) /* [commit] [wake] */
        :: else
        fi
    fi;
    STEP(publish_unlocked, locked = 0);
#ifndef MUTANT_bits_before_commit
    LOAD_BITS;
#endif
    if
    :: !refused -> wake()
    :: else
    fi;
dead:
    atomic {
        locked = (locked == _pid -> 0 : locked); /* taken over; it has nothing to repair that matters here */
        gone++
    }
}

proctype subscriber(byte me)
{
    bool was_closed, moved, dozes;
    bit got;
again:
#ifndef MUTANT_closed_after_scan /* an event may come between the scan and the end */
    STEP(_, was_closed = closed);
#endif
    STEP(receive_advanced, position[me] = committed); /* [commit] */
#ifdef MUTANT_closed_after_scan
    STEP(_, was_closed = closed);
#else
    STEP(_, moved = TRUTH(committed != position[me]));
    if
    :: moved -> goto again
    :: else
    fi;
#endif
    if
    :: was_closed ->
        assert(position[me] == committed);
        goto dead
    :: else
    fi;
#ifdef MUTANT_look_before_raise
    STEP(_, moved = TRUTH(committed != position[me]));
#endif
    if
    :: true -> dozes = false
    :: true -> dozes = true
    fi;
#ifdef MUTANT_doorbell_after_flag
    STEP(waiter_raised, bits = bits | (1 << me));
    STEP(doorbell_stored, doorbell[me] = dozes);
#else
    STEP(doorbell_stored, doorbell[me] = dozes); /* [wake] */
    STEP(waiter_raised, bits = bits | (1 << me)); /* [wake] */
#endif
#ifdef MUTANT_no_second_look
    moved = false;
#else
#ifndef MUTANT_look_before_raise
    STEP(_, moved = TRUTH(committed != position[me])); /* [wake] */
#endif
    if
    :: !moved -> STEP(_, moved = closed) /* [wake] */
    :: else
    fi;
#endif
    if
    :: !moved && dozes ->
        atomic { asleep[me] = true };
end_dozing:
        if
        :: atomic { rung[me] };
            STEP(_, moved = TRUTH(!((bits >> me) & 1))); /* who is told goes on first, and the bell stays rung */
            if
            :: !moved ->
                STEP(_, rung[me] = false);
#ifndef MUTANT_no_look_after_draining
                STEP(_, moved = TRUTH(!((bits >> me) & 1)));
#endif
                if
                :: !moved -> goto end_dozing
                :: else
                fi
            :: else
            fi;
            moved = false
#if defined(SLICE) && !defined(MUTANT_no_slice)
        :: atomic { timeout && !looked[me] -> looked[me] = true } /* EB_SLICE_NS */
#endif
#if DEATHS > 0
        :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
        fi;
        atomic { asleep[me] = false }
    :: !moved && !dozes ->
        STEP(_, got = word[me]; word[me] = 0);
        if
        :: !got ->
#ifdef MUTANT_sleep_without_comparing
            STEP(_, asleep[me] = true);
#else
            STEP(_, asleep[me] = !word[me]);
#endif
end_asleep:
            if
            :: atomic { !asleep[me] }
#if defined(SLICE) && !defined(MUTANT_no_slice)
            :: atomic { timeout && !looked[me] -> looked[me] = true; asleep[me] = false } /* EB_SLICE_NS */
#endif
#if DEATHS > 0
            :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
            fi;
            STEP(_, word[me] = 0)
        :: else
        fi
    :: else
    fi;
    STEP(waiter_woken, bits = bits & ~(1 << me));
    goto again;
dead:
    atomic { asleep[me] = false }
}

#ifdef MUTANT_no_slice /* with a death between the bit and the semaphore, nothing else helps */
#define SLEPT_ENOUGH(who) true
#elif defined(SLICE)
#define SLEPT_ENOUGH(who) (!asleep[who] || looked[who])
#else
#define SLEPT_ENOUGH(who) true
#endif

active proctype judge()
{
    byte who;
    timeout && gone == PUBLISHERS + 1 && SLEPT_ENOUGH(0) && SLEPT_ENOUGH(SUBSCRIBERS - 1);
    for (who : 0 .. SUBSCRIBERS - 1) {
        assert(!asleep[who] || (position[who] == committed && !closed))
    }
}

init
{
    byte i;
    atomic {
        for (i : 1 .. PUBLISHERS) {
            run publisher(false)
        }
        if
        :: run publisher(true)
        :: gone++ /* nobody shuts it down */
        fi;
        for (i : 0 .. SUBSCRIBERS - 1) {
            run subscriber(i)
        }
    }
}
