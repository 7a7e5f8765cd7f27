/* The flow of a subscriber alone: take records one by one into a batch, advance the cursor, sleep until there are more. */
#include "sending.h"
#include "views.h"

/* Goes on at the oldest record kept and counts what was skipped. */
static int go_on_after_lap(eb_subscription *sub)
{
    uint64_t position, sequence;
    eb_ring_oldest(&sub->bus->ring, &position, &sequence);
    if (sequence < sub->sequence) return eb_damaged("the sequence of the records went back");
    uint64_t from = sub->sequence > sub->start ? sub->sequence : sub->start;
    uint64_t to = sequence < sub->joined_sequence ? sequence : sub->joined_sequence;
    if (to > from) atomic_fetch_add(&sub->lost, to - from);
    atomic_store(&sub->position, position);
    sub->sequence = sequence;
    return EB_OK;
}

/* Publishers have moved our cursor on, over what we do not hear: there, and from there on, nothing is overwritten. Whoever
 * is still catching up joins there instead. [gate] */
static int follow(eb_subscription *sub)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed), moved, sequence;
    bool later;
    do {
        moved = atomic_load(&sub->slot->cursor);
        later = sub->gated && (int64_t)(moved - sub->cursor) > 0 && moved % 8 == 0 &&
                atomic_load(&ring->header->committed) - moved <= ring->capacity;
        sequence = eb_ring_sequence_at(ring, moved);
    } while (atomic_load(&sub->slot->cursor) != moved); /* else what is committed may be rings ahead of `moved` */
    if (!later) return eb_damaged("the subscriber slot was overwritten");
    sub->cursor = moved;
    if ((int64_t)(position - sub->joined) < 0) {
        sub->joined = moved;
    } else if ((int64_t)(moved - position) > 0) {
        sub->skipped += sequence - sub->sequence;
        atomic_store(&sub->position, moved);
        sub->sequence = sequence;
    }
    return EB_OK;
}

static bool was_moved(const eb_subscription *sub)
{
    return sub->gated && atomic_load(&sub->slot->cursor) != sub->cursor;
}

/* One record: kept as event number *count, skipped, or given up because it was overwritten while we looked. */
static int take(eb_subscription *sub, uint64_t committed, uint32_t *count)
{
    const eb_ring *ring = &sub->bus->ring;
    eb_batch *batch = &sub->batch;
    uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed); /* only written by us */
    bool shared = !sub->gated || (int64_t)(position - sub->joined) < 0;
    eb_record record;
    if (shared && eb_ring_lapped(ring, position)) return go_on_after_lap(sub);
    if (was_moved(sub)) return follow(sub);
    if (committed - position > ring->capacity) return eb_damaged("the committed position is impossible");
    int status = eb_ring_read(ring, position, committed, &record);
    int verdict = status == EB_OK && record.sequence >= sub->start ? eb_verdict(sub, &record, position) : EB_UNHEARD;
    if (was_moved(sub)) return follow(sub);
    if (status == EB_OK && record.sequence != sub->sequence)
        status = eb_damaged("the sequence of the records is broken");
    eb_batch_head before = batch->head;
    uint64_t beside_used = sub->beside_used;
    if (status == EB_OK && verdict == EB_UNKNOWN) status = eb_ask(sub, &record, position);
    if (status == EB_OK && verdict == EB_HEARD) status = eb_batch_keep(sub, &record, position, *count, shared, !shared);
    bool kept = verdict == EB_HEARD && status == EB_OK;
    if (status == EB_UNDECIDED && was_moved(sub)) return follow(sub);
    EB_TEST_POINT(receive_read);
    if (shared && eb_ring_lapped(ring, position)) { /* [lap]: whatever we read may be another record's bytes */
        batch->head = before;
        sub->beside_used = beside_used;
        return go_on_after_lap(sub);
    }
    if (status != EB_OK) return status;
    atomic_store_explicit(&sub->position, position + record.bytes, memory_order_relaxed);
    sub->sequence++;
    *count += kept;
    sub->skipped += !kept && record.sequence >= sub->start;
    return EB_OK;
}

/* Gives what was read back to the publishers, but for what is still looked at. */
static int advance(eb_subscription *sub, uint64_t committed)
{
    uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed);
    eb_slot_t *slot = sub->slot;
    if (atomic_load(&slot->owner) != sub->owner) return eb_damaged("the subscriber slot was overwritten");
    EB_TEST_POINT(receive_copied);
    atomic_store_explicit(&slot->position, position, memory_order_relaxed);
    atomic_store_explicit(&slot->lost, atomic_load(&sub->lost), memory_order_relaxed);
    if ((int64_t)(position - sub->joined) < 0) return EB_OK;
    EB_TEST_POINT(receive_counted);
    uint64_t floor = eb_views_floor(sub, position);
    for (;;) {
        if (sub->views && floor == sub->cursor) return EB_OK;
        if (floor != position && (int64_t)(floor - sub->cursor) < 0) /* nobody moves it over what is heard */
            return eb_damaged("the subscriber slot was overwritten");
        if (eb_cursor_move(&slot->cursor, sub->cursor, floor)) break; /* [cursor] [space] */
        int status = follow(sub);
        if (status != EB_OK) return status;
        if (floor == position && (int64_t)(sub->cursor - position) >= 0) return EB_OK;
    }
    EB_TEST_POINT(receive_advanced);
    sub->freed += floor - sub->cursor;
    sub->cursor = floor;
    eb_freed(sub, floor == committed);
    return EB_OK;
}

int eb_single_settle(eb_subscription *sub)
{
    return advance(sub, atomic_load(&sub->bus->ring.header->committed));
}

/* The number of events taken, or why there is none yet. What was read before a difficulty is handed out first. */
static int scan(eb_subscription *sub, uint32_t limit)
{
    uint64_t committed = atomic_load(&sub->bus->ring.header->committed); /* [commit] */
    uint64_t before = atomic_load_explicit(&sub->position, memory_order_relaxed);
    uint32_t count = 0, looked = 0;
    int status = EB_OK;
    eb_batch_begin(sub);
    while (status == EB_OK && count < limit && looked++ < EB_LOOK_RECORDS &&
           (int64_t)(committed - atomic_load_explicit(&sub->position, memory_order_relaxed)) > 0)
        status = take(sub, committed, &count);
    eb_batch_end(&sub->batch, count);
    if (sub->views || atomic_load_explicit(&sub->position, memory_order_relaxed) != before) {
        int advanced = advance(sub, committed);
        if (advanced != EB_OK) return advanced;
    }
    if (count == 0) return status;
    eb_took(&sub->pace, count, atomic_load_explicit(&sub->position, memory_order_relaxed) - before);
    return (int)count;
}

/* Raises the flag, and looks again: whether there is nothing to do for whoever saw `seen` committed. */
bool eb_single_lie_down(eb_subscription *sub, uint64_t seen, uint64_t bell)
{
    eb_pass_wake(sub);
    eb_roused_by(sub, bell);
    eb_waiter_raise(&sub->bus->roster, sub->index); /* [wake] */
    EB_TEST_POINT(waiter_raised);
    return !eb_moved(sub, seen);
}

/* A slice that ends without news is an interruption, not the end of the wait: the flag is raised anew, in case a publisher
 * died between lowering it and waking us. */
static int await(eb_subscription *sub, uint64_t seen, int64_t deadline)
{
    int lingered = eb_linger(sub, seen, deadline);
    if (lingered != EB_NOTHING) return lingered;
    int status = EB_OK;
    if (eb_single_lie_down(sub, seen, 0))
        status = eb_sleep_or_keep(sub, &sub->slot->semaphore, eb_now() + EB_SLICE_NS, deadline);
    eb_waiter_lower(&sub->bus->roster, sub->index);
    EB_TEST_POINT(waiter_woken);
    eb_figures_add(&sub->slot->figures.wakes, 1);
    return status == EB_NOTHING && !eb_over(deadline) ? EB_INTERRUPTED : status;
}

int eb_single_receive(eb_subscription *sub, uint32_t most, int64_t deadline)
{
    const eb_ring_header *header = sub->bus->ring.header;
    int64_t begun = 0;
    for (bool woken = false;; woken = true) {
        if (eb_ended(sub)) return EB_CLOSED;
        bool closed = atomic_load(&header->closed) != 0; /* before the scan: nothing is committed after it */
        int status = closed ? EB_OK : eb_gather(sub, deadline);
        if (status == EB_OK) status = scan(sub, most);
        if (status != EB_OK) return status;
        uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed);
        int64_t waiting = (int64_t)(atomic_load(&header->committed) - position);
        if (waiting < 0) return eb_damaged("the committed position went back");
        if (waiting > 0) {
            status = eb_look_on(deadline, &begun);
            if (status != EB_OK) return status;
            continue;
        }
        if (closed) return EB_CLOSED;
        if (!woken && eb_fire_due(sub->bus, deadline)) continue; /* it may hear what it has sent */
        if (EB_IS_POLL(deadline)) return EB_NOTHING;
        if (woken) return EB_INTERRUPTED; /* for nothing, or by a signal at the same time */
        status = await(sub, position, deadline);
        if (status != EB_OK) return status;
    }
}
