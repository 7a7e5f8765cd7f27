/* What the fuzz targets share: the fuzzer's bytes taken one after the other, what must hold whatever they are, and a
 * main() that runs files for compilers without libFuzzer. */
#ifndef EVENTBUS_FUZZ_INPUT_H
#define EVENTBUS_FUZZ_INPUT_H

#include "../c/scene.h"

/* The truth is printed, and the fuzzer keeps the input that was its end. */
#define HOLDS(truth, expression)                                                                                       \
    do {                                                                                                               \
        if (!(expression)) {                                                                                           \
            fprintf(stderr, "%s:%d: not so: %s [%s]\n", __FILE__, __LINE__, truth, #expression);                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* --- the fuzzer's bytes; past their end come zeros --- */

typedef struct {
    const uint8_t *at;
    size_t left;
} input;

static inline uint64_t take_bytes(input *from, size_t count)
{
    uint64_t word = 0;
    size_t there = count < from->left ? count : from->left;
    memcpy(&word, from->at, there);
    from->at += there;
    from->left -= there;
    return word;
}

static inline unsigned take_byte(input *from)
{
    return (unsigned)take_bytes(from, 1);
}

/* A number that is worth a try at a place where positions stand: any, or one near a position that is right. */
static inline uint64_t take_number(input *from, uint64_t committed, uint64_t oldest)
{
    unsigned how = take_byte(from);
    int64_t near = (int16_t)take_bytes(from, 2);
    switch (how % 6) {
    case 0: return take_bytes(from, 8);
    case 1: return committed + (uint64_t)near;
    case 2: return committed + (uint64_t)near * 8;
    case 3: return oldest + (uint64_t)near * 8;
    default: return (uint64_t)near;
    }
}

/* --- what must hold --- */

static inline int known(int status)
{
    HOLDS("a status is one of those in eventbus.h", status >= EB_EXCLUDED);
    return status;
}

/* Whether a byte of it is zero: reads them all, which the sanitizer watches. */
static inline bool touched(const char *bytes, uint64_t length)
{
    bool zero = false;
    for (uint64_t i = 0; i < length; i++)
        zero |= bytes[i] == 0;
    return zero;
}

/* What eventbus.h promises of a batch, and Python relies on. */
static inline void expect_batch(eb_subscription *sub, int count, int limit)
{
    const eb_batch *batch = eb_batch_of(sub);
    int64_t before = -1;
    HOLDS("a batch has as many as were asked for, at most", count > 0 && count <= limit);
    HOLDS("its array lies in the buffer", batch->head.json_length >= 2 && batch->head.json_length <= batch->size);
    HOLDS("it is an array", batch->buffer[0] == '[' && batch->buffer[batch->head.json_length - 1] == ']');
    HOLDS("no more is in it than came",
          batch->head.json_count <= (uint32_t)count && batch->head.beside_count <= (uint32_t)count);
    touched(batch->buffer, batch->head.json_length);
    for (uint32_t i = 0; i < batch->head.beside_count; i++) {
        const eb_beside *beside = &batch->beside[i];
        uint64_t length = (beside->view ? 0 : beside->data_length) + beside->path_length + beside->system_length +
                          beside->kind_length + beside->extension_length;
        HOLDS("what stands beside belongs to one of the events, in order", beside->index > before);
        HOLDS("which is in the batch", beside->index < (uint32_t)count);
        HOLDS("it lies behind the array", beside->offset >= batch->head.json_length && beside->offset <= batch->size);
        HOLDS("and ends in the buffer", length <= batch->size - beside->offset);
        touched(batch->buffer + beside->offset, length);
        before = beside->index;
    }
}

/* Receives once, deciding and reserving as Python does; the last status. */
static inline int receive(eb_subscription *sub, int limit, int64_t deadline)
{
    int status = EB_UNDECIDED;
    for (int tries = 0; tries < 64 && (status == EB_UNDECIDED || status == EB_LARGE); tries++) {
        eb_batch *batch = eb_batch_of(sub);
        status = known(eb_receive(sub, limit, deadline));
        HOLDS("nothing received is not called success", status != EB_OK);
        if (status == EB_UNDECIDED) {
            HOLDS("names fit", batch->system_length <= EB_NAME_LIMIT && batch->kind_length <= EB_NAME_LIMIT);
            known(eb_decide(sub, batch->undecided, (batch->undecided & 3) != 3));
        }
        if (status == EB_LARGE) {
            HOLDS("no record is larger than the ring", batch->needed <= sub->bus->ring.capacity + 64);
            known(eb_reserve(sub, batch->needed));
        }
    }
    if (status > 0) expect_batch(sub, status, limit);
    if (status == EB_EXHAUSTED) expect_batch(sub, 1, 1);
    return status;
}

/* Everything that can be asked about a bus without being part of it. */
static inline void look_around(eb_bus *bus)
{
    eb_stats stats;
    eb_subscriber_info subscriber;
    eb_group_info group;
    eb_claim_info claim;
    char names[512];
    uint32_t lengths[2];
    if (known(eb_stats_read(bus, &stats)) == EB_OK)
        HOLDS("no more is used than there is", stats.used <= stats.capacity && stats.topics <= EB_TOPICS);
    for (uint32_t slot = 0; slot <= bus->roster.max_subscribers && slot < 16; slot++)
        if (known(eb_subscriber(bus, slot, &subscriber)) == 1)
            HOLDS("texts end", strnlen(subscriber.name, 64) < 64 && strnlen(subscriber.system, 256) < 256);
    for (uint32_t i = 0; i <= EB_GROUPS; i++)
        if (known(eb_group_read(bus, i, &group)) == 1)
            HOLDS("texts end", strnlen(group.name, 64) < 64 && strnlen(group.kind, 256) < 256);
    for (int i = 0; (i = known(eb_claim_read(bus, 0, (uint32_t)i, &claim))) >= 0; i++)
        HOLDS("a claim has a number", i < EB_CLAIMS);
    known(eb_claim_read(bus, EB_GROUPS, EB_CLAIMS, &claim));
    static eb_scheduled_info later;
    for (int i = 0; (i = known(eb_scheduled_read(bus, (uint32_t)i, &later))) >= 0; i++) {
        HOLDS("an entry has a number", (uint64_t)i < bus->ring.parking_bytes / EB_PARKING_BLOCK);
        HOLDS("texts fit", later.system_length <= EB_NAME_LIMIT && later.kind_length <= EB_NAME_LIMIT);
        touched(later.path, later.path_length);
    }
    for (uint32_t topic = 0; topic < 8; topic++)
        if (known(eb_topic_names(bus, topic, names, lengths)) == EB_OK)
            HOLDS("names fit", lengths[0] <= EB_NAME_LIMIT && lengths[1] <= EB_NAME_LIMIT);
    known((int)eb_topic_count(bus, EB_TOPICS));
    known(eb_group_find(bus, "g"));
    int slowest = eb_slowest(bus);
    HOLDS("the slowest is a slot", slowest >= -1 && slowest < (int)bus->roster.max_subscribers);
    eb_closed(bus);
    eb_lock_holder(bus);
}

/* --- files instead of a fuzzer --- */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

#ifdef EB_REPLAY
int main(int count, char **files)
{
    for (int i = 1; i < count; i++) {
        static uint8_t bytes[1 << 20];
        FILE *file = fopen(files[i], "rb");
        if (!file) {
            perror(files[i]);
            return 1;
        }
        size_t length = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        printf("%s\n", files[i]); /* the last one shown is the one that was the end */
        fflush(stdout);
        LLVMFuzzerTestOneInput(bytes, length);
    }
    printf("%d inputs\n", count - 1);
    return 0;
}
#endif

#endif
