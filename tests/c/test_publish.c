/* A publisher dead after each step, and what the next owner of its lock finds and repairs. */
#include "scene.h"

static eb_bus *victim; /* the attachment that a child dies with */

/* Three events of three topics at once, as numbers 11, 12, 13. */
static void send_three(void *with)
{
    (void)with;
    const eb_outgoing events[] = {
        {.topic = 0, .body_length = 4}, {.topic = 1, .body_length = 4}, {.topic = 0, .body_length = 4}};
    eb_send_batch(victim, events, 3, "[11][12][13]", 12, EB_POLL);
}

static scene scene_for_death(void)
{
    scene it = scene_of(CAPACITY, 4, (1ull << 32) - 2 * RECORD, (1ull << 32) - 2);
    make_topics(it.peer, 2);
    victim = it.peer;
    return it;
}

static void expect_counts(const eb_bus *bus, int first, int second)
{
    EQUAL("the first topic's events are counted", eb_topic_count(bus, 0), first);
    EQUAL("the second topic's too", eb_topic_count(bus, 1), second);
    EQUAL("the counters add up to the sequence", counted_events(bus), sent(bus));
}

static void a_publisher_dead_before_its_commit_leaves_nothing(void)
{
    const struct {
        int point, passes;
    } steps[] = {{EB_POINT_publish_locked, 1}, {EB_POINT_publish_claimed, 1}, {EB_POINT_publish_header, 1},
                 {EB_POINT_publish_header, 2}, {EB_POINT_publish_header, 3},  {EB_POINT_publish_copied, 1}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        scene it = scene_for_death();
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        EQUAL("an event before", put(it.bus, 1, 1), EB_OK);
        die_at(steps[i].point, steps[i].passes, send_three, NULL);
        EQUAL("a subscriber hears the event before", next(sub), 1);
        EQUAL("and nothing of the dead one's", next(sub), EB_NOTHING);
        EQUAL("the next publisher goes on at once", put(it.bus, 0, 2), EB_OK);
        EQUAL("its event is the next", next(sub), 2);
        CHECK("under the next sequence", eb_batch_of(sub)->sequence[0] == (1ull << 32) - 1);
        EQUAL("the records can be walked", eb_ring_verify(&it.bus->ring), EB_OK);
        expect_counts(it.bus, 1, 1);
        leave(sub);
        scene_end(&it);
    }
}

static void a_publisher_dead_after_its_commit_leaves_all(void)
{
    const int points[] = {EB_POINT_publish_committed, EB_POINT_publish_counted, EB_POINT_publish_unlocked};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        scene it = scene_for_death();
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        die_at(points[i], 1, send_three, NULL);
        for (int n = 11; n <= 13; n++)
            EQUAL("a subscriber hears all of the dead one's, before any repair", next(sub), n);
        EQUAL("the next publisher goes on at once", put(it.bus, 1, 2), EB_OK);
        EQUAL("its event is the next", next(sub), 2);
        expect_counts(it.bus, 2, 2);
        leave(sub);
        scene_end(&it);
    }
}

static void a_publisher_dead_in_a_full_ring_leaves_a_whole_one(void)
{
    const int points[] = {EB_POINT_publish_claimed, EB_POINT_publish_header, EB_POINT_publish_copied};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        scene it = scene_for_death();
        for (uint64_t n = 1; n <= 102; n++)
            EQUAL("the ring is filled", put(it.bus, 0, n), EB_OK);
        eb_subscription *old = join(it.bus, EB_OLDEST, false);
        die_at(points[i], 1, send_three, NULL);
        EQUAL("a reader goes on behind what was given up for the dead one's", next(old), 4);
        EQUAL("the three are counted as lost", eb_lost(old), 3);
        EQUAL("the rest can be walked", eb_ring_verify(&it.bus->ring), EB_OK);
        EQUAL("the next publisher goes on", put(it.bus, 0, 103), EB_OK);
        for (int n = 5; n <= 103; n++)
            EQUAL("all others are there", next(old), n);
        leave(old);
        scene_end(&it);
    }
}

static void shut_down(void *with)
{
    (void)with;
    eb_shutdown(victim, EB_POLL);
}

static void a_bus_whose_closer_died_is_closed(void)
{
    scene it = scene_for_death();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("an event is sent", put(it.bus, 0, 1), EB_OK);
    die_at(EB_POINT_shutdown_stored, 1, shut_down, NULL);
    EQUAL("nobody sends any more", put(it.bus, 0, 2), EB_CLOSED);
    EQUAL("what was sent is drained", next(sub), 1);
    EQUAL("then comes the end", eb_receive(sub, 1, EB_FOREVER), EB_CLOSED);
    EQUAL("closing once more is possible", eb_shutdown(it.bus, EB_POLL), EB_OK);
    leave(sub);
    scene_end(&it);
}

static void add_topic(void *with)
{
    (void)with;
    eb_topic(victim, "abandoned", 3, 6, EB_POLL);
}

static void a_topic_whose_writer_died_is_there_or_not(void)
{
    scene it = scene_for_death();
    die_at(EB_POINT_topic_written, 1, add_topic, NULL);
    EQUAL("before its count it is not there", eb_ring_topic_find(&it.bus->ring, 0, "abandoned", 3, 6), EB_NOTHING);
    EQUAL("its entry is used again", eb_topic(it.bus, "other", 1, 4, EB_POLL), 2);
    EQUAL("with the new names", eb_ring_topic_find(&it.bus->ring, 0, "other", 1, 4), 2);
    die_at(EB_POINT_topic_shown, 1, add_topic, NULL);
    EQUAL("after its count it is there", eb_topic(it.bus, "abandoned", 3, 6, EB_POLL), 3);
    scene_end(&it);
}

/* The sums say how many are missing; cut short anywhere, the repair can be done again. */
static void a_repair_counts_exactly_what_is_missing(void)
{
    for (int missing = 0; missing <= 5; missing++) {
        scene it = scene_small();
        make_topics(it.peer, 2);
        for (uint64_t n = 0; n < 6; n++)
            put(it.peer, n % 2, n);
        for (int n = 5; n > 5 - missing; n--)
            atomic_fetch_sub(&it.bus->ring.header->topics[n % 2].count, 1);
        EQUAL("the repair succeeds", eb_ring_repair(&it.bus->ring), EB_OK);
        expect_counts(it.bus, 3, 3);
        EQUAL("once more it changes nothing", eb_ring_repair(&it.bus->ring), EB_OK);
        expect_counts(it.bus, 3, 3);
        scene_end(&it);
    }
}

static void a_repair_refuses_what_cannot_be(void)
{
    scene it = scene_for_death();
    EQUAL("an event is sent", put(it.bus, 0, 1), EB_OK);
    atomic_fetch_add(&it.bus->ring.header->inline_count, 5);
    EQUAL("counters ahead of the sequence are damage", eb_ring_repair(&it.bus->ring), EB_DAMAGED);
    die_at(EB_POINT_publish_locked, 1, send_three, NULL);
    EQUAL("the heir of a dead publisher says so", put(it.bus, 0, 2), EB_DAMAGED);
    EQUAL("and so does everybody after it, without hanging", put(it.bus, 0, 2), EB_DAMAGED);
    EQUAL("readers go on", eb_ring_verify(&it.bus->ring), EB_OK);
    scene_end(&it);
}

static void a_broken_sequence_is_no_ring(void)
{
    scene it = scene_small();
    for (uint64_t n = 1; n <= 3; n++)
        put(it.peer, 0, n);
    eb_u64 *first = (eb_u64 *)(void *)it.bus->ring.data;
    atomic_store(first + RECORD / 8, 9);
    EQUAL("a sequence in the middle that is wrong is found", eb_ring_verify(&it.bus->ring), EB_DAMAGED);
    atomic_store(first + RECORD / 8, 2);
    EQUAL("mended, the ring is whole", eb_ring_verify(&it.bus->ring), EB_OK);
    atomic_store(first + 3 * RECORD / 8, 5);
    EQUAL("the next sequence that is wrong is found", eb_ring_verify(&it.bus->ring), EB_DAMAGED);
    scene_end(&it);
}

/* As after the death of all: the lock is held by nobody alive, the roster names subscribers that are gone. */
static void the_last_one_out_can_be_repaired_alone(void)
{
    scene it = scene_for_death();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("an event is sent", put(it.bus, 0, 1), EB_OK);
    die_at(EB_POINT_publish_committed, 1, send_three, NULL);
    EQUAL("the bus is closed", eb_shutdown(it.bus, EB_POLL), EB_OK);
    eb_subscription_free(sub); /* without a trace, as if it had died */
    EQUAL("the repair succeeds", eb_repair(it.ring_fd, it.roster_fd), EB_OK);
    CHECK("the bus is open again", !eb_closed(it.bus));
    EQUAL("no slot is taken", eb_roster_used(&it.bus->roster), 0);
    EQUAL("it can be used", put(it.bus, 1, 2), EB_OK);
    expect_counts(it.bus, 3, 2);
    eb_subscription *old = join(it.bus, EB_OLDEST, true);
    const int expected[] = {1, 11, 12, 13, 2};
    for (int i = 0; i < 5; i++)
        EQUAL("it holds what was sent before", next(old), expected[i]);
    leave(old);
    scene_end(&it);
}

/* In a ring of 32 GiB, of which nothing is ever touched, a quarter is more than a record's length can count. */
static void an_event_of_more_than_32_bits_is_too_large(void)
{
    if (sizeof(size_t) < 8 || getenv("EB_NO_ROOM")) return; /* set where 64 GiB of addresses cannot be had */
    scene it = scene_of(1ull << 35, 4, 0, 1);
    eb_route route = {.bus = it.peer};
    EQUAL("the limit of any ring", eb_event_limit(it.peer), 1ll << 31);
    EQUAL("a byte too many", eb_send_raw(&route, "/p", 2, "data", (1ull << 31) + 1), EB_TOO_LARGE);
    EQUAL("so many that four are left", eb_send_raw(&route, "/p", 2, "data", (1ull << 32) + 4), EB_TOO_LARGE);
    EQUAL("nothing was sent", sent(it.peer), 0);
    EQUAL("four are sent", eb_send_raw(&route, "/p", 2, "data", 4), EB_OK);
    scene_end(&it);
}

int main(void)
{
    RUN(an_event_of_more_than_32_bits_is_too_large);
    RUN(a_publisher_dead_before_its_commit_leaves_nothing);
    RUN(a_publisher_dead_after_its_commit_leaves_all);
    RUN(a_publisher_dead_in_a_full_ring_leaves_a_whole_one);
    RUN(a_bus_whose_closer_died_is_closed);
    RUN(a_topic_whose_writer_died_is_there_or_not);
    RUN(a_repair_counts_exactly_what_is_missing);
    RUN(a_repair_refuses_what_cannot_be);
    RUN(a_broken_sequence_is_no_ring);
    RUN(the_last_one_out_can_be_repaired_alone);
    return checked();
}
