/* The send flow: claim, copy, commit, wake; and the end of a bus for everybody. */
#define _GNU_SOURCE
#include "sending.h"
#include "direct.h"

#define STREAM_NS 5000ull            /* between two events of a stream */
#define TURN_NS (2 * EB_MILLISECOND) /* how often who waits for others to have their turn looks again */
#define LOOK_NS 1000000ull           /* how often a stream looks whether its publisher's descriptor is still there */

/* --- publish --- */

/* What is published at once. Each event's bytes follow those of the one before; only a single one may have its body
 * apart from what stands before it. */
typedef struct {
    const eb_outgoing *events;
    int count;
    const char *head;
    const char *body;
    const eb_part *parts; /* or, of each event by itself, both */
    const eb_note *note;  /* or NULL */
    uint64_t *first;      /* where the first one's sequence is to be stored, or NULL */
    bool returns;         /* whoever publishes it waits for room outside, and keeps its turn meanwhile */
    uint64_t bytes;       /* of all records */
} eb_publication;

/* Adds the records up; EB_TOO_LARGE when they cannot be in the ring at once. */
static int measure(const eb_bus *bus, eb_publication *what)
{
    what->bytes = 0;
    for (int i = 0; i < what->count; i++) {
        uint64_t bytes = 0;
        int status = eb_measure(bus, &what->events[i], &bytes);
        if (status != EB_OK) return status;
        what->bytes += bytes;
    }
    return what->bytes + 8 <= bus->ring.capacity ? EB_OK : EB_TOO_LARGE;
}

/* What is due comes before all who wait, but for whoever has to send before anything else can. */
static uint64_t kept_for_others(eb_bus *bus, uint64_t share)
{
    uint64_t overdue = share < bus->ring.capacity ? eb_timetable_overdue(&bus->ring) : 0;
    return eb_queue_before(bus, share) + overdue;
}

static int publish_locked(eb_bus *bus, const eb_publication *what, uint64_t time, uint64_t share)
{
    eb_ring *ring = &bus->ring;
    if (atomic_load(&ring->header->closed)) return EB_CLOSED;
    /* A note without events takes no room: the 8 bytes behind the last record are there, and are written as they are. */
    int status = what->count == 0 ? EB_OK : eb_room_claim(bus, what->bytes + 8, kept_for_others(bus, share), share);
    if (status != EB_OK) return status;
    EB_TEST_POINT(publish_claimed);
    uint64_t begin = atomic_load(&ring->header->committed), position = begin;
    uint64_t sequence = eb_ring_sequence_at(ring, begin);
    if (what->note) status = eb_note_write(ring, what->note, begin + what->bytes);
    if (status != EB_OK) return status;
    const char *head = what->head;
    for (int i = 0; i < what->count; i++) {
        const eb_outgoing *event = &what->events[i];
        if (what->parts) head = what->parts[i].head;
        const char *body = what->parts ? what->parts[i].body : what->body ? what->body : head + eb_head_bytes(event);
        eb_ring_write(ring, position, sequence + (uint64_t)i, time, bus->pid, event, head, body);
        position += eb_ring_record_bytes(event);
        head = body + event->body_length;
    }
    eb_ring_commit(ring, position, sequence + (uint64_t)what->count);
    EB_TEST_POINT(publish_committed);
    position = begin;
    for (int i = 0; i < what->count; i++) {
        eb_ring_count(ring, what->events[i].topic, position);
        position += eb_ring_record_bytes(&what->events[i]);
    }
    EB_TEST_POINT(publish_counted);
    if (what->first) *what->first = sequence;
    return EB_OK;
}

/* Events that this process has sent, on any bus; roughly, as threads may overtake each other. */
static _Atomic uint64_t sent;

uint64_t eb_published(void)
{
    return atomic_load_explicit(&sent, memory_order_relaxed);
}

/* Whether somebody has closed our descriptor, which costs a system call: not for every event of a stream. */
static int look(eb_bus *bus, uint64_t time)
{
    uint64_t before = atomic_load_explicit(&bus->seen, memory_order_relaxed);
    atomic_store_explicit(&bus->seen, time, memory_order_relaxed);
    uint64_t looked = atomic_load_explicit(&bus->looked, memory_order_relaxed);
    if (time - before < STREAM_NS && time - looked < LOOK_NS) return eb_bus_usable(bus);
    atomic_store_explicit(&bus->looked, time, memory_order_relaxed);
    return eb_bus_check(bus);
}

static int try_publish(eb_bus *bus, const eb_publication *what, int64_t deadline, uint64_t share)
{
    uint64_t time = eb_wall_clock();
    int status = look(bus, time);
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    status = publish_locked(bus, what, time, share);
    bool patient = what->returns || !eb_over(deadline), gave_up = false;
    bool waits = status == EB_INTERRUPTED || (status == EB_FULL && patient);
    if (status == EB_FULL && waits) eb_queue_up(bus, what->bytes + 8);
    if (!waits) gave_up = eb_queue_leave(bus) && status != EB_OK;
    eb_bus_unlock_publish(bus);
    if (gave_up) eb_event_post(&bus->roster.header->space); /* what was kept for it is the others' now */
    if (status != EB_OK) return status;
    EB_TEST_POINT(publish_unlocked);
    atomic_store_explicit(&sent, eb_published() + (uint64_t)what->count, memory_order_relaxed);
    eb_wake(bus, eb_may_hear, what->events, what->count);
    eb_fire_due(bus, deadline);
    return EB_OK;
}

static int slowest_of(const eb_bus *bus)
{
    int slowest;
    eb_roster_gate(&bus->roster, atomic_load(&bus->ring.header->committed), bus->ring.capacity, &slowest);
    return slowest;
}

/* Sleepers that lag look, and the slowest whatever its flag says: a publisher may have died between lowering it and waking. */
static void press(eb_bus *bus, int slowest)
{
    eb_wake(bus, eb_lags, NULL, 0);
    eb_rung rung = {.count = 0};
    if (slowest >= 0) eb_rouse(bus, (uint32_t)slowest, &rung);
    eb_ring_owed(bus, &rung);
}

/* One wait for room: until a subscriber says that there is some, or until it is time to look who is dead. Sleepers are
 * woken after the look: a deaf one may lag by just what others sent a moment before it. */
static void await_room(eb_bus *bus, uint64_t need, int64_t deadline, uint64_t share)
{
    eb_event_count *space = &bus->roster.header->space;
    int slowest;
    EB_TEST_POINT(space_wanted);
    uint32_t epoch = eb_event_prepare(space);
    uint64_t committed = atomic_load(&bus->ring.header->committed);
    bool room = eb_room_fits(bus, eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest), need, share);
    /* Whose turn comes first: the room is not for us yet. */
    bool others = atomic_load(&bus->ring.header->queued) > 1 || eb_timetable_overdue(&bus->ring) > 0;
    if (room && !others) return; /* [space] */
    press(bus, slowest);
    if (eb_event_wait(space, epoch, eb_sooner(deadline, room ? TURN_NS : EB_SPACE_SLICE_NS)) != EB_NOTHING) return;
    if (!room) eb_bus_reap(bus, deadline);
}

/* Whether room may have come of the dead: looked for when one of them is the slowest, so a full ring that is polled costs a
 * look at one lock. */
static bool reap(eb_bus *bus, int64_t deadline)
{
    int slowest = slowest_of(bus);
    return slowest >= 0 && eb_slot_is_left(&bus->roster, (uint32_t)slowest) && eb_bus_reap(bus, deadline) > 0;
}

/* After each wait the caller gets EB_INTERRUPTED: a signal that came between two waits must not wait for the third. */
static int publish(eb_bus *bus, eb_publication *what, int64_t deadline)
{
    int status = measure(bus, what);
    uint64_t share = EB_OUTSIDERS_SHARE(bus->ring.capacity), least = share;
    if (status == EB_OK) status = try_publish(bus, what, deadline, share);
    if (status == EB_FULL) share = eb_share(bus);
    if (share > least) status = try_publish(bus, what, deadline, share);
    if (status == EB_FULL && eb_fire_due(bus, deadline))
        status = try_publish(bus, what, deadline, share); /* for which room was kept */
    if (status != EB_FULL) return status;
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    if (!eb_bus_named(bus)) return EB_REMOVED;
    if (what->returns) press(bus, slowest_of(bus));
    if (eb_over(deadline)) return reap(bus, deadline) ? try_publish(bus, what, deadline, share) : EB_FULL;
    await_room(bus, what->bytes + 8, deadline, share);
    return EB_INTERRUPTED;
}

static int publish_one(eb_bus *bus, const eb_outgoing *event, const char *head, const char *body)
{
    eb_publication what = {.events = event, .count = 1, .head = head, .body = body};
    if (event->topic >= EB_TOPICS && event->topic != EB_INLINE)
        return eb_damaged("a topic number that the table has not");
    return publish(bus, &what, EB_BRIEF); /* then there is the caller's patience */
}

/* Whether the path, with which the text begins, has at most EB_PATH_LIMIT bytes as it is written there: then it has
 * no more when it is decoded. A long one is left to the caller, who can count it. */
static bool path_is_short(const char *json, size_t length)
{
    if (length <= EB_PATH_LIMIT) return true;
    for (size_t i = 2; i < EB_PATH_LIMIT; i++) {
        if (json[i] == '"') return true;
        if (json[i] == '\\') i++;
    }
    return false;
}

static const char *names_of(const void *route)
{
    return (const char *)route + sizeof(eb_route);
}

int eb_send(const void *route, const char *json)
{
    eb_route to;
    memcpy(&to, route, sizeof to);
    size_t length = strlen(json);
    if (length > EB_LONGEST || !path_is_short(json, length)) return EB_TOO_LARGE;
    eb_outgoing event = {.topic = to.topic,
                         .system_length = to.system_length,
                         .kind_length = to.kind_length,
                         .body_length = (uint32_t)length};
    return publish_one(to.bus, &event, names_of(route), json);
}

int eb_send_raw(const void *route, const char *path, size_t path_length, const char *data, size_t length)
{
    eb_route to;
    char head[2 * EB_NAME_LIMIT + EB_PATH_LIMIT];
    memcpy(&to, route, sizeof to);
    uint64_t names = (uint64_t)to.system_length + to.kind_length;
    if (length > EB_LONGEST || path_length > EB_PATH_LIMIT) return EB_TOO_LARGE;
    eb_outgoing event = {.topic = to.topic,
                         .system_length = to.system_length,
                         .kind_length = to.kind_length,
                         .path_length = (uint32_t)path_length,
                         .body_length = (uint32_t)length};
    if (names == 0) return publish_one(to.bus, &event, path, data);
    memcpy(head, names_of(route), names);
    memcpy(head + names, path, path_length);
    return publish_one(to.bus, &event, head, data);
}

static bool is_topic(uint32_t topic)
{
    return topic < EB_TOPICS || topic == EB_INLINE;
}

int eb_send_parts(eb_bus *bus, const eb_outgoing *events, const eb_part *parts, int count, int64_t deadline)
{
    eb_publication what = {.events = events, .count = count, .parts = parts};
    for (int i = 0; i < count; i++)
        if (!is_topic(events[i].topic)) return eb_damaged("a topic number that the table has not");
    return publish(bus, &what, deadline);
}

static int send_all(eb_bus *bus, eb_publication what, size_t length, int64_t deadline)
{
    const eb_outgoing *events = what.events;
    const eb_note *note = what.note;
    int count = what.count;
    bool noted = note && note->name_length - 1 < EB_NOTE_NAME_LIMIT && note->length <= EB_NOTE_LIMIT;
    if (note && !noted) return EB_TOO_LARGE;
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (!is_topic(events[i].topic)) return eb_damaged("a topic number that the table has not");
        sum += eb_head_bytes(&events[i]) + events[i].body_length;
    }
    return sum != length ? EB_TOO_LARGE : publish(bus, &what, deadline);
}

int eb_send_noted(eb_bus *bus, const eb_note *note, const eb_outgoing *events, int count, const char *bytes,
                  size_t length, int64_t deadline)
{
    eb_publication what = {.events = events, .count = count, .head = bytes, .note = note};
    return send_all(bus, what, length, deadline);
}

int eb_try_send(eb_bus *bus, const eb_note *note, const eb_outgoing *events, int count, const char *bytes,
                size_t length, int again, uint64_t *first)
{
    eb_publication what = {
        .events = events, .count = count, .head = bytes, .note = note, .first = first, .returns = again != 0};
    return send_all(bus, what, length, EB_BRIEF);
}

int eb_send_batch(eb_bus *bus, const eb_outgoing *events, int count, const char *bytes, size_t length, int64_t deadline)
{
    return eb_send_noted(bus, NULL, events, count, bytes, length, deadline);
}

int eb_shutdown(eb_bus *bus, int64_t deadline)
{
    int status = eb_bus_check(bus);
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    atomic_store(&bus->ring.header->closed, 1); /* [wake] */
    EB_TEST_POINT(shutdown_stored);
    eb_bus_unlock_publish(bus);
    EB_TEST_POINT(shutdown_unlocked);
    eb_wake(bus, eb_anybody, NULL, 0);
    eb_event_post(&bus->roster.header->space);
    eb_event_post(&bus->roster.header->changed);
    return EB_OK;
}

/* --- topics --- */

/* Its number; looked for without the lock first, because a topic is met by every process and added by one. */
int eb_topic(eb_bus *bus, const char *names, size_t system_length, size_t kind_length, int64_t deadline)
{
    if (system_length > EB_NAME_LIMIT || kind_length > EB_NAME_LIMIT) return EB_TOO_LARGE;
    int found = eb_ring_topic_find(&bus->ring, 0, names, system_length, kind_length);
    if (found != EB_NOTHING) return found;
    if (!eb_ring_topic_fits(&bus->ring, system_length + kind_length)) return EB_TABLE_FULL; /* for good */
    int status = eb_bus_check(bus);
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    found = eb_ring_topic_find(&bus->ring, 0, names, system_length, kind_length);
    if (found == EB_NOTHING) found = eb_ring_topic_add(&bus->ring, names, system_length, kind_length);
    eb_bus_unlock_publish(bus);
    return found;
}
