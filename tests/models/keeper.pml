/* Who of those asleep looks when something is to be sent: csrc/keeper.c (eb_sleep_or_keep), csrc/wake.c (eb_see_kept,
 * wake_keeper), csrc/schedule.c (eb_schedule, eb_fire_due), csrc/timetable.c (eb_look_at, eb_is_kept), csrc/subscription.c
 * (receive).
 *
 * Two events are put down, of which the second is due first; another one is sent at once. Subscribers send what is due, receive,
 * and sleep; one who has received something may work on it for ever, and one may leave at its deadline. What is due is sent
 * in one step: it happens under the publish lock, and how is the matter of later.pml. That whoever hears is woken is one step
 * with it: that is the matter of wake.pml. Time passes when nothing else can happen.
 *
 * CHECK told -DSLEEPERS=2: without a slice and without a death nobody sleeps on when something is due, whichever is put down first
 * CHECK deadline -DSLEEPERS=2 -DONE -DHURRIED=1: the same where one may leave at its deadline, of one event put down
 * CHECK three -DSLEEPERS=3 -DONE -DQUIET: the same of three, where nothing else is sent
 * CHECK slice -DSLEEPERS=2 -DONE -DHURRIED=1 -DDEATHS=1 -DSLICE: the same whoever is killed, one slice later
 *
 * MUTANT nobody_is_told told: whoever puts something down tells nobody
 * MUTANT told_too_early told: whoever puts something down looks who keeps before it stores when to look
 * MUTANT look_before_raise told: whoever falls asleep looks when something is due before it raises its flag
 * MUTANT nobody_hands_over told: whoever turns to an event, or leaves, does not see to it that another one keeps
 * MUTANT promise_stays told: whoever kept leaves its promise behind when it is woken
 * MUTANT refused_once told: whoever finds another promise than it saw does not look when that one is for
 * MUTANT promise_for_later_counts told: who has promised to look later counts as one who keeps
 */
#include "step.h"

#ifndef HURRIED
#define HURRIED 0
#endif
#define FIRST 1 /* when the two are due */
#define SECOND 2

byte now;
byte look; /* when somebody has to look; 0: nothing is to be sent */
byte kept; /* by when somebody has promised to; it is taken for gone once that has passed */
byte due;  /* what is to be sent: a bit for each time */
byte committed;
byte bits;                  /* the waiter set */
bit word[SLEEPERS + 1];     /* a slot's semaphore */
bool queued[SLEEPERS + 1];  /* in the kernel's queue of it */
byte until[SLEEPERS + 1];   /* it wakes by itself then; 0: it does not */
bool looked[SLEEPERS + 1];  /* its slice has ended once */
bool gone[SLEEPERS + 1];

#ifdef MUTANT_promise_for_later_counts
#define IN_TIME(when) true
#else
#define IN_TIME(when) (kept <= when)
#endif
#define IS_KEPT(when) (kept && now <= kept && IN_TIME(when))
#ifdef MUTANT_refused_once
#define AGAIN(when) false
#else
#define AGAIN(when) !IS_KEPT(when)
#endif
#define SET 9
#define NEXT (due & (1 << FIRST) -> FIRST : (due & (1 << SECOND) -> SECOND : 0))
#define RISES(who) (queued[who] && until[who] && until[who] <= now)
#define IS_RAISED(who) (who != me && (bits >> who & 1) && !gone[who])

#define POST(who) word[who] = 1; queued[who] = false

/* One of those asleep. */
inline wake_keeper()
{
    STEP(_, /* [keeper] */
        if
        :: IS_RAISED(1) -> POST(1)
        :: !IS_RAISED(1) && IS_RAISED(2) -> POST(2)
#if SLEEPERS > 2
        :: !IS_RAISED(1) && !IS_RAISED(2) && IS_RAISED(3) -> POST(3)
        :: !IS_RAISED(1) && !IS_RAISED(2) && !IS_RAISED(3)
#else
        :: !IS_RAISED(1) && !IS_RAISED(2)
#endif
        fi)
}

inline see_kept()
{
    STEP(_, when = look); /* [keeper] */
    if
    :: when ->
        STEP(_, keeps = !IS_KEPT(when)); /* [keeper] */
        if
        :: keeps -> wake_keeper()
        :: else
        fi
    :: else
    fi;
    when = 0;
    keeps = false
}

/* All that sleep, as they may hear it. */
#define WAKE(who)                                                                                                      \
    if                                                                                                                 \
    :: bits >> who & 1 -> bits = bits & ~(1 << who); POST(who)                                                         \
    :: else                                                                                                            \
    fi
#if SLEEPERS > 2
#define WAKE_ALL WAKE(1); WAKE(2); WAKE(3)
#else
#define WAKE_ALL WAKE(1); WAKE(2)
#endif

inline fire_due()
{
    STEP(_, fires = TRUTH(look && look <= now));
    if
    :: fires ->
        STEP(schedule_settled,
            if
            :: due & (1 << FIRST) && FIRST <= now -> due = due & ~(1 << FIRST); committed++
            :: else
            fi;
            if
            :: due & (1 << SECOND) && SECOND <= now -> due = due & ~(1 << SECOND); committed++
            :: else
            fi;
            look = NEXT;
            WAKE_ALL)
    :: else
    fi
}

proctype scheduler(byte at)
{
    byte me, when;
    bool keeps, fires;
#ifdef MUTANT_told_too_early
    STEP(_, when = at);
    STEP(_, keeps = !IS_KEPT(when));
    if
    :: keeps -> wake_keeper()
    :: else
    fi;
#endif
    STEP(schedule_stored, due = due | (1 << at); look = NEXT); /* [keeper] */
    fire_due();
#if !defined(MUTANT_nobody_is_told) && !defined(MUTANT_told_too_early)
    see_kept();
#endif
dead:
    skip
}

proctype publisher()
{
    STEP(publish_committed, committed++; WAKE_ALL);
dead:
    skip
}

inline hand_over()
{
#ifdef MUTANT_nobody_hands_over
    skip
#else
    see_kept()
#endif
}

/* As one that has raised its flag. */
inline sleep_or_keep()
{
#ifndef MUTANT_look_before_raise
    STEP(_, when = look); /* [keeper] */
#endif
    if
    :: when -> STEP(_, seen = kept; keeps = !IS_KEPT(when)) /* [keeper] */
    :: else
    fi;
    do
    :: keeps ->
        STEP(keeper_set, /* an exchange, or the promise that it found */
            if
            :: kept == seen -> kept = when; seen = SET
            :: else -> seen = kept; keeps = AGAIN(when)
            fi);
        if
        :: seen == SET -> break
        :: else
        fi
    :: else -> break
    od;
    STEP(_, fires = word[me]; word[me] = 0);
    if
    :: !fires ->
        STEP(_, queued[me] = !word[me]; until[me] = (keeps -> when : 0));
end_asleep:
        if
        :: atomic { !queued[me] }
        :: atomic { RISES(me) -> queued[me] = false }
        :: atomic { me <= HURRIED && queued[me] -> queued[me] = false; leaves = true }
#ifdef SLICE
        :: atomic { timeout && now == SECOND && !looked[me] && queued[me] -> looked[me] = true; queued[me] = false } /* EB_SLICE_NS */
#endif
#if DEATHS > 0
        :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
        fi;
        STEP(_, word[me] = 0)
    :: else
    fi;
    if
    :: keeps ->
#ifndef MUTANT_promise_stays
        STEP(keeper_cleared, kept = (kept == when -> 0 : kept)); /* [keeper] */
#endif
        skip
    :: else
    fi;
    when = 0;
    seen = 0;
    fires = false;
    keeps = false
}

proctype sleeper(byte me)
{
    byte position, when, seen;
    bool keeps, fires, heard, leaves;
receive:
    STEP(receive_advanced, heard = TRUTH(position != committed); position = committed);
    if
    :: heard ->
        heard = false;
        hand_over();
        if
        :: true -> goto working
        :: true -> goto receive
        fi
    :: else
    fi;
    fire_due();
    if
    :: fires -> fires = false; goto receive
    :: else
    fi;
    if
    :: leaves -> goto leaving
    :: else
    fi;
#ifdef MUTANT_look_before_raise
    STEP(_, when = look);
#endif
    STEP(waiter_raised, bits = bits | (1 << me)); /* [keeper] */
    STEP(_, heard = TRUTH(position != committed));
    if
    :: !heard -> sleep_or_keep()
    :: else
    fi;
    heard = false;
    STEP(waiter_woken, bits = bits & ~(1 << me));
    goto receive;
leaving:
    hand_over();
working: /* for ever */
    skip;
dead:
    atomic { gone[me] = true; queued[me] = false }
}

#ifdef SLICE
#define MAY_RISE(who) (RISES(who) || (queued[who] && !looked[who]))
#else
#define MAY_RISE(who) RISES(who)
#endif
#if SLEEPERS > 2
#define SOME(what) (what(1) || what(2) || what(3))
#else
#define SOME(what) (what(1) || what(2))
#endif
#define IS_QUEUED(who) queued[who]
#if DEATHS > 0
#define ON_TIME true
#else
#define ON_TIME (!SOME(IS_QUEUED) || !(due & (1 << FIRST)))
#endif

proctype clock()
{
end_first:
    CALM(_, timeout && !SOME(RISES) -> now++);
end_second:
    CALM(_, timeout && !SOME(RISES) -> assert(ON_TIME); now++)
}

init
{
    byte i;
    atomic {
        for (i : 1 .. SLEEPERS) {
            run sleeper(i)
        }
        run scheduler(SECOND);
#ifndef ONE
        run scheduler(FIRST);
#endif
#ifndef QUIET
        run publisher();
#endif
        run clock()
    }
    timeout && now == SECOND && !SOME(MAY_RISE);
    assert(!SOME(IS_QUEUED) || !due)
}
