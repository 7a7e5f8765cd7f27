/* A subscription as a whole: join, leave, and receive, alone or as a member of a group. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER_BYTES (64u * 1024u)

/* --- join --- */

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

/* --- leave --- */

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
    if (sub->group) eb_relay_wake(sub, true);
}

uint32_t eb_slot(const eb_subscription *sub)
{
    return sub->index;
}

uint64_t eb_lost(const eb_subscription *sub)
{
    return atomic_load(&sub->lost);
}

/* --- receive --- */

int eb_receive(eb_subscription *sub, int limit, int64_t deadline)
{
    eb_batch_head *head = &sub->batch.head;
    uint32_t most = limit < 1 ? 1 : limit > EB_BATCH_LIMIT ? EB_BATCH_LIMIT : (uint32_t)limit;
    int status = sub->group ? eb_member_receive(sub, most, deadline) : eb_single_receive(sub, most, deadline);
    if (status <= 0 && status != EB_EXHAUSTED) return status;
    head->status = status;
    head->number++;
    return status;
}
