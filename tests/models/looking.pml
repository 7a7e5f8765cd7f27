/* Members of a group look at records in place: csrc/own_gate.c (eb_own_gate_hold, eb_own_gate_settle), csrc/roster.c
 * (eb_roster_gate, eb_roster_reap, eb_slot_withdraw), csrc/held.c (copy, has_stayed), csrc/claims.c (eb_group_gate), csrc/parking.c (find_old, park, raise_gates), csrc/room.c
 * (eb_room_claim), csrc/make_group.c (dissolve).
 *
 * What a member looks at its own slot protects: it is a gate for as long as there is any. The claim may be parked
 * meanwhile, be finished, or be another's, and the group be gone. A record is one unit, and a position counts records.
 * Taking an event is one step here, as it is done under the group's lock: that is the matter of group.pml and
 * parking.pml. What is parked is just not looked at. A member takes one event at a time, and may look at something for
 * ever; with THREADS another thread of it may end a look between two steps of taking, under the lock that keeps what
 * the member looks at. Whoever waits for room looks again when there may be some: how it is woken is that of space.pml.
 *
 * CHECK looks -DEVENTS=4 -DRING=2 -DTHREADS -DREJECTS=1: without a death what a member looks at is not overwritten until it looks no more; one that looks at nothing is no gate; publishers wait for what is looked at, or nobody claimed yet, and for nothing else
 * CHECK moves -DEVENTS=4 -DRING=2 -DOTHERS_MOVE_THE_GATE: the same where others raise the group's gate
 * CHECK older -DEVENTS=4 -DRING=2 -DANOTHER_COPIES: the same where an older event comes after a newer one, and is copied, as a cursor further back than the ring is long is none
 * CHECK removed -DEVENTS=4 -DRING=2 -DREMOVED: the same where the group is removed, while a member joins
 * CHECK three -DEVENTS=4 -DRING=3 -DTHREADS: the same of a ring of three
 * CHECK two -DEVENTS=3 -DRING=2 -DMEMBERS=2 -DREJECTS=1: the same of two members, of which one gives an event back that it looks at
 * CHECK one_dies -DEVENTS=3 -DRING=2 -DMEMBERS=2 -DDEATHS=1: the same whoever is killed at any step, and no dead member keeps publishers from finishing
 * CHECK two_die -DEVENTS=3 -DRING=2 -DANOTHER_COPIES -DDEATHS=2: the same of two deaths
 * CHECK removed_dies -DEVENTS=3 -DRING=2 -DREMOVED -DDEATHS=1: the same of a removal
 *
 * MUTANT members_before_groups moves: whoever computes the gate reads the slots of members first
 * MUTANT members_before_a_removal removed: the same where the group goes in between
 * MUTANT used_before_groups removed: how many slots there are is read before the slots of groups
 * MUTANT place_is_not_looked_at_again looks: a member trusts the place that it read before its slot was a gate
 * MUTANT place_before_the_gate looks: it looks again when its cursor is stored, before its slot is a gate
 * MUTANT open_is_not_looked_at_again removed: a member hands out what it looks at without asking whether the group is there
 * MUTANT open_before_the_gate removed: it asks before its slot is a gate
 * MUTANT withdrawn_before_removed removed: the group's slot is no gate any more before the group is gone
 * MUTANT gate_ends_before_the_look looks: the gate goes before the look is over
 * MUTANT moved_before_the_end looks: the cursor moves on before the look is over
 * MUTANT moved_past_others three: the cursor moves on to the newest that is looked at
 * MUTANT gate_ends_with_the_claim looks: an event that is finished is protected no more
 * MUTANT moved_back older: the cursor is moved back to the older one, which may be overwritten by now: it holds nothing then, also of what is looked at
 * MUTANT not_moved_back older: the older one is looked at, and the cursor stays where it is
 * MUTANT taken_back_altogether looks: one that was parked meanwhile takes the gate of the others away
 * MUTANT taken_back_late older: one that was parked meanwhile is taken back after the next one is taken: a cursor that is none protects that
 * MUTANT ended_beside_taking looks: who ends a look does not count what is just being taken
 * MUTANT gate_stays looks: the gate is not taken away at the end
 * MUTANT parked_keeps_the_gate looks: nor where the record was parked meanwhile
 * MUTANT nobody_reaps one_dies: a publisher without room does not look for the dead
 * MUTANT nobody_withdraws removed_dies: nor for the slot of a group that is gone
 */
#include "step.h"

#ifndef MEMBERS
#define MEMBERS 1
#endif
#ifdef ANOTHER_COPIES
#define ALL (MEMBERS + 1)
#else
#define ALL MEMBERS
#endif
#ifndef REJECTS
#define REJECTS 0
#endif
#define CLAIMS ALL
#define NONE 15
#define PARKED 8
#define RETURNED 9
#define FREE 0
#define OPEN 1
#define GATED 2

byte committed;
byte cached; /* the gate in the ring's header */
byte ring[RING];
bool is_open = true; /* the group */
bool holds = true;   /* its slot is a gate */
byte gate;           /* the cursor of its slot */
byte cursor;         /* its own */
byte holder[CLAIMS], place[CLAIMS], sequence[CLAIMS];
byte owner[MEMBERS + 1], at[MEMBERS + 1]; /* the slots of members: owner word and cursor */
bool gone[ALL + 1];
bool orphan; /* whoever removes the group has died */

/* What nobody else in the system knows. */
byte looks[MEMBERS + 1]; /* events that a member looks at, a bit each */
byte rejects;

#define OLDEST (committed - RING)
#define LOWEST(bits) (bits & 1 -> 0 : (bits & 2 -> 1 : (bits & 4 -> 2 : (bits & 8 -> 3 : NONE))))
#define HIGHEST(bits) (bits & 8 -> 3 : (bits & 4 -> 2 : (bits & 2 -> 1 : (bits & 1 -> 0 : NONE))))
#define LOWER(one, other) (one < other -> one : other)

#if MEMBERS == 2
#define EACH(kind) (kind(1) && kind(2))
#else
#define EACH(kind) kind(1)
#endif
#define IS_LOOKED_AT(member, position) ((looks[member] >> (position)) & 1)
#define LETS_OLDEST_GO(member) (committed < RING || !IS_LOOKED_AT(member, OLDEST))
#define IS_IN_NO_WAY(member) (owner[member] != GATED || at[member] > OLDEST)

#ifdef MUTANT_members_before_groups
#define MEMBERS_FIRST
#endif
#ifdef MUTANT_members_before_a_removal
#define MEMBERS_FIRST
#endif
#ifdef MUTANT_moved_back
#define OLDER_IS_LOOKED_AT
#endif
#ifdef MUTANT_not_moved_back
#define OLDER_IS_LOOKED_AT
#endif

/* eb_group_gate, for eb_cursor_raise of the group's slot. [cursor] */
#define RAISE_GATE gate = (to > gate -> to : gate); to = 0
inline group_gate()
{
    STEP(_, to = cursor);
    do
    :: i < CLAIMS -> STEP(_, to = (holder[i] && place[i] < to -> place[i] : to); i++)
    :: else -> break
    od;
    i = 0
}

/* eb_roster_gate: the slots of groups first. */
inline groups_gate()
{
    STEP(_, held = holds); /* [owner] [gate] */
    if
    :: held -> STEP(_, held = false; to = LOWER(gate, to)) /* [cursor] [gate] */
    :: else
    fi
}

#ifdef MUTANT_used_before_groups
#define IS_A_GATE(slot) (slot <= used && owner[slot] == GATED)
#else
#define IS_A_GATE(slot) (owner[slot] == GATED)
#endif
inline members_gate()
{
    i = 1;
    do
    :: i <= MEMBERS ->
        STEP(_, held = TRUTH(IS_A_GATE(i))); /* [owner] [gate] */
        if
        :: held -> STEP(_, held = false; to = (committed - at[i] <= RING && at[i] < to -> at[i] : to); i++) /* [cursor] [gate] */
        :: else -> i++
        fi
    :: else -> break
    od;
    i = 0
}

inline roster_gate()
{
    to = committed;
#ifdef MUTANT_used_before_groups
    STEP(_, used = (owner[MEMBERS] -> MEMBERS : 0));
#endif
#ifdef MEMBERS_FIRST
    members_gate();
    groups_gate();
#else
    groups_gate();
    members_gate();
#endif
}

/* Publishers, one after another. */
proctype publisher()
{
    byte i, to, found;
    byte pick = NONE;
    bool held;
#ifdef MUTANT_used_before_groups
    byte used;
#endif
again:
    if
    :: committed == EVENTS -> goto over
    :: committed < EVENTS && committed - cached < RING -> goto write
    :: else
    fi;
    /* raise_gates, after what was parked; or move_group */
    group_gate();
    STEP(parked_gate, RAISE_GATE);
    roster_gate();
    STEP(publish_gated, cached = to; to = 0);
    if
    :: committed - cached < RING -> goto write
    :: else
    fi;
    /* find_old */
    STEP(_, to = (is_open -> cursor : 0));
    do
    :: i < CLAIMS ->
        STEP(_,
            if
            :: holder[i] && place[i] < to && (pick == NONE || place[i] < found) -> pick = i; found = place[i]
            :: else
            fi;
            i++)
    :: else -> break
    od;
    atomic { i = 0; to = 0 }
    if
    :: pick == NONE -> goto no_room
    :: else
    fi;
    /* park */
    STEP(parked_copied, held = TRUTH(place[pick] == found && ring[found % RING] == sequence[pick] + 1));
    if
    :: held -> STEP(parked_moved, place[pick] = (place[pick] == found -> PARKED : place[pick])) /* [park] */
    :: else
    fi;
    atomic { pick = NONE; found = 0; held = false }
    goto again;
no_room: /* until there is some, or somebody dead is found: eb_roster_reap */
end_no_room:
    if
    :: atomic { EACH(IS_IN_NO_WAY) && (!holds || gate > OLDEST || (is_open && cursor > OLDEST)) }
#ifndef MUTANT_nobody_reaps
    :: STEP(slot_vacated, gone[1] && owner[1] != FREE -> owner[1] = FREE)
#if MEMBERS == 2
    :: STEP(slot_vacated, gone[2] && owner[2] != FREE -> owner[2] = FREE)
#endif
#endif
#ifndef MUTANT_nobody_withdraws
    :: STEP(gate_withdrawn, orphan && !is_open && holds -> holds = false)
#endif
    fi;
    goto again;
write:
    STEP(publish_copied,
        assert(EACH(LETS_OLDEST_GO));
        ring[committed % RING] = committed + 1);
    STEP(publish_committed, committed++); /* [commit] */
    goto again;
dead: /* the next one */
    atomic { i = 0; to = 0; found = 0; pick = NONE; held = false }
    goto again;
over:
    skip
}

/* The cursor of its slot stands at the first that it looks at; where that is nothing, its slot is no gate. */
inline settle(bits)
{
    low = LOWEST((bits));
#ifdef MUTANT_moved_past_others
    low = HIGHEST((bits));
#endif
    if
#ifndef MUTANT_gate_stays
    :: low == NONE -> STEP(look_over, owner[_pid] = OPEN) /* [gate] */
#endif
    :: low != NONE && low > at[_pid] -> STEP(look_moved, at[_pid] = low) /* [cursor] */
    :: else
    fi;
    low = 0
}

#define BIT(number) (number == NONE -> 0 : 1 << number)
#ifdef MUTANT_ended_beside_taking
#define REST (looks[_pid] & ~(1 << ends))
#else
#define REST ((looks[_pid] & ~(1 << ends)) | BIT(want))
#endif
#define END_LOOK looks[_pid] = looks[_pid] & ~(1 << ends)

/* Nobody looks at it any more, or there is a copy for whoever does. */
inline end_one()
{
    atomic {
        if
        :: IS_LOOKED_AT(_pid, 0) -> ends = 0
        :: IS_LOOKED_AT(_pid, 1) -> ends = 1
        :: IS_LOOKED_AT(_pid, 2) -> ends = 2
        :: IS_LOOKED_AT(_pid, 3) -> ends = 3
        fi
    }
#ifdef MUTANT_gate_ends_before_the_look
    if
    :: REST == 0 -> STEP(_, owner[_pid] = OPEN)
    :: else
    fi;
#endif
#ifdef MUTANT_moved_before_the_end
    if
    :: REST -> settle(REST)
    :: else
    fi;
#endif
    STEP(_, END_LOOK);
    settle(REST);
    ends = 0
}

/* By another thread. */
inline end_one_beside()
{
#ifdef THREADS
    if
    :: looks[_pid] -> end_one()
    :: true
    fi
#else
    skip
#endif
}

#define LOOKS_AGAIN
#ifdef MUTANT_place_is_not_looked_at_again
#undef LOOKS_AGAIN
#endif
#ifdef MUTANT_place_before_the_gate
#undef LOOKS_AGAIN
#endif
#ifdef MUTANT_open_is_not_looked_at_again
#define IS_STILL_OPEN true
#endif
#ifdef MUTANT_open_before_the_gate
#define IS_STILL_OPEN true
#endif
#ifndef IS_STILL_OPEN
#define IS_STILL_OPEN is_open
#endif

#define IS_DEAD(number) (holder[number] && holder[number] != RETURNED && gone[holder[number]])
#define IS_LEFT(number) (holder[number] == RETURNED || IS_DEAD(number))

/* Under the group's lock: what was given back, or has a dead holder, first. */
inline take()
{
    STEP(claim_held,
        do
        :: i < CLAIMS ->
            mine = (IS_LEFT(i) && (mine == NONE || sequence[i] < sequence[mine]) -> i : mine);
            i++
        :: else -> break
        od;
        i = 0;
        if
        :: mine == NONE && cursor < committed ->
            do
            :: holder[i] -> i++
            :: else -> break
            od;
            mine = i;
            i = 0;
            place[mine] = cursor;
            sequence[mine] = cursor;
            cursor++
        :: else
        fi;
        if
        :: mine != NONE -> holder[mine] = _pid
        :: else
        fi)
}

#if CLAIMS == 2
#define SOME_LEFT (IS_LEFT(0) || IS_LEFT(1))
#else
#define SOME_LEFT IS_LEFT(0)
#endif

proctype member()
{
    byte i, low, ends;
    byte mine = NONE, want = NONE;
    bool held;
#ifdef REMOVED
    STEP(slot_open, at[_pid] = committed; owner[_pid] = OPEN); /* it joins [owner] */
#endif
again:
#ifdef MUTANT_taken_back_late
    if
    :: owner[_pid] == GATED -> settle(looks[_pid])
    :: else
    fi;
#endif
    assert(looks[_pid] || owner[_pid] == OPEN);
    if
    :: atomic { mine == NONE && (cursor < committed || SOME_LEFT) -> goto taking }
    :: mine != NONE ->
#ifdef MUTANT_gate_ends_with_the_claim
        STEP(_, owner[_pid] = OPEN);
#endif
        STEP(claim_finished, holder[mine] = (holder[mine] == _pid -> 0 : holder[mine]));
        mine = NONE
    :: atomic { mine != NONE && rejects < REJECTS -> rejects++ };
        STEP(claim_returned, holder[mine] = (holder[mine] == _pid -> RETURNED : holder[mine]));
        mine = NONE
    :: looks[_pid] -> end_one()
    :: true -> goto working
    fi;
    goto again;
taking:
    take();
    if
    :: mine == NONE -> goto again
    :: else
    fi;
    STEP(_, want = place[mine]); /* [park] */
    if
    :: want == PARKED -> want = NONE
#ifndef OLDER_IS_LOOKED_AT
    :: want != PARKED && owner[_pid] == GATED && at[_pid] > want -> want = NONE
#endif
    :: else
    fi;
#ifdef MUTANT_open_before_the_gate
    STEP(_, held = is_open);
    if
    :: !held -> goto ended
    :: else
    fi;
#endif
    if
    :: want != NONE && owner[_pid] != GATED ->
        STEP(look_moved, at[_pid] = want);
#ifdef MUTANT_place_before_the_gate
        STEP(_, held = TRUTH(place[mine] == want));
#endif
        STEP(look_gated, owner[_pid] = GATED) /* [gate] [look] */
#ifdef MUTANT_moved_back
    :: want != NONE && owner[_pid] == GATED && at[_pid] > want -> STEP(_, at[_pid] = want)
#endif
    :: else
    fi;
    end_one_beside();
    if
    :: want != NONE ->
#ifdef MUTANT_place_is_not_looked_at_again
        held = true;
#endif
#ifdef LOOKS_AGAIN
        STEP(_, held = TRUTH(place[mine] == want)); /* has_stayed [park] [look] */
#endif
        if
        :: !held -> /* it was parked: this is copied from there */
            want = NONE;
#ifdef MUTANT_taken_back_late
            STEP(claim_finished, holder[mine] = 0);
            mine = NONE;
            if
            :: cursor < committed || SOME_LEFT -> goto taking
            :: else
            fi;
#endif
#ifdef MUTANT_taken_back_altogether
            STEP(_, owner[_pid] = OPEN);
#endif
#ifndef MUTANT_parked_keeps_the_gate
            settle(looks[_pid])
#endif
        :: else -> held = false
        fi;
        end_one_beside()
    :: else
    fi;
    /* eb_group_stayed */
    STEP(_,
        held = IS_STILL_OPEN; /* [removal] [look] */
        if
        :: held && want != NONE -> /* it hands it out */
            assert(ring[want % RING] == want + 1);
            looks[_pid] = looks[_pid] | (1 << want);
            want = NONE
        :: else
        fi);
    if
    :: held -> held = false
    :: else -> goto ended
    fi;
    goto again;
ended: /* what it looks at it may look at for ever */
    atomic { mine = NONE; held = false }
    if
    :: want != NONE ->
        want = NONE;
        settle(looks[_pid])
    :: else
    fi;
    do
    :: looks[_pid] -> end_one()
    :: true -> break
    od;
working: /* for ever, or until it is killed */
    assert(looks[_pid] || owner[_pid] == OPEN);
end_working:
    if
    :: atomic { false -> goto again }
#if DEATHS > 0
    :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
    fi;
dead:
    atomic { gone[_pid] = true; looks[_pid] = 0 }
}

#ifdef ANOTHER_COPIES
/* A member that does not look, with one event. */
proctype copier()
{
    byte i;
    byte mine = NONE;
end_idle:
    atomic { cursor < committed || SOME_LEFT -> skip };
    take();
    if
    :: mine == NONE -> goto end_idle
    :: else
    fi;
end_working:
    if
    :: STEP(claim_finished, holder[mine] = (holder[mine] == _pid -> 0 : holder[mine]))
    :: STEP(claim_returned, holder[mine] = (holder[mine] == _pid -> RETURNED : holder[mine]))
    fi;
    goto over;
dead:
    gone[_pid] = true;
over:
    skip
}
#endif

#ifdef OTHERS_MOVE_THE_GATE
/* Another member that makes room. */
proctype mover()
{
    byte i, to;
end_again:
    do
    :: atomic { gate < cursor };
        group_gate();
        STEP(claim_gated, RAISE_GATE) /* [cursor] */
    od
}
#endif

#ifdef REMOVED
/* dissolve, and eb_claims_drop_all. */
proctype remover()
{
    byte i;
#ifdef MUTANT_withdrawn_before_removed
    STEP(_, holds = false);
#endif
    STEP(group_removed, is_open = false); /* [removal] */
    STEP(gate_withdrawn, holds = false); /* [gate] */
    do
    :: i < CLAIMS -> STEP(page_emptied, holder[i] = 0; i++)
    :: else -> break
    od;
    goto over;
dead:
    orphan = true;
over:
    skip
}
#endif

init
{
    byte i;
    atomic {
        for (i : 1 .. MEMBERS) {
#ifndef REMOVED
            owner[i] = OPEN;
#endif
            run member()
        }
#ifdef ANOTHER_COPIES
        run copier();
#endif
        run publisher();
#ifdef OTHERS_MOVE_THE_GATE
        run mover();
#endif
#ifdef REMOVED
        run remover();
#endif
    }
    timeout;
    /* Publishers are ready, or wait for what somebody living looks at, or nobody claimed yet. */
    assert(committed == EVENTS || (holds && is_open && cursor == OLDEST) || !EACH(LETS_OLDEST_GO))
}
