/* What a fork and the end of this process must know of, whoever causes them: Python, C, or nobody that would say so. */
#define _GNU_SOURCE
#include "internal.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A page of which the kernel gives a child an empty copy (MADV_WIPEONFORK, Linux 4.14): so a process that was forked
 * without libc, whose hooks nobody ran, reads 0 here and knows that nothing of what it remembers is its own. */
static eb_u64 *born;
static eb_u64 unwiped; /* in its place where the kernel has no such pages */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static eb_kept *first;
static uint64_t generations;
static _Thread_local int python; /* this thread forks for Python, which goes on in the child; in a hook, once more */
static bool stray;               /* who forks is itself a stray */

uint64_t eb_generation(void)
{
    return born ? atomic_load_explicit(born, memory_order_relaxed) : 0;
}

const void *eb_generation_word(void)
{
    eb_process_ready();
    return born;
}

void eb_fork_begins(void)
{
    python++;
}

void eb_fork_ends(void)
{
    python--;
}

void eb_guard_enter(void)
{
    pthread_mutex_lock(&guard);
}

void eb_guard_leave(void)
{
    pthread_mutex_unlock(&guard);
}

/* Forked without libc, and nothing opened since: what is remembered here, and who has the guard, is another's. */
static bool is_stray(void)
{
    return eb_generation() != generations;
}

static void before_fork(void)
{
    stray = is_stray();
    if (stray) return;
    eb_guard_enter();
    for (eb_kept *one = first; one; one = one->next)
        one->how->before_fork(one, python > 0);
}

static void in_parent(void)
{
    if (is_stray()) return;
    for (eb_kept *one = first; one && python; one = one->next)
        one->how->in_parent(one);
    eb_guard_leave();
}

/* One thread, and whatever the others were in the middle of is not the child's. */
static void in_child(void)
{
    eb_kept *one = first;
    if (stray) return;
    first = NULL;
    atomic_store(born, ++generations);
    pthread_mutex_init(&guard, NULL);
    while (one) {
        eb_kept *next = one->next;
        if (one->how->in_child(one, python > 0)) {
            one->generation = generations;
            one->over = false;
            one->next = first;
            first = one;
        }
        one = next;
    }
}

/* Held: threads that still run may free theirs meanwhile. */
static eb_kept *next_to_end(void)
{
    eb_guard_enter();
    eb_kept *one = first;
    while (one && one->over)
        one = one->next;
    if (one) one->how->hold(one);
    if (one) one->over = true;
    eb_guard_leave();
    return one;
}

/* After Python, or whoever else has an interpreter, is done: the last one who may still send. */
static void at_exit(void)
{
    if (is_stray()) return;
    for (eb_kept *one; (one = next_to_end());)
        one->how->at_exit(one);
}

static void begin(void)
{
    long page = sysconf(_SC_PAGESIZE);
    void *memory = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    born = memory != MAP_FAILED && madvise(memory, (size_t)page, MADV_WIPEONFORK) == 0 ? memory : &unwiped;
    atomic_store(born, ++generations);
    pthread_atfork(before_fork, in_parent, in_child);
    atexit(at_exit);
}

/* In a process forked without libc all is as its parent had it, locks that other threads held too. */
void eb_process_ready(void)
{
    pthread_once(&once, begin);
    if (eb_generation() != 0) return;
    pthread_mutex_init(&guard, NULL);
    first = NULL;
    atomic_store(born, ++generations);
}

bool eb_is_ours(const eb_kept *one)
{
    return one->generation == eb_generation();
}

/* These within the guard. */

void eb_keep(eb_kept *one, const eb_keeping *how)
{
    one->how = how;
    one->generation = eb_generation();
    one->next = first;
    first = one;
}

void eb_keep_no_more(eb_kept *one)
{
    eb_kept **at = &first;
    while (*at && *at != one)
        at = &(*at)->next;
    if (*at) *at = one->next;
    one->next = NULL;
}

/* The first one of which it is so, or NULL. */
eb_kept *eb_kept_that(bool (*is)(const eb_kept *one, const void *with), const void *with)
{
    eb_kept *one = first;
    while (one && !is(one, with))
        one = one->next;
    return one;
}

/* The number of a descriptor was given out anew: whoever thinks that it has it had it closed by somebody else. */
void eb_number_taken(int fd)
{
    for (eb_kept *one = first; one; one = one->next)
        one->how->number_taken(one, fd);
}
