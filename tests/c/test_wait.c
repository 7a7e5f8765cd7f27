/* Sleeping and waking: no wake-up is lost, whatever comes between two looks; who is left asleep, and who is not. */
#include "scene.h"

#define PAST 1 /* a deadline long over: whoever would sleep until it says so at once */

static eb_u32 *semaphore_of(const scene *it, const eb_subscription *sub)
{
    return &it->bus->roster.header->slots[eb_slot(sub)].semaphore;
}

static bool asleep(const scene *it, const eb_subscription *sub)
{
    return atomic_load(&it->bus->roster.header->waiters[eb_slot(sub) / 64].bits) >> (eb_slot(sub) % 64) & 1;
}

static bool woken(const scene *it, const eb_subscription *sub)
{
    return atomic_exchange(semaphore_of(it, sub), 0) != 0;
}

static void a_semaphore_remembers_one_post(void)
{
    eb_u32 semaphore = 0;
    EQUAL("without a post the time is up", eb_semaphore_wait(&semaphore, PAST), EB_NOTHING);
    eb_semaphore_post(&semaphore);
    eb_semaphore_post(&semaphore);
    EQUAL("posted before the wait, it wakes", eb_semaphore_wait(&semaphore, PAST), EB_OK);
    EQUAL("once", eb_semaphore_wait(&semaphore, PAST), EB_NOTHING);
    atomic_store(&semaphore, 0xDEADBEEF);
    EQUAL("any value but zero is a post", eb_semaphore_wait(&semaphore, PAST), EB_OK);
}

/* Every order of one waiter's three steps and one poster's: sleep only if nothing was posted since `prepare`. */
static void an_event_count_loses_no_post(void)
{
    eb_event_count count = {.epoch = UINT32_MAX};
    eb_event_post(&count);
    EQUAL("with nobody counted in, a post is nothing", atomic_load(&count.epoch), UINT32_MAX);
    uint32_t epoch = eb_event_prepare(&count);
    EQUAL("without a post the time is up", eb_event_wait(&count, epoch, PAST), EB_NOTHING);
    eb_event_post(&count);
    EQUAL("a post after prepare ends the wait, also across the epoch's wrap", eb_event_wait(&count, epoch, PAST),
          EB_OK);
    eb_event_post(&count);
    EQUAL("a post wakes all, so the next needs a new waiter", atomic_load(&count.epoch), 0);
    uint32_t first = eb_event_prepare(&count), second = eb_event_prepare(&count);
    eb_event_post(&count);
    EQUAL("two waiters hear one post", eb_event_wait(&count, first, PAST), EB_OK);
    EQUAL("both", eb_event_wait(&count, second, PAST), EB_OK);
    atomic_store(&count.waiters, 0xFFFFFFFF);
    epoch = atomic_load(&count.epoch);
    eb_event_post(&count);
    EQUAL("any value but zero is a waiter", eb_event_wait(&count, epoch, PAST), EB_OK);
}

static void a_deadline_is_a_poll_a_time_or_never(void)
{
    int64_t now = eb_now();
    CHECK("a poll is over", eb_over(EB_POLL));
    CHECK("for ever is not", !eb_over(EB_FOREVER));
    CHECK("now is over by now", eb_over(now));
    CHECK("an hour from now is not", !eb_over(now + 3600000 * EB_MILLISECOND));
    EQUAL("a deadline before the slice's end comes first", eb_sooner(now + 1, EB_SLICE_NS), now + 1);
    CHECK("else the slice's end", eb_sooner(EB_FOREVER, EB_SLICE_NS) >= now + EB_SLICE_NS);
}

/* The publisher comes between the raised flag and the second look. */
static eb_bus *sender;

static void send_one(void *with)
{
    EQUAL("an event is sent", put(sender, 0, *(uint64_t *)with), EB_OK);
}

static void close_bus(void *with)
{
    EQUAL("the bus is closed", eb_shutdown(with, EB_POLL), EB_OK);
}

static void interrupt_subscription(void *with)
{
    eb_interrupt(with);
}

static void interrupt_bus(void *with)
{
    eb_bus_interrupt(with);
}

static void what_comes_before_the_sleep_is_not_slept_through(void)
{
    for (int gated = 0; gated < 2; gated++) {
        scene it = scene_small();
        eb_subscription *sub = join(it.bus, EB_LATEST, gated);
        uint64_t number = 5;
        sender = it.peer;
        plan_at(EB_POINT_waiter_raised, 1, send_one, &number);
        EQUAL("an event", eb_receive(sub, 1, EB_FOREVER), 1);
        CHECK("sent after the flag was raised", happened() && number_of(sub) == 5);
        CHECK("leaves no flag behind", !asleep(&it, sub));
        plan_at(EB_POINT_waiter_raised, 1, close_bus, it.peer);
        EQUAL("the end", eb_receive(sub, 1, EB_FOREVER), EB_CLOSED);
        leave(sub);
        scene_end(&it);
    }
}

static void whoever_is_interrupted_before_it_sleeps_does_not(void)
{
    scene it = scene_small();
    eb_subscription *one = join(it.bus, EB_LATEST, true), *other = join(it.bus, EB_LATEST, true);
    plan_at(EB_POINT_waiter_raised, 1, interrupt_subscription, one);
    EQUAL("a subscription", eb_receive(one, 1, EB_FOREVER), EB_CLOSED);
    EQUAL("now and later", eb_receive(one, 1, EB_POLL), EB_CLOSED);
    EQUAL("not another one", eb_receive(other, 1, EB_POLL), EB_NOTHING);
    plan_at(EB_POINT_waiter_raised, 1, interrupt_bus, it.bus);
    EQUAL("a bus", eb_receive(other, 1, EB_FOREVER), EB_CLOSED);
    leave(one);
    leave(other);
    scene_end(&it);
}

/* As Python calls it: again after each turn of the signal handlers. */
static int received(eb_subscription *sub, int64_t deadline)
{
    int status = EB_INTERRUPTED;
    while (status == EB_INTERRUPTED)
        status = eb_receive(sub, 1, deadline);
    return status;
}

/* An old post, or one for another cause, is no event. */
static void a_needless_wake_up_is_no_event(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    uint64_t number = 6;
    eb_semaphore_post(semaphore_of(&it, sub));
    sender = it.peer;
    plan_at(EB_POINT_waiter_raised, 2, send_one, &number);
    EQUAL("it is a turn for signal handlers", eb_receive(sub, 1, EB_FOREVER), EB_INTERRUPTED);
    EQUAL("called again, it sleeps and gets the next one", received(sub, EB_FOREVER), 1);
    CHECK("which came at its second wait", happened() && number_of(sub) == 6);
    EQUAL("a time that is up is nothing", received(sub, eb_now() + EB_MILLISECOND), EB_NOTHING);
    CHECK("and leaves no flag behind", !asleep(&it, sub));
    leave(sub);
    scene_end(&it);
}

static void a_publisher_wakes_each_sleeper_once(void)
{
    scene it = scene_of(CAPACITY, 130, 0, 1);
    eb_subscription *subs[130];
    for (int i = 0; i < 130; i++)
        subs[i] = join(it.bus, EB_LATEST, false);
    for (int i = 0; i < 130; i += 3)
        eb_waiter_raise(&it.bus->roster, eb_slot(subs[i]));
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    for (int i = 0; i < 130; i++) {
        CHECK("who slept, in any word of the set, is woken; who did not, is not", woken(&it, subs[i]) == (i % 3 == 0));
        CHECK("nobody is asleep any more", !asleep(&it, subs[i]));
    }
    EQUAL("another is sent", put(it.peer, 0, 2), EB_OK);
    for (int i = 0; i < 130; i++) {
        CHECK("nobody is woken who has not said that it sleeps", !woken(&it, subs[i]));
        leave(subs[i]);
    }
    scene_end(&it);
}

static void the_deaf_are_left_asleep_until_they_lag_by_half_a_ring(void)
{
    scene it = scene_small();
    make_topics(it.bus, 2);
    eb_subscription *sub = join(it.bus, EB_LATEST, false);
    eb_decide(sub, 0, 0);
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    for (uint64_t n = 1; n <= CAPACITY / 2 / RECORD; n++) {
        EQUAL("an event that it will not hear", put(it.peer, 0, n), EB_OK);
        CHECK("lets it sleep", asleep(&it, sub) && !woken(&it, sub));
    }
    EQUAL("the one past half a ring", put(it.peer, 0, 99), EB_OK);
    CHECK("wakes it, before it is lapped", !asleep(&it, sub) && woken(&it, sub));
    EQUAL("it skips all", next(sub), EB_NOTHING);
    eb_subscription *gated = join(it.bus, EB_LATEST, true);
    eb_decide(gated, 0, 0);
    eb_waiter_raise(&it.bus->roster, eb_slot(gated));
    put_many(it.peer, 0, 1, 3 * FULL_RING);
    CHECK("a gated one sleeps on: its cursor is moved for it", asleep(&it, gated) && !woken(&it, gated));
    leave(gated);
    while (next(sub) != EB_NOTHING)
        continue;
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    EQUAL("one that it hears", put(it.peer, 1, 1), EB_OK);
    CHECK("wakes it at once", woken(&it, sub));
    const eb_outgoing both[] = {{.topic = 0, .body_length = 3}, {.topic = 1, .body_length = 3}};
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    EQUAL("a batch with one that it hears", eb_send_batch(it.peer, both, 2, "[1][2]", 6, EB_POLL), EB_OK);
    CHECK("too", woken(&it, sub));
    const eb_outgoing unnamed = {.topic = EB_INLINE, .system_length = 1, .kind_length = 1, .body_length = 3};
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    EQUAL("one that carries its names", eb_send_batch(it.peer, &unnamed, 1, "ab[3]", 5, EB_POLL), EB_OK);
    CHECK("too: nobody is deaf to what he does not know", woken(&it, sub));
    leave(sub);
    scene_end(&it);
}

static void send_in_child(void *with)
{
    put(with, 0, 1);
}

/* It lowered the flag and died: the sleeper raises it again when its slice ends. */
static void a_publisher_that_dies_while_it_wakes_costs_a_slice(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    die_at(EB_POINT_wake_lowered, 1, send_in_child, it.peer);
    CHECK("the flag is down and nobody was woken", !asleep(&it, sub) && !woken(&it, sub));
    EQUAL("whoever looks again finds the event", next(sub), 1);
    eb_waiter_raise(&it.bus->roster, eb_slot(sub));
    die_at(EB_POINT_wake_posted, 1, send_in_child, it.peer);
    CHECK("after the post it is woken", woken(&it, sub));
    EQUAL("and finds the event", next(sub), 1);
    leave(sub);
    scene_end(&it);
}

static void who_waits_for_subscribers_misses_none(void)
{
    scene it = scene_small();
    uint32_t epoch = eb_roster_epoch(it.peer);
    EQUAL("nobody came", eb_roster_wait(it.peer, epoch, PAST), EB_NOTHING);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("one came since", eb_roster_wait(it.peer, epoch, PAST), EB_OK);
    epoch = eb_roster_epoch(it.peer);
    leave(sub);
    EQUAL("one went since", eb_roster_wait(it.peer, epoch, PAST), EB_OK);
    epoch = eb_roster_epoch(it.peer);
    eb_bus_interrupt(it.peer);
    EQUAL("an interrupted bus waits no more", eb_roster_wait(it.peer, epoch, EB_FOREVER), EB_CLOSED);
    scene_end(&it);
}

int main(void)
{
    RUN(a_semaphore_remembers_one_post);
    RUN(an_event_count_loses_no_post);
    RUN(a_deadline_is_a_poll_a_time_or_never);
    RUN(what_comes_before_the_sleep_is_not_slept_through);
    RUN(whoever_is_interrupted_before_it_sleeps_does_not);
    RUN(a_needless_wake_up_is_no_event);
    RUN(a_publisher_wakes_each_sleeper_once);
    RUN(the_deaf_are_left_asleep_until_they_lag_by_half_a_ring);
    RUN(a_publisher_that_dies_while_it_wakes_costs_a_slice);
    RUN(who_waits_for_subscribers_misses_none);
    return checked();
}
