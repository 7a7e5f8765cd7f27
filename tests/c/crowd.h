/* Many threads on one bus: the publishers, and what every stress program begins and ends with. */
#ifndef EVENTBUS_CROWD_H
#define EVENTBUS_CROWD_H

#include "payload.h"

#include <sched.h>
#include <time.h>

#ifndef RING_BYTES
#define RING_BYTES (64u * 1024u)
#endif
#define SLOTS 16u
#define PATIENCE 60 /* seconds past the time asked for, then it hangs */

enum { BATCH = 6 };

static scene it;
static uint64_t seed;
static _Atomic bool stopping;
static _Atomic int owed; /* scenes that have to be seen before the publishers stop, however slow the machine is */
static _Atomic uint64_t sent_by[PUBLISHERS];

#ifdef __SANITIZE_THREAD__
/* This compiler's race detector knows pthread_mutex_timedlock but not pthread_mutex_clocklock, and would see a lock
 * that was never taken. In this program the one is made of the other; the core is compiled as it is. */
int pthread_mutex_clocklock(pthread_mutex_t *lock, clockid_t clock, const struct timespec *until)
{
    struct timespec now, wall;
    clock_gettime(clock, &now);
    clock_gettime(CLOCK_REALTIME, &wall);
    int64_t left = (until->tv_sec - now.tv_sec) * 1000000000ll + until->tv_nsec - now.tv_nsec;
    int64_t at = wall.tv_sec * 1000000000ll + wall.tv_nsec + (left > 0 ? left : 0);
    struct timespec deadline = {.tv_sec = at / 1000000000ll, .tv_nsec = at % 1000000000ll};
    return pthread_mutex_timedlock(lock, &deadline);
}
#endif

static uint64_t chance_of(unsigned thread)
{
    uint64_t state = seed + thread * 0x1234567ull;
    return draw(&state);
}

static inline int64_t soon(uint64_t *state)
{
    return eb_now() + (int64_t)(draw(state) % 2000000);
}

/* --- send --- */

/* Whoever sends, through an attachment of its own or that of all. */
typedef struct {
    eb_bus *bus;
    unsigned number;
    uint64_t state, counter; /* of the first event that it has not sent yet */
    char *bytes;
} publisher;

static publisher publisher_of(unsigned number)
{
    return (publisher){
        .bus = it.bus, .number = number, .state = chance_of(number), .bytes = malloc(BATCH * EVENT_ROOM)};
}

static void send_one(eb_bus *bus, const eb_outgoing *event, char *bytes, size_t length)
{
    eb_route route = {.bus = bus, .topic = event->topic};
    int status = EB_FULL;
    bytes[length] = 0;
    if (event->topic != EB_INLINE && event->path_length == 0) status = eb_send(&route, bytes);
    if (event->path_length > 0)
        status = eb_send_raw(&route, bytes, event->path_length, bytes + event->path_length, event->body_length);
    while (status == EB_FULL || status == EB_BUSY || status == EB_INTERRUPTED)
        status = eb_send_batch(bus, event, 1, bytes, length, EB_FOREVER);
    EQUAL("a single event is sent", status, EB_OK);
}

/* One event, or a few at once. */
static void send_some(publisher *of)
{
    eb_outgoing events[BATCH];
    int count = draw(&of->state) % 3 == 0 ? 1 + (int)(draw(&of->state) % BATCH) : 1, status = EB_OK;
    char *end = of->bytes;
    for (int i = 0; i < count; i++)
        end = compose(&events[i], end, of->number, of->counter + (uint64_t)i);
    if (count == 1) send_one(of->bus, events, of->bytes, (size_t)(end - of->bytes));
    else do
            status = eb_send_batch(of->bus, events, count, of->bytes, (size_t)(end - of->bytes), EB_FOREVER);
        while (status == EB_INTERRUPTED);
    EQUAL("a batch is sent", status, EB_OK);
    of->counter += (uint64_t)count;
}

static inline void *publish(void *with)
{
    publisher of = publisher_of((unsigned)(uintptr_t)with);
    while (!atomic_load(&stopping))
        send_some(&of);
    atomic_store(&sent_by[of.number], of.counter);
    free(of.bytes);
    return NULL;
}

static void out_of_time(int number)
{
    static const char message[] = "the deadline is over: somebody hangs\n";
    (void)number;
    ssize_t written = write(STDOUT_FILENO, message, sizeof message - 1);
    _exit(written < 0 ? 3 : 2);
}

static pthread_t start(void *(*body)(void *), int number)
{
    pthread_t thread;
    EQUAL("a thread can be made", pthread_create(&thread, NULL, body, (void *)(uintptr_t)number), 0);
    return thread;
}

/* The arguments, the bus and the deadline; the seconds that were asked for. */
static unsigned begin(const char *name, int count, char **arguments)
{
    unsigned seconds = count > 1 ? (unsigned)strtoul(arguments[1], NULL, 10) : 20;
    seed = count > 2 ? strtoull(arguments[2], NULL, 10) : (uint64_t)eb_now();
    printf("%s %u %llu\n", name, seconds, (unsigned long long)seed);
    fflush(stdout);
    signal(SIGALRM, out_of_time);
    alarm(seconds + PATIENCE);
    it = scene_of(RING_BYTES, SLOTS, (uint64_t)0 - RING_BYTES, 1);
    make_topics(it.bus, TOPICS);
    return seconds;
}

/* Lets the publishers run for so long, and until nothing is owed. */
static void publish_for(unsigned seconds, void *(*body)(void *))
{
    pthread_t publishers[PUBLISHERS];
    for (int i = 0; i < PUBLISHERS; i++)
        publishers[i] = start(body, i);
    struct timespec duration = {.tv_sec = seconds};
    nanosleep(&duration, NULL);
    for (struct timespec moment = {.tv_nsec = 1000000}; atomic_load(&owed) > 0;)
        nanosleep(&moment, NULL);
    atomic_store(&stopping, true);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(publishers[i], NULL);
}

static void shut_down(void)
{
    int status;
    do
        status = eb_shutdown(it.bus, EB_FOREVER);
    while (status == EB_INTERRUPTED);
    EQUAL("the bus is closed", status, EB_OK);
}

static uint64_t sent_by_all(void)
{
    uint64_t all = 0;
    for (int i = 0; i < PUBLISHERS; i++)
        all += atomic_load(&sent_by[i]);
    return all;
}

#endif
