/* What members have in hand leaves the ring's way: csrc/parking.c (find_old, draw_map, find_blocks, park, raise_gates),
 * csrc/held.c (copy, has_stayed), csrc/claims.c (eb_group_gate, eb_claim_make, eb_claim_finish, eb_claim_return,
 * eb_claim_adopt, eb_claims_bury, mend), csrc/publish.c (claim, fits).
 *
 * Every record is one unit, of one word; a position counts records. The publish lock is not looked into: one publisher has
 * it at a time, and when it is killed the next one goes on with what stands in shared memory. A pass parks one claim, the
 * oldest. A publisher without room looks again when its slice is over, which is when nobody else can do anything; with
 * OFTEN also once before that. A member has one event in hand at a time, perhaps for ever; when it finds nothing it waits
 * until there is something.
 *
 * CHECK parks -DEVENTS=4 -DRING=2 -DBLOCKS=2 -DOFTEN: without a death a member hands out the event that its claim names, each once; no two held claims have one block of the parking; the gate passes no held claim that is not parked; a publisher waits only for what nobody has claimed yet
 * CHECK gate -DEVENTS=3 -DRING=2 -DBLOCKS=2 -DREJECTS=1 -DMEMBERS_MOVE_THE_GATE: the same where members move the gate, too, each time that they claim
 * CHECK one_block -DEVENTS=4 -DRING=2 -DBLOCKS=1 -DREJECTS=1: the same where a second one finds no room in the parking, and of an event that is given back
 * CHECK three -DEVENTS=4 -DRING=3 -DBLOCKS=2: the same of a ring of three
 * CHECK one_dies -DEVENTS=3 -DRING=2 -DBLOCKS=2 -DDEATHS=1: the same whoever is killed at any step; no event is lost, and one comes again only if somebody died with it in hand
 * CHECK two_die -DEVENTS=2 -DRING=2 -DBLOCKS=2 -DDEATHS=2: the same of two deaths
 *
 * MUTANT place_is_not_looked_at_again parks: a member trusts what it read without looking at the place once more
 * MUTANT exchanged_before_the_copy parks: the place names the parking before the record is there
 * MUTANT place_is_stored parks: the place is stored, though its claim may be another by now
 * MUTANT whatever_is_there_is_parked one_dies: the place is loaded anew where it is parked, and may be one at the cursor by now
 * MUTANT parked_past_the_cursor one_dies: claims at or past the cursor are parked too, whose ends a take-over needs
 * MUTANT map_without_returned one_block: blocks of claims that were given back count as free
 * MUTANT parked_holds_the_gate parks: the gate does not pass what was parked
 * MUTANT claims_before_cursor parks: whoever computes the gate reads the claims first
 * MUTANT gate_without_returned one_block: the gate does not look at claims that were given back
 * MUTANT gate_before_the_exchange one_dies: the gate is raised past a claim that is about to be parked
 * MUTANT finished_before_the_copy parks: the holder goes before the copy is over
 * MUTANT holder_before_place parks: a claim has its holder before its place
 * MUTANT buried_without_comparing one_dies: a claim is given back for the dead though it was finished before
 * MUTANT none_is_parked parks: publishers wait until members are ready
 */
#include "step.h"

#ifndef REJECTS
#define REJECTS 0
#endif
#define MEMBERS 2
#define CLAIMS 2
#define NONE 15
#define RETURNED 9
#define PARKED 8

byte committed;
byte cached; /* the gate in the ring's header */
byte ring[RING];
byte block[BLOCKS]; /* the parking */
byte lock;
byte cursor; /* the group's */
byte gate;   /* the cursor of its slot */
byte holder[CLAIMS], place[CLAIMS], sequence[CLAIMS];
bool gone[MEMBERS + 1];
bool waits;  /* a publisher, for room */
bool looked; /* its slice has ended once since then */

/* What nobody in the system knows. */
byte has[EVENTS];       /* the living member that has it in hand */
byte delivered[EVENTS]; /* how often */
byte returned[EVENTS];  /* how often, by one that had it in hand, or by its death */
bool done[EVENTS];
byte rejects;

#define IS_RETURNED(number) (holder[number] == RETURNED)
#define IS_DEAD(number) (holder[number] && holder[number] != RETURNED && gone[holder[number]])
#define SOME(kind) (kind(0) || kind(1))
#define EITHER(kind, what) (kind(0, what) || kind(1, what))
#define IN_BLOCK(number, which) (holder[number] && place[number] == PARKED + which)
#if BLOCKS == 2
#define FULL (EITHER(IN_BLOCK, 0) && EITHER(IN_BLOCK, 1))
#else
#define FULL EITHER(IN_BLOCK, 0)
#endif
#define IN_THE_WAY(number, position) (holder[number] && place[number] == position)
#define OLDEST (committed - RING)
/* Whether a publisher that has no room could do something about it. */
#define MAY_GO_ON (cursor > OLDEST && (!FULL || !EITHER(IN_THE_WAY, OLDEST)))

#ifdef MUTANT_gate_without_returned
#define HOLDS_THE_GATE(number) (holder[number] && holder[number] != RETURNED)
#else
#define HOLDS_THE_GATE(number) holder[number]
#endif
#ifdef MUTANT_parked_holds_the_gate
#define NEEDED(number) (place[number] < PARKED -> place[number] : sequence[number])
#else
#define NEEDED(number) (place[number] < PARKED -> place[number] : NONE)
#endif
#ifdef MUTANT_map_without_returned
#define HAS_ITS_BLOCK(number) (holder[number] && holder[number] != RETURNED)
#else
#define HAS_ITS_BLOCK(number) holder[number]
#endif
#ifdef MUTANT_parked_past_the_cursor
#define MAY_BE_PARKED(position) (position < PARKED)
#else
#define MAY_BE_PARKED(position) (position < to)
#endif

/* eb_group_gate, and eb_cursor_raise of the group's slot. [cursor] [gate] */
#define RAISE_GATE gate = (to > gate -> to : gate); to = 0
inline find_gate()
{
#ifdef MUTANT_claims_before_cursor
    to = NONE;
#else
    STEP(_, to = cursor);
#endif
    do
    :: i < CLAIMS ->
        STEP(_, held = TRUTH(HOLDS_THE_GATE(i)));
        if
        :: held -> STEP(_, held = false; to = (NEEDED(i) < to -> NEEDED(i) : to))
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0;
#ifdef MUTANT_claims_before_cursor
    STEP(_, to = (cursor < to -> cursor : to));
#endif
}

/* Publishers, one after another. */
proctype publisher()
{
    byte i, at, to, marked, free;
    byte pick = NONE;
    bool held, tried;
again:
    if
    :: committed == EVENTS -> goto over
    :: committed < EVENTS && committed - cached < RING -> goto write
    :: else
    fi;
    find_gate();
    STEP(bystander_gate, RAISE_GATE);
    STEP(publish_gated, cached = gate);
    if
    :: committed - cached < RING -> goto write
    :: else
    fi;
#ifdef MUTANT_none_is_parked
    goto no_room;
#endif
    /* find_old: the cursor first, the oldest of those before it */
    STEP(_, to = cursor);
    do
    :: i < CLAIMS ->
        STEP(_, held = TRUTH(holder[i]));
        if
        :: held ->
            STEP(_,
                if
                :: MAY_BE_PARKED(place[i]) && (pick == NONE || place[i] < at) -> pick = i; at = place[i]
                :: else
                fi;
                held = false)
        :: else
        fi;
        i++
    :: else -> break
    od;
    atomic { i = 0; to = 0 }
    if
    :: pick == NONE -> goto no_room
    :: else
    fi;
    /* draw_map */
    do
    :: i < CLAIMS ->
        STEP(_, held = TRUTH(HAS_ITS_BLOCK(i)));
        if
        :: held -> STEP(_, held = false; marked = (place[i] >= PARKED -> marked | (1 << (place[i] - PARKED)) : marked)) /* [park] */
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0;
    /* find_blocks */
    atomic {
        if
        :: !(marked & 1) -> free = 0
        :: (marked & 1) && BLOCKS > 1 && !(marked & 2) -> free = 1
        :: else -> free = NONE
        fi;
        marked = 0
    }
    if
    :: free == NONE -> goto no_room
    :: else
    fi;
    /* park */
#ifdef MUTANT_whatever_is_there_is_parked
    STEP(_, at = place[pick]);
    if
    :: at >= PARKED -> goto no_room
    :: else
    fi;
#endif
    STEP(_, held = TRUTH(ring[at % RING] == sequence[pick] + 1));
    if
    :: !held -> goto no_room /* it names another event by now */
    :: else -> held = false
    fi;
#ifdef MUTANT_gate_before_the_exchange
    STEP(_, gate = at + 1);
    STEP(_, cached = gate);
#endif
#ifdef MUTANT_exchanged_before_the_copy
    STEP(_, place[pick] = (place[pick] == at -> PARKED + free : place[pick]));
    STEP(_, block[free] = ring[at % RING]);
#else
    STEP(parked_copied,
        assert(!EITHER(IN_BLOCK, free));
        block[free] = ring[at % RING]);
#ifdef MUTANT_place_is_stored
    STEP(_, place[pick] = PARKED + free);
#else
    STEP(parked_moved, place[pick] = (place[pick] == at -> PARKED + free : place[pick])); /* [park] */
#endif
#endif
    atomic { pick = NONE; at = 0; free = 0 }
    find_gate();
    STEP(parked_gate, RAISE_GATE);
    STEP(publish_gated, cached = gate);
    if
    :: committed - cached < RING -> goto write
    :: else
    fi;
no_room:
    atomic { pick = NONE; at = 0; free = 0; waits = true }
end_no_room:
    if
#ifdef OFTEN
    :: atomic { MAY_GO_ON && !tried -> tried = true }
#endif
    :: atomic { timeout && MAY_GO_ON && !looked -> looked = true }
    fi;
    waits = false;
    goto again;
write:
    STEP(publish_copied,
        assert(committed < RING || (cursor > OLDEST && !EITHER(IN_THE_WAY, OLDEST)));
        ring[committed % RING] = committed + 1);
    STEP(publish_committed, committed++; tried = false; looked = false); /* [commit] */
    goto again;
dead: /* the next one */
    atomic { i = 0; at = 0; to = 0; pick = NONE; marked = 0; free = 0; held = false; tried = false }
    goto again;
over:
    skip
}

/* eb_group_take_over: what it mends is the cursor. */
inline lock_group()
{
    do
    :: STEP(group_locked, lock == 0 -> lock = _pid); /* [group] */
        break
    :: STEP(group_taken_over, lock && gone[lock] -> lock = _pid);
        do
        :: i < CLAIMS ->
            STEP(_, held = TRUTH(holder[i]));
            if
            :: held -> STEP(_, held = false; cursor = (place[i] < PARKED && place[i] >= cursor -> place[i] + 1 : cursor))
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0;
        break
    od
}

/* eb_claims_bury. */
inline bury()
{
#if DEATHS > 0
    do
    :: i < CLAIMS ->
        STEP(_, who = holder[i]);
        if
        :: who && who != RETURNED && who != _pid && gone[who] ->
#ifdef MUTANT_buried_without_comparing
            STEP(_, holder[i] = RETURNED)
#else
            STEP(claim_returned, holder[i] = (holder[i] == who -> RETURNED : holder[i])) /* it may have finished it */
#endif
        :: else
        fi;
        i++
    :: else -> break
    od;
    atomic { i = 0; who = 0 }
#else
    skip
#endif
}

/* Only under the lock is a returned claim taken. */
inline adopt()
{
    STEP(_,
        do
        :: i < CLAIMS ->
            mine = (IS_RETURNED(i) && (mine == NONE || sequence[i] < sequence[mine]) -> i : mine);
            i++
        :: else -> break
        od;
        i = 0);
    if
    :: mine != NONE -> STEP(claim_adopted, holder[mine] = _pid)
    :: else
    fi
}

/* claim_new and eb_claim_make. Nobody else writes what it looks at. */
inline claim_new()
{
    STEP(_, to = (cursor < committed -> cursor : NONE)); /* [commit] */
    if
    :: to != NONE ->
        atomic {
            do
            :: i < CLAIMS && holder[i] -> i++
            :: else -> break
            od
        }
        assert(i < CLAIMS);
#ifdef MUTANT_holder_before_place
        STEP(_, holder[i] = _pid);
#endif
        STEP(claim_written, place[i] = to; sequence[i] = to);
#ifndef MUTANT_holder_before_place
        STEP(claim_held, holder[i] = _pid);
#endif
        STEP(claim_cursor, cursor = (to + 1 > cursor -> to + 1 : cursor));
        mine = i
    :: else
    fi;
    atomic { i = 0; to = 0 }
}

/* copy, of held.c. */
inline copy()
{
    number = sequence[mine];
#ifdef MUTANT_finished_before_the_copy
    STEP(_, holder[mine] = 0);
#endif
    do
    :: STEP(_, at = place[mine]); /* [park] */
        STEP(claim_copied,
            if
            :: at < PARKED -> kept = ring[at % RING]
            :: else -> kept = block[at - PARKED]
            fi);
#ifdef MUTANT_place_is_not_looked_at_again
        break
#else
        STEP(_, held = TRUTH(place[mine] == at); at = 0); /* has_stayed [park] */
        if
        :: held -> break
        :: else -> kept = 0
        fi
#endif
    od;
    atomic { at = 0; held = false }
}

proctype member()
{
    byte i, who, at, to, kept, number;
    byte mine = NONE;
    bool held;
again:
    lock_group();
    bury();
    adopt();
    if
    :: mine == NONE -> claim_new()
    :: else
    fi;
#ifdef MEMBERS_MOVE_THE_GATE
    find_gate();
    STEP(claim_gated, RAISE_GATE);
#endif
    STEP(group_unlocked, lock = 0); /* [group] */
    if
    :: mine == NONE ->
end_idle:
        atomic { cursor < committed || SOME(IS_RETURNED) || SOME(IS_DEAD) -> goto again }
    :: else
    fi;
    copy();
    STEP(_, /* it hands the event out */
        assert(kept == number + 1);
        assert(!done[number] && !has[number] && delivered[number] == returned[number]);
        delivered[number]++;
        has[number] = _pid;
        kept = 0);
    if
    :: STEP(claim_finished,
            has[number] = 0;
            done[number] = true;
            holder[mine] = 0) /* [park] */
    :: atomic { rejects < REJECTS -> rejects++ };
        STEP(claim_returned,
            has[number] = 0;
            returned[number]++;
            holder[mine] = RETURNED)
    :: true -> goto working
    fi;
    atomic { mine = NONE; number = 0 }
    goto again;
working: /* for ever, or until it is killed */
end_working:
    if
    :: atomic { false -> goto again }
#if DEATHS > 0
    :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
    fi;
dead:
    atomic {
        gone[_pid] = true;
        for (i : 0 .. EVENTS - 1) {
            if
            :: has[i] == _pid ->
                has[i] = 0;
                returned[i]++
            :: else
            fi
        }
        i = 0
    }
}

#define NAMES(number, event) (holder[number] && sequence[number] == event)

init
{
    byte i;
    atomic {
        for (i : 1 .. MEMBERS) {
            run member()
        }
        run publisher()
    }
    timeout && !(waits && MAY_GO_ON && !looked);
    /* Publishers are ready, or wait for what nobody claimed yet, or for room in the parking. */
    assert(committed == EVENTS || cursor == OLDEST || (FULL && EITHER(IN_THE_WAY, OLDEST)));
    for (i : 0 .. cursor - 1) {
        assert(done[i] || has[i] || EITHER(NAMES, i))
    }
}
