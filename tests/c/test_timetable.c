/* The timetable in the parking: how much there may be, beside what members have in hand; and entries that say what cannot
 * be. */
#include "later.h"
#include "parked.h"

/* --- how much --- */

static void there_is_room_until_there_is_none(void)
{
    for (size_t length = 1; length <= 1000; length += 333) {
        scene it = scene_large();
        eb_ring *ring = &it.bus->ring;
        uint64_t each = EB_BLOCKS(EB_RECORD_BYTES(length)) * EB_PARKING_BLOCK + EB_PARKING_BLOCK;
        uint64_t most = ring->parking_bytes / 2 / each, limit = eb_timetable_limit(ring);
        if (limit < most) most = limit;
        for (int round = 0; round < 3; round++) {
            for (uint64_t n = 1; n <= most; n++)
                CHECK("there is room", put_down_sized(it.peer, length, n) > 0);
            EQUAL("and then none", put_down_sized(it.peer, length, 1), EB_FULL);
            EQUAL("all are there", waiting(it.bus), most);
            uint64_t last = atomic_load(&ring->header->scheduled);
            EQUAL("one can be cancelled", eb_cancel(it.peer, last - most / 2, EB_POLL), 1);
            CHECK("then there is room for one", put_down_sized(it.peer, length, 1) > 0);
            EQUAL("and no more", put_down_sized(it.peer, length, 1), EB_FULL);
            for (uint64_t n = 0; n <= most; n++)
                eb_cancel(it.peer, last + 1 - n, EB_POLL);
            EQUAL("all are cancelled", waiting(it.bus), 0);
            EQUAL("and take no room", eb_timetable_used(ring), 0);
        }
        scene_end(&it);
    }
}

static void what_is_put_down_and_what_is_parked_keep_apart(void)
{
    scene it = scene_large();
    eb_subscription *holder = hold_one(&it, LONG, 7), *other = join_group(it.bus, false);
    uint64_t count = 0;
    while (put_down_sized(it.peer, LONG, 100 + count) > 0)
        count++;
    go_round(&it);
    CHECK("what a member has in hand is parked all the same", is_parked(&it, 0));
    EQUAL("no more can be put down", put_down_sized(it.peer, LONG, 1), EB_FULL);
    give_back(holder, 0);
    expect_next(other, LONG, 7, 2);
    EQUAL("it is done", eb_ack(other), EB_OK);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    for (uint32_t i = 0; i < count; i++)
        make_due(it.bus, i, i + 1);
    for (uint64_t i = 0; i < count; i++) {
        EQUAL("what was put down comes", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("whole", holds_pattern(eb_batch_of(sub), LONG, 100 + i));
    }
    leave(sub);
    leave(holder);
    leave(other);
    scene_end(&it);
}

static void a_parking_that_is_full_has_room_for_nothing(void)
{
    scene it = scene_large();
    eb_subscription *holder = hold_one(&it, LARGEST, 7);
    go_round(&it);
    EQUAL("the largest event takes all of it", eb_parked(it.bus), it.bus->ring.parking_bytes);
    EQUAL("nothing can be put down", put_down(it.peer, 0, 1), EB_FULL);
    EQUAL("it is done", eb_ack_event(holder, 1), EB_OK);
    EQUAL("then something can", put_down(it.peer, 0, 1), 1);
    leave(holder);
    scene_end(&it);
}

static void what_is_put_down_needs_room_for_its_entry_too(void)
{
    for (uint64_t blocks = 1; blocks <= 3; blocks++) {
        scene it = scene_large();
        eb_subscription *holder = hold_one(&it, LARGEST - 3 * EB_PARKING_BLOCK, 7);
        go_round(&it);
        int64_t status = put_down_sized(it.peer, blocks * EB_PARKING_BLOCK - EB_HEADER_BYTES, 1);
        EQUAL("of three blocks that are left, an entry takes one", status, blocks < 3 ? 1 : EB_FULL);
        leave(holder);
        scene_end(&it);
    }
}

static void what_is_parked_leaves_the_timetable_alone(void)
{
    for (uint64_t left = 1; left <= 2; left++) {
        scene it = scene_large();
        eb_subscription *holder = hold_one(&it, LARGEST - left * EB_PARKING_BLOCK, 7);
        put_down(it.peer, 1, 5);
        if (left == 1) go_until_full(&it);
        else go_round(&it);
        EQUAL("what is put down takes two blocks", is_parked(&it, 0), left == 2);
        EQUAL("and is still there", waiting(it.bus), 1);
        leave(holder);
        scene_end(&it);
    }
}

/* --- no room in the ring --- */

static void what_finds_no_room_is_sent_once_there_is_some(void)
{
    scene it = scene_large();
    eb_ring_header *header = it.bus->ring.header;
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    put_down_sized(it.peer, LONG, 7);
    int count = 0;
    while (put(it.peer, 1, 1) == EB_OK)
        count++;
    make_due(it.bus, 0, 1);
    int64_t before = eb_now();
    EQUAL("there is no room", eb_fire_due(it.peer, EB_POLL), false);
    EQUAL("it stays", waiting(it.bus), 1);
    CHECK("it is tried again soon", eb_look_at(it.bus) > before && eb_look_at(it.bus) < eb_now() + EB_SLICE_NS);
    EQUAL("and publishers leave so much room", eb_timetable_overdue(&it.bus->ring), EB_RECORD_BYTES(LONG));
    for (int i = 0; i < count; i++)
        EQUAL("the others come first", next(sub), 1);
    while (atomic_load(&header->look) != 0)
        eb_fire_due(it.peer, EB_POLL);
    EQUAL("then it comes", eb_receive(sub, 1, EB_POLL), 1);
    CHECK("whole", holds_pattern(eb_batch_of(sub), LONG, 7));
    EQUAL("once", next(sub), EB_NOTHING);
    EQUAL("and nothing is kept free any more", eb_timetable_overdue(&it.bus->ring), 0);
    leave(sub);
    scene_end(&it);
}

/* --- scribbled --- */

typedef struct {
    const char *what;
    size_t where; /* in the entry */
    uint64_t value;
} scribble;

static void an_entry_that_says_what_cannot_be_is_none(void)
{
    const uint64_t bytes = EB_RECORD_BYTES(1), parking = ROOM / 4;
    const scribble all[] = {{"no number", offsetof(eb_scheduled, number), 0},
                            {"another number", offsetof(eb_scheduled, number), 77},
                            {"due in another age", offsetof(eb_scheduled, due), 1ull << 63},
                            {"a place in the ring", offsetof(eb_scheduled, place), 0},
                            {"a place inside of a block", offsetof(eb_scheduled, place), 8 | EB_PARKED},
                            {"another record's place", offsetof(eb_scheduled, place), 512 | EB_PARKED},
                            {"a place past the parking", offsetof(eb_scheduled, place), parking | EB_PARKED},
                            {"a place far away", offsetof(eb_scheduled, place), ~0ull},
                            {"its own place", offsetof(eb_scheduled, place), (parking - 64) | EB_PARKED},
                            {"no bytes", offsetof(eb_scheduled, bytes), 0},
                            {"odd bytes", offsetof(eb_scheduled, bytes), bytes + 1},
                            {"more bytes than the record has", offsetof(eb_scheduled, bytes), bytes + 8},
                            {"more than the parking has", offsetof(eb_scheduled, bytes), parking + 8},
                            {"more than there is", offsetof(eb_scheduled, bytes), ~7ull}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        scene it = scene_large();
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        eb_scheduled_info seen;
        put_down(it.peer, 0, 7);
        put_down(it.peer, 0, 8);
        make_due(it.bus, 0, 1);
        make_due(it.bus, 1, 2);
        memcpy((char *)entry_of(it.bus, 0) + all[i].where, &all[i].value, 8);
        EQUAL(all[i].what, eb_scheduled_read(it.bus, 0, &seen), 1);
        EQUAL("the next one comes all the same", next(sub), 8);
        EQUAL("and nothing else", next(sub), EB_NOTHING);
        EQUAL("nobody has to look any more", eb_look_at(it.bus), EB_NEVER);
        EQUAL("its entry is used again", put_down_at(it.peer, 0, 9, 1), 3);
        EQUAL("for what comes as it should", next(sub), 9);
        EQUAL("others are not in the way", put(it.peer, 0, 5), EB_OK);
        leave(sub);
        scene_end(&it);
    }
}

static void a_header_that_says_what_cannot_be_ends_nothing(void)
{
    scene it = scene_large();
    eb_ring_header *header = it.bus->ring.header;
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    atomic_store(&header->scheduled_used, UINT32_MAX);
    atomic_store(&header->look, 1);
    atomic_store(&header->kept, UINT64_MAX);
    atomic_store(&header->overdue, UINT64_MAX);
    memset(it.bus->ring.data + 2 * ROOM, 0xff, it.bus->ring.parking_bytes);
    EQUAL("nothing is there", waiting(it.bus), 0);
    EQUAL("so nothing comes", next(sub), EB_NOTHING);
    EQUAL("which is known then", eb_look_at(it.bus), EB_NEVER);
    EQUAL("others can publish", put(it.peer, 0, 5), EB_OK);
    EQUAL("it comes", next(sub), 5);
    CHECK("and more can be put down", put_down_at(it.peer, 0, 7, 1) > 0);
    EQUAL("and comes", next(sub), 7);
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(there_is_room_until_there_is_none);
    RUN(what_is_put_down_and_what_is_parked_keep_apart);
    RUN(a_parking_that_is_full_has_room_for_nothing);
    RUN(what_is_put_down_needs_room_for_its_entry_too);
    RUN(what_is_parked_leaves_the_timetable_alone);
    RUN(what_finds_no_room_is_sent_once_there_is_some);
    RUN(an_entry_that_says_what_cannot_be_is_none);
    RUN(a_header_that_says_what_cannot_be_ends_nothing);
    return checked();
}
