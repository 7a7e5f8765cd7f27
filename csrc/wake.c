/* Who of those asleep is woken: for events, for what else concerns all, and to look when something is due. */
#include "sending.h"

/* --- for events --- */

static uint64_t lag_of(const eb_bus *bus, uint32_t slot)
{
    return atomic_load(&bus->ring.header->committed) - atomic_load(&bus->roster.header->slots[slot].cursor);
}

/* Whoever may hear one of the events; and a deaf one that lags by half a ring and is lapped soon. */
bool eb_may_hear(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    for (int i = 0; i < count; i++)
        if (!eb_slot_deaf(&bus->roster, slot, events[i].topic)) return true;
    return !eb_slot_holds_gate(&bus->roster, slot) && lag_of(bus, slot) > bus->ring.capacity / 2;
}

bool eb_lags(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    (void)events, (void)count;
    return lag_of(bus, slot) > 0;
}

static bool may_still_hear(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    return lag_of(bus, slot) > 0 && eb_may_hear(bus, slot, events, count);
}

bool eb_anybody(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count)
{
    (void)bus, (void)slot, (void)events, (void)count;
    return true;
}

void eb_wake(eb_bus *bus, eb_wakes chosen, const eb_outgoing *events, int count)
{
    uint32_t used = eb_roster_used(&bus->roster);
    eb_rung rung;
    rung.count = 0;
    for (uint32_t base = 0; base < used; base += 64) {
        uint64_t bits = atomic_load(&bus->roster.header->waiters[base / 64].bits); /* [wake] */
        for (; bits != 0; bits &= bits - 1) {
            uint32_t slot = base + (uint32_t)__builtin_ctzll(bits);
            if (slot >= used || !chosen(bus, slot, events, count)) continue;
            if (!eb_waiter_lower(&bus->roster, slot)) continue;
            EB_TEST_POINT(wake_lowered);
            eb_rouse(bus, slot, &rung);
            EB_TEST_POINT(wake_posted);
        }
    }
    eb_ring_owed(bus, &rung);
}

/* --- to look --- */

static bool may_keep(const eb_bus *bus, uint32_t slot)
{
    return atomic_load(&bus->roster.header->slots[slot].sends) && eb_slot_alive(&bus->roster, slot);
}

/* A member that lives and is asleep, but for `but`. */
static bool any_asleep(const eb_bus *bus, const eb_group *group, const eb_subscription *but)
{
    for (uint32_t slot = 0; slot < eb_roster_used(&bus->roster); slot++) {
        bool asleep = (atomic_load(&group->asleep[slot / 64]) >> (slot % 64)) & 1;
        if (asleep && (!but || slot != but->index) && may_keep(bus, slot)) return true;
    }
    return false;
}

/* One of those asleep who may send, but for `but`. Its flag stays up: it looks for events too. */
static void wake_keeper(eb_bus *bus, const eb_subscription *but)
{
    uint32_t used = eb_roster_used(&bus->roster);
    eb_rung rung = {.count = 0};
    for (uint32_t slot = 0; slot < used; slot++) {
        bool raised = (atomic_load(&bus->roster.header->waiters[slot / 64].bits) >> (slot % 64)) & 1; /* [keeper] */
        if (!raised || (but && slot == but->index) || !may_keep(bus, slot)) continue;
        eb_rouse(bus, slot, &rung);
        eb_ring_owed(bus, &rung);
        return;
    }
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *group = &bus->roster.header->groups[i];
        if (!eb_group_is_open(group) || !any_asleep(bus, group, but)) continue;
        eb_rouse(bus, eb_group_slot(group, &bus->roster), &rung);
        return;
    }
}

/* By whoever has put something down, or turns to what it received, or away: if nobody asleep is to look in time, one of them
 * is told to. */
void eb_see_kept(eb_bus *bus, const eb_subscription *but)
{
    int64_t look = eb_look_at(bus), now;
    if (look == EB_NEVER || look - (now = eb_now()) >= EB_SLICE_NS) return; /* then they look by themselves */
    if (!eb_is_kept(atomic_load(&bus->ring.header->kept), look, now)) wake_keeper(bus, but); /* [keeper] */
}

/* --- pass on --- */

/* Of a batch that this subscriber has had, before it sleeps again: whoever sent it may have died before it had woken all
 * that it was for. Only those are meant who have not moved since. */
void eb_pass_wake(eb_subscription *sub)
{
    if (!sub->to_pass_on) return;
    sub->to_pass_on = false;
    eb_wake(sub->bus, may_still_hear, (const eb_outgoing[]){{.topic = sub->topics[0]}, {.topic = sub->topics[1]}}, 2);
}
