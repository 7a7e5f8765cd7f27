/* The public functions of a subscription: join, receive a batch, wait, leave. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER_BYTES (64u * 1024u)
#define SPIN_LOOKS 4
#define SPIN_MAX_NS 50000ll
#define SPIN_MIN_NS 1000ll
#define SPIN_TRIAL_NS 20000ll
#define SPIN_SLEPT_NS 100000ll
#define NAP_NS 30000ll
#define NAP_EVENTS 3
#define NAP_INTERVAL_NS 20000ll

enum { UNKNOWN = 0, HEARD = 1, UNHEARD = 2 };

struct eb_subscription {
    eb_bus *bus;
    eb_slot_t *slot;
    uint64_t owner;            /* the slot's owner word while it is ours */
    uint64_t cursor;           /* what we last stored in the slot */
    _Atomic uint64_t position; /* of the next record; before `joined` it is still catching up */
    uint64_t sequence;         /* that record must have */
    uint64_t joined;           /* from here on the gate protects what a gated subscription reads */
    uint64_t start;            /* sequences before it are skipped */
    uint64_t freed;            /* bytes since publishers were last told of room */
    uint64_t decided_position; /* an inline record whose verdict is decided_verdict */
    int64_t spin_ns;           /* asked for, or EB_ADAPTIVE */
    int64_t spin_budget;       /* as adapted */
    int64_t waited_at;         /* when it last had nothing to do */
    uint64_t taken;            /* events handed out since then */
    _Atomic uint64_t lost;
    uint64_t beside_used; /* bytes at the buffer's end */
    uint32_t index;
    int fd;
    bool gated;
    uint8_t decided_verdict;
    _Atomic bool interrupted;
    _Atomic uint8_t verdicts[EB_TOPICS];
    eb_batch batch;
};

/* --- join and leave --- */

/* Stored, then looked again until nothing was committed in between: every gate computed before our cursor could be seen
 * was computed from a committed position at or before it. [gate] */
static uint64_t settle_cursor(eb_subscription *sub)
{
    uint64_t position = atomic_load(&sub->slot->cursor), committed;
    while ((committed = atomic_load(&sub->bus->ring.header->committed)) != position) {
        position = committed;
        atomic_store(&sub->slot->cursor, position);
    }
    return position;
}

static int place(eb_subscription *sub, int64_t start)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position, oldest;
    do {
        oldest = atomic_load(&ring->header->oldest); /* before the committed position, so never ahead of it */
        position = settle_cursor(sub);
        if ((int64_t)(position - oldest) < 0) return eb_damaged("the positions are impossible");
        sub->sequence = eb_ring_sequence_at(ring, position);
    } while (eb_ring_lapped(ring, position));
    sub->joined = sub->cursor = position;
    if (start != EB_LATEST) eb_ring_oldest(ring, &position, &sub->sequence);
    if (start > 0) sub->start = (uint64_t)start;
    if (start > 0 && sub->start < sub->sequence) atomic_store(&sub->lost, sub->sequence - sub->start);
    atomic_store(&sub->position, position);
    atomic_store(&sub->slot->sequence, sub->sequence);
    atomic_store(&sub->slot->lost, atomic_load(&sub->lost));
    return EB_OK;
}

/* Under the roster lock. */
static int join(eb_subscription *sub, const eb_terms *terms)
{
    eb_roster *roster = &sub->bus->roster;
    int slot = eb_slot_claim(roster, sub->fd);
    if (slot < 0) return slot;
    sub->index = (uint32_t)slot;
    sub->slot = &roster->header->slots[slot];
    eb_slot_open(roster, sub->index, terms, sub->bus->pid, atomic_load(&sub->bus->ring.header->committed));
    sub->owner = atomic_load(&sub->slot->owner);
    int status = place(sub, terms->start);
    if (status != EB_OK) eb_slot_free(roster, sub->index);
    return status;
}

static int prepare(eb_subscription *sub)
{
    sub->batch.buffer = malloc(BUFFER_BYTES);
    sub->batch.size = BUFFER_BYTES;
    sub->fd = eb_reopen(sub->bus->roster.fd);
    return sub->batch.buffer && sub->fd >= 0 ? EB_OK : EB_SYSTEM;
}

eb_subscription *eb_subscribe(eb_bus *bus, const eb_terms *terms, int64_t deadline, int *status)
{
    eb_subscription *sub = calloc(1, sizeof *sub);
    *status = EB_SYSTEM;
    if (!sub) return NULL;
    sub->bus = bus;
    sub->fd = -1;
    sub->gated = terms->gated != 0;
    sub->spin_ns = terms->spin_ns;
    *status = prepare(sub);
    if (*status == EB_OK) *status = eb_bus_lock_roster(bus, deadline);
    if (*status == EB_OK) {
        *status = join(sub, terms);
        eb_bus_unlock_roster(bus);
    }
    if (*status == EB_OK) {
        eb_event_post(&bus->roster.header->changed);
        return sub;
    }
    int error = errno;
    eb_subscription_free(sub);
    errno = error;
    return NULL;
}

/* The slot is free before its byte is: nobody takes it in between, and whoever dies in between leaves it free. */
int eb_unsubscribe(eb_subscription *sub)
{
    if (sub->fd < 0) return EB_OK;
    if (atomic_load(&sub->slot->owner) == sub->owner) eb_slot_free(&sub->bus->roster, sub->index);
    eb_subscription_abandon(sub);
    eb_event_post(&sub->bus->roster.header->changed);
    eb_event_post(&sub->bus->roster.header->space);
    return EB_OK;
}

void eb_subscription_abandon(eb_subscription *sub)
{
    if (sub->fd >= 0) close(sub->fd);
    sub->fd = -1;
}

void eb_subscription_free(eb_subscription *sub)
{
    if (!sub) return;
    eb_subscription_abandon(sub);
    free(sub->batch.buffer);
    free(sub);
}

void eb_interrupt(eb_subscription *sub)
{
    atomic_store(&sub->interrupted, true);
    eb_semaphore_post(&sub->slot->semaphore);
}

eb_batch *eb_batch_of(eb_subscription *sub)
{
    return &sub->batch;
}

uint32_t eb_slot(const eb_subscription *sub)
{
    return sub->index;
}

uint64_t eb_lost(const eb_subscription *sub)
{
    return atomic_load(&sub->lost);
}

/* --- verdicts --- */

static int verdict_of(const eb_subscription *sub, const eb_record *record, uint64_t position)
{
    if (record->topic != EB_INLINE) return atomic_load_explicit(&sub->verdicts[record->topic], memory_order_relaxed);
    return position == sub->decided_position ? sub->decided_verdict : UNKNOWN;
}

/* The names of the record's topic, from the table or from the record itself, both in `names`. */
static int read_names(const eb_subscription *sub, const eb_record *record, uint64_t position, char *names,
                      uint32_t *system_length, uint32_t *kind_length)
{
    uint32_t lengths[2] = {record->system_length, record->kind_length};
    int status = EB_OK;
    if (record->topic == EB_INLINE) eb_ring_copy(&sub->bus->ring, position, 0, names, lengths[0] + lengths[1], true);
    else status = eb_ring_topic_names(&sub->bus->ring, record->topic, names, lengths);
    *system_length = lengths[0];
    *kind_length = lengths[1];
    return status;
}

static int ask(eb_subscription *sub, const eb_record *record, uint64_t position)
{
    eb_batch *batch = &sub->batch;
    int status = read_names(sub, record, position, batch->names, &batch->system_length, &batch->kind_length);
    batch->undecided = record->topic;
    return status == EB_OK ? EB_UNDECIDED : status;
}

/* For EB_INLINE it holds for the one record that was asked about. */
int eb_decide(eb_subscription *sub, uint32_t topic, int heard)
{
    uint8_t verdict = heard ? HEARD : UNHEARD;
    if (topic == EB_INLINE) {
        sub->decided_position = atomic_load(&sub->position);
        sub->decided_verdict = verdict;
        return EB_OK;
    }
    if (topic >= EB_TOPICS) return EB_DAMAGED;
    atomic_store_explicit(&sub->verdicts[topic], verdict, memory_order_relaxed);
    if (!heard) atomic_fetch_or(&sub->slot->deaf[topic / 64], 1ull << (topic % 64));
    return EB_OK;
}

/* --- receive --- */

static void begin_batch(eb_subscription *sub)
{
    eb_batch *batch = &sub->batch;
    batch->buffer[0] = '[';
    batch->json_length = 1;
    batch->json_count = batch->beside_count = batch->mixed = 0;
    sub->beside_used = 0;
}

static void end_batch(eb_batch *batch)
{
    uint64_t last = batch->json_count > 0 ? batch->json_length - 1 : 1;
    batch->buffer[last] = ']';
    batch->json_length = last + 1;
}

/* What of a record goes into the array and what beside it. */
typedef struct {
    uint64_t beside; /* names, path and raw data: the first bytes of the body */
    uint64_t text;   /* the JSON text: the last bytes of the body */
} eb_parts;

static eb_parts parts_of(const eb_record *record)
{
    uint64_t names = (uint64_t)record->system_length + record->kind_length;
    if (record->path_length > 0) return (eb_parts){.beside = record->stored};
    uint64_t before = names > 0 ? names + 1 : 0; /* an inline record keeps its bracket */
    return (eb_parts){.beside = names, .text = record->stored > before ? record->stored - before : 0};
}

/* Copies the record as event number `index` of the batch; the caller counts it in. */
static int keep(eb_subscription *sub, const eb_record *record, uint64_t position, uint32_t index, bool shared)
{
    eb_batch *batch = &sub->batch;
    const eb_ring *ring = &sub->bus->ring;
    eb_parts parts = parts_of(record);
    if (batch->json_length + parts.text + 2 + sub->beside_used + parts.beside > batch->size) {
        batch->needed = parts.text + parts.beside + 16;
        return EB_LARGE;
    }
    batch->sequence[index] = record->sequence;
    batch->time[index] = record->time;
    batch->sender[index] = record->sender;
    batch->topic[index] = record->topic;
    if (record->topic != batch->topic[0] || record->sender != batch->sender[0]) batch->mixed = 1;
    if (record->path_length == 0) {
        eb_ring_copy(ring, position, record->stored - parts.text, batch->buffer + batch->json_length, parts.text,
                     shared);
        batch->json_length += parts.text;
        batch->buffer[batch->json_length++] = ',';
        batch->json_count++;
    }
    if (parts.beside > 0) {
        sub->beside_used += parts.beside;
        uint64_t offset = batch->size - sub->beside_used;
        uint64_t names = (uint64_t)record->system_length + record->kind_length;
        batch->beside[batch->beside_count++] = (eb_beside){.index = index,
                                                           .system_length = record->system_length,
                                                           .kind_length = record->kind_length,
                                                           .path_length = record->path_length,
                                                           .data_length = parts.beside - names - record->path_length,
                                                           .offset = offset};
        eb_ring_copy(ring, position, 0, batch->buffer + offset, parts.beside, shared);
    }
    return EB_OK;
}

/* Goes on at the oldest record kept and counts what was skipped. */
static int go_on_after_lap(eb_subscription *sub)
{
    uint64_t position, sequence;
    eb_ring_oldest(&sub->bus->ring, &position, &sequence);
    if (sequence < sub->sequence) return eb_damaged("the sequence of the records went back");
    uint64_t from = sub->sequence > sub->start ? sub->sequence : sub->start;
    if (sequence > from) atomic_fetch_add(&sub->lost, sequence - from);
    atomic_store(&sub->position, position);
    sub->sequence = sequence;
    return EB_OK;
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
    if (committed - position > ring->capacity) return eb_damaged("the committed position is impossible");
    int status = eb_ring_read(ring, position, committed, &record);
    if (status == EB_OK && record.sequence != sub->sequence)
        status = eb_damaged("the sequence of the records is broken");
    uint64_t json_length = batch->json_length, beside_used = sub->beside_used;
    uint32_t json_count = batch->json_count, beside_count = batch->beside_count;
    bool kept = false;
    if (status == EB_OK && record.sequence >= sub->start) {
        int verdict = verdict_of(sub, &record, position);
        if (verdict == UNKNOWN) status = ask(sub, &record, position);
        if (verdict == HEARD) status = keep(sub, &record, position, *count, shared);
        kept = verdict == HEARD && status == EB_OK;
    }
    EB_TEST_POINT(receive_read);
    if (shared && eb_ring_lapped(ring, position)) { /* [lap]: whatever we read may be another record's bytes */
        batch->json_length = json_length;
        batch->json_count = json_count;
        batch->beside_count = beside_count;
        sub->beside_used = beside_used;
        return go_on_after_lap(sub);
    }
    if (status != EB_OK) return status;
    atomic_store_explicit(&sub->position, position + record.bytes, memory_order_relaxed);
    sub->sequence++;
    *count += kept;
    return EB_OK;
}

/* Gives what was read back to the publishers, and tells those that wait for room when it is worth their while. */
static int advance(eb_subscription *sub, uint64_t committed)
{
    uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed);
    eb_slot_t *slot = sub->slot;
    if (atomic_load(&slot->owner) != sub->owner || atomic_load(&slot->cursor) != sub->cursor)
        return eb_damaged("the subscriber slot was overwritten");
    EB_TEST_POINT(receive_copied);
    atomic_store_explicit(&slot->sequence, sub->sequence, memory_order_relaxed);
    atomic_store_explicit(&slot->lost, atomic_load(&sub->lost), memory_order_relaxed);
    if ((int64_t)(position - sub->joined) < 0) return EB_OK;
    sub->freed += position - sub->cursor;
    sub->cursor = position;
    atomic_store(&slot->cursor, position); /* [cursor] [space] */
    EB_TEST_POINT(receive_advanced);
    eb_event_count *space = &sub->bus->roster.header->space;
    if (atomic_load(&space->waiters) == 0) return EB_OK;
    if (position != committed && sub->freed < sub->bus->ring.capacity / 8) return EB_OK;
    sub->freed = 0;
    eb_event_post(space);
    return EB_OK;
}

/* The number of events taken, or why there is none yet. What was read before a difficulty is handed out first. */
static int scan(eb_subscription *sub, uint32_t limit)
{
    uint64_t committed = atomic_load(&sub->bus->ring.header->committed); /* [commit] */
    uint64_t before = atomic_load_explicit(&sub->position, memory_order_relaxed);
    uint32_t count = 0;
    int status = EB_OK;
    begin_batch(sub);
    while (status == EB_OK && count < limit &&
           (int64_t)(committed - atomic_load_explicit(&sub->position, memory_order_relaxed)) > 0)
        status = take(sub, committed, &count);
    end_batch(&sub->batch);
    if (atomic_load_explicit(&sub->position, memory_order_relaxed) != before) {
        int advanced = advance(sub, committed);
        if (advanced != EB_OK) return advanced;
    }
    sub->taken += count;
    return count > 0 ? (int)count : status;
}

static bool ended(const eb_subscription *sub)
{
    return atomic_load(&sub->interrupted) || atomic_load(&sub->bus->interrupted);
}

/* Whether there is something to do for whoever saw `seen` committed. */
static bool moved(const eb_subscription *sub, uint64_t seen)
{
    const eb_ring_header *header = sub->bus->ring.header;
    return atomic_load(&header->committed) != seen || atomic_load(&header->closed) || ended(sub); /* [wake] */
}

/* Looks for as long as looking has paid lately: doubled when something came, halved when nothing did. */
static bool spin(eb_subscription *sub, uint64_t seen, int64_t deadline)
{
    bool adaptive = sub->spin_ns < 0;
    int64_t budget = adaptive ? sub->spin_budget : sub->spin_ns;
    if (budget <= 0) return false;
    int64_t end = eb_sooner(deadline, budget);
    do {
        for (int i = 0; i < SPIN_LOOKS; i++) {
            if (moved(sub, seen)) {
                if (adaptive) sub->spin_budget = budget * 2 < SPIN_MAX_NS ? budget * 2 : SPIN_MAX_NS;
                return true;
            }
            eb_pause();
        }
        sched_yield();
    } while (eb_now() < end);
    if (adaptive) sub->spin_budget = budget / 2 < SPIN_MIN_NS ? 0 : budget / 2;
    return false;
}

/* Whether events come so fast that it pays to let some gather: looking after each one makes the publisher wait for the
 * cache line and costs us a batch for an event. Several must have come since the last time, so a dialogue, in which each
 * event waits for the answer to the one before, is never slowed down. */
static bool busy(eb_subscription *sub)
{
    int64_t now = eb_now(), elapsed = now - sub->waited_at;
    bool fast = sub->spin_ns < 0 && sub->taken >= NAP_EVENTS && elapsed < (int64_t)sub->taken * NAP_INTERVAL_NS;
    sub->waited_at = now;
    sub->taken = 0;
    return fast;
}

/* Raise the flag, look again, sleep. A slice that ends without news is an interruption, not the end of the wait: the
 * flag is raised anew, in case a publisher died between lowering it and waking us. */
static int await(eb_subscription *sub, uint64_t seen, int64_t deadline)
{
    if (busy(sub)) return eb_nap(eb_sooner(deadline, NAP_NS));
    if (spin(sub, seen, deadline)) return EB_OK;
    eb_roster *roster = &sub->bus->roster;
    int status = EB_OK;
    eb_waiter_raise(roster, sub->index); /* [wake] */
    EB_TEST_POINT(waiter_raised);
    if (!moved(sub, seen)) {
        int64_t before = eb_now();
        status = eb_semaphore_wait(&sub->slot->semaphore, eb_sooner(deadline, EB_SLICE_NS));
        if (status == EB_OK && eb_now() - before < SPIN_SLEPT_NS && sub->spin_budget < SPIN_TRIAL_NS)
            sub->spin_budget = SPIN_TRIAL_NS;
    }
    eb_waiter_lower(roster, sub->index);
    EB_TEST_POINT(waiter_woken);
    return status == EB_NOTHING && !eb_over(deadline) ? EB_INTERRUPTED : status;
}

int eb_receive(eb_subscription *sub, int limit, int64_t deadline)
{
    const eb_ring_header *header = sub->bus->ring.header;
    uint32_t most = limit < 1 ? 1 : limit > EB_BATCH_LIMIT ? EB_BATCH_LIMIT : (uint32_t)limit;
    for (;;) {
        if (ended(sub)) return EB_CLOSED;
        bool closed = atomic_load(&header->closed) != 0; /* before the scan: nothing is committed after it */
        int status = scan(sub, most);
        if (status != EB_OK) return status;
        uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed);
        int64_t waiting = (int64_t)(atomic_load(&header->committed) - position);
        if (waiting < 0) return eb_damaged("the committed position went back");
        if (waiting > 0) continue;
        if (closed) return EB_CLOSED;
        if (deadline == EB_POLL) return EB_NOTHING;
        status = await(sub, position, deadline);
        if (status != EB_OK) return status;
    }
}

int eb_reserve(eb_subscription *sub, uint64_t size)
{
    if (size <= sub->batch.size) return EB_OK;
    char *buffer = realloc(sub->batch.buffer, size);
    if (!buffer) return EB_SYSTEM;
    sub->batch.buffer = buffer;
    sub->batch.size = size;
    return EB_OK;
}

/* --- what waits --- */

/* Counts the events heard from the next one to what is committed now, beside a receiver that may be taking them. */
int eb_backlog(eb_subscription *sub, eb_walk *walk)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position = atomic_load(&sub->position);
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
        int names = read_names(sub, &record, walk->position, walk->names, &walk->system_length, &walk->kind_length);
        if (eb_ring_lapped(ring, walk->position)) { /* [lap]: begin again where the ring begins now */
            eb_ring_oldest(ring, &walk->position, &(uint64_t){0});
            walk->count = 0;
            continue;
        }
        if (status != EB_OK) return status;
        if (names != EB_OK) return names;
        int verdict = record.sequence < sub->start ? UNHEARD : UNKNOWN;
        if (verdict == UNKNOWN && record.topic != EB_INLINE) /* an inline one's is the receiver's own */
            verdict = verdict_of(sub, &record, walk->position);
        walk->undecided = record.topic;
        if (verdict == UNKNOWN && record.topic != EB_INLINE) return EB_UNDECIDED;
        walk->position += record.bytes;
        if (verdict == UNKNOWN) return EB_UNDECIDED; /* the caller adds this one to `count` if it is heard */
        walk->count += verdict == HEARD;
    }
    return EB_OK;
}
