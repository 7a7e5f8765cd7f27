/* The gate of a member of a group, which its slot holds for as long as it looks at something in the ring. By that the member
 * protects what it looks at itself: parking, the end of its group, and the end of the claim, which an array may outlive, leave
 * it the record. With the lock of its views.
 *
 *   step                          killed right after it, the others see
 *   1 cursor stored               nothing: the slot holds no gate
 *   2 owner word with the gate    a dead member's gate: it is reaped by whoever waits for room
 *   3 claim's place looked at     the same. Where the record was parked before 2, it is read from there, and 6 follows
 *   4 group's end looked at       the same
 *   5 cursor stored forward       the same
 *   6 owner word without it       a dead member
 *   3 is done in held.c, 4 in member.c. A publisher looks at the cursors of groups before those of slots: one that finds the
 *   group's past a record finds the member's own; or it parked the record, or the group was removed, before 2, which 3 and 4
 *   see. [look] */
#include "views.h"

/* The owner word, as it is while the slot is ours. */
static uint64_t owner_of(const eb_views *views)
{
    return views->sub->owner | (views->gated ? EB_SLOT_GATED : 0);
}

/* Who had its descriptor closed underneath has no slot any more. */
static bool is_ours(const eb_views *views)
{
    return atomic_load(&views->sub->slot->owner) == owner_of(views);
}

/* Nobody else moves it: of a slot that is another's by now, nothing is stored. */
static bool move(eb_views *views, uint64_t to)
{
    eb_subscription *sub = views->sub;
    if (!is_ours(views) || !eb_cursor_move(&sub->slot->cursor, sub->cursor, to)) return false;
    sub->cursor = to;
    EB_TEST_POINT(look_moved);
    return true;
}

static bool turn(eb_views *views, bool gated)
{
    uint64_t before = owner_of(views), after = views->sub->owner | (gated ? EB_SLOT_GATED : 0);
    if (!atomic_compare_exchange_strong(&views->sub->slot->owner, &before, after)) return false; /* [gate] [look] */
    views->gated = gated;
    return true;
}

/* From `position` on, where a record begins that goes on to `end`, which is for people. False where the slot is ours no more;
 * and of what is older than what it looks at already: moved back, the cursor might lie where the ring is overwritten by now,
 * which is none, and protect nothing. */
bool eb_own_gate_hold(eb_views *views, uint64_t position, uint64_t end)
{
    eb_u64 *last = &views->sub->slot->position;
    if (!is_ours(views)) return false; /* a gate that it held went with it */
    if (!views->gated || (int64_t)(end - atomic_load(last)) > 0) atomic_store(last, end);
    if (views->gated && (int64_t)(position - views->sub->cursor) < 0) return false;
    if (!views->gated && (!move(views, position) || !turn(views, true))) return false;
    EB_TEST_POINT(look_gated);
    return true;
}

/* To the first record that is looked at still, or away with it. */
void eb_own_gate_settle(eb_views *views)
{
    if (!views->sub || !views->gated) return;
    if (views->first && views->first->position == views->sub->cursor) return;
    if (views->first) move(views, views->first->position); /* [cursor] [space] */
    else if (turn(views, false)) EB_TEST_POINT(look_over);
    atomic_store(&views->sub->unparked, true);
}
