/* The figures of a subscription: what came to it, counted by itself for whoever looks at the roster. */
#ifndef EVENTBUS_FIGURES_H
#define EVENTBUS_FIGURES_H

#include "record.h"

#include <stdatomic.h>

/* In its slot, by the subscriber alone; read by anybody. */
typedef struct {
    _Atomic uint64_t events;
    _Atomic uint64_t bytes;
    _Atomic uint64_t wakes;
    _Atomic uint64_t skipped;
    _Atomic uint64_t delay_ns;
    _Atomic uint64_t delays[EB_DELAYS];
} eb_figures;

/* Of the events of a batch, which were all handed out at `now`. */
typedef struct {
    const uint64_t *times; /* when they were sent */
    uint32_t count;
    uint64_t bytes;
    uint64_t now; /* 0: not measured */
} eb_handed;

/* figures.c */
void eb_figures_clear(eb_figures *figures);
void eb_figures_take(eb_figures *figures, const eb_handed *handed);
void eb_figures_add(_Atomic uint64_t *figure, uint64_t more);
void eb_figures_read(const eb_figures *from, eb_received *to);
uint32_t eb_delay_bucket(uint64_t delay_ns);

#endif
