/* Who waits in an event loop, as the loop sees it: arm, be rung, look who is told. */
#ifndef EVENTBUS_DOZING_H
#define EVENTBUS_DOZING_H

#include "scene.h"
#include "sending.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define BELL_PATH 96

/* The bell of the process, which the caller releases. */
static inline eb_bell *hold(eb_bus *bus, int silent)
{
    eb_bell *bell = eb_bell_hold(bus, silent);
    CHECK("a bell can be had", bell && eb_bell_fd(bell) >= 0);
    return bell;
}

static inline void path_of(const eb_bell *bell, char *path)
{
    snprintf(path, BELL_PATH, "/dev/shm/eventbus.bell.%016llx.%016llx", (unsigned long long)bell->bus,
             (unsigned long long)bell->id);
}

static inline bool is_there(const char *path)
{
    struct stat seen;
    return lstat(path, &seen) == 0;
}

static inline bool has_file(const eb_bell *bell)
{
    char path[BELL_PATH];
    path_of(bell, path);
    return is_there(path);
}

static inline bool readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0) == 1;
}

/* Until somebody has rung; `alarm` ends a program that hangs. */
static inline void await_ring(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    while (poll(&one, 1, -1) != 1)
        continue;
}

/* How often it was rung, which is forgotten. */
static inline int rings(const eb_bell *bell)
{
    int count = 0;
    while (recv(eb_bell_fd(bell), NULL, 0, MSG_DONTWAIT) >= 0)
        count++;
    return count;
}

static inline int arm(eb_subscription *sub)
{
    int64_t until = 0;
    int status = eb_arm(sub, 0, &until);
    if (status == EB_OK) CHECK("it is to look within a slice", until <= eb_now() + EB_SLICE_NS);
    return status;
}

static inline void doze(eb_subscription *sub)
{
    EQUAL("it is told of what comes", arm(sub), EB_OK);
}

/* What a loop finds that was told to look: an event, or the status as a number past all events. */
static inline int64_t heard(eb_subscription *sub)
{
    int status = eb_receive(sub, 1, EB_BRIEF);
    return status == 1 ? (int64_t)number_of(sub) : status;
}

/* Those who are told, a bit for each slot. */
static inline uint64_t told(eb_bus *bus)
{
    uint16_t slots[EB_SUBSCRIBERS_LIMIT];
    uint64_t bits = 0;
    eb_bell_still(bus);
    int count = eb_bell_told(bus, slots);
    for (int i = 0; i < count; i++)
        bits |= 1ull << slots[i];
    return bits;
}

static inline uint64_t bit_of(const eb_subscription *sub)
{
    return 1ull << eb_slot(sub);
}

/* Those who are to look by themselves by now, likewise. */
static inline uint64_t late(eb_bus *bus)
{
    uint16_t slots[EB_SUBSCRIBERS_LIMIT];
    uint64_t bits = 0;
    int64_t next = 0;
    int count = eb_bell_look(bus, slots, &next);
    CHECK("there is a next time", next <= eb_now() + EB_SLICE_NS);
    for (int i = 0; i < count; i++)
        bits |= 1ull << slots[i];
    return bits;
}

/* As if its slice were over. */
static inline void tire(eb_subscription *sub)
{
    atomic_store(&sub->until, 1);
}

static inline bool flag_is_up(const scene *it, uint32_t slot)
{
    return atomic_load(&it->bus->roster.header->waiters[slot / 64].bits) >> (slot % 64) & 1;
}

static inline eb_subscription *join_group(eb_bus *bus, bool manual)
{
    eb_group_terms group = {.name = "g", .system = "a.*", .kind = "**", .start = EB_LATEST};
    CHECK("a group is made once", eb_group_create(bus, &group, EB_POLL) == 0);
    return join_by(bus, &(eb_terms){.system = "a.*", .kind = "**", .name = "", .group = "g", .manual = manual});
}

static inline eb_u32 *group_semaphore(const scene *it)
{
    return &it->bus->roster.header->slots[it->bus->roster.header->groups[0].slot].semaphore;
}

#endif
