/* Makes a group, or finds the one of its name. */
#include "internal.h"

static eb_group *group_at(const eb_bus *bus, uint32_t group)
{
    return &bus->roster.header->groups[group];
}

static bool same_terms(const eb_group *group, const eb_group_terms *terms)
{
    return strncmp(group->system, terms->system, EB_NAME_LIMIT + 1) == 0 &&
           strncmp(group->kind, terms->kind, EB_NAME_LIMIT + 1) == 0 &&
           (terms->max_deliveries == 0 || atomic_load(&group->max_deliveries) == terms->max_deliveries);
}

/* Under the publish lock, so the oldest record cannot go between looking and the gate that keeps it. */
static uint64_t place_group(eb_bus *bus, uint32_t slot, const eb_group_terms *terms)
{
    eb_ring_header *header = bus->ring.header;
    eb_terms shown = {.system = terms->system, .kind = terms->kind, .name = terms->name, .gated = 1};
    uint64_t position = atomic_load(terms->start == EB_LATEST ? &header->committed : &header->oldest);
    eb_slot_open_group(&bus->roster, slot, &shown, position);
    uint64_t committed = atomic_load(&header->committed), gate = atomic_load(&header->gate);
    if (committed - position > committed - gate) atomic_store(&header->gate, position); /* never past a gated cursor */
    EB_TEST_POINT(group_gated);
    return position;
}

static int create(eb_bus *bus, const eb_group_terms *terms, int64_t deadline)
{
    int number = 0;
    while (number < EB_GROUPS && atomic_load(&group_at(bus, (uint32_t)number)->open) == 1)
        number++;
    if (number == EB_GROUPS) return EB_TABLE_FULL;
    eb_group *group = group_at(bus, (uint32_t)number);
    memset(group, 0, sizeof *group);
    memcpy(group->name, terms->name, strnlen(terms->name, EB_LABEL_LIMIT));
    memcpy(group->system, terms->system, strnlen(terms->system, EB_NAME_LIMIT));
    memcpy(group->kind, terms->kind, strnlen(terms->kind, EB_NAME_LIMIT));
    atomic_store(&group->max_deliveries, terms->max_deliveries > 0 ? terms->max_deliveries : 5);
    atomic_store(&group->start, terms->start > 0 ? (uint64_t)terms->start : 0);
    EB_TEST_POINT(group_written);
    int slot = eb_slot_claim(&bus->roster, &bus->roster.file);
    if (slot < 0) return slot;
    int status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) {
        eb_slot_unclaim(&bus->roster, (uint32_t)slot);
        return status;
    }
    atomic_store(&group->cursor, place_group(bus, (uint32_t)slot, terms));
    EB_TEST_POINT(group_cursor);
    eb_bus_unlock_publish(bus);
    atomic_store(&group->slot, (uint32_t)slot);
    EB_TEST_POINT(group_placed);
    atomic_store(&group->open, 1);
    EB_TEST_POINT(group_opened);
    return number;
}

/* The number of the group, made if there is none of the name. */
int eb_group_create(eb_bus *bus, const eb_group_terms *terms, int64_t deadline)
{
    int status = eb_bus_lock_roster(bus, deadline);
    if (status != EB_OK) return status;
    int found = eb_group_named(&bus->roster, terms->name);
    if (found == EB_NOTHING) found = create(bus, terms, deadline);
    else if (!same_terms(group_at(bus, (uint32_t)found), terms)) found = EB_CONFLICT;
    eb_bus_unlock_roster(bus);
    return found;
}
