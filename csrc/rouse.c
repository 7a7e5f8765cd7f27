/* Wakes whoever waits at a slot: in a call of C by its semaphore, in an event loop by the doorbell of its process. */
#include "bell.h"

static eb_slot_t *slot_at(const eb_bus *bus, uint32_t slot)
{
    return &bus->roster.header->slots[slot];
}

/* --- ring --- */

static bool ring_now(eb_bus *bus, uint64_t id)
{
    if (!eb_porch_has_ringer(bus)) return false;
    bool answered = eb_bell_ring(&bus->ringer, bus->identity, id);
    EB_TEST_POINT(bell_rung);
    return answered;
}

/* After the last flag was lowered: the process looks at all of them then, so it is rung once, however many wait in it. */
void eb_ring_owed(eb_bus *bus, eb_rung *rung)
{
    for (uint32_t i = 0; i < rung->count; i++)
        if (rung->owed[i]) ring_now(bus, rung->id[i]);
    rung->count = 0;
}

/* Who wakes more than EB_RUNG processes may ring one twice. */
static uint32_t entry_of(eb_bus *bus, eb_rung *rung, uint64_t id)
{
    for (uint32_t i = 0; i < rung->count; i++)
        if (rung->id[i] == id) return i;
    if (rung->count == EB_RUNG) eb_ring_owed(bus, rung);
    rung->id[rung->count] = id;
    rung->answers[rung->count] = rung->owed[rung->count] = false;
    return rung->count++;
}

/* Whether somebody answers there, and looks at all flags that are down by now. Who was rung before may have looked already. */
static bool ring(eb_bus *bus, uint64_t id, eb_rung *rung)
{
    uint32_t i = entry_of(bus, rung, id);
    rung->owed[i] = rung->answers[i];
    return rung->answers[i] || (rung->answers[i] = ring_now(bus, id));
}

/* --- rouse --- */

/* The first of those asleep, or with `all` each, who has a doorbell and answers. */
static void ring_members(eb_bus *bus, const eb_group *group, bool all, eb_rung *rung)
{
    uint32_t used = eb_roster_used(&bus->roster);
    for (uint32_t base = 0; base < used; base += 64)
        for (uint64_t bits = atomic_load(&group->asleep[base / 64]); bits != 0; bits &= bits - 1) {
            uint32_t slot = base + (uint32_t)__builtin_ctzll(bits);
            uint64_t bell = slot < used ? atomic_load(&slot_at(bus, slot)->doorbell) : 0; /* [wake] */
            if (bell != 0 && ring(bus, bell, rung) && !all) return;
        }
}

/* The owner of the slot, who is owed its bell; of a group's, one of its members. Of those whose bell rings, the one whose flag
 * is down looks. */
void eb_rouse(eb_bus *bus, uint32_t slot, eb_rung *rung)
{
    bool alone;
    uint64_t bell = atomic_load(&slot_at(bus, slot)->doorbell); /* [wake] */
    if (bell != 0) {
        eb_waiter_lower(&bus->roster, slot);
        rung->owed[entry_of(bus, rung, bell)] = true;
        return;
    }
    if (eb_semaphore_post(&slot_at(bus, slot)->semaphore)) return;
    const eb_group *group = eb_slot_group(&bus->roster, slot, &alone);
    if (group) ring_members(bus, group, false, rung);
}

static eb_u32 *semaphore_of(const eb_bus *bus, const eb_group *group)
{
    return &slot_at(bus, eb_group_slot(group, &bus->roster))->semaphore;
}

/* One of those asleep, unless one that was woken has yet to run. */
void eb_rouse_one(eb_bus *bus, const eb_group *group)
{
    eb_rung rung = {.count = 0};
    if (!eb_semaphore_post_once(semaphore_of(bus, group))) ring_members(bus, group, false, &rung);
}

void eb_rouse_all(eb_bus *bus, const eb_group *group)
{
    eb_rung rung = {.count = 0};
    eb_semaphore_post_all(semaphore_of(bus, group));
    ring_members(bus, group, true, &rung);
}

/* The loop in which somebody waits with this subscription. */
void eb_rouse_loop(eb_subscription *sub)
{
    eb_bus *bus = sub->bus;
    eb_guard_enter();
    atomic_store(&sub->called, true);
    atomic_fetch_or(&bus->told[sub->index / 64], 1ull << (sub->index % 64));
    if (bus->bell) eb_bell_chime(bus->bell);
    if (sub->apart) eb_apart_tell(sub->apart);
    eb_guard_leave();
}

/* Whoever waits with this subscription, of which its own process has something to tell. */
void eb_rouse_self(eb_subscription *sub)
{
    if (!sub->slot) return;
    eb_semaphore_post(&sub->slot->semaphore);
    if (atomic_load(&sub->dozes)) eb_rouse_loop(sub);
}

/* Before it raises its flag. */
void eb_roused_by(eb_subscription *sub, uint64_t bell)
{
    if (sub->doorbell == bell) return;
    sub->doorbell = bell;
    atomic_store(&sub->slot->doorbell, bell); /* [wake] */
    EB_TEST_POINT(doorbell_stored);
}
