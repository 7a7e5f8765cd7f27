/* Who of a group is woken: csrc/relay.c (eb_relay_pass_on, eb_relay_await, idle, look_at, sleep_or_watch), csrc/claims.c
 * (eb_claims_look), csrc/group.c (eb_unwatched), csrc/wake.c (eb_wake), csrc/rouse.c, csrc/doze.c, csrc/wait.c.
 *
 * Members share one flag in the waiter set and one semaphore, so an event wakes one of them, who sees to it that the next
 * event wakes another, and that one of those asleep watches whether those who work live. Taking an event under the
 * group's lock is one step here: what happens inside it is the matter of group.pml. A member may work for ever, and one
 * with a deadline may leave for ever when it is over; neither may keep an event from those who sleep. What is given back
 * for later is due at any moment from then on, but not before a watcher of those who work would look.
 *
 * CHECK hurried -DMEMBERS=2 -DPUBLISHERS=1 -DREJECTS=1 -DHURRIED=1: without a slice and without a death, where somebody sleeps nothing is left to be taken, the next event wakes one, and one watches if somebody works; one may leave at its deadline, and an event may be given back
 * CHECK slice -DMEMBERS=2 -DPUBLISHERS=1 -DDEATHS=1 -DSLICE: whoever is killed at any step, one slice later nobody sleeps while an event is there to be taken
 * CHECK two_events -DMEMBERS=2 -DPUBLISHERS=2: the same of two events at once
 * CHECK watch -DMEMBERS=3 -DPUBLISHERS=1 -DLOOKING=1 -DDEATHS=1 -DIN_HAND: of a member that dies with an event in hand one of those asleep learns when WATCH_NS is over
 * CHECK delay -DMEMBERS=2 -DPUBLISHERS=1 -DSENDS=2 -DREJECTS=1 -DDELAYS: what is given back for later wakes one of those asleep when it is due, though whoever watched for it was woken for another event, which it may work on for ever
 * CHECK delay_slice -DMEMBERS=2 -DPUBLISHERS=1 -DREJECTS=1 -DDELAYS -DDEATHS=1 -DSLICE: the same whoever is killed, one slice later
 * CHECK dozing -DMEMBERS=2 -DPUBLISHERS=1 -DREJECTS=1 -DHURRIED=1 -DDOZING=2: as hurried, where each sleeps in a call or dozes in an event loop, and one that dozes may give up
 * CHECK dozing_slice -DMEMBERS=2 -DPUBLISHERS=1 -DDEATHS=1 -DSLICE -DDOZING=2: as slice, likewise
 *
 * MUTANT remembered_is_forgotten dozing: whoever begins to doze does not look at the semaphore
 * MUTANT semaphore_stays dozing: whoever gets up from a doze leaves the semaphore as it is
 * MUTANT none_is_rung dozing: where nobody sleeps in a call, nobody is rung
 * MUTANT given_up_for_all dozing: whoever gives up does not pass on what it was told
 * MUTANT deadline_ends_a_wake_up hurried: whoever leaves at its deadline leaves the flag as it is
 * MUTANT flag_is_not_raised_anew hurried: whoever takes an event does not raise the flag for those asleep
 * MUTANT no_second_look hurried: no look between raising the flag and sleeping
 * MUTANT watch_is_not_passed hurried: whoever takes an event does not see to it that one watches
 * MUTANT due_is_not_looked_for delay: nobody watches for what is due later
 * MUTANT promise_for_later_counts delay: who looks when something is due counts as one who watches whether others live
 * MUTANT watch_is_not_cleared hurried: whoever watched leaves its promise behind when it is woken
 * MUTANT no_look_after_the_flag two_events: whoever takes an event raises the flag without looking again
 */
#include "step.h"

#ifndef REJECTS
#define REJECTS 0
#endif
#ifndef HURRIED
#define HURRIED 0
#endif
#ifndef LOOKING
#define LOOKING 0
#endif
#ifndef DOZING
#define DOZING 0
#endif
#ifndef SENDS
#define SENDS 1
#endif
/* When somebody has to look, and has promised to; 0 for nobody. */
#define NOW 1
#define SOON 2 /* WATCH_NS */
#define LATER 3
#ifdef IN_HAND /* nobody is killed but with an event in hand */
#define MOMENT CALM
#else
#define MOMENT STEP
#endif

byte committed;
byte cursor;
bit flag;                /* of the group's slot, in the waiter set */
bit word;                /* its semaphore */
byte sleepers;           /* the asleep bits */
byte watched;            /* until when somebody looks */
bool queued[MEMBERS + 1]; /* in the kernel's queue of the semaphore */
bool doorbell[MEMBERS + 1]; /* its slot says that it is rung instead */
bool rung[MEMBERS + 1];  /* and was, and has not looked yet */
bool dozes[MEMBERS + 1];
bool holds[MEMBERS + 1];
bool returned;           /* a claim that was given back, and is due */
bool later;              /* one that is not yet */
bool gone[MEMBERS + 1];
byte watches[MEMBERS + 1]; /* it will look by then */
bool looked[MEMBERS + 1]; /* its slice has ended once */
byte rejects;

#if MEMBERS == 2
#define SOME(what) (what(1) || what(2))
#define ORPHANS (IS_ORPHANED(1) || IS_ORPHANED(2))
#else
#define SOME(what) (what(1) || what(2) || what(3))
#define ORPHANS (IS_ORPHANED(1) || IS_ORPHANED(2) || IS_ORPHANED(3))
#endif
#define IS_HELD(who) holds[who]
#define IS_ORPHANED(who) (holds[who] && gone[who])
#define IS_QUEUED(who) queued[who]
#define SLEEPS(who) (queued[who] || dozes[who] && !rung[who])
#define IS_WATCHING(who) (SLEEPS(who) && (watches[who] == NOW || watches[who] == SOON))
#define WILL_LOOK(who) (IS_WATCHING(who) && (ORPHANS || returned) || SLEEPS(who) && watches[who] == LATER && returned)
#ifdef MUTANT_due_is_not_looked_for
#define LOOK (returned -> NOW : (SOME(IS_HELD) -> SOON : 0))
#else
#define LOOK (returned -> NOW : (SOME(IS_HELD) -> SOON : (later -> LATER : 0))) /* eb_claims_look */
#endif
#ifdef MUTANT_promise_for_later_counts
#define LATER_THAN(look) false
#else
#define LATER_THAN(look) (watched > look)
#endif
#define LEFT (cursor != committed || returned)
#define OTHERS (sleepers & ~(1 << _pid))

#define IS_RUNG(who) (((sleepers >> who) & 1) && doorbell[who] && !gone[who])

/* The kernel wakes one of those in the queue. */
inline post()
{
    MOMENT(_, old = word; word = 1);
    if
    :: !old ->
        MOMENT(wake_posted,
            if
            :: queued[1] -> queued[1] = false
            :: queued[2] -> queued[2] = false
#if MEMBERS > 2
            :: queued[3] -> queued[3] = false
#endif
            :: !SOME(IS_QUEUED) -> none = true
            fi)
    :: else
    fi;
#ifndef MUTANT_none_is_rung
    if
    :: none && DOZING > 0 -> MOMENT(bell_rung, /* the first one asleep that answers [wake] */
        if
        :: IS_RUNG(1) -> rung[1] = true
        :: !IS_RUNG(1) && IS_RUNG(2) -> rung[2] = true
        :: !IS_RUNG(1) && !IS_RUNG(2)
        fi)
    :: else
    fi;
#endif
    none = false;
    old = 0
}

proctype publisher()
{
    bit old, up;
    bool none;
    byte sent;
    do
    :: sent < SENDS ->
        MOMENT(publish_committed, committed++; sent++); /* [commit] [wake] */
        MOMENT(_, up = flag); /* [wake] */
        if
        :: up -> MOMENT(wake_lowered, up = flag; flag = 0)
        :: else
        fi;
        if
        :: up -> post()
        :: else
        fi
    :: else -> break
    od;
dead:
    skip
}

#ifdef MUTANT_watch_is_not_passed
#define UNWATCHED false
#else
#define UNWATCHED (LOOK && (!watched || LATER_THAN(LOOK)))
#endif

inline pass_on()
{
    MOMENT(_, other = OTHERS);
    if
    :: other ->
        MOMENT(_, left = LEFT);
#ifndef MUTANT_flag_is_not_raised_anew
        if
        :: !left -> MOMENT(_, flag = 1) /* [wake] */
        :: else
        fi;
#endif
#ifndef MUTANT_no_look_after_the_flag
        if
        :: !left -> MOMENT(_, left = LEFT)
        :: else
        fi;
#endif
        if
        :: !left -> MOMENT(_, left = UNWATCHED)
        :: else
        fi;
        if
        :: left -> post()
        :: else
        fi
    :: else
    fi;
    other = 0;
    left = false
}

/* take: returned claims first, those of the dead among them. */
inline take()
{
    MOMENT(_,
        if
        :: returned -> returned = false; holds[_pid] = true
        :: !returned && IS_ORPHANED(1) -> holds[1] = false; holds[_pid] = true
        :: !returned && IS_ORPHANED(2) -> holds[2] = false; holds[_pid] = true
#if MEMBERS > 2
        :: !returned && IS_ORPHANED(3) -> holds[3] = false; holds[_pid] = true
#endif
        :: !returned && !ORPHANS && cursor < committed -> cursor++; holds[_pid] = true
        :: !returned && !ORPHANS && cursor >= committed
        fi)
}

inline sleep_or_watch()
{
    MOMENT(_, watches[_pid] = LOOK);
    if
    :: watches[_pid] -> MOMENT(_, watches[_pid] = (!watched || LATER_THAN(watches[_pid]) -> watches[_pid] : 0)) /* eb_unwatched */
    :: else
    fi;
    if
    :: watches[_pid] -> MOMENT(watch_set, watched = watches[_pid])
    :: else
    fi;
    MOMENT(_, old = word; word = 0);
    if
    :: old -> woken = true
    :: else ->
        MOMENT(_, queued[_pid] = !word);
end_asleep:
        if
        :: atomic { !queued[_pid] -> woken = true }
        :: atomic { _pid <= HURRIED && queued[_pid] -> queued[_pid] = false; over = true } /* its deadline */
        :: atomic { timeout && WILL_LOOK(_pid) -> queued[_pid] = false } /* WATCH_NS, or it is due */
#if defined(SLICE)
        :: atomic { timeout && !looked[_pid] && queued[_pid] -> looked[_pid] = true; queued[_pid] = false } /* ASLEEP_NS */
#endif
#if DEATHS > 0 && !defined(IN_HAND)
        :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
        fi;
        MOMENT(_, woken = woken || word; word = 0)
    fi;
    old = 0;
    if
    :: watches[_pid] ->
#ifndef MUTANT_watch_is_not_cleared
        MOMENT(watch_cleared, watched = 0);
#endif
        watches[_pid] = 0
    :: else
    fi
}

/* As sleep_or_watch, in an event loop: eb_doze and eb_rise. */
inline doze()
{
    MOMENT(_, watches[_pid] = LOOK);
    if
    :: watches[_pid] -> MOMENT(_, watches[_pid] = (!watched || LATER_THAN(watches[_pid]) -> watches[_pid] : 0))
    :: else
    fi;
    if
    :: watches[_pid] -> MOMENT(watch_set, watched = watches[_pid])
    :: else
    fi;
#ifdef MUTANT_remembered_is_forgotten
    old = 0;
#else
    MOMENT(_, old = word; word = 0);
#endif
    if
    :: old -> woken = true
    :: else ->
        atomic { dozes[_pid] = true };
end_dozing:
        if
        :: atomic { rung[_pid] };
            MOMENT(_, rung[_pid] = false);
            MOMENT(_, woken = TRUTH(!flag || word));
            if
            :: !woken -> goto end_dozing
            :: else
            fi
        :: atomic { _pid <= HURRIED -> given_up = true } /* cancelled */
        :: atomic { timeout && WILL_LOOK(_pid) }
#if defined(SLICE)
        :: atomic { timeout && !looked[_pid] -> looked[_pid] = true }
#endif
#if DEATHS > 0 && !defined(IN_HAND)
        :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
        fi;
        atomic { dozes[_pid] = false }
    fi;
    old = 0;
    if
    :: watches[_pid] ->
        MOMENT(watch_cleared, watched = 0);
        watches[_pid] = 0
    :: else
    fi
}

proctype member()
{
    byte other, seen;
    bit old;
    bool left, woken, over, none, in_loop, given_up;
receive:
    take();
    if
    :: holds[_pid] ->
        woken = false;
        pass_on();
        if
        :: true -> goto working
        :: STEP(_, holds[_pid] = false) /* the next call acknowledges it */
        :: atomic { rejects < REJECTS -> rejects++ };
#ifdef DELAYS
            MOMENT(claim_returned, holds[_pid] = false; later = true);
#else
            MOMENT(claim_returned, holds[_pid] = false; returned = true);
#endif
            post()
        fi;
        goto receive
    :: else
    fi;
    MOMENT(_, seen = cursor);
    if
    :: over || (_pid <= HURRIED) ->
        if
        :: true -> goto hurried
        :: !over -> skip
        fi
    :: else
    fi;
    MOMENT(_, left = TRUTH(seen != committed));
    if
    :: left || woken -> /* EB_INTERRUPTED, and called again */
        left = false;
        woken = false;
        goto receive
    :: else
    fi;
    if
    :: _pid > MEMBERS - LOOKING -> /* one that looks all the time and never sleeps */
end_looking:
        atomic { LEFT -> goto receive }
    :: else
    fi;
    if
    :: _pid <= DOZING -> in_loop = true
    :: true -> in_loop = false
    fi;
#if DOZING > 0
    MOMENT(doorbell_stored, doorbell[_pid] = in_loop); /* [wake] */
#endif
    MOMENT(asleep_set, sleepers = sleepers | (1 << _pid));
    MOMENT(waiter_raised, flag = 1); /* [wake] */
#ifndef MUTANT_no_second_look
    MOMENT(_, left = TRUTH(seen != committed)); /* [wake] */
    if
    :: !left -> MOMENT(_, left = returned)
    :: else
    fi;
#endif
    if
    :: !left && !in_loop -> sleep_or_watch()
    :: !left && in_loop -> doze()
    :: else
    fi;
    left = false;
    MOMENT(waiter_woken, sleepers = sleepers & ~(1 << _pid));
#ifndef MUTANT_semaphore_stays
    if
    :: in_loop -> MOMENT(_, word = 0)
    :: else
    fi;
#endif
    if
    :: given_up -> goto hurried
    :: else
    fi;
    goto receive; /* at its deadline, to look once more */
working: /* for ever, or until it is killed */
end_working:
    if
    :: atomic { false -> goto receive }
#if DEATHS > 0
    :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
    fi;
hurried:
#if defined(MUTANT_deadline_ends_a_wake_up)
    skip;
#elif defined(MUTANT_given_up_for_all)
    if
    :: !given_up -> pass_on()
    :: else
    fi;
#else
    pass_on();
#endif
    goto dead_or_left;
dead:
    atomic { gone[_pid] = true; queued[_pid] = false; dozes[_pid] = false }
dead_or_left:
    skip
}

#ifdef DELAYS
/* Time that passes. */
proctype clock()
{
end_clock:
    CALM(_, later -> later = false; returned = true)
}
#endif

#if defined(SLICE)
#define MAY_SLEEP(who) (SLEEPS(who) && !looked[who])
#define AFTER_SLICES true
#else
#define MAY_SLEEP(who) false
#define AFTER_SLICES false
#endif

init
{
    byte i;
    atomic {
        for (i : 1 .. MEMBERS) {
            run member()
        }
        for (i : 1 .. PUBLISHERS) {
            run publisher()
        }
#ifdef DELAYS
        run clock()
#endif
    }
    timeout && !SOME(MAY_SLEEP) && !SOME(WILL_LOOK);
    /* Where somebody sleeps, nothing is left, the next event wakes one, and one watches if somebody works. */
    assert(!SOME(SLEEPS) || !LEFT);
    assert(!SOME(SLEEPS) || flag);
    assert(!SOME(SLEEPS) || !SOME(IS_HELD) || SOME(IS_WATCHING) || AFTER_SLICES);
    assert(!SOME(SLEEPS) || !ORPHANS)
}
