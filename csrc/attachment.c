/* The attachment of this process to a bus: it opens, forks and leaves.
 *
 * OPEN   take the roster's descriptor, enter the door, look the name up again, see who is there, attach, leave the door.
 *        Whatever ends it half-way, one call lets go of all that was taken by then.
 * FORK   libc's hooks run in whoever forks. For Python the parent takes the child's bytes through a description of the
 *        child's own, before there is a child: it is counted without a gap. A child that C has made, to which nobody has
 *        told that it may go on, keeps no descriptor, so that nothing of its parent's outlives the parent. One that was
 *        made without libc shares the descriptions: it knows by its generation that it may do nothing with them.
 * LEAVE  behind the door: no thread is in the middle of a send when the publisher's byte is given back, and the last one
 *        out removes the names. Each byte is released by the name that took it: others, as of the roster's lock, may be
 *        held through the same description by another thread.
 *
 *   step                       killed right after it, the others see
 *   1 door entered             nothing; the kernel opens the door
 *   2 attached, publisher      the same: its bytes go with it
 *   3 names removed, one by    a ring without a roster or the other way round: the next to open makes a bus of its own
 *     one, the ring first
 *   4 bytes given back         nothing
 */
#define _GNU_SOURCE
#include "bell.h"
#include "views.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEND_GRACE_NS (1000 * EB_MILLISECOND) /* for a send of this process that another thread is in the middle of */
#define LAST_GRACE_NS (1000 * EB_MILLISECOND) /* for the door, when this process ends or Python collects the bus */

static const eb_keeping keeping;

/* --- what it has --- */

eb_bus *eb_bus_new(const char *name)
{
    eb_process_ready();
    eb_bus *bus = calloc(1, sizeof *bus);
    if (!bus) return NULL;
    snprintf(bus->name, sizeof bus->name, "%s", name);
    bus->pid = (uint32_t)getpid();
    bus->kept.generation = eb_generation();
    bus->roster.file.fd = bus->ring_file.fd = bus->ringer.fd = bus->child.file.fd = -1;
    atomic_store(&bus->holders, 1);
    atomic_store(&bus->ended, EB_CLOSED); /* until it is attached */
    pthread_mutex_init(&bus->roster_mutex, NULL);
    return bus;
}

/* A description of our own of what the descriptor is: a child that another thread forks just now, behind our back, may
 * have a copy of the given one for good. What we have just made is ours to open, whatever the umask has left of it; where
 * there is no other description to be had, it is kept by the given one, so that it can be removed. */
static int own(eb_file *file, int fd, bool created)
{
    eb_file opened = {.fd = -1};
    if (created) fchmod(fd, 0600);
    eb_guard_enter();
    int status = eb_file_reopen(fd, &opened), error = errno;
    if (status == EB_OK) eb_number_taken(opened.fd);
    if (status != EB_OK && created) eb_file_identify(&opened, fd);
    else close(fd);
    *file = opened;
    eb_guard_leave();
    errno = error;
    return status;
}

int eb_bus_take_roster(eb_bus *bus, int created, int fd)
{
    eb_guard_enter();
    eb_keep(&bus->kept, &keeping);
    eb_guard_leave();
    bus->created = created != 0;
    return own(&bus->roster.file, fd, created != 0);
}

int eb_bus_take_ring(eb_bus *bus, int created, int fd)
{
    eb_file_close(&bus->ring_file);
    return own(&bus->ring_file, fd, created != 0);
}

/* --- open --- */

int eb_bus_behind(const eb_bus *bus)
{
    return bus->inside;
}

static void go_inside(eb_bus *bus)
{
    bus->insider = pthread_self();
    bus->inside = true;
}

/* EB_NOTHING when the name means another segment by now. */
int eb_bus_enter(eb_bus *bus, int64_t deadline)
{
    if (eb_opens_it_already(bus)) return EB_BUSY; /* it would wait for itself */
    int status = eb_door_enter(&bus->roster.file, deadline);
    if (status != EB_OK) return status;
    go_inside(bus);
    bool named = eb_bus_named(bus);
    EB_TEST_POINT(looked_up_again);
    return named ? EB_OK : EB_NOTHING;
}

int eb_bus_alone(const eb_bus *bus)
{
    return eb_is_alone(&bus->roster.file);
}

int64_t eb_bus_others(const eb_bus *bus)
{
    return eb_attachments(&bus->roster.file);
}

int eb_bus_look(eb_bus *bus)
{
    return eb_bus_map(bus, false);
}

int eb_bus_attach(eb_bus *bus, int writable)
{
    int status = eb_bus_map(bus, writable != 0);
    if (status == EB_OK) status = eb_attachment_draw(&bus->roster.file, &bus->byte);
    if (status == EB_OK && writable) status = eb_publisher_draw(&bus->roster.file, &bus->token);
    if (status == EB_OK) eb_porch_open(bus);
    if (status == EB_OK) atomic_store(&bus->ended, EB_OK);
    return status;
}

static void unlock_bytes(const eb_file *file, int64_t byte, uint64_t token)
{
    eb_publisher_unlock(file, token);
    EB_TEST_POINT(publisher_left);
    if (byte != 0) eb_byte_unlock(file, byte);
    EB_TEST_POINT(detached);
}

static void close_files(eb_bus *bus)
{
    eb_file_close(&bus->roster.file);
    eb_file_close(&bus->ring_file);
}

/* Each lock by itself before the descriptor goes: somebody who was forked without libc may have another one. In such a
 * process the locks are its parent's. */
static void let_go(eb_bus *bus)
{
    if (!eb_is_ours(&bus->kept)) {
        eb_porch_forget(bus);
        close_files(bus);
        return;
    }
    eb_porch_leave(bus);
    eb_guard_enter();
    unlock_bytes(&bus->roster.file, bus->byte, bus->sending ? 0 : bus->token);
    bus->byte = 0;
    if (bus->inside) eb_door_leave(&bus->roster.file);
    bus->inside = false;
    if (!bus->sending) {
        close_files(bus);
        eb_file_close(&bus->ringer);
        eb_keep_no_more(&bus->kept);
    }
    eb_guard_leave();
}

/* --- leave --- */

/* From here on nobody of this process sends: whoever takes the publish lock looks afterwards. False when another thread
 * is still in the middle, or somebody else has the lock and stands still, or it is damaged: then the publisher's byte stays
 * as long as it may. */
static bool stop_sending(eb_bus *bus)
{
    int64_t deadline = eb_now() + SEND_GRACE_NS;
    int status = EB_OK;
    while (bus->token != 0 && (status = eb_bus_lock_publish(bus, deadline)) == EB_INTERRUPTED)
        ;
    eb_guard_enter(); /* a child that is being forked is counted by now, or will not be attached */
    bus->leaving = true;
    atomic_store(&bus->ended, EB_CLOSED);
    eb_guard_leave();
    if (bus->token != 0 && status == EB_OK) eb_bus_unlock_publish(bus);
    EB_TEST_POINT(sending_stopped);
    return status == EB_OK;
}

static void leave_subscriptions(eb_bus *bus)
{
    for (eb_subscription *sub; (sub = eb_bus_hold_first(bus));) {
        sub->leave(sub);
        eb_bus_let_go_of(sub);
    }
}

/* Before the door, where somebody who keeps the publish lock would hold up all who open and leave. */
static void stop(eb_bus *bus)
{
    leave_subscriptions(bus);
    bus->sending = !stop_sending(bus);
}

/* Behind the door, or, without it, never the one who removes the names. */
static void finish(eb_bus *bus)
{
    bool last = bus->inside && eb_bus_alone(bus) && atomic_load(&bus->roster.header->persist) != 1;
    if (last && eb_bus_named(bus)) eb_bus_remove(bus); /* else it stays behind as abandoned */
    bus->leaving = false;
    let_go(bus);
}

/* One thread at a time; whoever comes second finds it left, or goes on where a signal interrupted the first. */
static int leave(eb_bus *bus, int64_t deadline)
{
    int status = eb_bus_check(bus);
    if (status == EB_OK) stop(bus);
    else if (!bus->leaving) return status;
    if (bus->late) return EB_OK;
    status = eb_door_enter(&bus->roster.file, deadline);
    if (status == EB_OK) go_inside(bus);
    if (status != EB_INTERRUPTED) finish(bus);
    return status;
}

int eb_bus_leave(eb_bus *bus, int64_t deadline)
{
    int status = eb_bus_usable(bus);
    if (status == EB_OK || (status == EB_CLOSED && bus->leaving)) {
        eb_bus_interrupt(bus);
        bool late =
            eb_must_wait(bus); /* then also not for another thread, which may wait for the door that this one has */
        status = eb_bus_take_mutex(bus, late ? EB_POLL : deadline);
        if (status != EB_OK) return late ? EB_OK : status;
        status = leave(bus, deadline);
        pthread_mutex_unlock(&bus->roster_mutex);
    }
    if (status == EB_ROBBED || status == EB_FORKED) let_go(bus);
    return status == EB_CLOSED ? EB_OK : status;
}

/* A roster that we made and nobody finished: it goes, unless others are at it behind the door. */
static void discard(eb_bus *bus)
{
    bus->inside = bus->inside || eb_door_enter(&bus->roster.file, EB_POLL) == EB_OK;
    if (bus->inside && eb_bus_alone(bus) && eb_bus_named(bus)) eb_bus_remove(bus);
}

void eb_bus_free(eb_bus *bus)
{
    if (!bus) return;
    if (eb_is_ours(&bus->kept) && (eb_bus_usable(bus) == EB_OK || bus->leaving)) {
        int64_t deadline = eb_now() + LAST_GRACE_NS;
        while (eb_bus_leave(bus, deadline) == EB_INTERRUPTED)
            ;
    }
    if (eb_is_put_off(bus)) return;
    bus->sending = false; /* whoever sends keeps the bus */
    let_go(bus);
    eb_bus_release(bus);
}

/* Those that could not be left while this thread was behind a door. */
static void leave_late(void)
{
    for (;;) {
        bool unowned = false;
        eb_bus *bus = eb_next_late(&unowned);
        if (!bus) return;
        if (unowned) eb_bus_free(bus);
        else eb_bus_leave(bus, eb_now() + LAST_GRACE_NS);
        eb_bus_release(bus);
    }
}

int eb_bus_opened(void *opened, int failed)
{
    eb_bus *bus = opened;
    if (!eb_is_ours(&bus->kept)) return EB_FORKED;
    bool attached = atomic_load(&bus->ended) == EB_OK;
    bus->opened = true;
    if (attached && !failed) {
        eb_door_leave(&bus->roster.file);
        bus->inside = false;
        eb_file_close(&bus->ring_file);
    } else if (attached) {
        stop(bus);
        finish(bus);
    } else {
        if (bus->created) discard(bus);
        let_go(bus);
    }
    leave_late();
    return EB_OK;
}

/* --- fork, within the guard --- */

static int attach_child(eb_bus *bus)
{
    int status = eb_bus_check(bus);
    if (status == EB_OK) status = eb_file_reopen(bus->roster.file.fd, &bus->child.file);
    if (status == EB_OK) eb_number_taken(bus->child.file.fd);
    if (status == EB_OK) status = eb_attachment_draw(&bus->child.file, &bus->child.byte);
    if (status == EB_OK && bus->token != 0) status = eb_publisher_draw(&bus->child.file, &bus->child.token);
    return status;
}

static void before_fork(eb_kept *kept, bool python)
{
    eb_bus *bus = eb_bus_of(kept);
    for (eb_subscription *sub = bus->subscriptions; sub; sub = sub->next)
        eb_views_part(sub);
    if (!python) return;
    int status = attach_child(bus), error = errno;
    EB_TEST_POINT(child_attached);
    if (status != EB_OK) eb_file_close(&bus->child.file);
    bus->child.error = status == EB_SYSTEM ? error : 0;
}

static void in_parent(eb_kept *kept)
{
    eb_file_close(&eb_bus_of(kept)->child.file);
}

static void forget_subscriptions(eb_bus *bus)
{
    for (eb_subscription *sub = bus->subscriptions, *next; sub; sub = next) {
        next = sub->next;
        eb_file_close(&sub->file);
        eb_apart_close(sub->apart, false);
        sub->apart = NULL;
        sub->next = NULL;
    }
    bus->subscriptions = NULL;
}

/* Its own descriptors are closed in any case; it goes on with those that its parent made for it, if it may. */
static bool in_child(eb_kept *kept, bool python)
{
    eb_bus *bus = eb_bus_of(kept);
    bool attached = python && bus->child.file.fd >= 0;
    forget_subscriptions(bus);
    close_files(bus);
    eb_porch_forget(bus);
    pthread_mutex_init(&bus->roster_mutex, NULL);
    bus->inside = bus->sending = bus->created = bus->leaving = bus->late = bus->unowned = false;
    bus->pid = (uint32_t)getpid();
    bus->roster.file = bus->child.file;
    bus->byte = attached ? bus->child.byte : 0;
    bus->token = attached ? bus->child.token : 0;
    bus->error = bus->child.error;
    bus->child.file.fd = -1;
    if (python && !attached && atomic_load(&bus->ended) == EB_OK) atomic_store(&bus->ended, EB_ORPHAN);
    return python;
}

static void hold(eb_kept *kept)
{
    eb_bus_hold(eb_bus_of(kept));
}

/* Whatever else this process has to do, it does without Python: what a member has in hand is given back. */
static void at_exit(eb_kept *kept)
{
    eb_bus *bus = eb_bus_of(kept);
    if (bus->created && !bus->opened) discard(bus); /* a thread that Python has ended was in the middle of making it */
    int64_t deadline = eb_now() + LAST_GRACE_NS;
    while (eb_bus_leave(bus, deadline) == EB_INTERRUPTED)
        ;
    eb_bus_release(bus);
}

static void number_taken(eb_kept *kept, int fd)
{
    eb_bus *bus = eb_bus_of(kept);
    if (bus->roster.file.fd == fd) {
        bus->roster.file.fd = -1;
        if (atomic_load(&bus->ended) == EB_OK) atomic_store(&bus->ended, EB_ROBBED);
    }
    eb_porch_number_taken(bus, fd);
    for (eb_subscription *sub = bus->subscriptions; sub; sub = sub->next) {
        if (sub->file.fd == fd) sub->file.fd = -1;
        eb_apart_number_taken(sub->apart, fd);
    }
}

static const eb_keeping keeping = {before_fork, in_parent, in_child, hold, at_exit, number_taken};
