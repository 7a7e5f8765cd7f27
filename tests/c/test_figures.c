/* What a subscription counts of itself: buckets, batches, what is skipped, and a slot that is taken anew. */
#include "scene.h"

static void buckets_follow_one_another(void)
{
    EQUAL("nothing is in the first one", eb_delay_bucket(0), 0);
    for (uint32_t bucket = 0; bucket < EB_DELAYS - 1; bucket++) {
        uint64_t end = eb_delay_end(bucket);
        EQUAL("the last one of a bucket is in it", eb_delay_bucket(end - 1), bucket);
        EQUAL("its end is in the next one", eb_delay_bucket(end), bucket + 1);
    }
    EQUAL("the first one ends at a microsecond, as binary numbers have it", eb_delay_end(0), 1024);
    EQUAL("there are two for each doubling", eb_delay_end(2), 2 * eb_delay_end(0));
    EQUAL("and they are of the same width", 2 * eb_delay_end(1), 3 * eb_delay_end(0));
    EQUAL("the last one has all the rest", eb_delay_bucket(UINT64_MAX), EB_DELAYS - 1);
    EQUAL("and no end", eb_delay_end(EB_DELAYS - 1), UINT64_MAX);
    EQUAL("nor has what is no bucket", eb_delay_end(UINT32_MAX), UINT64_MAX);
}

static eb_received take(const uint64_t *times, uint32_t count, uint64_t now)
{
    eb_figures figures;
    eb_received seen;
    memset(&figures, 0xFF, sizeof figures);
    eb_figures_clear(&figures);
    eb_figures_take(&figures, &(eb_handed){.times = times, .count = count, .bytes = 10 * count, .now = now});
    eb_figures_read(&figures, &seen);
    return seen;
}

static void a_batch_of_one_bucket(void)
{
    eb_received seen = take((uint64_t[]){1000, 1010, 990}, 3, 2000);
    EQUAL("all are counted", seen.events, 3);
    EQUAL("and their bytes", seen.bytes, 30);
    EQUAL("with the sum of their delays", seen.delay_ns, 3000);
    EQUAL("in one bucket", seen.delays[0], 3);
}

static void a_batch_of_several_buckets(void)
{
    uint64_t now = 1ull << 40;
    eb_received seen = take((uint64_t[]){0, now - 1024, now - 1023, now - 1536, now + 5}, 5, now);
    EQUAL("what is older than all buckets is in the last", seen.delays[EB_DELAYS - 1], 1);
    EQUAL("what comes from the time to come, and what is quick, in the first", seen.delays[0], 2);
    EQUAL("at its end, in the next", seen.delays[1], 1);
    EQUAL("at the end of that, in the one after it", seen.delays[2], 1);
    EQUAL("the sum is of all", seen.delay_ns, now + 1024 + 1023 + 1536);
}

static void a_batch_that_is_not_measured(void)
{
    eb_received seen = take((uint64_t[]){7}, 1, 0);
    EQUAL("it is counted", seen.events, 1);
    for (uint32_t bucket = 0; bucket < EB_DELAYS; bucket++)
        EQUAL("and in no bucket", seen.delays[bucket], 0);
}

static eb_received seen_by_the_peer(scene *it, const eb_subscription *sub)
{
    eb_subscriber_info info;
    EQUAL("the peer sees it", eb_subscriber(it->peer, eb_slot(sub), &info), 1);
    return info.received;
}

static uint64_t measured(const eb_received *seen)
{
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket < EB_DELAYS; bucket++)
        count += seen->delays[bucket];
    return count;
}

static void what_a_subscription_receives(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    eb_decide(sub, 1, 0);
    put_many(it.peer, 0, 1, 3);
    put_many(it.peer, 1, 4, 5);
    EQUAL("before it looks, nothing is counted", seen_by_the_peer(&it, sub).events, 0);
    EQUAL("it receives what it hears", eb_receive(sub, EB_BATCH_LIMIT, EB_POLL), 3);
    eb_received seen = seen_by_the_peer(&it, sub);
    EQUAL("and has counted it", seen.events, 3);
    EQUAL("with the bytes of the texts, which lose their brackets", seen.bytes, 3);
    EQUAL("all of them measured", measured(&seen), 3);
    EQUAL("and what it passed", seen.skipped, 2);
    EQUAL("it has not slept", seen.wakes, 0);
    sub->measured = sub->batch.time[2]; /* as if that were now */
    put(it.peer, 0, 6);
    EQUAL("another one comes", eb_receive(sub, EB_BATCH_LIMIT, EB_POLL), 1);
    seen = seen_by_the_peer(&it, sub);
    EQUAL("it is counted", seen.events, 4);
    leave(sub);
    scene_end(&it);
}

static void a_slot_that_is_taken_anew(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    uint32_t slot = eb_slot(sub);
    put_many(it.peer, 0, 1, 2);
    EQUAL("one receives", eb_receive(sub, EB_BATCH_LIMIT, EB_POLL), 2);
    leave(sub);
    sub = join(it.bus, EB_LATEST, true);
    EQUAL("the next one has its slot", eb_slot(sub), slot);
    eb_received seen = seen_by_the_peer(&it, sub);
    EQUAL("and begins at nothing", seen.events + seen.bytes + seen.skipped + seen.delay_ns + measured(&seen), 0);
    leave(sub);
    scene_end(&it);
}

static void a_slot_that_was_lost(void)
{
    scene it = scene_small();
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    atomic_fetch_add(&slot_of(it.bus, sub)->owner, 1ull << 8); /* another one has it */
    put(it.peer, 0, 1);
    EQUAL("it cannot receive any more", eb_receive(sub, EB_BATCH_LIMIT, EB_POLL), EB_DAMAGED);
    EQUAL("and counts nothing for the other one", atomic_load(&slot_of(it.bus, sub)->figures.events), 0);
    eb_subscription_free(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(buckets_follow_one_another);
    RUN(a_batch_of_one_bucket);
    RUN(a_batch_of_several_buckets);
    RUN(a_batch_that_is_not_measured);
    RUN(what_a_subscription_receives);
    RUN(a_slot_that_is_taken_anew);
    RUN(a_slot_that_was_lost);
    return checked();
}
