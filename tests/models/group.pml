/* Claim, acknowledge, give back, take over: csrc/group.c and csrc/member.c (take, choose, bury, move_gate,
 * eb_member_ack).
 *
 * Members share committed events, a claim of up to LIMIT at a time. What each load and store of the group does is one
 * step. A member that finds nothing waits until there is something; how it is woken is the matter of relay.pml.
 * A dead member's kernel lock is free at once; that nobody living is taken for dead is not looked into.
 *
 * CHECK one_claim_each -DMEMBERS=2 -DEVENTS=3 -DLIMIT=2 -DREJECTS=1: without a death each event is delivered once, and once more for each time that it was given back, to one member at a time; all are acknowledged; the gate never passes one that is not
 * CHECK one_dies -DMEMBERS=2 -DEVENTS=3 -DLIMIT=2 -DDEATHS=1: whoever is killed at any step, no event is lost, none is delivered after its acknowledgement, and one that comes again counts as redelivered
 * CHECK two_die -DMEMBERS=3 -DEVENTS=1 -DLIMIT=1 -DDEATHS=2: the same with two deaths, one of them perhaps in the middle of mending what the other left
 *
 * MUTANT adopt_without_counting one_claim_each: a claim that was given back is taken without one delivery more
 * MUTANT bury_without_proof one_claim_each: what others hold is given back though they live
 * MUTANT gate_is_the_cursor one_claim_each: the gate is where the next claim begins, not at the oldest one held
 * MUTANT acknowledge_when_handed_out one_claim_each: an event counts as done when it is handed out
 * MUTANT cursor_before_claim one_dies: the cursor moves before the claim is made
 * MUTANT holder_before_range one_dies: a claim has its holder before its start and end
 * MUTANT take_over_without_mending one_dies: whoever takes the lock over from a dead owner leaves the cursor as it is
 * MUTANT take_over_without_comparing two_die: the lock is taken over by a store, not by a compare-and-swap
 */
#include "step.h"

#ifndef REJECTS
#define REJECTS 0
#endif
#define CLAIMS (MEMBERS + REJECTS)
#define NONE 7
#define RETURNED 9

byte lock; /* the token of the member that has it */
byte cursor;
byte gate;
byte used;
byte holder[CLAIMS], start[CLAIMS], end[CLAIMS], deliveries[CLAIMS];
bool gone[MEMBERS + 1]; /* the member's byte is free: it is dead */

/* What nobody in the system knows. */
byte delivered[EVENTS]; /* how often */
byte returned[EVENTS];  /* how often, by a living member that had it in hand */
byte has[EVENTS];       /* the living member that has it in hand */
bool done[EVENTS];      /* acknowledged */
bool handled[EVENTS];   /* its user was ready with it */
byte rejects;
byte left;

/* eb_group_take_over. */
inline mend()
{
#ifdef MUTANT_take_over_without_mending
    skip
#else
    STEP(_, position = cursor);
    i = 0;
    do
    :: i < used ->
        STEP(_, other = end[i]);
        STEP(_, position = (holder[i] && other > position -> other : position));
        i++
    :: else -> break
    od;
    STEP(_, cursor = position);
#endif
}

inline lock_group()
{
    do
    :: STEP(group_locked, lock == 0 -> lock = _pid); /* [group] */
        break
    :: STEP(_, lock && gone[lock] -> owner = lock);
#ifdef MUTANT_take_over_without_comparing /* somebody else may have taken it over by now */
        STEP(_, lock = _pid; taken = true);
#else
        STEP(_, taken = TRUTH(lock == owner); lock = (taken -> _pid : lock)); /* [group] */
#endif
        owner = 0;
        if
        :: taken ->
            mend();
            break
        :: else
        fi
    od;
    taken = false;
    i = 0;
    other = 0;
    position = 0
}

/* What dead members held is given back for them. */
inline bury()
{
    do
    :: i < used ->
        STEP(_, other = holder[i]);
        if
#ifdef MUTANT_bury_without_proof
        :: other && other != RETURNED && other != _pid -> STEP(claim_returned, holder[i] = RETURNED)
#else
        :: other && other != RETURNED && other != _pid && gone[other] -> STEP(claim_returned, holder[i] = RETURNED)
#endif
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0;
    other = 0
}

/* eb_claim_returned and eb_claim_adopt. */
inline adopt()
{
    do
    :: i < used ->
        STEP(_, taken = TRUTH(holder[i] == RETURNED));
        if
        :: taken && (mine == NONE || start[i] < start[mine]) -> mine = i
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0;
    taken = false;
    if
    :: mine != NONE ->
        STEP(_, other = deliveries[mine]);
        STEP(claim_adopted, holder[mine] = _pid);
#ifndef MUTANT_adopt_without_counting
        STEP(claim_counted, deliveries[mine] = other + 1);
#endif
        other = 0
    :: else
    fi
}

#define WRITE_RANGE                                                                                                    \
    STEP(_, start[i] = position);                                                                                      \
    STEP(_, end[i] = other);                                                                                           \
    STEP(claim_written, deliveries[i] = 1)
#define STORE_HOLDER                                                                                                   \
    STEP(_, used = (i >= used -> i + 1 : used));                                                                       \
    STEP(claim_held, holder[i] = _pid)

/* claim_new and eb_claim_add. */
inline claim_new()
{
    STEP(_, position = cursor);
    if
    :: position < EVENTS ->
        other = (position + LIMIT < EVENTS -> position + LIMIT : EVENTS);
        do
        :: STEP(_, taken = TRUTH(holder[i]));
            if
            :: taken -> i++
            :: else -> break
            fi
        od;
        taken = false;
        assert(i < CLAIMS);
#ifdef MUTANT_cursor_before_claim
        STEP(claim_cursor, cursor = other);
#endif
#ifdef MUTANT_holder_before_range
        STORE_HOLDER;
        WRITE_RANGE;
#else
        WRITE_RANGE;
        STORE_HOLDER;
#endif
        STEP(claim_cursor, cursor = other);
        mine = i
    :: else -> STEP(_, cursor = position)
    fi;
    i = 0;
    other = 0;
    position = 0
}

/* eb_group_gate and move_gate. [cursor] [space] */
inline move_gate()
{
    STEP(_, position = cursor);
#ifndef MUTANT_gate_is_the_cursor
    do
    :: i < used ->
        STEP(_, other = start[i]);
        STEP(_, position = (holder[i] && other < position -> other : position));
        i++
    :: else -> break
    od;
#endif
    STEP(claim_gated, gate = position);
    atomic {
        for (i : 0 .. EVENTS - 1) {
            assert(i >= gate || done[i])
        }
        i = 0;
        other = 0;
        position = 0
    }
}

/* eb_group_check: under the lock nothing is odd. */
inline check()
{
    atomic {
        for (i : 0 .. CLAIMS - 1) {
            assert(!holder[i] || (start[i] <= end[i] && end[i] <= cursor))
        }
        i = 0
    }
}

/* eb_claim_acknowledge: everything before `upto`. */
inline acknowledge(upto)
{
    if
    :: start[mine] != upto ->
        STEP(claim_reset, deliveries[mine] = 1);
        STEP(claim_acknowledged,
            for (i : start[mine] .. upto - 1) {
                assert(handled[i]);
                done[i] = true;
                has[i] = 0
            }
            i = 0;
            start[mine] = upto)
    :: else
    fi
}

inline finish()
{
    STEP(claim_finished, holder[mine] = 0);
    mine = NONE
}

/* copy_claim: all that the claim still has is in hand. */
inline hand_out()
{
    STEP(_,
        assert(!delivered[start[mine]] || deliveries[mine] > 1);
        for (i : start[mine] .. end[mine] - 1) {
            assert(!done[i] && !has[i]);
            assert(deaths || delivered[i] == returned[i]);
            has[i] = _pid;
            delivered[i]++
        }
        i = 0;
        handed = end[mine])
}

/* eb_return of what is in hand. */
inline give_back()
{
    STEP(claim_returned,
        for (i : start[mine] .. end[mine] - 1) {
            has[i] = 0;
            returned[i]++;
            handled[i] = false
        }
        i = 0;
        holder[mine] = RETURNED);
    mine = NONE
}

#define RETURNED_CLAIM(number) (holder[number] == RETURNED)
#define DEAD_CLAIM(number) (holder[number] && holder[number] != RETURNED && gone[holder[number]])
#define ANY_CLAIM(number) (holder[number])
#if CLAIMS == 2
#define SOME(kind) (kind(0) || kind(1))
#else
#define SOME(kind) (kind(0) || kind(1) || kind(2))
#endif

proctype member()
{
    byte i, other, owner, position, handed;
    byte mine = NONE;
    bool taken;
    do
    :: mine == NONE ->
        lock_group();
        check();
        if
        :: bury()
        :: skip /* somebody looked a moment ago */
        fi;
        adopt();
        if
        :: mine == NONE -> claim_new()
        :: else
        fi;
        if
        :: mine != NONE -> handed = start[mine]
        :: else
        fi;
        move_gate();
        STEP(_, lock = 0); /* [group] */
        if
        :: mine == NONE ->
            if
            :: atomic { cursor < EVENTS || SOME(RETURNED_CLAIM) || SOME(DEAD_CLAIM) }
            :: atomic { cursor == EVENTS && !SOME(ANY_CLAIM) -> goto over }
#if DEATHS > 0
            :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
            fi
        :: else
        fi
    :: else ->
        assert(holder[mine] == _pid);
        acknowledge(handed);
        if
        :: handed == end[mine] -> finish()
        :: else ->
#ifdef MUTANT_acknowledge_when_handed_out
            hand_out();
            acknowledge(handed);
#else
            hand_out();
#endif
            STEP(_, /* the user works, and then: */
                for (i : start[mine] .. handed - 1) {
                    handled[i] = handled[i] || has[i] == _pid
                }
                i = 0);
            if
            :: skip /* asks for the next, which acknowledges all */
            :: end[mine] - start[mine] > 1 -> acknowledge(start[mine] + 1) /* eb_ack of the first, then asks */
            :: acknowledge(handed); /* eb_ack of all */
                finish()
            :: atomic { rejects < REJECTS -> rejects++ };
                give_back()
            fi
        fi;
        handed = (mine == NONE -> 0 : handed)
    od;
dead:
    atomic {
        gone[_pid] = true;
        for (i : 0 .. EVENTS - 1) {
            has[i] = (has[i] == _pid -> 0 : has[i])
        }
    }
over:
    left++
}

init
{
    byte i;
    atomic {
        for (i : 1 .. MEMBERS) {
            run member()
        }
    }
    timeout;
    assert(left == MEMBERS);
    for (i : 0 .. EVENTS - 1) {
        assert(done[i] && handled[i])
    }
}
