/* One doorbell for all who doze in a process: csrc/wake.c (eb_wake), csrc/rouse.c (eb_rouse, eb_ring_owed), csrc/doze.c
 * (eb_doze, eb_bell_told, eb_bell_still).
 *
 * Whoever publishes lowers the flags of all who doze, and rings each process once. The loop of that process, which is rung,
 * looks at all flags, makes its bell forget, and looks at them once more; who is told takes all there is, raises its flag, and
 * looks again. What the code does with one seq_cst operation is one step here.
 *
 * CHECK once -DPUBLISHERS=2 -DSUBSCRIBERS=3: nobody dozes past an event, though its process is rung once for all
 * CHECK death -DPUBLISHERS=2 -DSUBSCRIBERS=2 -DDEATHS=1 -DSLICE: whoever is killed at any step, one slice later nobody does
 *
 * MUTANT rung_with_the_first once: the process is rung as soon as the first flag is down
 * MUTANT no_look_after_draining once: the loop looks at the flags only before it makes the bell forget
 * MUTANT no_second_look once: no look after the flag was raised
 * MUTANT no_slice death: a loop never looks by itself
 */
#include "step.h"

byte committed;
byte bits; /* the waiter set */
bool rung; /* at the socket of the process, and not looked at yet */
byte position[SUBSCRIBERS];
bool looked; /* a slice has ended */
byte gone;   /* publishers that have ended, in whatever way */

proctype publisher()
{
    byte seen, slot;
    bool up, owed, done;
    STEP(publish_committed, committed++); /* [commit] [wake] */
    STEP(_, seen = bits); /* [wake] */
    slot = 0;
    do
    :: slot < SUBSCRIBERS ->
        up = false;
        if
        :: (seen >> slot) & 1 -> STEP(wake_lowered, up = (bits >> slot) & 1; bits = bits & ~(1 << slot))
        :: else
        fi;
#ifdef MUTANT_rung_with_the_first
        if
        :: up && !done -> done = true; STEP(bell_rung, rung = true)
        :: else
        fi;
#else
        owed = owed || up;
#endif
        slot++
    :: else -> break
    od;
    if
    :: owed -> STEP(bell_rung, rung = true) /* [wake] */
    :: else
    fi;
dead:
    atomic { gone++ }
}

/* One that is told, until there is nothing left. */
inline serve(who)
{
    moved = true;
    do
    :: moved ->
        CALM(receive_advanced, bits = bits & ~(1 << who));
        CALM(_, position[who] = committed); /* [commit] */
        CALM(waiter_raised, bits = bits | (1 << who)); /* [wake] */
#ifdef MUTANT_no_second_look
        moved = false
#else
        CALM(_, moved = TRUTH(committed != position[who])) /* [wake] */
#endif
    :: else -> break
    od
}

/* Whose flags are down by now. */
inline look_around()
{
    CALM(_, seen = bits);
    for (who : 0 .. SUBSCRIBERS - 1) {
        if
        :: (seen >> who) & 1
        :: else -> serve(who)
        fi
    }
    seen = 0
}

active proctype loop()
{
    byte who, seen;
    bool moved;
    for (who : 0 .. SUBSCRIBERS - 1) {
        serve(who)
    }
end_dozing:
    do
    :: atomic { rung };
        look_around();
        CALM(_, rung = false);
#ifndef MUTANT_no_look_after_draining
        look_around()
#endif
#if defined(SLICE) && !defined(MUTANT_no_slice)
    :: atomic { timeout && gone == PUBLISHERS && !looked -> looked = true };
        for (who : 0 .. SUBSCRIBERS - 1) {
            serve(who)
        }
#endif
    od
}

#if defined(SLICE) && !defined(MUTANT_no_slice)
#define AWAITED looked
#else
#define AWAITED true
#endif

active proctype judge()
{
    byte who;
    timeout && gone == PUBLISHERS && AWAITED;
    for (who : 0 .. SUBSCRIBERS - 1) {
        assert(position[who] == committed)
    }
}

init
{
    byte i;
    atomic {
        for (i : 1 .. PUBLISHERS) {
            run publisher()
        }
    }
}
