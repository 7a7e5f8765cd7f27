/* Opening, forking, leaving and dying: csrc/attachment.c (open, the hooks of a fork, leave), csrc/locks.c (the bytes),
 * csrc/process.c (the guard), csrc/bus.c (the publish lock, take_over, repair_alone, eb_bus_remove), csrc/publish.c
 * (publish_locked).
 *
 * MEMBERS processes open the bus of one name, publish and leave it; the first may have threads that publish (SENDERS)
 * or hold the roster's lock (KEEPER), and may fork: through Python (PYTHON_FORK), by C (C_FORK), or behind the back of
 * all hooks (RAW_FORK). FAILS: the second may fail at any step of opening. LATE: the first opens the bus a second time,
 * and Python collects its first attachment in the middle of that or after it, in the same thread. When all have left or
 * died one more opens, publishes and leaves. A description is an open file description of the roster; it is known by a
 * number, like its bytes and its token. The kernel drops what it has locked when the last process that has it closes it
 * or dies: `has`. A segment is a roster and its ring, each with a name of its own. One that nobody has open or mapped and
 * no name means is forgotten, so its number comes again. A process that has left lives on, and with it those of its
 * threads that come late. One call of fcntl is one step, also where it looks for any lock in a range.
 *
 * CHECK names -DMEMBERS=2 -DQUIET -DDEATHS=2: nobody who lives and has not left finds a name gone or another segment under it, whoever makes, replaces and leaves the bus and dies at any step; the last one opens a bus that is whole
 * CHECK three -DMEMBERS=3 -DQUIET -DRETRIES=1: the same of three at once, who give up when they had to start over twice; when all have left the names are gone
 * CHECK fails -DMEMBERS=2 -DFAILS -DDEATHS=1: whoever fails at any step of opening lets go of all that it has taken by then, and harms nobody
 * CHECK persist -DMEMBERS=2 -DPERSIST -DDEATHS=2: a bus that stays is repaired by one who is alone; a publisher is taken over only when it is dead
 * CHECK threads -DMEMBERS=2 -DSENDERS=1 -DKEEPER: who leaves waits for a thread that is publishing and refuses those that come late; no other thread loses the roster's lock; when all have left the names are gone
 * CHECK late -DMEMBERS=2 -DSENDERS=2 -DPERSIST -DDEATHS=1: threads that come late neither write nor repair, and take the publish lock from nobody, though somebody died with it
 * CHECK two_late -DMEMBERS=3 -DSENDERS=2 -DATTACHED -DDEATHS=1: the same while others stay on the bus: what the dead left half written is repaired before the next one writes
 * CHECK twice -DMEMBERS=2 -DQUIET -DTWICE -DDEATHS=1: two threads that leave at once are one that leaves
 * CHECK gives_up -DMEMBERS=2 -DSENDERS=1 -DPERSIST -DGIVES_UP -DDEATHS=1: who leaves and does not get the door or the publish lock in time does less, and harms nobody: nobody repairs beside its threads
 * CHECK collected -DMEMBERS=2 -DLATE -DDEATHS=1: an attachment that Python collects while the same thread opens the bus again is left by it right after that: nobody waits for a door that it has itself, and nobody is taken for the last one
 * CHECK collected_fails -DMEMBERS=2 -DQUIET -DLATE -DFAILS -DDEATHS=1: the same where that opening fails
 * CHECK python_fork -DMEMBERS=2 -DQUIET -DPYTHON_FORK -DRETRIES=1 -DDEATHS=1: the child of a fork through Python is counted from its first moment on, or is not attached where its parent has left, whoever leaves or dies, another thread of its parent too
 * CHECK c_fork -DMEMBERS=2 -DC_FORK -DDEATHS=1: the child of a fork by C keeps nothing of its parent, dead or alive
 * CHECK raw_fork -DMEMBERS=2 -DRAW_FORK -DDEATHS=1: the child of a fork that no hook saw, at any step of its parent, takes nothing from it; while it lives nothing of its dead parent is unlinked; what a living parent gave back is free at once
 * CHECK raw_fails -DMEMBERS=2 -DQUIET -DRAW_FORK -DFAILS: the same where the parent fails at any step of opening
 * CHECK raw_stays -DMEMBERS=2 -DRAW_FORK -DPERSIST -DDEATHS=1: the same of a bus that stays: nothing is repaired either
 *
 * MUTANT no_second_look names: who has entered the door does not look the name up again
 * MUTANT leave_without_door names: who leaves counts and unlinks without the door
 * MUTANT leave_without_count names: who leaves unlinks whoever is there
 * MUTANT attach_after_door names: who opens locks its own byte when it has left the door
 * MUTANT join_unsigned names: a segment whose maker died half-way is joined
 * MUTANT roster_first names: the roster's name is removed before the ring's
 * MUTANT no_look_at_ring persist: a bus that stays is joined though whoever removed it died before the roster's name was gone
 * MUTANT discard_without_name fails: who fails removes what it made without looking whether the name still means it
 * MUTANT repair_without_count persist: who opens a bus that stays repairs it whoever is there
 * MUTANT alone_without_repair persist: who is alone on a bus that stays takes it as it is
 * MUTANT leave_beside_roster threads: who leaves does not wait for a thread that has the roster's lock
 * MUTANT no_look_at_left threads: who has got the publish lock does not look whether its process has left by now
 * MUTANT look_at_left_before_lock threads: it looks before it has got the lock, not after
 * MUTANT publisher_byte_first threads: the publisher's byte is released before the publish lock is taken
 * MUTANT left_without_lock threads: who leaves says so without the publish lock
 * MUTANT refused_unlocks_by_store late: who was refused unlocks by a store, not by a compare-and-swap
 * MUTANT take_over_after_leaving late: who comes late takes over from a dead owner and repairs before it looks whether its process has left
 * MUTANT refused_after_take_over two_late: it looks right after it has taken over, and gives the dead owner's token back
 * MUTANT count_without_publishers gives_up: only attachments are counted
 * MUTANT give_up_and_release gives_up: who leaves without the publish lock releases its publisher's byte too
 * MUTANT give_up_and_close gives_up: who leaves without the publish lock closes the descriptor
 * MUTANT release_by_range gives_up: who leaves unlocks all from the first byte to the last
 * MUTANT collected_waits collected: what is collected in the middle of opening waits for the door, which its thread has
 * MUTANT collected_is_gone collected: what is collected in the middle of opening counts and unlinks without waiting for the door
 * MUTANT collected_is_forgotten collected: nobody leaves it when the door is open
 * MUTANT bytes_after_fork python_fork: the child locks its bytes after the fork
 * MUTANT parents_description python_fork: the child goes on with its parent's description
 * MUTANT leave_twice_at_once twice: two threads of a process leave at once: the door, locked through one description, keeps neither out
 * MUTANT fork_beside_leaving python_fork: who leaves does not wait for a fork
 * MUTANT fork_after_leaving python_fork: a fork attaches the child whether or not its parent has left
 * MUTANT c_child_keeps_descriptor c_fork: the child of a fork by C keeps its parent's descriptor
 * MUTANT raw_child_leaves raw_fork: the child of a fork that no hook saw leaves as its parent would
 * MUTANT close_without_unlock raw_fork: who starts over closes the descriptor without leaving the door
 * MUTANT fail_without_unlock raw_fails: who fails closes the descriptor without unlocking what it has
 */
#include "step.h"

#ifndef SENDERS
#define SENDERS 0
#endif
#if defined(PYTHON_FORK) || defined(C_FORK)
#define FORKS
#endif
#if defined(FORKS) || defined(TWICE) || defined(KEEPER) || defined(LATE)
#define THREADS
#endif
#if defined(LATE) || defined(RAW_FORK)
#define FAILING 0
#else
#define FAILING 1
#endif

/* Processes; each has the description of its number, and SPARE is a second one of the first. */
#define CHILD MEMBERS
#define LAST (MEMBERS + 1)
#define SPARE (MEMBERS + 2)
#define DESCRIPTIONS (MEMBERS + 3)
#define SEGMENTS (MEMBERS + 3)

#define BIT(number) (1 << (number))
#define IN(set, number) (((set) >> (number)) & 1)

/* A step of a thread of the process `me`: it dies with any of them. MOMENT waits for its condition. */
#undef STEP
#if DEATHS > 0
#define MOMENT(point, condition, ...)                                                                                  \
    if                                                                                                                 \
    :: atomic { IN(living, me) && (condition) -> __VA_ARGS__ }                                                         \
    :: atomic { IN(living, me) && deaths < DEATHS -> deaths++; goto dead }                                             \
    :: atomic { !IN(living, me) -> goto dead }                                                                         \
    fi
#else
#define MOMENT(point, condition, ...) atomic { (condition) -> __VA_ARGS__ }
#endif
#define STEP(point, ...) MOMENT(point, true, __VA_ARGS__)

/* The kernel's. */
byte name, ring;             /* the segments whose roster and ring they mean, or 0 */
byte on[SEGMENTS + 1];       /* the descriptions of a segment, also those closed whose process has it mapped */
byte has[DESCRIPTIONS];      /* the processes that have a description */
byte door, attachments, publishers, roster; /* the descriptions that have locked such a byte */
byte living;

/* In a segment. */
bool sealed[SEGMENTS + 1];
bool persistent[SEGMENTS + 1];
byte lock[SEGMENTS + 1]; /* the publish lock: 0, or a token */

/* In a process: of its attachment, by its description. */
byte left;
byte closed; /* has no descriptor any more */
#ifdef THREADS
byte mutex; /* roster_mutex: one thread leaves, or has the roster's lock */
#endif
#ifdef FORKS
byte guard; /* of the process */
#endif
#ifdef LATE
byte leaving;
byte behind;     /* the segment whose door the first process has in order to open it again, or 0 */
bool collecting; /* and is in a call of Python's collector */
#endif
byte gone; /* the processes that have left */

/* What nobody in the system knows. */
bool odd[SEGMENTS + 1]; /* half written */
byte home;   /* the descriptions of those that have attached and not left */
byte inside; /* those of which a thread has the publish lock, and may write */
byte k, each;

#ifdef PYTHON_FORK
#define ATTACHING (BIT(MEMBERS + 1) - 1)
#else
#define ATTACHING (BIT(MEMBERS) - 1)
#endif

#define TOKEN (d + 1)
#define OTHERS (on[s] & ~BIT(d))
#define DEAD(token) (!IN(closed, d) && token != TOKEN && !IN(publishers, token - 1)) /* the kernel is asked */

#ifdef FORKS
#define GUARD_IS_FREE !IN(guard, me)
#define GUARD_ENTER MOMENT(_, GUARD_IS_FREE, guard = guard | BIT(me))
#define GUARD_LEAVE guard = guard & ~BIT(me)
#else
#define GUARD_IS_FREE true
#define GUARD_ENTER skip
#define GUARD_LEAVE skip
#endif

/* --- the kernel --- */

/* A segment without a name and without a descriptor is no more. */
inline forget(segment)
{
    if
    :: segment && name != segment && ring != segment && !on[segment] ->
        sealed[segment] = false;
        persistent[segment] = false;
        lock[segment] = 0;
        odd[segment] = false
    :: else
    fi
}

inline let_go(description, process)
{
    if
    :: IN(has[description], process) ->
        has[description] = has[description] & ~BIT(process);
        if
        :: !has[description] ->
            door = door & ~BIT(description);
            attachments = attachments & ~BIT(description);
            publishers = publishers & ~BIT(description);
            roster = roster & ~BIT(description);
            home = home & ~BIT(description);
            inside = inside & ~BIT(description);
            closed = closed & ~BIT(description);
            left = left & ~BIT(description);
            for (k : 1 .. SEGMENTS) {
                on[k] = on[k] & ~BIT(description);
                forget(k)
            }
            k = 0
        :: else
        fi
    :: else
    fi
}

inline close_all(process)
{
    for (each : 0 .. DESCRIPTIONS - 1) {
        let_go(each, process)
    }
    each = 0
}

inline share_all(process, other)
{
    for (k : 0 .. DESCRIPTIONS - 1) {
        has[k] = has[k] | (IN(has[k], process) -> BIT(other) : 0)
    }
    k = 0
}

inline die()
{
    if
    :: IN(living, me) ->
        living = living & ~BIT(me);
        close_all(me)
    :: else
    fi
}

inline unlink_name()
{
    assert(!(home & on[name]));
    k = name;
    name = 0;
    forget(k);
    k = 0
}

inline unlink_ring()
{
    assert(!(home & on[ring]));
    k = ring;
    ring = 0;
    forget(k);
    k = 0
}

/* eb_bus_remove */
inline remove()
{
#ifdef MUTANT_roster_first
    STEP(roster_unlinked, unlink_name());
    STEP(ring_unlinked, unlink_ring())
#else
    STEP(ring_unlinked, unlink_ring());
    STEP(roster_unlinked, unlink_name())
#endif
}

/* The mapping stays, and with it the segment. */
inline close_descriptor()
{
    if
    :: has[d] == BIT(me) ->
        door = door & ~BIT(d);
        attachments = attachments & ~BIT(d);
        publishers = publishers & ~BIT(d);
        roster = roster & ~BIT(d)
    :: else
    fi;
    closed = closed | BIT(d);
    assert(!IN(door | attachments | publishers, d))
}

/* --- the publish lock --- */

/* take_over; lock.pml has more of it. */
inline take_over()
{
#if !defined(MUTANT_take_over_after_leaving) && !defined(MUTANT_refused_after_take_over)
    STEP(_, refused = IN(left, d));
#endif
    if
    :: !refused ->
        STEP(repair_taken, /* [lock] */
            if
            :: lock[s] == owner ->
                assert(!(inside & on[s]));
                lock[s] = TOKEN;
                mine = true;
#ifdef MUTANT_refused_after_take_over
                inside = inside | (IN(left, d) -> 0 : BIT(d))
#else
                inside = inside | BIT(d)
#endif
            :: else
            fi);
#ifdef MUTANT_refused_after_take_over
        if
        :: mine -> STEP(_, refused = IN(left, d))
        :: else
        fi;
        if
        :: mine && refused -> STEP(_, lock[s] = (lock[s] == TOKEN -> owner : lock[s]); mine = false)
        :: else
        fi;
#endif
        if
        :: mine -> STEP(repair_mended, assert(!(inside & OTHERS)); odd[s] = false)
        :: else
        fi
    :: else
    fi;
    owner = 0
}

/* eb_bus_lock_publish: `mine`, or `refused` because the process has left, also when a slice is over. */
inline lock_publish()
{
    do
    :: mine || refused -> break
    :: else ->
        MOMENT(publish_locked, !lock[s] || DEAD(lock[s]) || IN(left, d), /* [lock] */
            if
            :: !lock[s] ->
                assert(!(inside & on[s]));
                lock[s] = TOKEN;
                mine = true;
                inside = inside | (IN(left, d) -> 0 : BIT(d))
            :: lock[s] && DEAD(lock[s]) -> owner = lock[s]
            :: else -> refused = true
            fi);
        if
        :: owner -> take_over()
        :: else
        fi
    od
}

inline unlock_publish()
{
#ifdef MUTANT_refused_unlocks_by_store
    STEP(lock_released,
        assert(!IN(inside, d) || lock[s] == TOKEN);
        lock[s] = (refused || lock[s] == TOKEN -> 0 : lock[s]);
        inside = inside & ~BIT(d);
        mine = false)
#else
    STEP(lock_released, /* [lock] */
        assert(!IN(inside, d) || lock[s] == TOKEN);
        lock[s] = (lock[s] == TOKEN -> 0 : lock[s]);
        inside = inside & ~BIT(d);
        mine = false)
#endif
}

inline publish()
{
#ifdef MUTANT_look_at_left_before_lock
    STEP(_, refused = IN(left, d));
#endif
    lock_publish();
    if
    :: mine ->
#if !defined(MUTANT_no_look_at_left) && !defined(MUTANT_look_at_left_before_lock)
        STEP(_, refused = IN(left, d));
#endif
        if
        :: !refused ->
            STEP(publish_copied, assert(lock[s] == TOKEN && !odd[s]); odd[s] = true);
            STEP(publish_committed, assert(lock[s] == TOKEN && odd[s]); odd[s] = false);
        :: else
        fi;
        unlock_publish()
    :: else
    fi;
    refused = false
}

/* --- open --- */

#ifdef PERSIST
#define WISHED (me != 1) /* all but one want it to stay */
#define STAYS(segment) (persistent[segment] || WISHED)
#else
#define STAYS(segment) persistent[segment]
#endif

/* eb_is_alone: whether nobody else is there; each look is one call. */
inline count()
{
    STEP(alone_counted, alone = TRUTH(!(attachments & OTHERS)));
#ifndef MUTANT_count_without_publishers
    if
    :: alone -> STEP(alone_counted, alone = TRUTH(!(publishers & OTHERS)))
    :: else
    fi
#endif
}

#ifdef FAILS
inline may_fail()
{
    if
    :: me == FAILING -> failed = true; goto half_way
    :: true
    fi
}
#else
#define may_fail() skip
#endif

#ifdef LATE
/* Python collects the first attachment in the thread that is in the middle of this. */
inline collect()
{
    STEP(_, collecting = true; run leaver(me, SPARE, 1, true));
    MOMENT(_, !collecting, skip)
}

inline may_collect()
{
    if
    :: !me && !IN(left, SPARE) -> collect()
    :: true
    fi
}

/* leave_late, or what has not been collected is left now. */
inline leave_late()
{
#ifdef MUTANT_collected_is_forgotten
    if
    :: !me && !IN(closed, SPARE) && !IN(left, SPARE) -> collect()
    :: else
    fi
#else
    if
    :: !me && !IN(closed, SPARE) -> collect()
    :: else
    fi
#endif
}
#define GO_INSIDE behind = (me -> behind : s)
#define GO_OUTSIDE behind = (me -> behind : 0)
#else
#define may_collect() skip
#define leave_late() skip
#define GO_INSIDE skip
#define GO_OUTSIDE skip
#endif

/* eb_bus_attach */
inline attach()
{
    STEP(attached,
        assert(name == s && ring == s && sealed[s] && !(alone && odd[s]));
        attachments = attachments | BIT(d));
    may_fail();
    STEP(publisher_entered, publishers = publishers | BIT(d); home = home | BIT(d))
}

/* Behind the door of one's own segment. */
inline make()
{
    STEP(_, unlink_ring());
    STEP(_, assert(!ring); ring = s);
    STEP(format_written, odd[s] = true);
    may_fail();
    STEP(format_roster_signed, odd[s] = false; sealed[s] = true);
    may_fail()
}

/* repair_alone: nobody holds the lock, nobody writes. */
inline repair()
{
    STEP(_, assert(!(home & OTHERS) && !(inside & OTHERS)); odd[s] = false);
    STEP(alone_locked, assert(!(home & OTHERS) && !(inside & OTHERS)); lock[s] = 0)
}

inline have_it_open()
{
    on[s] = on[s] | BIT(d);
    has[d] = BIT(me)
}

inline create()
{
    if
    :: !name ->
        s = 1;
        do
        :: on[s] || ring == s -> s++
        :: else -> break
        od;
        assert(s <= SEGMENTS);
        name = s;
        created = true;
        have_it_open()
    :: else
    fi
}

inline leave_door()
{
    if
    :: at_door -> STEP(door_left, door = door & ~BIT(d); at_door = false; GO_OUTSIDE)
    :: else
    fi
}

inline open_bus() /* from `again` on; ends behind it at `attached`, or with `failed` where it was not attached */
{
    STEP(_,
        s = name;
        if
        :: s -> have_it_open()
        :: else
        fi);
    if
    :: !s -> STEP(_, create())
    :: else
    fi;
    if
    :: !s -> goto again
    :: else
    fi;
    may_fail();
    may_collect();
    MOMENT(door_entered, !(door & OTHERS), door = door | BIT(d); at_door = true; GO_INSIDE);
#ifndef MUTANT_no_second_look
    STEP(looked_up_again, useless = TRUTH(name != s));
#endif
    may_collect();
    if
    :: !useless ->
        count();
        STEP(_,
            fresh = created && !sealed[s];
#if defined(MUTANT_join_unsigned)
            useless = alone && !created && sealed[s] && !STAYS(s);
#elif defined(MUTANT_no_look_at_ring)
            useless = alone && !fresh && !(sealed[s] && STAYS(s));
#else
            useless = alone && !fresh && !(sealed[s] && STAYS(s) && ring);
#endif
            doomed = useless)
    :: else
    fi;
    if
    :: useless -> goto half_way
    :: else
    fi;
    may_fail();
    if
    :: fresh -> make()
    :: else ->
#ifdef MUTANT_repair_without_count
        alone = true;
#endif
#ifndef MUTANT_alone_without_repair
        if
        :: alone -> repair()
        :: else
        fi
#endif
    fi;
#ifndef MUTANT_attach_after_door
    attach();
#endif
#ifdef PERSIST
    if
    :: WISHED -> STEP(persist_stored, persistent[s] = true)
    :: else
    fi;
#endif
    may_collect();
#ifdef FAILS
    if
    :: me == FAILING -> failed = true; goto attached
    :: true
    fi;
#endif
    leave_door();
#ifdef MUTANT_attach_after_door
    attach();
#endif
    goto attached;
half_way: /* eb_bus_opened where it is not attached: discard, let_go */
    if
    :: created && !doomed ->
        if
        :: at_door
        :: MOMENT(door_entered, !at_door && !(door & OTHERS), door = door | BIT(d); at_door = true)
        :: MOMENT(_, !at_door && (door & OTHERS), skip)
        fi;
        if
        :: at_door -> count()
        :: else -> alone = false
        fi;
#ifdef MUTANT_discard_without_name
        doomed = alone
#else
        if
        :: alone -> STEP(_, doomed = TRUTH(name == s))
        :: else
        fi
#endif
    :: else
    fi;
    if
    :: doomed -> remove()
    :: else
    fi;
#ifdef MUTANT_fail_without_unlock
    if
    :: !failed -> leave_door()
    :: else
    fi;
#else
#ifdef FAILS
    if
    :: IN(attachments, d) -> STEP(detached, attachments = attachments & ~BIT(d))
    :: else
    fi;
#endif
#ifndef MUTANT_close_without_unlock
    leave_door(); /* by name: a child that no hook saw may have it too */
#endif
#endif
    STEP(_,
        let_go(d, me);
        assert(!IN(door | attachments | publishers, d));
#ifdef RAW_FORK
        d = (has[d] -> SPARE : d);
#endif
        GO_OUTSIDE;
        at_door = false;
        s = 0;
        useless = false;
        doomed = false;
        alone = false;
        created = false);
    leave_late();
    if
    :: failed -> STEP(_, gone = gone | BIT(me)); goto over
    :: else
    fi;
#ifdef RETRIES
    if
    :: tries == RETRIES -> goto dead /* at its deadline */
    :: else -> tries++
    fi;
#endif
    goto again;
attached:
#ifdef RETRIES
    tries = 0;
#endif
    alone = false;
    created = false
}

/* --- leave --- */

#if defined(MUTANT_leave_twice_at_once) || defined(MUTANT_leave_beside_roster)
#define MUTEX_ENTER skip
#define MUTEX_LEAVE skip
#else
#define MUTEX_ENTER MOMENT(_, !IN(mutex, d), mutex = mutex | BIT(d))
#define MUTEX_LEAVE STEP(_, mutex = mutex & ~BIT(d))
#endif

#ifdef MUTANT_fork_beside_leaving
#define MAY_SAY_SO true
#else
#define MAY_SAY_SO GUARD_IS_FREE /* a child that is being forked is counted by now, or will not be attached */
#endif

#ifdef LATE
#define IS_LEAVING IN(leaving, d)
#ifdef MUTANT_collected_waits
#define MUST_WAIT skip
#else
#define MUST_WAIT STEP(_, late = (own && behind == s))
#endif
#else
#define IS_LEAVING false
#define MUST_WAIT skip
#endif

#ifdef MUTANT_collected_is_gone
#define PUT_OFF false
#else
#define PUT_OFF late
#endif

#if defined(MUTANT_leave_without_door) || defined(MUTANT_collected_is_gone)
#define COUNTS true
#else
#define COUNTS at_door
#endif

#ifdef MUTANT_give_up_and_release
#define KEEPS_BYTE false
#else
#define KEEPS_BYTE sending
#endif

#ifdef MUTANT_give_up_and_close
#define KEEPS_DESCRIPTOR false
#else
#define KEEPS_DESCRIPTOR sending
#endif

/* Before the door: from here on nobody of this process sends. */
inline stop()
{
#ifdef MUTANT_publisher_byte_first
    STEP(_, publishers = publishers & ~BIT(d));
#endif
#ifdef GIVES_UP /* at its deadline: a thread may be publishing, and needs its byte */
    if
    :: lock_publish()
    :: MOMENT(_, lock[s], sending = true)
    fi;
#elif !defined(MUTANT_left_without_lock)
    lock_publish();
#endif
    MOMENT(sending_stopped, MAY_SAY_SO,
        left = left | BIT(d);
#ifdef LATE
        leaving = leaving | BIT(d);
        gone = gone | (d == SPARE -> 0 : BIT(me));
#else
        gone = gone | BIT(me);
#endif
        home = home & ~BIT(d));
    if
    :: mine -> unlock_publish()
    :: else
    fi;
    refused = false
}

/* Behind the door, or without it: who then neither counts nor unlinks. */
inline finish()
{
    if
    :: COUNTS -> count()
    :: else -> alone = false
    fi;
#ifdef MUTANT_leave_without_count
    alone = true;
#endif
    if
    :: alone -> STEP(_, alone = TRUTH(!persistent[s] && name == s))
    :: else
    fi;
    if
    :: alone -> remove()
    :: else
    fi;
    alone = false;
    GUARD_ENTER;
#ifdef MUTANT_release_by_range
    STEP(detached,
        publishers = publishers & ~BIT(d);
        attachments = attachments & ~BIT(d);
        roster = roster & ~BIT(d);
        door = door & ~BIT(d));
#else
    if
    :: !KEEPS_BYTE -> STEP(publisher_left, publishers = publishers & ~BIT(d))
    :: else
    fi;
    STEP(detached, attachments = attachments & ~BIT(d));
#endif
    STEP(door_left,
        door = door & ~(at_door -> BIT(d) : 0);
        at_door = false;
#ifdef LATE
        leaving = leaving & ~BIT(d);
        behind = (d -> behind : 0);
#endif
        if
        :: !KEEPS_DESCRIPTOR -> close_descriptor()
        :: else
        fi;
        GUARD_LEAVE);
    sending = false
}

/* `at_door` already where it has failed in opening. */
inline leave()
{
#ifdef THREADS
    MUTEX_ENTER;
    if
    :: !IN(left, d) -> stop()
    :: IN(left, d) && IS_LEAVING
    :: IN(left, d) && !IS_LEAVING -> refused = true
    fi;
#else
    stop();
#endif
    if
    :: !refused ->
        MUST_WAIT;
        if
        :: late || at_door
        :: !late && !at_door ->
#ifdef GIVES_UP /* at its deadline */
            if
            :: MOMENT(door_entered, !(door & OTHERS), door = door | BIT(d); at_door = true)
            :: MOMENT(_, door & OTHERS, skip)
            fi
#elif !defined(MUTANT_leave_without_door)
            MOMENT(door_entered, !(door & OTHERS), door = door | BIT(d); at_door = true)
#else
            skip
#endif
        fi;
        if
        :: PUT_OFF
        :: !PUT_OFF -> finish()
        fi
    :: else
    fi;
    refused = false;
    late = false
#ifdef THREADS
    ;
    MUTEX_LEAVE
#endif
}

/* --- processes and threads --- */

#define LOCALS byte owner; bool mine, refused, alone, at_door, sending, late

proctype sender(byte me, d, s)
{
    byte owner;
    bool mine, refused;
    publish();
    goto over;
dead:
    atomic { die() }
over:
    skip
}

#ifdef KEEPER
/* eb_bus_lock_roster */
proctype keeper(byte me, d)
{
    bool kept;
    MOMENT(_, !IN(mutex, d), mutex = mutex | BIT(d));
    MOMENT(roster_locked, !roster || IN(closed, d),
        roster = roster | (IN(closed, d) -> 0 : BIT(d));
        kept = IN(roster, d));
    STEP(_, assert(!kept || IN(roster, d)));
    STEP(roster_unlocked, assert(!kept || IN(roster, d)); roster = roster & ~BIT(d));
    STEP(_, mutex = mutex & ~BIT(d));
    goto over;
dead:
    atomic { die() }
over:
    skip
}
#endif

/* `own`: what the first process's thread that opens does in Python's collector. */
proctype leaver(byte me, d, s; bool own)
{
    LOCALS;
    leave();
#ifdef LATE
    STEP(_, collecting = false);
#endif
    goto over;
dead:
    atomic { die() }
over:
    skip
}

#ifdef PYTHON_FORK
proctype child(byte parent, s; bool attached)
{
    byte me = CHILD, d = CHILD;
    LOCALS;
#ifdef MUTANT_parents_description
    d = parent;
#else
    STEP(_, let_go(parent, me));
#endif
    if
    :: !attached -> STEP(_, gone = gone | BIT(me)); goto over
    :: else
    fi;
#ifdef MUTANT_bytes_after_fork
    STEP(attached, attachments = attachments | BIT(d));
    STEP(publisher_entered, publishers = publishers | BIT(d));
#endif
#ifndef QUIET
    publish();
#endif
    leave();
    goto over;
dead:
    atomic { die() }
over:
    skip
}

/* The hooks around a fork, of which those that leave take the guard too. */
inline fork_it()
{
    GUARD_ENTER;
#ifdef MUTANT_fork_after_leaving
    STEP(_, refused = IN(closed, d));
#else
    STEP(_, refused = IN(left, d));
#endif
    if
    :: !refused ->
        STEP(_, on[s] = on[s] | BIT(CHILD); has[CHILD] = BIT(me));
#if !defined(MUTANT_bytes_after_fork) && !defined(MUTANT_parents_description)
        STEP(attached, attachments = attachments | BIT(CHILD));
        STEP(child_attached, publishers = publishers | BIT(CHILD))
#endif
    :: else
    fi;
    if
    :: STEP(_,
        share_all(me, CHILD);
        living = living | BIT(CHILD);
        home = home | (refused -> 0 : BIT(CHILD));
        run child(d, s, !refused))
    :: skip /* it fails */
    fi;
    STEP(_, let_go(CHILD, me); GUARD_LEAVE);
    refused = false
}
#endif

#ifdef C_FORK
/* It has no attachment, and lives on. */
proctype child()
{
    byte me = CHILD, d = CHILD;
#ifndef MUTANT_c_child_keeps_descriptor
    STEP(_, close_all(me));
#endif
    goto over;
dead:
    atomic { die() }
over:
    skip
}

inline fork_it()
{
    GUARD_ENTER;
    STEP(_, share_all(me, CHILD); living = living | BIT(CHILD); run child());
    STEP(_, GUARD_LEAVE)
}
#endif

#ifdef RAW_FORK
/* It knows itself by the page that the kernel has wiped, and does nothing with what it shares. */
proctype raw_child()
{
    byte me = CHILD, d = CHILD;
#ifdef MUTANT_raw_child_leaves
    byte s;
    LOCALS;
    atomic {
        d = (IN(has[0], me) -> 0 : SPARE);
        for (k : 1 .. SEGMENTS) {
            s = (IN(on[k], d) -> k : s)
        }
        k = 0
    }
    if
    :: IN(attachments, d) -> leave()
    :: else
    fi;
#endif
dead:
    atomic { living = living & ~BIT(me); close_all(me) }
}

/* A thread of the first process, at any time. */
proctype raw_fork()
{
    byte me, d;
    STEP(_, share_all(me, CHILD); living = living | BIT(CHILD); run raw_child());
dead:
    skip
}
#endif

proctype member(byte me)
{
    byte d = me, s;
    LOCALS;
    bool created, fresh, useless, doomed, failed;
#ifdef LATE
    bool own;
#endif
#ifdef RETRIES
    byte tries;
#endif
again:
#ifdef ATTACHED
    if
    :: me != LAST -> s = 1
    :: else -> open_bus()
    fi;
#else
    open_bus();
#endif
    if
    :: failed -> leave(); leave_late(); goto over
    :: else -> leave_late()
    fi;
    if
    :: me == 0 ->
        atomic {
#if SENDERS > 0
            run sender(me, d, s);
#endif
#if SENDERS > 1
            run sender(me, d, s);
#endif
#ifdef KEEPER
            run keeper(me, d);
#endif
#if defined(FORKS) || defined(TWICE)
            run leaver(me, d, s, false);
#endif
            skip
        }
#ifdef FORKS
        fork_it();
        goto over
#endif
    :: else
    fi;
#ifdef QUIET
    if
    :: me == LAST -> publish()
    :: else
    fi;
#else
    publish();
#endif
    leave();
    goto over;
dead:
    atomic { die() }
over:
    skip
}

init
{
    atomic {
        living = BIT(MEMBERS) - 1;
#if defined(ATTACHED) || defined(LATE)
        name = 1;
        ring = 1;
#ifdef LATE
        on[1] = BIT(SPARE);
        has[SPARE] = BIT(0);
#else
        on[1] = living;
        for (k : 0 .. MEMBERS - 1) {
            has[k] = BIT(k)
        }
        k = 0;
#endif
        sealed[1] = true;
        attachments = on[1];
        publishers = on[1];
        home = on[1];
#endif
        for (k : 0 .. MEMBERS - 1) {
            run member(k)
        }
        k = 0;
#ifdef RAW_FORK
        run raw_fork()
#endif
    }
    atomic { /* when all that had a bus have left or died */
        !(living & ~gone & ATTACHING) ->
        living = living | BIT(LAST);
        run member(LAST)
    }
    timeout;
    assert(!door && !attachments && !roster);
#ifndef GIVES_UP
    assert(!publishers);
#endif
#ifndef PERSIST
    assert(deaths || (!name && !ring))
#endif
}
