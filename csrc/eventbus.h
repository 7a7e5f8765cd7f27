/* The C face of the bus. The build strips the preprocessor lines and hands the rest to cffi: this is the only declaration.
 *
 * Results: zero or more is success, a negative number is one of the codes below. Deadlines are absolute nanoseconds on
 * CLOCK_MONOTONIC; EB_POLL does not wait at all but for locks, which are held for moments, EB_BRIEF hardly for these, EB_FOREVER
 * without end. A waiting call returns EB_INTERRUPTED when a signal came or a slice ended: handle signals, and call it again. */
#ifndef EVENTBUS_H
#define EVENTBUS_H
#include <stddef.h>
#include <stdint.h>
#endif

enum {
    EB_OK = 0,
    EB_NOTHING = -1,     /* the time is up and nothing came */
    EB_INTERRUPTED = -2, /* call again with the same deadline */
    EB_FULL = -3,        /* no room in the ring: eb_slowest names who holds it back */
    EB_BUSY = -4,        /* another process kept a lock until the deadline */
    EB_CLOSED = -5,      /* shut down, or this handle was interrupted */
    EB_DAMAGED = -6,     /* shared memory says something impossible: eb_detail() */
    EB_VERSION = -7,     /* a segment of another format or build: eb_detail() */
    EB_UNDECIDED = -8,   /* a topic without a verdict: decide on batch->undecided, then call again */
    EB_LARGE = -9,       /* the next record needs batch->needed bytes of buffer: eb_reserve */
    EB_TOO_LARGE = -10,  /* the event could never fit: it is over eb_event_limit, or its path is too long */
    EB_NO_SLOT = -11,    /* every subscriber slot is taken by a live subscription */
    EB_TABLE_FULL = -12, /* the topic table is full: send with EB_INLINE and the names */
    EB_SYSTEM = -13,     /* errno says what */
    EB_CONFLICT = -14,   /* a group of this name has other terms */
    EB_EXHAUSTED = -15,  /* the one event in the batch was delivered as often as allowed: send it as dead, eb_bury it */
    EB_INHERITED = -16,  /* the subscription is of the process that this one was forked from */
    EB_FORKED = -17,     /* the bus is of the process that this one was forked from, by C or without libc */
    EB_ROBBED = -18,     /* its descriptors were closed underneath, and with them its locks have gone */
    EB_ORPHAN = -19,     /* the process that forked this one could not give it a descriptor: eb_bus_error */
    EB_REMOVED = -20,    /* the name of the bus was removed, or means another one by now */
    EB_AHEAD = -21,      /* the sequence to start at comes after the next one */
    EB_EXCLUDED = -22    /* a living member of the group and this one exclude each other */
};

enum {
    EB_POLL = 0,
    EB_BRIEF = 1, /* a moment that has passed, as any deadline */
    EB_FOREVER = -1,
    EB_LATEST = -1, /* eb_terms.start: what is sent from now on */
    EB_OLDEST = 0,  /* eb_terms.start: from the oldest event kept */
    EB_ADAPTIVE = -1
};

enum {
    EB_TOPICS = 4096,           /* entries of the topic table */
    EB_NAME_LIMIT = 255,        /* bytes of a system, a kind or a pattern */
    EB_PATH_LIMIT = 4096,       /* bytes of a path */
    EB_EXTENSION_LIMIT = 16383, /* bytes of an extension */
    EB_EXTENSION_MARK = 0xFF,   /* between its texts: a byte that UTF-8 has not */
    EB_SENT_MARK = 0xFE,        /* another one, behind an origin: then come time and pid of whoever sent it there */
    EB_NOTES = 64,              /* names of notes */
    EB_NOTE_NAME_LIMIT = 76,
    EB_NOTE_LIMIT = 64,
    EB_LABEL_LIMIT = 63,  /* bytes of a subscription's name */
    EB_BATCH_LIMIT = 256, /* events in one batch */
    EB_DELAYS = 58,       /* buckets of a histogram of delays: eb_delay_end says where each ends */
    EB_SUBSCRIBERS_LIMIT = 1024,
    EB_PATTERN_LIMIT = 1023, /* bytes of the patterns of a subscription or a group, joined by | */
    EB_SLOT_BYTE = 1024,     /* of the roster's file: whoever has slot n keeps byte EB_SLOT_BYTE + n locked */
    EB_GROUPS = 32,          /* groups of one bus */
    EB_PAGE_CLAIMS = 64,
    EB_PAGES = 256,
    EB_CLAIMS = 16384,     /* events that the members of all groups have in hand or gave back, together */
    EB_OWN_TOPICS = 65536, /* names past the topic table that one subscription numbers for itself, from EB_TOPICS on */
    EB_INLINE = 0xFFFFFF   /* a topic number: the record carries its names */
};

typedef struct eb_bus eb_bus;
typedef struct eb_subscription eb_subscription;
typedef struct eb_bell eb_bell;
typedef struct eb_view eb_view;

/* Where the events of one topic go. Python keeps it as bytes, which are handed over as they are; to check and convert a
 * pointer and a number would take half as long as all that a send does in C. */
typedef struct {
    eb_bus *bus;
    uint32_t topic;
    uint32_t system_length; /* of the names that follow, if topic is EB_INLINE; else 0, like kind_length */
    uint32_t kind_length;
    uint32_t unused;
} eb_route;

/* One event of a batch to send; its bytes follow those of the event before it: system, kind, extension, path, body.
 * Without a path the body is the JSON text "[path,data]"; with one it is raw data. system and kind are empty unless
 * topic is EB_INLINE. The extension is empty, or the origin, then name and value of each header, with EB_EXTENSION_MARK
 * between one text and the next. Behind the origin may stand EB_SENT_MARK, the time in ns since 1970 and the pid with which
 * it was sent there, in hexadecimal digits with a blank in between. */
typedef struct {
    uint32_t topic;
    uint32_t system_length;
    uint32_t kind_length;
    uint32_t extension_length;
    uint32_t path_length;
    uint32_t body_length;
} eb_outgoing;

/* How far somebody has come who brings events from elsewhere: the last note of a name is kept, however often the ring goes
 * round. */
typedef struct {
    uint32_t name_length; /* 1 to EB_NOTE_NAME_LIMIT */
    uint32_t length;      /* up to EB_NOTE_LIMIT */
    char name[76];
    char bytes[64];
} eb_note;

/* What stands beside the JSON array for event number `index`: system, kind, extension, path and raw data, from `offset`; or
 * the data elsewhere, with a view. */
typedef struct {
    uint32_t index;
    uint32_t system_length;
    uint32_t kind_length;
    uint32_t extension_length;
    uint32_t path_length;
    uint64_t data_length;
    uint64_t offset;
    const char *data; /* NULL where it stands behind the path, like the view */
    eb_view *view;
} eb_beside;

/* The state of one count of what waits: begins all zero; after EB_UNDECIDED go on with the same one. */
typedef struct {
    uint64_t count;
    uint64_t position;
    uint64_t stop;
    uint32_t started;
    uint32_t undecided;
    uint32_t system_length;
    uint32_t kind_length;
    char names[512];
} eb_walk;

/* What is to be known of a batch as a whole. */
typedef struct {
    uint64_t json_length;
    uint64_t first_sequence;
    uint64_t last_sequence;
    uint32_t json_count;
    uint32_t beside_count;
    uint32_t number;  /* one more with every batch, so that one which was read and not taken is seen */
    uint32_t handed;  /* events that the reader has handed out, and */
    uint32_t done;    /* of them those that are done with: the reader counts both, a batch begins with 0 */
    uint32_t counted; /* whether some were delivered before */
    uint32_t counts;  /* whether the reader is to store in handed_out */
    int32_t status;   /* what eb_receive returned with it: the number of events, or EB_EXHAUSTED for a single one */
} eb_batch_head;

/* A batch as one subscription receives it, rewritten by each eb_receive. The JSON text of `json_count` events is one
 * array "[path,data,path,data,...]" in the first json_length bytes of buffer, with a line break behind the comma between
 * two events; text_end says where each one's text ends. An event with an eb_beside that has a path has no part in it. */
typedef struct {
    eb_batch_head head;
    char *buffer;
    uint64_t size;
    uint64_t needed;
    uint32_t undecided;
    uint32_t system_length;
    uint32_t kind_length;
    char names[512];
    uint64_t sequence[256];
    uint64_t time[256];
    uint32_t sender[256];
    uint32_t topic[256];
    uint32_t deliveries[256];  /* counted where head.counted, else 1 */
    uint32_t *handed_out[256]; /* where a member's reader stores deliveries - 1 | 1 << 31 as it hands it out; or NULL */
    uint64_t text_end[256];
    eb_beside beside[256];
} eb_batch;

typedef struct {
    const char *system; /* the patterns and the name are text for people and for eb_subscriber */
    const char *kind;
    const char *name;
    int64_t start;     /* EB_LATEST, EB_OLDEST or a sequence */
    int64_t spin_ns;   /* how long to look before sleeping; EB_ADAPTIVE */
    int gated;         /* whether it holds publishers back */
    int local;         /* whether it does not hear what has an origin; of a group, all members or none */
    const char *group; /* the name of the group to be a member of; NULL for none */
    int manual;        /* whether the member finishes each event by itself */
    int one_by_one; /* whether its reader tells of each event that it hands out: else all of a batch is, as it is read */
    int exclusive;  /* whether it is to be the only member */
    int views;      /* whether it looks at raw data in the ring, where its cursor protects it */
} eb_terms;

typedef struct {
    const char *name;
    const char *system;
    const char *kind;
    int64_t start;           /* as in eb_terms */
    uint32_t max_deliveries; /* 0: what there is, else as many as are usual */
} eb_group_terms;

typedef struct {
    uint64_t redelivered;
    uint64_t dead;
    uint64_t next; /* what comes before was claimed or passed over; claims read later tell what of it is to be done */
    uint32_t slot;
    uint32_t max_deliveries;
    char name[64];
    char system[1024];
    char kind[1024];
} eb_group_info;

/* One event that a member has in hand, or that was given back. */
typedef struct {
    uint32_t slot;   /* of the member; UINT32_MAX of one that was given back */
    uint32_t parked; /* whether it has left the ring */
    uint64_t bytes;  /* of its record */
    uint64_t sequence;
    uint64_t deliveries;
    uint64_t held_ns; /* since it was taken */
    uint64_t due_ns;  /* until it may be delivered again */
} eb_claim_info;

/* One event that is to be sent later. */
typedef struct {
    uint64_t number;
    uint64_t bytes; /* of its record */
    int64_t due_ns; /* until then */
    uint32_t system_length;
    uint32_t kind_length;
    uint32_t path_length;
    uint32_t is_text; /* the path is the beginning of the JSON text of path and data, without its bracket */
    char names[512];
    char path[24580]; /* each byte may be written with six */
} eb_scheduled_info;

typedef struct {
    uint64_t capacity;
    uint64_t used;
    uint64_t committed;
    uint64_t sent;
    uint64_t inline_sent;
    uint32_t topics;
    uint32_t max_subscribers;
    int closed;
    int persist;
} eb_stats;

/* What came to a subscription, as of its last batch. */
typedef struct {
    uint64_t events;
    uint64_t bytes;      /* of their paths, data and headers, as they stand in the ring */
    uint64_t wakes;      /* how often it slept, or lay down in an event loop, and looked again */
    uint64_t skipped;    /* events that it passed and does not hear; of a member, 0 */
    uint64_t delay_ns;   /* from being sent to being handed out, of all that was measured, and */
    uint64_t delays[58]; /* how many of these by their delays: a batch is measured as a whole or not */
} eb_received;

typedef struct {
    uint64_t lost;
    uint32_t pid;
    int gated;
    int sleeping;
    int group; /* the number of the group whose member it is, or -1 */
    int exclusive;
    eb_received received;
    char name[64];
    char system[1024];
    char kind[1024];
} eb_subscriber_info;

const char *eb_strerror(int status);
const char *eb_detail(void); /* what this thread's last EB_DAMAGED or EB_VERSION was about */

/* The two segments: sizes, formatting, what can be told of them by a descriptor. */
int64_t eb_ring_bytes(uint64_t capacity);
int64_t eb_roster_bytes(uint32_t max_subscribers);
int eb_format(int ring_fd, int roster_fd, uint64_t capacity, uint32_t max_subscribers, uint64_t identity_0,
              uint64_t identity_1);
int eb_signed(int roster_fd);              /* 1 when the roster is whole, 0 when its creator never finished it */
int eb_persists(int roster_fd);            /* 1 when the bus outlives its last process */
int eb_repair(int ring_fd, int roster_fd); /* only while nobody else is attached */

/* A bus as this process has it. Begun with its name, it takes the descriptors that are opened for it: from then on they
 * are its own to close, in every process that is forked meanwhile too. Whatever ends the opening of it half-way,
 * eb_bus_opened lets go of all that there is by then. */
eb_bus *eb_bus_new(const char *name);
int eb_bus_take_roster(eb_bus *bus, int created, int fd); /* created: by this call, for nobody yet */
int eb_bus_take_ring(eb_bus *bus, int created, int fd);
int eb_bus_roster_fd(const eb_bus *bus); /* -1 for none, like the next */
int eb_bus_ring_fd(const eb_bus *bus);
int eb_bus_enter(eb_bus *bus, int64_t deadline); /* the door: one opener or leaver; EB_NOTHING: the name has changed */
int eb_bus_behind(const eb_bus *bus);     /* whether this process has the door: a child that was forked there has not */
int eb_bus_alone(const eb_bus *bus);      /* 1 when nobody else is attached, nor in the middle of a send */
int64_t eb_bus_others(const eb_bus *bus); /* attachments of others */
int eb_bus_remove(const eb_bus *bus);     /* both names */
int eb_bus_look(eb_bus *bus);             /* to read from, without being attached */
int eb_bus_attach(eb_bus *bus, int writable);
int eb_bus_opened(void *bus, int failed);
int eb_bus_leave(eb_bus *bus, int64_t deadline); /* the last one out removes the names, unless the bus persists */
void eb_bus_free(eb_bus *bus);                   /* leaves it too, if that was not done */
int eb_bus_check(eb_bus *bus);                   /* why it cannot be used, or EB_OK */
int eb_bus_error(const eb_bus *bus);
int eb_bus_named(const eb_bus *bus);                         /* whether its name still means it */
void eb_bus_identity(const eb_bus *bus, uint64_t *identity); /* two words */
void eb_bus_persist(eb_bus *bus);
void eb_bus_interrupt(eb_bus *bus); /* whoever waits in it returns EB_CLOSED, now and later */

/* Called before and after a fork for whom goes on in the child: without, a child of C is attached to nothing. */
void eb_fork_begins(void);
void eb_fork_ends(void);
const void *eb_generation_word(void); /* a uint64_t that differs in every process that was forked, however */

int64_t eb_event_limit(const eb_bus *bus);
int eb_topic(eb_bus *bus, const char *names, size_t system_length, size_t kind_length, int64_t deadline);
int eb_topic_names(const eb_bus *bus, uint32_t topic, char *names, uint32_t *lengths); /* 512 bytes; two lengths */
int64_t eb_topic_count(const eb_bus *bus, uint32_t topic);
/* These two take an eb_route, and poll; the other ones have patience. The JSON text ends with a 0. */
int eb_send(const void *route, const char *json);
int eb_send_raw(const void *route, const char *path, size_t path_length, const char *data, size_t length);
int eb_send_batch(eb_bus *bus, const eb_outgoing *events, int count, const char *bytes, size_t length,
                  int64_t deadline);
/* The note holds as soon as the events are visible, and not before; without events, when this returns EB_OK. EB_TABLE_FULL:
 * there are EB_NOTES other names. */
int eb_send_noted(eb_bus *bus, const eb_note *note, const eb_outgoing *events, int count, const char *bytes,
                  size_t length, int64_t deadline);
/* Polls; where it finds no room, its turn is kept for a moment, for another try, if there will be one. `first` gets the
 * sequence of the first event. */
int eb_try_send(eb_bus *bus, const eb_note *note, const eb_outgoing *events, int count, const char *bytes,
                size_t length, int again, uint64_t *first);
/* What is sent once `due` is over, on CLOCK_MONOTONIC, by whoever publishes or receives then: its number, from 1 on, or a status.
 * EB_FULL: no room in the parking, or as many as may be. */
int64_t eb_schedule(eb_bus *bus, const eb_outgoing *event, const char *bytes, size_t length, int64_t due,
                    int64_t deadline);
int64_t eb_schedule_limit(const eb_bus *bus);                  /* bytes of the largest record of these */
int eb_cancel(eb_bus *bus, uint64_t number, int64_t deadline); /* 1 when it is never sent now */
int eb_scheduled_read(const eb_bus *bus, uint32_t from, eb_scheduled_info *out); /* as eb_claim_read */
int eb_note_read(eb_bus *bus, eb_note *note, int64_t deadline); /* the last one of its name, or EB_NOTHING */
int eb_shutdown(eb_bus *bus, int64_t deadline);
int eb_closed(const eb_bus *bus);
int eb_lock_holder(const eb_bus *bus);
int eb_is_publishing(const eb_bus *bus); /* whether somebody has the lock */
int eb_slowest(eb_bus *bus);
/* Events that its owner, or the group whose it is, has yet to take; bytes that it keeps from being overwritten. */
int64_t eb_waiting(const eb_bus *bus, uint32_t slot);
int64_t eb_kept_for(const eb_bus *bus, uint32_t slot);
int eb_stats_read(const eb_bus *bus, eb_stats *out);
int eb_subscriber(eb_bus *bus, uint32_t slot, eb_subscriber_info *out); /* 1 when a live subscription holds it */
uint64_t eb_delay_end(uint32_t bucket); /* ns that are the first past it; UINT64_MAX of the last one */
uint32_t eb_roster_epoch(eb_bus *bus);
int eb_roster_wait(eb_bus *bus, uint32_t epoch, int64_t deadline);

/* Groups, by number. */
int eb_group_create(eb_bus *bus, const eb_group_terms *terms, int64_t deadline);
int eb_group_remove(eb_bus *bus, const char *name, int64_t deadline);     /* or EB_NOTHING */
int eb_group_find(const eb_bus *bus, const char *name);                   /* or EB_NOTHING */
int eb_group_read(const eb_bus *bus, uint32_t group, eb_group_info *out); /* 1 when there is one */
/* The number of the first claim from `from` on, or EB_NOTHING. */
int eb_claim_read(const eb_bus *bus, uint32_t group, uint32_t from, eb_claim_info *out);
int eb_ack(eb_subscription *sub); /* the first event in hand, else EB_NOTHING */
/* The event of that sequence, if it is in hand, else EB_NOTHING; beside one who receives. */
int eb_ack_event(eb_subscription *sub, uint64_t sequence);
int eb_bury(eb_subscription *sub, uint64_t sequence); /* the same, and counts it as a dead letter */
int eb_reject_event(eb_subscription *sub, uint64_t sequence, int64_t delay_ns); /* not delivered again before that */
int eb_group_gone(const eb_subscription *sub);         /* whether the group whose member it is was removed */
int eb_group_keeper(const eb_subscription *sub);       /* the pid of whoever has its group's lock, or 0 */
int eb_return(eb_subscription *sub, int64_t delay_ns); /* all that it has in hand; what was handed out, for later */

/* Made first, so that somebody owns it, then joined: the cursor is fixed when eb_subscribe returns EB_OK. */
eb_subscription *eb_subscription_new(eb_bus *bus);
int eb_subscribe(eb_subscription *sub, const eb_terms *terms, int64_t deadline);
int eb_subscribed(void *sub, int failed);        /* the end of joining: failed, it leaves */
int eb_unsubscribe(eb_subscription *sub);        /* whoever is inside returns EB_CLOSED */
int eb_subscription_check(eb_subscription *sub); /* why it cannot be used, or EB_OK */
void eb_subscription_free(eb_subscription *sub);
void eb_interrupt(eb_subscription *sub);
eb_batch *eb_batch_of(eb_subscription *sub);
int eb_receive(eb_subscription *sub, int limit, int64_t deadline);
/* A lossless one, no member: until eb_attend it holds nobody up and receives nothing. By whoever would receive, alone. */
int eb_rest(eb_subscription *sub);
int eb_attend(eb_subscription *sub);
/* The topic's number: of EB_INLINE one of the subscription's own, or EB_INLINE again: then for the one record asked about. */
int eb_decide(eb_subscription *sub, uint32_t topic, int heard);
int eb_reserve(eb_subscription *sub, uint64_t size);
int eb_backlog(eb_subscription *sub, eb_walk *walk);
/* Of one that never joined, of a bus that is only looked at: the next events that the ring has kept, or EB_NOTHING. */
int eb_peek(eb_subscription *sub, int limit);
uint64_t eb_lost(const eb_subscription *sub);
uint32_t eb_slot(const eb_subscription *sub);

/* Event loops. The doorbell of a process and a bus is there from the first eb_bell_hold on; what holds it keeps its descriptor
 * open, also once the bus was left. `silent`: one that needs no socket, but a thread for each who waits. */
eb_bell *eb_bell_hold(eb_bus *bus, int silent);
void eb_bell_release(eb_bell *bell);
int eb_bell_fd(const eb_bell *bell);           /* can be read once it was rung */
int eb_bell_told(eb_bus *bus, uint16_t *told); /* then: how many are to receive, and the slots of these */
void eb_bell_still(eb_bus *bus);               /* and it can be read no more: who is told since then is to be seen */
int eb_bell_look(eb_bus *bus, uint16_t *told, int64_t *next); /* likewise from time to time, and when to look again */
/* EB_OK when the doorbell will be rung for the next event; `until` is when to look in any case. EB_NOTHING when there may be
 * something, EB_BUSY while another thread receives; apart, eb_fileno can be read soon then, or with the event. The next
 * eb_receive ends it. */
int eb_arm(eb_subscription *sub, int apart, int64_t *until);
void eb_disarm(eb_subscription *sub);     /* nobody waits any more */
void eb_rouse_loop(eb_subscription *sub); /* the doorbell of the process is rung, by itself */
int eb_fileno(eb_subscription *sub);      /* the descriptor of this subscription alone */
void eb_bells_remove(int roster_fd);      /* the files of all doorbells of a bus */
int eb_bells_sweep(int counting);         /* those at which nobody answers, of any bus; counting, they stay. How many */
