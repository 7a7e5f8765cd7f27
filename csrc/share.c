/* How much of the ring a process may fill, by what it takes from it through whichever of its attachments. */
#include "claims.h"

typedef struct {
    const eb_bus *bus;
    int slowest; /* the slot that holds the ring back; -1 for none */
    bool drains, is_slowest;
} asked;

/* Of a group: whoever has the oldest claim, or looks at what it had. */
static bool holds_back(const eb_subscription *sub, int slowest)
{
    if ((int)sub->index == slowest) return true;
    if (!sub->group || eb_group_slot(sub->group, &sub->bus->roster) != (uint32_t)slowest) return false;
    const eb_roster *roster = &sub->bus->roster;
    uint64_t gate = eb_group_gate(roster, sub->group);
    for (int claim = 0; (claim = eb_claim_from(roster, sub->group, (uint32_t)claim)) >= 0; claim++)
        if (atomic_load(eb_claim_holder(roster, (uint32_t)claim)) == sub->token &&
            atomic_load(eb_claim_place(roster, (uint32_t)claim)) == gate)
            return true;
    return false;
}

static bool look_at(const eb_kept *kept, const void *with)
{
    asked *about = (asked *)with;
    const eb_bus *bus = eb_bus_of(kept);
    const eb_file *one = &bus->roster.file, *same = &about->bus->roster.file;
    if (!eb_is_ours(kept) || one->device != same->device || one->inode != same->inode) return false;
    for (const eb_subscription *sub = bus->subscriptions; sub; sub = sub->next) {
        bool parents = sub->generation != eb_generation();
        if (parents || !atomic_load(&sub->drains)) continue;
        about->drains = true;
        about->is_slowest = about->is_slowest || holds_back(sub, about->slowest);
    }
    return false;
}

/* The last eighth is for who drains the ring: what comes of what it takes must find room. And of that, the last half for
 * whoever holds the ring back: else the others fill it, and wait for one that waits for them. */
uint64_t eb_share(const eb_bus *bus)
{
    uint64_t capacity = bus->ring.capacity, committed = atomic_load(&bus->ring.header->committed);
    asked about = {.bus = bus};
    eb_roster_gate(&bus->roster, committed, capacity, &about.slowest);
    eb_guard_enter();
    eb_kept_that(look_at, &about);
    eb_guard_leave();
    return about.is_slowest ? capacity : about.drains ? EB_DRAINERS_SHARE(capacity) : EB_OUTSIDERS_SHARE(capacity);
}
