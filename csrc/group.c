/* The shared state of a group: its lock word, its claims, who sleeps. What is written here is written under the group's
 * lock, but for a claim's own fields, which its living holder writes. */
#include "internal.h"

bool eb_group_is_open(const eb_group *group)
{
    return (atomic_load(&group->open) & EB_GROUP_STATE) == EB_GROUP_OPEN;
}

/* What a member is told whose group is not there any more. */
int eb_group_end(const eb_group *group)
{
    uint32_t state = atomic_load(&group->open) & EB_GROUP_STATE;
    bool removed = state == EB_GROUP_FREE || state == EB_GROUP_OPEN;
    return removed ? EB_CLOSED : eb_damaged("the state of a group is impossible");
}

bool eb_group_hears(const eb_group *group, const char *system, const char *kind)
{
    return strncmp(group->system, system, EB_PATTERN_LIMIT) == 0 && strncmp(group->kind, kind, EB_PATTERN_LIMIT) == 0;
}

int eb_group_named(const eb_roster *roster, const char *name)
{
    for (int i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &roster->header->groups[i];
        if (eb_group_is_open(group) && strncmp(group->name, name, EB_LABEL_LIMIT + 1) == 0) return i;
    }
    return EB_NOTHING;
}

/* Whose cursor is its gate and whose semaphore its members share; any slot when what stands there is impossible. */
uint32_t eb_group_slot(const eb_group *group, const eb_roster *roster)
{
    uint32_t slot = atomic_load(&group->slot);
    return slot < roster->max_subscribers ? slot : 0;
}

/* --- the lock: the token of whoever has it --- */

bool eb_group_try_lock(eb_group *group, uint64_t token)
{
    uint64_t nobody = 0;
    bool mine = atomic_compare_exchange_strong(&group->lock, &nobody, token); /* [group] */
    if (mine) EB_TEST_POINT(group_locked);
    return mine;
}

/* From an owner that is dead. The one thing it may have left undone is the cursor, which comes after the claim. */
bool eb_group_take_over(eb_group *group, uint64_t from, uint64_t token)
{
    if (!atomic_compare_exchange_strong(&group->lock, &from, token)) return false; /* [group] */
    EB_TEST_POINT(group_taken_over);
    for (uint32_t i = 0; i < eb_claims_used(group); i++) {
        const eb_claim *claim = &group->claims[i];
        uint64_t end = atomic_load(&claim->end);
        if (atomic_load(&claim->holder) != 0) eb_cursor_raise(&group->cursor, end);
    }
    EB_TEST_POINT(group_mended);
    return true;
}

void eb_group_unlock(eb_group *group)
{
    atomic_store(&group->lock, 0); /* [group] */
    EB_TEST_POINT(group_unlocked);
    eb_event_post(&group->unlocked);
}

/* --- claims --- */

/* How many have ever been made: the rest need no look. */
uint32_t eb_claims_used(const eb_group *group)
{
    uint32_t used = atomic_load(&group->used_claims);
    return used < EB_CLAIMS ? used : EB_CLAIMS;
}

/* --- cursors: whoever has the lock moves the group's, and so do publishers over what the group does not hear --- */

bool eb_cursor_move(eb_u64 *cursor, uint64_t from, uint64_t to)
{
    return from == to || atomic_compare_exchange_strong(cursor, &from, to); /* [cursor] [gate] */
}

/* To `to`, unless it is there or past it. */
void eb_cursor_raise(eb_u64 *cursor, uint64_t to)
{
    uint64_t from = atomic_load(cursor);
    while ((int64_t)(to - from) > 0 && !eb_cursor_move(cursor, from, to))
        from = atomic_load(cursor);
}

/* The cursor, and what was committed by then: publishers move it, and what is committed may be rings ahead of an older one. */
uint64_t eb_cursor_read(const eb_u64 *cursor, const eb_u64 *committed_now, uint64_t *committed)
{
    uint64_t at;
    do {
        at = atomic_load(cursor);
        *committed = atomic_load(committed_now);
    } while (atomic_load(cursor) != at);
    return at;
}

/* Whether all positions lie in the ring and in order: `committed - x` is how far back x is. Read after the cursor, it is
 * never behind it. */
int eb_group_check(const eb_group *group, const eb_u64 *committed_now, uint64_t capacity)
{
    uint64_t committed, at = eb_cursor_read(&group->cursor, committed_now, &committed), cursor = committed - at;
    if (cursor > capacity || cursor % 8 != 0) return eb_damaged("the cursor of a group is impossible");
    for (uint32_t i = 0; i < eb_claims_used(group); i++) {
        const eb_claim *claim = &group->claims[i];
        if (atomic_load(&claim->holder) == 0) continue;
        uint64_t start = committed - atomic_load(&claim->start), end = committed - atomic_load(&claim->end);
        bool odd = start % 8 != 0 || end % 8 != 0; /* records, and so `committed`, begin at eights */
        if (odd || start > capacity || end > start || end < cursor)
            return eb_damaged("a claim of a group is impossible");
    }
    return EB_OK;
}

/* Nothing before it is needed by the group any more. The cursor is read before the claims: those made meanwhile are past it,
 * and a claim's start before its holder, so that of one that is made anew it may be an older one. [gate] */
uint64_t eb_group_gate(const eb_group *group)
{
    uint64_t gate = atomic_load(&group->cursor);
    for (uint32_t i = 0; i < eb_claims_used(group); i++) {
        const eb_claim *claim = &group->claims[i];
        uint64_t start = atomic_load(&claim->start);
        if (atomic_load(&claim->holder) != 0 && (int64_t)(start - gate) < 0) gate = start;
    }
    return gate;
}

/* Its number, or EB_NO_SLOT. Then the cursor moves to `end`. */
int eb_claim_add(eb_group *group, uint64_t token, uint64_t start, uint64_t end, uint64_t now)
{
    for (int i = 0; i < EB_CLAIMS; i++) {
        eb_claim *claim = &group->claims[i];
        if (atomic_load(&claim->holder) != 0) continue;
        atomic_store(&claim->start, start);
        atomic_store(&claim->end, end);
        atomic_store(&claim->deliveries, 1);
        atomic_store(&claim->since, now);
        EB_TEST_POINT(claim_written);
        if ((uint32_t)i >= eb_claims_used(group)) atomic_store(&group->used_claims, (uint32_t)i + 1);
        EB_TEST_POINT(claim_used);
        atomic_store(&claim->holder, token);
        EB_TEST_POINT(claim_held);
        eb_cursor_raise(&group->cursor, end);
        EB_TEST_POINT(claim_cursor);
        return i;
    }
    return EB_NO_SLOT;
}

/* The oldest claim that was given back, or EB_NOTHING. */
int eb_claim_returned(const eb_group *group, uint64_t committed)
{
    int found = EB_NOTHING;
    uint64_t longest = 0;
    for (uint32_t i = 0; i < eb_claims_used(group); i++) {
        if (atomic_load(&group->claims[i].holder) != EB_RETURNED) continue;
        uint64_t lag = committed - atomic_load(&group->claims[i].start);
        if (found >= 0 && lag <= longest) continue;
        longest = lag;
        found = (int)i;
    }
    return found;
}

void eb_claim_adopt(eb_group *group, int claim, uint64_t token, uint64_t now)
{
    eb_claim *taken = &group->claims[claim];
    uint64_t deliveries = atomic_load(&taken->deliveries);
    atomic_store(&taken->since, now);
    atomic_store(&taken->holder, token);
    EB_TEST_POINT(claim_adopted);
    atomic_store(&taken->deliveries, deliveries + 1);
    EB_TEST_POINT(claim_deliveries);
    if (deliveries > 0) atomic_store(&group->redelivered, atomic_load(&group->redelivered) + 1);
    EB_TEST_POINT(claim_counted);
}

/* Of its first event, at most one more than allowed: a burial that a death cut short was no delivery. */
uint64_t eb_claim_deliveries(const eb_group *group, const eb_claim *claim)
{
    uint64_t counted = atomic_load(&claim->deliveries), most = (uint64_t)atomic_load(&group->max_deliveries) + 1;
    return counted < most ? counted : most;
}

/* Everything before `start`; the event there counts as handed out. */
void eb_claim_acknowledge(eb_claim *claim, uint64_t start)
{
    if (atomic_load(&claim->start) == start) return;
    atomic_store(&claim->deliveries, 1);
    EB_TEST_POINT(claim_reset);
    atomic_store(&claim->start, start);
    EB_TEST_POINT(claim_acknowledged);
}

void eb_claim_finish(eb_claim *claim)
{
    atomic_store(&claim->holder, 0);
    EB_TEST_POINT(claim_finished);
}

/* To be claimed first by whoever asks next. If its first event was not handed out, that was no delivery. */
void eb_claim_return(eb_claim *claim, bool handed_out)
{
    uint64_t deliveries = atomic_load(&claim->deliveries);
    if (!handed_out && deliveries > 0) atomic_store(&claim->deliveries, deliveries - 1);
    EB_TEST_POINT(claim_discounted);
    atomic_store(&claim->holder, EB_RETURNED);
    EB_TEST_POINT(claim_returned);
}

/* Whether anybody holds one, or gave one back. */
bool eb_claims_held(const eb_group *group)
{
    for (uint32_t i = 0; i < eb_claims_used(group); i++)
        if (atomic_load(&group->claims[i].holder) != 0) return true;
    return false;
}

/* While nobody is attached: nobody sleeps or has the lock, and what anybody held is to be claimed first. */
void eb_group_revive(eb_group *group)
{
    eb_group_take_over(group, atomic_load(&group->lock), 1);
    for (uint32_t i = 0; i < eb_claims_used(group); i++)
        if (atomic_load(&group->claims[i].holder) != 0) atomic_store(&group->claims[i].holder, EB_RETURNED);
    EB_TEST_POINT(alone_returned);
    for (uint32_t i = 0; i < EB_WAITER_WORDS; i++)
        atomic_store(&group->asleep[i], 0);
    atomic_store(&group->checked_at, 0);
    atomic_store(&group->watched, 0);
    atomic_store(&group->unlocked.waiters, 0);
    EB_TEST_POINT(alone_forgotten);
    atomic_store(&group->lock, 0);
}

/* --- who sleeps --- */

void eb_asleep_set(eb_group *group, uint32_t slot, bool asleep)
{
    uint64_t bit = 1ull << (slot % 64);
    if (asleep) atomic_fetch_or(&group->asleep[slot / 64], bit);
    else atomic_fetch_and(&group->asleep[slot / 64], ~bit);
}

bool eb_asleep_other(const eb_group *group, uint32_t slot)
{
    for (uint32_t i = 0; i < EB_WAITER_WORDS; i++) {
        uint64_t others = atomic_load(&group->asleep[i]);
        if (i == slot / 64) others &= ~(1ull << (slot % 64));
        if (others != 0) return true;
    }
    return false;
}

/* Whether claims are held and none of them has promised to look soon; a promise for longer than `longest` is none. */
bool eb_unwatched(const eb_group *group, uint64_t now, uint64_t longest)
{
    return eb_claims_held(group) && atomic_load(&group->watched) - now > longest;
}
