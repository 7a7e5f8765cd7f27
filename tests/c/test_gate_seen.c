/* What others see of a member's slot while it looks at something, or begins or ends to: whose it is does not change by that. */
#include "viewing.h"

#include <pthread.h>

static const eb_group_terms TERMS = {.name = "g", .system = "a.*", .kind = "**", .max_deliveries = 9};

static scene scene_of_group(void)
{
    scene it = scene_of(ROOM, 8, 0, 1);
    make_topics(it.bus, 2);
    CHECK("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL) >= 0);
    return it;
}

static eb_subscription *join_member(eb_bus *bus)
{
    eb_terms terms = {.system = "a.*", .kind = "**", .name = "member", .group = "g", .manual = 1, .views = 1};
    int status = EB_SYSTEM;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    eb_decide(sub, 0, 1);
    return sub;
}

static void what_it_does_not_hear_is_told_meanwhile(void)
{
    scene it = scene_of_group();
    eb_subscription *sub = join_member(it.bus);
    put_all(it.peer, 1, 1);
    EQUAL("an event", eb_receive(sub, 4, EB_POLL), 1);
    CHECK("it looks", is_gated(&it, sub));
    EQUAL("one of another topic", put(it.peer, 1, 1), EB_OK);
    EQUAL("it is asked", eb_receive(sub, 4, EB_POLL), EB_UNDECIDED);
    EQUAL("it does not hear that", eb_decide(sub, 1, 0), 1);
    uint32_t slot = atomic_load(&it.bus->roster.header->groups[0].slot);
    CHECK("publishers are told", eb_slot_deaf(&it.peer->roster, slot, 1));
    leave(sub);
    scene_end(&it);
}

static _Atomic bool over;

static void *look_again_and_again(void *with)
{
    scene *it = with;
    eb_subscription *sub = it->bus->subscriptions;
    for (uint64_t seed = 1; !atomic_load(&over); seed++) {
        put_all(it->bus, seed, seed);
        EQUAL("an event", eb_receive(sub, 1, EB_POLL), 1);
        EQUAL("done", eb_ack_event(sub, eb_batch_of(sub)->sequence[0]), EB_OK);
    }
    return NULL;
}

static void it_can_be_read_at_any_time(void)
{
    scene it = scene_of_group();
    eb_subscription *sub = join_member(it.bus);
    uint32_t slot = eb_slot(sub);
    eb_subscriber_info info;
    pthread_t looker;
    EQUAL("a thread can be made", pthread_create(&looker, NULL, look_again_and_again, &it), 0);
    for (int i = 0; i < 100000; i++)
        CHECK("it is there", eb_subscriber(it.peer, slot, &info) == 1);
    atomic_store(&over, true);
    pthread_join(looker, NULL);
    leave(sub);
    scene_end(&it);
}

/* What it looked at before is as good as gone; what comes is copied, and the slot is another's. */
static void robbed_of_its_slot_it_looks_at_no_more(void)
{
    scene it = scene_of_group();
    eb_subscription *sub = join_member(it.bus);
    put_all(it.peer, 1, 1);
    EQUAL("an event", eb_receive(sub, 4, EB_POLL), 1);
    CHECK("it looks", is_gated(&it, sub));
    uint32_t slot = eb_slot(sub);
    close(sub->file.fd);
    CHECK("it is reaped", eb_bus_reap(it.peer, EB_POLL) > 0);
    eb_subscription *heir = join_views(it.peer, EB_LATEST);
    EQUAL("another one has its slot", eb_slot(heir), slot);
    uint64_t position = atomic_load(&slot_of(it.bus, heir)->position);
    put_all(it.peer, 2, 2);
    int status = eb_receive(sub, 4, EB_POLL);
    CHECK("whatever it is told", status == EB_ROBBED || status == 1);
    CHECK("it has no view", status != 1 || !eb_batch_of(sub)->beside[0].view);
    EQUAL("the other's figure is its own", atomic_load(&slot_of(it.bus, heir)->position), position);
    leave(sub);
    leave(heir);
    scene_end(&it);
}

int main(void)
{
    if (has_windows()) {
        RUN(what_it_does_not_hear_is_told_meanwhile);
        RUN(it_can_be_read_at_any_time);
        RUN(robbed_of_its_slot_it_looks_at_no_more);
    }
    return checked();
}
