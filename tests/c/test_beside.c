/* What one thread gives up while another one leaves with it, at moments that are made by hand. */
#include "scene.h"

static void give_up(void *sub)
{
    eb_subscription_free(sub);
}

static void a_subscription_that_is_freed_while_its_bus_is_left(void)
{
    scene it = scene_small();
    plan_at(EB_POINT_slot_left, 1, give_up, join(it.bus, EB_LATEST, true));
    EQUAL("the bus is left", eb_bus_leave(it.bus, EB_POLL), EB_OK);
    CHECK("and its subscription was freed in the middle", happened());
    EQUAL("with it its slot was given back", eb_bus_reap(it.peer, EB_POLL), 0);
    scene_end(&it);
}

static void begun_before_a_fork_it_is_the_parent_s(void)
{
    scene it = scene_small();
    eb_subscription *sub = eb_subscription_new(it.bus);
    eb_fork_begins();
    pid_t child = fork();
    eb_fork_ends();
    if (child == 0) {
        eb_terms terms = {.system = "a", .kind = "**", .name = "", .start = EB_LATEST};
        int status = eb_subscribe(sub, &terms, EB_POLL);
        eb_subscription_free(sub);
        _exit(status == EB_INHERITED && !it.bus->subscriptions ? 0 : 1);
    }
    int ended = -1;
    CHECK("the child can be waited for", waitpid(child, &ended, 0) == child);
    EQUAL("a child that goes on with it is told, and keeps nothing of it", ended, 0);
    eb_subscription_free(sub);
    scene_end(&it);
}

static void a_hook_that_forks(void)
{
    scene it = scene_small();
    eb_fork_begins();
    eb_fork_begins(); /* in a hook of the first, as a signal handler may */
    eb_fork_ends();
    pid_t child = fork();
    if (child == 0) _exit(eb_bus_check(it.bus) == EB_OK ? 0 : 1);
    eb_fork_ends();
    int ended = -1;
    CHECK("the child can be waited for", waitpid(child, &ended, 0) == child);
    EQUAL("the fork around it is Python's still", ended, 0);
    scene_end(&it);
}

int main(void)
{
    RUN(a_subscription_that_is_freed_while_its_bus_is_left);
    RUN(begun_before_a_fork_it_is_the_parent_s);
    RUN(a_hook_that_forks);
    return checked();
}
