/* What a ring still holds, for whoever only looks at the bus: no slot, no cursor that others see, nothing is written. */
#include "internal.h"
#include "views.h"

/* At first, and where publishers who came meanwhile have overwritten what was next: what that cost is lost. [lap] */
static void go_to_oldest(eb_subscription *sub)
{
    uint64_t position, sequence;
    eb_ring_oldest(&sub->bus->ring, &position, &sequence);
    if (sub->sequence > 0 && sequence > sub->sequence) atomic_fetch_add(&sub->lost, sequence - sub->sequence);
    atomic_store(&sub->position, position);
    sub->sequence = sequence;
}

/* One record: kept as event number *count, or given up because it was overwritten while we looked. */
static int take(eb_subscription *sub, uint64_t committed, uint32_t *count)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position = atomic_load(&sub->position), beside_used = sub->beside_used;
    eb_batch_head before = sub->batch.head;
    eb_record record;
    if (position % 8 != 0 || committed - position > ring->capacity) return eb_damaged("the positions are impossible");
    int status = eb_ring_read(ring, position, committed, &record);
    if (status == EB_OK && record.sequence != sub->sequence)
        status = eb_damaged("the sequence of the records is broken");
    if (status == EB_OK) status = eb_batch_keep(sub, &record, position, *count, true, false);
    if (eb_ring_lapped(ring, position)) { /* [lap]: whatever we read may be another record's bytes */
        sub->batch.head = before;
        sub->beside_used = beside_used;
        go_to_oldest(sub);
        return EB_OK;
    }
    if (status != EB_OK) return status;
    atomic_store(&sub->position, position + record.bytes);
    sub->sequence++;
    ++*count;
    return EB_OK;
}

int eb_peek(eb_subscription *sub, int limit)
{
    const eb_ring *ring = &sub->bus->ring;
    uint32_t most = limit < 1 ? 1 : limit > EB_BATCH_LIMIT ? EB_BATCH_LIMIT : (uint32_t)limit, count = 0;
    int status = eb_reserve(sub, 0);
    if (status != EB_OK) return status;
    uint64_t committed = atomic_load(&ring->header->committed); /* [commit] */
    if (sub->sequence == 0 || eb_ring_lapped(ring, atomic_load(&sub->position))) go_to_oldest(sub);
    eb_batch_begin(sub);
    while (status == EB_OK && count < most && (int64_t)(committed - atomic_load(&sub->position)) > 0)
        status = take(sub, committed, &count);
    eb_batch_end(&sub->batch, count);
    if (count == 0) return status == EB_OK ? EB_NOTHING : status;
    sub->batch.head.status = (int32_t)count;
    return (int)count;
}
