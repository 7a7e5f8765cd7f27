/* Raw data that say who sent them and check themselves, and threads that send them; how a view is had, as by a memoryview. */
#ifndef EVENTBUS_SIGHTS_H
#define EVENTBUS_SIGHTS_H

#include "crowd.h"
#include "views.h"

enum { HEAD = 16, SMALL = 100, LARGE = 4096, MORE = 3000 };

typedef struct {
    eb_view *view; /* NULL: none */
    const char *data;
    uint64_t length;
} keepsake;

static uint64_t length_of(unsigned publisher, uint64_t counter)
{
    uint64_t state = (uint64_t)publisher << 56 ^ counter;
    return draw(&state) % 4 == 0 ? HEAD + draw(&state) % SMALL : LARGE + draw(&state) % MORE;
}

static char byte_of(uint64_t seed, uint64_t i)
{
    return (char)(seed * 31 + i * 7 + i / 251);
}

static void *show(void *with)
{
    publisher of = publisher_of((unsigned)(uintptr_t)with);
    static _Thread_local char bytes[2 + LARGE + MORE];
    memcpy(bytes, "/p", 2);
    while (!atomic_load(&stopping)) {
        uint64_t length = length_of(of.number, of.counter), names[2] = {of.number, of.counter};
        memcpy(bytes + 2, names, HEAD);
        for (uint64_t i = HEAD; i < length; i++)
            bytes[2 + i] = byte_of(of.counter * PUBLISHERS + of.number, i);
        eb_outgoing event = {.topic = of.counter % TOPICS, .path_length = 2, .body_length = (uint32_t)length};
        send_one(of.bus, &event, bytes, length + 2);
        of.counter++;
    }
    atomic_store(&sent_by[of.number], of.counter);
    free(of.bytes);
    return NULL;
}

static keepsake swap(pthread_mutex_t *lock, keepsake *place, keepsake by)
{
    pthread_mutex_lock(lock);
    keepsake before = *place;
    *place = by;
    pthread_mutex_unlock(lock);
    return before;
}

static inline void expect_whole(const char *data, uint64_t length, uint64_t *names)
{
    memcpy(names, data, HEAD);
    CHECK("it names one of the publishers", names[0] < PUBLISHERS);
    CHECK("it has its length", length == length_of((unsigned)names[0], names[1]));
    for (uint64_t i = HEAD; i < length; i++)
        if (data[i] != byte_of(names[1] * PUBLISHERS + names[0], i)) CHECK("it is what was sent", false);
}

/* As a memoryview does it. */
static void hold(eb_view *view)
{
    eb_view_hold(view);
    EQUAL("what is in hand can be exported", eb_view_export(view), EB_OK);
}

static void release(eb_view *view)
{
    eb_view_exported(view);
    eb_view_release(view);
}

#endif
