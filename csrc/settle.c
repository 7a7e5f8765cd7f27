/* Where a subscription reads from, when it joins and when it comes back to what it has let pass. */
#include "internal.h"

/* Stored, then looked again until nothing was committed in between: every gate computed before our cursor could be seen
 * was computed from a committed position at or before it. [gate] */
static uint64_t settle_cursor(eb_subscription *sub)
{
    uint64_t position = atomic_load(&sub->slot->cursor), committed;
    while ((committed = atomic_load(&sub->bus->ring.header->committed)) != position) {
        position = committed;
        atomic_store(&sub->slot->cursor, position);
        EB_TEST_POINT(slot_settled);
    }
    return position;
}

int eb_settle(eb_subscription *sub, int64_t start)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position, oldest;
    do {
        oldest = atomic_load(&ring->header->oldest); /* before the committed position, so never ahead of it */
        position = settle_cursor(sub);
        if ((int64_t)(position - oldest) < 0) return eb_damaged("the positions are impossible");
        sub->sequence = eb_ring_sequence_at(ring, position);
    } while (eb_ring_lapped(ring, position));
    if (start > 0 && (uint64_t)start > sub->sequence) return EB_AHEAD;
    sub->joined = sub->cursor = position;
    sub->joined_sequence = sub->gated ? sub->sequence : UINT64_MAX;
    if (start != EB_LATEST) eb_ring_oldest(ring, &position, &sub->sequence);
    if (start > 0) sub->start = (uint64_t)start;
    if (start > 0 && sub->start < sub->sequence) atomic_store(&sub->lost, sub->sequence - sub->start);
    atomic_store(&sub->position, position);
    atomic_store(&sub->slot->position, position);
    atomic_store(&sub->slot->lost, atomic_load(&sub->lost));
    EB_TEST_POINT(slot_placed);
    return EB_OK;
}

/* Between two times in which its owner waits for something, what passes is not for it, and it holds nobody up. It reads on
 * from where it is then: its cursor is settled anew, as at first. [gate] */
int eb_hold_gate(eb_subscription *sub, bool gated)
{
    uint64_t before = sub->owner, after = gated ? before | EB_SLOT_GATED : before & ~(uint64_t)EB_SLOT_GATED;
    if (gated) atomic_store(&sub->slot->cursor, atomic_load(&sub->bus->ring.header->committed));
    if (!atomic_compare_exchange_strong(&sub->slot->owner, &before, after))
        return eb_damaged("the subscriber slot was overwritten");
    sub->owner = after;
    sub->gated = gated;
    atomic_store(&sub->drains, gated);
    return gated ? eb_settle(sub, EB_LATEST) : EB_OK;
}
