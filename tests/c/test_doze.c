/* Waiting in an event loop: whoever dozes is rung once, is told once, and misses nothing; alone, and apart by itself. */
#include "dozing.h"

#define HOUR_NS (3600000 * EB_MILLISECOND)

static eb_bus *sender;

static void send_one(void *with)
{
    EQUAL("an event is sent", put(sender, 0, *(uint64_t *)with), EB_OK);
}

static void interrupt(void *with)
{
    eb_interrupt(with);
}

static void a_process_is_rung_once_for_an_event(void)
{
    scene it = scene_of(CAPACITY, 8, 0, 1);
    eb_bell *bell = hold(it.bus, 0), *other = hold(it.peer, 0);
    eb_subscription *subs[3], *awake = join(it.bus, EB_LATEST, true), *apart = join(it.peer, EB_LATEST, true);
    for (int i = 0; i < 3; i++)
        doze(subs[i] = join(it.bus, EB_LATEST, i > 0));
    doze(apart);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    EQUAL("three that doze are rung once", rings(bell), 1);
    EQUAL("and another process by itself", rings(other), 1);
    EQUAL("all of them are told", told(it.bus), bit_of(subs[0]) | bit_of(subs[1]) | bit_of(subs[2]));
    EQUAL("and the one of the other process", told(it.peer), bit_of(apart));
    EQUAL("another event", put(it.peer, 0, 2), EB_OK);
    EQUAL("rings nobody who has not looked yet", rings(bell) + rings(other), 0);
    for (int i = 0; i < 3; i++) {
        EQUAL("whoever is told", heard(subs[i]), 1);
        EQUAL("finds all", heard(subs[i]), 2);
        leave(subs[i]);
    }
    leave(awake);
    leave(apart);
    eb_bell_release(bell);
    eb_bell_release(other);
    scene_end(&it);
}

static void what_comes_before_it_dozes_is_not_missed(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    const int moments[] = {EB_POINT_doorbell_stored, EB_POINT_waiter_raised};
    for (uint64_t i = 0; i < 2; i++) {
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        uint64_t number = 5 + i;
        sender = it.peer;
        plan_at(moments[i], 1, send_one, &number);
        EQUAL("there is something already", arm(sub), EB_NOTHING);
        CHECK("which was sent meanwhile", happened() && heard(sub) == (int64_t)number);
        CHECK("it leaves no flag behind", !flag_is_up(&it, eb_slot(sub)));
        plan_at(moments[1], 1, interrupt, sub);
        EQUAL("whoever is interrupted meanwhile does not doze", arm(sub), EB_NOTHING);
        EQUAL("and finds the end", heard(sub), EB_CLOSED);
        leave(sub);
    }
    eb_bell_release(bell);
    scene_end(&it);
}

static void send_in_child(void *with)
{
    put(with, 0, 1);
}

/* Whoever lowered the flag died before it rang. */
static void a_lost_ring_costs_a_slice(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    doze(sub);
    EQUAL("it is not late yet", late(it.bus), 0);
    die_at(EB_POINT_wake_lowered, 1, send_in_child, it.peer);
    CHECK("the flag is down and nobody has rung", !flag_is_up(&it, eb_slot(sub)) && rings(bell) == 0);
    EQUAL("whoever is rung for another cause is told of it, too", told(it.bus), bit_of(sub));
    tire(sub);
    EQUAL("when its slice is over it is to look", late(it.bus), bit_of(sub));
    EQUAL("and finds the event", heard(sub), 1);
    doze(sub);
    eb_waiter_lower(&it.bus->roster, eb_slot(sub));
    tire(sub);
    EQUAL("who has missed nothing dozes on", late(it.bus), 0);
    CHECK("its flag raised anew", flag_is_up(&it, eb_slot(sub)) && atomic_load(&sub->until) > eb_now());
    die_at(EB_POINT_bell_rung, 1, send_in_child, it.peer);
    EQUAL("whoever rang and died then has done it", rings(bell), 1);
    EQUAL("and told it", told(it.bus), bit_of(sub));
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* A thread, or another loop: who waits in this one has to lie down anew. */
static void whoever_receives_beside_a_loop_tells_it(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    doze(sub);
    EQUAL("another one looks in vain", next(sub), EB_NOTHING);
    CHECK("which ends the doze", !flag_is_up(&it, eb_slot(sub)));
    CHECK("and is told to the loop", rings(bell) == 1 && told(it.bus) == bit_of(sub));
    doze(sub);
    EQUAL("it dozes anew, told of nothing", told(it.bus), 0);
    EQUAL("a loop that polls", heard(sub), EB_NOTHING);
    CHECK("does not tell itself", rings(bell) == 0 && told(it.bus) == 0);
    pthread_mutex_lock(&sub->turn);
    EQUAL("while another thread receives nobody lies down", arm(sub), EB_BUSY);
    pthread_mutex_unlock(&sub->turn);
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

static void schedule_at(eb_bus *bus, int64_t due)
{
    eb_outgoing event = {.topic = 0, .body_length = 3};
    CHECK("an event is put down", eb_schedule(bus, &event, "[9]", 3, due, EB_POLL) > 0);
}

static void who_dozes_looks_when_something_is_due(void)
{
    scene it = scene_small();
    make_topics(it.peer, 1);
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    int64_t until = 0, due = eb_now() + EB_SLICE_NS - 500 * EB_MILLISECOND; /* not before all of this is over */
    doze(sub);
    schedule_at(it.peer, due);
    CHECK("one of those who doze is told to keep", rings(bell) == 1 && told(it.bus) == bit_of(sub));
    EQUAL("it looks", heard(sub), EB_NOTHING);
    EQUAL("and lies down", eb_arm(sub, 0, &until), EB_OK);
    EQUAL("until then", until, due);
    schedule_at(it.peer, due + EB_MILLISECOND);
    EQUAL("nobody else is told", rings(bell), 0);
    leave(sub);
    sub = join(it.bus, EB_LATEST, true);
    atomic_store(&it.bus->ring.header->kept, eb_kept_until(due));
    doze(sub);
    atomic_store(&it.bus->ring.header->look, 1);
    tire(sub);
    EQUAL("when its slice is over it looks, whoever promised to", late(it.bus), bit_of(sub));
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* As after many events, of which this process has sent none, with no time gone by. */
static void hurry(eb_subscription *sub)
{
    sub->pace =
        (eb_pace){.spin_ns = EB_ADAPTIVE, .taken = 64, .published = eb_published(), .waited_at = eb_now() + HOUR_NS};
}

static void who_naps_in_a_fast_stream_lies_down_afterwards(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    hurry(sub);
    doze(sub);
    CHECK("it asks nobody to ring", !flag_is_up(&it, eb_slot(sub)) && slot_of(it.bus, sub)->doorbell == 0);
    tire(sub);
    EQUAL("soon it looks by itself", late(it.bus), bit_of(sub));
    EQUAL("where nothing came", heard(sub), EB_NOTHING);
    doze(sub);
    CHECK("it asks", flag_is_up(&it, eb_slot(sub)) && slot_of(it.bus, sub)->doorbell == bell->id);
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

static void who_is_interrupted_is_told(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true), *other = join(it.bus, EB_LATEST, true);
    doze(sub);
    doze(other);
    eb_interrupt(sub);
    CHECK("it is rung", rings(bell) == 1);
    EQUAL("it alone is told", told(it.bus), bit_of(sub));
    EQUAL("and finds the end", heard(sub), EB_CLOSED);
    leave(sub);
    eb_disarm(other);
    CHECK("nobody waits any more", !flag_is_up(&it, eb_slot(other)));
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    EQUAL("of which nobody is told", rings(bell), 0);
    leave(other);
    eb_bell_release(bell);
    scene_end(&it);
}

/* --- apart --- */

static bool arm_apart(eb_subscription *sub)
{
    int64_t until = 0;
    int status = eb_arm(sub, 1, &until);
    CHECK("it is armed, or there may be something", status == EB_OK || status == EB_NOTHING);
    return status == EB_OK;
}

static void a_descriptor_tells_of_one_subscription(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true), *other = join(it.bus, EB_LATEST, true);
    int fd = eb_fileno(sub);
    CHECK("there is one, the same each time", fd >= 0 && eb_fileno(sub) == fd && eb_fileno(other) != fd);
    CHECK("nothing is there", arm_apart(sub) && !readable(fd));
    doze(other);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    CHECK("it can be read", readable(fd));
    EQUAL("the bell of the process is rung for the others", told(it.bus), bit_of(other));
    EQUAL("received", heard(sub), 1);
    CHECK("what was told is forgotten", arm_apart(sub) && !readable(fd));
    sender = it.peer;
    uint64_t number = 2;
    plan_at(EB_POINT_waiter_raised, 1, send_one, &number);
    CHECK("what comes meanwhile is there already", !arm_apart(sub) && happened() && heard(sub) == 2);
    CHECK("it is armed", arm_apart(sub));
    eb_interrupt(sub);
    CHECK("whoever is interrupted is told", readable(fd));
    leave(sub);
    leave(other);
    eb_bell_release(bell);
    scene_end(&it);
}

static void tell_it(void *with)
{
    eb_rouse_self(with);
}

/* On a host that stood still meanwhile the event is due before anybody lies down: then once more. */
static void arm_before_it_is_due(eb_bus *peer, eb_subscription *sub)
{
    for (;;) {
        schedule_at(peer, eb_now() + 20 * EB_MILLISECOND);
        if (arm_apart(sub)) return;
        EQUAL("what was due already is sent", heard(sub), 9);
    }
}

static void a_descriptor_can_be_read_when_it_is_time_to_look(void)
{
    scene it = scene_small();
    make_topics(it.peer, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    int fd = eb_fileno(sub);
    arm_before_it_is_due(it.peer, sub);
    await_ring(fd);
    EQUAL("what was due then is sent", heard(sub), 9);
    plan_at(EB_POINT_waiter_raised, 1, tell_it, sub);
    CHECK("what is told while it lies down", arm_apart(sub) && happened());
    CHECK("is not forgotten", readable(fd));
    EQUAL("it was for nothing", heard(sub), EB_NOTHING);
    CHECK("and only once", arm_apart(sub) && !readable(fd));
    pthread_mutex_lock(&sub->turn);
    CHECK("while another thread receives", arm_apart(sub));
    pthread_mutex_unlock(&sub->turn);
    await_ring(fd);
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    alarm(60);
    RUN(a_process_is_rung_once_for_an_event);
    RUN(what_comes_before_it_dozes_is_not_missed);
    RUN(a_lost_ring_costs_a_slice);
    RUN(whoever_receives_beside_a_loop_tells_it);
    RUN(who_dozes_looks_when_something_is_due);
    RUN(who_naps_in_a_fast_stream_lies_down_afterwards);
    RUN(who_is_interrupted_is_told);
    RUN(a_descriptor_tells_of_one_subscription);
    RUN(a_descriptor_can_be_read_when_it_is_time_to_look);
    return checked();
}
