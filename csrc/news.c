/* What ends a wait: news for those who read, and room for those who publish. */
#include "internal.h"

int eb_group_gone(const eb_subscription *sub)
{
    return sub->group && atomic_load(&sub->group->open) != sub->opening;
}

/* Asked after a copy from the ring: an exchange, so that whoever removes the group is seen, or comes after the copy. On x86
 * a load does that, as loads keep their order there (Intel, Software Developer's Manual, volume 3, "Memory Ordering"), and
 * it leaves the line to the other members. A race detector gets to see the exchange. */
bool eb_group_stayed(const eb_subscription *sub)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    atomic_signal_fence(memory_order_acquire);
    return atomic_load(&sub->group->open) == sub->opening; /* [removal] */
#else
    return atomic_fetch_add(&sub->group->open, 0) == sub->opening; /* [removal] */
#endif
}

bool eb_ended(const eb_subscription *sub)
{
    return atomic_load(&sub->interrupted) || atomic_load(&sub->bus->interrupted) || eb_group_gone(sub);
}

/* Whether there is something to do for whoever saw `seen` committed. */
bool eb_moved(const eb_subscription *sub, uint64_t seen)
{
    const eb_ring_header *header = sub->bus->ring.header;
    return atomic_load(&header->committed) != seen || atomic_load(&header->closed) || eb_ended(sub); /* [wake] */
}

/* Between two looks over what is not heard, each of EB_LOOK_RECORDS: EB_OK to look on, EB_INTERRUPTED to let handlers run
 * first, EB_NOTHING when the time is up. A poll looks for EB_POLL_NS, or until it finds something: else who polls behind a
 * flood would never hear anything. `begun` is 0 at first. */
int eb_look_on(int64_t deadline, int64_t *begun)
{
    if (deadline != EB_POLL) return eb_over(deadline) ? EB_NOTHING : EB_INTERRUPTED;
    int64_t now = eb_now();
    if (*begun == 0) *begun = now;
    return now - *begun < EB_POLL_NS ? EB_OK : EB_NOTHING;
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
