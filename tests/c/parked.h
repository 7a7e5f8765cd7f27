/* A bus whose parking is small, a group that hears one of two topics, and what passes it by. */
#ifndef EVENTBUS_PARKED_H
#define EVENTBUS_PARKED_H

#include "scene.h"

#define ROOM 16384u /* the parking is a quarter of it */
#define LONG 1000u  /* bytes of a text whose record takes more than a fifth of the parking */
#define LARGEST (ROOM / 4 - EB_HEADER_BYTES)

static const eb_group_terms TERMS = {.name = "g", .system = "a", .kind = "k0", .max_deliveries = 3};

/* Two topics, of which the group hears the first one. */
static inline scene scene_large(void)
{
    scene it = scene_of(ROOM, 8, (uint64_t)0 - ROOM, 1);
    make_topics(it.bus, 2);
    EQUAL("a group can be made", eb_group_create(it.bus, &TERMS, EB_POLL), 0);
    return it;
}

static inline eb_subscription *join_group(eb_bus *bus, bool manual)
{
    eb_terms terms = {.system = "a", .kind = "k0", .name = "m", .start = EB_OLDEST, .group = "g", .manual = manual};
    int status;
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    CHECK("a member can join", sub && status == EB_OK);
    eb_decide(sub, 0, 1);
    eb_decide(sub, 1, 0);
    return sub;
}

static inline eb_group *group_of(const scene *it)
{
    return &it->bus->roster.header->groups[0];
}

static inline eb_u64 *place_of(const scene *it, uint32_t claim)
{
    return eb_claim_place(&it->bus->roster, claim);
}

static inline bool is_parked(const scene *it, uint32_t claim)
{
    return atomic_load(place_of(it, claim)) & EB_PARKED;
}

/* One event that passes the group by; whether there was room. */
static inline bool pass_one(scene *it)
{
    int status = put(it->peer, 1, 1);
    CHECK("there is room, or none", status == EB_OK || status == EB_FULL);
    return status == EB_OK;
}

/* Until the whole ring was written anew, and nothing of it is as it was. */
static inline void go_round(void *with)
{
    uint64_t before = committed_of(with);
    while (committed_of(with) - before < ROOM)
        CHECK("nothing holds the ring", pass_one(with));
}

static inline void go_until_full(void *with)
{
    uint64_t before = committed_of(with);
    while (pass_one(with))
        CHECK("the ring is held", committed_of(with) - before <= 2 * ROOM);
}

/* One event, in the hand of a member that finishes each by itself. */
static inline eb_subscription *hold_one(scene *it, size_t length, uint64_t seed)
{
    eb_subscription *holder = join_group(it->bus, true);
    EQUAL("an event is sent", put_sized(it->peer, 0, length, seed), EB_OK);
    EQUAL("a member has it", eb_receive(holder, 8, EB_POLL), 1);
    eb_batch_of(holder)->head.handed = 1;
    return holder;
}

static inline void expect_next(eb_subscription *sub, size_t length, uint64_t seed, uint32_t deliveries)
{
    EQUAL("it comes again", eb_receive(sub, 8, EB_POLL), 1);
    CHECK("as it was sent", holds_pattern(eb_batch_of(sub), length, seed));
    EQUAL("and says how often it came", eb_batch_of(sub)->deliveries[0], deliveries);
}

static inline void give_back(eb_subscription *holder, int how)
{
    if (how == 0) EQUAL("it can be given back", eb_reject_event(holder, 1, 0), EB_OK);
    if (how == 1) EQUAL("or all that is in hand", eb_return(holder, 0), EB_OK);
    if (how == 2) die_with(holder);
}

#endif
