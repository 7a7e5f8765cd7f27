/* What a subscription hands out: laps between copy and check, catching up, verdicts, buffers at their limits, the end.
 */
#include "scene.h"

static eb_bus *sender;
static uint64_t sending; /* the number of the next event of a lap */

static void send_a_lap(void *with)
{
    uint64_t last = sending + *(uint64_t *)with - 1;
    put_many(sender, 0, sending, last);
    sending = last + 1;
}

/* Overwritten after the copy and before the look: the copy is thrown away, what was skipped is counted. */
static void a_lap_between_copy_and_check_is_seen(void)
{
    for (uint64_t lap = 1; lap <= 3 * FULL_RING; lap += 50)
        for (int pass = 1; pass <= 4; pass++) {
            scene it = scene_of(CAPACITY, 4, (uint64_t)-1000, 1);
            eb_subscription *sub = join(it.bus, EB_LATEST, false);
            sender = it.peer;
            put_many(it.peer, 0, 1, FULL_RING);
            sending = FULL_RING + 1;
            plan_at(EB_POINT_receive_read, pass, send_a_lap, &lap);
            uint64_t heard = 0, last = 0;
            for (int count; (count = eb_receive(sub, 8, EB_POLL)) > 0; heard += (uint64_t)count) {
                const eb_batch *batch = eb_batch_of(sub);
                const char *text = batch->buffer + 1;
                for (int i = 0; i < count; i++, text += 2) {
                    CHECK("sequences only grow", batch->sequence[i] > last);
                    last = batch->sequence[i];
                    EQUAL("each text belongs to its sequence", strtoull(text, (char **)&text, 10), last);
                }
                CHECK("a batch is one array", text == batch->buffer + batch->head.json_length + 1);
            }
            CHECK("it was overtaken", happened());
            EQUAL("the last event came", last, FULL_RING + lap);
            EQUAL("what was not heard is counted, exactly", heard + eb_lost(sub), FULL_RING + lap);
            CHECK("and only if it was overwritten",
                  eb_lost(sub) == (lap < (uint64_t)pass ? 0 : lap - (uint64_t)pass + 1));
            leave(sub);
            scene_end(&it);
        }
}

static void what_was_copied_beside_is_thrown_away_too(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, false);
    const eb_batch *batch = eb_batch_of(sub);
    uint64_t lap = 1;
    EQUAL("data", eb_send_raw(&(eb_route){.bus = it.peer, .topic = 0}, "/old", 4, "gone", 4), EB_OK);
    EQUAL("more data", eb_send_raw(&(eb_route){.bus = it.peer, .topic = 0}, "/new", 4, "kept", 4), EB_OK);
    put_many(it.peer, 0, 3, FULL_RING);
    sender = it.peer;
    sending = FULL_RING + 1;
    plan_at(EB_POINT_receive_read, 1, send_a_lap, &lap);
    EQUAL("a batch, whose first event is overwritten when copied", eb_receive(sub, 8, EB_POLL), 8);
    CHECK("it happened", happened() && eb_lost(sub) == 1);
    CHECK("it has the data kept and no other", batch->head.beside_count == 1 && batch->head.json_count == 7);
    const eb_beside *kept = &batch->beside[0];
    CHECK("at the buffer's end", kept->index == 0 && kept->offset + 8 == batch->size);
    CHECK("whole", memcmp(batch->buffer + kept->offset, "/newkept", 8) == 0);
    leave(sub);
    scene_end(&it);
}

static void a_gated_subscriber_that_catches_up_is_lapped_until_where_it_joined(void)
{
    for (uint64_t lap = 0; lap <= FULL_RING; lap += FULL_RING / 3) {
        scene it = scene_small();
        put_many(it.peer, 0, 1, 2 * FULL_RING);
        eb_subscription *sub = join(it.bus, EB_OLDEST, true);
        EQUAL("it begins at the oldest event", next(sub), FULL_RING + 1);
        sender = it.peer;
        sending = 2 * FULL_RING + 1;
        plan_at(EB_POINT_receive_read, 1, send_a_lap, &lap);
        int64_t number, last = FULL_RING + 1;
        while ((number = next(sub)) > 0) {
            EQUAL("it goes on in order, but for a lap", number, last == FULL_RING + 1 ? number : last + 1);
            last = number;
        }
        EQUAL("to the last", last, 2 * FULL_RING + lap);
        EQUAL("what it missed of the past is counted", eb_lost(sub), lap == 0 ? 0 : lap - 1);
        leave(sub);
        scene_end(&it);
    }
}

static void what_was_sent_after_it_joined_is_not_overwritten_while_it_catches_up(void)
{
    scene it = scene_small();
    put_many(it.peer, 0, 1, 2 * FULL_RING);
    eb_subscription *sub = join(it.bus, EB_OLDEST, true);
    uint64_t number = 2 * FULL_RING;
    while (put(it.peer, 0, number + 1) == EB_OK)
        number++;
    EQUAL("a ring's worth goes in behind it", number, 3 * FULL_RING);
    EQUAL("all that it caught up on is gone", next(sub), 2 * FULL_RING + 1);
    EQUAL("and counted", eb_lost(sub), FULL_RING);
    leave(sub);
    scene_end(&it);
}

static void a_subscription_begins_where_it_was_told(void)
{
    const struct {
        int64_t start, first, lost;
    } cases[] = {{EB_LATEST, 301, 0},
                 {EB_OLDEST, 300 - FULL_RING + 1, 0},
                 {300, 300, 0},
                 {250, 250, 0},
                 {301, 301, 0},
                 {1, 300 - FULL_RING + 1, 300 - FULL_RING},
                 {100, 300 - FULL_RING + 1, 300 - FULL_RING - 99}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        scene it = scene_small();
        put_many(it.peer, 0, 1, 300);
        eb_subscription *sub = join(it.bus, cases[i / 2].start, i % 2);
        EQUAL("what is gone is counted at once", eb_lost(sub), cases[i / 2].lost);
        eb_subscriber_info info;
        EQUAL("the subscription is there", eb_subscriber(it.peer, 0, &info), 1);
        EQUAL("and others see it", info.lost, cases[i / 2].lost);
        int64_t expected = cases[i / 2].first, number;
        for (uint64_t n = 301; n <= 351; n++) {
            for (; (number = next(sub)) > 0; expected++)
                EQUAL("heard from there on, in order", number, expected);
            EQUAL("more is sent", put(it.peer, 0, n), EB_OK);
        }
        EQUAL("all is heard", expected, 351);
        EQUAL("nothing else is lost", eb_lost(sub), cases[i / 2].lost);
        leave(sub);
        scene_end(&it);
    }
}

static void nobody_begins_after_the_next_event(void)
{
    scene it = scene_small();
    eb_terms terms = {.system = "a.*", .kind = "**", .name = "", .start = 5, .gated = 1};
    int status;
    put_many(it.peer, 0, 1, 3);
    CHECK("what is to come has no place yet", !subscribe(it.bus, &terms, EB_POLL, &status) && status == EB_AHEAD);
    eb_subscriber_info info;
    EQUAL("and no slot is taken", eb_subscriber(it.peer, 0, &info), 0);
    scene_end(&it);
}

static void what_is_skipped_before_its_start_is_not_lost(void)
{
    scene it = scene_small();
    put_many(it.peer, 0, 1, 400);
    eb_subscription *early = join(it.bus, 390, false), *late = join(it.bus, 390, false);
    put_many(it.peer, 0, 401, 420);
    EQUAL("lapped before its start, it begins there", next(early), 390);
    EQUAL("and misses nothing", eb_lost(early), 0);
    put_many(it.peer, 0, 421, 700);
    EQUAL("lapped past it, it goes on at the oldest", next(late), 700 - FULL_RING + 1);
    EQUAL("and misses what was from there on", eb_lost(late), 700 - FULL_RING + 1 - 390);
    leave(early);
    leave(late);
    scene_end(&it);
}

static void a_topic_without_a_verdict_is_asked_about_once(void)
{
    scene it = scene_small();
    make_topics(it.bus, 3);
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST, .gated = 1};
    int status;
    eb_subscription *sub = subscribe(it.bus, &terms, EB_POLL, &status);
    const uint32_t topics[] = {0, 1, 2, 0, 1, 2};
    for (int i = 0; i < 6; i++)
        put(it.peer, topics[i], 10 + (uint64_t)i);
    EQUAL("the first is asked about", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    EQUAL("again, until it is decided", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    EQUAL("by its number", eb_batch_of(sub)->undecided, 0);
    CHECK("and names", eb_batch_of(sub)->system_length == 1 && !memcmp(eb_batch_of(sub)->names, "ak0", 3));
    EQUAL("its verdict is taken", eb_decide(sub, 0, 1), 0);
    EQUAL("what was read before the next question comes first", eb_receive(sub, 8, EB_POLL), 1);
    EQUAL("then the question", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    EQUAL("unheard is a verdict too", eb_decide(sub, 1, 0), 1);
    CHECK("and makes deaf", eb_slot_deaf(&it.bus->roster, 0, 1) && !eb_slot_deaf(&it.bus->roster, 0, 0));
    EQUAL("the third is asked about", eb_receive(sub, 8, EB_POLL), EB_UNDECIDED);
    EQUAL("heard", eb_decide(sub, 2, 1), 2);
    EQUAL("all that are heard come at once", eb_receive(sub, 8, EB_POLL), 3);
    CHECK("in order", !memcmp(eb_batch_of(sub)->buffer, "[12,\n13,\n15]", 12));
    EQUAL("a number past the table has no verdict", eb_decide(sub, EB_TOPICS, 1), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

static void a_batch_has_a_limit(void)
{
    scene it = scene_of(1 << 16, 4, 0, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_many(it.peer, 0, 1, 600);
    EQUAL("the one asked for", eb_receive(sub, 3, EB_POLL), 3);
    EQUAL("at least one", eb_receive(sub, 0, EB_POLL), 1);
    EQUAL("at most what the batch holds", eb_receive(sub, 1000, EB_POLL), EB_BATCH_LIMIT);
    CHECK("the sequences are there to its end", eb_batch_of(sub)->sequence[EB_BATCH_LIMIT - 1] == 4 + EB_BATCH_LIMIT);
    leave(sub);
    scene_end(&it);
}

static void an_event_larger_than_the_buffer_is_waited_with(void)
{
    scene it = scene_of(1 << 20, 4, 0, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_batch *batch = eb_batch_of(sub);
    uint64_t size = batch->size;
    put(it.peer, 0, 1);
    EQUAL("one that needs all of the buffer", put_sized(it.peer, 0, size - 4, 1), EB_OK);
    EQUAL("one byte more", put_sized(it.peer, 0, size - 3, 2), EB_OK);
    EQUAL("what stands before comes first", eb_receive(sub, 8, EB_POLL), 1);
    EQUAL("it fits to the last byte", eb_receive(sub, 8, EB_POLL), 1);
    CHECK("whole", holds_pattern(batch, size - 4, 1));
    EQUAL("the longer one does not", eb_receive(sub, 8, EB_POLL), EB_LARGE);
    CHECK("its need is told", batch->needed > size);
    EQUAL("a smaller buffer is none", eb_reserve(sub, 16), EB_OK);
    CHECK("it is as it was", batch->size == size);
    EQUAL("the need is met", eb_reserve(sub, batch->needed), EB_OK);
    EQUAL("it is received", eb_receive(sub, 8, EB_POLL), 1);
    CHECK("whole", holds_pattern(batch, size - 3, 2));
    leave(sub);
    scene_end(&it);
}

/* Text grows from the front, data from the end: they meet and never overlap. */
static void both_ends_of_the_buffer_meet(void)
{
    for (uint64_t spare = 0; spare <= 4; spare++) {
        scene it = scene_of(1 << 20, 4, 0, 1);
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        eb_batch *batch = eb_batch_of(sub);
        char *data = pattern(40000, 3);
        size_t text =
            batch->size - 40004 - 4 + 2 - spare; /* beside path and data: brackets and two bytes for the end */
        EQUAL("data", eb_send_raw(&(eb_route){.bus = it.peer, .topic = 0}, "/raw", 4, data + 1, 40000), EB_OK);
        EQUAL("text", put_sized(it.peer, 0, text, 4), EB_OK);
        int count = eb_receive(sub, 8, EB_POLL);
        EQUAL("both are in one batch while they fit", count, spare < 2 ? 1 : 2);
        const eb_beside *beside = &batch->beside[0];
        CHECK("the data are at the end", beside->offset + 40004 == batch->size && beside->data_length == 40000);
        CHECK("whole", !memcmp(batch->buffer + beside->offset, "/raw", 4) &&
                           !memcmp(batch->buffer + beside->offset + 4, data + 1, 40000));
        if (count == 1) EQUAL("else the text is in the next", eb_receive(sub, 8, EB_POLL), 1);
        CHECK("the text is whole", holds_pattern(batch, text, 4));
        free(data);
        leave(sub);
        scene_end(&it);
    }
}

static void a_closed_bus_is_drained_before_its_end(void)
{
    scene it = scene_small();
    eb_subscription *gated = join(it.bus, EB_LATEST, true), *dropping = join(it.bus, EB_LATEST, false);
    put_many(it.peer, 0, 1, 3);
    EQUAL("the bus is closed", eb_shutdown(it.peer, EB_POLL), EB_OK);
    for (int n = 1; n <= 3; n++) {
        EQUAL("what was sent before comes", next(gated), n);
        EQUAL("to all", next(dropping), n);
    }
    EQUAL("then the end, without a wait", eb_receive(gated, 1, EB_FOREVER), EB_CLOSED);
    EQUAL("for all", eb_receive(dropping, 1, EB_FOREVER), EB_CLOSED);
    EQUAL("each time", next(gated), EB_CLOSED);
    leave(gated);
    leave(dropping);
    scene_end(&it);
}

static void a_cursor_somebody_else_moved_is_noticed(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_many(it.peer, 0, 1, 2);
    atomic_fetch_sub(&slot_of(it.bus, sub)->cursor, 8);
    EQUAL("before it is used to free room", next(sub), EB_DAMAGED);
    CHECK("by its name", strstr(eb_detail(), "slot") != NULL);
    atomic_fetch_add(&slot_of(it.bus, sub)->cursor, 16);
    EQUAL("also one that was moved on, to where no record begins", next(sub), EB_DAMAGED);
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(a_lap_between_copy_and_check_is_seen);
    RUN(what_was_copied_beside_is_thrown_away_too);
    RUN(a_gated_subscriber_that_catches_up_is_lapped_until_where_it_joined);
    RUN(what_was_sent_after_it_joined_is_not_overwritten_while_it_catches_up);
    RUN(a_subscription_begins_where_it_was_told);
    RUN(nobody_begins_after_the_next_event);
    RUN(what_is_skipped_before_its_start_is_not_lost);
    RUN(a_topic_without_a_verdict_is_asked_about_once);
    RUN(a_batch_has_a_limit);
    RUN(an_event_larger_than_the_buffer_is_waited_with);
    RUN(both_ends_of_the_buffer_meet);
    RUN(a_closed_bus_is_drained_before_its_end);
    RUN(a_cursor_somebody_else_moved_is_noticed);
    return checked();
}
