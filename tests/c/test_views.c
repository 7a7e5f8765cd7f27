/* What is looked at in the ring: where the cursor stands meanwhile, what becomes a copy, and when it goes. */
#include "viewing.h"

static void the_cursor_stands_at_what_is_in_hand(void)
{
    scene it = scene_of(ROOM, 4, (uint64_t)-8 * 1000, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    uint64_t begin = cursor(it.bus, sub);
    put_all(it.peer, 1, 3);
    EQUAL("three events", eb_receive(sub, 8, EB_POLL), 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK("their data are right", is_data(data_of(sub, i), i + 1));
    CHECK("but not in the buffer", sub->beside_used == 3 * 4 && eb_batch_bytes(sub) == 3 * (4 + DATA));
    EQUAL("none is done with", cursor(it.bus, sub), begin);
    CHECK("for people all is read", atomic_load(&slot_of(it.bus, sub)->position) == begin + 3 * PLACE);
    eb_views_asked(sub, 2);
    EQUAL("the first is", cursor(it.bus, sub), begin + PLACE);
    EQUAL("a batch more", eb_receive(sub, 8, EB_POLL), EB_NOTHING);
    EQUAL("changes nothing", cursor(it.bus, sub), begin + PLACE);
    eb_views_asked(sub, 1);
    EQUAL("nor who says less", cursor(it.bus, sub), begin + PLACE);
    eb_views_asked(sub, 4);
    EQUAL("all are", cursor(it.bus, sub), begin + 3 * PLACE);
    leave(sub);
    scene_end(&it);
}

static void what_is_small_or_not_protected_is_copied(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    put_all(it.peer, 1, 1);
    eb_subscription *sub = join_views(it.bus, EB_OLDEST);
    EQUAL("an event from before it joined", eb_receive(sub, 8, EB_POLL), 1);
    CHECK("is copied", !eb_batch_of(sub)->beside[0].view && is_data(data_of(sub, 0), 1));
    EQUAL("a small one", eb_send_raw(&(eb_route){.bus = it.peer, .topic = 0}, "/s", 2, "small", 5), EB_OK);
    EQUAL("comes", eb_receive(sub, 8, EB_POLL), 1);
    CHECK("and is copied, too", !eb_batch_of(sub)->beside[0].view && memcmp(data_of(sub, 0), "small", 5) == 0);
    CHECK("so the cursor moves on", cursor(it.bus, sub) == atomic_load(&it.bus->ring.header->committed));
    leave(sub);
    scene_end(&it);
}

static void a_publisher_waits_for_what_is_looked_at(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, FULL);
    EQUAL("a full ring", put_data(it.peer, FULL + 1), EB_FULL);
    EQUAL("is read", eb_receive(sub, 64, EB_POLL), FULL);
    EQUAL("and stays full", put_data(it.peer, FULL + 1), EB_FULL);
    CHECK("of the right bytes", is_data(data_of(sub, 0), 1) && is_data(data_of(sub, FULL - 1), FULL));
    eb_views_asked(sub, 3);
    put_all(it.peer, FULL + 1, FULL + 2);
    EQUAL("until as much is done with", put_data(it.peer, FULL + 3), EB_FULL);
    CHECK("what is not stays", is_data(data_of(sub, 2), 3));
    leave(sub);
    scene_end(&it);
}

/* Looked at for ever, one in three; meanwhile the ring goes round many times. */
static void what_is_kept_becomes_a_copy_beyond_a_quarter(void)
{
    enum { ALL = 400 };
    scene it = scene_of(ROOM, 4, 4000, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    static eb_view *kept[ALL + 1];
    for (uint64_t n = 1; n <= ALL; n++) {
        EQUAL("data is sent", put_data(it.peer, n), EB_OK);
        EQUAL("and comes", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("right", is_data(data_of(sub, 0), n));
        if (n % 3 == 0) kept[n] = look(sub, 0);
        eb_views_asked(sub, n + 1);
        uint64_t lag = atomic_load(&it.bus->ring.header->committed) - cursor(it.bus, sub);
        CHECK("no more than a quarter is kept in the ring", lag <= ROOM / 4);
        if (n % 3 == 0) CHECK("but so much is", lag >= PLACE);
    }
    for (uint64_t n = 3; n <= ALL; n += 3)
        CHECK("all are what they were", is_data(eb_view_data(kept[n]), n));
    for (uint64_t n = ALL / 3 * 3; n > 0; n -= 3)
        look_away(kept[n]);
    EQUAL("then nothing is kept", cursor(it.bus, sub), atomic_load(&it.bus->ring.header->committed));
    leave(sub);
    scene_end(&it);
}

/* The pages at its ends show parts of the events before and after it, which are looked at, too. */
static void neighbours_of_a_copy_stay_right(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 9);
    EQUAL("a batch", eb_receive(sub, 64, EB_POLL), 9);
    eb_view *views[9];
    for (uint32_t i = 0; i < 9; i++)
        views[i] = look(sub, i);
    eb_views_asked(sub, 6);
    CHECK("some were copied", cursor(it.bus, sub) > 0 && cursor(it.bus, sub) % PLACE == 0);
    eb_views_asked(sub, 10);
    uint64_t n = 10;
    for (int lap = 0; lap < 3; lap++, n += 8) {
        put_all(it.peer, n, n + 7);
        EQUAL("more comes", eb_receive(sub, 64, EB_POLL), 8);
        CHECK("and is right, in another window", is_data(data_of(sub, 0), n) && is_data(data_of(sub, 7), n + 7));
        eb_views_asked(sub, n + 8);
    }
    for (uint32_t i = 0; i < 9; i++)
        CHECK("each is what it was", is_data(eb_view_data(views[i]), i + 1));
    for (uint32_t i = 0; i < 9; i++)
        look_away(views[i]);
    leave(sub);
    scene_end(&it);
}

static void *wait_for_an_event(void *with)
{
    int *status = with;
    eb_subscription *sub = latest()->bus->subscriptions;
    while ((*status = eb_receive(sub, 8, EB_FOREVER)) == EB_INTERRUPTED)
        ;
    return NULL;
}

/* Whoever receives has the turn, and is asleep: it looks. */
static void the_cursor_moves_on_beside_a_sleeper(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 1);
    EQUAL("an event", eb_receive(sub, 8, EB_POLL), 1);
    eb_view *view = look(sub, 0);
    eb_views_asked(sub, 2);
    pthread_t thread;
    int status = EB_OK;
    CHECK("a thread", pthread_create(&thread, NULL, wait_for_an_event, &status) == 0);
    while (!(atomic_load(&it.bus->roster.header->waiters[0].bits) & 1))
        eb_nap(eb_now() + EB_MILLISECOND);
    EQUAL("while it sleeps, what is kept stays", cursor(it.bus, sub), 0);
    look_away(view);
    while (cursor(it.bus, sub) != PLACE)
        eb_nap(eb_now() + EB_MILLISECOND);
    put_all(it.peer, 2, 2);
    pthread_join(thread, NULL);
    EQUAL("it got the next one", status, 1);
    leave(sub);
    scene_end(&it);
}

/* What nobody here hears fills the ring, whose oldest part is kept. */
static void what_is_kept_holds_no_flood_up(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    make_topics(it.peer, 2);
    eb_decide(sub, 1, 0);
    put_all(it.peer, 1, 1);
    EQUAL("an event", eb_receive(sub, 8, EB_POLL), 1);
    eb_view *view = look(sub, 0);
    eb_views_asked(sub, 2);
    pthread_t thread;
    int status = EB_OK;
    CHECK("a thread waits for the next", pthread_create(&thread, NULL, wait_for_an_event, &status) == 0);
    for (int i = 0; i < 100; i++) {
        int sent;
        char *text = pattern(DATA, 1);
        eb_outgoing event = {.topic = 1, .body_length = DATA + 2};
        int64_t deadline = eb_now() + 10000 * EB_MILLISECOND;
        while ((sent = eb_send_batch(it.peer, &event, 1, text, DATA + 2, deadline)) == EB_INTERRUPTED)
            ;
        free(text);
        EQUAL("others go on", sent, EB_OK);
    }
    CHECK("it is what it was", is_data(eb_view_data(view), 1));
    put_all(it.peer, 2, 2);
    pthread_join(thread, NULL);
    EQUAL("the next one comes", status, 1);
    look_away(view);
    leave(sub);
    scene_end(&it);
}

static void a_cursor_that_was_moved_over_a_view_is_damage(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 3);
    EQUAL("an event", eb_receive(sub, 1, EB_POLL), 1);
    atomic_store(&slot_of(it.bus, sub)->cursor, 2 * PLACE);
    int status = eb_receive(sub, 1, EB_POLL);
    EQUAL("what is looked at has lost its protection", status, EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void where_there_is_no_window_all_is_copied(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_ring nowhere = {.data = (char *)(uintptr_t)sysconf(_SC_PAGESIZE), .capacity = ROOM};
    CHECK("of no ring there is none", !eb_window_make(&nowhere));
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_all(it.peer, 1, 1);
    EQUAL("an event", eb_receive(sub, 1, EB_POLL), 1);
    CHECK("is copied", !eb_batch_of(sub)->beside[0].view && is_data(data_of(sub, 0), 1));
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(where_there_is_no_window_all_is_copied);
    if (!has_windows()) return checked();
    RUN(the_cursor_stands_at_what_is_in_hand);
    RUN(what_is_small_or_not_protected_is_copied);
    RUN(a_publisher_waits_for_what_is_looked_at);
    RUN(what_is_kept_becomes_a_copy_beyond_a_quarter);
    RUN(neighbours_of_a_copy_stay_right);
    RUN(the_cursor_moves_on_beside_a_sleeper);
    RUN(what_is_kept_holds_no_flood_up);
    RUN(a_cursor_that_was_moved_over_a_view_is_damage);
    return checked();
}
