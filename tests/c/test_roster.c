/* Slots, generations, liveness, reaping, attachments, the door; and a roster over which somebody scribbled. */
#include "scene.h"

#include <fcntl.h>

static uint64_t owner(const scene *it, uint32_t slot)
{
    return atomic_load(&it->bus->roster.header->slots[slot].owner);
}

static uint64_t generation(const scene *it, uint32_t slot)
{
    return owner(it, slot) >> 8;
}

static int reap(const scene *it)
{
    EQUAL("the roster lock is free", eb_bus_lock_roster(it->peer, EB_POLL), EB_OK);
    int reaped = eb_roster_reap(&it->peer->roster);
    eb_bus_unlock_roster(it->peer);
    return reaped;
}

static void a_slot_has_a_new_generation_at_every_claim_and_end(void)
{
    scene it = scene_small();
    for (uint64_t round = 0; round < 3; round++) {
        EQUAL("it is free", owner(&it, 0) & EB_SLOT_STATE, EB_SLOT_FREE);
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        EQUAL("the lowest free slot is taken", eb_slot(sub), 0);
        EQUAL("it is open and gated", owner(&it, 0) & 0xFF, EB_SLOT_OPEN | EB_SLOT_GATED);
        EQUAL("claimed, its generation moved", generation(&it, 0), 2 * round + 1);
        leave(sub);
        EQUAL("ended, it moved again", generation(&it, 0), 2 * round + 2);
    }
    scene_end(&it);
}

static void the_slots_are_counted(void)
{
    scene it = scene_of(CAPACITY, 3, 0, 1);
    eb_subscription *subs[3];
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST};
    int status;
    for (uint32_t i = 0; i < 3; i++) {
        subs[i] = join(i % 2 ? it.peer : it.bus, EB_LATEST, false);
        EQUAL("each has its own", eb_slot(subs[i]), i);
    }
    CHECK("a fourth has none", !subscribe(it.bus, &terms, EB_POLL, &status));
    EQUAL("and is told so", status, EB_NO_SLOT);
    leave(subs[1]);
    subs[1] = join(it.bus, EB_LATEST, false);
    EQUAL("one given back is taken again", eb_slot(subs[1]), 1);
    for (int i = 0; i < 3; i++)
        leave(subs[i]);
    EQUAL("the roster lock was given back each time", eb_bus_lock_roster(it.peer, EB_POLL), EB_OK);
    eb_bus_unlock_roster(it.peer);
    scene_end(&it);
}

static void what_a_subscriber_says_of_itself_can_be_read(void)
{
    scene it = scene_small();
    eb_subscription *sub = join_as(it.bus, EB_LATEST, true, "worker-1");
    eb_subscriber_info info;
    put(it.peer, 0, 1);
    put(it.peer, 0, 2);
    EQUAL("a live one is there", eb_subscriber(it.peer, 0, &info), 1);
    CHECK("with its words", !strcmp(info.name, "worker-1") && !strcmp(info.system, "a.*") && !strcmp(info.kind, "**"));
    CHECK("and numbers",
          eb_waiting(it.peer, 0) == 2 && info.lost == 0 && info.pid == (uint32_t)getpid() && info.gated == 1);
    EQUAL("awake", info.sleeping, 0);
    eb_waiter_raise(&it.bus->roster, 0);
    EQUAL("its slot is read again", eb_subscriber(it.peer, 0, &info), 1);
    EQUAL("asleep", info.sleeping, 1);
    EQUAL("a slot never taken has nobody", eb_subscriber(it.peer, 1, &info), 0);
    EQUAL("nor has one that does not exist", eb_subscriber(it.peer, 4096, &info), 0);
    eb_slot_t *slot = slot_of(it.bus, sub);
    memset((void *)slot->name, 'x', sizeof slot->name + sizeof slot->system + sizeof slot->kind);
    slot->name_length = 255;
    slot->system_length = slot->kind_length = UINT16_MAX;
    EQUAL("lengths that cannot be are bounded", eb_subscriber(it.peer, 0, &info), 1);
    EQUAL("to a name's limit", strlen(info.name), EB_LABEL_LIMIT);
    EQUAL("and to a pattern's", strlen(info.system) + strlen(info.kind), 2 * EB_PATTERN_LIMIT);
    atomic_store(&slot->position, UINT64_MAX - 7);
    EQUAL("of a position that cannot be, all that is kept", eb_waiting(it.peer, 0), 2);
    leave(sub);
    EQUAL("who left is not there", eb_subscriber(it.peer, 0, &info), 0);
    scene_end(&it);
}

static void only_the_dead_are_reaped(void)
{
    scene it = scene_small();
    eb_subscription *alive = join(it.bus, EB_LATEST, true), *dead = join(it.bus, EB_LATEST, true);
    eb_waiter_raise(&it.bus->roster, eb_slot(dead));
    EQUAL("while both live there is nobody", reap(&it), 0);
    uint64_t before = generation(&it, 1);
    die_with(dead); /* the kernel drops its lock, as at its death */
    EQUAL("the dead one is", reap(&it), 1);
    EQUAL("its generation moved on", generation(&it, 1), before + 1);
    EQUAL("its slot is free", owner(&it, 1) & EB_SLOT_STATE, EB_SLOT_FREE);
    CHECK("it waits no more", !eb_waiter_lower(&it.bus->roster, 1));
    EQUAL("once", reap(&it), 0);
    CHECK("the other lives", eb_slot_alive(&it.peer->roster, 0));
    eb_subscription_free(dead);
    leave(alive);
    scene_end(&it);
}

static void whoever_was_reaped_leaves_its_heir_alone(void)
{
    scene it = scene_small();
    eb_subscription *first = join(it.bus, EB_LATEST, true);
    eb_slot_free(&it.peer->roster, 0); /* as if it had been thought dead */
    uint64_t freed = owner(&it, 0);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    EQUAL("it notices before it gives its cursor back", next(first), EB_DAMAGED);
    leave(first);
    EQUAL("and does not touch the slot when it leaves", owner(&it, 0), freed);
    scene_end(&it);
}

static void join_in_child(void *with)
{
    eb_bus *bus = with;
    leave(join(bus, EB_LATEST, true));
}

static void a_slot_whose_owner_died_half_way_is_taken_again(void)
{
    const int points[] = {EB_POINT_slot_locked, EB_POINT_slot_claimed, EB_POINT_slot_cursor, EB_POINT_slot_open,
                          EB_POINT_slot_freed};
    for (int i = 0; i < 5; i++) {
        scene it = scene_small();
        die_at(points[i], 1, join_in_child, it.bus);
        CHECK("nobody lives there", !eb_slot_alive(&it.bus->roster, 0));
        eb_subscription *heir = join(it.peer, EB_LATEST, true);
        EQUAL("the next one takes it without a reaper", eb_slot(heir), 0);
        EQUAL("an event is sent", put(it.bus, 0, 7), EB_OK);
        EQUAL("and heard", next(heir), 7);
        leave(heir);
        scene_end(&it);
    }
}

static void reap_in_child(void *with)
{
    eb_bus *bus = with;
    eb_bus_lock_roster(bus, EB_POLL);
    eb_roster_reap(&bus->roster);
}

static void a_reaper_that_dies_leaves_its_work_to_the_next(void)
{
    for (int i = 0; i < 2; i++) {
        scene it = scene_small();
        eb_subscription *dead = join(it.bus, EB_LATEST, true);
        die_with(dead);
        die_at(i ? EB_POINT_reap_freed : EB_POINT_reap_found, 1, reap_in_child, it.peer);
        EQUAL("what it did not free the next one frees", reap(&it), i ? 0 : 1);
        eb_subscription_free(dead);
        scene_end(&it);
    }
}

static void a_cursor_that_cannot_be_holds_nobody_up(void)
{
    scene it = scene_small();
    for (uint64_t n = 0; n < 200; n++)
        put(it.peer, 0, n);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    uint64_t committed = atomic_load(&it.bus->ring.header->committed);
    const uint64_t cursors[] = {committed + 8, committed - CAPACITY - 8, 0, UINT64_MAX, 1ull << 63};
    for (int i = 0; i < 5; i++) {
        int slowest;
        atomic_store(&slot_of(it.bus, sub)->cursor, cursors[i]);
        EQUAL("it is no gate", eb_roster_gate(&it.bus->roster, committed, CAPACITY, &slowest), committed);
        EQUAL("and names nobody", slowest, -1);
    }
    for (uint64_t n = 0; n < 200; n++)
        EQUAL("publishers go on", put(it.peer, 0, n), EB_OK);
    EQUAL("the subscriber is told", next(sub), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void a_number_of_used_slots_that_cannot_be_is_bounded(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    atomic_store(&it.bus->roster.header->used_slots, 0xFFFFFFFF);
    EQUAL("there are no more than the roster has", eb_roster_used(&it.bus->roster), 4);
    EQUAL("publishers go on", put(it.peer, 0, 1), EB_OK);
    EQUAL("nobody is reaped that lives", reap(&it), 0);
    for (int i = 0; i < EB_WAITER_WORDS; i++)
        atomic_store(&it.bus->roster.header->waiters[i].bits, UINT64_MAX);
    EQUAL("waiters without a slot are passed over", put(it.peer, 0, 2), EB_OK);
    atomic_store(&it.bus->roster.header->used_slots, 0);
    for (uint64_t n = 0; n < 200; n++)
        EQUAL("with none in use nobody holds publishers up", put(it.peer, 0, n), EB_OK);
    EQUAL("whoever was overrun so is told", next(sub), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void the_roster_lock_is_waited_for_until_the_deadline(void)
{
    scene it = scene_small();
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST};
    int status;
    EQUAL("one holds it", eb_bus_lock_roster(it.bus, EB_POLL), EB_OK);
    CHECK("no other joins", !subscribe(it.peer, &terms, EB_POLL, &status));
    EQUAL("and is told why", status, EB_BUSY);
    EQUAL("nor in another thread of the same process", eb_bus_lock_roster(it.bus, EB_POLL), EB_BUSY);
    eb_bus_unlock_roster(it.bus);
    leave(join(it.peer, EB_LATEST, true));
    scene_end(&it);
}

static void the_publish_lock_of_the_living_is_not_taken(void)
{
    scene it = scene_small();
    eb_u64 *lock = &it.bus->ring.header->publish_lock;
    EQUAL("one has it", eb_bus_lock_publish(it.bus, EB_POLL), EB_OK);
    EQUAL("its word says who", atomic_load(lock), it.bus->token);
    EQUAL("another attachment does not get it", eb_bus_lock_publish(it.peer, EB_POLL), EB_BUSY);
    EQUAL("nor does another thread of the same", eb_bus_lock_publish(it.bus, EB_POLL), EB_BUSY);
    eb_bus_unlock_publish(it.bus);
    EQUAL("given back, it is to be had", eb_bus_lock_publish(it.peer, EB_POLL), EB_OK);
    eb_bus_unlock_publish(it.peer);
    atomic_store(lock, ~0ull);
    EQUAL("of nobody it is taken over", put(it.peer, 0, 1), EB_OK);
    EQUAL("and free again", atomic_load(lock), 0);
    scene_end(&it);
}

typedef struct {
    eb_bus *owner;
    int64_t deadline;
} late_owner;

static void unlock_when_it_is_over(void *arg)
{
    late_owner *late = arg;
    eb_nap(late->deadline);
    eb_bus_unlock_publish(late->owner);
}

static void who_is_woken_at_its_deadline_looks_once_more(void)
{
    scene it = scene_small();
    eb_event_count *unlocked = &it.bus->ring.header->unlocked;
    late_owner late = {.owner = it.peer};
    int status;
    EQUAL("another has it", eb_bus_lock_publish(it.peer, EB_POLL), EB_OK);
    plan_at(EB_POINT_lock_woken, 1, unlock_when_it_is_over, &late);
    do { /* where a host stood still, the time was up before it slept: then once more */
        late.deadline = eb_now() + EB_MILLISECOND;
        status = eb_bus_lock_publish(it.bus, late.deadline);
    } while (!happened());
    EQUAL("given back at the last moment, it is taken", status, EB_OK);
    EQUAL("and others that sleep will be woken in turn", atomic_load(&unlocked->waiters), 1);
    eb_bus_unlock_publish(it.bus);
    scene_end(&it);
}

static void what_cannot_be_repaired_is_damaged_for_everybody(void)
{
    scene it = scene_small();
    put(it.peer, 0, 1);
    atomic_store(&it.bus->ring.header->publish_lock, ~0ull);
    atomic_store(&it.bus->ring.header->committed, 3 * RECORD);
    for (int i = 0; i < 3; i++) {
        EQUAL("for one", put(it.bus, 0, 2), EB_DAMAGED);
        EQUAL("and for the other", put(it.peer, 0, 2), EB_DAMAGED);
    }
    scene_end(&it);
}

int main(void)
{
    RUN(the_publish_lock_of_the_living_is_not_taken);
    RUN(who_is_woken_at_its_deadline_looks_once_more);
    RUN(what_cannot_be_repaired_is_damaged_for_everybody);
    RUN(a_slot_has_a_new_generation_at_every_claim_and_end);
    RUN(the_slots_are_counted);
    RUN(what_a_subscriber_says_of_itself_can_be_read);
    RUN(only_the_dead_are_reaped);
    RUN(whoever_was_reaped_leaves_its_heir_alone);
    RUN(a_slot_whose_owner_died_half_way_is_taken_again);
    RUN(a_reaper_that_dies_leaves_its_work_to_the_next);
    RUN(a_cursor_that_cannot_be_holds_nobody_up);
    RUN(a_number_of_used_slots_that_cannot_be_is_bounded);
    RUN(the_roster_lock_is_waited_for_until_the_deadline);
    return checked();
}
