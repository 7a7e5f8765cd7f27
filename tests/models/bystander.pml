/* Cursors that publishers move on: csrc/bystanders.c, csrc/single.c (take, follow, advance), csrc/member.c (claim_new,
 * move_gate), csrc/claims.c (eb_group_gate), csrc/group.c (eb_cursor_raise).
 *
 * Publishers, one at a time and each of whom may be killed, send EVENTS records through a ring of CAPACITY; whoever reads
 * hears those of HEARD only. A publisher that finds no room moves the cursor on over what is not heard, then looks again.
 * Records are of one size; what one is about is read from its header. A cursor that is further back than the ring is long holds
 * nobody.
 *
 * CHECK alone -DEVENTS=8 -DCAPACITY=2 -DDEATHS=1: a subscriber gets each record that it hears once, whole and in order, and publishers wait for nothing else
 * CHECK group -DEVENTS=8 -DCAPACITY=2 -DDEATHS=1 -DGROUP: the same of a member of a group: what it has claimed is not overwritten before it is acknowledged
 *
 * MUTANT heard_is_passed alone: a publisher moves a cursor to what is committed, without looking at the records
 * MUTANT no_look_after_reading alone: a subscriber trusts a record without looking whether its cursor was moved past it
 * MUTANT cursor_is_stored alone: a subscriber stores its cursor, where it has to exchange it
 * MUTANT nobody_moves alone: publishers leave cursors alone
 * MUTANT member_does_not_look group: a member trusts a record without looking whether the group's cursor was moved past it
 * MUTANT claims_before_cursor group: whoever computes the gate reads the claims first
 * MUTANT gate_is_stored group: a member stores the gate, which may be behind where a publisher has moved it
 * MUTANT group_cursor_is_stored group: a member that has skipped what it does not hear stores the group's cursor
 */
#include "step.h"

#define HEARD(number) ((number) == 1 || (number) == 4 || (number) == 6)

byte ring[CAPACITY]; /* position + 1 of the record there */
byte committed;
byte cursor;         /* the slot's: the gate */
bool locked;         /* the publish lock: free with its owner's death, see lock.pml */
bool all_sent;
byte taken;          /* how many that are heard were received */
#ifdef GROUP
byte group_cursor;
byte start;
bool held;
#endif

#define RAISE(which, to) which = ((to) > which -> (to) : which)
#define FITS (position + 1 <= cursor + CAPACITY || position > cursor + CAPACITY)

#ifdef GROUP
#define MOVED group_cursor
#ifdef MUTANT_claims_before_cursor
#define READ_GATE                                                                                                      \
    STEP(_, some = held);                                                                                              \
    STEP(_, at = start);                                                                                               \
    STEP(_, to = group_cursor)
#else
#define READ_GATE                                                                                                      \
    STEP(_, to = group_cursor);                                                                                        \
    STEP(_, some = held);                                                                                              \
    STEP(_, at = start)
#endif
#else
#define MOVED cursor
#endif

/* next_heard: under the publish lock, so the records stay. */
inline move_on()
{
    STEP(_, before = MOVED);
    to = before;
#ifdef MUTANT_heard_is_passed
    to = position;
#else
    do
    :: to < position && !HEARD(to) -> to++
    :: else -> break
    od;
#endif
#ifndef MUTANT_nobody_moves
    STEP(bystander_moved, MOVED = (MOVED == before -> to : MOVED)); /* [cursor] [gate] */
#endif
#ifdef GROUP
    READ_GATE;
    to = (some && at < to -> at : to);
    STEP(bystander_gate, RAISE(cursor, to)); /* [cursor] [gate] */
    at = 0;
    some = false;
#endif
    skip
}

active proctype publisher()
{
    byte position, before, to;
#ifdef GROUP
    byte at;
    bool some;
#endif
next_owner:
    do
    :: committed < EVENTS ->
        STEP(publish_locked, !locked -> locked = true);
        position = committed;
        if
        :: FITS -> skip
        :: else ->
            move_on();
            if
            :: !FITS -> /* EB_FULL: until what is heard was taken */
#ifndef GROUP
                assert((cursor != to && cursor != before) || HEARD(cursor));
#endif
                to = 0;
                before = 0;
                STEP(publish_unlocked, locked = false);
                if
                :: atomic { FITS }
#ifdef GROUP
                :: atomic { group_cursor > cursor && (!held || start > cursor) } /* it may look again */
#endif
                fi;
                goto next_owner
            :: else
            fi
        fi;
        to = 0;
        before = 0;
        STEP(publish_copied, ring[position % CAPACITY] = position + 1);
        STEP(publish_committed, committed = position + 1); /* [commit] [gate] */
        STEP(publish_unlocked, locked = false)
    :: else -> break
    od;
    goto done;
#if DEATHS > 0
dead: /* another publisher goes on */
    atomic {
        locked = false;
        position = 0;
        before = 0;
        to = 0;
#ifdef GROUP
        at = 0;
        some = false;
#endif
        goto next_owner
    }
#endif
done:
    all_sent = true
}

#define ALL_TAKEN (committed == EVENTS && position >= EVENTS)

#ifndef GROUP
/* take and advance, a record at a time. */
active proctype subscriber()
{
    byte position, mine, record, moved;
    do
    :: atomic { position < committed } ->
        atomic { record = ring[position % CAPACITY] }; /* [lap] */
#ifndef MUTANT_no_look_after_reading
        atomic { moved = cursor }; /* [gate] */
        if
        :: moved != mine -> /* follow */
            mine = moved;
            position = (moved > position -> moved : position)
        :: else ->
#endif
            if
            :: HEARD(record - 1) ->
                atomic {
                    assert(record == position + 1 && ring[position % CAPACITY] == position + 1);
                    taken++
                }
            :: else -> assert(record == position + 1)
            fi;
            position++;
            if
            :: skip /* its batch goes on */
#ifdef MUTANT_cursor_is_stored
            :: atomic { cursor = position; mine = position }
#else
            :: atomic {
                if
                :: cursor == mine -> cursor = position; mine = position /* [cursor] */
                :: else ->
                    mine = cursor;
                    position = (mine > position -> mine : position)
                fi
            }
#endif
            fi
#ifndef MUTANT_no_look_after_reading
        fi
#endif
        ;
        record = 0;
        moved = 0
    :: atomic { ALL_TAKEN -> break }
    :: atomic { cursor == mine && position > mine && position == committed -> cursor = position; mine = position }
    :: atomic { cursor > mine && position == committed -> mine = cursor; position = (mine > position -> mine : position) }
    od;
    assert(taken == 3)
}
#else
/* claim_new of one event, move_gate, copy, eb_claim_finish. The group's lock is the matter of group.pml. */
active proctype member()
{
    byte position, record, to, at;
    bool some;
    do
    :: atomic { group_cursor < committed } ->
        atomic { position = group_cursor };
        do
        :: atomic { position < committed } ->
            atomic { record = ring[position % CAPACITY] };
#ifndef MUTANT_member_does_not_look
            atomic { to = group_cursor }; /* [gate] */
            if
            :: to > position -> position = to
            :: else ->
#endif
                if
                :: HEARD(record - 1) ->
                    assert(record == position + 1);
                    atomic { start = position };
                    atomic { held = true };                      /* claim_held */
                    atomic { RAISE(group_cursor, position + 1) }; /* claim_cursor */
                    break
                :: else ->
                    assert(record == position + 1);
                    position++
                fi
#ifndef MUTANT_member_does_not_look
            fi
#endif
        :: atomic { position >= committed } ->
#ifdef MUTANT_group_cursor_is_stored
            atomic { group_cursor = position };
#else
            atomic { RAISE(group_cursor, position) };
#endif
            break
        od;
        atomic { to = group_cursor };
        atomic { some = held };
        atomic { at = start };
        to = (some && at < to -> at : to);
#ifdef MUTANT_gate_is_stored
        atomic { cursor = to }; /* claim_gated */
#else
        atomic { RAISE(cursor, to) }; /* claim_gated */
#endif
        if
        :: held ->
            atomic {
                assert(ring[start % CAPACITY] == start + 1);
                taken++
            }
            atomic { held = false } /* claim_finished */
        :: else
        fi;
        position = 0;
        record = 0;
        to = 0;
        at = 0;
        some = false
    :: atomic { committed == EVENTS && group_cursor == EVENTS -> break }
    od;
    assert(taken == 3)
}
#endif
