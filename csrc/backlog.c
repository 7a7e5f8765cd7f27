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

/* Whether all that was sent since then is heard, as far as the topics tell: then sequences count it. */
static bool hears_all(const eb_bus *bus, eb_hearing *hearing, uint64_t position)
{
    eb_ring_header *header = bus->ring.header;
    if (eb_sent_since(position, &header->inline_count, &header->inline_last)) return false;
    for (uint32_t topic = 0; (topic = eb_ring_sent_to(&bus->ring, position, topic)) < EB_TOPICS; topic++)
        if (!eb_hears_topic(bus, hearing, topic)) return false;
    return true;
}

int64_t eb_waiting(const eb_bus *bus, uint32_t slot)
{
    const eb_ring *ring = &bus->ring;
    eb_hearing hearing = {.owner = 0};
    bool alone;
    const eb_group *group = eb_slot_group(&bus->roster, slot, &alone);
    const eb_u64 *at = group ? &group->cursor : &bus->roster.header->slots[slot].position;
    uint64_t committed, position = eb_cursor_read(at, &ring->header->committed, &committed);
    uint64_t start = group ? atomic_load(&group->start) : 0, sequence;
    int64_t count = 0;
    if (!eb_hearing_of(&bus->roster, slot, &hearing)) return 0;
    if (committed - position > ring->capacity || position % 8 != 0) {
        if (group && eb_group_is_open(group)) return eb_damaged("the cursor of a group is impossible");
        eb_ring_oldest(ring, &position, &sequence);
    }
    if (start == 0 && !eb_ring_lapped(ring, position) && hears_all(bus, &hearing, position)) {
        uint64_t passed = eb_ring_sequence_at(ring, committed) - eb_ring_sequence_at(ring, position);
        bool whole = passed <= ring->capacity / EB_HEADER_BYTES;
        if (whole && !eb_ring_lapped(ring, position)) return (int64_t)passed; /* [lap] */
    }
    while ((int64_t)(committed - position) > 0) {
        eb_record record;
        if (committed - position > ring->capacity && !eb_ring_lapped(ring, position))
            return eb_damaged("the committed position is impossible");
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
