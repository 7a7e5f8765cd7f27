/* Sleep until a deadline, wake a sleeper: the only place that blocks on a word of shared memory.
 *
 * The words are futexes of our own and not sem_t: glibc aborts the process when the kernel answers a sem_t wait with an
 * error, which whoever scribbles over the roster can provoke. Here any value of the word is a good one. */
#include "internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000ll

int64_t eb_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/* Nanoseconds since 1970, as events carry them. */
uint64_t eb_wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* The deadline, or the end of a slice that begins now, whichever comes first. */
int64_t eb_sooner(int64_t deadline, int64_t slice)
{
    int64_t end = eb_now() + slice;
    return deadline == EB_FOREVER || end < deadline ? end : deadline;
}

bool eb_over(int64_t deadline)
{
    return deadline != EB_FOREVER && (EB_IS_POLL(deadline) || eb_now() >= deadline);
}

void eb_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Sleeps without being woken by anybody; the kernel may add its timer slack, 50 microseconds by default. */
int eb_nap(int64_t until)
{
    struct timespec at = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR ? EB_INTERRUPTED : EB_OK;
}

/* EB_OK when the word may have changed, EB_NOTHING when the time is up, EB_INTERRUPTED by a signal. */
static int futex_wait(eb_u32 *word, uint32_t expected, int64_t until)
{
    struct timespec at = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &at, NULL, FUTEX_BITSET_MATCH_ANY) == 0) return EB_OK;
    if (errno == ETIMEDOUT) return EB_NOTHING;
    return errno == EINTR ? EB_INTERRUPTED : EB_OK;
}

/* How many were asleep there. */
static int futex_wake(eb_u32 *word, int count)
{
    return (int)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* Also where the word is up already: whoever raised it may have died before it woke anybody. Whether it woke one. */
bool eb_semaphore_post(eb_u32 *semaphore)
{
    atomic_store(semaphore, 1);
    EB_TEST_POINT(semaphore_raised);
    return futex_wake(semaphore, 1) > 0;
}

/* Of a word that several sleep on, and look by themselves soon enough: one wake-up for as many posts as come before the
 * one that is woken runs. Whether one was woken, or is about to run. */
bool eb_semaphore_post_once(eb_u32 *semaphore)
{
    if (atomic_exchange(semaphore, 1) != 0) return true;
    EB_TEST_POINT(semaphore_raised);
    return futex_wake(semaphore, 1) > 0;
}

/* Whoever wakes all leaves one of them the 1; the others return all the same: a wake-up only ever means "look again".
 */
void eb_semaphore_post_all(eb_u32 *semaphore)
{
    atomic_store(semaphore, 1);
    EB_TEST_POINT(semaphore_raised);
    futex_wake(semaphore, INT32_MAX);
}

int eb_semaphore_wait(eb_u32 *semaphore, int64_t until)
{
    if (atomic_exchange(semaphore, 0) == 0) {
        int status = futex_wait(semaphore, 0, until);
        if (status == EB_INTERRUPTED) return status; /* whatever else is there: the signal must not wait for it */
        if (atomic_exchange(semaphore, 0) == 0) return status;
    }
    EB_TEST_POINT(semaphore_taken);
    return EB_OK;
}

/* `waiters` is a flag and not a number, so that a waiter that dies costs one needless wake-up and then nothing. */
uint32_t eb_event_prepare(eb_event_count *count)
{
    uint32_t epoch = atomic_load(&count->epoch);
    atomic_store(&count->waiters, 1); /* [space] [unlock]: the caller looks at what it waits for after this */
    EB_TEST_POINT(event_flagged);
    return epoch;
}

int eb_event_wait(eb_event_count *count, uint32_t epoch, int64_t until)
{
    return atomic_load(&count->epoch) != epoch ? EB_OK : futex_wait(&count->epoch, epoch, until);
}

static void post(eb_event_count *count, int woken)
{
    if (atomic_load(&count->waiters) == 0) return; /* [space] [unlock]: the caller stored what is waited for before */
    atomic_store(&count->waiters, 0);
    EB_TEST_POINT(event_lowered);
    atomic_fetch_add(&count->epoch, 1);
    EB_TEST_POINT(event_raised);
    futex_wake(&count->epoch, woken);
}

void eb_event_post(eb_event_count *count)
{
    post(count, INT32_MAX);
}

/* Where the one that is woken raises the flag again before it looks, and posts in its turn, the others are not forgotten;
 * should it die instead, they look by themselves when their slice of sleep ends. */
void eb_event_post_one(eb_event_count *count)
{
    post(count, 1);
}
