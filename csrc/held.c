/* What a member has in hand: taken, read into batches, finished in any order or given back. */
#include "sending.h"
#include "views.h"

static eb_held *entry(eb_subscription *sub, uint32_t i)
{
    return &sub->hand[sub->first + i];
}

/* Entry number `i` goes; most often the first. By whoever has `at_hand`, like all that follow without saying so. */
static void let_go(eb_subscription *sub, uint32_t i)
{
    if (i == 0) sub->first++;
    else memmove(entry(sub, i), entry(sub, i + 1), (sub->held - i - 1) * sizeof *sub->hand);
    sub->held--;
    if (i < sub->copied) sub->copied--;
}

static int find(eb_subscription *sub, uint64_t sequence)
{
    for (uint32_t i = 0; i < sub->held; i++)
        if (entry(sub, i)->sequence == sequence) return (int)i;
    return EB_NOTHING;
}

/* Whose descriptor was closed underneath counts as dead: what it had in hand is another member's by now. */
static int finish_claim(eb_subscription *sub, uint32_t i)
{
    uint32_t claim = entry(sub, i)->claim;
    eb_views_done(sub, entry(sub, i)->sequence);
    if (atomic_load(eb_claim_place(&sub->bus->roster, claim)) & EB_PARKED) atomic_store(&sub->unparked, true);
    bool mine = eb_claim_finish(&sub->bus->roster, claim, sub->token);
    return mine ? EB_OK : eb_damaged("a claim was taken from its holder");
}

static int finish(eb_subscription *sub, uint32_t i)
{
    int status = finish_claim(sub, i);
    let_go(sub, i);
    return status;
}

/* There is room for twice as many as may be in hand, so they are rarely moved to the front. */
void eb_take_in_hand(eb_subscription *sub, uint32_t claim)
{
    if (sub->first >= EB_BATCH_LIMIT) {
        memmove(sub->hand, entry(sub, 0), sub->held * sizeof *sub->hand);
        sub->first = 0;
    }
    *entry(sub, sub->held++) = (eb_held){.claim = claim, .sequence = eb_claim_sequence(&sub->bus->roster, claim)};
}

/* How many more it may have in hand. */
uint32_t eb_hand_room(const eb_subscription *sub, uint32_t limit)
{
    return sub->held < limit ? limit - sub->held : 0;
}

/* --- finished --- */

/* Whoever asks for more has done with all that it was given; not with what was only taken. */
int eb_finish_copied(eb_subscription *sub)
{
    int status = EB_OK;
    uint32_t done = sub->copied;
    for (uint32_t i = 0; i < done; i++)
        if (finish_claim(sub, i) != EB_OK) status = EB_DAMAGED;
    sub->first += done;
    sub->held -= done;
    sub->copied = 0;
    return status;
}

static void count_done(eb_subscription *sub)
{
    eb_batch_head *head = &sub->batch.head;
    if (!sub->manual && head->done < head->handed) head->done++;
}

/* Without `at_hand`, as all that follow: a thread that finishes events may do so beside one that receives. */
static void begin(eb_subscription *sub)
{
    pthread_mutex_lock(&sub->at_hand);
}

static void end(eb_subscription *sub)
{
    pthread_mutex_unlock(&sub->at_hand);
    if (atomic_load(&sub->full)) eb_rouse_self(sub);
}

int eb_finish_first(eb_subscription *sub)
{
    begin(sub);
    int status = sub->copied > 0 ? finish(sub, 0) : EB_NOTHING;
    if (status == EB_OK) count_done(sub);
    end(sub);
    return status;
}

int eb_finish_event(eb_subscription *sub, uint64_t sequence)
{
    begin(sub);
    int found = find(sub, sequence), status = found >= 0 ? finish(sub, (uint32_t)found) : EB_NOTHING;
    if (status == EB_OK) count_done(sub);
    end(sub);
    return status;
}

/* --- given back --- */

int eb_return_event(eb_subscription *sub, uint64_t sequence, uint64_t due)
{
    begin(sub);
    int found = find(sub, sequence);
    if (found >= 0) {
        eb_views_done(sub, sequence);
        bool mine = eb_claim_return(&sub->bus->roster, entry(sub, (uint32_t)found)->claim, sub->token, due);
        let_go(sub, (uint32_t)found);
        count_done(sub);
        if (!mine) found = eb_damaged("a claim was taken from its holder");
    }
    end(sub);
    return found < 0 ? found : EB_OK;
}

/* The first of the batch was handed out to nobody, after all. Its claim may be another's by now. */
static void take_back_first(eb_subscription *sub)
{
    const eb_batch *batch = &sub->batch;
    for (uint32_t i = 0; i < sub->held; i++) {
        uint32_t claim = entry(sub, i)->claim;
        eb_u32 *counter = eb_claim_counter(&sub->bus->roster, claim);
        if (batch->handed_out[0] != (uint32_t *)counter) continue;
        if (atomic_load(eb_claim_holder(&sub->bus->roster, claim)) == sub->token)
            atomic_store(counter, batch->deliveries[0] - 1);
    }
}

/* What was handed out, from `due` on; what was not was not delivered. Whether there was any. */
bool eb_return_all(eb_subscription *sub, uint64_t due)
{
    bool any = false;
    eb_batch *batch = &sub->batch;
    begin(sub);
    if (batch->head.counts && batch->head.handed == 0) take_back_first(sub);
    for (uint32_t i = 0; i < sub->held; i++) {
        uint32_t claim = entry(sub, i)->claim;
        bool out = (atomic_load(eb_claim_counter(&sub->bus->roster, claim)) & EB_HANDED_OUT) != 0;
        eb_views_done(sub, entry(sub, i)->sequence);
        any |= eb_claim_return(&sub->bus->roster, claim, sub->token, out ? due : 0);
    }
    memset(batch->handed_out, 0, sizeof batch->handed_out);
    sub->first = sub->held = sub->copied = 0;
    end(sub);
    return any;
}

/* --- read --- */

/* Places of a group come from memory that others may scribble over. */
static int read_record(const eb_subscription *sub, uint64_t place, uint64_t sequence, eb_record *record)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t committed = atomic_load(&ring->header->committed), offset = place & ~EB_PARKED;
    bool parked = (place & EB_PARKED) != 0;
    bool possible = parked ? offset % EB_PARKING_BLOCK == 0 && offset < ring->parking_bytes
                           : offset % 8 == 0 && committed - place <= ring->capacity;
    if (!possible) /* a block has room for a record's header */
        return eb_damaged("a place of a group is impossible");
    int status = eb_ring_read(ring, place, parked ? place + (ring->parking_bytes - offset) : committed, record);
    if (status == EB_OK && record->sequence != sequence) return eb_damaged("a claim names another event");
    return status;
}

/* What is copied may be overwritten meanwhile, once it was parked or the group removed; whoever copied it asks afterwards, by
 * an exchange: whoever parked the record is seen, or what overwrites it comes after the copy. On x86 a load does that, as with
 * eb_group_stayed, after a copy of any kind. A race detector gets to see words and the exchange. [park] */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define IN_WORDS false
static bool has_stayed(eb_u64 *place, uint64_t seen)
{
    atomic_signal_fence(memory_order_acquire);
    return atomic_load(place) == seen;
}
#else
#define IN_WORDS true
static bool has_stayed(eb_u64 *place, uint64_t seen)
{
    return atomic_fetch_add(place, 0) == seen;
}
#endif

/* The verdict in `heard`. */
static int copy(eb_subscription *sub, const eb_held *held, uint32_t index, bool looks, int *heard, uint64_t *bytes)
{
    eb_u64 *place = eb_claim_place(&sub->bus->roster, held->claim);
    eb_batch_head before = sub->batch.head;
    uint64_t beside_used = sub->beside_used, viewed = sub->viewed;
    for (;;) {
        uint64_t at = atomic_load(place); /* [park] */
        eb_record record = {.bytes = 0};
        int status = read_record(sub, at, held->sequence, &record);
        *heard = status == EB_OK ? eb_verdict(sub, &record, at) : EB_UNHEARD;
        if (*heard == EB_UNKNOWN) status = eb_ask(sub, &record, at);
        if (*heard == EB_HEARD) status = eb_batch_keep(sub, &record, at, index, IN_WORDS, looks && !(at & EB_PARKED));
        *bytes = record.bytes;
        EB_TEST_POINT(claim_copied);
        if (has_stayed(place, at)) return status;
        sub->batch.head = before;
        sub->beside_used = beside_used;
        sub->viewed = viewed;
        eb_views_done(sub, held->sequence);
    }
}

/* Event number `index` of the batch, for a reader that does not say so itself; and the first, for any: it may be what kills
 * the reader while it makes something of the batch. */
static void hand_out(eb_batch *batch, uint32_t index)
{
    atomic_store((eb_u32 *)batch->handed_out[index], (batch->deliveries[index] - 1) | EB_HANDED_OUT);
    EB_TEST_POINT(claim_handed_out);
}

/* The next events in hand into a batch: their number, or why there is none yet. One that was delivered too often is alone, and
 * EB_EXHAUSTED. */
int eb_copy_held(eb_subscription *sub, uint32_t limit)
{
    eb_batch *batch = &sub->batch;
    const eb_roster *roster = &sub->bus->roster;
    uint32_t count = 0, most = atomic_load(&sub->group->max_deliveries);
    uint64_t taken = 0;
    int status = EB_OK;
    eb_batch_begin(sub);
    batch->handed_out[0] = NULL;
    while (status == EB_OK && count < limit && sub->copied < sub->held) {
        eb_held *held = entry(sub, sub->copied);
        uint32_t deliveries = eb_claim_deliveries(roster, sub->group, held->claim);
        uint64_t bytes = 0;
        int heard = EB_UNHEARD;
        if (deliveries > most && count > 0) break;
        if (atomic_load(eb_claim_holder(roster, held->claim)) != sub->token)
            status = eb_damaged("a claim was taken from its holder");
        else status = copy(sub, held, count, deliveries <= most, &heard, &bytes); /* a letter has bytes */
        if (status != EB_OK) break;
        if (heard != EB_HEARD) {
            status = finish(sub, sub->copied);
            continue;
        }
        batch->deliveries[count] = deliveries;
        batch->head.counted |= deliveries != 1;
        batch->handed_out[count] = deliveries > most ? NULL : (uint32_t *)eb_claim_counter(roster, held->claim);
        if (deliveries <= most && (!sub->one_by_one || count == 0)) hand_out(batch, count);
        count++;
        sub->copied++;
        taken += bytes;
        if (deliveries > most) limit = 0;
    }
    eb_batch_end(batch, count);
    batch->head.counts = sub->one_by_one;
    if (count == 0) return status;
    eb_took(&sub->pace, count, taken);
    return limit == 0 ? EB_EXHAUSTED : (int)count;
}

/* --- wait --- */

#define FULL_NS (200 * EB_MILLISECOND) /* how often it looks for the end, of which it is not told */

static bool is_all_taken(const eb_subscription *sub)
{
    const eb_ring_header *header = sub->bus->ring.header;
    return atomic_load(&header->closed) != 0 && atomic_load(&sub->group->cursor) == atomic_load(&header->committed);
}

/* Until another thread has finished one of as many as there may be. EB_NOTHING also when nothing more can be taken. */
int eb_await_hand(eb_subscription *sub, uint32_t limit, int64_t deadline)
{
    int status = EB_OK;
    if (eb_over(deadline) || is_all_taken(sub)) return EB_NOTHING;
    eb_fire_due(sub->bus, deadline);
    atomic_store(&sub->full, true);
    pthread_mutex_lock(&sub->at_hand);
    bool full = eb_hand_room(sub, limit) == 0;
    pthread_mutex_unlock(&sub->at_hand);
    if (full && !eb_ended(sub)) status = eb_sleep_or_keep(sub, &sub->slot->semaphore, eb_now() + FULL_NS, deadline);
    atomic_store(&sub->full, false);
    return status == EB_NOTHING && eb_over(deadline) ? EB_NOTHING : status == EB_ROBBED ? status : EB_INTERRUPTED;
}
