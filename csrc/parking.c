/* Parks what members have in hand for long, so that it leaves the ring's way. Under the publish lock, as all that is written
 * to the parking; what is free there follows from the claims. */
#include "sending.h"

#include <stdlib.h>

#define AT_ONCE 64 /* claims in one pass: others wait for the lock; and */
#define AT_ONCE_BYTES (1u << 20)
/* A claim that holds less than this part of the ring is none that stands still, unless somebody wants half of it. */
#define SLACK 16ull

/* How far the ring would be free if nobody had anything in hand. */
static uint64_t reach(const eb_bus *bus, uint64_t committed)
{
    const eb_roster *roster = &bus->roster;
    uint64_t longest = 0;
    for (uint32_t slot = 0; slot < eb_roster_used(roster); slot++) {
        bool alone;
        const eb_group *group = eb_slot_holds_gate(roster, slot) ? eb_slot_group(roster, slot, &alone) : NULL;
        if (!eb_slot_holds_gate(roster, slot) || (!group && !alone)) continue;
        uint64_t lag = committed - atomic_load(group ? &group->cursor : &roster->header->slots[slot].cursor);
        if (lag <= bus->ring.capacity && lag > longest) longest = lag;
    }
    return committed - longest;
}

/* The oldest claims of the group that keep an end of the ring from being free. Its cursor is read first: claims that are made
 * meanwhile are past it. */
static void find_old(const eb_bus *bus, const eb_group *group, uint64_t committed, uint64_t free, uint64_t slack,
                     eb_picks *picks)
{
    uint64_t cursor = atomic_load(&group->cursor), capacity = bus->ring.capacity;
    const eb_roster *roster = &bus->roster;
    for (int claim = 0; (claim = eb_claim_from(roster, group, (uint32_t)claim)) >= 0; claim++) {
        uint64_t place = atomic_load(eb_claim_place(roster, (uint32_t)claim));
        if (place % 8 != 0 || committed - place > capacity) continue;
        bool is_old = (int64_t)(free - place) >= (int64_t)slack;
        if (is_old && (int64_t)(cursor - place) > 0)
            eb_pick_offer(picks, place - (committed - capacity), (uint32_t)claim);
    }
}

static void mark(uint64_t *map, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++)
        map[i / 64] |= 1ull << (i % 64);
}

/* Those of what is sent later, and of the timetable, which is the end of the parking. */
static void mark_scheduled(eb_bus *bus, uint64_t blocks)
{
    eb_timed seen;
    for (int entry = 0; (entry = eb_timetable_next(&bus->ring, (uint32_t)entry, &seen)) >= 0; entry++)
        mark(bus->parked, seen.place / EB_PARKING_BLOCK, EB_BLOCKS(seen.bytes));
    uint32_t used = eb_timetable_used(&bus->ring);
    mark(bus->parked, blocks - used, used);
}

/* Which blocks held claims name, and what is sent later takes; false without memory for it. A claim that is freed meanwhile
 * is counted in. */
static bool draw_map(eb_bus *bus)
{
    uint64_t blocks = bus->ring.parking_bytes / EB_PARKING_BLOCK, words = (blocks + 63) / 64;
    if (!bus->parked) bus->parked = malloc(words * sizeof *bus->parked);
    if (!bus->parked) return false;
    memset(bus->parked, 0, words * sizeof *bus->parked);
    mark_scheduled(bus, blocks);
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &bus->roster.header->groups[i];
        if (!eb_group_is_open(group)) continue;
        for (int claim = 0; (claim = eb_claim_from(&bus->roster, group, (uint32_t)claim)) >= 0; claim++) {
            uint64_t place = atomic_load(eb_claim_place(&bus->roster, (uint32_t)claim)); /* [park] */
            uint64_t first = place / EB_PARKING_BLOCK,
                     count = EB_BLOCKS((uint64_t)eb_claim_bytes(&bus->roster, (uint32_t)claim));
            if ((place & EB_PARKED) && first < blocks && count <= blocks - first) mark(bus->parked, first, count);
        }
    }
    return true;
}

/* The first block of `count` free ones, from `from` on; or as many as there are blocks. */
static uint64_t find_blocks(const eb_bus *bus, uint64_t from, uint64_t count)
{
    uint64_t blocks = bus->ring.parking_bytes / EB_PARKING_BLOCK, run = 0;
    for (uint64_t i = from; i < blocks; i++) {
        if (i % 64 == 0 && run == 0 && bus->parked[i / 64] == UINT64_MAX) {
            i += 63;
            continue;
        }
        run = (bus->parked[i / 64] >> (i % 64)) & 1 ? 0 : run + 1;
        if (run == count) return i + 1 - count;
    }
    return blocks;
}

/* A place for so many bytes, beside that of an entry of the timetable; EB_FULL when there is none. */
int eb_parking_find(eb_bus *bus, uint64_t bytes, uint32_t entry, uint64_t *place)
{
    uint64_t blocks = bus->ring.parking_bytes / EB_PARKING_BLOCK, own = blocks - 1 - entry;
    if (!draw_map(bus)) return EB_SYSTEM;
    if (entry >= eb_timetable_used(&bus->ring) && find_blocks(bus, own, 1) != own) return EB_FULL;
    mark(bus->parked, own, 1);
    uint64_t first = find_blocks(bus, 0, EB_BLOCKS(bytes));
    *place = first * EB_PARKING_BLOCK | EB_PARKED;
    return first == blocks ? EB_FULL : EB_OK;
}

/* EB_FULL when there is no room for it. EB_NOTHING of a claim that says what cannot be, or was found at another place: one that
 * is made anew meanwhile may be past the cursor. */
static int park(eb_bus *bus, uint32_t claim, uint64_t position, uint64_t committed)
{
    eb_u64 *place = eb_claim_place(&bus->roster, claim);
    uint64_t blocks = bus->ring.parking_bytes / EB_PARKING_BLOCK;
    eb_record record;
    if (atomic_load(place) != position) return EB_NOTHING;
    if (eb_ring_read(&bus->ring, position, committed, &record) != EB_OK) return EB_NOTHING;
    if (record.sequence != eb_claim_sequence(&bus->roster, claim) ||
        record.bytes != eb_claim_bytes(&bus->roster, claim))
        return EB_NOTHING;
    uint64_t count = EB_BLOCKS(record.bytes), first = find_blocks(bus, 0, count);
    if (first == blocks) return EB_FULL;
    uint64_t offset = first * EB_PARKING_BLOCK;
    mark(bus->parked, first, count);
    eb_ring_park(&bus->ring, position, offset, record.bytes);
    EB_TEST_POINT(parked_copied);
    atomic_compare_exchange_strong(place, &position, offset | EB_PARKED); /* [park]: or it was finished meanwhile */
    EB_TEST_POINT(parked_moved);
    return EB_OK;
}

static void raise_gates(eb_bus *bus, uint64_t committed)
{
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &bus->roster.header->groups[i];
        if (!eb_group_is_open(group)) continue;
        uint64_t gate = eb_group_gate(&bus->roster, group);
        uint32_t slot = eb_group_slot(group, &bus->roster);
        bool possible = committed - gate <= bus->ring.capacity && gate % 8 == 0;
        if (possible && eb_slot_holds_gate(&bus->roster, slot))
            eb_cursor_raise(&bus->roster.header->slots[slot].cursor, gate);
        EB_TEST_POINT(parked_gate);
    }
}

/* Bytes that are parked; never more than there is room for, whatever claims say. */
uint64_t eb_parked(const eb_bus *bus)
{
    uint64_t sum = 0, most = bus->ring.parking_bytes;
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &bus->roster.header->groups[i];
        if (!eb_group_is_open(group)) continue;
        for (int claim = 0; (claim = eb_claim_from(&bus->roster, group, (uint32_t)claim)) >= 0; claim++)
            if (atomic_load(eb_claim_place(&bus->roster, (uint32_t)claim)) & EB_PARKED)
                sum += eb_claim_bytes(&bus->roster, (uint32_t)claim);
    }
    return sum < most ? sum : most;
}

/* Whether the gate may have moved by that; `more` when there is more to do than the others should wait for. */
bool eb_park(eb_bus *bus, uint64_t committed, uint64_t need, bool *more)
{
    eb_picks picks = {.limit = AT_ONCE};
    uint64_t free = reach(bus, committed), end = committed - bus->ring.capacity;
    uint64_t copied = 0, capacity = bus->ring.capacity, slack = need > capacity / 2 ? 8 : capacity / SLACK;
    uint32_t next = 0;
    int status = EB_OK;
    *more = false;
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &bus->roster.header->groups[i];
        if (eb_group_is_open(group)) find_old(bus, group, committed, free, slack, &picks);
    }
    if (picks.count == 0 || !draw_map(bus)) return false;
    for (; next < picks.count && status != EB_FULL && copied < AT_ONCE_BYTES; next++) {
        status = park(bus, picks.of[next].claim, end + picks.of[next].key, committed);
        if (status == EB_OK) copied += eb_claim_bytes(&bus->roster, picks.of[next].claim);
    }
    *more = copied > 0 && status != EB_FULL && (next < picks.count || next == AT_ONCE);
    raise_gates(bus, committed);
    return copied > 0;
}
