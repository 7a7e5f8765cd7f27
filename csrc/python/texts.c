/* Whether the texts of a batch may be decoded as one, which is faster. orjson then makes of each what it makes of it alone,
 * or refuses all of them: nothing that an orjson.Fragment brought in may join two texts, as "[1" and "2],3,4" would.
 *
 * Each text begins with a path and a comma, which `send` has written, and ends at a comma and a line break. If orjson takes
 * the whole, that place
 *   is in no string, for a line break may not be in one;
 *   is in no object, for there the path would be a key, and behind a key is a colon;
 *   is in no array but the outer one, if every text closes the arrays that it opens: which is looked at here.
 * So each text stands in the outer array by itself, with two values at least; and if there are twice as many values as
 * texts, each has two. */
#include "fast.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define BLOCK 64

/* Where the look at a text is. */
typedef struct {
    int64_t open; /* arrays */
    bool quoted;
} place;

static void follow(place *at, const char *from, const char *end)
{
    for (; from < end; from++) {
        if (*from == '"') at->quoted = !at->quoted;
        else if (*from == '\\') from++;
        else if (!at->quoted) at->open += (*from == '[') - (*from == ']');
    }
}

#if defined(__x86_64__)

/* A bit for each byte of a block. */
typedef struct {
    uint64_t quotes;
    uint64_t brackets; /* and backslashes, which stand between '[' and ']' */
} marks;

/* Of its first `length` bytes; all are read. */
static marks marks_of(const char *block, int64_t length)
{
    uint64_t those = length < BLOCK ? (1ull << length) - 1 : ~0ull;
    marks found = {0};
#pragma GCC unroll 4
    for (int i = 0; i < BLOCK; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(block + i));
        __m128i past = _mm_sub_epi8(bytes, _mm_set1_epi8('['));
        __m128i within = _mm_cmpeq_epi8(_mm_min_epu8(past, _mm_set1_epi8(']' - '[')), past);
        found.quotes |= (uint64_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'))) << i;
        found.brackets |= (uint64_t)_mm_movemask_epi8(within) << i;
    }
    return (marks){.quotes = found.quotes & those, .brackets = found.brackets & those};
}

/* The same for a block at once; false if something in it is escaped, which is for the other one. */
static bool follow_block(place *at, const char *block, int64_t length)
{
    marks found = marks_of(block, length);
    int64_t open = at->open;
    for (; found.brackets != 0; found.brackets &= found.brackets - 1) {
        int bit = __builtin_ctzll(found.brackets);
        if (block[bit] == '\\') return false;
        bool quoted = at->quoted != __builtin_parityll(found.quotes & ((1ull << bit) - 1));
        if (!quoted) open += block[bit] == '[' ? 1 : -1;
    }
    at->open = open;
    at->quoted = at->quoted != __builtin_parityll(found.quotes);
    return true;
}

#else

static bool follow_block(place *at, const char *block, int64_t length)
{
    (void)at, (void)block, (void)length;
    return false;
}

#endif

/* Up to `readable` there are bytes to be read. */
static bool closes_its_arrays(const char *text, const char *end, const char *readable)
{
    place at = {0};
    while (text < end && readable - text >= BLOCK) {
        int64_t length = end - text < BLOCK ? end - text : BLOCK;
        if (!follow_block(&at, text, length)) break;
        text += length;
    }
    follow(&at, text, end);
    return at.open == 0;
}

uint64_t eb_text_start(const eb_batch *batch, uint32_t text)
{
    return text > 0 ? batch->text_end[text - 1] + 2 : 1;
}

bool eb_texts_stand_alone(const eb_batch *batch)
{
    uint32_t text = 0;
    const char *end = batch->buffer + batch->text_end[batch->head.json_count - 1], *from = batch->buffer + 1;
    while ((from = memchr(from, '[', (size_t)(end - from))) != NULL) {
        while (batch->buffer + batch->text_end[text] <= from)
            text++;
        const char *ends = batch->buffer + batch->text_end[text];
        if (!closes_its_arrays(batch->buffer + eb_text_start(batch, text), ends, batch->buffer + batch->size))
            return false;
        from = ends;
    }
    return true;
}
