/* What ends a wait: news for those who read, and room for those who publish. */
#include "internal.h"

bool eb_ended(const eb_subscription *sub)
{
    return atomic_load(&sub->interrupted) || atomic_load(&sub->bus->interrupted);
}

/* Whether there is something to do for whoever saw `seen` committed. */
bool eb_moved(const eb_subscription *sub, uint64_t seen)
{
    const eb_ring_header *header = sub->bus->ring.header;
    return atomic_load(&header->committed) != seen || atomic_load(&header->closed) || eb_ended(sub); /* [wake] */
}

/* After a cursor was stored: tells publishers that wait for room, when an eighth of the ring, or all, is free. [space]
 */
void eb_freed(eb_subscription *sub, bool all)
{
    eb_event_count *space = &sub->bus->roster.header->space;
    if (atomic_load(&space->waiters) == 0) {
        sub->freed = 0;
        return;
    }
    if (!all && sub->freed < sub->bus->ring.capacity / 8) return;
    sub->freed = 0;
    eb_event_post(space);
}
