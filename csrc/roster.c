/* Subscriber slots, cursors, the gate, liveness, reaping. Everything read here may be scribbled over by any attached
 * process and is bounded before use. */
#include "bell.h"

#define GENERATION (1ull << 8)

static eb_slot_t *slot_at(const eb_roster *roster, uint32_t slot)
{
    return &roster->header->slots[slot];
}

static uint64_t owner_of(const eb_roster *roster, uint32_t slot)
{
    return atomic_load(&slot_at(roster, slot)->owner); /* [owner] [gate] */
}

static unsigned state_of(uint64_t owner)
{
    return owner & EB_SLOT_STATE;
}

static bool holds_gate(uint64_t owner)
{
    return state_of(owner) == EB_SLOT_GROUP || (state_of(owner) == EB_SLOT_OPEN && (owner & EB_SLOT_GATED));
}

bool eb_slot_holds_gate(const eb_roster *roster, uint32_t slot)
{
    return holds_gate(owner_of(roster, slot));
}

static uint64_t next_owner(uint64_t owner, unsigned state)
{
    return ((owner & ~(GENERATION - 1)) + GENERATION) | state;
}

uint32_t eb_roster_used(const eb_roster *roster)
{
    uint32_t used = atomic_load(&roster->header->used_slots);
    return used < roster->max_subscribers ? used : roster->max_subscribers;
}

bool eb_slot_alive(const eb_roster *roster, uint32_t slot)
{
    return slot < eb_roster_used(roster) && state_of(owner_of(roster, slot)) == EB_SLOT_OPEN &&
           eb_byte_held(&roster->file, EB_SLOT_BYTE + slot);
}

void eb_slot_free(eb_roster *roster, uint32_t slot)
{
    eb_slot_t *taken = slot_at(roster, slot);
    atomic_store(&taken->owner, next_owner(atomic_load(&taken->owner), EB_SLOT_FREE));
    EB_TEST_POINT(slot_vacated);
    eb_waiter_lower(roster, slot);
    EB_TEST_POINT(slot_freed);
}

/* The first living member of the group from slot `from` on, or EB_NOTHING. */
int eb_roster_member(const eb_roster *roster, uint32_t group, uint32_t from)
{
    for (uint32_t i = from; i < eb_roster_used(roster); i++)
        if (atomic_load(&slot_at(roster, i)->group) == group + 1 && eb_slot_alive(roster, i)) return (int)i;
    return EB_NOTHING;
}

/* The open group that has the slot, or NULL. One whose creator died before the group was open is anybody's. `alone` tells
 * whether it is a subscriber's. */
eb_group *eb_slot_group(const eb_roster *roster, uint32_t slot, bool *alone)
{
    *alone = state_of(owner_of(roster, slot)) != EB_SLOT_GROUP;
    for (uint32_t i = 0; i < EB_GROUPS && !*alone; i++) {
        eb_group *group = &roster->header->groups[i];
        if (eb_group_is_open(group) && atomic_load(&group->slot) == slot) return group;
    }
    return NULL;
}

static bool group_owns(const eb_roster *roster, uint32_t slot)
{
    bool alone;
    return eb_slot_group(roster, slot, &alone) != NULL;
}

/* Whether it was that of a group which is no more, and members may still sleep on it or write to it. */
static bool members_keep(const eb_roster *roster, uint32_t slot)
{
    unsigned state = state_of(owner_of(roster, slot));
    if (state != EB_SLOT_GROUP && state != EB_SLOT_CLAIMED) return false;
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &roster->header->groups[i];
        if (eb_group_is_open(group) || atomic_load(&group->slot) != slot) continue;
        if (eb_roster_member(roster, i, 0) >= 0) return true;
    }
    return false;
}

/* Of a group that is no more: from now on its slot holds nobody back. */
void eb_slot_withdraw(eb_roster *roster, uint32_t slot)
{
    uint64_t owner = owner_of(roster, slot);
    if (state_of(owner) != EB_SLOT_GROUP) return;
    atomic_store(&slot_at(roster, slot)->owner, next_owner(owner, EB_SLOT_CLAIMED)); /* [gate] */
    EB_TEST_POINT(gate_withdrawn);
}

/* Of an owner that is dead. */
static void bury_bell(const eb_roster *roster, uint32_t slot)
{
    eb_bell_bury(roster->header->signature.identity[0], atomic_load(&slot_at(roster, slot)->doorbell));
}

/* Under the roster lock. Whose byte can be locked is free, or its owner is dead: `file` then holds it. */
int eb_slot_claim(eb_roster *roster, const eb_file *file)
{
    for (uint32_t i = 0; i < roster->max_subscribers; i++) {
        int status = eb_byte_lock(file, EB_SLOT_BYTE + i);
        if (status == EB_NOTHING) continue;
        if (status != EB_OK) return status;
        EB_TEST_POINT(slot_locked);
        if (group_owns(roster, i) || members_keep(roster, i)) {
            eb_byte_unlock(file, EB_SLOT_BYTE + i);
            continue;
        }
        eb_slot_t *slot = slot_at(roster, i);
        if (state_of(owner_of(roster, i)) != EB_SLOT_FREE) bury_bell(roster, i);
        atomic_store(&slot->owner, next_owner(atomic_load(&slot->owner), EB_SLOT_CLAIMED));
        EB_TEST_POINT(slot_claimed);
        if (i >= eb_roster_used(roster)) atomic_store(&roster->header->used_slots, i + 1);
        EB_TEST_POINT(slot_counted);
        return (int)i;
    }
    return EB_NO_SLOT;
}

static uint16_t copy_text(_Atomic char *to, const char *from, size_t limit)
{
    size_t length = strnlen(from, limit);
    for (size_t i = 0; i < length; i++)
        atomic_store_explicit(&to[i], from[i], memory_order_release); /* [owner] */
    atomic_store_explicit(&to[length], 0, memory_order_release);
    return (uint16_t)length;
}

/* `group`: the number of the group whose member it becomes, or -1. */
void eb_slot_open(eb_roster *roster, uint32_t slot, const eb_terms *terms, int group, uint32_t pid, uint64_t position)
{
    eb_slot_t *mine = slot_at(roster, slot);
    eb_waiter_lower(roster, slot);
    atomic_store(&mine->semaphore, 0);
    atomic_store(&mine->doorbell, 0);
    for (size_t i = 0; i < EB_TOPICS / 64; i++)
        atomic_store_explicit(&mine->deaf[i], 0, memory_order_relaxed);
    eb_figures_clear(&mine->figures);
    atomic_store(&mine->pid, pid);
    atomic_store(&mine->lost, 0);
    atomic_store(&mine->group, (uint32_t)(group + 1));
    atomic_store(&mine->exclusive, terms->exclusive != 0);
    mine->name_length = (uint8_t)copy_text(mine->name, terms->name, EB_LABEL_LIMIT);
    mine->system_length = copy_text(mine->system, terms->system, EB_PATTERN_LIMIT);
    mine->kind_length = copy_text(mine->kind, terms->kind, EB_PATTERN_LIMIT);
    atomic_store(&mine->cursor, position);
    EB_TEST_POINT(slot_cursor);
    uint64_t owner = atomic_load(&mine->owner) & ~(GENERATION - 1);
    atomic_store(&mine->owner, owner | EB_SLOT_OPEN | (terms->gated ? EB_SLOT_GATED : 0)); /* [owner] [gate] */
    EB_TEST_POINT(slot_open);
}

/* Gives back a slot that was claimed with the roster's own descriptor. */
void eb_slot_unclaim(eb_roster *roster, uint32_t slot)
{
    eb_slot_free(roster, slot);
    eb_byte_unlock(&roster->file, EB_SLOT_BYTE + slot);
}

/* The group's slot belongs to no process, so its byte is not kept. */
void eb_slot_open_group(eb_roster *roster, uint32_t slot, const eb_terms *terms, uint64_t position)
{
    eb_slot_open(roster, slot, terms, -1, 0, position);
    eb_slot_t *opened = slot_at(roster, slot);
    atomic_store(&opened->owner, (atomic_load(&opened->owner) & ~(GENERATION - 1)) | EB_SLOT_GROUP); /* [gate] */
    EB_TEST_POINT(group_slot);
    eb_byte_unlock(&roster->file, EB_SLOT_BYTE + slot);
}

/* A member by its slot and the slot's generation: never 0, and never the same again. */
uint64_t eb_token(const eb_roster *roster, uint32_t slot)
{
    return (owner_of(roster, slot) >> 8) << 12 | (slot + 1);
}

bool eb_token_alive(const eb_roster *roster, uint64_t token)
{
    uint32_t slot = (token & 0xFFF) - 1;
    return eb_slot_alive(roster, slot) && eb_token(roster, slot) == token;
}

/* Whether it is taken, and whoever took it is dead. */
bool eb_slot_is_left(const eb_roster *roster, uint32_t slot)
{
    return state_of(owner_of(roster, slot)) != EB_SLOT_FREE && !group_owns(roster, slot) &&
           !eb_byte_held(&roster->file, EB_SLOT_BYTE + slot);
}

/* Under the roster lock: nobody can take the byte between the second look and the store. */
int eb_roster_reap(eb_roster *roster)
{
    int reaped = 0;
    for (uint32_t i = 0; i < eb_roster_used(roster); i++) {
        unsigned state = state_of(owner_of(roster, i));
        if (!eb_slot_is_left(roster, i)) continue;
        EB_TEST_POINT(reap_found);
        bury_bell(roster, i);
        if (members_keep(roster, i)) {
            eb_slot_withdraw(roster, i);
            reaped += state == EB_SLOT_GROUP;
            continue;
        }
        eb_slot_free(roster, i);
        EB_TEST_POINT(reap_freed);
        reaped++;
    }
    return reaped;
}

typedef struct {
    uint64_t longest; /* lag of those that were looked at so far */
    int slowest;      /* whose it is, or -1 */
} lags;

/* Of the slots of groups, or of all others. */
static void look_at_lags(const eb_roster *roster, uint64_t committed, uint64_t capacity, bool groups, lags *seen)
{
    for (uint32_t i = 0; i < eb_roster_used(roster); i++) {
        uint64_t owner = owner_of(roster, i);
        if (!holds_gate(owner) || (state_of(owner) == EB_SLOT_GROUP) != groups) continue;
        uint64_t lag = committed - atomic_load(&slot_at(roster, i)->cursor); /* [cursor] [gate] */
        if (lag > capacity || lag < seen->longest) continue;
        *seen = (lags){.longest = lag, .slowest = (int)i};
    }
}

/* The slowest gated cursor, or `committed` when there is none. A cursor that lies further back than the ring is long,
 * or ahead of it, is no cursor: a publisher is never held up by a number that cannot be. Those of groups come first: who sees
 * the group's past what a member looks at sees the member's own. [look] */
uint64_t eb_roster_gate(const eb_roster *roster, uint64_t committed, uint64_t capacity, int *slowest)
{
    lags seen = {.slowest = -1};
    look_at_lags(roster, committed, capacity, true, &seen);
    look_at_lags(roster, committed, capacity, false, &seen);
    *slowest = seen.slowest;
    return committed - seen.longest;
}

/* While nobody else is attached: all subscriptions are gone, the groups and what they have to do stay. */
void eb_roster_clear(eb_roster *roster)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < roster->max_subscribers; i++) {
        eb_slot_t *slot = slot_at(roster, i);
        if (group_owns(roster, i)) used = i + 1;
        else atomic_store(&slot->owner, next_owner(atomic_load(&slot->owner), EB_SLOT_FREE));
        EB_TEST_POINT(alone_slot);
    }
    for (uint32_t i = 0; i < EB_WAITER_WORDS; i++)
        atomic_store(&roster->header->waiters[i].bits, 0);
    EB_TEST_POINT(alone_waiters);
    atomic_store(&roster->header->used_slots, used);
    EB_TEST_POINT(alone_used);
    atomic_store(&roster->header->space.waiters, 0);
    atomic_store(&roster->header->changed.waiters, 0);
    atomic_store(&roster->header->mute, 0);
}

/* A bit is only ever set while its slot is open; seen late, it costs a wake-up. */
bool eb_slot_deaf(const eb_roster *roster, uint32_t slot, uint32_t topic)
{
    if (topic >= EB_TOPICS) return false;
    uint64_t word = atomic_load_explicit(&slot_at(roster, slot)->deaf[topic / 64], memory_order_relaxed);
    return (word >> (topic % 64)) & 1;
}

static eb_u64 *waiter_word(const eb_roster *roster, uint32_t slot)
{
    return &roster->header->waiters[slot / 64].bits;
}

void eb_waiter_raise(eb_roster *roster, uint32_t slot)
{
    atomic_fetch_or(waiter_word(roster, slot), 1ull << (slot % 64)); /* [wake] */
}

/* Whether the bit was up. */
bool eb_waiter_lower(eb_roster *roster, uint32_t slot)
{
    uint64_t bit = 1ull << (slot % 64);
    return (atomic_fetch_and(waiter_word(roster, slot), ~bit) & bit) != 0;
}
