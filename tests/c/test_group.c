/* Who of a group is woken: a wake-up that was meant for all is not lost with the one that got it. */
#include "scene.h"

static eb_subscription *join_group(eb_bus *bus)
{
    eb_group_terms group = {.name = "g", .system = "a.*", .kind = "**", .start = EB_LATEST};
    int number = eb_group_create(bus, &group, EB_POLL), status = EB_SYSTEM;
    CHECK("a group is made once", number == 0);
    eb_terms terms = {.system = "a.*", .kind = "**", .name = "", .spin_ns = 0, .group = "g"};
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    for (uint32_t topic = 0; topic < 8; topic++)
        eb_decide(sub, topic, 1);
    return sub;
}

static bool flag_is_up(const scene *it)
{
    uint32_t slot = it->bus->roster.header->groups[0].slot;
    return atomic_load(&it->bus->roster.header->waiters[slot / 64].bits) >> (slot % 64) & 1;
}

static bool woken(const scene *it)
{
    return atomic_exchange(&it->bus->roster.header->slots[it->bus->roster.header->groups[0].slot].semaphore, 0) != 0;
}

/* One member sleeps; another was woken, the flag went down with that, and a third one took the event. */
static void a_deadline_does_not_end_a_wake_up_for_all(void)
{
    scene it = scene_small();
    eb_subscription *hurried = join_group(it.bus), *sleeper = join_group(it.bus), *worker = join_group(it.bus);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    EQUAL("and taken by one who looks", next(worker), 1);
    CHECK("nobody sleeps, so nobody is to be woken", !flag_is_up(&it) && !woken(&it));
    eb_asleep_set(sleeper->group, eb_slot(sleeper), true);
    EQUAL("who was woken for it gets nothing before its deadline", eb_receive(hurried, 1, EB_POLL), EB_NOTHING);
    CHECK("the next event wakes the one that still sleeps", flag_is_up(&it));
    CHECK("which is woken to watch over the one that works", woken(&it));
    EQUAL("when that one is done", next(worker), EB_NOTHING);
    EQUAL("and another deadline is over", eb_receive(hurried, 1, EB_POLL), EB_NOTHING);
    CHECK("nobody is woken for nothing", flag_is_up(&it) && !woken(&it));
    leave(hurried);
    leave(sleeper);
    leave(worker);
    scene_end(&it);
}

int main(void)
{
    RUN(a_deadline_does_not_end_a_wake_up_for_all);
    return checked();
}
