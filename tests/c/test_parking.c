/* Parking: what is held for long leaves the ring when it is in the way, and not before; it is read from where it went; and with
 * a parking that is full it holds the ring. */
#include "parked.h"

/* --- when --- */

static void a_held_event_leaves_the_ring_when_it_is_in_the_way(void)
{
    scene it = scene_large();
    eb_subscription *holder = hold_one(&it, 100, 7);
    uint64_t position = atomic_load(place_of(&it, 0));
    bool fits = true;
    while (fits) {
        fits = committed_of(&it) + RECORD + 8 - position <= EB_OUTSIDERS_SHARE(ROOM);
        CHECK("the ring goes on", pass_one(&it));
        EQUAL("it is parked when the next event has no room, and not before", is_parked(&it, 0), !fits);
    }
    EQUAL("it takes a record's bytes of it", eb_parked(it.bus), EB_RECORD_BYTES(100));
    go_round(&it);
    EQUAL("it is still in hand", eb_ack_event(holder, 1), EB_OK);
    EQUAL("acknowledged, it leaves the parking", eb_parked(it.bus), 0);
    leave(holder);
    scene_end(&it);
}

static void what_leaves_room_is_not_parked(void)
{
    scene it = scene_large();
    eb_subscription *holder = hold_one(&it, 100, 7);
    while (committed_of(&it) - atomic_load(place_of(&it, 0)) < ROOM / 2)
        CHECK("the ring goes on", pass_one(&it));
    EQUAL("another event is sent", put(it.peer, 0, 2), EB_OK);
    EQUAL("and in hand", eb_receive(holder, 8, EB_POLL), 1);
    EQUAL("the first one is acknowledged", eb_ack_event(holder, 1), EB_OK);
    uint64_t second = atomic_load(place_of(&it, 1));
    while (committed_of(&it) + RECORD + 8 - second <= EB_OUTSIDERS_SHARE(ROOM)) {
        CHECK("the ring goes on", pass_one(&it));
        EQUAL("which the group passes over", eb_receive(holder, 8, EB_POLL), EB_NOTHING);
        CHECK("the second one is not in the way", !is_parked(&it, 1));
    }
    CHECK("until it is", pass_one(&it) && is_parked(&it, 1));
    leave(holder);
    scene_end(&it);
}

static void what_others_hold_back_is_not_parked(void)
{
    scene it = scene_large();
    eb_subscription *plain = join_as(it.bus, EB_LATEST, true, "plain"), *holder = hold_one(&it, 100, 7);
    go_until_full(&it);
    CHECK("to park it would make no room", !is_parked(&it, 0));
    while (next(plain) != EB_NOTHING)
        continue;
    go_until_full(&it);
    CHECK("when the other one has read, it does", is_parked(&it, 0));
    leave(plain);
    leave(holder);
    scene_end(&it);
}

static void what_waits_for_its_time_is_parked_too(void)
{
    scene it = scene_large();
    eb_subscription *holder = hold_one(&it, 100, 7), *other = join_group(it.bus, false);
    EQUAL("it is given back for later", eb_reject_event(holder, 1, 3600000000000ll), EB_OK);
    go_round(&it);
    CHECK("it is parked", is_parked(&it, 0));
    EQUAL("nobody has it before its time", eb_receive(other, 1, EB_POLL), EB_NOTHING);
    atomic_store(&it.bus->roster.header->pages[0].terms[0].since, (uint64_t)eb_now());
    expect_next(other, 100, 7, 2);
    leave(holder);
    leave(other);
    scene_end(&it);
}

/* --- read from there --- */

static void another_member_reads_it_from_the_parking(void)
{
    for (int how = 0; how < 3; how++) {
        scene it = scene_large();
        eb_subscription *holder = hold_one(&it, 100, 7), *other = join_group(it.bus, true);
        go_round(&it);
        CHECK("it is parked", is_parked(&it, 0));
        give_back(holder, how);
        atomic_store(&group_of(&it)->checked_at, 0); /* whether somebody died is looked at every few milliseconds */
        expect_next(other, 100, 7, 2);
        go_round(&it);
        EQUAL("it is the other's now", eb_ack_event(holder, 1), how == 2 ? EB_ROBBED : EB_NOTHING);
        EQUAL("who can acknowledge it", eb_ack_event(other, 1), EB_OK);
        EQUAL("it leaves the parking", eb_parked(it.bus), 0);
        leave(holder);
        leave(other);
        scene_end(&it);
    }
}

static void the_largest_event_can_be_parked(void)
{
    scene it = scene_large();
    EQUAL("it is as large as may be", EB_RECORD_BYTES(LARGEST), eb_event_limit(it.bus));
    EQUAL("a larger one is not sent", put_sized(it.peer, 0, LARGEST + 1, 7), EB_TOO_LARGE);
    eb_subscription *holder = hold_one(&it, LARGEST, 7), *other = join_group(it.bus, false);
    go_round(&it);
    EQUAL("it fills the parking", eb_parked(it.bus), it.bus->ring.parking_bytes);
    give_back(holder, 0);
    expect_next(other, LARGEST, 7, 2);
    leave(holder);
    leave(other);
    scene_end(&it);
}

static void who_opens_the_bus_again_finds_what_is_parked(void)
{
    for (int scribbled = 0; scribbled < 2; scribbled++) {
        scene it = scene_large();
        eb_subscription *holder = hold_one(&it, 100, 7);
        go_round(&it);
        die_with(holder);
        if (scribbled) atomic_store(place_of(&it, 0), ROOM / 4 - EB_PARKING_BLOCK + EB_PARKED);
        EQUAL("what is left is looked through", eb_repair(it.ring_fd, it.roster_fd), scribbled ? EB_DAMAGED : EB_OK);
        eb_subscription *other = join_group(it.bus, false);
        if (!scribbled) expect_next(other, 100, 7, 2);
        leave(other);
        eb_subscription_free(holder);
        scene_end(&it);
    }
}

/* --- full --- */

static void a_full_parking_holds_the_ring(void)
{
    enum { FITTING = 3, HELD = 5 };
    scene it = scene_large();
    eb_subscription *holder = join_group(it.bus, true);
    for (uint64_t i = 1; i <= HELD; i++)
        EQUAL("an event is sent", put_sized(it.peer, 0, LONG, i), EB_OK);
    EQUAL("a member has them all", eb_receive(holder, 8, EB_POLL), HELD);
    go_until_full(&it);
    for (uint32_t claim = 0; claim < HELD; claim++)
        EQUAL("the oldest are parked, as many as there is room for", is_parked(&it, claim), claim < FITTING);
    EQUAL("the next one holds the ring", put(it.peer, 1, 1), EB_FULL);
    uint64_t first = atomic_load(place_of(&it, 0)), slot = atomic_load(&group_of(&it)->slot);
    EQUAL("which is the group's", eb_slowest(it.bus), slot);
    EQUAL("one that is parked is acknowledged", eb_ack_event(holder, 1), EB_OK);
    EQUAL("so there is room", put(it.peer, 1, 1), EB_OK);
    EQUAL("of that which has taken its place", atomic_load(place_of(&it, FITTING)), first);
    go_until_full(&it);
    CHECK("until the next one is in the way", !is_parked(&it, HELD - 1));
    EQUAL("which is acknowledged in the ring", eb_ack_event(holder, HELD), EB_OK);
    go_round(&it);
    for (uint64_t i = 2; i < HELD; i++)
        EQUAL("the others are given back", eb_reject_event(holder, i, 0), EB_OK);
    eb_subscription *other = join_group(it.bus, true);
    for (uint64_t i = 2; i < HELD; i++) {
        EQUAL("and come again", eb_receive(other, (int)i - 1, EB_POLL), 1);
        CHECK("each as it was sent", holds_pattern(eb_batch_of(other), LONG, i));
    }
    leave(holder);
    leave(other);
    scene_end(&it);
}

int main(void)
{
    RUN(a_held_event_leaves_the_ring_when_it_is_in_the_way);
    RUN(what_leaves_room_is_not_parked);
    RUN(what_others_hold_back_is_not_parked);
    RUN(what_waits_for_its_time_is_parked_too);
    RUN(another_member_reads_it_from_the_parking);
    RUN(the_largest_event_can_be_parked);
    RUN(who_opens_the_bus_again_finds_what_is_parked);
    RUN(a_full_parking_holds_the_ring);
    return checked();
}
