/* Events that are put down for later, and made due by hand. */
#ifndef EVENTBUS_LATER_H
#define EVENTBUS_LATER_H

#include "scene.h"
#include "sending.h"

#define HOUR_NS (3600000 * EB_MILLISECOND)

static inline scene scene_later(void)
{
    scene it = scene_small();
    make_topics(it.peer, 2);
    return it;
}

/* A number, as `put` sends it; its own number on the bus, or a status. */
static inline int64_t put_down_at(eb_bus *bus, uint32_t topic, uint64_t number, int64_t due)
{
    char text[32];
    int length = snprintf(text, sizeof text, "[%llu]", (unsigned long long)number);
    eb_outgoing event = {.topic = topic, .body_length = (uint32_t)length};
    return eb_schedule(bus, &event, text, (size_t)length, due, EB_POLL);
}

/* Not before this test is over. */
static inline int64_t put_down(eb_bus *bus, uint32_t topic, uint64_t number)
{
    return put_down_at(bus, topic, number, eb_now() + HOUR_NS);
}

static inline int64_t put_down_sized(eb_bus *bus, size_t length, uint64_t seed)
{
    char *text = pattern(length, seed);
    eb_outgoing event = {.body_length = (uint32_t)length + 2};
    int64_t number = eb_schedule(bus, &event, text, length + 2, eb_now() + HOUR_NS, EB_POLL);
    free(text);
    return number;
}

static inline eb_scheduled *entry_of(const eb_bus *bus, uint32_t entry)
{
    char *end = bus->ring.data + 2 * bus->ring.capacity + bus->ring.parking_bytes;
    return (eb_scheduled *)(void *)(end - (entry + 1) * EB_PARKING_BLOCK);
}

static inline uint32_t waiting(const eb_bus *bus)
{
    uint32_t count = 0;
    eb_timed seen;
    for (int i = 0; (i = eb_timetable_next(&bus->ring, (uint32_t)i, &seen)) >= 0; i++)
        count++;
    return count;
}

/* The entry of that index is due since then: nanoseconds after the host was started. */
static inline void make_due(const eb_bus *bus, uint32_t entry, uint64_t since)
{
    eb_ring_header *header = bus->ring.header;
    atomic_store(&entry_of(bus, entry)->due, since);
    if (atomic_load(&header->look) > since) atomic_store(&header->look, since);
}

#endif
