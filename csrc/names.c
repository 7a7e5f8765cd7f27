/* Names that records past the topic table carry, numbered by one subscription for itself. Private memory, taken when
 * the first one comes and only touched as far as it is used. */
#include "internal.h"

#include <stdlib.h>

#define PLACES (2u * EB_OWN_TOPICS) /* of the hash table: at most half full, so that a search soon meets an empty one */
#define TEXT_BYTES (4u << 20)

typedef struct {
    uint64_t hash;
    uint32_t offset;
    uint8_t system_length;
    uint8_t kind_length;
    uint8_t verdict;
} eb_name;

struct eb_names {
    uint32_t count;
    uint32_t text_used;
    uint32_t places[PLACES]; /* number of a name plus 1, or 0 */
    eb_name names[EB_OWN_TOPICS];
    char text[TEXT_BYTES];
};

/* FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv). */
static uint64_t hash_of(const char *names, uint32_t system_length, uint32_t kind_length)
{
    uint64_t hash = 0xcbf29ce484222325ull ^ system_length;
    for (uint32_t i = 0; i < system_length + kind_length; i++)
        hash = (hash ^ (unsigned char)names[i]) * 0x100000001b3ull;
    return hash;
}

/* Where the names stand in the hash table, or the empty place where they would. */
static uint32_t *place_of(eb_names *of, uint64_t hash, const char *names, uint32_t system_length, uint32_t kind_length)
{
    for (uint32_t i = (uint32_t)(hash % PLACES);; i = (i + 1) % PLACES) {
        if (of->places[i] == 0) return &of->places[i];
        const eb_name *name = &of->names[of->places[i] - 1];
        if (name->hash == hash && name->system_length == system_length && name->kind_length == kind_length &&
            memcmp(of->text + name->offset, names, system_length + kind_length) == 0)
            return &of->places[i];
    }
}

/* Their number, or EB_NOTHING. */
int eb_names_find(eb_names *of, const char *names, uint32_t system_length, uint32_t kind_length)
{
    if (!of) return EB_NOTHING;
    uint64_t hash = hash_of(names, system_length, kind_length);
    return (int)*place_of(of, hash, names, system_length, kind_length) - 1;
}

/* Their number; EB_TABLE_FULL when no more are kept, EB_SYSTEM without memory. */
int eb_names_add(eb_names **of, const char *names, uint32_t system_length, uint32_t kind_length, uint8_t verdict)
{
    if (!*of) *of = calloc(1, sizeof **of);
    eb_names *to = *of;
    if (!to) return EB_SYSTEM;
    uint32_t length = system_length + kind_length;
    if (to->count == EB_OWN_TOPICS || to->text_used + length > TEXT_BYTES) return EB_TABLE_FULL;
    uint64_t hash = hash_of(names, system_length, kind_length);
    uint32_t *place = place_of(to, hash, names, system_length, kind_length);
    if (*place == 0) {
        memcpy(to->text + to->text_used, names, length);
        to->names[to->count] = (eb_name){.hash = hash,
                                         .offset = to->text_used,
                                         .system_length = (uint8_t)system_length,
                                         .kind_length = (uint8_t)kind_length};
        to->text_used += length;
        *place = ++to->count;
    }
    to->names[*place - 1].verdict = verdict;
    return (int)*place - 1;
}

uint8_t eb_names_verdict(const eb_names *of, uint32_t number)
{
    return of->names[number].verdict;
}
