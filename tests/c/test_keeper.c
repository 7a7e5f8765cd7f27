/* Who of those asleep looks when something is to be sent: in time, one for all, and handed over by whoever turns away. */
#include "later.h"

static void publish_one_more(void *with)
{
    put(((scene *)with)->bus, 0, 99);
}

/* Within a slice of sleep, and not before a test is over that has no reason to wait for it. */
static int64_t later(void)
{
    return eb_now() + EB_SLICE_NS - 500 * EB_MILLISECOND;
}

/* Long after the millisecond for which somebody receives meanwhile. */
static void put_down_soon(void *with)
{
    put_down_at(((scene *)with)->peer, 0, 7, eb_now() + 250 * EB_MILLISECOND);
}

/* Receives until something comes. */
static int64_t await_next(eb_subscription *sub)
{
    int status;
    while ((status = eb_receive(sub, 1, EB_FOREVER)) == EB_INTERRUPTED)
        continue;
    return status == 1 ? (int64_t)number_of(sub) : status;
}

/* Where a host stood still, the millisecond was over before it lay down: then once more. */
static void sleep_for_a_moment(eb_subscription *sub)
{
    eb_test_arm(EB_POINT_waiter_raised, 0, 0);
    do
        EQUAL("nothing comes", eb_receive(sub, 1, eb_now() + EB_MILLISECOND), EB_NOTHING);
    while (eb_test_passed(EB_POINT_waiter_raised) == 0);
}

/* As it turns away something is put down that is not due by then. Where a host stood still, it was, or nobody kept: then
 * once more. */
static void keep_for_a_moment(scene *it, eb_subscription *sub)
{
    int status;
    do {
        plan_at(EB_POINT_keeper_cleared, 1, put_down_soon, it);
        status = eb_receive(sub, 1, eb_now() + EB_MILLISECOND);
    } while (status == 1 || !happened());
    EQUAL("nothing comes yet", status, EB_NOTHING);
}

static void who_falls_asleep_is_told_of_what_is_due_sooner(void)
{
    const int moments[] = {EB_POINT_waiter_raised, EB_POINT_keeper_set, EB_POINT_keeper_cleared};
    for (int kept = 0; kept < 2; kept++)
        for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
            if (!kept && i > 0) continue;
            scene it = scene_later();
            eb_subscription *sub = join(it.bus, EB_LATEST, true);
            if (kept) put_down_at(it.peer, 0, 8, later());
            if (i == 2) plan_at(EB_POINT_keeper_set, 1, publish_one_more, &it);
            if (i == 2) EQUAL("it leaves for an event", await_next(sub), 99);
            if (i == 2) keep_for_a_moment(&it, sub);
            else plan_at(moments[i], 1, put_down_soon, &it);
            EQUAL("what was put down meanwhile comes", await_next(sub), 7);
            EQUAL("and not because the other was due by then", waiting(it.bus), kept);
            EQUAL("nobody keeps any more", atomic_load(&it.bus->ring.header->kept), 0);
            leave(sub);
            scene_end(&it);
        }
}

static void one_keeps_for_all(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_u64 *kept = &it.bus->ring.header->kept;
    int64_t due = later();
    put_down_at(it.peer, 0, 7, due);
    const struct {
        const char *what;
        uint64_t kept;
        int keeps;
    } all[] = {{"who sleeps while another one keeps does not", eb_kept_until(due), 0},
               {"nor while another one looks earlier", (uint64_t)due - 1, 0},
               {"one that looks too late is as good as none", eb_kept_until(due) + 1, 1},
               {"nor is one whose time has come", 1, 1},
               {"and where nobody keeps, somebody has to", 0, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        atomic_store(kept, all[i].kept);
        eb_test_arm(EB_POINT_keeper_set, 0, 0);
        sleep_for_a_moment(sub);
        EQUAL(all[i].what, eb_test_passed(EB_POINT_keeper_set), all[i].keeps);
        EQUAL("whoever kept leaves no promise behind", atomic_load(kept), all[i].keeps ? 0 : all[i].kept);
    }
    leave(sub);
    scene_end(&it);
}

static void who_may_only_subscribe_neither_keeps_nor_sends(void)
{
    scene it = scene_later();
    int status;
    eb_bus *reader = bus_open(it.ring_fd, it.roster_fd, 0, &status);
    eb_subscription *sub = join(reader, EB_LATEST, true);
    put_down_at(it.peer, 0, 7, later());
    eb_test_arm(EB_POINT_keeper_set, 0, 0);
    sleep_for_a_moment(sub);
    EQUAL("it does not keep", eb_test_passed(EB_POINT_keeper_set), 0);
    make_due(it.bus, 0, 1);
    EQUAL("nor send", next(sub), EB_NOTHING);
    EQUAL("who may send does", eb_fire_due(it.peer, EB_POLL), true);
    EQUAL("then it comes", next(sub), 7);
    leave(sub);
    eb_bus_free(reader);
    scene_end(&it);
}

/* As one that sleeps looks to others. */
static void fall_asleep(eb_subscription *sub)
{
    eb_waiter_raise(&sub->bus->roster, eb_slot(sub));
}

static void who_turns_to_an_event_hands_over_to_one_that_sleeps(void)
{
    for (int other = 0; other < 5; other++) {
        scene it = scene_later();
        int status;
        eb_bus *reader = bus_open(it.ring_fd, it.roster_fd, 0, &status);
        eb_subscription *first = join(it.bus, EB_LATEST, true);
        eb_subscription *second = join(other == 4 ? reader : it.peer, EB_LATEST, true);
        if (other != 1) fall_asleep(second);
        if (other == 2) die_with(second);
        int64_t due = later();
        if (other == 3) atomic_store(&it.bus->ring.header->kept, eb_kept_until(due));
        put_down_at(it.peer, 0, 7, due);
        atomic_store(&slot_of(it.bus, second)->semaphore, 0);
        EQUAL("an event is committed", put(it.bus, 1, 5), EB_OK);
        atomic_store(&slot_of(it.bus, second)->semaphore, 0);
        if (other != 1) fall_asleep(second);
        EQUAL("the first one takes it", next(first), 5);
        bool woken = atomic_load(&slot_of(it.bus, second)->semaphore) != 0;
        EQUAL("the second is woken if it sleeps, lives, may send, and nobody keeps", woken, other == 0);
        leave(first);
        if (other != 2) leave(second);
        else eb_subscription_free(second);
        eb_bus_free(reader);
        scene_end(&it);
    }
}

static void a_member_that_sleeps_is_told(void)
{
    const eb_group_terms terms = {.name = "g", .system = "a", .kind = "**", .start = EB_LATEST};
    for (int asleep = 0; asleep < 2; asleep++) {
        scene it = scene_later();
        int status, group = eb_group_create(it.bus, &terms, EB_POLL);
        eb_terms member = {.system = "a", .kind = "**", .name = "m", .start = EB_LATEST, .group = "g"};
        eb_subscription *sub = subscribe(it.bus, &member, EB_POLL, &status);
        eb_group *of = &it.bus->roster.header->groups[group];
        eb_u32 *semaphore = &it.bus->roster.header->slots[eb_group_slot(of, &it.bus->roster)].semaphore;
        if (asleep) eb_asleep_set(of, eb_slot(sub), true);
        put_down_at(it.peer, 0, 7, later());
        EQUAL("one of those asleep, if there is one", atomic_load(semaphore), asleep);
        leave(sub);
        scene_end(&it);
    }
}

int main(void)
{
    RUN(who_falls_asleep_is_told_of_what_is_due_sooner);
    RUN(one_keeps_for_all);
    RUN(who_may_only_subscribe_neither_keeps_nor_sends);
    RUN(who_turns_to_an_event_hands_over_to_one_that_sleeps);
    RUN(a_member_that_sleeps_is_told);
    return checked();
}
