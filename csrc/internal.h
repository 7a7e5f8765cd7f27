/* What the C files share inside one process: handles, the prototypes of the leaves, the test points. */
#ifndef EVENTBUS_INTERNAL_H
#define EVENTBUS_INTERNAL_H

#include "layout.h"
#include "points.h"
#include "process.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define EB_SLICE_NS 4000000000ll     /* how long a sleeper sleeps before it looks again by itself */
#define EB_SPACE_SLICE_NS 25000000ll /* how long a publisher waits for room before it looks for dead subscribers */
#define EB_MILLISECOND 1000000ll
#define EB_IS_POLL(deadline) ((deadline) == EB_POLL || (deadline) == EB_BRIEF)
#define EB_BRIEFLY (2 * EB_MILLISECOND)  /* for a lock, in an event loop */
#define EB_LOOK_RECORDS 4096u            /* that are looked over, unheard, before signals, deadlines and closing are */
#define EB_LONGEST (1ull << 31)          /* bytes of any record: they are counted with 32 bits */
#define EB_POLL_NS (10 * EB_MILLISECOND) /* how long a poll may look over them */

typedef struct {
    eb_ring_header *header;
    char *data; /* mapped twice in a row */
    uint64_t capacity;
    uint64_t mask;          /* capacity - 1 where that is a mask, else 0 */
    uint64_t parking_bytes; /* of the parking, which is mapped behind the data */
    uint64_t mapped_bytes;
} eb_ring;

/* A descriptor, and which file it was when we opened it: others may close it, and open something else as its number, or the
 * same file, whose description then is not where we left ours: nobody reads or writes through it. */
typedef struct {
    int fd; /* -1: none */
    uint64_t device, inode;
    int64_t offset;
} eb_file;

/* Bytes of the roster's file that carry locks; the kernel does not ask whether the file is that long. */
enum { EB_DOOR_BYTE = 0, EB_ROSTER_BYTE = 1 }; /* and EB_SLOT_BYTE, the first of as many as there are slots */
#define EB_ATTACHMENT_BYTE (1ll << 32)         /* the first of EB_DRAWN_BYTES, of which each attachment has one */
#define EB_PUBLISHER_BYTE (1ll << 41)
#define EB_DRAWN_BYTES (1ull << 40)

#define EB_SHARED_MEMORY "/dev/shm" /* where glibc's shm_open keeps segments */
#define EB_NAME_BYTES 201           /* of a bus, with the 0 at its end */
#define EB_PATH_BYTES (EB_NAME_BYTES + 32)

typedef struct {
    eb_roster_header *header;
    uint64_t mapped_bytes;
    uint32_t max_subscribers;
    eb_file file; /* carries the attachment's locks */
} eb_roster;

/* A record as its header says, checked against what is committed. */
typedef struct {
    uint64_t sequence;
    uint64_t time;
    uint64_t bytes; /* of the whole record */
    uint32_t topic;
    uint32_t sender;
    uint32_t stored; /* bytes of the body */
    uint32_t system_length;
    uint32_t kind_length;
    uint32_t extension_length;
    uint32_t path_length;
} eb_record;

/* What is known of the owner of a slot by others: which topics they have looked up, and which of those it hears. */
typedef struct {
    uint64_t owner; /* the slot's owner word; 0: nothing is known */
    uint32_t slot;
    uint64_t known[EB_TOPICS / 64], heard[EB_TOPICS / 64];
    char system[EB_PATTERN_LIMIT + 1];
    char kind[EB_PATTERN_LIMIT + 1];
} eb_hearing;

struct eb_bus {
    eb_ring ring;
    eb_roster roster;
    uint64_t token; /* as a publisher; 0 of who may only subscribe */
    uint32_t pid;
    _Atomic int ended;       /* why it cannot be used any more, or not yet; EB_OK while it is attached */
    _Atomic uint64_t seen;   /* when it last sent, and */
    _Atomic uint64_t looked; /* when it last looked whether its descriptor is still there: by the clock of events */
    _Atomic bool interrupted;
    _Atomic int holders; /* who needs its memory: its owner, and each subscription */
    eb_kept kept;
    pthread_mutex_t roster_mutex; /* threads of this process; the file lock is between processes */
    eb_subscription *subscriptions;
    eb_hearing *hearings;  /* of every slot, NULL before the first; for whoever has the publish lock, like the next */
    uint32_t look_ups;     /* left in this pass over the bystanders */
    uint64_t *parked;      /* a bit for each block of the parking, NULL before the first time */
    eb_file ring_file;     /* while it is being opened */
    eb_file ringer;        /* the socket that others' doorbells are rung with */
    bool is_bell;          /* and it is the one below, which closes it */
    uint64_t identity;     /* which their files are named after */
    eb_bell *_Atomic bell; /* our own, NULL before somebody waits in an event loop */
    _Atomic bool silent;   /* it is to be one that needs no socket */
    eb_u64 dozing[EB_WAITER_WORDS]; /* who waits for it, by their slots, and */
    eb_u64 told[EB_WAITER_WORDS];   /* has something to look at in this process */
    int64_t byte;                   /* of its attachment; 0 for none */
    struct {                        /* of the child that is about to be forked */
        eb_file file;
        int64_t byte;
        uint64_t token;
        int error;
    } child;
    int error;                 /* errno of the parent that could not give it a descriptor */
    bool leaving;              /* and is interrupted in it */
    bool late;                 /* and waits for the end of an opening that its thread is in the middle of */
    bool unowned;              /* and nobody has it any more but that */
    _Atomic bool inside;       /* has the door; threads that open or leave other buses look at it, and at */
    _Atomic pthread_t insider; /* that thread; or, of one that is late, the one which leaves it */
    bool created;              /* made the roster */
    bool opened;               /* opening it has come to its end */
    bool sending;              /* it has left while another thread may be in the middle of a send */
    char name[EB_NAME_BYTES];
};

enum { EB_UNKNOWN = 0, EB_HEARD = 1, EB_UNHEARD = 2 };

typedef struct eb_names eb_names;
typedef struct eb_apart eb_apart;
typedef struct eb_vigil eb_vigil;
typedef struct eb_views eb_views;

/* What linger.c knows of the stream. */
typedef struct {
    int64_t spin_ns;      /* asked for, or EB_ADAPTIVE */
    int64_t budget;       /* of looking, as adapted */
    int64_t loaded_until; /* others want the CPU: no looking until then */
    int64_t calm_ns;      /* and how long that was */
    int64_t waited_at;    /* when it last weighed a nap */
    uint64_t taken;       /* events handed out since then */
    uint64_t published;   /* what this process had sent then */
    uint64_t passed;      /* the sequence then */
    uint64_t spacing;     /* bytes of the ring per event in the last batch */
    bool lingered;        /* looking is over, next comes sleeping */
    bool napped;          /* for what few large events promised */
    uint32_t doubts;      /* after the last such nap, and */
    uint32_t distrust;    /* looks until they do so again */
} eb_pace;

/* An event that a member has in hand. */
typedef struct {
    uint64_t sequence;
    uint32_t claim;
} eb_held;

struct eb_subscription {
    eb_bus *bus;
    eb_subscription *next; /* of the same bus */
    int (*leave)(eb_subscription *sub);
    uint64_t generation;  /* of the process whose it is */
    _Atomic int holders;  /* who needs its memory: its owner, and whoever leaves the bus with it */
    pthread_mutex_t turn; /* of whoever is at what stands below */
    bool present;         /* has its slot */
    eb_slot_t *slot;
    uint64_t owner;            /* the slot's owner word while it is ours */
    uint64_t cursor;           /* what we last stored in the slot */
    _Atomic uint64_t position; /* of the next record; before `joined` it is still catching up */
    uint64_t sequence;         /* that record must have */
    uint64_t joined;           /* from here on the gate protects what a gated subscription reads, and */
    uint64_t joined_sequence;  /* from this one on it loses none */
    uint64_t start;            /* sequences before it are skipped */
    uint32_t topics[2];        /* of the first and the last event of the last batch, and */
    bool to_pass_on;           /* whether others are still to be woken for it */
    uint64_t freed;            /* bytes since publishers were last told of room */
    uint64_t asked_sequence;   /* the event that EB_UNDECIDED was about */
    uint64_t decided_sequence; /* an inline event whose verdict is decided_verdict, when `names` is full */
    eb_pace pace;
    _Atomic uint64_t lost;
    uint64_t skipped;             /* events that it passed and does not hear */
    uint64_t measured;            /* when the last one was sent of the batch whose delays were measured last */
    uint64_t beside_used, viewed; /* bytes at the buffer's end; of the batch's data that are not there */
    eb_views *views;              /* NULL of one that looks at nothing in the ring */
    uint32_t index;
    eb_file file;             /* carries the lock on its slot's byte */
    uint64_t doorbell;        /* what its slot says */
    _Atomic int dozes;        /* how, as in doze.c */
    _Atomic bool called;      /* by its own process, since then */
    _Atomic int64_t until;    /* and when it is to look */
    _Atomic int64_t promised; /* to look, as the keeper; 0: nothing */
    bool watches;             /* whether the others of its group live */
    uint32_t most;            /* events that it asked for last */
    eb_apart *apart;          /* for a loop that watches it by itself, or NULL */
    eb_vigil *vigil;          /* where there is no doorbell, or NULL */
    bool gated;
    _Atomic bool drains; /* it has joined, and is lossless or a member: what it takes makes room */
    bool local;          /* does not hear what has an origin */
    eb_group *group;     /* NULL, or: the fields below are of its member */
    uint32_t opening;    /* what its `open` was when this member joined */
    uint64_t token;
    bool manual;             /* finishes each event by itself */
    bool one_by_one;         /* its reader tells what it hands out */
    pthread_mutex_t at_hand; /* the next three: of whoever receives, and of those who finish events beside it */
    eb_held hand[2 * EB_BATCH_LIMIT];
    uint32_t first;        /* where in it they begin */
    uint32_t held;         /* events in hand, in the order in which they were taken, and */
    uint32_t copied;       /* how many of them, the first ones, were read into a batch */
    _Atomic bool full;     /* it waits until one is finished */
    _Atomic bool unparked; /* one left the parking, since it last told publishers */
    int64_t made_room;     /* when it last told publishers how far it is */
    int64_t refused;       /* since when it has not got the group's lock; 0: it had it last time */
    uint8_t decided_verdict;
    eb_names *names; /* of records past the topic table, NULL before the first */
    _Atomic bool interrupted;
    _Atomic uint8_t verdicts[EB_TOPICS];
    eb_batch batch;
};

/* status.c */
int eb_damaged(const char *what);
int eb_mismatch(const char *what);

/* segment.c */
uint64_t eb_roster_identity(int fd);
int eb_ring_map(eb_ring *ring, int fd, bool writable);
void eb_ring_unmap(eb_ring *ring);
int eb_roster_map(eb_roster *roster, int fd);
void eb_roster_unmap(eb_roster *roster);

/* notes.c */
int eb_note_write(eb_ring *ring, const eb_note *note, uint64_t committed);
int eb_note_find(eb_ring *ring, eb_note *note);
void eb_notes_repair(eb_ring *ring);

/* ring.c */
uint64_t eb_head_bytes(const eb_outgoing *event);
uint64_t eb_ring_record_bytes(const eb_outgoing *event);
int eb_ring_room(eb_ring *ring, uint64_t committed, uint64_t need);
void eb_ring_write(eb_ring *ring, uint64_t position, uint64_t sequence, uint64_t time, uint32_t sender,
                   const eb_outgoing *event, const char *head, const char *body);
uint64_t eb_ring_sequence_at(const eb_ring *ring, uint64_t position);
void eb_ring_commit(eb_ring *ring, uint64_t committed, uint64_t next_sequence);
void eb_ring_count(eb_ring *ring, uint32_t topic, uint64_t position);
int eb_ring_repair(eb_ring *ring);
int eb_ring_verify(const eb_ring *ring);
int eb_ring_read(const eb_ring *ring, uint64_t position, uint64_t committed, eb_record *record);
void eb_ring_unpark(eb_ring *ring, uint64_t place, uint64_t position, uint64_t sequence, uint64_t time, uint64_t bytes);
void eb_ring_park(eb_ring *ring, uint64_t position, uint64_t offset, uint64_t bytes);
bool eb_ring_has_origin(const eb_ring *ring, uint64_t position, const eb_record *record);
void eb_ring_copy(const eb_ring *ring, uint64_t position, uint64_t skip, char *to, uint64_t length, bool shared);
bool eb_ring_lapped(const eb_ring *ring, uint64_t position);
void eb_ring_oldest(const eb_ring *ring, uint64_t *position, uint64_t *sequence);
int eb_ring_topic_find(const eb_ring *ring, uint32_t from, const char *names, size_t system_length, size_t kind_length);
bool eb_sent_since(uint64_t position, const eb_u64 *count, const eb_u64 *last);
uint32_t eb_ring_sent_to(const eb_ring *ring, uint64_t position, uint32_t from);
bool eb_ring_topic_fits(const eb_ring *ring, size_t length);
int eb_ring_topic_add(eb_ring *ring, const char *names, size_t system_length, size_t kind_length);
int eb_ring_topic_names(const eb_ring *ring, uint32_t topic, char *names, uint32_t *lengths);

/* late.c */
eb_bus *eb_bus_of(const eb_kept *kept);
bool eb_opens_it_already(const eb_bus *bus);
bool eb_must_wait(eb_bus *bus);
bool eb_is_put_off(eb_bus *bus);
eb_bus *eb_next_late(bool *unowned);

/* locks.c */
bool eb_file_identify(eb_file *file, int fd);
bool eb_file_ours(const eb_file *file);
int eb_file_reopen(int fd, eb_file *to);
void eb_file_close(eb_file *file);
int eb_byte_lock(const eb_file *file, int64_t byte);
void eb_byte_unlock(const eb_file *file, int64_t byte);
bool eb_byte_held(const eb_file *file, int64_t byte);
int eb_door_enter(const eb_file *file, int64_t deadline);
void eb_door_leave(const eb_file *file);
int eb_roster_lock(const eb_file *file, int64_t deadline);
void eb_roster_unlock(const eb_file *file);
int eb_attachment_draw(const eb_file *file, int64_t *byte);
int eb_publisher_draw(const eb_file *file, uint64_t *token);
void eb_publisher_unlock(const eb_file *file, uint64_t token);
bool eb_publisher_alive(const eb_file *file, uint64_t token);
int64_t eb_attachments(const eb_file *file);
bool eb_is_alone(const eb_file *file);

/* roster.c */
int eb_slot_claim(eb_roster *roster, const eb_file *file);
void eb_slot_unclaim(eb_roster *roster, uint32_t slot);
void eb_slot_open_group(eb_roster *roster, uint32_t slot, const eb_terms *terms, uint64_t position);
uint64_t eb_token(const eb_roster *roster, uint32_t slot);
bool eb_token_alive(const eb_roster *roster, uint64_t token);
void eb_slot_open(eb_roster *roster, uint32_t slot, const eb_terms *terms, int group, uint32_t pid, uint64_t position);
void eb_slot_withdraw(eb_roster *roster, uint32_t slot);
void eb_slot_free(eb_roster *roster, uint32_t slot);
bool eb_slot_alive(const eb_roster *roster, uint32_t slot);
bool eb_slot_is_left(const eb_roster *roster, uint32_t slot);
int eb_roster_member(const eb_roster *roster, uint32_t group, uint32_t from);
int eb_roster_reap(eb_roster *roster);
uint32_t eb_roster_used(const eb_roster *roster);
uint64_t eb_roster_gate(const eb_roster *roster, uint64_t committed, uint64_t capacity, int *slowest);
bool eb_slot_holds_gate(const eb_roster *roster, uint32_t slot);
eb_group *eb_slot_group(const eb_roster *roster, uint32_t slot, bool *alone);
void eb_roster_clear(eb_roster *roster);
bool eb_slot_deaf(const eb_roster *roster, uint32_t slot, uint32_t topic);
void eb_waiter_raise(eb_roster *roster, uint32_t slot);
bool eb_waiter_lower(eb_roster *roster, uint32_t slot);

/* matching.c */
bool eb_means(const char *patterns, const char *name, size_t length);

/* hearing.c */
bool eb_hearing_of(const eb_roster *roster, uint32_t slot, eb_hearing *hearing);
bool eb_hears_topic(const eb_bus *bus, eb_hearing *hearing, uint32_t topic);
bool eb_hears_record(const eb_bus *bus, eb_hearing *hearing, const eb_record *record, uint64_t position);

/* queue.c */
uint64_t eb_queue_before(eb_bus *bus, uint64_t share);
void eb_queue_up(eb_bus *bus, uint64_t need);
bool eb_queue_leave(eb_bus *bus);

/* share.c */
#define EB_OUTSIDERS_SHARE(capacity) ((capacity) - (capacity) / 8) /* of who takes nothing from the ring */
#define EB_DRAINERS_SHARE(capacity) ((capacity) - (capacity) / 16)
uint64_t eb_share(const eb_bus *bus);

/* bystanders.c */
bool eb_move_bystanders(eb_bus *bus, uint64_t committed, uint64_t need);

/* group.c */
bool eb_group_is_open(const eb_group *group);
int eb_group_end(const eb_group *group);
bool eb_group_hears(const eb_group *group, const char *system, const char *kind);
int eb_group_named(const eb_roster *roster, const char *name);
uint32_t eb_group_slot(const eb_group *group, const eb_roster *roster);
bool eb_group_try_lock(eb_group *group, uint64_t token);
void eb_group_unlock(eb_group *group);
int eb_group_check(const eb_group *group, const eb_u64 *committed_now, uint64_t capacity);
bool eb_cursor_move(eb_u64 *cursor, uint64_t from, uint64_t to);
void eb_cursor_raise(eb_u64 *cursor, uint64_t to);
uint64_t eb_cursor_read(const eb_u64 *cursor, const eb_u64 *committed_now, uint64_t *committed);
void eb_asleep_set(eb_group *group, uint32_t slot, bool asleep);
bool eb_asleep_other(const eb_group *group, uint32_t slot);
bool eb_unwatched(const eb_group *group, int64_t now, int64_t latest);

/* names.c */
int eb_names_find(eb_names *of, const char *names, uint32_t system_length, uint32_t kind_length);
int eb_names_add(eb_names **of, const char *names, uint32_t system_length, uint32_t kind_length, uint8_t verdict);
uint8_t eb_names_verdict(const eb_names *of, uint32_t number);

/* wait.c */
int64_t eb_now(void);
uint64_t eb_wall_clock(void);
int64_t eb_sooner(int64_t deadline, int64_t slice);
bool eb_over(int64_t deadline);
void eb_pause(void);
int eb_nap(int64_t until);
bool eb_semaphore_post(eb_u32 *semaphore);
bool eb_semaphore_post_once(eb_u32 *semaphore);
void eb_semaphore_post_all(eb_u32 *semaphore);
int eb_semaphore_wait(eb_u32 *semaphore, int64_t until);
uint32_t eb_event_prepare(eb_event_count *count);
int eb_event_wait(eb_event_count *count, uint32_t epoch, int64_t until);
void eb_event_post(eb_event_count *count);
void eb_event_post_one(eb_event_count *count);

/* verdicts.c */
int eb_verdict(const eb_subscription *sub, eb_record *record, uint64_t position);
int eb_verdict_store(eb_subscription *sub, uint32_t topic, bool heard);
int eb_ask(eb_subscription *sub, const eb_record *record, uint64_t position);
int eb_record_names(const eb_subscription *sub, const eb_record *record, uint64_t position, char *names,
                    uint32_t *system_length, uint32_t *kind_length);

/* news.c */
bool eb_group_stayed(const eb_subscription *sub);
bool eb_ended(const eb_subscription *sub);
bool eb_moved(const eb_subscription *sub, uint64_t seen);
void eb_freed(eb_subscription *sub, bool all);

/* settle.c */
int eb_settle(eb_subscription *sub, int64_t start);
int eb_hold_gate(eb_subscription *sub, bool gated);
int eb_look_on(int64_t deadline, int64_t *begun);

/* bus.c */
int eb_bus_map(eb_bus *bus, bool writable);
void eb_bus_unmap(eb_bus *bus);
void eb_bus_hold(eb_bus *bus);
void eb_bus_release(eb_bus *bus);
int eb_bus_usable(const eb_bus *bus);
int eb_bus_adopt(eb_bus *bus, eb_subscription *sub);
void eb_bus_disown(eb_bus *bus, eb_subscription *sub);
eb_subscription *eb_bus_hold_first(eb_bus *bus);
void eb_bus_let_go_of(eb_subscription *sub);
int eb_bus_take_mutex(eb_bus *bus, int64_t deadline);
int eb_bus_lock_roster(eb_bus *bus, int64_t deadline);
void eb_bus_unlock_roster(eb_bus *bus);
int eb_bus_lock_publish(eb_bus *bus, int64_t deadline);
void eb_bus_unlock_publish(eb_bus *bus);
int eb_bus_reap(eb_bus *bus, int64_t deadline);

#endif
