/* Waiting in an event loop as a member of a group, with full hands, and where no socket can be had, with a thread. */
#include "dozing.h"

typedef struct {
    scene it;
    eb_bell *bells[2]; /* of the bus and of the peer */
    eb_subscription *here, *there;
} pair;

/* A member in each of two processes. */
static pair pair_of(int silent)
{
    pair both = {.it = scene_of(CAPACITY, 8, 0, 1)};
    both.bells[0] = hold(both.it.bus, silent);
    both.bells[1] = hold(both.it.peer, silent);
    both.here = join_group(both.it.bus, false);
    both.there = join_group(both.it.peer, false);
    return both;
}

static void pair_end(pair *both)
{
    leave(both->here);
    leave(both->there);
    eb_bell_release(both->bells[0]);
    eb_bell_release(both->bells[1]);
    scene_end(&both->it);
}

static uint32_t gate_of(const pair *both)
{
    return both->it.bus->roster.header->groups[0].slot;
}

static bool is_asleep(const eb_subscription *member)
{
    return atomic_load(&member->group->asleep[eb_slot(member) / 64]) >> (eb_slot(member) % 64) & 1;
}

/* --- members --- */

static void one_of_those_who_doze_is_rung(void)
{
    pair both = pair_of(0);
    doze(both.here);
    doze(both.there);
    EQUAL("an event is sent", put(both.it.peer, 0, 1), EB_OK);
    EQUAL("the first is rung", rings(both.bells[0]), 1);
    EQUAL("and no other one", rings(both.bells[1]), 0);
    EQUAL("it is told", told(both.it.bus), bit_of(both.here));
    EQUAL("and takes the event", heard(both.here), 1);
    CHECK("the next one wakes another", flag_is_up(&both.it, gate_of(&both)));
    EQUAL("which is rung to watch over it", told(both.it.peer), bit_of(both.there));
    EQUAL("in vain", heard(both.there), EB_NOTHING);
    doze(both.there);
    EQUAL("another event", put(both.it.peer, 0, 2), EB_OK);
    CHECK("rings it", rings(both.bells[1]) == 1 && heard(both.there) == 2);
    pair_end(&both);
}

static void a_dead_one_is_passed_by(void)
{
    pair both = pair_of(0);
    doze(both.here);
    doze(both.there);
    atomic_store(&both.here->slot->doorbell, both.bells[0]->id + 1);
    EQUAL("an event is sent", put(both.it.peer, 0, 1), EB_OK);
    CHECK("the next one is rung", rings(both.bells[1]) == 1 && told(both.it.peer) == bit_of(both.there));
    EQUAL("and takes it", heard(both.there), 1);
    pair_end(&both);
}

static void whoever_gives_up_passes_on_what_it_was_told(void)
{
    pair both = pair_of(0);
    doze(both.here);
    doze(both.there);
    EQUAL("an event is sent", put(both.it.peer, 0, 1), EB_OK);
    EQUAL("one is told", told(both.it.bus), bit_of(both.here));
    eb_disarm(both.here);
    CHECK("it gives up, and another one is rung", !is_asleep(both.here) && told(both.it.peer) == bit_of(both.there));
    EQUAL("which takes it", heard(both.there), 1);
    doze(both.there);
    doze(both.here);
    EQUAL("another event", put(both.it.peer, 0, 2), EB_OK);
    leave(both.here);
    CHECK("whoever leaves passes on, too", told(both.it.peer) == bit_of(both.there) && heard(both.there) == 2);
    both.here = join_group(both.it.bus, false);
    pair_end(&both);
}

/* Posted when nobody slept, as it is for whoever has just got up. */
static void what_the_semaphore_remembers_is_said_to_whoever_lies_down(void)
{
    pair both = pair_of(0);
    atomic_store(group_semaphore(&both.it), 1);
    EQUAL("there may be something", arm(both.here), EB_NOTHING);
    doze(both.here);
    eb_relay_wake(both.there, false);
    CHECK("so whoever is to be woken afterwards is",
          rings(both.bells[0]) == 1 && told(both.it.bus) == bit_of(both.here));
    eb_relay_wake(both.there, false);
    EQUAL("once until it looks", rings(both.bells[0]), 0);
    EQUAL("it looks", heard(both.here), EB_NOTHING);
    EQUAL("which is what was said", atomic_load(group_semaphore(&both.it)), 0);
    doze(both.here);
    doze(both.there);
    eb_relay_wake(both.there, true);
    CHECK("all are rung at the end",
          told(both.it.bus) == bit_of(both.here) && told(both.it.peer) == bit_of(both.there));
    pair_end(&both);
}

/* A group that is removed ends for those who doze. */
static void all_who_doze_are_told_of_the_end(void)
{
    pair both = pair_of(0);
    doze(both.here);
    doze(both.there);
    EQUAL("the group is removed", eb_group_remove(both.it.peer, "g", EB_POLL), EB_OK);
    CHECK("all are told", told(both.it.bus) == bit_of(both.here) && told(both.it.peer) == bit_of(both.there));
    EQUAL("one finds the end", heard(both.here), EB_CLOSED);
    EQUAL("and the other", heard(both.there), EB_CLOSED);
    pair_end(&both);
}

/* --- with full hands --- */

static void who_is_done_with_an_event_by_asking_has_no_full_hands(void)
{
    pair both = pair_of(0);
    EQUAL("an event is sent", put(both.it.peer, 0, 1), EB_OK);
    EQUAL("and in hand", heard(both.here), 1);
    doze(both.here);
    EQUAL("another event", put(both.it.peer, 0, 2), EB_OK);
    CHECK("is told", rings(both.bells[0]) == 1 && told(both.it.bus) == bit_of(both.here) && heard(both.here) == 2);
    pair_end(&both);
}

static void who_has_full_hands_is_told_when_one_is_finished(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *member = join_group(it.bus, true);
    put_many(it.peer, 0, 1, 3);
    EQUAL("it has one", heard(member), 1);
    eb_batch_of(member)->head.handed = 1;
    EQUAL("and may have no more", heard(member), EB_NOTHING);
    doze(member);
    CHECK("it is not among those asleep", !is_asleep(member) && rings(bell) == 0);
    EQUAL("it finishes the event", eb_ack_event(member, 1), EB_OK);
    CHECK("and is told", readable(eb_bell_fd(bell)) && told(it.bus) == bit_of(member));
    EQUAL("there is another", heard(member), 2);
    eb_batch_of(member)->head.handed = 1;
    doze(member);
    EQUAL("which it gives back", eb_reject_event(member, 2, 0), EB_OK);
    CHECK("of which it is told, too", readable(eb_bell_fd(bell)) && told(it.bus) == bit_of(member));
    leave(member);
    eb_bell_release(bell);
    scene_end(&it);
}

/* --- without sockets --- */

static void where_there_is_no_socket_a_thread_waits(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("it is none that others ring", bell->id, 0);
    for (uint64_t n = 1; n <= 20; n++) {
        doze(sub);
        EQUAL("an event is sent", put(it.peer, 0, n), EB_OK);
        await_ring(eb_bell_fd(bell));
        EQUAL("who waits is told", told(it.bus), bit_of(sub));
        EQUAL("and receives", heard(sub), (int64_t)n);
    }
    doze(sub);
    eb_interrupt(sub);
    await_ring(eb_bell_fd(bell));
    CHECK("whoever is interrupted is told", told(it.bus) == bit_of(sub) && heard(sub) == EB_CLOSED);
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* A descriptor by itself, with a thread. */
static void apart_a_thread_waits_as_well(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    int fd = eb_fileno(sub);
    int64_t until = 0;
    for (uint64_t n = 1; n <= 20; n++) {
        int status = EB_NOTHING; /* what the thread told late of the time before */
        while ((status = eb_arm(sub, 1, &until)) == EB_NOTHING)
            EQUAL("nothing is there", heard(sub), EB_NOTHING);
        EQUAL("it is armed", status, EB_OK);
        EQUAL("an event is sent", put(it.peer, 0, n), EB_OK);
        await_ring(fd);
        EQUAL("it can be read, and there is", heard(sub), (int64_t)n);
    }
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* Somebody attached cannot ring: from the next time on a thread waits, whatever there is. */
static void who_cannot_ring_is_heard_all_the_same(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    CHECK("there is a socket", bell->id != 0);
    doze(sub);
    EQUAL("which is its doorbell", atomic_load(&sub->slot->doorbell), bell->id);
    atomic_store(&it.bus->roster.header->mute, 1);
    EQUAL("it looks", heard(sub), EB_NOTHING);
    doze(sub);
    EQUAL("and has none", atomic_load(&sub->slot->doorbell), 0);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    await_ring(eb_bell_fd(bell));
    CHECK("a thread has told it", told(it.bus) == bit_of(sub) && heard(sub) == 1);
    eb_bell *quiet = hold(it.peer, 0);
    EQUAL("nobody makes a socket now", quiet->id, 0);
    eb_bell_release(quiet);
    eb_roster_clear(&it.bus->roster);
    EQUAL("once all are gone that is forgotten", atomic_load(&it.bus->roster.header->mute), 0);
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* The thread of one who has got up leaves what is said to the others. */
static void a_thread_that_rests_takes_nothing_from_others(void)
{
    pair both = pair_of(1);
    doze(both.here);
    EQUAL("it gets up", heard(both.here), EB_NOTHING);
    doze(both.there);
    for (uint64_t n = 1; n <= 20; n++) {
        EQUAL("an event is sent", put(both.it.peer, 0, n), EB_OK);
        await_ring(eb_bell_fd(both.bells[1]));
        CHECK("the one who waits is told", told(both.it.peer) == bit_of(both.there));
        EQUAL("and takes it", heard(both.there), (int64_t)n);
        doze(both.there);
    }
    EQUAL("nobody else was", told(both.it.bus), 0);
    pair_end(&both);
}

int main(void)
{
    alarm(60);
    RUN(one_of_those_who_doze_is_rung);
    RUN(a_dead_one_is_passed_by);
    RUN(whoever_gives_up_passes_on_what_it_was_told);
    RUN(what_the_semaphore_remembers_is_said_to_whoever_lies_down);
    RUN(all_who_doze_are_told_of_the_end);
    RUN(who_is_done_with_an_event_by_asking_has_no_full_hands);
    RUN(who_has_full_hands_is_told_when_one_is_finished);
    RUN(where_there_is_no_socket_a_thread_waits);
    RUN(apart_a_thread_waits_as_well);
    RUN(who_cannot_ring_is_heard_all_the_same);
    RUN(a_thread_that_rests_takes_nothing_from_others);
    return checked();
}
