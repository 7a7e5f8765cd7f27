/* How a subscription waits without a call of its own: it lies down as one that sleeps does, and whoever wakes it rings for its
 * loop. What it finds then it finds as any poll does.
 *
 * A subscription dozes from eb_doze until the next eb_rise, which each receive begins with. Who was told and does not receive
 * after all, as it was cancelled, passes on what it was told: of a group, another one may take it. */
#include "sending.h"

enum { AWAKE = 0, ALONE, MEMBER, FULL, NAPPING };

#define TOGETHER_NS (EB_SLICE_NS / 4)  /* who would look so soon looks now: of many, not each at a time of its own */
#define FULL_NS (200 * EB_MILLISECOND) /* how often one with full hands looks for the end, of which it is not told */

static void mark(eb_u64 *words, uint32_t slot, bool set)
{
    uint64_t bit = 1ull << (slot % 64);
    if (set) atomic_fetch_or(&words[slot / 64], bit);
    else atomic_fetch_and(&words[slot / 64], ~bit);
}

static bool lie_down_alone(eb_subscription *sub, uint64_t bell)
{
    return eb_single_lie_down(sub, atomic_load(&sub->position), bell);
}

/* Unless it is done with what it was given as soon as it asks for more. */
static bool has_full_hands(eb_subscription *sub)
{
    if (!sub->manual) return false;
    pthread_mutex_lock(&sub->at_hand);
    bool full = eb_hand_room(sub, sub->most) == 0;
    pthread_mutex_unlock(&sub->at_hand);
    return full;
}

/* Until one event is finished, by the same process. */
static bool lie_down_full(eb_subscription *sub, int64_t *until)
{
    atomic_store(&sub->dozes, FULL);
    atomic_store(&sub->full, true);
    *until = eb_now() + FULL_NS;
    return has_full_hands(sub) && !eb_ended(sub);
}

static bool lie_down_as_member(eb_subscription *sub, uint64_t bell, int64_t *until)
{
    eb_member_rest(sub);
    uint64_t seen = atomic_load(&sub->group->cursor);
    bool closed = atomic_load(&sub->bus->ring.header->closed) != 0;
    if (!eb_relay_lie_down(sub, seen, closed, bell)) return false;
    *until = eb_relay_look(sub);
    return true;
}

/* Awake from now on. What the group's semaphore says is said to whoever looks now, and that is this one. */
void eb_rise(eb_subscription *sub)
{
    int dozed = atomic_load(&sub->dozes);
    if (dozed == AWAKE) return;
    atomic_store(&sub->dozes, AWAKE);
    mark(sub->bus->dozing, sub->index, false);
    eb_vigil_rest(sub);
    if (dozed == ALONE) {
        eb_waiter_lower(&sub->bus->roster, sub->index);
        EB_TEST_POINT(waiter_woken);
    } else if (dozed == MEMBER) {
        eb_relay_rise(sub);
        atomic_store(eb_relay_semaphore(sub), 0);
    } else {
        atomic_store(&sub->full, false);
    }
    eb_promise_over(sub);
}

/* Without a bell, somebody waits for the semaphore. */
static int keep_vigil(eb_subscription *sub)
{
    return eb_vigil_keep(sub, sub->group ? eb_relay_semaphore(sub) : &sub->slot->semaphore);
}

/* In a fast stream it pays to let some gather, as in eb_linger: nobody is asked to ring then, and it looks by itself soon. As
 * for any sleeper, what a group's semaphore remembers is said to whoever lies down. EB_NOTHING when there may be something
 * already. */
static int lie_down(eb_subscription *sub, uint64_t bell, int64_t *until)
{
    bool member = sub->group != NULL;
    if (member && has_full_hands(sub)) return lie_down_full(sub, until) ? EB_OK : EB_NOTHING;
    int64_t nap = eb_nap_ns(sub);
    if (nap > 0) {
        atomic_store(&sub->dozes, NAPPING);
        *until = eb_now() + nap;
        return eb_ended(sub) ? EB_NOTHING : EB_OK;
    }
    atomic_store(&sub->dozes, member ? MEMBER : ALONE);
    if (!(member ? lie_down_as_member(sub, bell, until) : lie_down_alone(sub, bell))) return EB_NOTHING;
    if (member && atomic_exchange(eb_relay_semaphore(sub), 0) != 0) return EB_NOTHING;
    eb_promise(sub, until);
    return bell != 0 ? EB_OK : keep_vigil(sub);
}

/* EB_OK when whoever has the bell, that of the process or the one `apart`, is told of the next thing there is to do, and is
 * to look at `until` whatever comes; EB_NOTHING when there may be something already. */
int eb_doze(eb_subscription *sub, const eb_bell *bell, int64_t *until)
{
    uint64_t id = atomic_load(&sub->bus->roster.header->mute) != 0 ? 0 : bell->id;
    if (!eb_file_ours(&sub->file) || !eb_bell_whole(bell)) return EB_ROBBED;
    eb_rise(sub);
    atomic_store(&sub->called, false);
    *until = eb_now() + EB_SLICE_NS;
    if (bell == sub->bus->bell) mark(sub->bus->dozing, sub->index, true);
    int status = lie_down(sub, id, until);
    if (status == EB_OK) atomic_store(&sub->until, *until);
    else eb_rise(sub);
    return status;
}

/* --- told --- */

static bool is_raised(const eb_bus *bus, uint32_t slot)
{
    return (atomic_load(&bus->roster.header->waiters[slot / 64].bits) >> (slot % 64)) & 1;
}

/* Of one that dozes: whether its flag, or that of its group, was lowered, or something was said to its group. */
static bool is_told(const eb_bus *bus, uint32_t slot)
{
    uint32_t group = atomic_load(&bus->roster.header->slots[slot].group) - 1;
    if (group >= EB_GROUPS) return !is_raised(bus, slot);
    uint32_t gate = eb_group_slot(&bus->roster.header->groups[group], &bus->roster);
    return !is_raised(bus, gate) || atomic_load(&bus->roster.header->slots[gate].semaphore) != 0;
}

/* What was rung so far is heard: who was told before that is to be looked for now. */
void eb_bell_still(eb_bus *bus)
{
    if (bus->bell) eb_bell_drain(bus->bell);
}

/* The bell has rung: the slots of those who are to look, EB_SUBSCRIBERS_LIMIT at most; how many. Among them whoever another
 * thread has received with meanwhile, and who does not doze any more. */
int eb_bell_told(eb_bus *bus, uint16_t *told)
{
    int count = 0;
    if (!bus->bell) return 0;
    for (uint32_t base = 0; base < eb_roster_used(&bus->roster); base += 64) {
        uint64_t said = atomic_exchange(&bus->told[base / 64], 0);
        for (uint64_t bits = said | atomic_load(&bus->dozing[base / 64]); bits != 0; bits &= bits - 1) {
            uint32_t slot = base + (uint32_t)__builtin_ctzll(bits);
            bool is_said = (said >> (slot % 64)) & 1;
            if (slot < bus->roster.max_subscribers && (is_said || is_told(bus, slot))) told[count++] = (uint16_t)slot;
        }
    }
    return count;
}

/* Nobody has rung for some time: likewise, and when to look again. One that is alone and has missed nothing goes on dozing,
 * its flag raised anew, as whoever lowered it may have died before it rang. So may whoever told it to look for what is due. */
static bool is_to_look(eb_subscription *sub, int64_t now)
{
    int64_t until = atomic_load(&sub->until);
    if (atomic_load(&sub->dozes) != ALONE || sub->promised != 0) return until <= now;
    if (until > now + TOGETHER_NS) return false;
    eb_waiter_raise(&sub->bus->roster, sub->index); /* [wake] */
    atomic_store(&sub->until, now + EB_SLICE_NS);
    return eb_moved(sub, atomic_load(&sub->position)) || eb_look_at(sub->bus) <= now || !eb_file_ours(&sub->file);
}

int eb_bell_look(eb_bus *bus, uint16_t *told, int64_t *next)
{
    int count = 0;
    int64_t now = eb_now();
    *next = now + EB_SLICE_NS;
    eb_guard_enter();
    for (eb_subscription *sub = bus->subscriptions; sub; sub = sub->next) {
        uint32_t slot = sub->index;
        if (!((atomic_load(&bus->dozing[slot / 64]) >> (slot % 64)) & 1)) continue;
        if (is_to_look(sub, now) && count < EB_SUBSCRIBERS_LIMIT) told[count++] = (uint16_t)slot;
        else if (atomic_load(&sub->until) < *next) *next = atomic_load(&sub->until);
    }
    eb_guard_leave();
    return count;
}
