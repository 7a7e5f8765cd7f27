/* The world of a core that is fuzzed. The build with libFuzzer renames these calls in the core to `sandbox_...`: each
 * mapping lies between pages that nobody may touch, and time is made up: whoever waits finds that it is over, so that
 * an input takes microseconds and does the same each time. A replay without libFuzzer runs in the real world. */
#undef mmap
#undef munmap
#undef mremap
#undef syscall
#undef clock_gettime
#undef nanosleep
#undef clock_nanosleep
#undef pthread_mutex_clocklock
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull
#define NS_PER_SECOND 1000000000ll

static int64_t now = NS_PER_SECOND;

/* --- memory --- */

static size_t whole_pages(size_t length)
{
    return (length + PAGE - 1) / PAGE * PAGE;
}

void *sandbox_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_FIXED) return mmap(at, length, protection, flags, fd, offset);
    size_t room = whole_pages(length) + 2 * PAGE;
    char *fence = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fence == MAP_FAILED) return MAP_FAILED;
    void *mapped = mmap(fence + PAGE, length, protection, flags | MAP_FIXED, fd, offset);
    if (mapped == MAP_FAILED) munmap(fence, room);
    return mapped;
}

int sandbox_munmap(void *at, size_t length)
{
    return munmap((char *)at - PAGE, whole_pages(length) + 2 * PAGE);
}

/* What is moved leaves its two pages behind; what is mapped once more stays where it is. */
void *sandbox_mremap(void *at, size_t before, size_t after, int flags, void *to)
{
    void *mapped = mremap(at, before, after, flags, to);
    if (mapped == MAP_FAILED || before == 0) return mapped;
    munmap((char *)at - PAGE, PAGE);
    munmap((char *)at + whole_pages(before), PAGE);
    return mapped;
}

/* --- time --- */

static void wait_until(const struct timespec *until)
{
    int64_t end = until->tv_sec * NS_PER_SECOND + until->tv_nsec;
    if (end > now) now = end;
}

int sandbox_clock_gettime(clockid_t clock, struct timespec *to)
{
    (void)clock;
    now += 100;
    *to = (struct timespec){.tv_sec = now / NS_PER_SECOND, .tv_nsec = now % NS_PER_SECOND};
    return 0;
}

int sandbox_nanosleep(const struct timespec *duration, struct timespec *rest)
{
    (void)rest;
    now += duration->tv_sec * NS_PER_SECOND + duration->tv_nsec;
    return 0;
}

int sandbox_clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *rest)
{
    (void)clock, (void)flags, (void)rest;
    wait_until(until);
    return 0;
}

int sandbox_pthread_mutex_clocklock(pthread_mutex_t *lock, clockid_t clock, const struct timespec *until)
{
    (void)clock;
    int answer = pthread_mutex_trylock(lock);
    if (answer != EBUSY) return answer;
    wait_until(until);
    return ETIMEDOUT;
}

/* futex(2), the only one that the core calls by its number: there is nobody else to wake or be woken by. */
long sandbox_syscall(long number, ...)
{
    va_list more;
    va_start(more, number);
    const uint32_t *word = va_arg(more, uint32_t *);
    int operation = va_arg(more, int);
    uint32_t expected = va_arg(more, uint32_t);
    const struct timespec *until = va_arg(more, const struct timespec *);
    va_end(more);
    if (operation == 1) return 0; /* FUTEX_WAKE */
    errno = *word == expected ? ETIMEDOUT : EAGAIN;
    if (errno == ETIMEDOUT) wait_until(until);
    return -1;
}
