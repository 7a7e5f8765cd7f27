/* Makes a group, or finds the one of its name; changes it; removes it. */
#include "bell.h"
#include "claims.h"

static eb_group *group_at(const eb_bus *bus, uint32_t group)
{
    return &bus->roster.header->groups[group];
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

/* An entry that is no group's, nor any living member's. */
static int find_vacant(const eb_bus *bus)
{
    for (int i = 0; i < EB_GROUPS; i++)
        if (!eb_group_is_open(group_at(bus, (uint32_t)i)) && eb_roster_member(&bus->roster, (uint32_t)i, 0) < 0)
            return i;
    return EB_TABLE_FULL;
}

/* All but `open`, which goes on counting. */
static void write_terms(eb_group *group, const eb_group_terms *terms)
{
    size_t kept = offsetof(eb_group, slot);
    memset((char *)group + kept, 0, sizeof *group - kept);
    memcpy(group->name, terms->name, strnlen(terms->name, EB_LABEL_LIMIT));
    memcpy(group->system, terms->system, strnlen(terms->system, EB_PATTERN_LIMIT));
    memcpy(group->kind, terms->kind, strnlen(terms->kind, EB_PATTERN_LIMIT));
    atomic_store(&group->max_deliveries, terms->max_deliveries > 0 ? terms->max_deliveries : 5);
    atomic_store(&group->start, terms->start > 0 ? (uint64_t)terms->start : 0);
    EB_TEST_POINT(group_written);
}

/* Takes the publish lock, unless the group is to start where nobody can say yet what will be there. */
static int lock_publish_for(eb_bus *bus, const eb_group_terms *terms, int64_t deadline)
{
    int status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK || terms->start <= 0) return status;
    uint64_t next = eb_ring_sequence_at(&bus->ring, atomic_load(&bus->ring.header->committed));
    if ((uint64_t)terms->start <= next) return EB_OK;
    eb_bus_unlock_publish(bus);
    return EB_AHEAD;
}

static int create(eb_bus *bus, const eb_group_terms *terms, int64_t deadline)
{
    int number = find_vacant(bus);
    if (number < 0) return number;
    eb_group *group = group_at(bus, (uint32_t)number);
    eb_claims_drop(&bus->roster, group);
    write_terms(group, terms);
    int slot = eb_slot_claim(&bus->roster, &bus->roster.file);
    if (slot < 0) return slot;
    int status = lock_publish_for(bus, terms, deadline);
    if (status != EB_OK) {
        eb_slot_unclaim(&bus->roster, (uint32_t)slot);
        return status;
    }
    atomic_store(&group->cursor, place_group(bus, (uint32_t)slot, terms));
    EB_TEST_POINT(group_cursor);
    eb_bus_unlock_publish(bus);
    atomic_store(&group->slot, (uint32_t)slot);
    EB_TEST_POINT(group_placed);
    atomic_store(&group->open, (atomic_load(&group->open) & ~(uint32_t)EB_GROUP_STATE) | EB_GROUP_OPEN);
    EB_TEST_POINT(group_opened);
    return number;
}

/* The number of one that there is, with the limit that was asked for. */
static int change(eb_bus *bus, int number, const eb_group_terms *terms)
{
    eb_group *group = group_at(bus, (uint32_t)number);
    if (!eb_group_hears(group, terms->system, terms->kind)) return EB_CONFLICT;
    if (terms->max_deliveries == 0) return number;
    atomic_store(&group->max_deliveries, terms->max_deliveries);
    EB_TEST_POINT(group_changed);
    return number;
}

/* The number of the group, made if there is none of the name. */
int eb_group_create(eb_bus *bus, const eb_group_terms *terms, int64_t deadline)
{
    int status = eb_bus_lock_roster(bus, deadline);
    if (status != EB_OK) return status;
    int found = eb_group_named(&bus->roster, terms->name);
    if (found == EB_NOTHING) found = create(bus, terms, deadline);
    else found = change(bus, found, terms);
    eb_bus_unlock_roster(bus);
    return found;
}

/* The group is gone with the exchange; whoever dies after it leaves its slot to the reapers. */
static void dissolve(eb_bus *bus, eb_group *group)
{
    uint32_t slot = eb_group_slot(group, &bus->roster);
    uint32_t next = (atomic_load(&group->open) | EB_GROUP_STATE) + 1; /* of the next generation, and not open */
    atomic_exchange(&group->open, next);                              /* [removal] */
    EB_TEST_POINT(group_removed);
    eb_slot_withdraw(&bus->roster, slot);
    eb_rouse_all(bus, group);
    EB_TEST_POINT(members_woken);
}

/* Whoever has its own lock, and be it stopped, keeps nobody from removing it: that lock goes with it. */
int eb_group_remove(eb_bus *bus, const char *name, int64_t deadline)
{
    int status = eb_bus_lock_roster(bus, deadline);
    if (status != EB_OK) return status;
    int found = eb_group_named(&bus->roster, name);
    if (found >= 0) dissolve(bus, group_at(bus, (uint32_t)found));
    if (found >= 0) eb_claims_drop_all(&bus->roster);
    eb_bus_unlock_roster(bus);
    if (found < 0) return found;
    eb_event_post(&bus->roster.header->space);
    eb_event_post(&bus->roster.header->changed);
    return EB_OK;
}
