/* Groups with many members in one process: they take, acknowledge, give back, leave with work in hand, join, and die at
 * every moment that has a test point, with claims and with the group's lock. Each event is worked off once, and each
 * time that it was handed out more than once is counted.
 *
 *   stress_groups [SECONDS [SEED]] */
#include "fates.h"

static const int dooms[] = {
    EB_POINT_group_locked,    EB_POINT_group_mended,     EB_POINT_bury_stamped,   EB_POINT_page_unlisted,
    EB_POINT_page_given_back, EB_POINT_page_taken,       EB_POINT_page_listed,    EB_POINT_claim_written,
    EB_POINT_claim_used,      EB_POINT_claim_held,       EB_POINT_claim_cursor,   EB_POINT_claim_gated,
    EB_POINT_claim_adopted,   EB_POINT_claim_deliveries, EB_POINT_claim_counted,  EB_POINT_claim_copied,
    EB_POINT_claim_finished,  EB_POINT_claim_handed_out, EB_POINT_claim_due,      EB_POINT_claim_returned,
    EB_POINT_dead_counted,    EB_POINT_waiter_raised,    EB_POINT_group_unlocked, EB_POINT_room_made};

/* --- a member's life --- */

/* Works through the batch and asks for each as Python does; false when it leaves, with all or the rest of it in hand, unseen.
 * Some events are given back nearly each time, until they are dead letters. */
static bool work_one_by_one(uint64_t *state, int count)
{
    uint64_t before = draw(state) % 128;
    if (before == 0) die(-1);
    for (int i = 0; i < count && before > 1; i++) {
        uint64_t sequence = see(i), chance = draw(state) % 256;
        if (chance == 0) die(-1);
        if (chance <= 4 || (sequence % POISONED == 0 && chance < 224)) {
            give_up_all();
            atomic_fetch_add(&rejections, 1);
            EQUAL("what is in hand can be given back", eb_return(me.sub, (int64_t)(chance % 2)), EB_OK);
            me.held = 0;
            return true;
        }
        EQUAL("what is in hand can be acknowledged", eb_ack(me.sub), EB_OK);
        work_off(sequence);
        if (chance == 5) return false;
    }
    return before > 1;
}

/* Does all, and acknowledges by asking for more. */
static int work_at_once(int count, int limit, int64_t deadline)
{
    uint64_t sequence[PREFETCH];
    for (int i = 0; i < count; i++)
        sequence[i] = see(i);
    int status = ask(limit, deadline);
    for (int i = 0; i < count; i++)
        work_off(sequence[i]);
    return status;
}

static int live(uint64_t *state)
{
    bool one_by_one = draw(state) % 4 != 0, stays = true;
    int limit = 1 + (int)(draw(state) % (draw(state) % 4 == 0 ? PREFETCH : 8)), status = EB_NOTHING;
    join_group(state, false, draw(state) % 2);
    me.doom = draw(state) % 2 ? dooms[draw(state) % (sizeof dooms / sizeof *dooms)] : -1;
    me.passes = 1 + (int)(draw(state) % 3);
    for (uint64_t batches = draw(state) % 50; batches > 0 && stays && status != EB_CLOSED; batches--) {
        status = ask(limit, soon(state));
        while (status > 0 && !one_by_one)
            status = work_at_once(status, limit, soon(state));
        if (status > 0) stays = work_one_by_one(state, status);
        if (status == EB_EXHAUSTED) bury_letter(state);
    }
    part();
    return status;
}

static void *work(void *with)
{
    live_on((unsigned)(uintptr_t)with, live);
    return NULL;
}

/* --- the whole --- */

static void run(unsigned seconds)
{
    pthread_t members[GROUPS * MEMBERS], figures;
    eb_test_hook = maybe_die;
    for (unsigned i = 0; i < GROUPS; i++)
        make_group(i, "**");
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        members[i] = start(work, i);
    figures = start(read_figures, 0);
    publish_for(seconds, publish);
    shut_down();
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        pthread_join(members[i], NULL);
    atomic_store(&figures_stopping, true);
    pthread_join(figures, NULL);
}

int main(int count, char **arguments)
{
    run(begin("stress_groups", count, arguments));
    EQUAL("all that was sent has a sequence", sent(it.bus), sent_by_all());
    for (unsigned i = 0; i < GROUPS; i++)
        EQUAL("a group hears all", expect_worked_off_once(i), sent(it.bus));
    show_deaths();
    scene_end(&it);
    return 0;
}
