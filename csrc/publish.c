/* The send flow: claim, copy, commit, wake; and the end of a bus for everybody. */
#define _GNU_SOURCE
#include "claims.h"

#include <time.h>

#define NS_PER_SECOND 1000000000ll
#define STREAM_NS 5000ull            /* between two events of a stream */
#define TURN_NS (2 * EB_MILLISECOND) /* how often who waits for others to have their turn looks again */
#define LOOK_NS 1000000ull           /* how often a stream looks whether its publisher's descriptor is still there */

/* --- wake --- */

typedef bool wakes(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count);

static uint64_t lag_of(const eb_bus *bus, uint32_t slot)
{
    return atomic_load(&bus->ring.header->committed) - atomic_load(&bus->roster.header->slots[slot].cursor);
}

/* Whoever may hear one of the events; and a deaf one that lags by half a ring and is lapped soon. */
static bool may_hear(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    for (int i = 0; i < count; i++)
        if (!eb_slot_deaf(&bus->roster, slot, events[i].topic)) return true;
    return !eb_slot_holds_gate(&bus->roster, slot) && lag_of(bus, slot) > bus->ring.capacity / 2;
}

static bool lags(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    (void)events, (void)count;
    return lag_of(bus, slot) > 0;
}

static bool may_still_hear(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    return lag_of(bus, slot) > 0 && may_hear(bus, slot, events, count);
}

static bool anybody(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    (void)bus, (void)slot, (void)events, (void)count;
    return true;
}

static void wake(eb_bus *bus, wakes *chosen, const eb_outgoing *events, int count)
{
    uint32_t used = eb_roster_used(&bus->roster);
    for (uint32_t base = 0; base < used; base += 64) {
        uint64_t bits = atomic_load(&bus->roster.header->waiters[base / 64].bits); /* [wake] */
        for (; bits != 0; bits &= bits - 1) {
            uint32_t slot = base + (uint32_t)__builtin_ctzll(bits);
            if (slot >= used || !chosen(bus, slot, events, count)) continue;
            if (!eb_waiter_lower(&bus->roster, slot)) continue;
            EB_TEST_POINT(wake_lowered);
            eb_semaphore_post(&bus->roster.header->slots[slot].semaphore);
            EB_TEST_POINT(wake_posted);
        }
    }
}

/* Of a batch that this subscriber has had, before it sleeps again: whoever sent it may have died before it had woken all
 * that it was for. Only those are meant who have not moved since. */
void eb_pass_wake(eb_subscription *sub)
{
    if (!sub->to_pass_on) return;
    sub->to_pass_on = false;
    wake(sub->bus, may_still_hear, (const eb_outgoing[]){{.topic = sub->topics[0]}, {.topic = sub->topics[1]}}, 2);
}

/* --- publish --- */

#define LONGEST (1ull << 31) /* of any ring: a record counts its bytes with 32 bits */

int64_t eb_event_limit(const eb_bus *bus)
{
    uint64_t quarter = bus->ring.capacity / 4;
    return (int64_t)(quarter < LONGEST ? quarter : LONGEST);
}

/* What is published at once. Each event's bytes follow those of the one before; only a single one may have its body
 * apart from what stands before it. */
typedef struct {
    const eb_outgoing *events;
    int count;
    const char *head;
    const char *body;
    const eb_note *note; /* or NULL */
    uint64_t bytes;      /* of all records */
} eb_publication;

/* Adds the records up; EB_TOO_LARGE when they cannot be in the ring at once. */
static int measure(const eb_bus *bus, eb_publication *what)
{
    what->bytes = 0;
    for (int i = 0; i < what->count; i++) {
        const eb_outgoing *event = &what->events[i];
        if (event->path_length == 0 && event->body_length < 2) return EB_TOO_LARGE;
        if (event->path_length > EB_PATH_LIMIT || event->extension_length > EB_EXTENSION_LIMIT) return EB_TOO_LARGE;
        if (event->system_length > EB_NAME_LIMIT || event->kind_length > EB_NAME_LIMIT) return EB_TOO_LARGE;
        uint64_t bytes = eb_ring_record_bytes(event);
        if (bytes > (uint64_t)eb_event_limit(bus)) return EB_TOO_LARGE;
        what->bytes += bytes;
    }
    return what->bytes + 8 <= bus->ring.capacity ? EB_OK : EB_TOO_LARGE;
}

/* Within its share; an empty ring is anybody's. Who takes nothing from the ring leaves as much of it as was parked: what comes
 * of that must find room. */
static bool fits(const eb_bus *bus, uint64_t gate, uint64_t need, uint64_t share)
{
    const eb_ring_header *header = bus->ring.header;
    uint64_t used = atomic_load(&header->committed) - gate, capacity = bus->ring.capacity;
    if (used == 0) return need <= capacity;
    if (share == EB_OUTSIDERS_SHARE(capacity)) used += atomic_load_explicit(&header->parked, memory_order_relaxed);
    return used + need <= share;
}

/* Room for `need` bytes, beside what is kept for others, as far as the gate goes: the cached one first, the cursors only
 * when it does not suffice. */
static int claim(eb_bus *bus, uint64_t need, uint64_t share)
{
    eb_ring_header *header = bus->ring.header;
    uint64_t committed = atomic_load(&header->committed), before = eb_queue_before(bus, share);
    if (!fits(bus, atomic_load_explicit(&header->gate, memory_order_relaxed), before + need, share)) {
        int slowest;
        bool whole = eb_move_bystanders(bus, committed, before + need), more = false;
        uint64_t gate = eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest);
        if (!fits(bus, gate, before + need, share) && eb_park(bus, committed, before + need, &more))
            gate = eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest);
        if (gate != atomic_load_explicit(&header->gate, memory_order_relaxed))
            atomic_store_explicit(&header->gate_moved, (uint64_t)eb_now(), memory_order_relaxed);
        atomic_store_explicit(&header->gate, gate, memory_order_relaxed); /* only the lock's holder looks */
        atomic_store_explicit(&header->parked, eb_parked(bus), memory_order_relaxed);
        EB_TEST_POINT(publish_gated);
        if (!fits(bus, gate, before + need, share)) return whole && !more ? EB_FULL : EB_INTERRUPTED;
    }
    return eb_ring_room(&bus->ring, committed, need);
}

static uint64_t wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static int publish_locked(eb_bus *bus, const eb_publication *what, uint64_t time, uint64_t share)
{
    eb_ring *ring = &bus->ring;
    if (atomic_load(&ring->header->closed)) return EB_CLOSED;
    int status = claim(bus, what->bytes + 8, share);
    if (status != EB_OK) return status;
    EB_TEST_POINT(publish_claimed);
    uint64_t begin = atomic_load(&ring->header->committed), position = begin;
    uint64_t sequence = eb_ring_sequence_at(ring, begin);
    if (what->note) status = eb_note_write(ring, what->note, begin + what->bytes);
    if (status != EB_OK) return status;
    const char *head = what->head;
    for (int i = 0; i < what->count; i++) {
        const eb_outgoing *event = &what->events[i];
        const char *body = what->body ? what->body : head + eb_head_bytes(event);
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
    uint64_t time = wall_clock();
    int status = look(bus, time);
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    status = publish_locked(bus, what, time, share);
    bool waits = status == EB_INTERRUPTED || (status == EB_FULL && !eb_over(deadline)), gave_up = false;
    if (status == EB_FULL && waits) eb_queue_up(bus, what->bytes + 8);
    if (!waits) gave_up = eb_queue_leave(bus) && status != EB_OK;
    eb_bus_unlock_publish(bus);
    if (gave_up) eb_event_post(&bus->roster.header->space); /* what was kept for it is the others' now */
    if (status != EB_OK) return status;
    EB_TEST_POINT(publish_unlocked);
    atomic_store_explicit(&sent, eb_published() + (uint64_t)what->count, memory_order_relaxed);
    wake(bus, may_hear, what->events, what->count);
    return EB_OK;
}

/* One wait for room: until a subscriber says that there is some, or until it is time to look who is dead. Sleepers are
 * woken after the look: a deaf one may lag by just what others sent a moment before it. The slowest is woken whatever its
 * flag says: a publisher may have died between lowering it and waking. */
static void await_room(eb_bus *bus, uint64_t need, int64_t deadline, uint64_t share)
{
    eb_event_count *space = &bus->roster.header->space;
    int slowest;
    EB_TEST_POINT(space_wanted);
    uint32_t epoch = eb_event_prepare(space);
    uint64_t committed = atomic_load(&bus->ring.header->committed);
    bool room = fits(bus, eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest), need, share);
    bool others = atomic_load(&bus->ring.header->queued) > 1; /* whose turn comes first: the room is not for us yet */
    if (room && !others) return;                              /* [space] */
    wake(bus, lags, NULL, 0);
    if (slowest >= 0) eb_semaphore_post(&bus->roster.header->slots[slowest].semaphore);
    if (eb_event_wait(space, epoch, eb_sooner(deadline, room ? TURN_NS : EB_SPACE_SLICE_NS)) != EB_NOTHING) return;
    if (!room) eb_bus_reap(bus);
}

/* Whether room may have come of the dead: looked for when one of them is the slowest, so a full ring that is polled costs a
 * look at one lock. */
static bool reap(eb_bus *bus)
{
    int slowest;
    eb_roster_gate(&bus->roster, atomic_load(&bus->ring.header->committed), bus->ring.capacity, &slowest);
    return slowest >= 0 && eb_slot_is_left(&bus->roster, (uint32_t)slowest) && eb_bus_reap(bus) > 0;
}

/* After each wait the caller gets EB_INTERRUPTED: a signal that came between two waits must not wait for the third. */
static int publish(eb_bus *bus, eb_publication *what, int64_t deadline)
{
    int status = measure(bus, what);
    uint64_t share = EB_OUTSIDERS_SHARE(bus->ring.capacity), least = share;
    if (status == EB_OK) status = try_publish(bus, what, deadline, share);
    if (status == EB_FULL) share = eb_share(bus);
    if (share > least) status = try_publish(bus, what, deadline, share);
    if (status != EB_FULL) return status;
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    if (!eb_bus_named(bus)) return EB_REMOVED;
    if (eb_over(deadline)) return reap(bus) ? try_publish(bus, what, deadline, share) : EB_FULL;
    await_room(bus, what->bytes + 8, deadline, share);
    return EB_INTERRUPTED;
}

static int publish_one(eb_bus *bus, const eb_outgoing *event, const char *head, const char *body)
{
    eb_publication what = {.events = event, .count = 1, .head = head, .body = body};
    if (event->topic >= EB_TOPICS && event->topic != EB_INLINE)
        return eb_damaged("a topic number that the table has not");
    return publish(bus, &what, EB_POLL);
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
    if (length > LONGEST || !path_is_short(json, length)) return EB_TOO_LARGE;
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
    if (length > LONGEST || path_length > EB_PATH_LIMIT) return EB_TOO_LARGE;
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

int eb_send_noted(eb_bus *bus, const eb_note *note, const eb_outgoing *events, int count, const char *bytes,
                  size_t length, int64_t deadline)
{
    eb_publication what = {.events = events, .count = count, .head = bytes, .note = note};
    bool noted = note && note->name_length - 1 < EB_NOTE_NAME_LIMIT && note->length <= EB_NOTE_LIMIT;
    if (note && !noted) return EB_TOO_LARGE;
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].topic >= EB_TOPICS && events[i].topic != EB_INLINE)
            return eb_damaged("a topic number that the table has not");
        sum += eb_head_bytes(&events[i]) + events[i].body_length;
    }
    return sum != length ? EB_TOO_LARGE : publish(bus, &what, deadline);
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
    wake(bus, anybody, NULL, 0);
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
