/* Open, close, fork; the roster's lock and the publish lock. */
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
#define LOCK_LOOK_NS (10 * EB_MILLISECOND)  /* how often who waits for the lock looks whether its owner lives */
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

/* A mapping keeps its open file description alive, and with it the locks that were taken through it: a forked child,
 * which inherits the mapping, would keep its dead parent attached. So the mapping has a description of its own. */
static int map_roster_apart(eb_bus *bus, int ring_fd, int roster_fd, bool writable)
{
    int fd = eb_reopen(roster_fd);
    if (fd < 0) return EB_SYSTEM;
    int status = map_both(bus, ring_fd, fd, writable), error = errno;
    close(fd);
    errno = error;
    return status;
}

eb_bus *eb_bus_open(int ring_fd, int roster_fd, int writable, int *status)
{
    eb_bus *bus = calloc(1, sizeof *bus);
    *status = EB_SYSTEM;
    if (!bus) return NULL;
    bus->pid = (uint32_t)getpid();
    pthread_mutex_init(&bus->roster_mutex, NULL);
    *status = map_roster_apart(bus, ring_fd, roster_fd, writable != 0);
    if (*status == EB_OK) {
        bus->roster.fd = fcntl(roster_fd, F_DUPFD_CLOEXEC, 0);
        *status = bus->roster.fd < 0 ? EB_SYSTEM : writable ? eb_publisher_enter(bus->roster.fd, &bus->token) : EB_OK;
        if (*status == EB_OK) return bus;
        int error = errno;
        if (bus->roster.fd >= 0) close(bus->roster.fd);
        errno = error;
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
    EB_TEST_POINT(alone_counted);
    for (uint32_t i = 0; i < EB_GROUPS && status == EB_OK; i++) {
        eb_group *group = &bus->roster.header->groups[i];
        if (atomic_load(&group->open) != 1) continue;
        eb_group_revive(group);
        EB_TEST_POINT(alone_group);
        status = eb_group_check(group, atomic_load(&header->committed), bus->ring.capacity);
    }
    if (status != EB_OK) return status;
    atomic_store(&header->publish_lock, 0);
    atomic_store(&header->unlocked.waiters, 0);
    EB_TEST_POINT(alone_locked);
    eb_roster_clear(&bus->roster);
    atomic_store(&header->gate, atomic_load(&header->oldest));
    EB_TEST_POINT(alone_gated);
    atomic_store(&header->closed, 0);
    EB_TEST_POINT(alone_reopened);
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
    EB_TEST_POINT(persist_stored);
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
    if (bus->roster.fd >= 0) close(bus->roster.fd);
    pthread_mutex_destroy(&bus->roster_mutex);
    free(bus);
}

int eb_fork_prepare(eb_bus *bus)
{
    int fd = eb_reopen(bus->roster.fd);
    if (fd < 0) return EB_SYSTEM;
    if (eb_attach(fd) == EB_OK && (bus->token == 0 || eb_publisher_enter(fd, &bus->child_token) == EB_OK)) return fd;
    close(fd);
    return EB_SYSTEM;
}

/* Without a descriptor the child only lets go of its parent's: it must keep nothing attached, and detach nobody. */
void eb_fork_child(eb_bus *bus, int roster_fd)
{
    close(bus->roster.fd);
    bus->roster.fd = roster_fd;
    bus->pid = roster_fd < 0 ? 0 : (uint32_t)getpid();
    bus->token = bus->child_token;
    pthread_mutex_init(&bus->roster_mutex, NULL);
}

/* --- locks --- */

int eb_bus_lock_roster(eb_bus *bus, int64_t deadline)
{
    struct timespec until = to_timespec(eb_sooner(deadline, LOCK_SLICE_NS));
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

static bool try_publish_lock(eb_bus *bus)
{
    eb_u64 *lock = &bus->ring.header->publish_lock;
    uint64_t nobody = 0;
    return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&   /* a look takes the line from nobody */
           atomic_compare_exchange_strong(lock, &nobody, bus->token); /* [lock] */
}

/* From an owner that is dead; EB_BUSY when somebody else was faster. Its work is repaired before anybody else gets in.
 * Should we die in the middle, the next one finds us dead and repairs again; what cannot be repaired keeps its owner, so
 * that everybody finds it damaged. */
static int take_over(eb_bus *bus, uint64_t dead)
{
    eb_u64 *lock = &bus->ring.header->publish_lock;
    uint64_t from = dead;
    if (!atomic_compare_exchange_strong(lock, &from, bus->token)) return EB_BUSY; /* [lock] */
    EB_TEST_POINT(repair_taken);
    int status = eb_ring_repair(&bus->ring);
    EB_TEST_POINT(repair_mended);
    if (status != EB_OK) atomic_store(lock, dead);
    return status;
}

/* Until `end`; whatever wakes it, a signal too, it raises the flag again and looks, also where `end` is over by then: it
 * may be the one whom eb_event_post_one woke for all. Of our own token it is another thread's: alive. */
static int await_publish_lock(eb_bus *bus, int64_t end)
{
    eb_ring_header *header = bus->ring.header;
    for (;;) {
        uint32_t epoch = eb_event_prepare(&header->unlocked);
        uint64_t owner = atomic_load(&header->publish_lock); /* [unlock] */
        if (owner == 0 && try_publish_lock(bus)) return EB_OK;
        bool dead = owner != 0 && owner != bus->token && !eb_publisher_alive(&bus->roster, owner);
        int status = dead ? take_over(bus, owner) : EB_BUSY;
        if (status != EB_BUSY || eb_over(end)) return status;
        if (owner == 0 || dead) continue; /* somebody else was faster */
        eb_event_wait(&header->unlocked, epoch, eb_sooner(end, LOCK_LOOK_NS));
        EB_TEST_POINT(lock_woken);
    }
}

int eb_bus_lock_publish(eb_bus *bus, int64_t deadline)
{
    bool mine = false;
    for (int i = 0; i < LOCK_TRIES && !mine; i++) {
        mine = try_publish_lock(bus);
        if (!mine) eb_pause();
    }
    if (!mine) {
        int64_t end = eb_sooner(deadline == EB_POLL ? EB_FOREVER : deadline, LOCK_SLICE_NS);
        int status = await_publish_lock(bus, end);
        if (status == EB_BUSY) return eb_over(deadline) ? EB_BUSY : EB_INTERRUPTED;
        if (status != EB_OK) return status;
    }
    EB_TEST_POINT(lock_taken);
    atomic_store_explicit(&bus->ring.header->holder, bus->pid, memory_order_relaxed); /* for people */
    EB_TEST_POINT(publish_locked);
    return EB_OK;
}

void eb_bus_unlock_publish(eb_bus *bus)
{
    atomic_store(&bus->ring.header->publish_lock, 0); /* [lock] [unlock] */
    EB_TEST_POINT(lock_released);
    eb_event_post_one(&bus->ring.header->unlocked);
}

/* Frees the slots of the dead; the number of them. */
int eb_bus_reap(eb_bus *bus)
{
    if (eb_bus_lock_roster(bus, eb_now() + REAP_WAIT_NS) != EB_OK) return 0;
    int reaped = eb_roster_reap(&bus->roster);
    eb_bus_unlock_roster(bus);
    if (reaped > 0) eb_event_post(&bus->roster.header->changed);
    return reaped;
}
