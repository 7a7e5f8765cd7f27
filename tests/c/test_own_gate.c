/* What a member of a group looks at in the ring: the gate that its slot holds meanwhile, whoever parks, removes or takes up
 * events beside it, and what becomes of it once its event is done. */
#include "viewing.h"

#include <sys/syscall.h>

static bool no_memory;

/* In the place of libc's: what a copy and a window need is refused. */
int mprotect(void *at, size_t bytes, int protection)
{
    errno = ENOMEM;
    return no_memory ? -1 : (int)syscall(SYS_mprotect, at, bytes, protection);
}

static const eb_group_terms TERMS = {.name = "g", .system = "a.*", .kind = "**", .max_deliveries = 9};

static scene scene_of_group(uint64_t position)
{
    scene it = scene_of(ROOM, 8, position, 1);
    CHECK("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL) >= 0);
    return it;
}

static eb_subscription *join_member(eb_bus *bus, bool manual, bool views)
{
    return join_by(
        bus,
        &(eb_terms){.system = "a.*", .kind = "**", .name = "member", .group = "g", .manual = manual, .views = views});
}

static uint64_t place_of(const scene *it, uint32_t claim)
{
    return atomic_load(eb_claim_place(&it->bus->roster, claim));
}

/* One event, `seed`, in the hand of a member. */
static eb_subscription *look_at_one(scene *it, bool manual, uint64_t seed)
{
    eb_subscription *sub = join_member(it->bus, manual, true);
    put_all(it->peer, seed, seed);
    EQUAL("an event", eb_receive(sub, 1, EB_POLL), 1);
    return sub;
}

/* Others send, and another member takes, until nobody finds room. */
static void fill(scene *it, eb_subscription *other)
{
    uint64_t seed = 1000;
    while (put_data(it->peer, seed++) == EB_OK)
        if (other) eb_receive(other, 1, EB_POLL);
}

static void fill_alone(void *with)
{
    fill(with, NULL);
}

static void its_slot_is_a_gate_while_it_looks(void)
{
    scene it = scene_of_group((uint64_t)-8 * 1000);
    eb_subscription *sub = join_member(it.bus, false, true), *other = join_member(it.bus, false, false);
    uint64_t begin = committed_of(&it);
    CHECK("no gate at first", !is_gated(&it, sub));
    put_all(it.peer, 1, 3);
    EQUAL("three events", eb_receive(sub, 3, EB_POLL), 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK("where they lie", eb_batch_of(sub)->beside[i].view && is_data(data_of(sub, i), i + 1));
    CHECK("its slot holds them", is_gated(&it, sub) && cursor(it.bus, sub) == begin);
    EQUAL("for people", eb_viewed_by(it.bus, eb_slot(sub)), 3 * PLACE);
    fill(&it, other);
    EQUAL("publishers wait for just these", committed_of(&it) - begin, FULL * PLACE);
    EQUAL("which are not parked", place_of(&it, 0), begin);
    EQUAL("they wait for whom", eb_slowest(it.peer), eb_slot(sub));
    for (uint32_t i = 0; i < 3; i++)
        CHECK("all is what it was", is_data(data_of(sub, i), i + 1));
    EQUAL("one is done", eb_ack(sub), EB_OK);
    EQUAL("the gate moves on", cursor(it.bus, sub), begin + PLACE);
    EQUAL("and so do publishers", put_data(it.peer, 5000), EB_OK);
    EQUAL("by so much", put_data(it.peer, 5001), EB_FULL);
    EQUAL("who asks has done with the others", eb_receive(sub, 1, EB_POLL), 1);
    EQUAL("the next is looked at", cursor(it.bus, sub), place_of(&it, (uint32_t)sub->hand[sub->first].claim));
    EQUAL("done, too", eb_ack(sub), EB_OK);
    CHECK("then there is no gate", !is_gated(&it, sub));
    EQUAL("nor a view", eb_viewed_by(it.bus, eb_slot(sub)), 0);
    leave(sub);
    leave(other);
    scene_end(&it);
}

static void its_figures_go_on_meanwhile(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, false, 1);
    put_all(it.peer, 2, 2);
    CHECK("it looks", is_gated(&it, sub));
    EQUAL("another one", eb_receive(sub, 1, EB_POLL), 1);
    eb_subscriber_info info;
    CHECK("it can be read", eb_subscriber(it.bus, eb_slot(sub), &info));
    EQUAL("both count", info.received.events, 2);
    leave(sub);
    scene_end(&it);
}

static void those_done_in_any_order(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = join_member(it.bus, true, true);
    put_all(it.peer, 1, 5);
    EQUAL("five", eb_receive(sub, 5, EB_POLL), 5);
    EQUAL("the second is done", eb_ack_event(sub, 2), EB_OK);
    EQUAL("the first stands in front", cursor(it.bus, sub), 0);
    EQUAL("given back", eb_reject_event(sub, 1, 0), EB_OK);
    EQUAL("it goes on to the third", cursor(it.bus, sub), 2 * PLACE);
    EQUAL("the last is done", eb_ack_event(sub, 5), EB_OK);
    EQUAL("the third still there", cursor(it.bus, sub), 2 * PLACE);
    EQUAL("the first comes again", eb_receive(sub, 4, EB_POLL), 1);
    CHECK("the gate is not moved back for it", cursor(it.bus, sub) == 2 * PLACE);
    CHECK("it is a copy", eb_batch_of(sub)->sequence[0] == 1 && !eb_batch_of(sub)->beside[0].view);
    CHECK("of the right bytes", is_data(data_of(sub, 0), 1));
    EQUAL("all are given back", eb_return(sub, 0), EB_OK);
    CHECK("then there is no gate", !is_gated(&it, sub));
    leave(sub);
    scene_end(&it);
}

/* --- kept --- */

static void an_array_that_was_made_of_it_is_kept(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, false, 1);
    eb_view *view = look(sub, 0);
    put_all(it.peer, 2, 2);
    EQUAL("the next", eb_receive(sub, 1, EB_POLL), 1);
    CHECK("the array is protected with it", is_gated(&it, sub) && cursor(it.bus, sub) == 0);
    look_away(view);
    EQUAL("as long as there is one", cursor(it.bus, sub), PLACE);
    view = look(sub, 0);
    EQUAL("it asks, and sleeps", eb_receive(sub, 1, eb_now() + EB_MILLISECOND), EB_NOTHING);
    EQUAL("in the next step", eb_receive(sub, 1, eb_now() + EB_MILLISECOND), EB_NOTHING);
    CHECK("then it is a copy", !is_gated(&it, sub));
    eb_subscription *other = join_member(it.bus, false, false);
    for (uint64_t seed = 100; seed < 200; seed++) {
        put_all(it.peer, seed, seed);
        EQUAL("others go on", eb_receive(other, 1, EB_POLL), 1);
    }
    CHECK("and it stays what it was", is_data(eb_view_data(view), 2));
    look_away(view);
    leave(sub);
    leave(other);
    scene_end(&it);
}

static void arrays_take_a_quarter_at_most(void)
{
    scene it = scene_of_group(4000);
    eb_subscription *sub = join_member(it.bus, false, true);
    enum { ALL = 60 };
    eb_view *views[ALL];
    for (uint64_t n = 0; n < ALL; n++) {
        put_all(it.peer, n, n);
        EQUAL("the next", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("right", is_data(data_of(sub, 0), n));
        views[n] = look(sub, 0);
        CHECK("no more is kept", committed_of(&it) - cursor(it.bus, sub) <= ROOM / 4 + PLACE);
        if (n > 0) CHECK("but something is", committed_of(&it) - cursor(it.bus, sub) >= 2 * PLACE);
    }
    for (uint64_t n = 0; n < ALL; n++) {
        CHECK("all are what they were", is_data(eb_view_data(views[n]), n));
        look_away(views[n]);
    }
    EQUAL("the last is in hand", cursor(it.bus, sub), committed_of(&it) - PLACE);
    leave(sub);
    scene_end(&it);
}

/* Who never sleeps, and takes nothing more that can be looked at. */
static void what_a_poller_keeps_is_a_copy_in_time(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, false, 1), *other = join_member(it.bus, false, false);
    eb_view *view = look(sub, 0);
    for (uint64_t seed = 100; seed < 200; seed++) {
        put_all(it.peer, seed, seed);
        EQUAL("another one takes it", eb_receive(other, 1, EB_POLL), 1);
        EQUAL("it looks for more", eb_receive(sub, 1, EB_POLL), EB_NOTHING);
        CHECK("no more is kept", !is_gated(&it, sub) || committed_of(&it) - cursor(it.bus, sub) <= ROOM / 4);
    }
    CHECK("then it is a copy", !is_gated(&it, sub) && is_data(eb_view_data(view), 1));
    look_away(view);
    leave(sub);
    leave(other);
    scene_end(&it);
}

static void acknowledged_by_itself_it_becomes_a_copy(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, true, 1);
    eb_view *view = look(sub, 0);
    EQUAL("done, maybe beside one that sleeps", eb_ack_event(sub, 1), EB_OK);
    CHECK("there is no gate", !is_gated(&it, sub));
    fill(&it, NULL);
    CHECK("it is what it was", is_data(eb_view_data(view), 1));
    look_away(view);
    leave(sub);
    scene_end(&it);
}

/* By another thread, or a destructor: whoever makes something of the batch finds that out, and no freed memory. */
static void done_before_anything_was_made_of_it(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, true, 1);
    eb_view *view = eb_batch_of(sub)->beside[0].view;
    EQUAL("it is given back", eb_return(sub, 0), EB_OK);
    eb_view_hold(view);
    EQUAL("and cannot be looked at", eb_view_export(view), EB_CLOSED);
    eb_view_release(view);
    EQUAL("it comes again", eb_receive(sub, 1, EB_POLL), 1);
    CHECK("as another view", is_data(data_of(sub, 0), 1));
    leave(sub);
    scene_end(&it);
}

static void of_a_letter_there_are_bytes(void)
{
    scene it = scene_of(ROOM, 8, 0, 1);
    eb_group_terms once = TERMS;
    once.max_deliveries = 1;
    CHECK("a group can be made", eb_group_create(it.bus, &once, EB_POLL) >= 0);
    eb_subscription *sub = look_at_one(&it, false, 1);
    CHECK("it is looked at", eb_batch_of(sub)->beside[0].view);
    EQUAL("given back", eb_return(sub, 0), EB_OK);
    EQUAL("once too often", eb_receive(sub, 1, EB_POLL), EB_EXHAUSTED);
    CHECK("it is a copy", !eb_batch_of(sub)->beside[0].view && is_data(data_of(sub, 0), 1));
    CHECK("which holds nobody up", !is_gated(&it, sub));
    leave(sub);
    scene_end(&it);
}

static void without_memory_it_stays_where_it_is(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, true, 1);
    eb_view *view = look(sub, 0);
    no_memory = true;
    EQUAL("it is done", eb_ack_event(sub, 1), EB_OK);
    CHECK("and protected still", is_gated(&it, sub) && cursor(it.bus, sub) == 0);
    eb_subscription *other = join_member(it.bus, false, false);
    fill(&it, other);
    CHECK("nobody overwrites it", is_data(eb_view_data(view), 1));
    no_memory = false;
    look_away(view);
    CHECK("until it is over", !is_gated(&it, sub));
    leave(sub);
    leave(other);
    scene_end(&it);
}

static void left_without_memory_its_slot_stays(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, false, 1), *other = join_member(it.bus, false, false);
    eb_slot_t *slot = slot_of(it.bus, sub);
    int file = sub->file.fd;
    eb_view *view = look(sub, 0);
    no_memory = true;
    eb_unsubscribe(sub);
    no_memory = false;
    EQUAL("another one has the event", eb_receive(other, 1, EB_POLL), 1);
    EQUAL("and has done with it", eb_ack(other), EB_OK);
    CHECK("which is held", atomic_load(&slot->owner) & EB_SLOT_GATED);
    fill(&it, other);
    CHECK("for who looks", is_data(eb_view_data(view), 1));
    look_away(view);
    eb_subscription_free(sub);
    close(file);
    leave(other);
    scene_end(&it);
}

/* --- in the middle --- */

static void park_all(void *with)
{
    scene *it = with;
    eb_subscription *other = it->peer->subscriptions;
    uint64_t seed = 2000, until = committed_of(it) + 2 * ROOM;
    while ((int64_t)(until - committed_of(it)) > 0) {
        EQUAL("nothing holds the ring", put_data(it->peer, seed++), EB_OK);
        EQUAL("another member takes it", eb_receive(other, 1, EB_POLL), 1);
        EQUAL("and has done with it", eb_ack(other), EB_OK);
    }
}

/* Its record leaves the ring, which goes round twice, just as it begins to look. */
static void what_was_parked_meanwhile_is_copied(void)
{
    const int moments[] = {EB_POINT_group_unlocked, EB_POINT_look_moved};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_of_group(0);
        eb_subscription *other = join_member(it.peer, false, false), *sub = join_member(it.bus, false, true);
        put_all(it.peer, 1, 1);
        plan_at(moments[i], 1, park_all, &it);
        EQUAL("an event", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("in the middle", happened());
        CHECK("a copy", !eb_batch_of(sub)->beside[0].view && is_data(data_of(sub, 0), 1));
        CHECK("for which no gate is held", !is_gated(&it, sub));
        EQUAL("of whose data all are there", eb_batch_bytes(sub), 4 + DATA);
        leave(sub);
        leave(other);
        scene_end(&it);
    }
}

/* And from there on it does not. */
static void what_is_looked_at_is_not_overwritten(void)
{
    const int moments[] = {EB_POINT_look_gated, EB_POINT_view_added, EB_POINT_claim_copied};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_of_group(0);
        eb_subscription *sub = join_member(it.bus, false, true);
        put_all(it.peer, 1, 1);
        plan_at(moments[i], 1, fill_alone, &it);
        EQUAL("an event", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("in the middle", happened());
        CHECK("where it lies", eb_batch_of(sub)->beside[0].view && is_data(data_of(sub, 0), 1));
        leave(sub);
        scene_end(&it);
    }
}

static void remove_and_fill(void *with)
{
    scene *it = with;
    EQUAL("the group can be removed", eb_group_remove(it->peer, "g", EB_POLL), EB_OK);
    for (uint64_t seed = 3000; seed < 3000 + 3 * FULL && put_data(it->peer, seed) == EB_OK;)
        seed++;
}

/* At any moment: nothing that may have been overwritten is handed out, and nobody is held up any more. */
static void the_group_is_removed_meanwhile(void)
{
    const int moments[] = {EB_POINT_group_unlocked, EB_POINT_look_moved, EB_POINT_look_gated, EB_POINT_claim_copied};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_of_group(0);
        eb_subscription *sub = join_member(it.bus, false, true);
        put_all(it.peer, 1, 2);
        plan_at(moments[i], 1, remove_and_fill, &it);
        EQUAL("it has come to its end", eb_receive(sub, 2, EB_POLL), EB_CLOSED);
        CHECK("in the middle", happened());
        CHECK("no gate is left", !is_gated(&it, sub));
        put_all(it.peer, 1, 3 * FULL);
        leave(sub);
        scene_end(&it);
    }
}

static void looked_at_as_its_group_is_removed(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, true, 1);
    eb_view *view = look(sub, 0);
    remove_and_fill(&it);
    CHECK("it is what it was", is_data(eb_view_data(view), 1));
    EQUAL("its end is told", eb_receive(sub, 1, EB_POLL), EB_CLOSED);
    CHECK("then it holds nobody up", !is_gated(&it, sub));
    put_all(it.peer, 1, 3 * FULL);
    CHECK("and still is what it was", is_data(eb_view_data(view), 1));
    look_away(view);
    leave(sub);
    scene_end(&it);
}

/* --- others --- */

static void publishers_do_not_move_its_gate(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, false, 1);
    for (size_t i = 0; i < EB_TOPICS / 64; i++)
        atomic_store(&slot_of(it.bus, sub)->deaf[i], UINT64_MAX); /* as of a policy that came later */
    fill(&it, NULL);
    CHECK("also where its slot seems to hear nothing", is_data(data_of(sub, 0), 1) && cursor(it.bus, sub) == 0);
    leave(sub);
    scene_end(&it);
}

static void for_a_child_all_is_copied(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = look_at_one(&it, false, 1);
    eb_view *view = look(sub, 0);
    eb_subscription *second = join_member(it.bus, false, true);
    put_all(it.peer, 2, 2);
    EQUAL("another one looks", eb_receive(second, 1, EB_POLL), 1);
    eb_view *other = eb_batch_of(second)->beside[0].view;
    eb_fork_begins();
    pid_t child = fork();
    eb_fork_ends();
    if (child == 0) {
        eb_test_hook = NULL;
        bool same = is_data(eb_view_data(view), 1);
        eb_view_exported(view);
        bool refused = eb_view_export(other) == EB_CLOSED; /* which nobody had exported */
        _exit(same && refused ? 0 : 1);
    }
    int status = 0;
    CHECK("the child saw it", waitpid(child, &status, 0) == child && status == 0);
    CHECK("and nobody is held up", !is_gated(&it, sub));
    CHECK("it is what it was", is_data(eb_view_data(view), 1));
    EQUAL("and in hand still", eb_ack(sub), EB_OK);
    look_away(view);
    leave(second);
    leave(sub);
    scene_end(&it);
}

static void a_member_that_was_robbed_touches_nobodys_slot(void)
{
    scene it = scene_of_group(0);
    eb_subscription *sub = join_member(it.bus, false, true);
    uint32_t slot = eb_slot(sub);
    close(sub->file.fd);
    CHECK("it is reaped", eb_bus_reap(it.peer, EB_POLL) > 0);
    eb_subscription *heir = join_views(it.peer, EB_LATEST);
    EQUAL("another one has its slot", eb_slot(heir), slot);
    put_all(it.peer, 1, 1);
    uint64_t owner = atomic_load(&slot_of(it.bus, heir)->owner), stands = cursor(it.bus, heir);
    int status = eb_receive(sub, 1, EB_POLL);
    CHECK("whatever it is told", status == EB_ROBBED || status == 1);
    CHECK("it has no view", status != 1 || !eb_batch_of(sub)->beside[0].view);
    CHECK("the other's is as it was",
          atomic_load(&slot_of(it.bus, heir)->owner) == owner && cursor(it.bus, heir) == stands);
    leave(sub);
    leave(heir);
    scene_end(&it);
}

int main(void)
{
    if (!has_windows()) return checked();
    RUN(its_figures_go_on_meanwhile);
    RUN(what_was_parked_meanwhile_is_copied);
    RUN(the_group_is_removed_meanwhile);
    RUN(its_slot_is_a_gate_while_it_looks);
    RUN(those_done_in_any_order);
    RUN(an_array_that_was_made_of_it_is_kept);
    RUN(arrays_take_a_quarter_at_most);
    RUN(what_a_poller_keeps_is_a_copy_in_time);
    RUN(acknowledged_by_itself_it_becomes_a_copy);
    RUN(done_before_anything_was_made_of_it);
    RUN(of_a_letter_there_are_bytes);
    RUN(without_memory_it_stays_where_it_is);
    RUN(left_without_memory_its_slot_stays);
    RUN(what_is_looked_at_is_not_overwritten);
    RUN(looked_at_as_its_group_is_removed);
    RUN(publishers_do_not_move_its_gate);
    RUN(for_a_child_all_is_copied);
    RUN(a_member_that_was_robbed_touches_nobodys_slot);
    return checked();
}
