/* Groups at moments that only a hand can hold still: a lock that is kept, an event that comes too late to be seen. */
#include "scene.h"

static const eb_group_terms TERMS = {.system = "a", .kind = "**", .name = "g", .start = EB_LATEST, .max_deliveries = 2};

static eb_subscription *join_as_reader(eb_bus *bus, bool one_by_one)
{
    eb_terms terms = {.system = "a",
                      .kind = "**",
                      .name = "m",
                      .start = EB_OLDEST,
                      .gated = 1,
                      .group = "g",
                      .one_by_one = one_by_one};
    int status;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    for (uint32_t topic = 0; topic < 4; topic++)
        eb_decide(sub, topic, 1);
    return sub;
}

static eb_subscription *join_group(eb_bus *bus)
{
    return join_as_reader(bus, false);
}

/* As a reader does that tells of each event. */
static void hand_out(eb_subscription *sub, uint32_t count)
{
    eb_batch *batch = eb_batch_of(sub);
    for (uint32_t i = 0; i < count; i++)
        *batch->handed_out[i] = (batch->deliveries[i] - 1) | EB_HANDED_OUT;
    batch->head.handed = count;
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
    plan_at(EB_POINT_waiter_raised, 1, send_late, &it);
    int status, slept = 0;
    while ((status = eb_receive(sub, 1, EB_FOREVER)) == EB_INTERRUPTED)
        slept += happened();
    CHECK("it came when the member had looked and was about to sleep", happened());
    EQUAL("the member has it", status, 1);
    EQUAL("and no other", number_of(sub), 5);
    EQUAL("without the end of a sleep", slept, 0);
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
    atomic_store(eb_claim_holder(&it.bus->roster, 0), sub->token + 1);
    EQUAL("somebody else has it now", eb_receive(sub, 1, EB_POLL), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void who_joins_and_fetches(void *with)
{
    EQUAL("a child has them", eb_receive(join_as_reader(with, true), 3, EB_POLL), 3);
    eb_test_point(EB_POINT_room_made);
}

/* How it goes that has fetched three events: in order after it has handed out so many, or by death, in the order of `ends`. */
static void what_was_only_fetched_was_not_delivered(void)
{
    static const struct {
        int handed;
        bool one_by_one;
        uint32_t deliveries[3];
    } ends[] = {
        {0, true, {1, 1, 1}}, {1, true, {2, 1, 1}}, {2, true, {2, 2, 1}}, {0, false, {2, 2, 2}}, {-1, true, {2, 1, 1}}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        scene it = scene_small();
        EQUAL("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL), 0);
        make_topics(it.bus, 1);
        put_many(it.peer, 0, 1, 3);
        if (ends[i].handed < 0) {
            die_at(EB_POINT_room_made, 1, who_joins_and_fetches, it.bus);
        } else {
            eb_subscription *sub = join_as_reader(it.bus, ends[i].one_by_one);
            EQUAL("a member has them", eb_receive(sub, 3, EB_POLL), 3);
            if (ends[i].one_by_one) hand_out(sub, (uint32_t)ends[i].handed);
            leave(sub);
        }
        eb_subscription *next = join_group(it.bus);
        atomic_store(&it.bus->roster.header->groups[0].checked_at, 0);
        EQUAL("the next one has them", eb_receive(next, 3, EB_POLL), 3);
        for (int event = 0; event < 3; event++)
            EQUAL("each counts for itself", eb_batch_of(next)->deliveries[event], ends[i].deliveries[event]);
        leave(next);
        scene_end(&it);
    }
}

/* The claim is another's by the time at which who finished it leaves. */
static void who_leaves_takes_back_nothing_of_others(void)
{
    scene it = scene_small();
    EQUAL("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL), 0);
    eb_subscription *reader = join_as_reader(it.bus, true), *other = join_group(it.bus), *next = join_group(it.bus);
    put_many(it.peer, 0, 1, 1);
    EQUAL("a member has an event", eb_receive(reader, 1, EB_POLL), 1);
    EQUAL("which it finishes, and hands out to nobody", eb_ack_event(reader, 1), EB_OK);
    put_many(it.peer, 0, 2, 2);
    EQUAL("another one has the next event, by the same claim", eb_receive(other, 1, EB_POLL), 1);
    EQUAL("which is the only one", eb_claim_from(&it.bus->roster, reader->group, 1), EB_NOTHING);
    leave(reader);
    leave(other);
    EQUAL("it comes again", eb_receive(next, 1, EB_POLL), 1);
    EQUAL("and is counted", eb_batch_of(next)->deliveries[0], 2);
    leave(next);
    scene_end(&it);
}

int main(void)
{
    RUN(what_was_only_fetched_was_not_delivered);
    RUN(who_leaves_takes_back_nothing_of_others);
    RUN(a_group_that_cannot_be_made_now_takes_no_slot);
    RUN(a_member_sleeps_over_nothing);
    RUN(a_claim_that_was_taken_away_is_damage);
    return checked();
}
