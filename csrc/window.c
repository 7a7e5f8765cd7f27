/* A window: the data of a ring once more in this process, twice in a row like the ring's own, to look at only.
 *
 * What somebody still looks at when its cursor has to move on becomes a copy at the same address: private pages, filled
 * with what the window shows there, take the place of the ring's pages in one step of the kernel, which lets no thread see
 * a half of it. The pages at both ends show neighbours too. They keep what they show at that moment, so whoever looks at a
 * neighbour by then sees the right bytes in the copy as in the ring; what is read later is looked at through another window. */
#define _GNU_SOURCE
#include "views.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct eb_window {
    _Atomic int holders;
    char *data;
    uint64_t from, bytes; /* what of it is mapped */
};

/* With 0 for its old size, mremap maps shared pages once more, without the descriptor, which is closed by now. */
static bool map_again(const eb_ring *ring, char *to)
{
    void *mapped = mremap(ring->data, 0, ring->capacity, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (mapped == MAP_FAILED) return false;
    EB_TEST_POINT(window_mapped);
    return mprotect(to, ring->capacity, PROT_READ) == 0;
}

/* NULL where there is no memory, or no such mapping: as under valgrind. */
eb_window *eb_window_make(const eb_ring *ring)
{
    eb_window *window = malloc(sizeof *window);
    if (!window) return NULL;
    *window = (eb_window){.bytes = 2 * ring->capacity};
    window->data = mmap(NULL, 2 * ring->capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (window->data == MAP_FAILED) {
        free(window);
        return NULL;
    }
    atomic_store(&window->holders, 1);
    if (map_again(ring, window->data) && map_again(ring, window->data + ring->capacity)) return window;
    eb_window_release(window);
    return NULL;
}

void eb_window_hold(eb_window *window)
{
    atomic_fetch_add(&window->holders, 1);
}

void eb_window_release(eb_window *window)
{
    if (atomic_fetch_sub(&window->holders, 1) != 1) return;
    munmap(window->data + window->from, window->bytes);
    EB_TEST_POINT(window_unmapped);
    free(window);
}

const char *eb_window_at(const eb_window *window, uint64_t offset)
{
    return window->data + offset;
}

typedef struct {
    uint64_t begin, end;
} span;

static span pages_of(uint64_t offset, uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (span){.begin = offset / page * page, .end = (offset + bytes + page - 1) / page * page};
}

/* The pages of these bytes are this process's alone from then on; false where there is no memory for it: then all is as it
 * was. */
bool eb_window_copy(eb_window *window, uint64_t offset, uint64_t bytes)
{
    span pages = pages_of(offset, bytes);
    uint64_t begin = pages.begin, length = pages.end - begin;
    char *copy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return false;
    memcpy(copy, window->data + begin, length);
    EB_TEST_POINT(copy_filled);
    bool moved = mprotect(copy, length, PROT_READ) == 0 &&
                 mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, window->data + begin) != MAP_FAILED;
    if (!moved) munmap(copy, length);
    EB_TEST_POINT(copy_placed);
    return moved;
}

/* Nothing but the copy of these bytes stays, where nobody else looks at the window, nor will: an array may be kept for ever,
 * and a process has so many mappings. */
void eb_window_trim(eb_window *window, uint64_t offset, uint64_t bytes)
{
    if (atomic_load(&window->holders) != 1) return;
    span pages = pages_of(offset, bytes);
    uint64_t end = window->from + window->bytes;
    if (pages.begin > window->from) munmap(window->data + window->from, pages.begin - window->from);
    if (end > pages.end) munmap(window->data + pages.end, end - pages.end);
    window->from = pages.begin;
    window->bytes = pages.end - pages.begin;
}
