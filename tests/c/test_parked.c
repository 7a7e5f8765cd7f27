/* Parking at moments that only a hand can hold still: in the middle of a copy, of a claim, of the parking itself; and with
 * claims that somebody scribbled on. */
#include "parked.h"

/* --- in the middle of something --- */

/* The next copies are counted. */
static void go_round_and_count(void *with)
{
    go_round(with);
    eb_test_arm(EB_POINT_claim_copied, 0, 0);
}

static void what_is_overwritten_while_it_is_copied_is_copied_again(void)
{
    for (int at = 1; at <= 3; at++) {
        scene it = scene_large();
        eb_subscription *sub = join_group(it.bus, true);
        put_many(it.peer, 0, 1, 3);
        plan_at(EB_POINT_claim_copied, at, go_round_and_count, &it);
        EQUAL("a member receives", eb_receive(sub, 8, EB_POLL), 3);
        CHECK("and in the middle of it all was parked, and overwritten", happened() && is_parked(&it, 2));
        EQUAL("so one was copied again, and those after it once", eb_test_passed(EB_POINT_claim_copied), 4 - at);
        const eb_batch *batch = eb_batch_of(sub);
        bool whole = batch->head.json_length == 9 && memcmp(batch->buffer, "[1,\n2,\n3]", 9) == 0;
        CHECK("nothing is in the batch twice, or torn", whole && batch->head.json_count == 3);
        for (uint64_t i = 1; i <= 3; i++)
            EQUAL("each can be acknowledged", eb_ack_event(sub, i), EB_OK);
        leave(sub);
        scene_end(&it);
    }
}

static void what_is_being_claimed_is_not_parked(void)
{
    for (int at = 1; at <= 2; at++) {
        scene it = scene_large();
        eb_subscription *sub = join_group(it.bus, true);
        put_many(it.peer, 0, 1, 2);
        plan_at(EB_POINT_claim_held, at, go_until_full, &it);
        EQUAL("a member receives", eb_receive(sub, 8, EB_POLL), 2);
        CHECK("the ring was filled in the middle of that", happened());
        CHECK("but no claim was parked, as none is behind the cursor", !is_parked(&it, 0) && !is_parked(&it, 1));
        go_round(&it);
        CHECK("now they are", is_parked(&it, 0) && is_parked(&it, 1));
        leave(sub);
        scene_end(&it);
    }
}

static void claim_some(void *with)
{
    eb_receive(join_group(with, true), 8, EB_POLL);
}

static void what_who_died_was_claiming_is_not_parked(void)
{
    const int moments[] = {EB_POINT_claim_written, EB_POINT_claim_held, EB_POINT_claim_cursor};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_large();
        eb_subscription *other = join_group(it.bus, true);
        put_many(it.peer, 0, 1, 2);
        die_at(moments[i], 1, claim_some, it.bus);
        bool moved = moments[i] == EB_POINT_claim_cursor;
        if (moved) go_round(&it);
        else go_until_full(&it);
        EQUAL("it is parked only behind the cursor", is_parked(&it, 0), moved);
        atomic_store(&group_of(&it)->checked_at, 0);
        EQUAL("who takes the lock over has it", next(other), 1);
        EQUAL("which was handed out to nobody before", eb_batch_of(other)->deliveries[0], 1);
        EQUAL("and then the next one", eb_receive(other, 2, EB_POLL), 1);
        EQUAL("in order", number_of(other), 2);
        go_round(&it);
        CHECK("both can be acknowledged", eb_ack_event(other, 1) == EB_OK && eb_ack_event(other, 2) == EB_OK);
        leave(other);
        scene_end(&it);
    }
}

static void who_dies_while_it_parks_leaves_nothing_undone(void)
{
    const int moments[] = {EB_POINT_parked_copied, EB_POINT_parked_moved, EB_POINT_parked_gate};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        scene it = scene_large();
        eb_subscription *holder = hold_one(&it, 100, 7), *other = join_group(it.bus, false);
        die_at(moments[i], 1, go_round, &it);
        EQUAL("it is parked, or as it was", is_parked(&it, 0), moments[i] != EB_POINT_parked_copied);
        go_round(&it);
        CHECK("it is parked by the next publisher at the latest", is_parked(&it, 0));
        EQUAL("once", eb_parked(it.bus), EB_RECORD_BYTES(100));
        give_back(holder, 0);
        expect_next(other, 100, 7, 2);
        leave(holder);
        leave(other);
        scene_end(&it);
    }
}

/* --- scribbled --- */

typedef struct {
    const char *what;
    size_t where; /* in the page */
    uint64_t value;
    int64_t member; /* what a member gets: its number, or a status */
} scribble;

static void a_claim_that_says_what_cannot_be_hurts_nobody_else(void)
{
    const uint64_t begin = (uint64_t)0 - ROOM;
    const scribble all[] = {
        {"a place that is no multiple of eight", offsetof(eb_page, claims[0].place), begin + 4, EB_DAMAGED},
        {"a place past all that is committed", offsetof(eb_page, claims[0].place), begin + ROOM * 8, EB_DAMAGED},
        {"a place that was overwritten long ago", offsetof(eb_page, claims[0].place), begin - ROOM, EB_DAMAGED},
        {"a place inside of another record", offsetof(eb_page, claims[0].place), begin + 8, EB_DAMAGED},
        {"a place past the parking", offsetof(eb_page, claims[0].place), ROOM / 4 + EB_PARKED, EB_DAMAGED},
        {"the last words of the parking", offsetof(eb_page, claims[0].place), ROOM / 4 - 8 + EB_PARKED, EB_DAMAGED},
        {"a place in the parking where nothing is", offsetof(eb_page, claims[0].place), 128 + EB_PARKED, EB_DAMAGED},
        {"a place in the parking that is no multiple", offsetof(eb_page, claims[0].place), 68 + EB_PARKED, EB_DAMAGED},
        {"another sequence", offsetof(eb_page, terms[0].sequence), 77, EB_DAMAGED},
        {"no sequence", offsetof(eb_page, terms[0].sequence), 0, EB_DAMAGED},
        {"no bytes", offsetof(eb_page, terms[0].bytes), 0, 1},
        {"more bytes than the parking has", offsetof(eb_page, terms[0].bytes), UINT32_MAX, 1},
        {"a few bytes more", offsetof(eb_page, terms[0].bytes), RECORD + 8, 1},
        {"a holder that there never was", offsetof(eb_page, claims[0].holder), 0x12345678abcdefull, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        for (int parked = 0; parked < 2; parked++) {
            scene it = scene_large();
            eb_subscription *holder = join_group(it.bus, true), *other = join_group(it.bus, true);
            put_many(it.peer, 0, 1, 1);
            EQUAL("a member has an event", next(holder), 1);
            eb_batch_of(holder)->head.handed = 1;
            if (parked) go_round(&it);
            EQUAL("it is where it is", is_parked(&it, 0), parked);
            EQUAL("it is given back", eb_reject_event(holder, 1, 0), EB_OK);
            memcpy((char *)it.bus->roster.header->pages + all[i].where, &all[i].value,
                   all[i].where == offsetof(eb_page, terms[0].bytes) ? 4 : 8);
            uint64_t before = committed_of(&it), place = atomic_load(place_of(&it, 0));
            while (committed_of(&it) - before < 2 * ROOM && pass_one(&it))
                continue;
            if (all[i].where != offsetof(eb_page, claims[0].holder)) /* which leaves the rest right */
                EQUAL(all[i].what, atomic_load(place_of(&it, 0)), place);
            CHECK("no more is parked than there is room for", eb_parked(it.bus) <= it.bus->ring.parking_bytes);
            atomic_store(&group_of(&it)->checked_at, 0);
            EQUAL(all[i].what, next(other), all[i].member);
            leave(other);
            leave(holder);
            scene_end(&it);
        }
    }
}

static void a_committed_position_that_names_the_parking_is_damage(void)
{
    scene it = scene_large();
    eb_subscription *plain = join_as(it.bus, EB_LATEST, true, "plain"), *member = join_group(it.bus, false);
    put_many(it.peer, 0, 1, 3);
    atomic_store(&it.bus->ring.header->committed, ((uint64_t)0 - ROOM + 3 * RECORD) | EB_PARKED);
    EQUAL("a publisher writes nothing there", put_sized(it.peer, 1, LARGEST, 7), EB_DAMAGED);
    EQUAL("who receives reads up to there", eb_receive(plain, 8, EB_POLL), 3);
    EQUAL("and not on", eb_receive(plain, 8, EB_POLL), EB_DAMAGED);
    EQUAL("nor does a member", eb_receive(member, 8, EB_POLL), EB_DAMAGED);
    leave(member);
    leave(plain);
    scene_end(&it);
}

int main(void)
{
    RUN(what_is_overwritten_while_it_is_copied_is_copied_again);
    RUN(what_is_being_claimed_is_not_parked);
    RUN(what_who_died_was_claiming_is_not_parked);
    RUN(who_dies_while_it_parks_leaves_nothing_undone);
    RUN(a_claim_that_says_what_cannot_be_hurts_nobody_else);
    RUN(a_committed_position_that_names_the_parking_is_damage);
    return checked();
}
