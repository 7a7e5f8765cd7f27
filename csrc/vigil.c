/* Where no doorbell can be had: a thread that sleeps on the semaphore for one subscription whose owner waits in an event
 * loop, and tells the loop. It rests while nobody waits there. */
#define _GNU_SOURCE
#include "bell.h"

#include <signal.h>
#include <stdlib.h>

enum { RESTS = 0, KEEPS = 1, ENDS = 2 };

struct eb_vigil {
    pthread_t thread;
    eb_u32 state;   /* of the enum; futex */
    eb_u32 resting; /* semaphore: it waits for the next time */
    eb_u32 *semaphore;
    eb_subscription *sub;
};

/* A wake-up that came while nobody waited in the loop is somebody else's, who sleeps on the same semaphore. */
static void *keep(void *with)
{
    eb_vigil *vigil = with;
    for (uint32_t state; (state = atomic_load(&vigil->state)) != ENDS;) {
        if (state == RESTS) {
            eb_semaphore_wait(&vigil->resting, eb_now() + EB_SLICE_NS);
            continue;
        }
        if (eb_semaphore_wait(vigil->semaphore, eb_now() + EB_SLICE_NS) != EB_OK) continue;
        uint32_t keeps = KEEPS;
        if (atomic_compare_exchange_strong(&vigil->state, &keeps, RESTS)) eb_rouse_loop(vigil->sub);
        else eb_semaphore_post(vigil->semaphore);
    }
    return NULL;
}

/* Signals are for the program's own threads. */
static bool start(eb_vigil *vigil)
{
    sigset_t all, before;
    pthread_attr_t terms;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&terms);
    pthread_attr_setstacksize(&terms, 128 * 1024);
    bool started = pthread_create(&vigil->thread, &terms, keep, vigil) == 0;
    pthread_attr_destroy(&terms);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* Until it has told once, or there is an eb_vigil_rest. */
int eb_vigil_keep(eb_subscription *sub, eb_u32 *semaphore)
{
    eb_vigil *vigil = sub->vigil;
    if (!vigil) {
        vigil = calloc(1, sizeof *vigil);
        if (!vigil) return EB_SYSTEM;
        vigil->sub = sub;
        vigil->semaphore = semaphore;
        vigil->state = KEEPS;
        if (!start(vigil)) {
            free(vigil);
            return EB_SYSTEM;
        }
        sub->vigil = vigil;
        return EB_OK;
    }
    atomic_store(&vigil->state, KEEPS);
    eb_semaphore_post(&vigil->resting);
    return EB_OK;
}

void eb_vigil_rest(const eb_subscription *sub)
{
    uint32_t keeps = KEEPS;
    if (sub->vigil) atomic_compare_exchange_strong(&sub->vigil->state, &keeps, RESTS);
}

/* By the process whose thread it is; all who sleep on the semaphore look. */
void eb_vigil_end(eb_subscription *sub)
{
    eb_vigil *vigil = sub->vigil;
    if (!vigil) return;
    sub->vigil = NULL;
    atomic_store(&vigil->state, ENDS);
    eb_semaphore_post(&vigil->resting);
    eb_semaphore_post_all(vigil->semaphore);
    pthread_join(vigil->thread, NULL);
    free(vigil);
}
