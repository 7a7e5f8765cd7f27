/* The ring as pure memory: sizes, wraps, bounds, the oldest walk, copies beside an overwriting publisher. */
#include "scene.h"

static eb_u64 *word(const eb_bus *bus, uint64_t position, int number)
{
    return (eb_u64 *)(void *)(bus->ring.data + position % bus->ring.capacity) + number;
}

static uint64_t committed(const eb_bus *bus)
{
    return atomic_load(&bus->ring.header->committed);
}

static uint64_t oldest(const eb_bus *bus)
{
    return atomic_load(&bus->ring.header->oldest);
}

/* Twenty events of changing size, one after the other, several times round the ring. */
static void round_from(uint64_t position, uint64_t sequence)
{
    scene it = scene_of(CAPACITY, 4, position, sequence);
    make_topics(it.peer, 1);
    eb_subscription *gated = join(it.bus, EB_LATEST, true), *dropping = join(it.bus, EB_LATEST, false);
    for (uint64_t i = 0; i < 200; i++) {
        size_t length = 1 + i * 37 % 900;
        EQUAL("an event goes in at any position", put_sized(it.peer, 0, length, i), EB_OK);
        EQUAL("a gated subscription gets it", eb_receive(gated, 8, EB_POLL), 1);
        CHECK("with all its bytes", holds_pattern(eb_batch_of(gated), length, i));
        CHECK("under its sequence", eb_batch_of(gated)->sequence[0] == sequence + i);
        EQUAL("a dropping one gets it too", eb_receive(dropping, 8, EB_POLL), 1);
        CHECK("with all its bytes", holds_pattern(eb_batch_of(dropping), length, i));
        CHECK("the ring never holds more than its capacity", committed(it.bus) - oldest(it.bus) <= CAPACITY);
        EQUAL("its records can be walked", eb_ring_verify(&it.bus->ring), EB_OK);
    }
    CHECK("the stream went round the ring", committed(it.bus) - position > 10 * CAPACITY);
    EQUAL("nothing was lost", eb_lost(dropping), 0);
    leave(gated);
    leave(dropping);
    scene_end(&it);
}

static void positions_and_sequences_pass_every_wrap(void)
{
    const uint64_t starts[] = {0, 1ull << 32, 1ull << 63, 0 /* 2^64 */};
    for (int i = 0; i < 4; i++)
        for (uint64_t before = 0; before <= 4096; before += 1352)
            round_from(starts[i] - before, (starts[i] ? starts[i] : 1ull << 33) - 100);
}

static void a_dropping_subscriber_is_lapped_across_every_wrap(void)
{
    const uint64_t starts[] = {1ull << 32, 1ull << 63, 0};
    for (int i = 0; i < 3; i++) {
        scene it = scene_of(CAPACITY, 4, starts[i] - 2000, 1);
        eb_subscription *sub = join(it.bus, EB_LATEST, false);
        for (uint64_t n = 1; n <= 300; n++)
            EQUAL("nobody holds the publisher up", put(it.peer, 0, n), EB_OK);
        uint64_t kept = (CAPACITY - 8) / RECORD, first = 300 - kept + 1;
        EQUAL("it goes on at the oldest event", next(sub), first);
        EQUAL("and counts those skipped", eb_lost(sub), first - 1);
        leave(sub);
        scene_end(&it);
    }
}

static void every_size_round_a_multiple_of_eight_is_kept_whole(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    for (size_t length = 0; length <= 96; length++) {
        uint64_t before = committed(it.bus);
        EQUAL("it goes in", put_sized(it.peer, 0, length, length), EB_OK);
        EQUAL("a record is its header and its body rounded up", committed(it.bus) - before, 32 + (length + 7) / 8 * 8);
        EQUAL("it comes out", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("whole", length == 0 || holds_pattern(eb_batch_of(sub), length, length));
    }
    leave(sub);
    scene_end(&it);
}

/* Path and data lie in two places when sent and meet inside of a word. */
static void raw_data_of_every_size_meet_their_path(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    char *path = pattern(40, 3), *data = pattern(40, 11);
    for (size_t head = 1; head <= 20; head++)
        for (size_t body = 0; body <= 20; body++) {
            EQUAL("it goes in", eb_send_raw(&(eb_route){.bus = it.peer, .topic = 0}, path + 1, head, data + 1, body),
                  EB_OK);
            EQUAL("it comes out", eb_receive(sub, 1, EB_POLL), 1);
            const eb_batch *batch = eb_batch_of(sub);
            CHECK("beside an empty array", batch->head.json_count == 0 && batch->head.json_length == 2);
            const eb_beside *beside = &batch->beside[0];
            CHECK("with both lengths", beside->path_length == head && beside->data_length == body);
            CHECK("the path first", memcmp(batch->buffer + beside->offset, path + 1, head) == 0);
            CHECK("the data behind it", memcmp(batch->buffer + beside->offset + head, data + 1, body) == 0);
        }
    free(path);
    free(data);
    leave(sub);
    scene_end(&it);
}

/* A batch of `count` events whose records add up to `bytes`. */
static int put_batch(eb_bus *bus, int count, uint64_t bytes)
{
    eb_outgoing events[8] = {{.topic = 0}};
    char text[CAPACITY + 64];
    uint32_t rest = (uint32_t)bytes, total = 0;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < count; i++) {
        uint32_t record = i == count - 1 ? rest : (uint32_t)(bytes / (uint32_t)count) & ~7u;
        events[i].body_length = record - EB_HEADER_BYTES + 2;
        total += events[i].body_length;
        rest -= record;
    }
    return eb_send_batch(bus, events, count, text, total, EB_POLL);
}

static void a_claim_fills_the_ring_to_the_last_word_and_not_beyond(void)
{
    for (uint64_t at = 0; at < 64; at += 8) {
        scene it = scene_of(CAPACITY, 4, at, 1);
        EQUAL("one word more than there is never fits", put_batch(it.peer, 5, CAPACITY), EB_TOO_LARGE);
        EQUAL("all but the next sequence's word fits", put_batch(it.peer, 5, CAPACITY - 8), EB_OK);
        EQUAL("it can be walked", eb_ring_verify(&it.bus->ring), EB_OK);
        EQUAL("it can be replaced as a whole", put_batch(it.peer, 5, CAPACITY - 8), EB_OK);
        EQUAL("which leaves just itself", committed(it.bus) - oldest(it.bus), CAPACITY - 8);
        EQUAL("and can be walked", eb_ring_verify(&it.bus->ring), EB_OK);
        scene_end(&it);
    }
}

static void an_event_takes_at_most_a_quarter_of_the_ring(void)
{
    scene it = scene_small();
    EQUAL("the limit is a quarter", eb_event_limit(it.bus), CAPACITY / 4);
    EQUAL("a record of it fits", put_sized(it.peer, 0, CAPACITY / 4 - 32, 1), EB_OK);
    EQUAL("one byte more does not", put_sized(it.peer, 0, CAPACITY / 4 - 31, 1), EB_TOO_LARGE);
    EQUAL("what has no brackets is no text", eb_send(&(eb_route){.bus = it.peer, .topic = 0}, "x"), EB_TOO_LARGE);
    EQUAL("nothing of these was sent", sent(it.bus), 1);
    scene_end(&it);
}

static void the_oldest_walk_is_bounded_by_what_is_committed(void)
{
    const uint64_t lengths[] = {CAPACITY, CAPACITY - 31, 0xFFFFFFFFull, 0x80000000ull};
    for (int i = 0; i < 4; i++) {
        scene it = scene_small();
        for (uint64_t n = 1; n <= 102; n++)
            EQUAL("the ring is filled", put(it.peer, 0, n), EB_OK);
        uint64_t at = oldest(it.bus), shown = committed(it.bus);
        atomic_store(word(it.bus, at, EB_WORD_TOPIC), lengths[i]);
        EQUAL("a damaged length is refused", put(it.peer, 0, 103), EB_DAMAGED);
        CHECK("it is named", strstr(eb_detail(), "length") != NULL);
        CHECK("nothing moved", committed(it.bus) == shown && oldest(it.bus) == at);
        EQUAL("the lock is free again", put(it.bus, 0, 103), EB_DAMAGED);
        atomic_store(&it.bus->ring.header->oldest, shown + 8);
        EQUAL("an oldest position past the committed one is refused", put(it.peer, 0, 103), EB_DAMAGED);
        scene_end(&it);
    }
}

typedef struct {
    int word;
    uint64_t value;
    const char *named;
} damage;

static void every_word_of_a_header_is_bounded(void)
{
    const uint64_t topic = 1; /* a body of one byte */
    const damage damages[] = {
        {EB_WORD_SEQUENCE, 77, "sequence"},
        {EB_WORD_TOPIC, topic + 8, "length"},
        {EB_WORD_TOPIC, 0xFFFFFFFF, "length"},
        {EB_WORD_TOPIC, topic | (uint64_t)EB_TOPICS << 32, "topic"},
        {EB_WORD_TOPIC, topic | (uint64_t)EB_INLINE << 32, "names"},
        {EB_WORD_TOPIC, topic | 1ull << 56, "names"},
        {EB_WORD_SENDER, 2ull << 38, "names"},
        {EB_WORD_SENDER, 0x1FFFull << 38, "names"},
        {EB_WORD_SENDER, 2ull << 24, "names"},
        {EB_WORD_SENDER, 0x3FFFull << 24, "names"},
        {EB_WORD_SENDER, 0xFFull << 56, "names"},
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        scene it = scene_small();
        eb_subscription *sub = join(it.bus, EB_LATEST, true), *drop = join(it.bus, EB_LATEST, false);
        EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
        atomic_store(word(it.bus, 0, damages[i].word), damages[i].value);
        EQUAL("a gated reader refuses it", eb_receive(sub, 1, EB_POLL), EB_DAMAGED);
        CHECK("it is named", strstr(eb_detail(), damages[i].named) != NULL);
        EQUAL("a dropping one too", eb_receive(drop, 1, EB_POLL), EB_DAMAGED);
        EQUAL("the walk of the repair too", eb_ring_verify(&it.bus->ring), EB_DAMAGED);
        leave(sub);
        leave(drop);
        scene_end(&it);
    }
}

static void positions_that_cannot_be_are_refused(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put(it.peer, 0, 1);
    const uint64_t impossible[] = {CAPACITY + 8, 1ull << 40, 1ull << 63, (uint64_t)-8};
    for (int i = 0; i < 4; i++) {
        atomic_store(&it.bus->ring.header->committed, impossible[i]);
        EQUAL("no reader goes there", eb_receive(sub, 1, EB_POLL), EB_DAMAGED);
        EQUAL("nor does the walk", eb_ring_verify(&it.bus->ring), EB_DAMAGED);
        eb_stats stats;
        EQUAL("nor the statistics", eb_stats_read(it.bus, &stats), EB_DAMAGED);
    }
    atomic_store(&it.bus->ring.header->committed, RECORD);
    atomic_store(&it.bus->ring.header->oldest, 4);
    EQUAL("a record begins at a word", eb_ring_verify(&it.bus->ring), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

/* Whoever looks until nothing was overtaken must not look for ever. */
static void an_oldest_position_ahead_of_all_ends_every_look(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, false);
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_OLDEST};
    eb_subscriber_info info;
    eb_walk walk = {.count = 0};
    eb_stats stats;
    int status;
    put(it.peer, 0, 1);
    atomic_store(&it.bus->ring.header->oldest, 1ull << 40);
    CHECK("nobody joins", !subscribe(it.bus, &terms, EB_POLL, &status));
    EQUAL("but is told why", status, EB_DAMAGED);
    EQUAL("nobody receives", next(sub), EB_DAMAGED);
    EQUAL("nobody sends", put(it.peer, 0, 2), EB_DAMAGED);
    EQUAL("the statistics are none", eb_stats_read(it.bus, &stats), EB_DAMAGED);
    EQUAL("nothing waits", eb_backlog(sub, &walk), EB_OK);
    EQUAL("as the count says", walk.count, 0);
    EQUAL("who is there is still known", eb_subscriber(it.bus, 0, &info), 1);
    leave(sub);
    scene_end(&it);
}

static void a_copy_by_words_is_a_copy(void)
{
    scene it = scene_of(CAPACITY, 4, CAPACITY - 64, 1); /* the record crosses the end of the ring */
    char *text = pattern(100, 5), plain[100], shared[100];
    EQUAL("an event is sent", put_sized(it.peer, 0, 100, 5), EB_OK);
    for (uint64_t skip = 0; skip < 20; skip++)
        for (uint64_t length = 0; length <= 100 - skip; length++) {
            eb_ring_copy(&it.bus->ring, CAPACITY - 64, skip, plain, length, false);
            eb_ring_copy(&it.bus->ring, CAPACITY - 64, skip, shared, length, true);
            CHECK("plain, it is what was sent", memcmp(plain, text + 1 + skip, length) == 0);
            CHECK("by words, it is the same", memcmp(shared, plain, length) == 0);
        }
    free(text);
    scene_end(&it);
}

/* Read before the lap, looked at after it: the oldest position tells. */
static void a_record_read_before_a_lap_is_known_to_be_lapped(void)
{
    scene it = scene_small();
    eb_record record;
    put(it.peer, 0, 1);
    EQUAL("it is read", eb_ring_read(&it.bus->ring, 0, RECORD, &record), EB_OK);
    CHECK("it is not lapped", !eb_ring_lapped(&it.bus->ring, 0));
    for (uint64_t n = 2; n <= 102; n++)
        put(it.peer, 0, n);
    CHECK("while there is room it is not lapped", !eb_ring_lapped(&it.bus->ring, 0));
    put(it.peer, 0, 103);
    CHECK("with the first byte overwritten it is", eb_ring_lapped(&it.bus->ring, 0));
    uint64_t position, sequence;
    eb_ring_oldest(&it.bus->ring, &position, &sequence);
    CHECK("the oldest event and its sequence belong together", position == RECORD && sequence == 2);
    scene_end(&it);
}

int main(void)
{
    RUN(positions_and_sequences_pass_every_wrap);
    RUN(a_dropping_subscriber_is_lapped_across_every_wrap);
    RUN(every_size_round_a_multiple_of_eight_is_kept_whole);
    RUN(raw_data_of_every_size_meet_their_path);
    RUN(a_claim_fills_the_ring_to_the_last_word_and_not_beyond);
    RUN(an_event_takes_at_most_a_quarter_of_the_ring);
    RUN(the_oldest_walk_is_bounded_by_what_is_committed);
    RUN(every_word_of_a_header_is_bounded);
    RUN(positions_that_cannot_be_are_refused);
    RUN(an_oldest_position_ahead_of_all_ends_every_look);
    RUN(a_copy_by_words_is_a_copy);
    RUN(a_record_read_before_a_lap_is_known_to_be_lapped);
    return checked();
}
