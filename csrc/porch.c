/* What a process has of doorbells on one bus: the socket that it rings others' with, which becomes its own bell for the first who
 * waits in an event loop. */
#include "bell.h"

#include <errno.h>

/* Whoever may have none at all says so, and is heard by threads that sleep for their loops. */
static bool make_ringer(eb_bus *bus, eb_file *made)
{
    if (eb_ringer_make(made) == EB_OK) return true;
    if (errno == EMFILE || errno == ENFILE || atomic_load(&bus->roster.header->mute) != 0) return false;
    atomic_store(&bus->roster.header->mute, 1);
    EB_TEST_POINT(mute_stored);
    return false;
}

/* With the bus, and not when somebody is to be rung: then it may be too late to get one. */
void eb_porch_open(eb_bus *bus)
{
    make_ringer(bus, &bus->ringer);
}

/* One that could not be had when the bus was opened, or was closed underneath, may be had by now; a child makes its own. */
bool eb_porch_has_ringer(eb_bus *bus)
{
    eb_file made = {.fd = -1};
    if (eb_file_ours(&bus->ringer)) return true;
    if (!make_ringer(bus, &made)) return false;
    eb_guard_enter();
    if (eb_file_ours(&bus->ringer)) {
        eb_file_close(&made);
    } else {
        bus->ringer = made;
        bus->is_bell = false;
    }
    eb_guard_leave();
    return true;
}

/* Whether the ringer is to become the bell, which one thread tries. */
static bool lend(eb_bus *bus)
{
    eb_guard_enter();
    bool lent = !bus->bell && !bus->is_bell && eb_file_ours(&bus->ringer);
    if (lent) bus->is_bell = true;
    eb_guard_leave();
    return lent;
}

/* The one that was made, or which another thread has made meanwhile. */
static eb_bell *hang(eb_bus *bus, eb_bell *made, bool lent)
{
    eb_guard_enter();
    eb_bell *surplus = bus->bell ? made : NULL;
    if (lent && (surplus || made->id == 0)) bus->is_bell = false;
    if (lent && surplus && surplus->id != 0) surplus->file.fd = -1;
    if (!surplus) bus->bell = made;
    eb_bell *bell = bus->bell;
    atomic_fetch_add(&bell->holders, 1);
    eb_guard_leave();
    if (surplus) eb_bell_take_down(surplus);
    return bell;
}

static eb_bell *held(eb_bus *bus)
{
    eb_guard_enter();
    eb_bell *bell = bus->bell;
    if (bell) atomic_fetch_add(&bell->holders, 1);
    eb_guard_leave();
    return bell;
}

/* NULL where neither a socket nor a pipe can be had. */
eb_bell *eb_bell_hold(eb_bus *bus, int silent)
{
    eb_bell *made = NULL;
    if (eb_bus_check(bus) != EB_OK) return NULL;
    bus->silent = silent != 0;
    eb_bell *there = held(bus);
    if (there) return there;
    bool mute = atomic_load(&bus->roster.header->mute) != 0, lent = !silent && !mute && lend(bus);
    if (eb_bell_make(&bus->roster.file, bus->identity, silent || mute, lent ? &bus->ringer : NULL, &made) == EB_OK)
        return hang(bus, made, lent);
    if (lent) bus->is_bell = false;
    return NULL;
}

static eb_bell *take(eb_bus *bus)
{
    eb_bell *bell = bus->bell;
    bus->bell = NULL;
    if (bell && bus->is_bell) bus->ringer.fd = -1;
    bus->is_bell = false;
    return bell;
}

/* A loop may go on watching its descriptor. */
void eb_porch_leave(eb_bus *bus)
{
    eb_guard_enter();
    eb_bell *bell = take(bus);
    eb_guard_leave();
    if (bell) eb_bell_take_down(bell);
}

/* In a child, to which nobody has said anything; within the guard. */
void eb_porch_forget(eb_bus *bus)
{
    eb_bell *bell = take(bus);
    if (bell) eb_bell_forget(bell);
    eb_file_close(&bus->ringer);
    memset(bus->dozing, 0, sizeof bus->dozing);
    memset(bus->told, 0, sizeof bus->told);
}

void eb_porch_number_taken(eb_bus *bus, int fd)
{
    if (bus->ringer.fd == fd) bus->ringer.fd = -1;
    eb_bell_number_taken(bus->bell, fd);
}
