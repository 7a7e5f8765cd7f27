/* A bus that is as it was before the first input, and what an input may damage of it whatever else it does. */
#ifndef EVENTBUS_FUZZ_DAMAGE_H
#define EVENTBUS_FUZZ_DAMAGE_H

#include "input.h"

typedef struct {
    scene live;
    char *ring, *roster;
} prepared;

static eb_bus *bus; /* of this input */

static inline uint64_t ring_bytes(const eb_bus *of)
{
    return (uint64_t)(of->ring.data - (char *)of->ring.header) + of->ring.capacity;
}

static inline prepared prepared_of(scene live)
{
    const eb_bus *made = live.bus;
    prepared it = {.live = live, .ring = malloc(ring_bytes(made)), .roster = malloc(made->roster.mapped_bytes)};
    memcpy(it.ring, made->ring.header, ring_bytes(made));
    memcpy(it.roster, made->roster.header, made->roster.mapped_bytes);
    return it;
}

static inline void restore(const prepared *it)
{
    bus = it->live.bus;
    memcpy(bus->ring.header, it->ring, ring_bytes(bus));
    /* it is mapped behind the second copy */
    memset(bus->ring.data + 2 * bus->ring.capacity, 0, bus->ring.parking_bytes);
    memcpy(bus->roster.header, it->roster, bus->roster.mapped_bytes);
}

static inline uint64_t take_position(input *from)
{
    const eb_ring_header *ring = bus->ring.header;
    return take_number(from, atomic_load(&ring->committed), atomic_load(&ring->oldest));
}

static inline void damage_header(input *from)
{
    eb_ring_header *ring = bus->ring.header;
    unsigned what = take_byte(from);
    uint64_t number = take_position(from);
    eb_u64 *wide[] = {&ring->committed, &ring->oldest, &ring->gate, &ring->inline_count, &ring->publish_lock};
    eb_u32 *narrow[] = {&ring->closed, &ring->topic_count, &ring->holder};
    if (what % 16 == 15) atomic_store(&ring->publish_lock, bus->token);
    else if (what % 8 < 5) atomic_store(wide[what % 8], number);
    else atomic_store(narrow[what % 8 - 5], (uint32_t)number);
}

static inline void damage_bytes(input *from, void *where, size_t length, size_t limit)
{
    size_t at = (size_t)take_bytes(from, 2) % limit;
    uint64_t number = take_position(from);
    memcpy((char *)where + at, &number, length < limit - at ? length : limit - at);
}

#endif
