/* Who of those asleep looks when something is to be sent: one of them, the keeper, sleeps until then and no longer.
 *
 * Whoever falls asleep has raised its flag; then it looks when somebody has to look, and whether anybody will. Whoever puts
 * something down, or leaves, stores that first and then looks who is asleep. So one of the two sees the other. A keeper
 * that is killed has promised a time: the others take it for gone soon after that, when they look by themselves. */
#include "sending.h"

/* Unless another one looks in time. A promise that was made meanwhile is looked at too: it may be for later. [keeper] */
static bool promise(eb_u64 *kept, int64_t look, int64_t now)
{
    uint64_t seen = atomic_load(kept);
    while (!eb_is_kept(seen, look, now))
        if (atomic_compare_exchange_strong(kept, &seen, eb_kept_until(look))) return true;
    return false;
}

/* As eb_sleep. */
int eb_sleep_or_keep(eb_subscription *sub, eb_u32 *semaphore, int64_t slice, int64_t deadline)
{
    eb_u64 *kept = &sub->bus->ring.header->kept;
    int64_t look = eb_look_at(sub->bus), now;
    bool soon = look != EB_NEVER && look - (now = eb_now()) < slice; /* else it looks by itself before */
    if (!soon || !promise(kept, look, now)) return eb_sleep(sub, semaphore, slice, deadline);
    EB_TEST_POINT(keeper_set);
    int status = eb_sleep(sub, semaphore, look > now ? look - now : 0, deadline);
    uint64_t mine = eb_kept_until(look);
    atomic_compare_exchange_strong(kept, &mine, 0); /* or another one has taken over. [keeper] */
    EB_TEST_POINT(keeper_cleared);
    return status;
}
