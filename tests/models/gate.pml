/* The gate: csrc/room.c (eb_room_claim), csrc/roster.c (eb_slot_open, eb_roster_gate, eb_roster_reap), csrc/subscription.c
 * (settle_cursor, place), csrc/make_group.c (place_group), csrc/single.c (take, advance).
 *
 * Publishers, each of whom may be killed, fill a ring of CAPACITY records; a subscriber joins at any moment, reads, and
 * leaves or is killed; a group is made that begins at the oldest record. The cached gate is looked at first.
 *
 * CHECK join -DEVENTS=6 -DCAPACITY=2: what a gated subscriber reads from where it joined on is never overwritten, neither before nor while it reads
 * CHECK group -DEVENTS=5 -DCAPACITY=3 -DGROUP: the same of a group made while the bus is in use
 * CHECK death -DEVENTS=4 -DCAPACITY=2 -DDEATHS=2: the same whoever is killed, and no dead subscriber keeps the publishers from finishing
 *
 * MUTANT no_second_look join: a subscriber stores its cursor once, without looking whether something was committed meanwhile
 * MUTANT cached_gate_is_committed join: the cache says that all is free
 * MUTANT cursor_before_copy join: a cursor is stored before its record is read
 * MUTANT commit_before_copy join: a record is shown before it is written
 * MUTANT group_leaves_the_cached_gate group: a group that begins at the oldest record does not set the cached gate back
 * MUTANT nobody_reaps death: a publisher that finds the ring full does not look for the dead
 */
#include "step.h"

#define FREE 0
#define OPEN 1
#define GROUP_OPEN 3
#ifdef GROUP
#define SLOTS 2
#else
#define SLOTS 1
#endif

byte ring[CAPACITY]; /* position + 1 of the record there */
byte committed;
byte oldest;
byte cached;         /* ring.header->gate */
byte locked;         /* the publish lock: free with its owner's death, see lock.pml */
byte owner[SLOTS];
byte cursor[SLOTS];
bool unlocked_byte[SLOTS]; /* its owner is dead */
bool all_sent;

inline compute_gate()
{
    lag = 0;
    slot = 0;
    do
    :: slot < SLOTS ->
        STEP(_, held = TRUTH(owner[slot] != FREE)); /* [owner] [gate] */
        if
        :: held ->
            STEP(_, behind = position - cursor[slot]); /* [cursor] [gate] */
            lag = (behind <= CAPACITY && behind > lag -> behind : lag)
        :: else
        fi;
        slot++
    :: else -> break
    od;
    behind = 0;
    slot = 0;
    held = false
}

#define ROOM(slot) (owner[slot] == FREE || committed - cursor[slot] != CAPACITY)
#define FITS(gate) (position + 1 <= (gate) + CAPACITY)

active proctype publisher()
{
    byte position, lag, behind, slot;
    bool held;
next_owner:
    do
    :: committed < EVENTS ->
        STEP(publish_locked, locked == 0 -> locked = 1);
        position = committed;
        if
        :: FITS(cached) -> skip
        :: else ->
            compute_gate();
#ifndef MUTANT_cached_gate_is_committed
            STEP(_, cached = position - lag);
#else
            STEP(_, cached = position); /* what was seen to be free, but not how far */
#endif
            if
            :: !FITS(position - lag) -> /* EB_FULL */
                lag = 0;
                STEP(publish_unlocked, locked = 0);
                /* until there is room, or somebody dead is found */
                if
                :: atomic { ROOM(0) && ROOM(SLOTS - 1) }
#ifndef MUTANT_nobody_reaps
                :: atomic { unlocked_byte[0] && owner[0] != FREE -> owner[0] = FREE } /* reap_found, reap_freed */
#endif
#if DEATHS > 0
                :: atomic { deaths < DEATHS -> deaths++; goto dead }
#endif
                fi;
                goto next_owner
            :: else
            fi
        fi;
        lag = 0;
        if
        :: position + 1 > oldest + CAPACITY -> STEP(publish_claimed, oldest = position + 1 - CAPACITY)
        :: else
        fi;
#ifdef MUTANT_commit_before_copy
        STEP(publish_committed, committed = position + 1);
        STEP(publish_copied, ring[position % CAPACITY] = position + 1);
#else
        STEP(publish_copied, ring[position % CAPACITY] = position + 1);
        STEP(publish_committed, committed = position + 1); /* [commit] [gate] */
#endif
        STEP(publish_unlocked, locked = 0)
    :: else -> break
    od;
    goto done;
#if DEATHS > 0
dead: /* another publisher goes on: EOWNERDEAD */
    atomic {
        locked = (locked == 1 -> 0 : locked);
        position = 0;
        lag = 0;
        behind = 0;
        slot = 0;
        held = false;
        goto next_owner
    }
#endif
done:
    all_sent = true
}

/* eb_receive, one record at a time. */
inline read_to_the_end(me)
{
    do
    :: STEP(_, seen = committed); /* [commit] */
        if
        :: position < seen ->
#ifdef MUTANT_cursor_before_copy
            STEP(receive_advanced, cursor[me] = position + 1);
            STEP(receive_read, assert(ring[position % CAPACITY] == position + 1));
#else
            STEP(receive_read, assert(ring[position % CAPACITY] == position + 1));
            STEP(receive_advanced, cursor[me] = position + 1); /* [cursor] [space] */
#endif
            position++
        :: else -> break
        fi
    od
}

active proctype subscriber()
{
    byte position, seen, before;
    STEP(_, position = committed);
    STEP(slot_cursor, cursor[0] = position);
    STEP(slot_open, owner[0] = OPEN); /* [owner] [gate] */
    do
    :: STEP(_, before = oldest);
#ifdef MUTANT_no_second_look
        STEP(_, position = committed);
        STEP(_, cursor[0] = position);
#else
        do
        :: STEP(_, seen = committed); /* [gate] */
            if
            :: seen != position ->
                position = seen;
                STEP(_, cursor[0] = position)
            :: else -> break
            fi
        od;
#endif
        assert(position >= before);
        STEP(_, seen = TRUTH(oldest > position)); /* eb_ring_lapped */
        if
        :: !seen -> break
        :: else
        fi
    od;
    before = 0;
    seen = 0;
    do
    :: read_to_the_end(0)
    :: STEP(slot_freed, owner[0] = FREE);
        break
    od;
    goto gone;
dead:
    skip;
gone:
    unlocked_byte[0] = true
}

#ifdef GROUP
/* place_group, under the publish lock; then its members read. */
active proctype group()
{
    byte position, seen;
    STEP(publish_locked, locked == 0 -> locked = 2);
    STEP(_, position = oldest);
    STEP(slot_cursor, cursor[1] = position);
    STEP(_, owner[1] = GROUP_OPEN); /* [owner] [gate] */
#ifndef MUTANT_group_leaves_the_cached_gate
    STEP(_, seen = TRUTH(cached > position));
    if
    :: seen -> STEP(_, cached = position)
    :: else
    fi;
#endif
    STEP(publish_unlocked, locked = 0);
    do
    :: read_to_the_end(1)
    :: atomic { position == EVENTS -> break }
    od;
dead:
    skip
}
#endif
