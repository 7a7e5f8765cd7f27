/* What waits for a subscription, or for the group of a member. */
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
