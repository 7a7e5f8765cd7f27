/* Claim, acknowledge, give back, take over: csrc/group.c, csrc/claims.c (eb_claim_make, eb_claim_finish, eb_claim_return,
 * eb_claim_adopt, eb_claims_bury, eb_group_gate, eb_group_take_over, mend), csrc/member.c (lock_group, claim_new, adopt,
 * bury, move_gate), csrc/held.c (hand_out, finish, eb_return_all), csrc/python/finish.c (eb_count_delivery).
 *
 * Members share committed events, a claim for each, up to LIMIT in hand of one member. The first of what it fetched counts as
 * handed out as it is read, the others when it hands them out, one by one; it is ready with each when it likes, and may ask
 * for more in between. What each load and store of the group does is one step. A
 * member that finds nothing waits until there is something; how it is woken is the matter of relay.pml, and how the record
 * is read that of parking.pml. A dead member's kernel lock is free at once; that nobody living is taken for dead is not
 * looked into.
 *
 * CHECK one_claim_each -DMEMBERS=2 -DEVENTS=3 -DLIMIT=2 -DREJECTS=1: without a death each event is delivered once, and once more for each time that it was given back, to one member at a time, and counts just that, for itself; what was only fetched counts nothing; all are acknowledged, in any order; the gate never passes one that is not
 * CHECK one_dies -DMEMBERS=2 -DEVENTS=3 -DLIMIT=2 -DDEATHS=1: whoever is killed at any step, no event is lost, none is delivered after its acknowledgement, and each counts just as often as it was handed out
 * CHECK two_die -DMEMBERS=3 -DEVENTS=1 -DLIMIT=1 -DDEATHS=2: the same with two deaths, one of them perhaps in the middle of mending what the other left
 * CHECK returns -DMEMBERS=2 -DEVENTS=2 -DLIMIT=2 -DREJECTS=1 -DDEATHS=1: the same where one is given back besides
 *
 * MUTANT adopt_without_counting one_claim_each: a claim that was given back is taken without the delivery that it had
 * MUTANT adopt_counts_what_was_fetched one_claim_each: one that was given back counts, handed out or not
 * MUTANT adopt_counts_in_two_steps returns: the delivery is counted before it is no longer handed out, not in one word
 * MUTANT counted_unseen one_claim_each: what was read first and handed out to nobody is given back as if it had been
 * MUTANT taken_back_too_late one_claim_each: it is given back before it is no longer handed out
 * MUTANT bury_without_proof one_claim_each: what others hold is given back though they live
 * MUTANT buried_without_comparing one_dies: what a dead member held is given back though it had finished it
 * MUTANT gate_is_the_cursor one_claim_each: the gate is where the next claim begins, not at the oldest one held
 * MUTANT acknowledge_when_handed_out one_claim_each: an event counts as done when it is handed out
 * MUTANT cursor_before_claim one_dies: the cursor moves before the claims are made
 * MUTANT holder_before_place one_dies: a claim has its holder before its place
 * MUTANT take_over_without_mending one_dies: whoever takes the lock over from a dead owner leaves the cursor as it is
 * MUTANT mended_to_the_start one_dies: whoever takes the lock over moves the cursor to where claims begin, not past them
 * MUTANT take_over_without_comparing two_die: the lock is taken over by a store, not by a compare-and-swap
 */
#include "step.h"

#ifndef REJECTS
#define REJECTS 0
#endif
#define CLAIMS EVENTS
#define NONE 7
#define RETURNED 9

/* What a member has in hand: taken, handed out, or done with by its user. */
#define TAKEN 1
#define FIRST 2 /* taken, and read as the first of a batch: handed out to nobody yet, and counted */
#define OUT 3
#define READY 4
/* A claim's count: the deliveries before it came to its holder, and whether that has handed it out. */
#define HANDED_OUT 8
#define BEFORE(count) (count & 7)

byte lock; /* the token of the member that has it */
byte cursor;
byte gate;
byte holder[CLAIMS], place[CLAIMS], counted[CLAIMS]; /* each record is one unit */
bool gone[MEMBERS + 1]; /* the member's byte is free: it is dead */

/* What nobody in the system knows. */
byte delivered[EVENTS]; /* how often */
byte returned[EVENTS];  /* how often, by a living member that had it in hand */
byte has[EVENTS];       /* the living member that has it in hand */
bool done[EVENTS];      /* acknowledged */
byte rejects;
byte left;

/* To `to`, unless it is there or past it: eb_cursor_raise. */
#define RAISE(word, to) word = (to > word -> to : word)

/* eb_group_take_over. */
inline mend()
{
#ifdef MUTANT_take_over_without_mending
    skip
#else
    do
    :: i < CLAIMS ->
        STEP(_, other = holder[i]);
        if
#ifdef MUTANT_mended_to_the_start
        :: other -> STEP(_, RAISE(cursor, place[i]))
#else
        :: other -> STEP(_, RAISE(cursor, place[i] + 1))
#endif
        :: else
        fi;
        i++
    :: else -> break
    od
#endif
}

inline lock_group()
{
    do
    :: STEP(group_locked, lock == 0 -> lock = _pid); /* [group] */
        break
    :: STEP(_, lock && gone[lock] -> other = lock);
#ifdef MUTANT_take_over_without_comparing /* somebody else may have taken it over by now */
        STEP(_, lock = _pid; taken = true);
#else
        STEP(group_taken_over, taken = TRUTH(lock == other); lock = (taken -> _pid : lock)); /* [group] */
#endif
        other = 0;
        if
        :: taken ->
            mend();
            break
        :: else
        fi
    od;
    atomic { taken = false; i = 0; other = 0 }
}

/* What dead members held is given back for them: eb_claims_bury. */
inline bury()
{
    do
    :: i < CLAIMS ->
        STEP(_, other = holder[i]);
        if
#ifdef MUTANT_bury_without_proof
        :: other && other != RETURNED && other != _pid ->
#else
        :: other && other != RETURNED && other != _pid && gone[other] ->
#endif
#ifdef MUTANT_buried_without_comparing
            STEP(_, holder[i] = RETURNED)
#else
            STEP(claim_returned, holder[i] = (holder[i] == other -> RETURNED : holder[i]))
#endif
        :: else
        fi;
        i++
    :: else -> break
    od;
    atomic { i = 0; other = 0 }
}

/* eb_claims_due and eb_claim_adopt: as many as there is room for in hand, the oldest first. */
inline adopt()
{
    do
    :: room ->
        STEP(_,
            for (i : 0 .. CLAIMS - 1) {
                claim = (holder[i] == RETURNED && (claim == NONE || place[i] < place[claim]) -> i : claim)
            }
            i = 0);
        if
        :: claim == NONE -> break
        :: else
        fi;
        STEP(_, other = counted[claim]);
        STEP(claim_adopted, holder[claim] = _pid);
#ifdef MUTANT_adopt_without_counting
        STEP(_, counted[claim] = BEFORE(other));
#else
#ifdef MUTANT_adopt_counts_what_was_fetched
        STEP(_, counted[claim] = BEFORE(other) + 1);
#else
        if
        :: other >= HANDED_OUT ->
#ifdef MUTANT_adopt_counts_in_two_steps
            STEP(_, counted[claim] = other + 1);
            STEP(_, counted[claim] = BEFORE(counted[claim]))
#else
            STEP(claim_deliveries, counted[claim] = BEFORE(other) + 1)
#endif
        :: else
        fi;
#endif
#endif
        atomic { hand[claim] = TAKEN; claim = NONE; other = 0; room--; taken = true }
    :: else -> break
    od
}

/* claim_new and eb_claim_make. */
inline claim_new()
{
    STEP(_, position = cursor);
#ifdef MUTANT_cursor_before_claim
    STEP(_, RAISE(cursor, (position + room < EVENTS -> position + room : EVENTS)));
#endif
    do
    :: room && position < EVENTS ->
        do /* find_free: from the last one on */
        :: STEP(_, other = holder[i]);
            if
            :: other -> i++
            :: else -> break
            fi
        od;
        assert(i < CLAIMS);
#ifdef MUTANT_holder_before_place
        STEP(_, holder[i] = _pid);
#endif
        STEP(claim_written, place[i] = position; counted[i] = 0);
#ifndef MUTANT_holder_before_place
        STEP(claim_held, holder[i] = _pid);
#endif
        atomic { hand[i] = TAKEN; i++; other = 0; position++; room-- }
    :: else -> break
    od;
    STEP(claim_cursor, RAISE(cursor, position));
    atomic { i = 0; position = 0 }
}

/* eb_group_gate and move_gate. [cursor] [space] */
inline move_gate()
{
    STEP(_, position = cursor);
#ifndef MUTANT_gate_is_the_cursor
    do
    :: i < CLAIMS ->
        STEP(_, other = TRUTH(holder[i]));
        if
        :: other -> STEP(_, other = 0; position = (place[i] < position -> place[i] : position))
        :: else
        fi;
        i++
    :: else -> break
    od;
#endif
    STEP(claim_gated, RAISE(gate, position));
    atomic {
        for (i : 0 .. EVENTS - 1) {
            assert(i >= gate || done[i])
        }
        i = 0;
        position = 0
    }
}

/* eb_group_check: under the lock nothing is odd. */
inline check()
{
    atomic {
        for (i : 0 .. CLAIMS - 1) {
            assert(!holder[i] || place[i] < cursor)
        }
        i = 0
    }
}

/* It counts from then on: each event for itself. */
inline count_delivery(how)
{
    STEP(claim_handed_out,
        assert(holder[claim] == _pid && !done[place[claim]] && !has[place[claim]]);
        assert(counted[claim] == delivered[place[claim]]);
        assert(deaths || delivered[place[claim]] == returned[place[claim]]);
        counted[claim] = counted[claim] + HANDED_OUT;
        has[place[claim]] = _pid;
        delivered[place[claim]]++;
        hand[claim] = how;
        claim = NONE)
}

/* The oldest that was fetched: eb_copy_held. */
inline read()
{
    atomic {
        for (i : 0 .. CLAIMS - 1) {
            claim = (hand[i] == TAKEN && (claim == NONE || place[i] < place[claim]) -> i : claim)
        }
        i = 0
    }
    if
    :: claim != NONE -> count_delivery(FIRST)
    :: else
    fi
}

/* eb_claim_finish. */
inline finish()
{
    STEP(claim_finished,
        assert(holder[claim] == _pid && hand[claim] == READY);
        done[place[claim]] = true;
        has[place[claim]] = 0;
        holder[claim] = 0;
        hand[claim] = 0;
        claim = NONE)
}

/* eb_return_all, eb_claim_return: with none handed out, the first is taken back. */
#define TAKE_BACK(event) counted[claim] = BEFORE(counted[claim]); delivered[event]--
inline give_back()
{
#if !defined(MUTANT_counted_unseen) && !defined(MUTANT_taken_back_too_late)
    if
    :: hand[claim] == FIRST -> STEP(_, TAKE_BACK(place[claim]))
    :: else
    fi;
#endif
    atomic { other = place[claim] }
    STEP(claim_returned,
        if
        :: hand[claim] >= OUT -> has[other] = 0; returned[other]++
        :: hand[claim] == FIRST ->
#ifdef MUTANT_counted_unseen
            delivered[other]--;
#endif
            has[other] = 0
        :: else
        fi;
        holder[claim] = RETURNED);
#ifdef MUTANT_taken_back_too_late
    if
    :: hand[claim] == FIRST -> STEP(_, TAKE_BACK(other))
    :: else
    fi;
#endif
    atomic { hand[claim] = 0; claim = NONE; other = 0 }
}

#define RETURNED_CLAIM(number) (holder[number] == RETURNED)
#define DEAD_CLAIM(number) (holder[number] && holder[number] != RETURNED && gone[holder[number]])
#define ANY_CLAIM(number) (holder[number])
#define IN_HAND(number) (hand[number])
#define NOT_HANDED_OUT(number) (hand[number] && hand[number] < OUT)
#if CLAIMS == 1
#define SOME(kind) (kind(0))
#define HELD TRUTH(hand[0])
#elif CLAIMS == 2
#define SOME(kind) (kind(0) || kind(1))
#define HELD (TRUTH(hand[0]) + TRUTH(hand[1]))
#else
#define SOME(kind) (kind(0) || kind(1) || kind(2))
#define HELD (TRUTH(hand[0]) + TRUTH(hand[1]) + TRUTH(hand[2]))
#endif

/* One of those in hand. */
inline choose_claim()
{
    if
    :: hand[0] -> claim = 0
#if CLAIMS > 1
    :: hand[1] -> claim = 1
#endif
#if CLAIMS > 2
    :: hand[2] -> claim = 2
#endif
    fi
}

proctype member()
{
    byte i, other, position, room;
    byte claim = NONE;
    byte hand[CLAIMS];
    bool taken;
    do
    :: HELD < LIMIT && !SOME(NOT_HANDED_OUT) ->
        room = LIMIT - HELD;
        lock_group();
        check();
        bury();
        adopt();
        if
        :: !taken -> claim_new()
        :: else -> taken = false
        fi;
        room = 0;
        move_gate();
        STEP(group_unlocked, lock = 0); /* [group] */
        read();
        if
        :: !SOME(IN_HAND) ->
            if
            :: atomic { cursor < EVENTS || SOME(RETURNED_CLAIM) || SOME(DEAD_CLAIM) }
            :: atomic { cursor == EVENTS && !SOME(ANY_CLAIM) -> goto over }
#if DEATHS > 0
            :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
            fi
        :: else
        fi
    :: SOME(IN_HAND) ->
        choose_claim();
        if
        :: hand[claim] == TAKEN -> count_delivery(OUT)
        :: hand[claim] == FIRST -> STEP(_, hand[claim] = OUT; claim = NONE)
        :: hand[claim] == OUT ->
#ifdef MUTANT_acknowledge_when_handed_out
            finish()
#else
            STEP(_, hand[claim] = READY; claim = NONE) /* its user has worked */
#endif
        :: hand[claim] == READY -> finish()
        :: atomic { rejects < REJECTS -> rejects++ };
            give_back()
        fi
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
        assert(done[i])
    }
}
