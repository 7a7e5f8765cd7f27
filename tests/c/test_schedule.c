/* What is sent later: in its order, once, whoever is killed where; cancelled, or never. */
#include "later.h"

/* --- in its order --- */

static void what_is_due_is_sent_in_its_order(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    const uint64_t due[] = {30, 10, 20, 10};
    for (uint64_t i = 0; i < 4; i++)
        EQUAL("they are numbered from one on", put_down(it.peer, 0, i + 1), i + 1);
    EQUAL("nothing is due", eb_fire_due(it.peer, EB_POLL), false);
    EQUAL("so nothing comes", next(sub), EB_NOTHING);
    for (uint32_t i = 0; i < 4; i++)
        make_due(it.bus, i, due[i]);
    EQUAL("somebody sends what is due", eb_fire_due(it.peer, EB_POLL), true);
    const int64_t order[] = {2, 4, 3, 1};
    for (int i = 0; i < 4; i++)
        EQUAL("the one that was due first, or was put down first", next(sub), order[i]);
    EQUAL("nothing is left", waiting(it.bus), 0);
    EQUAL("nobody has to look", eb_look_at(it.bus), EB_NEVER);
    EQUAL("all are counted", counted_events(it.bus), sent(it.bus));
    EQUAL("no number is given again", put_down(it.peer, 0, 1), 5);
    leave(sub);
    scene_end(&it);
}

static void what_is_late_is_sent_by_whoever_publishes_or_looks(void)
{
    for (int who = 0; who < 3; who++) {
        scene it = scene_later();
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        if (who < 2) put_down(it.peer, 0, 7);
        make_due(it.bus, 0, 1);
        if (who == 0) EQUAL("a publisher, after its own", put(it.peer, 0, 1), EB_OK);
        if (who == 0) EQUAL("which comes first", next(sub), 1);
        EQUAL("it is sent by then, or by who looks", waiting(it.bus), who == 1);
        if (who == 2) CHECK("whoever puts down what is due", put_down_at(it.peer, 0, 7, 1) > 0);
        EQUAL("then it comes", next(sub), 7);
        EQUAL("once", next(sub), EB_NOTHING);
        leave(sub);
        scene_end(&it);
    }
}

static void it_comes_as_it_was_put_down(void)
{
    scene it = scene_of(4 * CAPACITY, 4, 0, 1);
    make_topics(it.peer, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    int64_t limit = eb_schedule_limit(it.peer);
    for (size_t length = 1; length <= (size_t)limit - EB_HEADER_BYTES; length += length < 100 ? 1 : 97) {
        CHECK("it can be put down", put_down_sized(it.peer, length, length) > 0);
        make_due(it.bus, 0, 1);
        EQUAL("it comes", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("whole", holds_pattern(eb_batch_of(sub), length, length));
        EQUAL("from whoever put it down", eb_batch_of(sub)->sender[0], (uint32_t)getpid());
        CHECK("with the time at which it was sent", eb_wall_clock() - eb_batch_of(sub)->time[0] < (uint64_t)HOUR_NS);
    }
    EQUAL("the largest one can be put down", put_down_sized(it.peer, (size_t)limit - EB_HEADER_BYTES, 1) > 0, true);
    EQUAL("a larger one never", put_down_sized(it.peer, (size_t)limit - EB_HEADER_BYTES + 1, 1), EB_TOO_LARGE);
    leave(sub);
    scene_end(&it);
}

static void names_past_the_table_go_with_it(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_outgoing event = {.topic = EB_INLINE, .system_length = 3, .kind_length = 1, .body_length = 8};
    const char *bytes = "a.bz[\"/\",1]";
    int64_t due = eb_now() + HOUR_NS;
    EQUAL("it has as many bytes as it says", eb_schedule(it.peer, &event, bytes, 11, due, EB_POLL), EB_TOO_LARGE);
    event.body_length = 7;
    EQUAL("then it can be put down", eb_schedule(it.peer, &event, bytes, 11, due, EB_POLL), 1);
    eb_scheduled_info seen;
    EQUAL("it can be read", eb_scheduled_read(it.bus, 0, &seen), 0);
    CHECK("with its names", seen.system_length == 3 && seen.kind_length == 1 && memcmp(seen.names, "a.bz", 4) == 0);
    CHECK("and its path", seen.is_text && seen.path_length == 5 && memcmp(seen.path, "\"/\",1", 5) == 0);
    make_due(it.bus, 0, 1);
    EQUAL("its topic is asked for", eb_receive(sub, 1, EB_POLL), EB_UNDECIDED);
    EQUAL("by its names", eb_batch_of(sub)->system_length, 3);
    leave(sub);
    scene_end(&it);
}

/* --- killed --- */

static void put_one_down(void *with)
{
    put_down(((scene *)with)->bus, 0, 7);
}

static void send_due(void *with)
{
    eb_fire_due(((scene *)with)->bus, EB_POLL);
}

static void cancel_first(void *with)
{
    eb_cancel(((scene *)with)->bus, 1, EB_POLL);
}

static void publish_one_more(void *with)
{
    put(((scene *)with)->bus, 0, 99);
}

/* All that is there is made due, and what comes but for 99 are so many 7. */
static void expect_sevens(scene *it, eb_subscription *sub, int count)
{
    int64_t number;
    int seen = 0;
    EQUAL("others can publish", put(it->peer, 0, 99), EB_OK);
    for (uint32_t i = 0; i < eb_timetable_used(&it->bus->ring); i++)
        if (atomic_load(&entry_of(it->bus, i)->due) != 0) make_due(it->bus, i, 1);
    eb_fire_due(it->peer, EB_POLL);
    while ((number = next(sub)) != EB_NOTHING)
        if (number != 99) {
            EQUAL("it is whole", number, 7);
            seen++;
        }
    EQUAL("it is sent once, or not at all", seen, count);
    EQUAL("nothing is left of it", waiting(it->bus), 0);
    EQUAL("all are counted", counted_events(it->bus), sent(it->bus));
    EQUAL("and the ring is whole", eb_ring_verify(&it->bus->ring), EB_OK);
}

static void who_dies_while_it_puts_down_has_put_down_or_not(void)
{
    const int moments[] = {EB_POINT_lock_taken,      EB_POINT_schedule_copied,   EB_POINT_schedule_written,
                           EB_POINT_schedule_used,   EB_POINT_schedule_numbered, EB_POINT_schedule_look,
                           EB_POINT_schedule_stored, EB_POINT_lock_released,     EB_POINT_schedule_unlocked};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_later();
        eb_subscription *sub = join(it.peer, EB_LATEST, true);
        bool there = i >= 6;
        put_down_at(it.peer, 0, 5, 1);
        EQUAL("an entry was used before", next(sub), 5);
        die_at(moments[i], 1, put_one_down, &it);
        EQUAL("it is there, or it is not", waiting(it.bus), there);
        int64_t after = put_down(it.peer, 0, 7);
        CHECK("no number is given twice", after >= 2 + there);
        EQUAL("both are there", waiting(it.bus), 1 + there);
        EQUAL("the second can be cancelled", eb_cancel(it.peer, (uint64_t)after, EB_POLL), 1);
        expect_sevens(&it, sub, there);
        leave(sub);
        scene_end(&it);
    }
}

static const int SENDING[] = {EB_POINT_lock_taken,         EB_POINT_schedule_intended, EB_POINT_publish_copied,
                              EB_POINT_schedule_committed, EB_POINT_event_counted,     EB_POINT_schedule_freed,
                              EB_POINT_schedule_settled,   EB_POINT_lock_released,     EB_POINT_schedule_told};

static void who_dies_while_it_sends_has_sent_or_another_does(void)
{
    for (size_t i = 0; i < sizeof SENDING / sizeof *SENDING; i++)
        for (int passes = 1; passes <= 3; passes++) {
            bool once = SENDING[i] != EB_POINT_schedule_intended && SENDING[i] != EB_POINT_publish_copied &&
                        SENDING[i] != EB_POINT_schedule_committed && SENDING[i] != EB_POINT_event_counted &&
                        SENDING[i] != EB_POINT_schedule_freed;
            if (once && passes > 1) continue;
            scene it = scene_later();
            eb_subscription *sub = join(it.peer, EB_LATEST, true);
            for (uint32_t n = 0; n < 3; n++)
                put_down(it.peer, 0, 7);
            for (uint32_t n = 0; n < 3; n++)
                make_due(it.bus, n, n + 1);
            die_at(SENDING[i], passes, send_due, &it);
            expect_sevens(&it, sub, 3);
            leave(sub);
            scene_end(&it);
        }
}

static void who_dies_while_it_repairs_leaves_it_to_the_next(void)
{
    const int repairing[] = {EB_POINT_repair_taken, EB_POINT_schedule_freed, EB_POINT_repair_mended};
    for (int sent_it = 0; sent_it < 2; sent_it++)
        for (size_t i = 0; i < sizeof repairing / sizeof *repairing; i++) {
            if (!sent_it && repairing[i] == EB_POINT_schedule_freed) continue;
            scene it = scene_later();
            eb_subscription *sub = join(it.peer, EB_LATEST, true);
            put_down(it.peer, 0, 7);
            make_due(it.bus, 0, 1);
            die_at(sent_it ? EB_POINT_schedule_committed : EB_POINT_publish_copied, 1, send_due, &it);
            die_at(repairing[i], 1, publish_one_more, &it);
            expect_sevens(&it, sub, 1);
            leave(sub);
            scene_end(&it);
        }
}

static void who_dies_while_it_cancels_has_cancelled_or_not(void)
{
    const int moments[] = {EB_POINT_lock_taken, EB_POINT_schedule_freed, EB_POINT_schedule_settled};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_later();
        eb_subscription *sub = join(it.peer, EB_LATEST, true);
        put_down(it.peer, 0, 7);
        die_at(moments[i], 1, cancel_first, &it);
        expect_sevens(&it, sub, i == 0);
        EQUAL("what is over cannot be cancelled", eb_cancel(it.peer, 1, EB_POLL), 0);
        leave(sub);
        scene_end(&it);
    }
}

static void what_was_sent_or_cancelled_is_so_for_good(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("what never was cannot be cancelled", eb_cancel(it.peer, 1, EB_POLL), 0);
    put_down(it.peer, 0, 1);
    put_down(it.peer, 0, 2);
    EQUAL("what is to be sent can", eb_cancel(it.peer, 1, EB_POLL), 1);
    EQUAL("once", eb_cancel(it.peer, 1, EB_POLL), 0);
    make_due(it.bus, 1, 1);
    EQUAL("the other one comes", next(sub), 2);
    EQUAL("and cannot be cancelled any more", eb_cancel(it.peer, 2, EB_POLL), 0);
    EQUAL("nothing else comes", next(sub), EB_NOTHING);
    leave(sub);
    scene_end(&it);
}

/* --- the end --- */

static void nothing_is_sent_on_a_bus_that_was_shut_down(void)
{
    scene it = scene_later();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_down(it.peer, 0, 7);
    EQUAL("the bus is shut down", eb_shutdown(it.peer, EB_POLL), EB_OK);
    make_due(it.bus, 0, 1);
    EQUAL("nothing is sent", eb_fire_due(it.peer, EB_POLL), false);
    EQUAL("who receives comes to the end", next(sub), EB_CLOSED);
    EQUAL("it can be seen what was to be sent", waiting(it.bus), 1);
    EQUAL("no more can be put down", put_down(it.peer, 0, 7), EB_CLOSED);
    leave(sub);
    scene_end(&it);
}

static void who_opens_the_bus_again_finds_what_is_to_be_sent(void)
{
    scene it = scene_later();
    put_down(it.peer, 0, 7);
    make_due(it.bus, 0, 1);
    die_at(EB_POINT_publish_copied, 1, send_due, &it);
    eb_bus_free(it.bus);
    eb_bus_free(it.peer);
    EQUAL("it is repaired", eb_repair(it.ring_fd, it.roster_fd), EB_OK);
    int status;
    it.bus = bus_open(it.ring_fd, it.roster_fd, 1, &status);
    it.peer = bus_open(it.ring_fd, it.roster_fd, 1, &status);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    expect_sevens(&it, sub, 1);
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(what_is_due_is_sent_in_its_order);
    RUN(what_is_late_is_sent_by_whoever_publishes_or_looks);
    RUN(it_comes_as_it_was_put_down);
    RUN(names_past_the_table_go_with_it);
    RUN(who_dies_while_it_puts_down_has_put_down_or_not);
    RUN(who_dies_while_it_sends_has_sent_or_another_does);
    RUN(who_dies_while_it_repairs_leaves_it_to_the_next);
    RUN(who_dies_while_it_cancels_has_cancelled_or_not);
    RUN(what_was_sent_or_cancelled_is_so_for_good);
    RUN(nothing_is_sent_on_a_bus_that_was_shut_down);
    RUN(who_opens_the_bus_again_finds_what_is_to_be_sent);
    return checked();
}
