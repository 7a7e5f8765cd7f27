/* Sending at once: what others of the process wait for is done or left alone, and never waited for; and dead in the middle. */
#include "later.h"
#include "direct.h"

static int at_once(eb_bus *bus, uint32_t topic, uint64_t number)
{
    char text[32];
    snprintf(text, sizeof text, "[%llu]", (unsigned long long)number);
    return eb_send_at_once(&(eb_route){.bus = bus, .topic = topic}, text);
}

static int raw_at_once(eb_bus *bus, const char *path, const char *data, size_t length)
{
    return eb_send_raw_at_once(&(eb_route){.bus = bus}, path, strlen(path), data, length);
}

static void expect_left_alone(scene *it, const char *why, int status, uint64_t before)
{
    EQUAL(why, status, EB_INTERRUPTED);
    CHECK("nothing was sent", sent(it->bus) == before);
    EQUAL("the lock is free", atomic_load(&it->bus->ring.header->publish_lock), 0);
}

static void what_is_sent_is_heard(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("JSON is sent", at_once(it.peer, 0, 7), EB_OK);
    EQUAL("and raw data", raw_at_once(it.peer, "/p", "data", 4), EB_OK);
    EQUAL("it is heard", next(sub), 7);
    EQUAL("they too", eb_receive(sub, 1, EB_POLL), 1);
    const eb_beside *beside = eb_batch_of(sub)->beside;
    CHECK("as they are",
          beside->data_length == 4 && memcmp(eb_batch_of(sub)->buffer + beside->offset, "/pdata", 6) == 0);
    EQUAL("each is counted", eb_topic_count(it.bus, 0), 2);
    leave(sub);
    scene_end(&it);
}

static void whoever_sleeps_is_owed_a_wake(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    EQUAL("it is sent", at_once(it.peer, 0, 1), EB_OWED);
    CHECK("nobody was woken yet", atomic_load(&it.bus->roster.header->waiters[0].bits) != 0);
    eb_send_owed(&(eb_route){.bus = it.peer});
    EQUAL("then it is", atomic_load(&it.bus->roster.header->waiters[0].bits), 0);
    EQUAL("nobody sleeps any more", at_once(it.peer, 0, 2), EB_OK);
    EQUAL("the first is heard", next(sub), 1);
    EQUAL("and the second", next(sub), 2);
    leave(sub);
    scene_end(&it);
}

static void whoever_sleeps_is_found_in_any_slot(void)
{
    enum { SLOTS = 130 };
    scene it = scene_of(1 << 20, SLOTS, 0, 1);
    make_topics(it.peer, 2);
    eb_subscription *subs[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        subs[i] = join(it.bus, EB_LATEST, false);
    for (int i = 0; i < SLOTS; i++) {
        eb_waiter_raise(&it.bus->roster, eb_slot(subs[i]));
        EQUAL("it is owed", at_once(it.peer, 0, 1), EB_OWED);
        eb_send_owed(&(eb_route){.bus = it.peer});
        EQUAL("and was woken", at_once(it.peer, 0, 2), EB_OK);
    }
    for (int i = 0; i < SLOTS; i++)
        leave(subs[i]);
    scene_end(&it);
}

static void what_is_due_is_owed_too(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_down(it.peer, 1, 5);
    EQUAL("what is due in an hour is not", at_once(it.peer, 0, 1), EB_OK);
    make_due(it.bus, 0, 1);
    EQUAL("what is due is", at_once(it.peer, 0, 2), EB_OWED);
    eb_send_owed(&(eb_route){.bus = it.peer});
    EQUAL("the first is heard", next(sub), 1);
    EQUAL("the second", next(sub), 2);
    EQUAL("and what was due, after them", next(sub), 5);
    leave(sub);
    scene_end(&it);
}

static void what_would_wait_is_left_alone(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("another one has the lock", eb_bus_lock_publish(it.bus, EB_POLL), EB_OK);
    EQUAL("it is not waited for", at_once(it.peer, 0, 1), EB_INTERRUPTED);
    eb_queue_up(it.bus, RECORD);
    eb_bus_unlock_publish(it.bus);
    expect_left_alone(&it, "somebody's turn is first", at_once(it.peer, 0, 1), 0);
    eb_bus_lock_publish(it.bus, EB_POLL);
    eb_queue_leave(it.bus);
    eb_bus_unlock_publish(it.bus);
    uint64_t n = 0;
    while (at_once(it.peer, 0, n + 1) == EB_OK)
        n++;
    CHECK("some have room", n > FULL_RING / 2 && n < FULL_RING);
    expect_left_alone(&it, "there is no more room", at_once(it.peer, 0, n + 1), n);
    for (uint64_t i = 1; i <= n; i++)
        EQUAL("what was sent is heard", next(sub), (int64_t)i);
    EQUAL("then nothing is", next(sub), EB_NOTHING);
    expect_left_alone(&it, "the room that there is now is found by who may look", at_once(it.peer, 0, n + 1), n);
    EQUAL("who does", put(it.peer, 0, n + 1), EB_OK);
    EQUAL("has it for all", at_once(it.peer, 0, n + 2), EB_OK);
    leave(sub);
    scene_end(&it);
}

static void whose_turn_it_is_gives_it_up_where_others_see_it(void)
{
    scene it = scene_later();
    eb_bus_lock_publish(it.peer, EB_POLL);
    eb_queue_up(it.peer, RECORD); /* as of a send that a signal ended while it waited for room */
    eb_bus_unlock_publish(it.peer);
    expect_left_alone(&it, "its turn is for the way that may wait", at_once(it.peer, 0, 1), 0);
    EQUAL("which sends", put(it.peer, 0, 1), EB_OK);
    EQUAL("and keeps no room from others", atomic_load(&it.bus->ring.header->queued), 0);
    EQUAL("then all can be sent at once again", at_once(it.peer, 0, 2), EB_OK);
    scene_end(&it);
}

/* Behind it is nothing that could be read. */
static char *text_without_end(size_t length)
{
    char *begin =
        mmap(NULL, length + (size_t)getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK("there is memory", begin != MAP_FAILED);
    CHECK("its end is one", mprotect(begin + length, (size_t)getpagesize(), PROT_NONE) == 0);
    memset(begin, '1', length);
    return begin;
}

static void nobody_waits_for_the_end_of_a_long_text(void)
{
    scene it = scene_of(1 << 20, 4, 0, 1);
    make_topics(it.peer, 1);
    size_t length = 4 * (size_t)getpagesize();
    char *text = text_without_end(length);
    memcpy(text, "[\"/\",", 5);
    expect_left_alone(&it, "it is long", eb_send_at_once(&(eb_route){.bus = it.peer}, text), 0);
    munmap(text, length + (size_t)getpagesize());
    scene_end(&it);
}

static void what_is_long_or_wrong_is_left_alone(void)
{
    scene it = scene_of(1 << 20, 4, 0, 1);
    make_topics(it.peer, 1);
    char long_data[4097] = {0};
    EQUAL("4096 bytes are short", raw_at_once(it.peer, "/p", long_data, 4096), EB_OK);
    expect_left_alone(&it, "4097 are long", raw_at_once(it.peer, "/p", long_data, 4097), 1);
    expect_left_alone(&it, "no such topic can be", at_once(it.peer, EB_TOPICS, 1), 1);
    EQUAL("the bus is closed", eb_shutdown(it.bus, EB_POLL), EB_OK);
    expect_left_alone(&it, "a closed bus", at_once(it.peer, 0, 1), 1);
    scene_end(&it);
}

static eb_bus *victim;

static void send_one(void *with)
{
    (void)with;
    at_once(victim, 0, 11);
}

static void its_publisher_may_die_anywhere(void)
{
    const struct {
        int point;
        bool there;
    } deaths[] = {
        {EB_POINT_lock_taken, false},     {EB_POINT_publish_locked, false}, {EB_POINT_publish_claimed, false},
        {EB_POINT_publish_header, false}, {EB_POINT_publish_copied, false}, {EB_POINT_publish_committed, true},
        {EB_POINT_publish_counted, true}, {EB_POINT_lock_released, true},   {EB_POINT_publish_unlocked, true}};
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        scene it = scene_later();
        victim = it.peer;
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        die_at(deaths[i].point, 1, send_one, NULL);
        EQUAL("the next one takes the lock over", put(it.bus, 0, 12), EB_OK);
        if (deaths[i].there) EQUAL("what was committed is heard", next(sub), 11);
        EQUAL("and what comes after", next(sub), 12);
        EQUAL("and no more", next(sub), EB_NOTHING);
        EQUAL("the ring is whole", eb_ring_verify(&it.bus->ring), EB_OK);
        EQUAL("each event is counted once", eb_topic_count(it.bus, 0), 1 + deaths[i].there);
        leave(sub);
        scene_end(&it);
    }
}

int main(void)
{
    RUN(what_is_sent_is_heard);
    RUN(whoever_sleeps_is_owed_a_wake);
    RUN(whoever_sleeps_is_found_in_any_slot);
    RUN(what_is_due_is_owed_too);
    RUN(what_would_wait_is_left_alone);
    RUN(whose_turn_it_is_gives_it_up_where_others_see_it);
    RUN(nobody_waits_for_the_end_of_a_long_text);
    RUN(what_is_long_or_wrong_is_left_alone);
    RUN(its_publisher_may_die_anywhere);
    return checked();
}
