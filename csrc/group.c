/* The shared state of a group: its lock word, its cursor, who sleeps. */
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

void eb_group_unlock(eb_group *group)
{
    atomic_store(&group->lock, 0); /* [group] */
    EB_TEST_POINT(group_unlocked);
    eb_event_post(&group->unlocked);
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

/* Whether the cursor lies in the ring: `committed - x` is how far back x is. Read after the cursor, it is never behind it. */
int eb_group_check(const eb_group *group, const eb_u64 *committed_now, uint64_t capacity)
{
    uint64_t committed, at = eb_cursor_read(&group->cursor, committed_now, &committed), cursor = committed - at;
    return cursor > capacity || cursor % 8 != 0 ? eb_damaged("the cursor of a group is impossible") : EB_OK;
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

/* Whether nobody has promised to look soon, and by `latest`; a promise that has passed is none, nor is one for later. */
bool eb_unwatched(const eb_group *group, int64_t now, int64_t latest)
{
    int64_t watched = (int64_t)atomic_load(&group->watched);
    return watched < now || watched > latest;
}
