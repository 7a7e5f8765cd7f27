/* The end of a group at moments that only a hand can hold still: in the middle of what a member does, half-way through the
 * removal, and after it, while members still live. */
#include "scene.h"

static const eb_group_terms TERMS = {.name = "g", .system = "a.*", .kind = "**", .start = EB_LATEST};

static void make(eb_bus *bus)
{
    CHECK("a group can be made", eb_group_create(bus, &TERMS, EB_POLL) >= 0);
}

static eb_subscription *join_group(eb_bus *bus)
{
    eb_terms terms = {.system = "a.*", .kind = "**", .name = "m", .spin_ns = 0, .group = "g"};
    int status;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    for (uint32_t topic = 0; topic < 4; topic++)
        eb_decide(sub, topic, 1);
    return sub;
}

static void remove_it(void *with)
{
    EQUAL("the group can be removed", eb_group_remove(with, "g", EB_POLL), EB_OK);
}

/* And everything that it still had is overwritten by something longer. */
static void remove_and_overwrite(void *with)
{
    remove_it(with);
    for (uint64_t i = 0; i < FULL_RING; i++)
        EQUAL("there is room", put_sized(with, 0, 64, i), EB_OK);
}

static void what_a_member_is_copying_is_not_handed_out(void)
{
    const int moments[] = {EB_POINT_group_locked, EB_POINT_claim_held, EB_POINT_claim_cursor, EB_POINT_group_unlocked,
                           EB_POINT_claim_copied};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_small();
        make(it.bus);
        eb_subscription *sub = join_group(it.bus);
        put_many(it.peer, 0, 1, FULL_RING * 9 / 10);
        plan_at(moments[i], 1, remove_and_overwrite, it.peer);
        EQUAL("it has come to its end", eb_receive(sub, 8, EB_POLL), EB_CLOSED);
        CHECK("in the middle of a claim", happened());
        EQUAL("and stays there", eb_receive(sub, 8, EB_POLL), EB_CLOSED);
        eb_walk walk = {.count = 0};
        CHECK("nothing waits for it", eb_backlog(sub, &walk) == EB_OK && walk.count == 0);
        leave(sub);
        scene_end(&it);
    }
}

static void what_a_member_has_in_hand_is_nobodys_any_more(void)
{
    scene it = scene_small();
    make(it.bus);
    eb_subscription *one = join_group(it.bus), *other = join_group(it.bus);
    put_many(it.peer, 0, 1, 3);
    EQUAL("both have one", next(one) + next(other), 3);
    remove_and_overwrite(it.peer);
    EQUAL("it cannot be acknowledged", eb_ack(one), EB_CLOSED);
    EQUAL("nor counted as dead", eb_bury(one, 1), EB_CLOSED);
    EQUAL("nor given back", eb_return(other, 1), EB_NOTHING);
    EQUAL("there is no next one", eb_receive(other, 1, EB_POLL), EB_CLOSED);
    leave(one);
    leave(other);
    scene_end(&it);
}

static void neither_entry_nor_slot_are_used_anew_while_a_member_lives(void)
{
    scene it = scene_of(CAPACITY, 8, 0, 1);
    eb_group *first = it.bus->roster.header->groups, *second = first + 1;
    make(it.bus);
    eb_subscription *old = join_group(it.bus);
    uint32_t gate = atomic_load(&first->slot);
    put(it.peer, 0, 1);
    EQUAL("a member has an event in hand", next(old), 1);
    remove_it(it.peer);
    EQUAL("nothing is left to be reaped", eb_bus_reap(it.peer, EB_POLL), 0);
    make(it.peer);
    CHECK("another one of its name has another entry", !eb_group_is_open(first) && eb_group_is_open(second));
    eb_subscription *young = join_group(it.peer), *plain = join(it.peer, EB_LATEST, true);
    bool apart = atomic_load(&second->slot) != gate && eb_slot(young) != gate && eb_slot(plain) != gate;
    CHECK("nobody has the slot that the old one sleeps on", apart);
    put(it.peer, 0, 2);
    EQUAL("the young one works", next(young), 2);
    EQUAL("the old one does not", eb_receive(old, 1, EB_POLL), EB_CLOSED);
    leave(old);
    CHECK("what the young one has is its own", eb_ack(young) == EB_OK);
    remove_it(it.peer);
    make(it.peer);
    CHECK("the old entry is used again", eb_group_is_open(first) && !eb_group_is_open(second));
    EQUAL("and so is the slot", atomic_load(&first->slot), gate);
    EQUAL("but not by who joined the one before", eb_receive(young, 1, EB_POLL), EB_CLOSED);
    leave(young);
    leave(plain);
    scene_end(&it);
}

static void a_member_whose_descriptor_was_closed_sees_the_end_too(void)
{
    scene it = scene_small();
    make(it.bus);
    eb_subscription *robbed = join_group(it.bus);
    put(it.peer, 0, 1);
    EQUAL("it has an event in hand", next(robbed), 1);
    close(robbed->file.fd);
    remove_it(it.peer);
    make(it.peer);
    CHECK("its entry is used again", eb_group_is_open(it.bus->roster.header->groups));
    EQUAL("not for it", eb_receive(robbed, 1, EB_POLL), EB_CLOSED);
    leave(robbed);
    scene_end(&it);
}

static void die_in_removal(void *with)
{
    eb_group_remove(with, "g", EB_POLL);
}

static void whoever_waits_for_room_ends_what_a_dead_one_began(void)
{
    for (int lives = 0; lives < 2; lives++) {
        scene it = scene_small();
        make(it.bus);
        eb_subscription *sub = join_group(it.bus);
        int status;
        while ((status = put(it.peer, 0, 1)) == EB_OK)
            continue;
        EQUAL("the group fills the ring", status, EB_FULL);
        die_at(EB_POINT_group_removed, 1, die_in_removal, it.bus);
        EQUAL("there is no group", eb_group_find(it.bus, "g"), EB_NOTHING);
        EQUAL("and nobody else removes it", eb_group_remove(it.bus, "g", EB_POLL), EB_NOTHING);
        if (!lives) leave(sub);
        EQUAL("its room is free", put(it.peer, 0, 1), EB_OK);
        if (lives) EQUAL("its member sees the end", eb_receive(sub, 1, EB_POLL), EB_CLOSED);
        if (lives) leave(sub);
        EQUAL("its slot is free, too", eb_bus_reap(it.peer, EB_POLL), lives);
        EQUAL("and reaped once", eb_bus_reap(it.peer, EB_POLL), 0);
        scene_end(&it);
    }
}

static void a_member_that_keeps_the_lock_keeps_nobody_from_removing(void)
{
    scene it = scene_small();
    make(it.bus);
    eb_subscription *stopped = join_group(it.bus), *other = join_group(it.bus);
    CHECK("it has the lock", eb_group_try_lock(stopped->group, stopped->token));
    remove_it(it.peer);
    EQUAL("the others see the end", eb_receive(other, 1, EB_POLL), EB_CLOSED);
    leave(other);
    leave(stopped);
    scene_end(&it);
}

static void nobody_joins_another_group_than_was_asked_for(void)
{
    scene it = scene_small();
    eb_terms terms = {.system = "a.*", .kind = "**", .name = "m", .group = "g"};
    int status;
    make(it.bus);
    remove_it(it.peer);
    CHECK("none", !subscribe(it.bus, &terms, EB_POLL, &status) && status == EB_NOTHING);
    eb_group_terms others = TERMS;
    others.system = "b";
    CHECK("another one of its name can be made", eb_group_create(it.peer, &others, EB_POLL) >= 0);
    CHECK("nor one that hears something else", !subscribe(it.bus, &terms, EB_POLL, &status) && status == EB_CONFLICT);
    scene_end(&it);
}

static void all_entries_may_be_kept(void)
{
    scene it = scene_of(CAPACITY, 128, 0, 1);
    eb_subscription *members[EB_GROUPS];
    for (int i = 0; i < EB_GROUPS; i++) {
        make(it.bus);
        members[i] = join_group(it.bus);
        remove_it(it.peer);
    }
    EQUAL("no entry is left", eb_group_create(it.bus, &TERMS, EB_POLL), EB_TABLE_FULL);
    leave(members[7]);
    EQUAL("but that of whose last member left", eb_group_create(it.bus, &TERMS, EB_POLL), 7);
    for (int i = 0; i < EB_GROUPS; i++)
        if (i != 7) leave(members[i]);
    scene_end(&it);
}

int main(void)
{
    RUN(what_a_member_is_copying_is_not_handed_out);
    RUN(what_a_member_has_in_hand_is_nobodys_any_more);
    RUN(neither_entry_nor_slot_are_used_anew_while_a_member_lives);
    RUN(a_member_whose_descriptor_was_closed_sees_the_end_too);
    RUN(whoever_waits_for_room_ends_what_a_dead_one_began);
    RUN(a_member_that_keeps_the_lock_keeps_nobody_from_removing);
    RUN(nobody_joins_another_group_than_was_asked_for);
    RUN(all_entries_may_be_kept);
    return checked();
}
