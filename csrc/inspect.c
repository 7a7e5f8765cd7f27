/* What a bus looks like from outside: counters, topics, who is there, what groups hold. */
#include "claims.h"

int eb_lock_holder(const eb_bus *bus)
{
    return (int)atomic_load_explicit(&bus->ring.header->holder, memory_order_relaxed);
}

int eb_is_publishing(const eb_bus *bus)
{
    return atomic_load_explicit(&bus->ring.header->publish_lock, memory_order_relaxed) != 0;
}

int eb_closed(const eb_bus *bus)
{
    return atomic_load(&bus->ring.header->closed) != 0;
}

int eb_note_read(eb_bus *bus, eb_note *note, int64_t deadline)
{
    int status = eb_bus_check(bus);
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    status = eb_note_find(&bus->ring, note);
    eb_bus_unlock_publish(bus);
    return status;
}

int eb_topic_names(const eb_bus *bus, uint32_t topic, char *names, uint32_t *lengths)
{
    return eb_ring_topic_names(&bus->ring, topic, names, lengths);
}

int64_t eb_topic_count(const eb_bus *bus, uint32_t topic)
{
    if (topic >= EB_TOPICS) return EB_NOTHING;
    return (int64_t)atomic_load_explicit(&bus->ring.header->topics[topic].count, memory_order_relaxed);
}

int eb_slowest(eb_bus *bus)
{
    int slowest;
    eb_roster_gate(&bus->roster, atomic_load(&bus->ring.header->committed), bus->ring.capacity, &slowest);
    return slowest;
}

/* What the ring keeps from there on for the owner of a slot. Members tell of a group's progress now and then only, and
 * publishers find out for themselves: what is past its cursor is not kept for it. */
static uint64_t kept_from(const eb_roster *roster, uint32_t slot)
{
    bool alone;
    const eb_group *group = eb_slot_group(roster, slot, &alone);
    uint64_t cursor = atomic_load(&roster->header->slots[slot].cursor);
    uint64_t gate = group ? eb_group_gate(roster, group) : cursor;
    return (int64_t)(gate - cursor) > 0 ? gate : cursor;
}

/* Read in this order, it is never ahead of what is committed; one that cannot be holds nobody up. */
int64_t eb_kept_for(const eb_bus *bus, uint32_t slot)
{
    if (slot >= eb_roster_used(&bus->roster) || !eb_slot_holds_gate(&bus->roster, slot)) return 0;
    uint64_t cursor = kept_from(&bus->roster, slot);
    uint64_t lag = atomic_load(&bus->ring.header->committed) - cursor;
    return lag <= bus->ring.capacity ? (int64_t)lag : 0;
}

uint32_t eb_slot(const eb_subscription *sub)
{
    return sub->index;
}

uint64_t eb_lost(const eb_subscription *sub)
{
    return atomic_load(&sub->lost);
}

/* The cursor of who looks at nothing is no further back than where it reads next. */
int64_t eb_viewed_by(const eb_bus *bus, uint32_t slot)
{
    if (slot >= eb_roster_used(&bus->roster) || !eb_slot_holds_gate(&bus->roster, slot)) return 0;
    const eb_slot_t *one = &bus->roster.header->slots[slot];
    uint64_t cursor = atomic_load(&one->cursor), viewed = atomic_load(&one->position) - cursor;
    return viewed <= bus->ring.capacity ? (int64_t)viewed : 0;
}

int eb_stats_read(const eb_bus *bus, eb_stats *out)
{
    const eb_ring_header *header = bus->ring.header;
    uint64_t oldest = 0, committed = 0, next = 0;
    do { /* until no publisher moved the oldest position in between */
        oldest = atomic_load(&header->oldest);
        committed = atomic_load(&header->committed);
        next = eb_ring_sequence_at(&bus->ring, committed);
    } while (eb_ring_lapped(&bus->ring, oldest));
    if (committed - oldest > bus->ring.capacity) return eb_damaged("the positions are impossible");
    uint32_t topics = atomic_load(&header->topic_count);
    *out = (eb_stats){.capacity = bus->ring.capacity,
                      .used = committed - oldest,
                      .committed = committed,
                      .sent = next - 1,
                      .inline_sent = atomic_load(&header->inline_count),
                      .topics = topics < EB_TOPICS ? topics : EB_TOPICS,
                      .max_subscribers = bus->roster.max_subscribers,
                      .closed = eb_closed(bus),
                      .persist = atomic_load(&bus->roster.header->persist) == 1};
    return EB_OK;
}

/* Whoever sees a byte of the slot's next owner also sees that the owner word has moved on. [owner] */
static void copy_text(char *to, const _Atomic char *from, size_t length, size_t limit)
{
    length = length < limit ? length : limit;
    for (size_t i = 0; i < length; i++)
        to[i] = atomic_load_explicit(&from[i], memory_order_acquire);
    to[length] = 0;
}

static bool is_raised(const eb_bus *bus, uint32_t slot, uint32_t group)
{
    const eb_roster_header *header = bus->roster.header;
    const eb_u64 *word =
        group < EB_GROUPS ? &header->groups[group].asleep[slot / 64] : &header->waiters[slot / 64].bits;
    return (atomic_load(word) >> (slot % 64)) & 1;
}

int eb_subscriber(eb_bus *bus, uint32_t slot, eb_subscriber_info *out)
{
    if (slot >= eb_roster_used(&bus->roster)) return 0;
    const eb_slot_t *from = &bus->roster.header->slots[slot];
    uint64_t owner = atomic_load(&from->owner);
    if (!eb_slot_alive(&bus->roster, slot)) return 0;
    uint32_t group = atomic_load(&from->group) - 1;
    bool member = group < EB_GROUPS;
    *out = (eb_subscriber_info){.lost = atomic_load(&from->lost),
                                .pid = atomic_load(&from->pid),
                                .gated = (owner & EB_SLOT_GATED) != 0,
                                .sleeping = is_raised(bus, slot, group),
                                .group = member ? (int)group : -1,
                                .exclusive = atomic_load(&from->exclusive) != 0};
    eb_figures_read(&from->figures, &out->received);
    copy_text(out->name, from->name, from->name_length, EB_LABEL_LIMIT);
    copy_text(out->system, from->system, from->system_length, EB_PATTERN_LIMIT);
    copy_text(out->kind, from->kind, from->kind_length, EB_PATTERN_LIMIT);
    return EB_SAME_OWNER(atomic_load(&from->owner), owner); /* else what was copied may be of two owners */
}

uint32_t eb_roster_epoch(eb_bus *bus)
{
    return eb_event_prepare(&bus->roster.header->changed);
}

/* A slice that ends without news ends the wait: who died after it lowered the flag, and before it raised the epoch, told
 * nobody, so the caller looks for itself and raises the flag anew. */
int eb_roster_wait(eb_bus *bus, uint32_t epoch, int64_t deadline)
{
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    int status = eb_event_wait(&bus->roster.header->changed, epoch, eb_sooner(deadline, EB_SLICE_NS));
    if (atomic_load(&bus->interrupted)) return EB_CLOSED;
    return status == EB_NOTHING && !eb_over(deadline) ? EB_OK : status;
}

/* --- groups --- */

static const eb_group *group_at(const eb_bus *bus, uint32_t group)
{
    return &bus->roster.header->groups[group];
}

int eb_group_find(const eb_bus *bus, const char *name)
{
    return eb_group_named(&bus->roster, name);
}

/* The record that the cursor stands at is there for as long as it does; others may have scribbled over the cursor. */
static uint64_t next_of(const eb_bus *bus, const eb_group *group)
{
    uint64_t cursor = 0, next = 0;
    do {
        cursor = atomic_load(&group->cursor);
        next = eb_ring_sequence_at(&bus->ring, cursor & ~7ull);
    } while (atomic_load(&group->cursor) != cursor);
    return next;
}

int eb_group_read(const eb_bus *bus, uint32_t group, eb_group_info *out)
{
    if (group >= EB_GROUPS || !eb_group_is_open(group_at(bus, group))) return 0;
    const eb_group *from = group_at(bus, group);
    uint32_t opening = atomic_load(&from->open);
    *out = (eb_group_info){.redelivered = atomic_load(&from->redelivered),
                           .dead = atomic_load(&from->dead),
                           .next = next_of(bus, from),
                           .slot = atomic_load(&from->slot),
                           .max_deliveries = atomic_load(&from->max_deliveries)};
    memcpy(out->name, from->name, EB_LABEL_LIMIT);
    memcpy(out->system, from->system, EB_PATTERN_LIMIT);
    memcpy(out->kind, from->kind, EB_PATTERN_LIMIT);
    return atomic_load(&from->open) == opening; /* else what was read may be of two groups */
}

/* A time to come, as another clock has it, is now. */
static uint64_t passed_since(uint64_t then)
{
    int64_t passed = eb_now() - (int64_t)then;
    return passed > 0 ? (uint64_t)passed : 0;
}

/* Whoever has the lock of the group whose member this is: its pid, 0 for nobody. */
int eb_group_keeper(const eb_subscription *sub)
{
    uint64_t token = sub->group ? atomic_load(&sub->group->lock) : 0;
    uint32_t slot = (uint32_t)(token & 0xFFF) - 1;
    if (token == 0 || slot >= sub->bus->roster.max_subscribers) return 0;
    return (int)atomic_load(&sub->bus->roster.header->slots[slot].pid);
}

/* One that changes hands while it is read is read again: passed over, it would look as if it were done. */
int eb_claim_read(const eb_bus *bus, uint32_t group, uint32_t from, eb_claim_info *out)
{
    const eb_roster *roster = &bus->roster;
    if (group >= EB_GROUPS) return EB_NOTHING;
    for (int claim = (int)from; (claim = eb_claim_from(roster, group_at(bus, group), (uint32_t)claim)) >= 0; claim++) {
        uint32_t number = (uint32_t)claim;
        uint64_t holder = atomic_load(eb_claim_holder(roster, number));
        bool returned = holder == EB_RETURNED;
        uint64_t since = eb_claim_since(roster, number);
        int64_t later = (int64_t)since - eb_now();
        *out = (eb_claim_info){.slot = returned ? UINT32_MAX : (uint32_t)(holder & 0xFFF) - 1,
                               .parked = atomic_load(eb_claim_place(roster, number)) & EB_PARKED ? 1 : 0,
                               .bytes = eb_claim_bytes(roster, number),
                               .sequence = eb_claim_sequence(roster, number),
                               .deliveries = eb_claim_deliveries(roster, group_at(bus, group), number),
                               .held_ns = returned ? 0 : passed_since(since),
                               .due_ns = returned && later > 0 ? (uint64_t)later : 0};
        if (holder != 0 && atomic_load(eb_claim_holder(roster, number)) == holder) return claim;
        claim--;
    }
    return EB_NOTHING;
}
