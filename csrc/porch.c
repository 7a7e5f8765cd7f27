/* What a process has of doorbells on one bus: its own, made for the first who waits in an event loop, and the socket that it
 * rings others' with. */
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
    if (eb_file_ours(&bus->ringer)) eb_file_close(&made);
    else bus->ringer = made;
    eb_guard_leave();
    return true;
}

/* NULL where neither a socket nor a pipe can be had. */
eb_bell *eb_bell_hold(eb_bus *bus, int silent)
{
    eb_bell *made = NULL;
    if (eb_bus_check(bus) != EB_OK) return NULL;
    bus->silent = silent != 0;
    bool mute = atomic_load(&bus->roster.header->mute) != 0;
    if (!bus->bell && eb_bell_make(&bus->roster.file, bus->identity, silent || mute, &made) != EB_OK) return NULL;
    eb_guard_enter();
    eb_bell *surplus = bus->bell ? made : NULL;
    if (!bus->bell) bus->bell = made;
    eb_bell *bell = bus->bell;
    atomic_fetch_add(&bell->holders, 1);
    eb_guard_leave();
    if (surplus) eb_bell_take_down(surplus);
    return bell;
}

static eb_bell *take(eb_bus *bus)
{
    eb_bell *bell = bus->bell;
    bus->bell = NULL;
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
