/* Who holds publishers back: the gate and its cache, subscribers that join while somebody publishes, a full ring, room
 * given back. */
#include "scene.h"

static eb_event_count *space_of(const scene *it)
{
    return &it->bus->roster.header->space;
}

/* How many numbers from `first` go in before the ring is full. */
static uint64_t fill(eb_bus *bus, uint64_t first)
{
    uint64_t number = first;
    int status;
    while ((status = put(bus, 0, number)) == EB_OK)
        number++;
    EQUAL("the ring is full, and nothing else is wrong", status, EB_FULL);
    return number - first;
}

static void the_slowest_gated_cursor_is_the_gate(void)
{
    scene it = scene_small();
    int slowest;
    uint64_t committed = 0;
    CHECK("without subscribers there is none", eb_roster_gate(&it.bus->roster, 0, CAPACITY, &slowest) == 0);
    EQUAL("and nobody is the slowest", slowest, -1);
    eb_subscription *first = join(it.bus, EB_LATEST, true), *drop = join(it.bus, EB_LATEST, false);
    EQUAL("an event goes in", put(it.peer, 0, 1), EB_OK);
    eb_subscription *second = join(it.bus, EB_LATEST, true);
    EQUAL("another too", put(it.peer, 0, 2), EB_OK);
    committed = atomic_load(&it.bus->ring.header->committed);
    CHECK("it is the cursor furthest back", eb_roster_gate(&it.bus->roster, committed, CAPACITY, &slowest) == 0);
    EQUAL("whose slot is named", slowest, eb_slot(first));
    EQUAL("the first reads", eb_receive(first, 8, EB_POLL), 2);
    CHECK("now it is the second's", eb_roster_gate(&it.bus->roster, committed, CAPACITY, &slowest) == RECORD);
    EQUAL("named for people too", eb_slowest(it.peer), eb_slot(second));
    leave(second);
    CHECK("a dropping one holds nobody", eb_roster_gate(&it.bus->roster, committed, CAPACITY, &slowest) == committed);
    leave(first);
    leave(drop);
    scene_end(&it);
}

/* A joiner and a publisher in every order: what is sent after the call returned is heard, all of it. */
static eb_bus *sender;

static void send_some(void *with)
{
    for (uint64_t n = *(uint64_t *)with; n > 0; n--) {
        int status = put(sender, 0, n);
        if (status == EB_FULL) return;
        EQUAL("a joiner stops nobody", status, EB_OK);
    }
}

static void expect_gapless(eb_subscription *sub, uint64_t first, uint64_t last)
{
    for (uint64_t sequence = first; sequence <= last; sequence++)
        EQUAL("each event comes once and in order", next_sequence_of(sub), sequence);
    EQUAL("no other comes", next_sequence_of(sub), EB_NOTHING);
    EQUAL("none is lost", eb_lost(sub), 0);
}

static void a_joiner_misses_nothing_whenever_publishers_publish(void)
{
    const int points[] = {EB_POINT_slot_locked, EB_POINT_slot_claimed, EB_POINT_slot_cursor, EB_POINT_slot_open};
    for (int i = 0; i < 4 * 4 * 4; i++) {
        bool gated = i & 1, oldest = i & 2;
        uint64_t meanwhile = (uint64_t[]){0, 1, FULL_RING, 500}[i / 4 % 4];
        scene it = scene_of(CAPACITY, 4, (uint64_t)-2000, 1);
        sender = it.peer;
        for (uint64_t n = 1; n <= 150; n++)
            put(it.peer, 0, n);
        plan_at(points[i / 16], 1, send_some, &meanwhile);
        eb_subscription *sub = join(it.bus, oldest ? EB_OLDEST : EB_LATEST, gated);
        CHECK("somebody published meanwhile", happened());
        uint64_t before = sent(it.bus), used = atomic_load(&it.bus->ring.header->committed);
        uint64_t kept = (used - atomic_load(&it.bus->ring.header->oldest)) / RECORD;
        EQUAL("publishers go on", put(it.peer, 0, 1), EB_OK);
        EQUAL("and again", put(it.peer, 0, 2), EB_OK);
        if (oldest) {
            uint64_t first = (uint64_t)next_sequence_of(sub);
            CHECK("from the oldest event kept", first >= before - kept + 1);
            EQUAL("what was lapped since is counted", first - 1 - (before - kept), eb_lost(sub));
            while (next_sequence_of(sub) > 0)
                EQUAL("all others follow", eb_batch_of(sub)->sequence[0], ++first);
            EQUAL("to the last", first, before + 2);
        } else {
            expect_gapless(sub, before + 1, before + 2);
        }
        leave(sub);
        scene_end(&it);
    }
}

static void a_cached_gate_is_never_past_a_gated_cursor(void)
{
    scene it = scene_small();
    for (uint64_t n = 1; n <= 3 * FULL_RING - 50; n++)
        EQUAL("nobody holds anybody up", put(it.peer, 0, n), EB_OK);
    eb_ring_header *header = it.bus->ring.header;
    uint64_t cached = atomic_load(&header->gate);
    CHECK("the gate is an old one", cached < atomic_load(&header->committed));
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    uint64_t cursor = atomic_load(&slot_of(it.bus, sub)->cursor), first = sent(it.bus) + 1;
    EQUAL("while it suffices", put(it.peer, 0, 1), EB_OK);
    EQUAL("it is not computed again", atomic_load(&header->gate), cached);
    EQUAL("a whole ring fits behind the cursor", fill(it.peer, 2), FULL_RING - 1);
    EQUAL("then the gate is the cursor", atomic_load(&header->gate), cursor);
    expect_gapless(sub, first, first + FULL_RING - 1);
    EQUAL("read, it makes room for a ring again", fill(it.peer, 1), FULL_RING);
    leave(sub);
    scene_end(&it);
}

static void a_cursor_is_not_passed_by_a_word(void)
{
    for (uint64_t spare = 0; spare <= 16; spare += 8) {
        scene it = scene_small();
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        for (uint64_t bytes = CAPACITY - RECORD - spare, part; bytes > 0; bytes -= part) {
            part = bytes > 1024 ? 512 : bytes;
            EQUAL("the ring is filled but for an event", put_sized(it.peer, 0, part - EB_HEADER_BYTES, 1), EB_OK);
        }
        EQUAL("which needs a word more, for the next sequence", put(it.peer, 0, 1), spare < 8 ? EB_FULL : EB_OK);
        EQUAL("nothing of the cursor's was overwritten", eb_ring_verify(&it.bus->ring), EB_OK);
        CHECK("the oldest position waits for it", atomic_load(&it.bus->ring.header->oldest) == 0);
        leave(sub);
        scene_end(&it);
    }
}

static void one_event_read_makes_room_for_one(void)
{
    scene it = scene_of(CAPACITY, 4, (1ull << 32) - 4000, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    uint64_t sent_before = fill(it.peer, 1);
    for (uint64_t n = 1; n <= 300; n++) {
        EQUAL("the oldest is read", next(sub), n);
        EQUAL("one goes in", fill(it.peer, sent_before + n), 1);
    }
    leave(sub);
    scene_end(&it);
}

/* Publishers count themselves in, look, sleep; a subscriber stores its cursor, then looks whether anybody waits. */
static void room_is_announced_when_it_is_worth_it(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    fill(it.peer, 1);
    uint32_t epoch = eb_event_prepare(space_of(&it));
    uint64_t read = 0;
    while (atomic_load(&space_of(&it)->epoch) == epoch && next(sub) > 0)
        read++;
    EQUAL("an eighth of the ring is announced", read, (CAPACITY / 8 + RECORD - 1) / RECORD);
    EQUAL("the waiter does not sleep", eb_event_wait(space_of(&it), epoch, 1), EB_OK);
    EQUAL("nobody is counted in any more", atomic_load(&space_of(&it)->waiters), 0);
    epoch = eb_event_prepare(space_of(&it));
    EQUAL("an eighth is not reached by one", next(sub), (int64_t)read + 1);
    EQUAL("so the waiter would sleep until its time is up", eb_event_wait(space_of(&it), epoch, 1), EB_NOTHING);
    EQUAL("what remains is read", eb_receive(sub, EB_BATCH_LIMIT, EB_POLL), FULL_RING - read - 1);
    EQUAL("and announced", eb_event_wait(space_of(&it), epoch, 1), EB_OK);
    EQUAL("one more event", put(it.peer, 0, 9), EB_OK);
    epoch = eb_event_prepare(space_of(&it));
    EQUAL("is all there is", next(sub), 9);
    EQUAL("all is announced, however little", eb_event_wait(space_of(&it), epoch, 1), EB_OK);
    leave(sub);
    scene_end(&it);
}

static int send_patiently(eb_bus *bus, uint64_t number)
{
    char text[32];
    const eb_outgoing event = {.body_length =
                                   (uint32_t)snprintf(text, sizeof text, "[%llu]", (unsigned long long)number)};
    return eb_send_batch(bus, &event, 1, text, event.body_length, EB_FOREVER);
}

static void drain(void *with)
{
    EQUAL("the subscriber reads all", eb_receive(with, EB_BATCH_LIMIT, EB_POLL), FULL_RING);
}

static void unsubscribe(void *with)
{
    eb_unsubscribe(with);
}

static void room_made_before_a_publisher_sleeps_is_seen(void)
{
    for (int i = 0; i < 2; i++) {
        scene it = scene_small();
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        fill(it.peer, 1);
        plan_at(EB_POINT_event_flagged, 1, i ? unsubscribe : drain, sub);
        EQUAL("a publisher that waits looks once more", send_patiently(it.peer, 9), EB_INTERRUPTED);
        CHECK("after it had said that it waits", happened());
        EQUAL("and sends", send_patiently(it.peer, 9), EB_OK);
        leave(sub);
        scene_end(&it);
    }
}

/* Before it says that it waits nobody tells it, so it must look; had it slept, it would have looked for the dead. */
static void room_made_before_a_publisher_says_that_it_waits_is_seen(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true), *dead = join(it.bus, EB_LATEST, false);
    fill(it.peer, 1);
    die_with(dead);
    plan_at(EB_POINT_space_wanted, 1, drain, sub);
    EQUAL("a publisher finds room", send_patiently(it.peer, 9), EB_INTERRUPTED);
    CHECK("made before it said that it waits", happened());
    CHECK("without a sleep", atomic_load(&slot_of(it.bus, dead)->owner) & EB_SLOT_STATE);
    EQUAL("and sends", send_patiently(it.peer, 9), EB_OK);
    eb_subscription_free(dead);
    leave(sub);
    scene_end(&it);
}

static void a_subscriber_is_woken_when_the_ring_is_full(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    fill(it.peer, 1);
    eb_waiter_raise(&it.bus->roster, eb_slot(sub)); /* asleep with a whole ring to read */
    send_patiently(it.peer, 9);
    EQUAL("whoever waits for room wakes it", eb_semaphore_wait(&slot_of(it.bus, sub)->semaphore, 1), EB_OK);
    leave(sub);
    scene_end(&it);
}

static void the_slowest_is_woken_with_its_flag_down(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    fill(it.peer, 1); /* and the one that lowered its flag died before it woke it */
    send_patiently(it.peer, 9);
    EQUAL("whoever waits for room wakes it", eb_semaphore_wait(&slot_of(it.bus, sub)->semaphore, 1), EB_OK);
    leave(sub);
    scene_end(&it);
}

static scene *full;

static void drain_and_push_in(void *with)
{
    drain(with);
    EQUAL("another publisher finds the room that became free kept", put(full->bus, 0, 1), EB_FULL);
}

static void what_becomes_free_is_kept_for_who_waits(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_outgoing events[FULL_RING];
    char bytes[3 * FULL_RING];
    for (unsigned i = 0; i < FULL_RING; i++) {
        events[i] = (eb_outgoing){.body_length = 3};
        memcpy(bytes + 3 * i, "[1]", 3);
    }
    fill(it.peer, 1);
    full = &it;
    plan_at(EB_POINT_event_flagged, 1, drain_and_push_in, sub);
    int status = eb_send_batch(it.peer, events, FULL_RING, bytes, sizeof bytes, EB_FOREVER);
    EQUAL("a batch that needs the whole ring waits", status, EB_INTERRUPTED);
    CHECK("while all was read", happened());
    status = eb_send_batch(it.peer, events, FULL_RING, bytes, sizeof bytes, EB_FOREVER);
    EQUAL("and gets it", status, EB_OK);
    drain(sub);
    EQUAL("then it is the others' turn", put(full->bus, 0, 1), EB_OK);
    leave(sub);
    scene_end(&it);
}

static void an_interrupted_bus_waits_no_more(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    fill(it.peer, 1);
    eb_bus_interrupt(it.peer);
    EQUAL("a publisher gives up", send_patiently(it.peer, 9), EB_CLOSED);
    leave(sub);
    scene_end(&it);
}

static void join_and_die(void *with)
{
    eb_bus *bus = with;
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST, .gated = 1};
    int status;
    subscribe(bus, &terms, EB_POLL, &status);
}

static void the_dead_hold_nobody_up(void)
{
    const int points[] = {EB_POINT_slot_locked, EB_POINT_slot_claimed, EB_POINT_slot_cursor, EB_POINT_slot_open};
    for (int i = 0; i < 4; i++) {
        scene it = scene_small();
        die_at(points[i], 1, join_and_die, it.bus);
        for (uint64_t n = 1; n <= 3 * FULL_RING; n++)
            EQUAL("a poll reaps the dead and sends", put(it.peer, 0, n), EB_OK);
        eb_subscriber_info info;
        EQUAL("the slot is free", eb_subscriber(it.bus, 0, &info), 0);
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        EQUAL("and can be taken", eb_slot(sub), 0);
        EQUAL("its new owner counts", fill(it.peer, 1), FULL_RING);
        leave(sub);
        scene_end(&it);
    }
}

int main(void)
{
    RUN(the_slowest_gated_cursor_is_the_gate);
    RUN(a_joiner_misses_nothing_whenever_publishers_publish);
    RUN(a_cached_gate_is_never_past_a_gated_cursor);
    RUN(a_cursor_is_not_passed_by_a_word);
    RUN(one_event_read_makes_room_for_one);
    RUN(room_is_announced_when_it_is_worth_it);
    RUN(room_made_before_a_publisher_sleeps_is_seen);
    RUN(room_made_before_a_publisher_says_that_it_waits_is_seen);
    RUN(a_subscriber_is_woken_when_the_ring_is_full);
    RUN(the_slowest_is_woken_with_its_flag_down);
    RUN(what_becomes_free_is_kept_for_who_waits);
    RUN(an_interrupted_bus_waits_no_more);
    RUN(the_dead_hold_nobody_up);
    return checked();
}
