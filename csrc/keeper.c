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

/* Of one who looks by itself at `until`, or promises to look before: then that is when. */
void eb_promise(eb_subscription *sub, int64_t *until)
{
    int64_t look = eb_look_at(sub->bus);
    if (look == EB_NEVER || look >= *until || !promise(&sub->bus->ring.header->kept, look, eb_now())) return;
    EB_TEST_POINT(keeper_set);
    sub->promised = look;
    *until = look;
}

/* Kept, or another one has taken over. [keeper] */
void eb_promise_over(eb_subscription *sub)
{
    if (sub->promised == 0) return;
    uint64_t mine = eb_kept_until(sub->promised);
    sub->promised = 0;
    atomic_compare_exchange_strong(&sub->bus->ring.header->kept, &mine, 0);
    EB_TEST_POINT(keeper_cleared);
}

/* As eb_sleep, but until `until`. */
int eb_sleep_or_keep(eb_subscription *sub, eb_u32 *semaphore, int64_t until, int64_t deadline)
{
    eb_promise(sub, &until);
    int status = eb_sleep(sub, semaphore, until, deadline);
    eb_promise_over(sub);
    return status;
}
