/* Who of a group sleeps, who of those asleep watches whether the others live, and who is woken next. */
#include "sending.h"

#define WATCH_NS (20 * EB_MILLISECOND) /* how often the first of those who sleep looks */
#define ASLEEP_NS (10 * WATCH_NS)      /* how often the others look: the first one may be among the dead */

static uint32_t gate_index(const eb_subscription *sub)
{
    return eb_group_slot(sub->group, &sub->bus->roster);
}

eb_u32 *eb_relay_semaphore(const eb_subscription *sub)
{
    return &sub->bus->roster.header->slots[gate_index(sub)].semaphore;
}

/* --- wake --- */

void eb_relay_wake(eb_subscription *sub, bool all)
{
    if (all) eb_rouse_all(sub->bus, sub->group);
    else eb_rouse_one(sub->bus, sub->group);
}

static bool more(const eb_subscription *sub)
{
    uint64_t committed = atomic_load(&sub->bus->ring.header->committed);
    return atomic_load(&sub->group->cursor) != committed || eb_any_due(&sub->bus->roster, sub->group, eb_now());
}

/* When one of those asleep has to look, and how late it may: EB_NEVER when there is nothing to look for. Whoever sleeps itself
 * says by its token that it need not watch itself. */
static int64_t look_at(const eb_subscription *sub, uint64_t token, int64_t now)
{
    return eb_claims_look(&sub->bus->roster, sub->group, token, now, WATCH_NS);
}

static bool unwatched(const eb_subscription *sub, int64_t now, int64_t look)
{
    return look != EB_NEVER && eb_unwatched(sub->group, now, look + WATCH_NS);
}

/* Whoever takes one and leaves more behind, or others asleep, sees to it that the next event wakes one of them; and
 * that one of them watches whether it lives, which takes a second wake-up only for the first event after a pause. */
void eb_relay_pass_on(eb_subscription *sub)
{
    if (!eb_asleep_other(sub->group, sub->index)) return;
    bool left = more(sub);
    if (!left) eb_waiter_raise(&sub->bus->roster, gate_index(sub));
    EB_TEST_POINT(waiter_passed);
    int64_t now = eb_now();
    if (left || more(sub) || unwatched(sub, now, look_at(sub, 0, now))) /* [wake]: looked again */
        eb_relay_wake(sub, false);
}

/* --- sleep --- */

/* Whether there is nothing to do for whoever saw `seen` committed. On a closed bus it waits for what others hold. */
static bool idle(const eb_subscription *sub, uint64_t seen, bool closed)
{
    const eb_ring_header *header = sub->bus->ring.header;
    if (eb_ended(sub) || atomic_load(&header->committed) != seen || (atomic_load(&header->closed) != 0) != closed)
        return false; /* [wake] */
    const eb_roster *roster = &sub->bus->roster;
    return !eb_any_due(roster, sub->group, eb_now()) &&
           (!closed || eb_claims_of_others(roster, sub->group, sub->token));
}

/* Among those asleep, the group's flag raised: whether there is nothing to do for whoever saw `seen` committed. */
bool eb_relay_lie_down(eb_subscription *sub, uint64_t seen, bool closed, uint64_t bell)
{
    eb_roused_by(sub, bell);
    eb_asleep_set(sub->group, sub->index, true);
    EB_TEST_POINT(asleep_set);
    eb_waiter_raise(&sub->bus->roster, gate_index(sub)); /* [wake] */
    EB_TEST_POINT(waiter_raised);
    return idle(sub, seen, closed);
}

/* When it is to look by itself. While others hold claims, one of those who sleep watches whether they live; it also wakes when
 * what was given back for later is due. The others sleep undisturbed. */
int64_t eb_relay_look(eb_subscription *sub)
{
    int64_t now = eb_now(), look = look_at(sub, sub->token, now);
    sub->watches = unwatched(sub, now, look);
    if (!sub->watches) return now + ASLEEP_NS;
    atomic_store(&sub->group->watched, (uint64_t)(look + WATCH_NS));
    EB_TEST_POINT(watch_set);
    return look;
}

void eb_relay_rise(eb_subscription *sub)
{
    if (sub->watches) {
        sub->watches = false;
        atomic_store(&sub->group->watched, 0);
        EB_TEST_POINT(watch_cleared);
    }
    eb_asleep_set(sub->group, sub->index, false);
    EB_TEST_POINT(waiter_woken);
}

/* As a subscription waits, on the group's flag and semaphore. */
int eb_relay_await(eb_subscription *sub, uint64_t seen, bool closed, int64_t deadline)
{
    int status = closed ? EB_NOTHING : eb_linger(sub, seen, deadline);
    if (status != EB_NOTHING) return status;
    status = EB_OK;
    if (eb_relay_lie_down(sub, seen, closed, 0))
        status = eb_sleep_or_keep(sub, eb_relay_semaphore(sub), eb_relay_look(sub), deadline);
    eb_relay_rise(sub);
    eb_figures_add(&sub->slot->figures.wakes, 1);
    return status == EB_NOTHING && !eb_over(deadline) ? EB_INTERRUPTED : status;
}
