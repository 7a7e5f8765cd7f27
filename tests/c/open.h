/* Attach to segments by their descriptors, and join, in one call each, as Python does it in several; and die. */
#ifndef EVENTBUS_OPEN_H
#define EVENTBUS_OPEN_H

#include "internal.h"

#include <fcntl.h>
#include <unistd.h>

/* The given descriptors stay the caller's. A bus without a name is one that nobody can remove. */
static inline eb_bus *bus_open(int ring_fd, int roster_fd, bool writable, int *status)
{
    eb_bus *bus = eb_bus_new("");
    *status = eb_bus_take_roster(bus, 0, fcntl(roster_fd, F_DUPFD_CLOEXEC, 0));
    if (*status == EB_OK) *status = eb_bus_take_ring(bus, 0, fcntl(ring_fd, F_DUPFD_CLOEXEC, 0));
    if (*status == EB_OK) *status = eb_bus_attach(bus, writable);
    eb_bus_opened(bus, *status != EB_OK);
    if (*status == EB_OK) return bus;
    eb_bus_free(bus);
    return NULL;
}

static inline eb_subscription *subscribe(eb_bus *bus, const eb_terms *terms, int64_t deadline, int *status)
{
    eb_subscription *sub = eb_subscription_new(bus);
    *status = eb_subscribe(sub, terms, deadline);
    if (*status == EB_OK) return sub;
    eb_subscription_free(sub);
    return NULL;
}

/* As if its process had died, wherever it was: the kernel drops its lock, and nobody gives anything back. */
static inline void die_with(eb_subscription *sub)
{
    eb_bus_disown(sub->bus, sub);
    sub->present = false;
    pthread_mutex_init(&sub->turn, NULL);
    pthread_mutex_init(&sub->at_hand, NULL);
}

#endif
