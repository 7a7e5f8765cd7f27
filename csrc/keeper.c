/* Who of those asleep looks when something is to be sent: one of them, the keeper, sleeps until then and no longer.
 *
 * Whoever falls asleep has raised its flag; then it looks when somebody has to look, and whether anybody will. Whoever puts
 * something down, or leaves, stores that first and then looks who is asleep. So one of the two sees the other. A keeper
 * that is killed has promised a time: the others take it for gone soon after that, when they look by themselves. */
#include "sending.h"

/* As eb_sleep. */
int eb_sleep_or_keep(eb_subscription *sub, eb_u32 *semaphore, int64_t slice, int64_t deadline)
{
    eb_ring *ring = &sub->bus->ring;
    int64_t look = eb_look_at(sub->bus), now;
    if (look == EB_NEVER || look - (now = eb_now()) >= slice) return eb_sleep(sub, semaphore, slice, deadline);
    uint64_t seen = atomic_load(&ring->header->kept), mine = eb_kept_until(look);
    bool keeps = !eb_is_kept(ring, look, now) && atomic_compare_exchange_strong(&ring->header->kept, &seen, mine);
    if (!keeps) return eb_sleep(sub, semaphore, slice, deadline);
    EB_TEST_POINT(keeper_set);
    int status = eb_sleep(sub, semaphore, look > now ? look - now : 0, deadline);
    atomic_compare_exchange_strong(&ring->header->kept, &mine, 0); /* or another one has taken over. [keeper] */
    EB_TEST_POINT(keeper_cleared);
    return status;
}
