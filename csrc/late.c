/* Who is behind a door, and what this thread leaves as soon as it has come out. */
#include "internal.h"

eb_bus *eb_bus_of(const eb_kept *kept)
{
    return (eb_bus *)(void *)((char *)kept - offsetof(eb_bus, kept));
}

static bool is_same_file(const eb_bus *one, const eb_bus *other)
{
    return one->roster.file.device == other->roster.file.device && one->roster.file.inode == other->roster.file.inode;
}

static bool opens_it(const eb_kept *kept, const void *bus)
{
    const eb_bus *one = eb_bus_of(kept);
    return one->inside && pthread_equal(one->insider, pthread_self()) && is_same_file(one, bus);
}

/* Of a signal handler or a destructor, in the middle of just that. */
bool eb_opens_it_already(const eb_bus *bus)
{
    eb_guard_enter();
    bool already = eb_kept_that(opens_it, bus) != NULL;
    eb_guard_leave();
    return already;
}

/* Whether this thread is behind a door, in the middle of opening. What Python collects meanwhile is left when it has come
 * out: who waits for one door behind another waits for ever where somebody else does so the other way round. */
static bool opens_another(const eb_kept *kept, const void *bus)
{
    const eb_bus *one = eb_bus_of(kept);
    return one != bus && one->inside && pthread_equal(one->insider, pthread_self());
}

static bool is_late(const eb_kept *kept, const void *unused)
{
    (void)unused;
    return eb_bus_of(kept)->late && pthread_equal(eb_bus_of(kept)->insider, pthread_self());
}

bool eb_must_wait(eb_bus *bus)
{
    eb_guard_enter();
    bus->late = eb_kept_that(opens_another, bus) != NULL;
    if (bus->late) bus->insider = pthread_self();
    eb_guard_leave();
    return bus->late;
}

/* Whether it is for eb_next_late to free. */
bool eb_is_put_off(eb_bus *bus)
{
    eb_guard_enter();
    bool late = bus->unowned = bus->late;
    eb_guard_leave();
    return late;
}

/* The next one for this thread to leave, held, as its owner may free it from now on; NULL when there is none, or this
 * thread is behind a door still. */
eb_bus *eb_next_late(bool *unowned)
{
    eb_guard_enter();
    eb_kept *kept = eb_kept_that(opens_another, NULL) ? NULL : eb_kept_that(is_late, NULL);
    eb_bus *bus = kept ? eb_bus_of(kept) : NULL;
    if (bus) eb_bus_hold(bus);
    if (bus) *unowned = bus->unowned;
    if (bus) bus->late = false;
    eb_guard_leave();
    return bus;
}
