/* Groups at moments that only a hand can hold still: a lock that is kept, an event that comes too late to be seen. */
#include "scene.h"

static const eb_group_terms TERMS = {.system = "a", .kind = "**", .name = "g", .start = EB_LATEST, .max_deliveries = 2};

static eb_subscription *join_group(eb_bus *bus)
{
    eb_terms terms = {.system = "a", .kind = "**", .name = "m", .start = EB_OLDEST, .gated = 1, .group = "g"};
    int status;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    for (uint32_t topic = 0; topic < 4; topic++)
        eb_decide(sub, topic, 1);
    return sub;
}

static void a_group_that_cannot_be_made_now_takes_no_slot(void)
{
    scene it = scene_small();
    atomic_store(&it.bus->ring.header->publish_lock, it.peer->token);
    EQUAL("a publisher keeps its lock", eb_group_create(it.bus, &TERMS, EB_POLL), EB_BUSY);
    EQUAL("so there is no group", eb_group_find(it.bus, "g"), EB_NOTHING);
    atomic_store(&it.bus->ring.header->publish_lock, 0);
    EQUAL("when it lets go, there is", eb_group_create(it.bus, &TERMS, EB_POLL), 0);
    EQUAL("in the first slot, which was given back", it.bus->roster.header->groups[0].slot, 0);
    scene_end(&it);
}

static void send_late(void *with)
{
    EQUAL("an event comes late", put(((scene *)with)->peer, 0, 5), EB_OK);
}

static void a_member_sleeps_over_nothing(void)
{
    scene it = scene_small();
    EQUAL("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL), 0);
    eb_subscription *sub = join_group(it.bus);
    int64_t begun = eb_now();
    plan_at(EB_POINT_waiter_raised, 1, send_late, &it);
    int status;
    while ((status = eb_receive(sub, 1, begun + EB_SLICE_NS)) == EB_INTERRUPTED) {
    }
    CHECK("it came when the member had looked and was about to sleep", happened());
    EQUAL("the member has it", status, 1);
    EQUAL("and no other", number_of(sub), 5);
    CHECK("at once", eb_now() - begun < EB_SLICE_NS / 2);
    leave(sub);
    scene_end(&it);
}

static void a_claim_that_was_taken_away_is_damage(void)
{
    scene it = scene_small();
    EQUAL("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL), 0);
    eb_subscription *sub = join_group(it.bus);
    put(it.peer, 0, 1);
    EQUAL("a member has an event in hand", eb_receive(sub, 1, EB_POLL), 1);
    atomic_store(&it.bus->roster.header->groups[0].claims[0].holder, sub->token + 1);
    EQUAL("somebody else has it now", eb_receive(sub, 1, EB_POLL), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(a_group_that_cannot_be_made_now_takes_no_slot);
    RUN(a_member_sleeps_over_nothing);
    RUN(a_claim_that_was_taken_away_is_damage);
    return checked();
}
