/* The bytes of both segments.
 *
 * WHO WRITES WHAT
 *   ring    publishers only. Its signature is written once; everything else only by the holder of the publish lock.
 *   roster  everybody attached. A slot belongs to the holder of the kernel lock on its byte; the waiter set, the two
 *           event counts and `persist` belong to all. A cursor, of a slot or of a group, is exchanged forward by its
 *           owner and by publishers, who move it on over records that the owner does not hear: whoever reads a record
 *           looks afterwards whether its cursor was moved past it, and trusts the record if it was not. A slot's figures
 *           are its subscriber's to write, and each word is true by itself (figures.c).
 * A subscriber maps the ring read-only, so what it may scribble on is the roster: publishers bound all they read there.
 *
 * LIFE OF A RECORD
 *   The stream is endless; a position is a byte offset in it and stands at `position % capacity` of the data, which is
 *   mapped twice in a row, so that no record wraps. Positions are compared by their difference only. (Going round 2^64
 *   itself needs a capacity that divides it, else the data offset jumps there: after some 58 years at 10 GB/s.)
 *   A record is a header of four words and a body, rounded up to eight bytes. Its first word, the sequence, is written
 *   by the publish *before* it: each commit leaves the next sequence number at the position where the next record will
 *   begin. So one store, of `committed`, makes a record and the sequence counter visible together. The body is the names
 *   of a topic past the table, the extension (origin and headers), then path and data, or a text without its brackets.
 *
 *   step                          killed right after it, the others see
 *   1 publish lock taken          nothing; whoever wants it finds its owner dead, takes it over, and repairs
 *   2 oldest moved forward        fewer old records, which no gated cursor still needed; `oldest` is a record's start
 *   3 header, body, next sequence nothing: all of it lies at or past `committed`. The sequence word at `committed` itself
 *                                 was written by the commit before and is not touched
 *   4 committed stored            the whole event
 *   5 topic counter raised        the whole event; a counter that step 5 did not reach is caught up by the repair, which
 *                                 compares the counters' sum with the sequence and recounts the last records
 *   6 publish lock released       the whole event; who sleeps is woken by the next publisher, or looks again by itself
 *   7 waiter's bit cleared        within EB_SLICE_NS: a sleeper looks by itself and raises its bit again
 *   8 sleeper woken               -
 *   Between 2 and 3 a note is written where its name has no value that holds, and numbered. Killed before 4, it is one of a
 *   position that is not committed, and the repair takes its number away before anybody else commits that much.
 *   A new topic is written behind the last entry and becomes visible with `topic_count`; before that nobody looks there.
 *
 *   The publish lock's word names its owner by a token, and the token a byte of the roster that its owner keeps locked: so
 *   the kernel says whether it lives. (A robust pthread mutex names it by a thread id, which in another PID namespace
 *   another thread has: when that one dies waiting, the kernel takes it for the owner and lets the next one in.)
 *
 * LIFE OF A SLOT
 *   FREE -> CLAIMED (byte locked, roster lock held) -> OPEN -> FREE. Its owner word carries a generation, which moves on
 *   at every step to FREE and to CLAIMED. Whoever dies with it in hand leaves the word as it is and the byte unlocked:
 *   a reaper takes the roster lock, looks at the byte again, and frees it. A member's holds a gate in own_gate.c only.
 *
 * LIFE OF A GROUP
 *   FREE -> OPEN -> FREE. The word carries a generation, which moves on with each removal. A member keeps the word that it
 *   joined under; another one is its end. Members write to the entry and to the group's slot without the roster lock, so
 *   neither is used anew while one of them lives: whose own slot names the entry.
 *
 *   step of a removal             killed right after it, the others see
 *   1 roster lock taken           nothing
 *   2 open moved on               no such group; its members find the end by themselves. Its slot still holds the gate:
 *                                 a publisher that waits for room reaps it
 *   3 slot no gate any more       the room that it held; what members still copy may be overwritten, so they ask
 *                                 `open` once more before they hand anything out
 *   4 all of its members woken    who waits for room looks by itself
 *
 * LIFE OF A CLAIM
 *   A claim is one event that a member has in hand, or that was given back. Claims stand on pages, which the groups of a
 *   bus share: a page is one group's until it is empty. Members of a group share its cursor under the group's lock, a word
 *   that holds its owner's token. Whoever finds the owner dead takes the lock over; what it may have to mend is the cursor,
 *   which must not be before a claim's end, and the group's list of its pages.
 *
 *   step                          killed right after it, the others see
 *   1 group lock taken            a dead owner; the next one takes the lock over
 *   2 page taken, then listed     in between: a page that the next owner of the lock lists
 *   3 claim's record written      nothing: its holder is still 0
 *   4 holder stored               a dead member's claim: it is claimed first by the next one, as it was before; the
 *                                 cursor is moved past it by whoever takes the lock over
 *   5 cursor stored, past all claims that were made
 *                                 the same
 *   6 gate stored, lock released  the same
 *   7 holder 0 (acknowledged)     nothing: the claim is free, and what was parked for it too
 *   A claim is given back by storing from when on it may be delivered again, then the holder: in between, it is a dead
 *   member's, to be delivered at once. A returned one is taken by storing the holder, then the count of deliveries, which
 *   is one more if the one before handed it out: in between it is a dead member's, as it was the one's before.
 *
 * PARKING
 *   What members have in hand for long leaves the ring: a publisher that finds the ring held back by a claim copies its
 *   record to the parking, behind the data of the ring, and exchanges the claim's place for that of the copy. Its holder
 *   looks after each copy of its own whether the place is still the same. What is free of the parking follows from the
 *   claims and the timetable alone: what no held claim names, nor what is to be sent later.
 *
 *   step                          killed right after it, the others see
 *   1 record copied               nothing: no claim names the copy
 *   2 place exchanged             the event in the parking; the gate does not know yet, and is computed anew
 *   3 gate raised                 the room that it held
 *   Claims at or past the group's cursor are not parked: whoever takes the lock over finds their ends there.
 *
 * TIMETABLE
 *   What is to be sent later lies in the parking as a whole record, whose sequence word is its number. Its entry in the
 *   timetable, at the end of the parking, says when it is due. All of it is written under the publish lock.
 *
 *   step of a scheduling          killed right after it, the others see
 *   1 record copied               nothing: no entry names it
 *   2 entry written, not due      nothing; it is used again, and so are the record's blocks
 *   3 entry counted in            the same
 *   4 number counted              the same; the number is nobody's
 *   5 `look` lowered              the same; whoever looks then finds nothing, and when to look next
 *   6 due stored                  the event, to be sent later
 *   7 publish lock released       the same; whoever looks too late for it looks by itself within EB_SLICE_NS
 *   8 a sleeper told              -
 *   Cancelled, an entry is not due any more: that one store decides. `look` is computed anew after it.
 *
 *   step of a sending             killed right after it, the next owner of the publish lock sees
 *   1 intention stored            as much committed as was then: the event to be sent later
 *   2 record written in the ring  the same
 *   3 committed stored            more committed than the intention says: the whole event; the entry is taken away
 *   4 topic counted               the same
 *   5 entry taken away            the whole event
 *   6 `look` computed             -
 *   Who looks: each publisher after its own event, whoever finds nothing to receive, and of those asleep one, the keeper,
 *   who has stored in `kept` until when it is to be taken for alive. Others look when that is over, within EB_SLICE_NS.
 *
 * DOORBELL
 *   Who waits in an event loop has a doorbell: a socket of its process, which stands beside the segments. Its slot says which,
 *   before it raises its flag; whoever lowers the flag rings there instead of posting the semaphore.
 *
 *   step                          killed right after it, the others see
 *   1 socket bound to its file    a file that nobody answers at, and no slot names: the last one out removes it
 *   2 slot's doorbell stored      the same, and whoever reaps the slot removes it
 *   3 flag raised, looked again   as of any sleeper; one that is dead is rung in vain
 *   Of a group, whose semaphore wakes nobody, the first one asleep that answers is rung.
 *
 * LABELS of the ordered operations, each named on both sides; tests/models/ checks their protocols by the same names:
 *   [commit]  release of record words and sequence  / acquire by readers
 *   [cursor]  release of a cursor after the copy     / acquire by the gate: the copy is over before it is overwritten
 *   [lap]     record words stored with release after `oldest` / loaded with acquire before `oldest` is loaded again;
 *             release of the sequence at `oldest` by `oldest` / acquire by who goes on from there
 *   [wake]    seq_cst: bit raised, then committed loaded / committed stored, then bits loaded: one of the two sees it;
 *             doorbell stored, then the bit raised / bit lowered, then the doorbell loaded
 *   [gate]    seq_cst: cursor stored, then committed found unchanged / committed stored, then cursors loaded;
 *             cursor moved by a publisher, then what it passed overwritten / record read, then the cursor loaded
 *   [space]   seq_cst: waiters counted, then cursors loaded / cursor stored, then waiters loaded
 *   [topic]   release of an entry by topic_count     / acquire before the entry is read
 *   [lock]    acquire and release of the publish lock's word, which orders all that publishers write in the ring
 *   [unlock]  seq_cst: waiter counted, then the lock's word loaded / word stored, then waiters loaded
 *   [group]   acquire and release of a group's lock word, which orders all else in it
 *   [park]    record copied, then the place exchanged / place loaded, then the record read;
 *             place exchanged, then the ring overwritten / record read, then the place loaded again;
 *             holder 0, after the copy / holder loaded, before the parking is used anew
 *   [look]    seq_cst: owner word with the gate stored, then the claim's place and the group's `open` loaded / place or `open`
 *             exchanged, the group's gate raised or gone, then owner words loaded: one of the two sees the other
 *   [due]     record and entry written, then due stored / due loaded, then entry and record read; both read again
 *   [keeper]  seq_cst: flag raised, then `look` and `kept` loaded / `look` stored or `kept` cleared, then `kept` and flags
 *             loaded: one of the two sees the other
 *   [removal] seq_cst: `open` exchanged, before the gate goes / exchanged for itself after a copy: that is over, or sees it
 *   [owner]   release of a slot's fields by its owner word / acquire before they are read
 */
#ifndef EVENTBUS_LAYOUT_H
#define EVENTBUS_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "figures.h"
#include "record.h"

#define EB_LINE 64
#define EB_FORMAT 8u
#define EB_RING_MAGIC 0x676e69725f4245ffull   /* "\xff" "EB_ring" */
#define EB_ROSTER_MAGIC 0x7473725f4245ff00ull /* "\0\xff" "EB_rst" */
#define EB_HEAP_BYTES (256u * 1024u)
#define EB_PLACES 32
#define EB_WAITER_WORDS (EB_SUBSCRIBERS_LIMIT / 64)

typedef _Atomic uint64_t eb_u64;
typedef _Atomic uint32_t eb_u32;

/* Written once, magic last. `check` mixes all the other words: a flipped bit anywhere is refused. */
typedef struct {
    eb_u64 magic;
    uint32_t version;
    uint32_t max_subscribers;
    uint64_t build; /* mixes every size and limit of this build */
    uint64_t identity[2];
    uint64_t capacity;
    uint64_t header_bytes;
    uint64_t check;
} eb_signature;

/* A wake-up without a lost one: note the epoch, count yourself in, look again, sleep while the epoch stands. */
typedef struct {
    eb_u32 epoch;
    eb_u32 waiters;
} eb_event_count;

typedef struct {
    eb_u32 name_offset;
    _Atomic uint8_t system_length;
    _Atomic uint8_t kind_length;
    uint16_t unused;
    eb_u64 count;
    eb_u64 last; /* where its last record begins, once there is one */
    uint64_t room;
} eb_topic_entry;

/* A place of somebody who waits for room. */
typedef struct {
    eb_u64 until;  /* CLOCK_MONOTONIC: 0 for nobody; the place is given up then, if it is not renewed */
    eb_u64 ticket; /* whoever has a lower one came before */
    eb_u64 need;   /* bytes */
    eb_u64 owner;  /* a publisher's token, and */
    eb_u32 thread; /* its thread */
} eb_place;
/* The last note of one name. Two values take turns, so that the one that holds is never written over. */
typedef struct {
    eb_u64 number;      /* 0: none; else one more than that of the one before */
    uint64_t committed; /* it holds from the moment on in which so much is */
    uint32_t length;
    char bytes[EB_NOTE_LIMIT];
} eb_note_value;

typedef struct {
    eb_u32 name_length; /* 0 of the first entry that is not used */
    char name[EB_NOTE_NAME_LIMIT];
    eb_note_value values[2];
} eb_note_entry;

typedef struct {
    eb_signature signature;

    _Alignas(2 * EB_LINE) eb_u64 publish_lock; /* 0, or the token of the publisher that has it */
    eb_event_count unlocked;
    eb_u32 holder; /* pid, for messages only */

    _Alignas(2 * EB_LINE) eb_u64 committed;
    eb_u32 closed;

    _Alignas(2 * EB_LINE) eb_u64 oldest;

    _Alignas(2 * EB_LINE) eb_u64 gate; /* as last computed; never past a gated cursor */
    eb_u64 parked;                     /* bytes in the parking then, for the lock's holder like the gate */
    eb_u64 gate_moved;                 /* CLOCK_MONOTONIC: when it was last computed to be another */
    eb_u32 queued;                     /* places that are taken, at least */
    eb_u64 inline_count;
    eb_u64 inline_last; /* as of a topic */
    eb_u32 topic_count;

    _Alignas(EB_LINE) eb_u64 look; /* CLOCK_MONOTONIC: when somebody has to look what is to be sent; 0: nothing is */
    eb_u64 kept;                   /* until then somebody asleep is taken for alive who looks then; 0 for nobody */
    eb_u64 overdue;                /* bytes of what is due and found no room, for the lock's holder like the gate */
    eb_u64 scheduled;              /* numbers that were given to what is sent later */
    eb_u32 scheduled_used;         /* entries of the timetable at and past it are none */

    _Alignas(2 * EB_LINE) eb_u64 tickets; /* of the next place */
    eb_place places[EB_PLACES];

    _Alignas(4096) eb_topic_entry topics[EB_TOPICS];
    char heap[EB_HEAP_BYTES];
    eb_note_entry notes[EB_NOTES];
} eb_ring_header;

/* What is to be sent later; its record is in the parking, with its number for a sequence. The timetable of these is the end
 * of the parking, the first one its last block. */
typedef struct {
    eb_u64 due;      /* CLOCK_MONOTONIC; 0: there is none */
    eb_u64 number;   /* never given again */
    eb_u64 place;    /* EB_PARKED, and where in the parking */
    eb_u64 bytes;    /* of the record */
    eb_u64 intended; /* while it is being sent, EB_INTENDED and what was committed before; else 0 */
    uint64_t unused[3];
} eb_scheduled;

/* A GROUP slot is nobody's: it holds the gate for a group, with or without members. That of a group that was removed is
 * CLAIMED, by nobody, and taken by the next once the last member is gone. */
enum {
    EB_SLOT_FREE = 0,
    EB_SLOT_CLAIMED = 1,
    EB_SLOT_OPEN = 2,
    EB_SLOT_GROUP = 3,
    EB_SLOT_STATE = 3,
    EB_SLOT_GATED = 4
};
/* Of a slot's owner word: it is whose it was then, who may hold a gate by now, or hold none any more. */
#define EB_SAME_OWNER(word, then) ((((word) ^ (then)) & ~(uint64_t)EB_SLOT_GATED) == 0)

typedef struct {
    _Alignas(EB_LINE) eb_u64 owner; /* generation << 8 | gated | state */
    eb_u32 pid;
    _Atomic uint8_t name_length;
    _Atomic uint8_t exclusive; /* a member that bears no other beside it */
    _Atomic uint16_t system_length;
    _Atomic uint16_t kind_length;
    eb_u32 group;          /* the number of the group whose member it is, plus 1; else 0 */
    _Atomic uint8_t sends; /* it may send, so also what others have put down for later */

    _Alignas(EB_LINE) eb_u64 cursor; /* by the subscriber, and by publishers over what it does not hear */
    eb_u64 position; /* where it reads next, for people; written by the subscriber only, like the next */
    eb_u64 lost;

    _Alignas(EB_LINE) eb_u32 semaphore; /* 0 or 1; woken through futex(2) */
    eb_u64 doorbell;                    /* which one is rung instead; 0: none */

    _Alignas(EB_LINE) eb_u64 deaf[EB_TOPICS / 64];
    _Alignas(EB_LINE) eb_figures figures;

    _Atomic char name[EB_LABEL_LIMIT + 1];
    _Atomic char system[EB_PATTERN_LIMIT + 1];
    _Atomic char kind[EB_PATTERN_LIMIT + 1];
} eb_slot_t;

typedef struct {
    eb_u64 bits;
    char pad[EB_LINE - sizeof(uint64_t)];
} eb_waiter_word;

/* A claim's fields are written by its holder, or under the group's lock when nobody living holds it; its place also by
 * whoever has the publish lock. */
typedef struct {
    eb_u64 holder; /* 0: nobody's; EB_RETURNED: to be claimed first; else the token of a member */
    eb_u64 place;  /* where the record begins: a position; or EB_PARKED, and where in the parking */
} eb_claim;

/* The rest, apart from what others look over. */
typedef struct {
    eb_u64 sequence;   /* of the event */
    eb_u64 since;      /* CLOCK_MONOTONIC: when it was taken; of a returned one, from when on it may be */
    eb_u32 deliveries; /* before it came to its holder; and EB_HANDED_OUT once that has handed it out */
    eb_u32 bytes;      /* of the record */
} eb_claim_terms;

typedef struct {
    _Alignas(EB_LINE) eb_u32 group; /* the number of the group whose it is, plus 1; 0: nobody's, and all holders 0 */
    eb_u32 used;                    /* claims at and past it were not made since */
    _Alignas(EB_LINE) eb_claim claims[EB_PAGE_CLAIMS];
    _Alignas(EB_LINE) eb_claim_terms terms[EB_PAGE_CLAIMS];
} eb_page;

#define EB_RETURNED (~0ull)
#define EB_HANDED_OUT (1u << 31)
#define EB_PARKED 1ull         /* in a place: positions are multiples of eight */
#define EB_PARKING_BLOCK 64ull /* bytes: each record begins one */
#define EB_BLOCKS(bytes) (((bytes) + EB_PARKING_BLOCK - 1) / EB_PARKING_BLOCK)
#define EB_INTENDED 1ull /* in `intended`: positions are multiples of eight */

enum { EB_GROUP_FREE = 0, EB_GROUP_OPEN = 1, EB_GROUP_STATE = 0xFF };

typedef struct {
    _Alignas(EB_LINE) eb_u32 open; /* generation << 8 | 1 once the names and what follows in this line are written */
    eb_u32 slot;                   /* whose cursor is the group's gate */
    eb_u32 max_deliveries;
    eb_u64 start; /* sequences before it are skipped */
    char name[EB_LABEL_LIMIT + 1];
    char system[EB_PATTERN_LIMIT + 1];
    char kind[EB_PATTERN_LIMIT + 1];

    _Alignas(EB_LINE) eb_u64 lock; /* the token of the member that has it */
    eb_event_count unlocked;
    eb_u64 pages[EB_PAGES / 64]; /* which are its */
    eb_u64 cursor;               /* of the next record that nobody claimed yet */
    eb_u64 checked_at;
    eb_u64 redelivered;
    eb_u64 dead;
    eb_u64 watched; /* CLOCK_MONOTONIC: until then one of those asleep looks whether the others live; 0 for nobody */

    _Alignas(EB_LINE) eb_u64 asleep[EB_WAITER_WORDS]; /* members, by their slots */
} eb_group;

typedef struct {
    eb_signature signature;
    _Alignas(EB_LINE) eb_u32 persist;
    eb_u32 mute;                            /* somebody attached cannot ring */
    eb_event_count changed;                 /* a subscription came or went */
    _Alignas(EB_LINE) eb_event_count space; /* publishers that wait for room */
    _Alignas(EB_LINE) eb_u32 used_slots;    /* slots at and past it were never taken */
    _Alignas(EB_LINE) eb_waiter_word waiters[EB_WAITER_WORDS];
    _Alignas(4096) eb_group groups[EB_GROUPS];
    _Alignas(4096) eb_page pages[EB_PAGES];
    _Alignas(4096) eb_slot_t slots[];
} eb_roster_header;

static_assert(sizeof(eb_signature) == EB_LINE, "one line, compared as a whole");
static_assert(offsetof(eb_ring_header, publish_lock) == 128, "the lock shares no line with what readers poll");
static_assert(offsetof(eb_ring_header, committed) == 256, "committed has its line pair to itself");
static_assert(offsetof(eb_ring_header, oldest) == 384, "oldest has its line pair to itself");
static_assert(offsetof(eb_ring_header, gate) == 512, "publishers' own words");
static_assert(offsetof(eb_ring_header, look) == 576, "rarely written, beside what publishers read anyway");
static_assert(sizeof(eb_scheduled) == EB_PARKING_BLOCK, "a block each");
static_assert(offsetof(eb_ring_header, topics) == 4096, "the topic table begins a page");
static_assert(sizeof(eb_topic_entry) == 32, "two entries a line");
static_assert(sizeof(eb_note_entry) == 256, "whole lines");
static_assert(sizeof(((eb_note *)0)->name) == EB_NOTE_NAME_LIMIT, "eventbus.h spells the limit out");
static_assert(sizeof(((eb_note *)0)->bytes) == EB_NOTE_LIMIT, "eventbus.h spells the limit out");
static_assert(sizeof(eb_ring_header) % 4096 == 0, "the data begin a page");
static_assert(EB_PAGES * EB_PAGE_CLAIMS == EB_CLAIMS && EB_PAGES % 64 == 0, "whole pages, a bit each");
static_assert(sizeof(eb_slot_t) == 3328, "whole lines, and three buses of the default size in 64 MiB");
static_assert(offsetof(eb_slot_t, cursor) == 64 && offsetof(eb_slot_t, semaphore) == 128, "one writer a line");
static_assert(offsetof(eb_roster_header, groups) == 4096, "the groups begin a page");
static_assert(offsetof(eb_roster_header, slots) % 4096 == 0, "the slots begin a page");
static_assert(sizeof(((eb_batch *)0)->sequence) == EB_BATCH_LIMIT * 8, "eventbus.h spells the limit out");
static_assert(EB_TOPICS <= EB_INLINE, "a topic number fits 24 bits");
static_assert(EB_PATH_LIMIT < 1 << EB_PATH_BITS, "a path's length fits");
static_assert(EB_EXTENSION_LIMIT < 1 << EB_EXTENSION_BITS, "an extension's length fits");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "lock-free 64-bit atomics");
static_assert(sizeof(off_t) == 8, "the locks lie past what 32 bits count: -D_FILE_OFFSET_BITS=64");

#endif
