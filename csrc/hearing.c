/* What the owner of a slot hears, as far as others can tell: by its patterns, and by the topics that it is deaf to. A
 * policy may have it hear less. */
#include "internal.h"

#define MARK "(request)" /* behind the kind of a request, which nobody's pattern knows */

/* What is known of a slot is forgotten when its owner is another one. False when that changes just now. */
bool eb_hearing_of(const eb_roster *roster, uint32_t slot, eb_hearing *hearing)
{
    const eb_slot_t *from = &roster->header->slots[slot];
    uint64_t owner = atomic_load(&from->owner); /* [owner] */
    if (hearing->owner == owner) return true;
    *hearing = (eb_hearing){.slot = slot};
    for (size_t i = 0; i < EB_PATTERN_LIMIT; i++) {
        hearing->system[i] = atomic_load_explicit(&from->system[i], memory_order_acquire);
        hearing->kind[i] = atomic_load_explicit(&from->kind[i], memory_order_acquire);
    }
    if (atomic_load(&from->owner) != owner) return false;
    hearing->owner = owner;
    return true;
}

static bool means(const eb_hearing *hearing, const char *names, size_t system_length, size_t kind_length)
{
    const char *kind = names + system_length;
    size_t marked = strlen(MARK);
    bool request = kind_length > marked && memcmp(kind + kind_length - marked, MARK, marked) == 0;
    return eb_means(hearing->system, names, system_length) &&
           eb_means(hearing->kind, kind, request ? kind_length - marked : kind_length);
}

bool eb_hears_topic(const eb_bus *bus, eb_hearing *hearing, uint32_t topic)
{
    /* What one member does not hear, by a policy of its own, another one may. */
    bool group = (hearing->owner & EB_SLOT_STATE) == EB_SLOT_GROUP;
    if (!group && eb_slot_deaf(&bus->roster, hearing->slot, topic)) return false;
    uint64_t bit = 1ull << (topic % 64);
    if (!(hearing->known[topic / 64] & bit)) {
        char names[2 * EB_NAME_LIMIT + 2];
        uint32_t lengths[2];
        bool named = eb_ring_topic_names(&bus->ring, topic, names, lengths) == EB_OK;
        if (!named || means(hearing, names, lengths[0], lengths[1])) hearing->heard[topic / 64] |= bit;
        if (named) hearing->known[topic / 64] |= bit;
    }
    return (hearing->heard[topic / 64] & bit) != 0;
}

bool eb_hears_record(const eb_bus *bus, eb_hearing *hearing, const eb_record *record, uint64_t position)
{
    char names[2 * EB_NAME_LIMIT];
    if (record->topic != EB_INLINE) return eb_hears_topic(bus, hearing, record->topic);
    eb_ring_copy(&bus->ring, position, 0, names, record->system_length + record->kind_length, true);
    return means(hearing, names, record->system_length, record->kind_length);
}
