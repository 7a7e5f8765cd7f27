/* Who waits for room, in turn: what becomes free is kept for those who waited first, so that a large event is not starved by
 * small ones. A place is good for a while and then has to be renewed: whoever has died, or been stopped, keeps nobody
 * waiting for long. Under the publish lock. */
#define _GNU_SOURCE
#include "internal.h"

#include <unistd.h>

#define PLACE_NS (100 * EB_MILLISECOND)
#define STALLED_NS (50 * EB_MILLISECOND)

static bool is_ours(const eb_bus *bus, const eb_place *place)
{
    return atomic_load(&place->owner) == bus->token && atomic_load(&place->thread) == (uint32_t)gettid();
}

static bool is_good(const eb_place *place, uint64_t now)
{
    return atomic_load(&place->until) - now <= PLACE_NS;
}

/* Counts the good places anew, and finds the caller's, or NULL. Nobody is behind the last of those counted before. */
static eb_place *look_over(eb_bus *bus)
{
    eb_ring_header *header = bus->ring.header;
    uint64_t now = (uint64_t)eb_now();
    uint32_t before = atomic_load(&header->queued), good = 0, seen = 0;
    eb_place *mine = NULL;
    for (int i = 0; i < EB_PLACES && seen < before; i++) {
        eb_place *place = &header->places[i];
        if (atomic_load(&place->until) == 0) continue;
        seen++;
        if (!is_good(place, now)) atomic_store(&place->until, 0);
        else good++;
        if (is_ours(bus, place)) mine = place;
    }
    if (good != before) atomic_store(&header->queued, good);
    return mine && atomic_load(&mine->until) != 0 ? mine : NULL;
}

/* The bytes that are kept for those who came before. */
static uint64_t kept_before(eb_bus *bus)
{
    const eb_ring_header *header = bus->ring.header;
    const eb_place *mine = look_over(bus);
    uint32_t left = atomic_load(&header->queued);
    uint64_t kept = 0;
    for (int i = 0; i < EB_PLACES && left > 0; i++) {
        const eb_place *place = &header->places[i];
        if (atomic_load(&place->until) == 0) continue;
        left--;
        bool before = !mine || (int64_t)(atomic_load(&place->ticket) - atomic_load(&mine->ticket)) < 0;
        if (before) kept += atomic_load(&place->need);
    }
    return kept < bus->ring.capacity ? kept : bus->ring.capacity;
}

/* What others are to have first. Whoever drains the ring waits for them only while it drains: they may wait for the room
 * that comes of what it sends. */
uint64_t eb_queue_before(eb_bus *bus, uint64_t share)
{
    eb_ring_header *header = bus->ring.header;
    if (atomic_load(&header->queued) == 0) return 0;
    uint64_t kept = kept_before(bus);
    bool stalled = (uint64_t)eb_now() - atomic_load(&header->gate_moved) > STALLED_NS;
    return stalled && share > EB_OUTSIDERS_SHARE(bus->ring.capacity) ? 0 : kept;
}

/* Takes a place, behind all others, or renews the one that it has; none when all are taken. */
void eb_queue_up(eb_bus *bus, uint64_t need)
{
    eb_ring_header *header = bus->ring.header;
    eb_place *mine = look_over(bus);
    for (int i = 0; i < EB_PLACES && !mine; i++) {
        eb_place *place = &header->places[i];
        if (atomic_load(&place->until) != 0) continue;
        atomic_store(&place->owner, bus->token);
        atomic_store(&place->thread, (uint32_t)gettid());
        atomic_store(&place->ticket, atomic_load(&header->tickets));
        atomic_store(&header->tickets, atomic_load(&header->tickets) + 1);
        atomic_store(&header->queued, atomic_load(&header->queued) + 1);
        EB_TEST_POINT(turn_counted);
        mine = place;
    }
    if (!mine) return;
    atomic_store(&mine->need, need);
    atomic_store(&mine->until, (uint64_t)eb_now() + PLACE_NS);
    EB_TEST_POINT(turn_taken);
}

/* It has got its room, or waits no longer. Whether it had a place. */
bool eb_queue_leave(eb_bus *bus)
{
    eb_ring_header *header = bus->ring.header;
    if (atomic_load(&header->queued) == 0) return false;
    eb_place *mine = look_over(bus);
    if (mine) atomic_store(&mine->until, 0);
    EB_TEST_POINT(turn_left);
    if (mine) atomic_store(&header->queued, atomic_load(&header->queued) - 1);
    return mine != NULL;
}
