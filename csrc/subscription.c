/* The public functions of a subscription: join, receive a batch, wait, leave. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER_BYTES (64u * 1024u)

/* --- join and leave --- */

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
    EB_TEST_POINT(slot_placed);
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
    if (terms->group > 0 && terms->group <= EB_GROUPS) {
        sub->group = &roster->header->groups[terms->group - 1];
        sub->token = eb_token(roster, sub->index);
    }
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
    sub->claim = -1;
    sub->gated = terms->gated != 0;
    sub->pace.spin_ns = terms->spin_ns;
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
    eb_return(sub, 0);
    if (atomic_load(&sub->slot->owner) == sub->owner) eb_slot_free(&sub->bus->roster, sub->index);
    eb_subscription_abandon(sub);
    EB_TEST_POINT(slot_left);
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
    free(sub->names);
    free(sub);
}

void eb_interrupt(eb_subscription *sub)
{
    atomic_store(&sub->interrupted, true);
    eb_semaphore_post(&sub->slot->semaphore);
    if (sub->group) eb_member_wake(sub, true);
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

/* Names that have a number of the subscription's own give it to the record. */
static int verdict_on_names(const eb_subscription *sub, eb_record *record, uint64_t position)
{
    char names[2 * EB_NAME_LIMIT];
    eb_ring_copy(&sub->bus->ring, position, 0, names, record->system_length + record->kind_length, true);
    int number = eb_names_find(sub->names, names, record->system_length, record->kind_length);
    if (number < 0) return position == sub->decided_position ? sub->decided_verdict : EB_UNKNOWN;
    record->topic = EB_TOPICS + (uint32_t)number;
    return eb_names_verdict(sub->names, (uint32_t)number);
}

int eb_verdict(const eb_subscription *sub, eb_record *record, uint64_t position)
{
    if (record->topic == EB_INLINE) return verdict_on_names(sub, record, position);
    return atomic_load_explicit(&sub->verdicts[record->topic], memory_order_relaxed);
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

int eb_ask(eb_subscription *sub, const eb_record *record, uint64_t position)
{
    eb_batch *batch = &sub->batch;
    int status = read_names(sub, record, position, batch->names, &batch->system_length, &batch->kind_length);
    batch->undecided = record->topic;
    sub->asked_position = position;
    return status == EB_OK ? EB_UNDECIDED : status;
}

/* The slot whose flag publishers look at: a member sleeps on its group's. */
static eb_slot_t *waking_slot(const eb_subscription *sub)
{
    uint32_t slot = sub->group ? atomic_load(&sub->group->slot) : sub->index;
    return &sub->bus->roster.header->slots[slot < sub->bus->roster.max_subscribers ? slot : sub->index];
}

static int decide_on_names(eb_subscription *sub, uint8_t verdict)
{
    const eb_batch *batch = &sub->batch;
    int number = eb_names_add(&sub->names, batch->names, batch->system_length, batch->kind_length, verdict);
    if (number >= 0) return EB_TOPICS + number;
    sub->decided_position = sub->asked_position;
    sub->decided_verdict = verdict;
    return EB_INLINE;
}

int eb_decide(eb_subscription *sub, uint32_t topic, int heard)
{
    uint8_t verdict = heard ? EB_HEARD : EB_UNHEARD;
    if (topic == EB_INLINE) return decide_on_names(sub, verdict);
    if (topic >= EB_TOPICS) return EB_DAMAGED;
    atomic_store_explicit(&sub->verdicts[topic], verdict, memory_order_relaxed);
    bool ours = atomic_load(&sub->slot->owner) == sub->owner; /* else it was closed meanwhile, by another thread */
    if (!heard && ours) atomic_fetch_or(&waking_slot(sub)->deaf[topic / 64], 1ull << (topic % 64));
    EB_TEST_POINT(topic_decided);
    return (int)topic;
}

/* --- what waits --- */

/* Counts the events heard from the next one to what is committed now, beside a receiver that may be taking them. */
int eb_backlog(eb_subscription *sub, eb_walk *walk)
{
    const eb_ring *ring = &sub->bus->ring;
    uint64_t position = atomic_load(sub->group ? &sub->group->cursor : &sub->position);
    uint64_t start = sub->group ? atomic_load(&sub->group->start) : sub->start;
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
            status = read_names(sub, &record, walk->position, walk->names, &walk->system_length, &walk->kind_length);
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
