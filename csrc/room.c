/* Room in the ring: what an event takes of it, how much of it is whose, and how far the gate lets a publisher go. */
#include "sending.h"

int64_t eb_event_limit(const eb_bus *bus)
{
    uint64_t quarter = bus->ring.capacity / 4;
    return (int64_t)(quarter < EB_LONGEST ? quarter : EB_LONGEST);
}

/* The bytes of its record; EB_TOO_LARGE when it can be in no ring, or not in this one. */
int eb_measure(const eb_bus *bus, const eb_outgoing *event, uint64_t *bytes)
{
    if (event->path_length == 0 && event->body_length < 2) return EB_TOO_LARGE;
    if (event->path_length > EB_PATH_LIMIT || event->extension_length > EB_EXTENSION_LIMIT) return EB_TOO_LARGE;
    if (event->system_length > EB_NAME_LIMIT || event->kind_length > EB_NAME_LIMIT) return EB_TOO_LARGE;
    *bytes = eb_ring_record_bytes(event);
    return *bytes <= (uint64_t)eb_event_limit(bus) ? EB_OK : EB_TOO_LARGE;
}

/* Within its share; an empty ring is anybody's. Who takes nothing from the ring leaves as much of it as was parked: what comes
 * of that must find room. */
bool eb_room_fits(const eb_bus *bus, uint64_t gate, uint64_t need, uint64_t share)
{
    const eb_ring_header *header = bus->ring.header;
    uint64_t used = atomic_load(&header->committed) - gate, capacity = bus->ring.capacity;
    if (used == 0) return need <= capacity;
    if (share == EB_OUTSIDERS_SHARE(capacity)) used += atomic_load_explicit(&header->parked, memory_order_relaxed);
    return used + need <= share;
}

/* Room for `need` bytes, beside `before` that are kept for others, as far as the gate goes: the cached one first, the
 * cursors only when it does not suffice. */
int eb_room_claim(eb_bus *bus, uint64_t need, uint64_t before, uint64_t share)
{
    eb_ring_header *header = bus->ring.header;
    uint64_t committed = atomic_load(&header->committed);
    if (!eb_room_fits(bus, atomic_load_explicit(&header->gate, memory_order_relaxed), before + need, share)) {
        int slowest;
        bool whole = eb_move_bystanders(bus, committed, before + need), more = false;
        uint64_t gate = eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest);
        if (!eb_room_fits(bus, gate, before + need, share) && eb_park(bus, committed, before + need, &more))
            gate = eb_roster_gate(&bus->roster, committed, bus->ring.capacity, &slowest);
        if (gate != atomic_load_explicit(&header->gate, memory_order_relaxed))
            atomic_store_explicit(&header->gate_moved, (uint64_t)eb_now(), memory_order_relaxed);
        atomic_store_explicit(&header->gate, gate, memory_order_relaxed); /* only the lock's holder looks */
        atomic_store_explicit(&header->parked, eb_parked(bus), memory_order_relaxed);
        EB_TEST_POINT(publish_gated);
        if (!eb_room_fits(bus, gate, before + need, share)) return whole && !more ? EB_FULL : EB_INTERRUPTED;
    }
    return eb_ring_room(&bus->ring, committed, need);
}
