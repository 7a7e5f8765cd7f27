/* Publishers that park, over claims that say what cannot be, or are made anew in the middle. */
#include "scene.h"

#include "claims.h"

#define ROOMY (2 * CAPACITY)
#define CLAIMS 100

static const eb_group_terms TERMS = {.system = "a", .kind = "k0", .name = "g", .start = EB_LATEST};

/* A member that has so many events in hand, at the beginning of the ring. */
static eb_subscription *hold(const scene *it, int count)
{
    eb_terms terms = {.system = "a", .kind = "k0", .name = "m", .start = EB_OLDEST, .group = "g", .manual = 1};
    int status;
    make_topics(it->peer, 2);
    EQUAL("a group can be made", eb_group_create(it->bus, &TERMS, EB_POLL), 0);
    eb_subscription *sub = subscribe(it->bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    eb_decide(sub, 0, 1);
    eb_decide(sub, 1, 0);
    put_many(it->peer, 0, 1, (uint64_t)count);
    EQUAL("it has events in hand", eb_receive(sub, count, EB_POLL), count);
    return sub;
}

/* Sends what nobody hears until there is no room; how it ends. */
static int fill_up(eb_bus *bus)
{
    int status = EB_OK;
    for (int i = 0; i < 10 * (int)(ROOMY / RECORD) && (status == EB_OK || status == EB_INTERRUPTED); i++)
        status = put(bus, 1, 1);
    return status;
}

static void impossible_claims_keep_no_publisher_going_round(void)
{
    scene it = scene_of(ROOMY, 4, 0, 1);
    eb_subscription *sub = hold(&it, CLAIMS);
    for (uint32_t i = 0; i < CLAIMS; i++)
        atomic_store(&it.bus->roster.header->pages[i / EB_PAGE_CLAIMS].terms[i % EB_PAGE_CLAIMS].sequence, 1000 + i);
    EQUAL("the ring is full, and a publisher is told", fill_up(it.peer), EB_FULL);
    leave(sub);
    scene_end(&it);
}

/* The second claim is done with, and another one made there, of the last event: its cursor is not stored yet. */
static void make_anew(void *with)
{
    const scene *it = with;
    eb_page *page = &it->bus->roster.header->pages[0];
    uint64_t committed = atomic_load(&it->bus->ring.header->committed);
    eb_record record;
    EQUAL("there is a last record", eb_ring_read(&it->bus->ring, committed - RECORD, committed, &record), EB_OK);
    atomic_store(&page->terms[1].sequence, record.sequence);
    atomic_store(&page->claims[1].place, committed - RECORD);
}

static void what_is_made_anew_meanwhile_is_not_parked(void)
{
    scene it = scene_of(ROOMY, 4, 0, 1);
    eb_subscription *sub = hold(&it, 2);
    plan_at(EB_POINT_parked_copied, 1, make_anew, &it);
    while (!happened())
        EQUAL("there is room", put(it.peer, 1, 1), EB_OK);
    CHECK("the first one is parked", atomic_load(eb_claim_place(&it.bus->roster, 0)) & EB_PARKED);
    CHECK("the one that is found elsewhere is not", !(atomic_load(eb_claim_place(&it.bus->roster, 1)) & EB_PARKED));
    leave(sub);
    scene_end(&it);
}

int main(void)
{
    RUN(impossible_claims_keep_no_publisher_going_round);
    RUN(what_is_made_anew_meanwhile_is_not_parked);
    return checked();
}
