/* What is looked at in the ring: where the cursor stands meanwhile, what becomes a copy, and when it goes. */
#include "scene.h"
#include "views.h"

#define ROOM (64u * 1024u)
#define DATA 5000u
#define PLACE EB_RECORD_BYTES(4 + DATA) /* bytes of a record of so much data, with the path "/abc" */

#define FULL ((ROOM - 8) / PLACE)

static bool windows; /* whether they can be made here: under valgrind they cannot */

static char byte_of(uint64_t seed, size_t i)
{
    return (char)(seed * 31 + i * 7 + i / 251);
}

static int put_data(eb_bus *bus, uint64_t seed)
{
    char data[DATA];
    for (size_t i = 0; i < DATA; i++)
        data[i] = byte_of(seed, i);
    return eb_send_raw(&(eb_route){.bus = bus, .topic = 0}, "/abc", 4, data, DATA);
}

static void put_all(eb_bus *bus, uint64_t first, uint64_t last)
{
    for (uint64_t seed = first; seed <= last; seed++)
        EQUAL("data is sent", put_data(bus, seed), EB_OK);
}

static bool is_data(const char *data, uint64_t seed)
{
    for (size_t i = 0; i < DATA; i++)
        if (data[i] != byte_of(seed, i)) return false;
    return true;
}

static eb_subscription *join_views(eb_bus *bus, int64_t start)
{
    eb_terms terms = {
        .system = "a.*", .kind = "**", .name = "viewer", .start = start, .spin_ns = 0, .gated = 1, .views = 1};
    int status = EB_SYSTEM;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a subscription can be made", sub && status == EB_OK);
    for (uint32_t topic = 0; topic < 8; topic++)
        eb_decide(sub, topic, 1);
    return sub;
}

static uint64_t cursor(eb_bus *bus, const eb_subscription *sub)
{
    return atomic_load(&slot_of(bus, sub)->cursor);
}

/* The view of event number `index` of the batch, held and exported, as by a memoryview. */
static eb_view *look(eb_subscription *sub, uint32_t index)
{
    eb_view *view = eb_batch_of(sub)->beside[index].view;
    CHECK("it has a view", view);
    eb_view_hold(view);
    EQUAL("which can be exported", eb_view_export(view), EB_OK);
    return view;
}

static void look_away(eb_view *view)
{
    eb_view_exported(view);
    eb_view_release(view);
}

static const char *data_of(eb_subscription *sub, uint32_t index)
{
    const eb_beside *beside = &eb_batch_of(sub)->beside[index];
    return beside->view ? beside->data : eb_batch_of(sub)->buffer + beside->offset + beside->path_length;
}

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

static void what_is_gone_cannot_be_looked_at(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 2);
    EQUAL("two events", eb_receive(sub, 8, EB_POLL), 2);
    eb_view *view = look(sub, 0);
    eb_view_exported(view);
    EQUAL("one may be looked at again", eb_view_export(view), EB_OK);
    eb_view_exported(view);
    eb_views_asked(sub, 2);
    EQUAL("until more was asked for", eb_view_export(view), EB_CLOSED);
    eb_view_release(view);
    view = look(sub, 1);
    eb_views_asked(sub, 3);
    EQUAL("of one that is kept", eb_view_export(view), EB_OK);
    eb_view_exported(view);
    EQUAL("the cursor", cursor(it.bus, sub), PLACE);
    eb_view_exported(view);
    EQUAL("waits for the last", cursor(it.bus, sub), 2 * PLACE);
    EQUAL("who looks", eb_view_export(view), EB_CLOSED);
    eb_view_release(view);
    leave(sub);
    scene_end(&it);
}

static void what_is_looked_at_outlives_the_subscription(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 3);
    EQUAL("three events", eb_receive(sub, 8, EB_POLL), 3);
    eb_view *one = look(sub, 0), *three = look(sub, 2), *two = eb_batch_of(sub)->beside[1].view;
    eb_view_hold(two);
    eb_views_asked(sub, 2);
    leave(sub);
    EQUAL("nobody looks any more at what nobody looked at", eb_view_export(two), EB_CLOSED);
    eb_view_release(two);
    put_all(it.peer, 4, 40);
    CHECK("the others are what they were", is_data(eb_view_data(one), 1) && is_data(eb_view_data(three), 3));
    scene_end(&it);
    CHECK("also without the bus", is_data(eb_view_data(one), 1) && is_data(eb_view_data(three), 3));
    EQUAL("and may be looked at", eb_view_export(three), EB_OK);
    eb_view_exported(three);
    look_away(one);
    look_away(three);
}

/* A child sees what its parent looked at, whatever its parent does then. */
static void a_child_has_copies(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 2);
    EQUAL("two events", eb_receive(sub, 8, EB_POLL), 2);
    eb_view *view = look(sub, 1);
    int go[2];
    CHECK("a pipe can be made", pipe(go) == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        bool right = read(go[0], &byte, 1) == 1 && is_data(eb_view_data(view), 2);
        eb_views_asked(sub, 9);
        look_away(view);
        _exit(right ? 0 : 1);
    }
    eb_views_asked(sub, 3);
    EQUAL("the ring is free", cursor(it.bus, sub), 2 * PLACE);
    leave(sub);
    put_all(it.peer, 3, 40);
    CHECK("the parent's is a copy, too", is_data(eb_view_data(view), 2));
    CHECK("the child is told", write(go[1], "", 1) == 1);
    int status = 0;
    CHECK("and ends", waitpid(child, &status, 0) == child);
    EQUAL("it saw the right bytes", status, 0);
    look_away(view);
    close(go[0]);
    close(go[1]);
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

static void look_for_windows(void)
{
    scene it = scene_small();
    eb_window *window = eb_window_make(&it.bus->ring);
    windows = window != NULL;
    if (window) eb_window_release(window);
    scene_end(&it);
}

int main(void)
{
    look_for_windows();
    RUN(where_there_is_no_window_all_is_copied);
    if (!windows) return checked();
    RUN(the_cursor_stands_at_what_is_in_hand);
    RUN(what_is_small_or_not_protected_is_copied);
    RUN(a_publisher_waits_for_what_is_looked_at);
    RUN(what_is_kept_becomes_a_copy_beyond_a_quarter);
    RUN(neighbours_of_a_copy_stay_right);
    RUN(what_is_gone_cannot_be_looked_at);
    RUN(what_is_looked_at_outlives_the_subscription);
    RUN(a_child_has_copies);
    RUN(the_cursor_moves_on_beside_a_sleeper);
    RUN(what_is_kept_holds_no_flood_up);
    RUN(a_cursor_that_was_moved_over_a_view_is_damage);
    return checked();
}
