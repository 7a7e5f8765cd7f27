/* How many events wait: counted beside a receiver, while verdicts are missing, while the ring goes on. */
#include "scene.h"

static void put_with_names(eb_bus *bus)
{
    const eb_outgoing event = {.topic = EB_INLINE, .system_length = 1, .kind_length = 2, .body_length = 3};
    EQUAL("one with names", eb_send_batch(bus, &event, 1, "abc[3]", 6, EB_POLL), EB_OK);
}

static int64_t backlog(eb_subscription *sub)
{
    eb_walk walk = {.count = 0};
    int status = eb_backlog(sub, &walk);
    return status == EB_OK ? (int64_t)walk.count : status;
}

static eb_subscription *join_undecided(eb_bus *bus)
{
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST};
    int status;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a subscription can be made", sub != NULL);
    return sub;
}

static void it_is_what_receive_would_hand_out(void)
{
    scene it = scene_of(CAPACITY, 4, (uint64_t)-1000, 1);
    make_topics(it.bus, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("nothing, at first", backlog(sub), 0);
    for (int n = 1; n <= 300; n++) {
        EQUAL("an event is sent", put(it.peer, 0, (uint64_t)n), EB_OK);
        EQUAL("it waits", backlog(sub), n % 7 ? n % 7 : 7);
        if (n % 7 == 0) EQUAL("all that wait are received", eb_receive(sub, 8, EB_POLL), 7);
    }
    leave(sub);
    scene_end(&it);
}

static void what_is_not_heard_does_not_wait(void)
{
    scene it = scene_small();
    make_topics(it.bus, 2);
    put_many(it.peer, 0, 1, 3);
    eb_subscription *sub = join(it.bus, EB_OLDEST, true), *later = join(it.bus, 2, true);
    eb_decide(sub, 1, 0);
    put_many(it.peer, 1, 1, 4);
    EQUAL("neither topics unheard", backlog(sub), 3);
    EQUAL("nor events before the start", backlog(later), 6);
    leave(sub);
    leave(later);
    scene_end(&it);
}

static void it_asks_for_verdicts_and_goes_on(void)
{
    scene it = scene_small();
    make_topics(it.bus, 2);
    eb_subscription *sub = join_undecided(it.bus);
    put_many(it.peer, 0, 1, 2);
    put_many(it.peer, 1, 1, 3);
    put_with_names(it.peer);
    put_many(it.peer, 0, 1, 1);
    eb_walk walk = {.count = 0};
    EQUAL("the first topic is asked about", eb_backlog(sub, &walk), EB_UNDECIDED);
    CHECK("by number and names", walk.undecided == 0 && walk.system_length == 1 && !memcmp(walk.names, "ak0", 3));
    EQUAL("it is heard", eb_decide(sub, 0, 1), 0);
    EQUAL("the second is asked about", eb_backlog(sub, &walk), EB_UNDECIDED);
    CHECK("with those before it counted", walk.undecided == 1 && walk.count == 2);
    EQUAL("it is not heard", eb_decide(sub, 1, 0), 1);
    EQUAL("the one with names is asked about", eb_backlog(sub, &walk), EB_UNDECIDED);
    CHECK("by them", walk.undecided == EB_INLINE && walk.kind_length == 2 && !memcmp(walk.names, "abc", 3));
    walk.count++; /* it is heard, says the caller */
    EQUAL("the rest is counted", eb_backlog(sub, &walk), EB_OK);
    EQUAL("all that are heard", walk.count, 4);
    leave(sub);
    scene_end(&it);
}

static void what_comes_while_it_counts_is_for_the_next_count(void)
{
    scene it = scene_small();
    make_topics(it.bus, 1);
    eb_subscription *sub = join_undecided(it.bus);
    put_many(it.peer, 0, 1, 3);
    eb_walk walk = {.count = 0};
    EQUAL("it has begun", eb_backlog(sub, &walk), EB_UNDECIDED);
    put_many(it.peer, 0, 1, 5);
    eb_decide(sub, 0, 1);
    EQUAL("it ends", eb_backlog(sub, &walk), EB_OK);
    EQUAL("with those there when it began", walk.count, 3);
    EQUAL("the next count has all", backlog(sub), 8);
    leave(sub);
    scene_end(&it);
}

static void lapped_it_counts_what_the_ring_still_holds(void)
{
    for (uint64_t sent_since = 0; sent_since <= 4 * FULL_RING; sent_since += FULL_RING / 2) {
        scene it = scene_small();
        make_topics(it.bus, 1);
        eb_subscription *sub = join(it.bus, EB_LATEST, false);
        put_many(it.peer, 0, 1, sent_since);
        uint64_t expected = sent_since < FULL_RING ? sent_since : FULL_RING;
        EQUAL("before anybody received", backlog(sub), expected);
        for (uint64_t n = 0; n < expected; n++)
            CHECK("all of them come", next(sub) > 0);
        EQUAL("no other", next(sub), EB_NOTHING);
        EQUAL("and the rest is lost", eb_lost(sub), sent_since - expected);
        leave(sub);
        scene_end(&it);
    }
}

static void lapped_while_it_counts_it_begins_again(void)
{
    const uint64_t laps[] = {FULL_RING - 4, FULL_RING - 3, FULL_RING, 3 * FULL_RING};
    for (int i = 0; i < 4; i++) {
        scene it = scene_small();
        make_topics(it.bus, 2);
        eb_subscription *sub = join_undecided(it.bus);
        eb_decide(sub, 0, 1);
        put_many(it.peer, 0, 1, 2);
        put_many(it.peer, 1, 1, 2); /* the walk halts at the third of four */
        eb_walk walk = {.count = 0};
        EQUAL("it has begun", eb_backlog(sub, &walk), EB_UNDECIDED);
        EQUAL("with two", walk.count, 2);
        put_many(it.peer, 0, 1, laps[i]);
        eb_decide(sub, 1, 1);
        EQUAL("it ends", eb_backlog(sub, &walk), EB_OK);
        uint64_t gone = 4 + laps[i] - FULL_RING;
        EQUAL("with those that are not gone", walk.count, gone <= 2 ? 4 : gone < 4 ? 4 - gone : 0);
        leave(sub);
        scene_end(&it);
    }
}

static void damage_is_no_count(void)
{
    scene it = scene_small();
    make_topics(it.bus, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_many(it.peer, 0, 1, 3);
    eb_u64 *second = (eb_u64 *)(void *)(it.bus->ring.data + RECORD) + EB_WORD_TOPIC;
    uint64_t whole = atomic_exchange(second, 0xFFFFFFFF);
    EQUAL("a length that cannot be", backlog(sub), EB_DAMAGED);
    atomic_store(second, whole);
    EQUAL("mended, all are counted", backlog(sub), 3);
    atomic_store(&it.bus->ring.header->committed, CAPACITY + 64);
    EQUAL("a position that cannot be", backlog(sub), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void the_statistics_say_what_was_sent_and_is_kept(void)
{
    scene it = scene_small();
    make_topics(it.bus, 2);
    eb_stats stats;
    EQUAL("of an empty bus", eb_stats_read(it.peer, &stats), EB_OK);
    CHECK("nothing is used or sent", stats.used == 0 && stats.sent == 0 && !stats.closed && !stats.persist);
    CHECK("its sizes are known", stats.capacity == CAPACITY && stats.max_subscribers == 4 && stats.topics == 2);
    put_many(it.peer, 0, 1, 3 * FULL_RING);
    put_with_names(it.peer);
    eb_bus_persist(it.bus);
    EQUAL("the bus is closed", eb_shutdown(it.peer, EB_POLL), EB_OK);
    EQUAL("of a full one", eb_stats_read(it.peer, &stats), EB_OK);
    CHECK("all sent are counted", stats.sent == 3 * FULL_RING + 1 && stats.inline_sent == 1);
    EQUAL("a ring is kept", stats.used, FULL_RING * RECORD);
    CHECK("it is closed and stays", stats.closed == 1 && stats.persist == 1 && eb_persists(it.roster_fd) == 1);
    scene_end(&it);
}

int main(void)
{
    RUN(it_is_what_receive_would_hand_out);
    RUN(what_is_not_heard_does_not_wait);
    RUN(it_asks_for_verdicts_and_goes_on);
    RUN(what_comes_while_it_counts_is_for_the_next_count);
    RUN(lapped_it_counts_what_the_ring_still_holds);
    RUN(lapped_while_it_counts_it_begins_again);
    RUN(damage_is_no_count);
    RUN(the_statistics_say_what_was_sent_and_is_kept);
    return checked();
}
