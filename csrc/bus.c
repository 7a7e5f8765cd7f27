/* The public functions of a bus; each composes leaves. Here is the publish lock. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000ll
#define LOCK_TRIES 200
#define LOCK_SLICE_NS (50 * EB_MILLISECOND) /* also what a poll grants: the lock is held for nanoseconds */
#define REAP_WAIT_NS (20 * EB_MILLISECOND)

static struct timespec to_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND};
}

/* --- open and close --- */

static int same_bus(const eb_bus *bus)
{
    const eb_signature *ring = &bus->ring.header->signature, *roster = &bus->roster.header->signature;
    bool same = memcmp(ring->identity, roster->identity, sizeof ring->identity) == 0 &&
                ring->capacity == roster->capacity && ring->max_subscribers == roster->max_subscribers;
    return same ? EB_OK : eb_damaged("its ring and its roster belong to different buses");
}

static void unmap_both(eb_bus *bus)
{
    int error = errno;
    eb_ring_unmap(&bus->ring);
    eb_roster_unmap(&bus->roster);
    errno = error;
}

static int map_both(eb_bus *bus, int ring_fd, int roster_fd, bool writable)
{
    int status = eb_roster_map(&bus->roster, roster_fd);
    if (status == EB_OK) status = eb_ring_map(&bus->ring, ring_fd, writable);
    if (status == EB_OK) status = same_bus(bus);
    if (status != EB_OK) unmap_both(bus);
    return status;
}

eb_bus *eb_bus_open(int ring_fd, int roster_fd, int writable, int *status)
{
    eb_bus *bus = calloc(1, sizeof *bus);
    *status = EB_SYSTEM;
    if (!bus) return NULL;
    bus->pid = (uint32_t)getpid();
    pthread_mutex_init(&bus->roster_mutex, NULL);
    *status = map_both(bus, ring_fd, roster_fd, writable != 0);
    if (*status == EB_OK) {
        bus->roster.fd = fcntl(roster_fd, F_DUPFD_CLOEXEC, 0);
        if (bus->roster.fd >= 0) return bus;
        *status = EB_SYSTEM;
        unmap_both(bus);
    }
    free(bus);
    return NULL;
}

/* Nobody else is attached, so nobody holds the lock: it is made anew, like everything that counts waiters. */
static int repair_alone(eb_bus *bus)
{
    eb_ring_header *header = bus->ring.header;
    int status = eb_ring_verify(&bus->ring);
    if (status == EB_OK) status = eb_ring_repair(&bus->ring);
    if (status == EB_OK) status = eb_lock_create(&header->publish_lock);
    if (status != EB_OK) return status;
    eb_roster_clear(&bus->roster);
    atomic_store(&header->gate, atomic_load(&header->oldest));
    atomic_store(&header->closed, 0);
    return EB_OK;
}

int eb_repair(int ring_fd, int roster_fd)
{
    eb_bus bus = {.pid = 0};
    int status = map_both(&bus, ring_fd, roster_fd, true);
    if (status != EB_OK) return status;
    status = repair_alone(&bus);
    unmap_both(&bus);
    return status;
}

int eb_bus_roster_fd(const eb_bus *bus)
{
    return bus->roster.fd;
}

void eb_bus_persist(eb_bus *bus)
{
    atomic_store(&bus->roster.header->persist, 1);
}

void eb_bus_interrupt(eb_bus *bus)
{
    atomic_store(&bus->interrupted, true);
    eb_event_post(&bus->roster.header->space);
    eb_event_post(&bus->roster.header->changed);
}

/* In a child that was forked behind our back the description is the parent's too: closing it is all we may do. */
void eb_bus_free(eb_bus *bus)
{
    if (!bus) return;
    if (bus->pid == (uint32_t)getpid()) eb_detach(bus->roster.fd);
    eb_ring_unmap(&bus->ring);
    eb_roster_unmap(&bus->roster);
    close(bus->roster.fd);
    pthread_mutex_destroy(&bus->roster_mutex);
    free(bus);
}

int eb_fork_prepare(eb_bus *bus)
{
    int fd = eb_reopen(bus->roster.fd);
    if (fd < 0) return EB_SYSTEM;
    if (eb_attach(fd) == EB_OK) return fd;
    close(fd);
    return EB_SYSTEM;
}

void eb_fork_child(eb_bus *bus, int roster_fd)
{
    close(bus->roster.fd);
    bus->roster.fd = roster_fd;
    bus->pid = (uint32_t)getpid();
    pthread_mutex_init(&bus->roster_mutex, NULL);
}

/* --- locks --- */

int eb_bus_lock_roster(eb_bus *bus, int64_t deadline)
{
    struct timespec until = to_timespec(eb_sooner(deadline, EB_SLICE_NS));
    if (pthread_mutex_clocklock(&bus->roster_mutex, CLOCK_MONOTONIC, &until) != 0)
        return eb_over(deadline) ? EB_BUSY : EB_INTERRUPTED;
    int status = eb_roster_lock(bus->roster.fd, deadline);
    if (status != EB_OK) pthread_mutex_unlock(&bus->roster_mutex);
    return status;
}

void eb_bus_unlock_roster(eb_bus *bus)
{
    eb_roster_unlock(bus->roster.fd);
    pthread_mutex_unlock(&bus->roster_mutex);
}

/* What the lock's answer means. A dead owner's work is repaired before the lock is declared consistent; should we die
 * in the middle, the next owner is told the same and repairs again. */
static int settle(eb_bus *bus, int answer)
{
    pthread_mutex_t *lock = &bus->ring.header->publish_lock;
    int status = EB_OK;
    if (answer == EBUSY || answer == ETIMEDOUT) return EB_BUSY;
    if (answer != 0 && answer != EOWNERDEAD)
        return eb_damaged("its publish lock is unusable: a publisher died and left what could not be repaired");
    if (answer == EOWNERDEAD) {
        status = eb_ring_repair(&bus->ring);
        if (status == EB_OK) pthread_mutex_consistent(lock);
        else pthread_mutex_unlock(lock);
    }
    return status;
}

static int lock_publish(eb_bus *bus, int64_t deadline)
{
    pthread_mutex_t *lock = &bus->ring.header->publish_lock;
    int status = EB_BUSY;
    for (int i = 0; i < LOCK_TRIES && status == EB_BUSY; i++) {
        status = settle(bus, pthread_mutex_trylock(lock));
        if (status == EB_BUSY) eb_pause();
    }
    if (status == EB_BUSY) {
        struct timespec until = to_timespec(eb_sooner(deadline == EB_POLL ? EB_FOREVER : deadline, LOCK_SLICE_NS));
        status = settle(bus, pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until));
    }
    if (status == EB_BUSY) return eb_over(deadline) ? EB_BUSY : EB_INTERRUPTED;
    if (status != EB_OK) return status;
    atomic_store_explicit(&bus->ring.header->holder, bus->pid, memory_order_relaxed); /* for people */
    EB_TEST_POINT(publish_locked);
    return EB_OK;
}

static void unlock_publish(eb_bus *bus)
{
    pthread_mutex_unlock(&bus->ring.header->publish_lock);
}

int eb_lock_holder(const eb_bus *bus)
{
    return (int)atomic_load_explicit(&bus->ring.header->holder, memory_order_relaxed);
}

/* --- wake --- */

typedef bool wakes(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count);

static uint64_t lag_of(const eb_bus *bus, uint32_t slot)
{
    return atomic_load(&bus->ring.header->committed) - atomic_load(&bus->roster.header->slots[slot].cursor);
}

/* Whoever may hear one of the events; and a deaf one that lags by half a ring, whose cursor stands in the way. */
static bool may_hear(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    for (int i = 0; i < count; i++)
        if (!eb_slot_deaf(&bus->roster, slot, events[i].topic)) return true;
    return lag_of(bus, slot) > bus->ring.capacity / 2;
}

static bool lags(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    (void)events, (void)count;
    return lag_of(bus, slot) > 0;
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

/* --- publish --- */

int64_t eb_event_limit(const eb_bus *bus)
{
    return (int64_t)(bus->ring.capacity / 4);
}

/* What is published at once. Each event's bytes follow those of the one before; only a single one may have its body
 * apart from what stands before it. */
typedef struct {
    const eb_outgoing *events;
    int count;
    const char *head;
    const char *body;
    uint64_t bytes; /* of all records */
} eb_publication;

static uint64_t head_bytes(const eb_outgoing *event)
{
    return (uint64_t)event->system_length + event->kind_length + event->path_length;
}

/* Adds the records up; EB_TOO_LARGE when they cannot be in the ring at once. */
static int measure(const eb_bus *bus, eb_publication *what)
{
    what->bytes = 0;
    for (int i = 0; i < what->count; i++) {
        const eb_outgoing *event = &what->events[i];
        if (event->path_length == 0 && event->body_length < 2) return EB_TOO_LARGE;
        uint64_t bytes = eb_ring_record_bytes(event);
        if (bytes > bus->ring.capacity / 4) return EB_TOO_LARGE;
        what->bytes += bytes;
    }
    return what->bytes + 8 <= bus->ring.capacity ? EB_OK : EB_TOO_LARGE;
}

static bool fits(const eb_bus *bus, uint64_t gate, uint64_t need)
{
    return atomic_load(&bus->ring.header->committed) + need - gate <= bus->ring.capacity;
}

/* Room for `need` bytes as far as the gate goes: the cached one first, the cursors only when it does not suffice. */
static int claim(eb_bus *bus, uint64_t need)
{
    eb_ring_header *header = bus->ring.header;
    uint64_t committed = atomic_load(&header->committed);
    if (!fits(bus, atomic_load_explicit(&header->gate, memory_order_relaxed), need)) {
        int slowest;
        uint64_t gate = eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest);
        atomic_store_explicit(&header->gate, gate, memory_order_relaxed); /* only the lock's holder looks */
        if (!fits(bus, gate, need)) return EB_FULL;
    }
    return eb_ring_room(&bus->ring, committed, need);
}

static uint64_t wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static int publish_locked(eb_bus *bus, const eb_publication *what, uint64_t time)
{
    eb_ring *ring = &bus->ring;
    if (atomic_load(&ring->header->closed)) return EB_CLOSED;
    int status = claim(bus, what->bytes + 8);
    if (status != EB_OK) return status;
    EB_TEST_POINT(publish_claimed);
    uint64_t position = atomic_load(&ring->header->committed);
    uint64_t sequence = eb_ring_sequence_at(ring, position);
    const char *head = what->head;
    for (int i = 0; i < what->count; i++) {
        const eb_outgoing *event = &what->events[i];
        const char *body = what->body ? what->body : head + head_bytes(event);
        eb_ring_write(ring, position, sequence + (uint64_t)i, time, bus->pid, event, head, body);
        position += eb_ring_record_bytes(event);
        head = body + event->body_length;
    }
    eb_ring_commit(ring, position, sequence + (uint64_t)what->count);
    EB_TEST_POINT(publish_committed);
    for (int i = 0; i < what->count; i++)
        eb_ring_count(ring, what->events[i].topic);
    EB_TEST_POINT(publish_counted);
    return EB_OK;
}

static int try_publish(eb_bus *bus, const eb_publication *what, int64_t deadline)
{
    uint64_t time = wall_clock();
    int status = lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    status = publish_locked(bus, what, time);
    unlock_publish(bus);
    if (status != EB_OK) return status;
    EB_TEST_POINT(publish_unlocked);
    wake(bus, may_hear, what->events, what->count);
    return EB_OK;
}

static int reap(eb_bus *bus)
{
    if (eb_bus_lock_roster(bus, eb_now() + REAP_WAIT_NS) != EB_OK) return 0;
    int reaped = eb_roster_reap(&bus->roster);
    eb_bus_unlock_roster(bus);
    if (reaped > 0) eb_event_post(&bus->roster.header->changed);
    return reaped;
}

/* One wait for room: until a subscriber says that there is some, or until it is time to look who is dead. */
static void await_room(eb_bus *bus, uint64_t need, int64_t deadline)
{
    eb_event_count *space = &bus->roster.header->space;
    int slowest;
    wake(bus, lags, NULL, 0);
    uint32_t epoch = eb_event_prepare(space);
    EB_TEST_POINT(space_flagged);
    uint64_t committed = atomic_load(&bus->ring.header->committed);
    if (fits(bus, eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest), need)) return; /* [space] */
    if (eb_event_wait(space, epoch, eb_sooner(deadline, EB_SPACE_SLICE_NS)) == EB_NOTHING) reap(bus);
}

/* After each wait the caller gets EB_INTERRUPTED: a signal that came between two waits must not wait for the third. */
static int publish(eb_bus *bus, eb_publication *what, int64_t deadline)
{
    int status = measure(bus, what);
    if (status == EB_OK) status = try_publish(bus, what, deadline);
    if (status != EB_FULL) return status;
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    if (eb_over(deadline)) return reap(bus) > 0 ? try_publish(bus, what, deadline) : EB_FULL;
    await_room(bus, what->bytes + 8, deadline);
    return EB_INTERRUPTED;
}

static int publish_one(eb_bus *bus, const eb_outgoing *event, const char *head, const char *body)
{
    eb_publication what = {.events = event, .count = 1, .head = head, .body = body};
    if (event->topic >= EB_TOPICS) return eb_damaged("a topic number that the table has not");
    return publish(bus, &what, EB_POLL);
}

int eb_send(eb_bus *bus, uint32_t topic, const char *json, size_t length)
{
    eb_outgoing event = {.topic = topic, .body_length = (uint32_t)length};
    return length > bus->ring.capacity ? EB_TOO_LARGE : publish_one(bus, &event, json, json);
}

int eb_send_raw(eb_bus *bus, uint32_t topic, const char *path, size_t path_length, const char *data, size_t length)
{
    eb_outgoing event = {.topic = topic, .path_length = (uint32_t)path_length, .body_length = (uint32_t)length};
    if (length > bus->ring.capacity || path_length > EB_PATH_LIMIT) return EB_TOO_LARGE;
    return publish_one(bus, &event, path, data);
}

int eb_send_batch(eb_bus *bus, const eb_outgoing *events, int count, const char *bytes, size_t length, int64_t deadline)
{
    eb_publication what = {.events = events, .count = count, .head = bytes};
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].topic >= EB_TOPICS && events[i].topic != EB_INLINE)
            return eb_damaged("a topic number that the table has not");
        sum += head_bytes(&events[i]) + events[i].body_length;
    }
    return sum != length ? EB_TOO_LARGE : publish(bus, &what, deadline);
}

int eb_shutdown(eb_bus *bus, int64_t deadline)
{
    int status = lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    atomic_store(&bus->ring.header->closed, 1); /* [wake] */
    EB_TEST_POINT(shutdown_stored);
    unlock_publish(bus);
    wake(bus, anybody, NULL, 0);
    eb_event_post(&bus->roster.header->space);
    eb_event_post(&bus->roster.header->changed);
    return EB_OK;
}

int eb_closed(const eb_bus *bus)
{
    return atomic_load(&bus->ring.header->closed) != 0;
}

/* --- topics --- */

/* Its number; looked for without the lock first, because a topic is met by every process and added by one. */
int eb_topic(eb_bus *bus, const char *names, size_t system_length, size_t kind_length, int64_t deadline)
{
    if (system_length > EB_NAME_LIMIT || kind_length > EB_NAME_LIMIT) return EB_TOO_LARGE;
    int found = eb_ring_topic_find(&bus->ring, 0, names, system_length, kind_length);
    if (found != EB_NOTHING) return found;
    int status = lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    found = eb_ring_topic_find(&bus->ring, 0, names, system_length, kind_length);
    if (found == EB_NOTHING) found = eb_ring_topic_add(&bus->ring, names, system_length, kind_length);
    unlock_publish(bus);
    return found;
}

int eb_topic_names(const eb_bus *bus, uint32_t topic, char *names, uint32_t *lengths)
{
    return eb_ring_topic_names(&bus->ring, topic, names, lengths);
}

int64_t eb_topic_count(const eb_bus *bus, uint32_t topic)
{
    if (topic >= EB_TOPICS) return EB_NOTHING;
    return (int64_t)atomic_load_explicit(&bus->ring.header->topics[topic].count, memory_order_relaxed);
}

/* --- who is there --- */

int eb_slowest(eb_bus *bus)
{
    int slowest;
    eb_roster_gate(&bus->roster, atomic_load(&bus->ring.header->committed), bus->ring.capacity, &slowest);
    return slowest;
}

int eb_stats_read(const eb_bus *bus, eb_stats *out)
{
    const eb_ring_header *header = bus->ring.header;
    uint64_t oldest = 0, committed = 0, next = 0;
    do { /* until no publisher moved the oldest position in between */
        oldest = atomic_load(&header->oldest);
        committed = atomic_load(&header->committed);
        next = eb_ring_sequence_at(&bus->ring, committed);
    } while (eb_ring_lapped(&bus->ring, oldest));
    if (committed - oldest > bus->ring.capacity) return eb_damaged("the positions are impossible");
    uint32_t topics = atomic_load(&header->topic_count);
    *out = (eb_stats){.capacity = bus->ring.capacity,
                      .used = committed - oldest,
                      .committed = committed,
                      .sent = next - 1,
                      .inline_sent = atomic_load(&header->inline_count),
                      .topics = topics < EB_TOPICS ? topics : EB_TOPICS,
                      .max_subscribers = bus->roster.max_subscribers,
                      .closed = eb_closed(bus),
                      .persist = atomic_load(&bus->roster.header->persist) == 1};
    return EB_OK;
}

/* Whoever sees a byte of the slot's next owner also sees that the owner word has moved on. [owner] */
static void copy_text(char *to, const _Atomic char *from, size_t length, size_t limit)
{
    length = length < limit ? length : limit;
    for (size_t i = 0; i < length; i++)
        to[i] = atomic_load_explicit(&from[i], memory_order_acquire);
    to[length] = 0;
}

static uint64_t next_sequence(const eb_ring *ring)
{
    uint64_t oldest, committed, next;
    do {
        oldest = atomic_load(&ring->header->oldest); /* before the committed position, so never ahead of it */
        committed = atomic_load(&ring->header->committed);
        next = eb_ring_sequence_at(ring, committed);
    } while (eb_ring_lapped(ring, committed) && (int64_t)(committed - oldest) >= 0); /* else damaged: any number */
    return next;
}

int eb_subscriber(eb_bus *bus, uint32_t slot, eb_subscriber_info *out)
{
    if (slot >= eb_roster_used(&bus->roster)) return 0;
    const eb_slot_t *from = &bus->roster.header->slots[slot];
    uint64_t owner = atomic_load(&from->owner);
    if (!eb_slot_alive(&bus->roster, slot)) return 0;
    uint64_t next = next_sequence(&bus->ring);
    uint64_t sequence = atomic_load(&from->sequence);
    *out = (eb_subscriber_info){.backlog = next > sequence ? next - sequence : 0,
                                .lost = atomic_load(&from->lost),
                                .pid = atomic_load(&from->pid),
                                .gated = (owner & EB_SLOT_GATED) != 0,
                                .sleeping =
                                    (atomic_load(&bus->roster.header->waiters[slot / 64].bits) >> (slot % 64)) & 1};
    copy_text(out->name, from->name, from->name_length, EB_LABEL_LIMIT);
    copy_text(out->system, from->system, from->system_length, EB_NAME_LIMIT);
    copy_text(out->kind, from->kind, from->kind_length, EB_NAME_LIMIT);
    return atomic_load(&from->owner) == owner; /* else what was copied may be of two owners */
}

uint32_t eb_roster_epoch(eb_bus *bus)
{
    return eb_event_prepare(&bus->roster.header->changed);
}

int eb_roster_wait(eb_bus *bus, uint32_t epoch, int64_t deadline)
{
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    int status = eb_event_wait(&bus->roster.header->changed, epoch, eb_sooner(deadline, EB_SLICE_NS));
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    return status == EB_NOTHING && !eb_over(deadline) ? EB_INTERRUPTED : status;
}
