/* Moves on the cursors of who hears nothing of what passes, and the gates of groups: whoever stands still holds publishers
 * up with what it hears and has not taken, with nothing else. Under the publish lock, so what is looked at stays. */
#include "claims.h"

#include <stdlib.h>

#define LOOK_UPS 2048 /* of a topic in patterns, in one pass: a millisecond, for which others wait for the lock */

/* Records past the topic table are looked at one by one. Where `left` are not enough to tell, it is 0 then. */
static bool may_hear_any(const eb_bus *bus, eb_hearing *hearing, uint64_t cursor, uint32_t *left)
{
    eb_ring_header *header = bus->ring.header;
    if (eb_sent_since(cursor, &header->inline_count, &header->inline_last)) return true;
    for (uint32_t topic = 0; (topic = eb_ring_sent_to(&bus->ring, cursor, topic)) < EB_TOPICS; topic++) {
        bool known = (hearing->known[topic / 64] >> (topic % 64)) & 1;
        if (!known && --*left == 0) return true;
        if (eb_hears_topic(bus, hearing, topic)) return true;
    }
    return false;
}

/* Where the first record that is heard begins, from `cursor` on. Who has one before it is known by a single look; who has
 * none, by the topics. */
static uint64_t next_heard(eb_bus *bus, eb_hearing *hearing, uint64_t cursor, uint64_t start, uint64_t committed)
{
    for (uint64_t position = cursor; position != committed;) {
        eb_record record;
        if (eb_ring_read(&bus->ring, position, committed, &record) != EB_OK) return cursor;
        if (record.sequence >= start && eb_hears_record(bus, hearing, &record, position)) return position;
        if (position == cursor && !may_hear_any(bus, hearing, cursor, &bus->look_ups)) return committed;
        if (bus->look_ups == 0) return cursor;
        position += record.bytes;
    }
    return committed;
}

/* Of a number that is no cursor, nothing. */
static bool is_in_the_way(const eb_bus *bus, uint64_t cursor, uint64_t committed, uint64_t need)
{
    uint64_t lag = committed - cursor, capacity = bus->ring.capacity;
    return lag <= capacity && cursor % 8 == 0 && lag > 0 && lag + need > capacity / 2;
}

/* Killed in between, the cursor is ahead of the gate, which is what it may always be. */
static void move_group(eb_bus *bus, eb_group *group, eb_hearing *hearing, uint64_t committed, uint64_t need)
{
    uint64_t cursor = atomic_load(&group->cursor), start = atomic_load(&group->start);
    if (is_in_the_way(bus, cursor, committed, need))
        eb_cursor_move(&group->cursor, cursor, next_heard(bus, hearing, cursor, start, committed));
    EB_TEST_POINT(bystander_group);
    uint64_t gate = eb_group_gate(&bus->roster, group);
    if (committed - gate <= bus->ring.capacity && gate % 8 == 0)
        eb_cursor_raise(&bus->roster.header->slots[hearing->slot].cursor, gate);
    EB_TEST_POINT(bystander_gate);
}

static void move_slot(eb_bus *bus, uint32_t slot, uint64_t committed, uint64_t need)
{
    eb_slot_t *of = &bus->roster.header->slots[slot];
    eb_u64 *cursor = &of->cursor;
    uint64_t owner = atomic_load(&of->owner), before = atomic_load(cursor);
    eb_hearing *hearing = &bus->hearings[slot];
    if (atomic_load(&of->group) != 0) return; /* a member's: it looks at what is there */
    if (!is_in_the_way(bus, before, committed, need) || !eb_hearing_of(&bus->roster, slot, hearing)) return;
    bool alone;
    eb_group *group = eb_slot_group(&bus->roster, slot, &alone);
    if (group) move_group(bus, group, hearing, committed, need);
    if (!alone) return;
    /* The next owner of the slot, if it has one by now, began at `committed`: there the exchange fails, but of a member that
     * looks at just that record. No gate was computed since. */
    uint64_t after = next_heard(bus, hearing, before, 0, committed);
    if (eb_cursor_move(cursor, before, after) && !EB_SAME_OWNER(atomic_load(&of->owner), owner))
        eb_cursor_move(cursor, after, before);
    EB_TEST_POINT(bystander_moved);
}

/* False when there is more to do than the others should wait for: what was found out by then is kept for the next time. */
bool eb_move_bystanders(eb_bus *bus, uint64_t committed, uint64_t need)
{
    if (!bus->hearings) bus->hearings = calloc(bus->roster.max_subscribers, sizeof *bus->hearings);
    bus->look_ups = LOOK_UPS;
    for (uint32_t slot = 0; bus->hearings && slot < eb_roster_used(&bus->roster) && bus->look_ups > 0; slot++)
        if (eb_slot_holds_gate(&bus->roster, slot)) move_slot(bus, slot, committed, need);
    return bus->look_ups > 0;
}
