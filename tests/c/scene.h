/* A bus made by hand in anonymous memory, at any position, with two attachments that share no lock: as good as two
 * processes. What happens at a test point, and who dies there, is for the test to say. */
#ifndef EVENTBUS_SCENE_H
#define EVENTBUS_SCENE_H

#define _GNU_SOURCE
#include "check.h"
#include "claims.h"
#include "internal.h"
#include "open.h"
#include "testing.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAPACITY 4096u
#define RECORD 40u /* the bytes of a record whose text has 1 to 8 */
/* How many such records fit beside the next sequence's word. */
#define FULL_RING ((CAPACITY - 8) / RECORD)

typedef struct {
    int ring_fd, roster_fd;
    eb_bus *bus;  /* who subscribes */
    eb_bus *peer; /* who sends */
} scene;

/* The stream begins at `position`, with `sequence` as its next one. */
static inline void begin_at(eb_bus *bus, uint64_t position, uint64_t sequence)
{
    eb_ring_header *header = bus->ring.header;
    atomic_store((eb_u64 *)(void *)(bus->ring.data + position % bus->ring.capacity), sequence);
    atomic_store(&header->committed, position);
    atomic_store(&header->oldest, position);
    atomic_store(&header->gate, position);
    atomic_store(&header->inline_count, sequence - 1);
}

/* The bus that was made last: what a forked child attaches to anew, as Python does it. */
static inline scene *latest(void)
{
    static scene it;
    return &it;
}

static inline scene scene_of(uint64_t capacity, uint32_t slots, uint64_t position, uint64_t sequence)
{
    scene it = {.ring_fd = memfd_create("ring", MFD_CLOEXEC), .roster_fd = memfd_create("roster", MFD_CLOEXEC)};
    int status = EB_SYSTEM;
    CHECK("a segment can be made", ftruncate(it.ring_fd, eb_ring_bytes(capacity)) == 0);
    CHECK("a roster can be made", ftruncate(it.roster_fd, eb_roster_bytes(slots)) == 0);
    EQUAL("a bus can be formatted", eb_format(it.ring_fd, it.roster_fd, capacity, slots, 7, 8), EB_OK);
    it.bus = bus_open(it.ring_fd, it.roster_fd, 1, &status);
    CHECK("it can be opened", it.bus && status == EB_OK);
    it.peer = bus_open(it.ring_fd, it.roster_fd, 1, &status);
    CHECK("it can be opened twice", it.peer && status == EB_OK);
    begin_at(it.bus, position, sequence);
    *latest() = it;
    return it;
}

static inline scene scene_small(void)
{
    return scene_of(CAPACITY, 4, 0, 1);
}

static inline void scene_end(scene *it)
{
    if (latest()->bus == it->bus) *latest() = (scene){.bus = NULL};
    eb_bus_free(it->bus);
    eb_bus_free(it->peer);
    close(it->ring_fd);
    close(it->roster_fd);
}

/* --- subscribe --- */

/* It hears the first topics. */
static inline eb_subscription *join_by(eb_bus *bus, const eb_terms *terms)
{
    int status = EB_SYSTEM;
    eb_subscription *sub = subscribe(bus, terms, EB_POLL, &status);
    CHECK("a subscription can be made", sub && status == EB_OK);
    for (uint32_t topic = 0; topic < 8; topic++)
        eb_decide(sub, topic, 1);
    return sub;
}

static inline eb_subscription *join_as(eb_bus *bus, int64_t start, bool gated, const char *name)
{
    return join_by(bus, &(eb_terms){.system = "a.*", .kind = "**", .name = name, .start = start, .gated = gated});
}

static inline eb_subscription *join(eb_bus *bus, int64_t start, bool gated)
{
    return join_as(bus, start, gated, "");
}

static inline void leave(eb_subscription *sub)
{
    eb_unsubscribe(sub);
    eb_subscription_free(sub);
}

static inline eb_slot_t *slot_of(eb_bus *bus, const eb_subscription *sub)
{
    return &bus->roster.header->slots[eb_slot(sub)];
}

/* --- send and receive --- */

static inline int put(eb_bus *bus, uint32_t topic, uint64_t number)
{
    char text[32];
    snprintf(text, sizeof text, "[%llu]", (unsigned long long)number);
    return eb_send(&(eb_route){.bus = bus, .topic = topic}, text);
}

/* The numbers `first` to `last`, an event each. */
static inline void put_many(eb_bus *bus, uint32_t topic, uint64_t first, uint64_t last)
{
    for (uint64_t n = first; n <= last; n++)
        EQUAL("an event is sent", put(bus, topic, n), EB_OK);
}

/* `length` bytes that tell themselves apart by `seed`, and the brackets that the C face expects around them. */
static inline char *pattern(size_t length, uint64_t seed)
{
    char *text = malloc(length + 2);
    text[0] = '[';
    for (size_t i = 0; i < length; i++)
        text[i + 1] = (char)('a' + (seed + i * 7 + i / 26) % 26);
    text[length + 1] = ']';
    return text;
}

static inline int put_sized(eb_bus *bus, uint32_t topic, size_t length, uint64_t seed)
{
    char *text = pattern(length, seed);
    eb_outgoing event = {.topic = topic, .body_length = (uint32_t)length + 2};
    int status = eb_send_batch(bus, &event, 1, text, length + 2, EB_POLL);
    free(text);
    return status;
}

/* Whether the batch is one JSON text: `length` bytes of the pattern of `seed`. */
static inline bool holds_pattern(const eb_batch *batch, size_t length, uint64_t seed)
{
    char *text = pattern(length, seed);
    bool same = batch->head.json_length == length + 2 && memcmp(batch->buffer, text, length + 2) == 0;
    free(text);
    return same;
}

static inline uint64_t number_of(const eb_subscription *sub)
{
    return strtoull(eb_batch_of((eb_subscription *)sub)->buffer + 1, NULL, 10);
}

/* One event without waiting, or the status as a number past all events. */
static inline int64_t next(eb_subscription *sub)
{
    int status = eb_receive(sub, 1, EB_POLL);
    return status == 1 ? (int64_t)number_of(sub) : status;
}

static inline int64_t next_sequence_of(eb_subscription *sub)
{
    int status = eb_receive(sub, 1, EB_POLL);
    return status == 1 ? (int64_t)eb_batch_of(sub)->sequence[0] : status;
}

static inline uint64_t sent(const eb_bus *bus)
{
    eb_stats stats;
    EQUAL("the statistics can be read", eb_stats_read(bus, &stats), EB_OK);
    return stats.sent;
}

static inline uint64_t committed_of(const scene *it)
{
    return atomic_load(&it->bus->ring.header->committed);
}

static inline uint64_t counted_events(const eb_bus *bus)
{
    uint64_t sum = atomic_load(&bus->ring.header->inline_count);
    for (int i = 0; i < EB_TOPICS; i++)
        sum += atomic_load(&bus->ring.header->topics[i].count);
    return sum;
}

/* Topics 0 to count - 1, named "a" and "k0", "k1" ... */
static inline void make_topics(eb_bus *bus, int count)
{
    for (int i = 0; i < count; i++) {
        char names[16];
        int length = snprintf(names, sizeof names, "ak%d", i);
        EQUAL("topics are numbered from zero", eb_topic(bus, names, 1, (size_t)length - 1, EB_POLL), i);
    }
}

/* --- test points --- */

typedef void deed(void *with);

static inline struct planned {
    int point, passes;
    deed *action;
    void *with;
} *plan(void)
{
    static struct planned it = {.point = -1};
    return &it;
}

static inline void planned_hook(int point)
{
    struct planned *it = plan();
    if (point != it->point || --it->passes > 0) return;
    it->point = -1;
    it->action(it->with);
}

/* The action happens when the point is passed for the `passes`th time, once. */
static inline void plan_at(int point, int passes, deed *action, void *with)
{
    *plan() = (struct planned){.point = point, .passes = passes, .action = action, .with = with};
    eb_test_hook = planned_hook;
}

static inline bool happened(void)
{
    return plan()->point == -1;
}

/* A child does the deed and is killed when it passes the point; the shared memory and the locks are as it left them. */
static inline void die_at(int point, int passes, deed *action, void *with)
{
    fflush(stdout);
    eb_fork_begins();
    pid_t child = fork();
    eb_fork_ends();
    if (child == 0) {
        eb_test_arm(point, SIGKILL, passes);
        action(with);
        _exit(0);
    }
    int status = 0;
    CHECK("the child can be waited for", waitpid(child, &status, 0) == child);
    CHECK("the child died at the test point", WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

#endif
