/* A bus as all flows need it: its memory, whole again after a crash; whether it is ours; its names; its two locks. */
#define _GNU_SOURCE
#include "musl.h"
#include "sending.h"
#include "views.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

/* --- its memory --- */

static int same_bus(const eb_bus *bus)
{
    const eb_signature *ring = &bus->ring.header->signature, *roster = &bus->roster.header->signature;
    bool same = memcmp(ring->identity, roster->identity, sizeof ring->identity) == 0 &&
                ring->capacity == roster->capacity && ring->max_subscribers == roster->max_subscribers;
    return same ? EB_OK : eb_damaged("its ring and its roster belong to different buses");
}

void eb_bus_unmap(eb_bus *bus)
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
    if (status != EB_OK) eb_bus_unmap(bus);
    return status;
}

/* A mapping keeps its open file description alive, and with it the locks that were taken through it: a forked child,
 * which inherits the mapping, would keep its dead parent attached. So the mapping has a description of its own. */
int eb_bus_map(eb_bus *bus, bool writable)
{
    eb_file apart = {.fd = -1};
    if (bus->ring.header) return EB_OK;
    int status = eb_file_reopen(bus->roster.file.fd, &apart);
    if (status == EB_OK) status = map_both(bus, bus->ring_file.fd, apart.fd, writable);
    if (status == EB_OK) bus->identity = bus->roster.header->signature.identity[0];
    int error = errno;
    eb_file_close(&apart);
    errno = error;
    return status;
}

/* After the death of whoever published. */
static int repair_ring(eb_ring *ring)
{
    eb_timetable_repair(ring);
    return eb_ring_repair(ring);
}

/* Nobody else is attached, so nobody holds the lock: it is made anew, like everything that counts waiters. */
static int repair_alone(eb_bus *bus)
{
    eb_ring_header *header = bus->ring.header;
    int status = eb_ring_verify(&bus->ring);
    if (status == EB_OK) status = repair_ring(&bus->ring);
    EB_TEST_POINT(alone_counted);
    for (uint32_t i = 0; i < EB_GROUPS && status == EB_OK; i++) {
        eb_group *group = &bus->roster.header->groups[i];
        if (!eb_group_is_open(group)) continue;
        status = eb_group_revive(&bus->roster, group, &bus->ring);
        EB_TEST_POINT(alone_group);
    }
    if (status != EB_OK) return status;
    atomic_store(&header->publish_lock, 0);
    atomic_store(&header->unlocked.waiters, 0);
    atomic_store(&header->kept, 0);
    EB_TEST_POINT(alone_locked);
    eb_roster_clear(&bus->roster);
    eb_bells_clear(bus->roster.header->signature.identity[0], false);
    eb_claims_drop_all(&bus->roster);
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
    eb_bus_unmap(&bus);
    return status;
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

void eb_bus_hold(eb_bus *bus)
{
    atomic_fetch_add(&bus->holders, 1);
}

/* Its memory goes with the last subscription, whose owner may be the later one to go. */
void eb_bus_release(eb_bus *bus)
{
    if (atomic_fetch_sub(&bus->holders, 1) != 1) return;
    eb_bus_unmap(bus);
    pthread_mutex_destroy(&bus->roster_mutex);
    free(bus->hearings);
    free(bus->parked);
    free(bus);
}

/* --- whether it can be used --- */

int eb_bus_usable(const eb_bus *bus)
{
    return eb_is_ours(&bus->kept) ? atomic_load_explicit(&bus->ended, memory_order_relaxed) : EB_FORKED;
}

int eb_bus_check(eb_bus *bus)
{
    int status = eb_bus_usable(bus);
    if (status != EB_OK || eb_file_ours(&bus->roster.file)) return status;
    atomic_store(&bus->ended, EB_ROBBED);
    return EB_ROBBED;
}

int eb_bus_error(const eb_bus *bus)
{
    return bus->error;
}

int eb_bus_roster_fd(const eb_bus *bus)
{
    return bus->roster.file.fd;
}

int eb_bus_ring_fd(const eb_bus *bus)
{
    return bus->ring_file.fd;
}

/* --- its subscriptions: what a fork must close --- */

int eb_bus_adopt(eb_bus *bus, eb_subscription *sub)
{
    eb_guard_enter();
    int status = eb_bus_check(bus);
    if (status == EB_OK) status = eb_file_reopen(bus->roster.file.fd, &sub->file);
    int error = errno;
    if (status == EB_OK) {
        eb_number_taken(sub->file.fd);
        sub->next = bus->subscriptions;
        bus->subscriptions = sub;
    }
    eb_guard_leave();
    errno = error;
    return status;
}

void eb_bus_disown(eb_bus *bus, eb_subscription *sub)
{
    eb_guard_enter();
    eb_subscription **at = &bus->subscriptions;
    while (*at && *at != sub)
        at = &(*at)->next;
    if (*at) *at = sub->next;
    eb_file_close(&sub->file);
    eb_guard_leave();
}

/* One of them, or NULL. Its owner may be giving it up in another thread: its memory waits for eb_bus_let_go_of. */
eb_subscription *eb_bus_hold_first(eb_bus *bus)
{
    eb_guard_enter();
    eb_subscription *sub = bus->subscriptions;
    if (sub) atomic_fetch_add(&sub->holders, 1);
    eb_guard_leave();
    return sub;
}

void eb_bus_let_go_of(eb_subscription *sub)
{
    if (atomic_fetch_sub(&sub->holders, 1) != 1) return;
    eb_bus_release(sub->bus);
    pthread_mutex_destroy(&sub->turn);
    pthread_mutex_destroy(&sub->at_hand);
    eb_views_forget(sub);
    eb_views_let_go(sub->views);
    free(sub->batch.buffer);
    free(sub->names);
    free(sub);
}

/* --- its names --- */

static void path_of(const eb_bus *bus, const char *segment, char *path)
{
    snprintf(path, EB_PATH_BYTES, "/eventbus.%s.%s", bus->name, segment);
}

/* Whether the name still means the segment that we have. One without a name, as tests make it, is always meant. */
int eb_bus_named(const eb_bus *bus)
{
    char path[EB_PATH_BYTES], full[EB_PATH_BYTES + sizeof EB_SHARED_MEMORY];
    struct stat seen;
    if (bus->name[0] == 0) return true;
    path_of(bus, "roster", path);
    snprintf(full, sizeof full, "%s%s", EB_SHARED_MEMORY, path);
    bool there = lstat(full, &seen) == 0;
    return there && seen.st_dev == bus->roster.file.device && seen.st_ino == bus->roster.file.inode;
}

void eb_bus_identity(const eb_bus *bus, uint64_t *identity)
{
    memcpy(identity, bus->roster.header->signature.identity, sizeof bus->roster.header->signature.identity);
}

/* The ring first: a bus without a roster is none, and the next to open it may make the ring of another one under it. */
int eb_bus_remove(const eb_bus *bus)
{
    char path[EB_PATH_BYTES];
    if (bus->name[0] == 0) return EB_OK;
    eb_bells_remove(bus->roster.file.fd);
    path_of(bus, "ring", path);
    int status = shm_unlink(path) == 0 || errno == ENOENT ? EB_OK : EB_SYSTEM;
    EB_TEST_POINT(ring_unlinked);
    path_of(bus, "roster", path);
    if (shm_unlink(path) != 0 && errno != ENOENT) status = EB_SYSTEM;
    EB_TEST_POINT(roster_unlinked);
    return status;
}

/* --- locks --- */

/* Among the threads of this process. */
int eb_bus_take_mutex(eb_bus *bus, int64_t deadline)
{
    struct timespec until = to_timespec(eb_sooner(deadline, LOCK_SLICE_NS));
    if (pthread_mutex_clocklock(&bus->roster_mutex, CLOCK_MONOTONIC, &until) == 0) return EB_OK;
    return eb_over(deadline) ? EB_BUSY : EB_INTERRUPTED;
}

int eb_bus_lock_roster(eb_bus *bus, int64_t deadline)
{
    int status = eb_bus_take_mutex(bus, deadline);
    if (status != EB_OK) return status;
    status = eb_roster_lock(&bus->roster.file, deadline);
    if (status != EB_OK) pthread_mutex_unlock(&bus->roster_mutex);
    return status;
}

void eb_bus_unlock_roster(eb_bus *bus)
{
    eb_roster_unlock(&bus->roster.file);
    pthread_mutex_unlock(&bus->roster_mutex);
}

static bool try_publish_lock(eb_bus *bus)
{
    eb_u64 *lock = &bus->ring.header->publish_lock;
    uint64_t nobody = 0;
    return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&   /* a look takes the line from nobody */
           atomic_compare_exchange_strong(lock, &nobody, bus->token); /* [lock] */
}

/* From an owner that is dead; EB_BUSY when somebody else was faster. A process that has left takes nothing over, as its
 * publisher's byte is free: it looks between finding the owner dead and the exchange, which fails if it left in between, as
 * it leaves under this lock. The dead one's work is repaired before anybody else gets in.
 * Should we die in the middle, the next one finds us dead and repairs again; what cannot be repaired keeps its owner, so
 * that everybody finds it damaged. */
static int take_over(eb_bus *bus, uint64_t dead)
{
    eb_u64 *lock = &bus->ring.header->publish_lock;
    uint64_t from = dead;
    int ended = atomic_load(&bus->ended);
    if (ended != EB_OK) return ended;
    if (!atomic_compare_exchange_strong(lock, &from, bus->token)) return EB_BUSY; /* [lock] */
    EB_TEST_POINT(repair_taken);
    int status = repair_ring(&bus->ring);
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
        bool dead = owner != 0 && owner != bus->token && !eb_publisher_alive(&bus->roster.file, owner);
        int status = dead ? take_over(bus, owner) : EB_BUSY;
        if (status != EB_BUSY || eb_over(end)) return status;
        if (owner == 0 || dead) continue; /* somebody else was faster */
        eb_event_wait(&header->unlocked, epoch, eb_sooner(end, LOCK_LOOK_NS));
        EB_TEST_POINT(lock_woken);
    }
}

/* Only what is ours: whoever takes the lock after this process has given its publisher's byte back looks dead, and may
 * have had it taken over. */
void eb_bus_unlock_publish(eb_bus *bus)
{
    uint64_t mine = bus->token;
    atomic_compare_exchange_strong(&bus->ring.header->publish_lock, &mine, 0); /* [lock] [unlock] */
    EB_TEST_POINT(lock_released);
    eb_event_post_one(&bus->ring.header->unlocked);
}

/* Whoever takes it looks afterwards whether this process has left meanwhile: then its byte is free, and anybody may take
 * the lock over while the late one still writes. */
int eb_bus_lock_publish(eb_bus *bus, int64_t deadline)
{
    bool mine = false;
    for (int i = 0; i < LOCK_TRIES && !mine; i++) {
        mine = try_publish_lock(bus);
        if (!mine) eb_pause();
    }
    if (!mine) {
        int64_t slice = deadline == EB_BRIEF ? EB_BRIEFLY : LOCK_SLICE_NS;
        int64_t end = eb_sooner(EB_IS_POLL(deadline) ? EB_FOREVER : deadline, slice);
        int status = await_publish_lock(bus, end);
        if (status == EB_BUSY) return eb_over(deadline) ? EB_BUSY : EB_INTERRUPTED;
        if (status != EB_OK) return status;
    }
    EB_TEST_POINT(lock_taken);
    int ended = atomic_load_explicit(&bus->ended, memory_order_relaxed); /* stored by whoever had the lock before */
    if (ended != EB_OK) {
        eb_bus_unlock_publish(bus);
        return ended;
    }
    atomic_store_explicit(&bus->ring.header->holder, bus->pid, memory_order_relaxed); /* for people */
    EB_TEST_POINT(publish_locked);
    return EB_OK;
}

/* Frees the slots of the dead, and the claims of groups that are no more; the number of slots. */
int eb_bus_reap(eb_bus *bus, int64_t deadline)
{
    int64_t wait = deadline == EB_BRIEF ? EB_BRIEFLY : REAP_WAIT_NS;
    if (eb_bus_lock_roster(bus, eb_now() + wait) != EB_OK) return 0;
    int reaped = eb_roster_reap(&bus->roster);
    eb_claims_drop_all(&bus->roster);
    eb_bus_unlock_roster(bus);
    if (reaped > 0) eb_event_post(&bus->roster.header->changed);
    return reaped;
}
