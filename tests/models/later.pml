/* What is sent later: csrc/schedule.c (put_down, eb_cancel, send_one, send_due), csrc/timetable.c, csrc/bus.c (repair_ring),
 * csrc/parking.c (eb_parking_find), and who reads the timetable without the lock: csrc/schedule.c (eb_scheduled_read).
 *
 * Processes take the publish lock one after another and do one thing with it: put an event down, cancel one whose number they
 * know, send what is due, or publish something else. One that finds the owner dead has the lock at once, repairs, and may die in
 * the middle of that too. What is past the used part of the timetable are bytes that were a record's. Time passes at any moment.
 * Who looks, and when, is the matter of keeper.pml; here somebody looks once `look` says so.
 *
 * CHECK once -DEVENTS=2 -DCANCELS=1: without a death each event is sent once, when it is due and not before, or never, if cancel said so, which says no only of what was sent
 * CHECK listed -DEVENTS=2 -DREADS=1 -DDEATHS=1: who reads the timetable beside, without the lock, sees the event that the number means, and that was put down to the end, whoever is killed
 * CHECK one_dies -DEVENTS=2 -DCANCELS=1 -DPLAIN=1 -DFULL=1 -DDEATHS=1: the same whoever is killed at any step; what was put down is not lost, what was not put down to the end is not sent; what is due finds no room at first
 * CHECK two_die -DWORKERS=3 -DEVENTS=1 -DPLAIN=1 -DDEATHS=2: the same of two deaths, the second perhaps in the middle of the repair
 *
 * MUTANT due_before_the_record one_dies: the entry is due before its record is in the parking
 * MUTANT due_before_the_entry one_dies: the entry is due before it says where its record is
 * MUTANT due_before_look one_dies: the entry is due before `look` says so
 * MUTANT number_after_due one_dies: the number is counted when the entry is due already
 * MUTANT garbage_is_counted_in one_dies: the entry is counted in with what its bytes were before
 * MUTANT intention_stays one_dies: an entry that is used again keeps the intention of the one before
 * MUTANT no_intention one_dies: an event is sent without an intention
 * MUTANT intention_after_commit one_dies: the intention is stored when it is committed already
 * MUTANT taken_away_before_commit one_dies: the entry is taken away before the event is committed
 * MUTANT each_intention_was_sent one_dies: who repairs takes what was intended for sent
 * MUTANT settled_in_two_steps one_dies: `look` is 0 before it is computed anew
 * MUTANT map_without_timetable once: the blocks of what is sent later count as free
 * MUTANT cancelled_without_lock once: who cancels does not take the lock
 * MUTANT not_read_again listed: who reads without the lock does not look again whether it is still the same entry
 */
#include "step.h"

#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef PLAIN
#define PLAIN 0
#endif
#ifndef READS
#define READS 0
#endif
#ifndef FULL
#define FULL 0
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#define ENTRIES 2
#define NONE 15
#define GARBAGE 3
#define DUE(event) (3 - event) /* the second one first */
#define LAST 2

byte committed;
byte look;
byte used;
byte numbers; /* that were given */
byte due[ENTRIES], number[ENTRIES], place[ENTRIES], intended[ENTRIES];
byte record[ENTRIES], body[ENTRIES]; /* the parking: its number, and the event */
byte lock;
bool gone[WORKERS + 1];
byte now;

/* What nobody in the system knows. */
byte puts, cancels, plain, refused;
byte known[EVENTS + 1];     /* the number, once send_later has returned */
bool there[EVENTS + 1];     /* put down to the end */
bool cancelled[EVENTS + 1];
byte sent[EVENTS + 1];
byte when[EVENTS + 1];
byte gave[EVENTS + 1]; /* the number, known or not */

#define LIVES(entry) (entry < used && due[entry])
#define IS_NEXT(entry, other) (LIVES(entry) && due[entry] <= now && (!LIVES(other) || due[entry] <= due[other]))
#ifdef MUTANT_map_without_timetable
#define TAKEN(block) false
#else
#define TAKEN(block) (LIVES(0) && place[0] == block || LIVES(1) && place[1] == block)
#endif
#define EARLIEST (LIVES(0) && LIVES(1) -> (due[0] < due[1] -> due[0] : due[1]) : (LIVES(0) -> due[0] : (LIVES(1) -> due[1] : 0)))
#define IS_LOOKED_FOR (look && look <= now)

/* eb_timetable_repair. */
inline repair()
{
    do
    :: i < ENTRIES ->
        STEP(_, seen = (LIVES(i) -> intended[i] : 0));
        if
        :: seen ->
#ifdef MUTANT_each_intention_was_sent
            STEP(schedule_freed, due[i] = 0)
#else
            if
            :: committed >= seen -> STEP(schedule_freed, due[i] = 0)
            :: else -> STEP(_, intended[i] = 0)
            fi
#endif
        :: else
        fi;
        seen = 0;
        i++
    :: else -> break
    od;
    i = 0
}

inline lock_publish()
{
    if
    :: STEP(publish_locked, lock == 0 -> lock = _pid)
    :: STEP(_, lock && gone[lock] -> lock = _pid);
        repair()
    fi
}

/* eb_timetable_settle. */
inline settle()
{
    STEP(_, used = (LIVES(1) -> 2 : (LIVES(0) -> 1 : 0)));
#ifdef MUTANT_settled_in_two_steps
    STEP(_, look = 0);
#endif
    STEP(schedule_settled, look = EARLIEST) /* [keeper] */
}

/* The one store that makes it an event that is sent later. */
inline store_due()
{
    STEP(schedule_stored, due[entry] = when[event]; there[event] = true) /* [due] */
}

#define LOWER_LOOK STEP(schedule_look, look = (!look || look > when[event] -> when[event] : look))

inline put_down()
{
    entry = (!LIVES(0) -> 0 : 1);
    block = (!TAKEN(0) -> 0 : 1);
    atomic { given = numbers + 1; gave[event] = given }
#ifdef MUTANT_due_before_the_record
    STEP(_, due[entry] = 0);
    STEP(_, number[entry] = given; place[entry] = block; intended[entry] = 0);
    STEP(_, used = (entry >= used -> entry + 1 : used));
    LOWER_LOOK;
    store_due();
#endif
    STEP(_, record[block] = given);
    STEP(schedule_copied, body[block] = event);
#ifndef MUTANT_due_before_the_record
#ifndef MUTANT_garbage_is_counted_in
    STEP(_, due[entry] = 0);
#endif
#ifdef MUTANT_due_before_the_entry
    STEP(_, used = (entry >= used -> entry + 1 : used));
    LOWER_LOOK;
    store_due();
#endif
    STEP(_, number[entry] = given);
    STEP(_, place[entry] = block);
#ifdef MUTANT_intention_stays
    skip;
#else
    STEP(schedule_written, intended[entry] = 0);
#endif
    STEP(schedule_used, used = (entry >= used -> entry + 1 : used));
#endif
#ifdef MUTANT_number_after_due
    LOWER_LOOK;
    store_due();
#endif
    STEP(schedule_numbered, numbers = given);
#ifdef MUTANT_due_before_look
    store_due();
#endif
    LOWER_LOOK; /* [keeper] */
#if !defined(MUTANT_due_before_the_record) && !defined(MUTANT_due_before_the_entry) &&                                  \
    !defined(MUTANT_due_before_look) && !defined(MUTANT_number_after_due)
    store_due()
#else
    skip
#endif
}

/* eb_cancel, of an event whose number somebody has. */
inline cancel()
{
    STEP(_, /* [lock] */
        entry = (LIVES(0) && number[0] == given -> 0 : (LIVES(1) && number[1] == given -> 1 : NONE));
        assert(entry != NONE || sent[event] || cancelled[event]));
    if
    :: entry != NONE ->
        STEP(schedule_freed,
            due[entry] = 0;
            assert(!cancelled[event] && !sent[event] && body[place[entry]] == event);
            cancelled[event] = true);
        settle()
    :: else
    fi
}

#define COMMIT                                                                                                         \
    committed++;                                                                                                       \
    sent[event]++;                                                                                                     \
    assert(sent[event] == 1 && there[event] && !cancelled[event] && when[event] <= now)

/* send_one, of the one that is due first. */
inline send()
{
    STEP(_, entry = (IS_NEXT(0, 1) -> 0 : (IS_NEXT(1, 0) -> 1 : NONE)));
    if
    :: entry != NONE && refused < FULL ->
        refused++; /* there is no room */
        settle();
        STEP(schedule_put_off, look = (now < LAST -> now + 1 : now))
    :: entry != NONE && refused == FULL ->
        event = body[place[entry]];
        assert(record[place[entry]] == number[entry]);
#ifdef MUTANT_taken_away_before_commit
        STEP(schedule_freed, due[entry] = 0);
        STEP(schedule_committed, COMMIT);
#else
#if !defined(MUTANT_no_intention) && !defined(MUTANT_intention_after_commit)
        STEP(schedule_intended, intended[entry] = committed + 1);
#endif
        STEP(schedule_committed, COMMIT); /* [commit] */
#ifdef MUTANT_intention_after_commit
        STEP(_, intended[entry] = committed);
#endif
        STEP(schedule_freed, due[entry] = 0);
#endif
        settle()
    :: else -> settle()
    fi
}

proctype worker()
{
    byte i, seen, entry, block, event, given;
again:
    atomic { entry = 0; block = 0; event = 0; given = 0 }
end_idle:
    if
    :: atomic { puts < EVENTS -> puts++; event = puts; when[event] = DUE(event) };
        lock_publish();
        put_down()
#if CANCELS > 0
    :: atomic {
            if
            :: cancels < CANCELS && known[1] -> event = 1
            :: cancels < CANCELS && known[2] -> event = 2
            fi;
            cancels++;
            given = known[event]
        };
#ifdef MUTANT_cancelled_without_lock
        skip;
#else
        lock_publish();
#endif
        cancel();
#ifdef MUTANT_cancelled_without_lock
        goto again
#endif
#endif
#if PLAIN > 0
    :: atomic { plain < PLAIN -> plain++ };
        lock_publish();
        STEP(publish_committed, committed++) /* [commit] */
#endif
    :: atomic { IS_LOOKED_FOR }; /* eb_fire_due [keeper] */
        lock_publish();
        send()
    fi;
    STEP(_, lock = 0; known[event] = (given -> given : known[event])); /* [lock] */
    goto again;
dead:
    atomic { gone[_pid] = true }
}

#if READS > 0
/* eb_scheduled_read, of the first entry. */
proctype reader()
{
    byte is_due, its, at, saw, what;
    bool same;
    STEP(_, same = TRUTH(used > 0));
    if
    :: !same -> goto dead
    :: else
    fi;
    STEP(_, is_due = due[0]); /* [due] */
    STEP(_, its = number[0]);
    STEP(_, at = place[0]);
    if
    :: !is_due || at >= ENTRIES -> goto dead
    :: else
    fi;
    STEP(_, saw = record[at]);
    STEP(_, what = body[at]);
    if
    :: saw != its -> goto dead
    :: else
    fi;
#ifndef MUTANT_not_read_again
    STEP(_, same = TRUTH(due[0])); /* [due] */
    if
    :: !same -> goto dead
    :: else
    fi;
    STEP(_, same = TRUTH(number[0] == its));
    if
    :: !same -> goto dead
    :: else
    fi;
#endif
    assert(gave[what] == its && there[what]);
dead:
    skip
}
#endif

proctype clock()
{
    do
    :: now < LAST -> CALM(_, now++)
    :: else -> break
    od
}

init
{
    byte i;
    atomic {
        for (i : 0 .. ENTRIES - 1) {
            due[i] = 1;
            number[i] = GARBAGE;
            place[i] = 0;
            intended[i] = 1
        }
        for (i : 1 .. WORKERS) {
            run worker()
        }
#if READS > 0
        run reader();
#endif
        run clock()
    }
    timeout;
    for (i : 1 .. EVENTS) {
        assert(!there[i] || sent[i] || cancelled[i])
    }
}
