/* Which topics a subscription hears: what it decided about each, and how it is asked about the others. */
#include "internal.h"

/* Names that have a number of the subscription's own give it to the record. */
static int verdict_on_names(const eb_subscription *sub, eb_record *record, uint64_t position)
{
    char names[2 * EB_NAME_LIMIT];
    eb_ring_copy(&sub->bus->ring, position, 0, names, record->system_length + record->kind_length, true);
    int number = eb_names_find(sub->names, names, record->system_length, record->kind_length);
    if (number < 0) return record->sequence == sub->decided_sequence ? sub->decided_verdict : EB_UNKNOWN;
    record->topic = EB_TOPICS + (uint32_t)number;
    return eb_names_verdict(sub->names, (uint32_t)number);
}

int eb_verdict(const eb_subscription *sub, eb_record *record, uint64_t position)
{
    if (sub->local && eb_ring_has_origin(&sub->bus->ring, position, record)) return EB_UNHEARD;
    if (record->topic == EB_INLINE) return verdict_on_names(sub, record, position);
    return atomic_load_explicit(&sub->verdicts[record->topic], memory_order_relaxed);
}

/* The names of the record's topic, from the table or from the record itself, both in `names`. */
int eb_record_names(const eb_subscription *sub, const eb_record *record, uint64_t position, char *names,
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
    int status = eb_record_names(sub, record, position, batch->names, &batch->system_length, &batch->kind_length);
    batch->undecided = record->topic;
    sub->asked_sequence = record->sequence;
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
    sub->decided_sequence = sub->asked_sequence;
    sub->decided_verdict = verdict;
    return EB_INLINE;
}

/* By whoever has the turn: the slot cannot be given back, and be another's, between the look and the store. */
int eb_verdict_store(eb_subscription *sub, uint32_t topic, bool heard)
{
    uint8_t verdict = heard ? EB_HEARD : EB_UNHEARD;
    if (topic == EB_INLINE) return decide_on_names(sub, verdict);
    if (topic >= EB_TOPICS) return EB_DAMAGED;
    atomic_store_explicit(&sub->verdicts[topic], verdict, memory_order_relaxed);
    bool ours = EB_SAME_OWNER(atomic_load(&sub->slot->owner), sub->owner); /* else somebody thought that it was dead */
    if (!heard && ours) atomic_fetch_or(&waking_slot(sub)->deaf[topic / 64], 1ull << (topic % 64));
    EB_TEST_POINT(topic_decided);
    return (int)topic;
}
