/* Figures in shared memory: counters and a log-linear histogram, by one writer, for any reader.
 *
 * Each word is true by itself, and relaxed: nobody decides anything by them, and no word promises another one. Whoever dies
 * between two stores leaves a batch that is counted in part, so there is no order to hold, and no point to die at. Who takes
 * the slot next clears them before its owner word says that it has it. [owner] */
#include "figures.h"

#include <assert.h>

#define FIRST_POWER 10u /* the first bucket ends at 2^10 ns; then two for each doubling, and one for all the rest */
#define MEASURED_POWERS ((EB_DELAYS - 2) / 2)

static_assert(EB_DELAYS == 2 + 2 * MEASURED_POWERS, "two buckets for each doubling");
static_assert(sizeof(((eb_received *)0)->delays) == EB_DELAYS * 8, "eventbus.h spells the limit out");

static uint64_t read_word(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed);
}

/* By the only writer, so no read-modify-write. */
void eb_figures_add(_Atomic uint64_t *figure, uint64_t more)
{
    atomic_store_explicit(figure, read_word(figure) + more, memory_order_relaxed);
}

void eb_figures_clear(eb_figures *figures)
{
    _Atomic uint64_t *words[] = {&figures->events, &figures->bytes, &figures->wakes, &figures->skipped,
                                 &figures->delay_ns};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        atomic_store_explicit(words[i], 0, memory_order_relaxed);
    for (uint32_t i = 0; i < EB_DELAYS; i++)
        atomic_store_explicit(&figures->delays[i], 0, memory_order_relaxed);
}

uint32_t eb_delay_bucket(uint64_t delay_ns)
{
    if (delay_ns >> FIRST_POWER == 0) return 0;
    uint32_t power = 63 - (uint32_t)__builtin_clzll(delay_ns);
    uint32_t bucket = 1 + 2 * (power - FIRST_POWER) + (uint32_t)(delay_ns >> (power - 1) & 1);
    return bucket < EB_DELAYS ? bucket : EB_DELAYS - 1;
}

uint64_t eb_delay_end(uint32_t bucket)
{
    if (bucket >= EB_DELAYS - 1) return UINT64_MAX;
    if (bucket == 0) return 1ull << FIRST_POWER;
    uint64_t half = 1ull << (FIRST_POWER + (bucket - 1) / 2 - 1);
    return half * (bucket % 2 == 1 ? 3 : 4);
}

/* What was sent at a time to come, by a clock that was set since, came at once. */
static uint64_t delay_of(const eb_handed *handed, uint64_t time)
{
    return time < handed->now ? handed->now - time : 0;
}

/* Events that follow one another are mostly of one bucket, and then one store is for all of them. */
static void measure(eb_figures *figures, const eb_handed *handed)
{
    uint64_t sum = 0, begin = 0, width = 0, run = 0;
    uint32_t bucket = 0;
    for (uint32_t i = 0; i < handed->count; i++) {
        uint64_t delay = delay_of(handed, handed->times[i]);
        sum += delay;
        if (delay - begin >= width) {
            eb_figures_add(&figures->delays[bucket], run);
            bucket = eb_delay_bucket(delay);
            begin = bucket > 0 ? eb_delay_end(bucket - 1) : 0;
            width = eb_delay_end(bucket) - begin;
            run = 0;
        }
        run++;
    }
    eb_figures_add(&figures->delays[bucket], run);
    eb_figures_add(&figures->delay_ns, sum);
}

void eb_figures_take(eb_figures *figures, const eb_handed *handed)
{
    eb_figures_add(&figures->events, handed->count);
    eb_figures_add(&figures->bytes, handed->bytes);
    if (handed->now != 0) measure(figures, handed);
}

void eb_figures_read(const eb_figures *from, eb_received *to)
{
    *to = (eb_received){.events = read_word(&from->events),
                        .bytes = read_word(&from->bytes),
                        .wakes = read_word(&from->wakes),
                        .skipped = read_word(&from->skipped),
                        .delay_ns = read_word(&from->delay_ns)};
    for (uint32_t i = 0; i < EB_DELAYS; i++)
        to->delays[i] = read_word(&from->delays[i]);
}
