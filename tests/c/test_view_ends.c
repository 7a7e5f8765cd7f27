/* The ends of what is looked at: released, copied, left behind by its subscription, its bus, its process. */
#include "viewing.h"

#include <sys/syscall.h>

static bool no_memory;

/* In the place of libc's: what a copy and a window need is refused. */
int mprotect(void *at, size_t bytes, int protection)
{
    errno = ENOMEM;
    return no_memory ? -1 : (int)syscall(SYS_mprotect, at, bytes, protection);
}

static void without_memory_for_a_copy_the_cursor_waits(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    put_all(it.peer, 1, 6);
    EQUAL("a batch", eb_receive(sub, 64, EB_POLL), 6);
    eb_view *view = look(sub, 0);
    no_memory = true;
    eb_views_asked(sub, 7);
    EQUAL("all of it is kept in the ring", cursor(it.bus, sub), 0);
    put_all(it.peer, 7, FULL);
    EQUAL("until that is full", put_data(it.peer, 99), EB_FULL);
    CHECK("it is what it was", is_data(eb_view_data(view), 1));
    no_memory = false;
    EQUAL("then there is memory", eb_receive(sub, 1, EB_POLL), 1);
    EQUAL("and it goes on", cursor(it.bus, sub), 6 * PLACE);
    put_all(it.peer, 20, 25);
    CHECK("it is a copy", is_data(eb_view_data(view), 1));
    look_away(view);
    leave(sub);
    scene_end(&it);
}

static void without_memory_for_a_window_all_is_copied(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    no_memory = true;
    put_all(it.peer, 1, 13);
    int status, got = 0;
    while ((status = eb_receive(sub, 64, EB_POLL)) == EB_LARGE || status > 0) {
        if (status == EB_LARGE) EQUAL("the buffer grows", eb_reserve(sub, eb_batch_of(sub)->needed), EB_OK);
        for (int i = 0; i < status; i++)
            CHECK("into it", !eb_batch_of(sub)->beside[i].view && is_data(data_of(sub, (uint32_t)i), (uint64_t)++got));
    }
    no_memory = false;
    EQUAL("all came", got, 13);
    EQUAL("and nothing is kept", cursor(it.bus, sub), 13 * PLACE);
    leave(sub);
    scene_end(&it);
}

/* Nobody can be told by then, so what is looked at is protected as long as the process lives. */
static void without_memory_at_the_end_the_slot_stays(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    eb_subscription *sub = join_views(it.bus, EB_LATEST);
    eb_slot_t *slot = slot_of(it.bus, sub);
    put_all(it.peer, 1, 2);
    EQUAL("two events", eb_receive(sub, 64, EB_POLL), 2);
    eb_view *view = look(sub, 0);
    int file = sub->file.fd;
    no_memory = true;
    leave(sub);
    no_memory = false;
    EQUAL("nobody reaps it", eb_bus_reap(it.peer, EB_POLL), 0);
    put_all(it.peer, 3, FULL - 2);
    EQUAL("an eighth is kept for others", put_data(it.peer, 99), EB_FULL);
    CHECK("and it is what it was", atomic_load(&slot->cursor) == 0 && is_data(eb_view_data(view), 1));
    look_away(view);
    close(file);
    EQUAL("as at its end", eb_bus_reap(it.peer, EB_POLL), 1);
    scene_end(&it);
}

typedef struct {
    const char *data;
    _Atomic bool over, wrong;
    _Atomic uint64_t looks;
} onlooker;

static void *look_on(void *with)
{
    onlooker *me = with;
    while (!atomic_load(&me->over)) {
        if (!is_data(me->data, 5)) atomic_store(&me->wrong, true);
        atomic_fetch_add(&me->looks, 1);
    }
    return NULL;
}

/* Whoever reads them while they are copied sees the same bytes, in the middle of it too. */
static void a_copy_is_made_in_one_step(void)
{
    scene it = scene_of(ROOM, 4, 0, 1);
    put_all(it.peer, 5, 5);
    onlooker me = {.data = NULL};
    eb_window *window = eb_window_make(&it.bus->ring);
    uint64_t offset = EB_HEADER_BYTES + 4;
    me.data = eb_window_at(window, offset);
    pthread_t thread;
    CHECK("a thread looks on", pthread_create(&thread, NULL, look_on, &me) == 0);
    for (uint64_t copies = 0; copies < 2000 || atomic_load(&me.looks) < 1000; copies++)
        CHECK("it is copied", eb_window_copy(window, offset, DATA));
    atomic_store(&me.over, true);
    pthread_join(thread, NULL);
    CHECK("all was right at any time", !atomic_load(&me.wrong));
    put_all(it.peer, 6, 60);
    CHECK("and stays", is_data(me.data, 5));
    eb_window_release(window);
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
    EQUAL("it leaves", eb_unsubscribe(sub), EB_OK);
    EQUAL("nothing more is lent", eb_views_lend(sub, 5), EB_CLOSED);
    eb_subscription_free(sub);
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

int main(void)
{
    if (!has_windows()) return checked();
    RUN(a_copy_is_made_in_one_step);
    RUN(what_is_gone_cannot_be_looked_at);
    RUN(what_is_looked_at_outlives_the_subscription);
    RUN(a_child_has_copies);
    RUN(without_memory_for_a_copy_the_cursor_waits);
    RUN(without_memory_for_a_window_all_is_copied);
    RUN(without_memory_at_the_end_the_slot_stays);
    return checked();
}
