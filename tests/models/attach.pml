/* Opening, forking, leaving and dying: csrc/attachment.c (open, the hooks of a fork, leave), csrc/roster.c (the bytes),
 * csrc/bus.c (the publish lock, repair_alone).
 *
 * MEMBERS processes open the bus of one name, publish and leave it; the first may have threads that publish (SENDERS)
 * or hold the roster's lock (KEEPER), and may fork: through Python (PYTHON_FORK), by C (C_FORK), or behind the back of
 * all hooks (RAW_FORK). When all have left or died one more opens, publishes and leaves. A description is an open file
 * description of the roster; it is known by a number, like its bytes and its token. The kernel drops what it has locked
 * when the last process that has it closes it or dies: `has`. Ring and roster are one segment here. A segment that
 * nobody has open and no name means is forgotten, so its number comes again. A process that has left lives on, and with
 * it those of its threads that come late. One call of fcntl is one step, also where it looks for any lock in a range.
 *
 * CHECK names -DMEMBERS=2 -DQUIET -DDEATHS=2: nobody who lives and has not left finds the name gone or another segment under it, whoever makes, replaces and leaves the bus and dies at any step; the last one opens a bus that is whole
 * CHECK three -DMEMBERS=3 -DQUIET -DRETRIES=1: the same of three at once, who give up when they had to start over twice; when all have left the name is gone
 * CHECK persist -DMEMBERS=2 -DPERSIST -DDEATHS=2: a bus that stays is repaired by one who is alone; a publisher is taken over only when it is dead
 * CHECK threads -DMEMBERS=2 -DSENDERS=1 -DKEEPER: who leaves waits for a thread that is publishing and refuses those that come late; no other thread loses the roster's lock; when all have left the name is gone
 * CHECK late -DMEMBERS=2 -DSENDERS=2 -DPERSIST -DDEATHS=1: threads that come late neither write nor repair, and take the publish lock from nobody, though somebody died with it
 * CHECK two_late -DMEMBERS=3 -DSENDERS=2 -DATTACHED -DDEATHS=1: the same while others stay on the bus: what the dead left half written is repaired before the next one writes
 * CHECK twice -DMEMBERS=2 -DQUIET -DTWICE -DDEATHS=1: two threads that leave at once are one that leaves
 * CHECK gives_up -DMEMBERS=2 -DSENDERS=1 -DPERSIST -DGIVES_UP -DDEATHS=1: who leaves and does not get the door or the publish lock in time does less, and harms nobody: nobody repairs beside its threads
 * CHECK python_fork -DMEMBERS=2 -DQUIET -DPYTHON_FORK -DDEATHS=1: the child of a fork through Python is counted from its first moment on, whoever leaves or dies, another thread of its parent too
 * CHECK c_fork -DMEMBERS=2 -DC_FORK -DDEATHS=1: the child of a fork by C keeps nothing of its parent, dead or alive
 * CHECK raw_fork -DMEMBERS=2 -DRAW_FORK -DDEATHS=1: the child of a fork that no hook saw, at any step of its parent, takes nothing from it; while it lives nothing of its dead parent is unlinked; what a living parent gave back is free at once
 * CHECK raw_stays -DMEMBERS=2 -DRAW_FORK -DPERSIST -DDEATHS=1: the same of a bus that stays: nothing is repaired either
 *
 * MUTANT no_second_look names: who has entered the door does not look the name up again
 * MUTANT leave_without_door names: who leaves counts and unlinks without the door
 * MUTANT leave_without_count names: who leaves unlinks whoever is there
 * MUTANT attach_after_door names: who opens locks its own byte when it has left the door
 * MUTANT join_unsigned names: a segment whose maker died half-way is joined
 * MUTANT repair_without_count persist: who opens a bus that stays repairs it whoever is there
 * MUTANT alone_without_repair persist: who is alone on a bus that stays takes it as it is
 * MUTANT release_by_range threads: who leaves unlocks all from the first byte to the last
 * MUTANT no_look_at_left threads: who has got the publish lock does not look whether its process has left by now
 * MUTANT look_at_left_before_lock threads: it looks before it has got the lock, not after
 * MUTANT publisher_byte_first threads: the publisher's byte is released before the publish lock is taken
 * MUTANT left_without_lock threads: who leaves says so without the publish lock
 * MUTANT refused_unlocks_by_store late: who was refused unlocks by a store, not by a compare-and-swap
 * MUTANT take_over_after_leaving late: who comes late takes over from a dead owner and repairs before it looks whether its process has left
 * MUTANT refused_after_take_over two_late: it looks right after it has taken over, and gives the dead owner's token back
 * MUTANT count_without_publishers gives_up: only attachments are counted
 * MUTANT give_up_and_release gives_up: who leaves without the publish lock releases its publisher's byte too
 * MUTANT bytes_after_fork python_fork: the child locks its bytes after the fork
 * MUTANT parents_description python_fork: the child goes on with its parent's description
 * MUTANT leave_twice_at_once twice: two threads of a process leave at once: the door, locked through one description, keeps neither out
 * MUTANT fork_beside_leaving python_fork: a fork does not wait for a thread that leaves
 * MUTANT c_child_keeps_descriptor c_fork: the child of a fork by C keeps its parent's descriptor
 * MUTANT raw_child_leaves raw_fork: the child of a fork that no hook saw leaves as its parent would
 * MUTANT close_without_unlock raw_fork: who starts over closes the descriptor without leaving the door
 */
#include "step.h"

#ifndef SENDERS
#define SENDERS 0
#endif
#if defined(PYTHON_FORK) || defined(C_FORK) || defined(TWICE)
#define LISTED
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
byte name;                   /* the segment that it means, or 0 */
byte on[SEGMENTS + 1];       /* the descriptions of a segment */
byte has[DESCRIPTIONS];      /* the processes that have a description */
byte door, attachments, publishers, roster; /* the descriptions that have locked such a byte */
byte living;

/* In a segment. */
bool sealed[SEGMENTS + 1];
bool persistent[SEGMENTS + 1];
byte lock[SEGMENTS + 1]; /* the publish lock: 0, or a token */

/* In a process. */
byte left; /* the processes that have */
#ifdef LISTED
byte busy; /* those of which a thread forks or leaves: the lock of the list of attachments */
#endif

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
#define DEAD(token) (token != TOKEN && !IN(publishers, token - 1)) /* the kernel is asked */

/* --- the kernel --- */

/* A segment without a name and without a descriptor is no more. */
inline forget(segment)
{
    if
    :: segment && name != segment && !on[segment] ->
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

/* --- the publish lock --- */

/* take_over; lock.pml has more of it. */
inline take_over()
{
#if !defined(MUTANT_take_over_after_leaving) && !defined(MUTANT_refused_after_take_over)
    STEP(_, refused = IN(left, me));
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
                inside = inside | (IN(left, me) -> 0 : BIT(d))
#else
                inside = inside | BIT(d)
#endif
            :: else
            fi);
#ifdef MUTANT_refused_after_take_over
        if
        :: mine -> STEP(_, refused = IN(left, me))
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

/* eb_bus_lock_publish: `mine`, or `refused` because the process has left. */
inline lock_publish()
{
    do
    :: mine || refused -> break
    :: else ->
        MOMENT(publish_locked, !lock[s] || DEAD(lock[s]), /* [lock] */
            if
            :: !lock[s] ->
                assert(!(inside & on[s]));
                lock[s] = TOKEN;
                mine = true;
                inside = inside | (IN(left, me) -> 0 : BIT(d))
            :: else -> owner = lock[s]
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
    STEP(_, refused = IN(left, me));
#endif
    lock_publish();
    if
    :: mine ->
#if !defined(MUTANT_no_look_at_left) && !defined(MUTANT_look_at_left_before_lock)
        STEP(_, refused = IN(left, me));
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

/* Whether nobody else is there; each look is one call. */
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

inline attach()
{
    STEP(attached, assert(name == s); attachments = attachments | BIT(d); home = home | BIT(d))
}

inline enter_as_publisher()
{
    STEP(publisher_entered, publishers = publishers | BIT(d))
}

/* Behind the door of one's own segment. */
inline make()
{
    attach();
    STEP(format_written, odd[s] = true);
    STEP(format_roster_signed, odd[s] = false; sealed[s] = true);
#ifdef PERSIST
    STEP(persist_stored, persistent[s] = true);
#endif
    enter_as_publisher()
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
        :: on[s] -> s++
        :: else -> break
        od;
        assert(s <= SEGMENTS);
        name = s;
        created = true;
        have_it_open()
    :: else
    fi
}

inline open_bus() /* from `again` on */
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
    MOMENT(door_entered, !(door & OTHERS), door = door | BIT(d));
#ifndef MUTANT_no_second_look
    STEP(_, useless = TRUTH(name != s));
#endif
    if
    :: !useless ->
        count();
#ifdef MUTANT_join_unsigned
        useless = alone && !created && sealed[s] && !persistent[s];
#else
        useless = alone && !(created && !sealed[s]) && !(sealed[s] && persistent[s]);
#endif
        if
        :: useless -> STEP(_, unlink_name())
        :: else
        fi
    :: else
    fi;
    if
    :: useless ->
#ifndef MUTANT_close_without_unlock
        STEP(door_left, door = door & ~BIT(d)); /* by name: a child that no hook saw may have it too */
#endif
        STEP(_,
            let_go(d, me);
            assert(!IN(door | attachments | publishers, d));
#ifdef RAW_FORK
            d = (has[d] -> SPARE : d);
#endif
            s = 0;
            useless = false;
            alone = false;
            created = false);
#ifdef RETRIES
        if
        :: tries == RETRIES -> goto dead /* at its deadline */
        :: else -> tries++
        fi;
#endif
        goto again
    :: else
    fi;
    if
    :: alone && created && !sealed[s] -> make()
    :: else ->
#ifndef MUTANT_attach_after_door
        attach();
#endif
#ifdef MUTANT_repair_without_count
        alone = true;
#endif
#ifndef MUTANT_alone_without_repair
        if
        :: alone -> repair()
        :: else
        fi;
#endif
#ifndef MUTANT_attach_after_door
        enter_as_publisher()
#endif
    fi;
    STEP(door_left, assert(sealed[s] && !(alone && odd[s])); door = door & ~BIT(d));
#ifdef MUTANT_attach_after_door
    if
    :: !IN(attachments, d) ->
        attach();
        enter_as_publisher()
    :: else
    fi;
#endif
#ifdef RETRIES
    tries = 0;
#endif
    alone = false;
    created = false
}

/* --- leave --- */

/* Behind the list's lock, which no other thread that leaves or forks has. */
inline give_back()
{
#ifdef GIVES_UP /* at its deadline: it does not count, and unlinks nothing */
    if
    :: MOMENT(door_entered, !(door & OTHERS), door = door | BIT(d))
    :: MOMENT(_, door & OTHERS, outside = true)
    fi;
#elif !defined(MUTANT_leave_without_door)
    MOMENT(door_entered, !(door & OTHERS), door = door | BIT(d));
#endif
#ifdef MUTANT_publisher_byte_first
    STEP(_, publishers = publishers & ~BIT(d));
#endif
#ifdef GIVES_UP /* at its deadline: a thread may be publishing, and needs its byte */
    if
    :: lock_publish()
    :: MOMENT(_, lock[s], gave_up = true)
    fi;
#elif !defined(MUTANT_left_without_lock)
    lock_publish();
#endif
    STEP(_, left = left | BIT(me); home = home & ~BIT(d));
    if
    :: mine -> unlock_publish()
    :: else
    fi;
    if
    :: !outside -> count()
    :: else
    fi;
#ifdef MUTANT_leave_without_count
    alone = true;
#endif
    if
    :: alone -> STEP(_, alone = TRUTH(!persistent[s] && name == s))
    :: else
    fi;
    if
    :: alone -> STEP(_, unlink_name())
    :: else
    fi;
    alone = false;
#ifdef MUTANT_release_by_range
    STEP(detached,
        publishers = publishers & ~BIT(d);
        attachments = attachments & ~BIT(d);
        roster = roster & ~BIT(d);
        door = door & ~BIT(d));
#else
#ifdef MUTANT_give_up_and_release
    gave_up = false;
#endif
    if
    :: !gave_up -> STEP(_, publishers = publishers & ~BIT(d)) /* by name: the roster's byte may be another thread's */
    :: else
    fi;
    STEP(detached, attachments = attachments & ~BIT(d));
#endif
    if
    :: !outside -> STEP(door_left, door = door & ~BIT(d))
    :: else
    fi;
    gave_up = false;
    outside = false
}

inline leave()
{
#if defined(MUTANT_fork_beside_leaving) || defined(MUTANT_leave_twice_at_once)
    give_back()
#elif defined(LISTED)
    MOMENT(_, !IN(busy, me), busy = busy | BIT(me));
    STEP(_, refused = IN(left, me));
    if
    :: !refused -> give_back()
    :: else
    fi;
    refused = false;
    STEP(_, busy = busy & ~BIT(me))
#else
    give_back()
#endif
}

/* --- processes and threads --- */

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

proctype keeper(byte me, d)
{
    MOMENT(roster_locked, !roster, roster = roster | BIT(d));
    STEP(_, assert(IN(roster, d)));
    STEP(roster_unlocked, assert(IN(roster, d)); roster = roster & ~BIT(d));
    goto over;
dead:
    atomic { die() }
over:
    skip
}

proctype leaver(byte me, d, s)
{
    byte owner;
    bool mine, refused, alone, gave_up, outside;
    leave();
    goto over;
dead:
    atomic { die() }
over:
    skip
}

#ifdef PYTHON_FORK
proctype child(byte parent, s)
{
    byte me = CHILD, d = CHILD, owner;
    bool mine, refused, alone, gave_up, outside;
#ifdef MUTANT_parents_description
    d = parent;
#else
    STEP(_, let_go(parent, me));
#endif
#ifdef MUTANT_bytes_after_fork
    STEP(attached, attachments = attachments | BIT(d));
    STEP(publisher_entered, publishers = publishers | BIT(d));
#endif
    publish();
    leave();
    goto over;
dead:
    atomic { die() }
over:
    skip
}

/* The hooks around a fork: nobody leaves meanwhile. */
inline fork_it()
{
    MOMENT(_, !IN(busy, me), busy = busy | BIT(me));
    STEP(_, refused = IN(left, me));
    if
    :: !refused ->
        STEP(_, on[s] = on[s] | BIT(CHILD); has[CHILD] = BIT(me));
#if !defined(MUTANT_bytes_after_fork) && !defined(MUTANT_parents_description)
        STEP(attached, attachments = attachments | BIT(CHILD));
        STEP(publisher_entered, publishers = publishers | BIT(CHILD));
#endif
        if
        :: STEP(_,
            share_all(me, CHILD);
            living = living | BIT(CHILD);
            home = home | BIT(CHILD);
            run child(d, s))
        :: skip /* it fails */
        fi;
        STEP(_, let_go(CHILD, me))
    :: else
    fi;
    refused = false;
    STEP(_, busy = busy & ~BIT(me))
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
    MOMENT(_, !IN(busy, me), busy = busy | BIT(me));
    STEP(_, share_all(me, CHILD); living = living | BIT(CHILD); run child());
    STEP(_, busy = busy & ~BIT(me))
}
#endif

#ifdef RAW_FORK
/* It knows itself by the page that the kernel has wiped, and does nothing with what it shares. */
proctype raw_child()
{
    byte me = CHILD, d = CHILD;
#ifdef MUTANT_raw_child_leaves
    byte s, owner;
    bool mine, refused, alone, gave_up, outside;
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
    byte d = me, s, owner;
    bool mine, refused, created, alone, useless, gave_up, outside;
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
#if defined(PYTHON_FORK) || defined(C_FORK) || defined(TWICE)
            run leaver(me, d, s);
#endif
            skip
        }
#if defined(PYTHON_FORK) || defined(C_FORK)
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
#ifdef ATTACHED
        name = 1;
        on[1] = living;
        sealed[1] = true;
        attachments = living;
        publishers = living;
        home = living;
        for (k : 0 .. MEMBERS - 1) {
            has[k] = BIT(k)
        }
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
        !(living & ~left & ATTACHING) ->
        living = living | BIT(LAST);
        run member(LAST)
    }
    timeout;
    assert(!door && !attachments && !roster);
#ifndef GIVES_UP
    assert(!publishers);
#endif
#ifndef PERSIST
    assert(deaths || !name)
#endif
}
