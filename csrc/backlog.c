/* What waits for a subscription, or for the group of a member; and for whoever has a slot, as others see it. */
#include "internal.h"

/* Counts the events heard from the next one to what is committed now, beside a receiver that may be taking them. */
int eb_backlog(eb_subscription *sub, eb_walk *walk)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position = atomic_load(sub->group ? &sub->group->cursor : &sub->position);
    uint64_t start = sub->group ? atomic_load(&sub->group->start) : sub->start;
    if (eb_group_gone(sub)) return EB_OK;
    if (!walk->started) {
        walk->started = 1;
        walk->stop = atomic_load(&ring->header->committed);
        walk->position = position;
    }
    while ((int64_t)(walk->stop - walk->position) > 0) {
        eb_record record;
        if (walk->stop - walk->position > ring->capacity && !eb_ring_lapped(ring, walk->position))
            return eb_damaged("the committed position is impossible");
        int status = eb_ring_read(ring, walk->position, walk->stop, &record);
        int verdict = record.sequence < start ? EB_UNHEARD : EB_UNKNOWN;
        if (status == EB_OK && sub->local && eb_ring_has_origin(ring, walk->position, &record)) verdict = EB_UNHEARD;
        if (status == EB_OK && verdict == EB_UNKNOWN &&
            record.topic != EB_INLINE) /* an inline one's is the receiver's own */
            verdict = eb_verdict(sub, &record, walk->position);
        if (status == EB_OK && verdict == EB_UNKNOWN)
            status =
                eb_record_names(sub, &record, walk->position, walk->names, &walk->system_length, &walk->kind_length);
        if (eb_ring_lapped(ring, walk->position)) { /* [lap]: begin again where the ring begins now */
            eb_ring_oldest(ring, &walk->position, &(uint64_t){0});
            walk->count = 0;
            continue;
        }
        if (status != EB_OK) return status;
        walk->undecided = record.topic;
        if (verdict == EB_UNKNOWN && record.topic != EB_INLINE) return EB_UNDECIDED;
        walk->position += record.bytes;
        if (verdict == EB_UNKNOWN) return EB_UNDECIDED; /* the caller adds this one to `count` if it is heard */
        walk->count += verdict == EB_HEARD;
    }
    return EB_OK;
}

int64_t eb_waiting(const eb_bus *bus, uint32_t slot)
{
    const eb_ring *ring = &bus->ring;
    eb_hearing hearing = {.owner = 0};
    bool alone;
    const eb_group *group = eb_slot_group(&bus->roster, slot, &alone);
    uint64_t position = atomic_load(group ? &group->cursor : &bus->roster.header->slots[slot].position);
    uint64_t start = group ? atomic_load(&group->start) : 0, sequence;
    uint64_t committed = atomic_load(&ring->header->committed);
    int64_t count = 0;
    if (!eb_hearing_of(&bus->roster, slot, &hearing)) return 0;
    if (committed - position > ring->capacity || position % 8 != 0) {
        if (group && eb_group_is_open(group)) return eb_damaged("the cursor of a group is impossible");
        eb_ring_oldest(ring, &position, &sequence);
    }
    while ((int64_t)(committed - position) > 0) {
        eb_record record;
        int status = eb_ring_read(ring, position, committed, &record);
        bool heard = status == EB_OK && record.sequence >= start && eb_hears_record(bus, &hearing, &record, position);
        if (eb_ring_lapped(ring, position)) { /* [lap]: begin again where the ring begins now */
            eb_ring_oldest(ring, &position, &sequence);
            count = 0;
            continue;
        }
        if (status != EB_OK) return status;
        count += heard;
        position += record.bytes;
    }
    return count;
}
