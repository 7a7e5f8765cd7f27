/* What becomes of each event in each group, as the members see it, kept apart from what the bus counts; and members that die
 * at any moment that has a test point. What a dead one owes is settled before anybody can see that it is dead. */
#ifndef EVENTBUS_FATES_H
#define EVENTBUS_FATES_H

#include "crowd.h"

#include <setjmp.h>

enum { GROUPS = 2, MEMBERS = 4, MOST_DELIVERIES = 3, POISONED = 37, PREFETCH = 48, EVENTS = 1 << 22 };

/* Of one event in one group. It was delivered as often as it was seen, and handed out and not seen, together. */
typedef struct {
    _Atomic uint8_t handed;   /* seen by a member */
    _Atomic uint8_t returned; /* seen, and not worked off by who saw it */
    _Atomic uint8_t unseen;   /* handed out, as the core has it, to who died or gave it back before it saw it */
    _Atomic uint8_t done, dead;
} fate;

typedef struct {
    uint64_t sequence;
    bool undeliverable; /* it was handed out as often as allowed */
    bool given_up;      /* it is about to be given back */
} grip;

/* A member is a thread between joining and leaving or dying. */
typedef struct {
    eb_subscription *sub;
    unsigned group;
    bool one_by_one;
    int doom, passes; /* it dies at this point, at this pass */
    grip hand[PREFETCH];
    unsigned held; /* events that it has seen and is not done with */
    unsigned read; /* events that the core has handed out and it has not seen */
    jmp_buf grave;
} member;

static fate *fates[GROUPS];
static _Thread_local member me;
static _Atomic bool figures_stopping;
static _Atomic uint64_t deaths, rejections, departures;
static _Atomic uint64_t died_at[EB_POINT_COUNT];

static fate *fate_of(uint64_t sequence)
{
    CHECK("the table of events is large enough", sequence > 0 && sequence < EVENTS);
    return &fates[me.group][sequence];
}

static eb_group *group_of(unsigned number)
{
    return &it.bus->roster.header->groups[number];
}

static unsigned deliveries_of(const fate *of)
{
    return atomic_load(&of->handed) + atomic_load(&of->unseen);
}

/* --- in hand --- */

static grip *grip_of(uint64_t sequence)
{
    for (unsigned i = 0; i < me.held; i++)
        if (me.hand[i].sequence == sequence) return &me.hand[i];
    return NULL;
}

static void let_go(grip *of)
{
    *of = me.hand[--me.held];
}

static void grip_it(uint64_t sequence, bool undeliverable)
{
    CHECK("nobody has more in hand than it asked for", me.held < PREFETCH);
    me.hand[me.held++] = (grip){.sequence = sequence, .undeliverable = undeliverable};
}

static void work_off(uint64_t sequence)
{
    grip *of = grip_of(sequence);
    atomic_fetch_add(of->undeliverable ? &fate_of(sequence)->dead : &fate_of(sequence)->done, 1);
    let_go(of);
}

/* Before it is given back: from then on others may have it. */
static void give_up(grip *of)
{
    of->given_up = true;
    if (!of->undeliverable) atomic_fetch_add(&fate_of(of->sequence)->returned, 1);
}

/* What it has not seen of the batch was handed out, unless it says so for each. */
static void give_up_all(void)
{
    const eb_batch *batch = eb_batch_of(me.sub);
    for (unsigned i = 0; i < me.held; i++)
        give_up(&me.hand[i]);
    for (; me.read > 0 && !me.one_by_one; me.read--)
        atomic_fetch_add(&fate_of(batch->sequence[batch->head.status - (int)me.read])->unseen, 1);
    me.read = 0;
}

/* Event number `i` of the batch, as a reader hands it out: eb_count_delivery. */
static uint64_t see(int i)
{
    eb_batch *batch = eb_batch_of(me.sub);
    uint64_t sequence = batch->sequence[i];
    fate *of = fate_of(sequence);
    EQUAL("who reads one by one is to say so", batch->head.counts, me.one_by_one);
    if (me.one_by_one) atomic_store((eb_u32 *)batch->handed_out[i], (batch->deliveries[i] - 1) | EB_HANDED_OUT);
    if (!me.one_by_one || i == 0) me.read--;
    atomic_fetch_add(&of->handed, 1);
    batch->head.handed = (uint32_t)i + 1;
    grip_it(sequence, false);
    CHECK("nobody else has worked it off", atomic_load(&of->done) + atomic_load(&of->dead) == 0);
    EQUAL("nobody else works on it", atomic_load(&of->handed), atomic_load(&of->returned) + 1);
    EQUAL("it says how often it was delivered", batch->deliveries[i], deliveries_of(of));
    CHECK("no more often than allowed", batch->deliveries[i] <= MOST_DELIVERIES);
    CHECK("a batch says that it has such", batch->deliveries[i] == 1 || batch->head.counted);
    return sequence;
}

/* --- death --- */

/* The claim is its own to the end. What the kernel orders by a death, a race detector gets to see. */
static void settle(uint32_t claim)
{
    uint32_t counted = atomic_load(eb_claim_counter(&it.bus->roster, claim));
    bool out = (counted & EB_HANDED_OUT) != 0;
    unsigned deliveries = (counted & ~EB_HANDED_OUT) + out;
    uint64_t sequence = eb_claim_sequence(&it.bus->roster, claim);
    fate *of = fate_of(sequence);
    grip *seen = grip_of(sequence);
    atomic_fetch_add(eb_claim_holder(&it.bus->roster, claim), 0);
    if (seen) {
        EQUAL("what it saw is counted, and what it was to bury is not", deliveries, deliveries_of(of));
        EQUAL("as handed out", out, !seen->undeliverable);
        if (!seen->given_up) give_up(seen);
        let_go(seen);
    } else if (deliveries != deliveries_of(of)) {
        CHECK("nothing is counted but what it was handed", out && me.read > 0);
        EQUAL("which is, once", deliveries, deliveries_of(of) + 1);
        atomic_fetch_add(&of->unseen, 1);
        me.read--;
    }
}

/* What is not its own any more was acknowledged or given back. */
static void settle_all(int point)
{
    const eb_roster *roster = &it.bus->roster;
    eb_group *group = group_of(me.group);
    for (int claim = 0; (claim = eb_claim_from(roster, group, (uint32_t)claim)) >= 0; claim++)
        if (atomic_load(eb_claim_holder(roster, (uint32_t)claim)) == me.sub->token) settle((uint32_t)claim);
    EQUAL("all that was handed out is counted", me.read, 0);
    while (me.held > 0) {
        grip *of = &me.hand[0];
        bool lost = !of->given_up && of->undeliverable && point != EB_POINT_dead_counted;
        if (lost) atomic_fetch_add(&group->dead, 1); /* a death loses it */
        if (of->given_up) let_go(of);
        else work_off(of->sequence);
    }
}

/* As the process would, which lives on here. */
static void drop(pthread_mutex_t *mutex)
{
    pthread_mutex_trylock(mutex);
    pthread_mutex_unlock(mutex);
}

static void die(int point)
{
    settle_all(point);
    atomic_fetch_add(&deaths, 1);
    if (point >= 0) atomic_fetch_add(&died_at[point], 1);
    drop(&me.sub->at_hand);
    drop(&me.sub->turn);
    die_with(me.sub);
    longjmp(me.grave, 1);
}

static void maybe_die(int point)
{
    if (point == EB_POINT_claim_handed_out) me.read++;
    if (!me.sub || point != me.doom || --me.passes > 0) return;
    me.doom = -1;
    die(point);
}

/* --- what all members do --- */

static void join_group(uint64_t *state, bool manual, bool one_by_one)
{
    eb_group_info group;
    EQUAL("the group is there", eb_group_read(it.bus, me.group, &group), 1);
    eb_terms terms = {.system = group.system,
                      .kind = group.kind,
                      .name = "member",
                      .start = EB_OLDEST,
                      .spin_ns = draw(state) & 1 ? 0 : EB_ADAPTIVE,
                      .group = group.name,
                      .manual = manual,
                      .one_by_one = one_by_one};
    int status;
    do
        me.sub = subscribe(it.bus, &terms, EB_FOREVER, &status);
    while (!me.sub && (status == EB_INTERRUPTED || status == EB_BUSY));
    EQUAL("a member can join", status, EB_OK);
    me.one_by_one = one_by_one;
    me.held = me.read = 0;
}

static bool hears(const eb_batch *batch)
{
    eb_group_info group;
    char kind[EB_NAME_LIMIT + 1] = {0};
    memcpy(kind, batch->names + batch->system_length, batch->kind_length);
    EQUAL("the group is there", eb_group_read(it.bus, me.group, &group), 1);
    return eb_means(group.kind, kind, batch->kind_length);
}

/* Whatever comes is whole. On a host so busy that it never got the group's lock it goes on. */
static int ask(int limit, int64_t deadline)
{
    EQUAL("it has seen all that it was handed", me.read, 0);
    for (;;) {
        int status = eb_receive(me.sub, limit, deadline);
        const eb_batch *batch = eb_batch_of(me.sub);
        if (status == EB_UNDECIDED) eb_decide(me.sub, batch->undecided, hears(batch));
        else if (status != EB_INTERRUPTED && status != EB_BUSY) {
            if (status <= 0 && status != EB_EXHAUSTED && status != EB_CLOSED)
                EQUAL("events, nothing or the end", status, EB_NOTHING);
            CHECK("not more than it asked for", status <= limit);
            uint32_t count = status > 0 ? (uint32_t)status : status == EB_EXHAUSTED;
            if (count > 0) check_batch(&(listener){.sub = me.sub}, count, false);
            EQUAL("the core hands out all of a batch, or its first", me.read,
                  status <= 0     ? 0
                  : me.one_by_one ? 1
                                  : status);
            return status;
        }
    }
}

/* The one event of the batch; sometimes who is to bury it dies with it. */
static void bury_letter(uint64_t *state)
{
    uint64_t sequence = eb_batch_of(me.sub)->sequence[0];
    grip_it(sequence, true);
    EQUAL("it comes once more than is allowed", eb_batch_of(me.sub)->deliveries[0], MOST_DELIVERIES + 1);
    EQUAL("and was delivered as often as is", deliveries_of(fate_of(sequence)), MOST_DELIVERIES);
    if (draw(state) % 16 == 0) die(-1);
    EQUAL("a dead letter is acknowledged, and counted", eb_bury(me.sub, sequence), EB_OK);
    work_off(sequence);
}

static void part(void)
{
    if (me.sub->held > 0) atomic_fetch_add(&departures, 1);
    give_up_all();
    eb_unsubscribe(me.sub);
    me.held = 0;
}

/* One life after the other, until the bus is closed and nothing is left. */
static void live_on(unsigned number, int (*live)(uint64_t *state))
{
    uint64_t state = chance_of(500 + number);
    _Atomic int status = EB_NOTHING; /* outlives a death */
    me.group = number % GROUPS;
    while (atomic_load(&status) != EB_CLOSED) {
        if (setjmp(me.grave) == 0) atomic_store(&status, live(&state));
        else atomic_store(&status, EB_NOTHING);
        me.doom = -1;
        eb_subscription_free(me.sub);
        me.sub = NULL;
    }
}

/* --- figures --- */

static void read_group(unsigned number)
{
    eb_group_info group;
    eb_claim_info claim;
    EQUAL("a group can be read at any time", eb_group_read(it.bus, number, &group), 1);
    CHECK("it has no more to do than the ring holds", eb_waiting(it.bus, group.slot) <= RING_BYTES / EB_HEADER_BYTES);
    EQUAL("it says what it is", group.max_deliveries, MOST_DELIVERIES);
    for (int i = 0; (i = eb_claim_read(it.bus, number, (uint32_t)i, &claim)) >= 0; i++) {
        CHECK("one of the members has it, or nobody", claim.slot < SLOTS || claim.slot == UINT32_MAX);
        CHECK("it says how often it was delivered", claim.deliveries <= MOST_DELIVERIES + 1);
        CHECK("and what it is", claim.sequence > 0 && claim.bytes >= EB_HEADER_BYTES && claim.bytes <= EVENT_ROOM + 40);
    }
}

static void *read_figures(void *with)
{
    (void)with;
    while (!atomic_load(&figures_stopping)) {
        eb_subscriber_info info;
        for (unsigned i = 0; i < GROUPS; i++)
            read_group(i);
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            if (eb_subscriber(it.bus, slot, &info) == 1)
                CHECK("a member says of which group", info.group >= 0 && info.group < GROUPS);
        eb_bus_reap(it.bus, EB_POLL);
        sched_yield();
    }
    return NULL;
}

/* --- the whole --- */

static void make_group(unsigned number, const char *kind)
{
    char name[] = {(char)('a' + number), 0};
    eb_group_terms terms = {
        .system = "**", .kind = kind, .name = name, .start = EB_LATEST, .max_deliveries = MOST_DELIVERIES};
    EQUAL("groups are numbered from zero", eb_group_create(it.bus, &terms, EB_FOREVER), number);
    fates[number] = calloc(EVENTS, sizeof *fates[number]);
    CHECK("memory", fates[number]);
}

/* How many events were the group's. */
static uint64_t expect_worked_off_once(unsigned group)
{
    uint64_t events = 0, again = 0, dead = 0;
    eb_group_info info;
    me.group = group;
    for (uint64_t sequence = 1; sequence <= sent(it.bus); sequence++) {
        const fate *of = fate_of(sequence);
        unsigned deliveries = deliveries_of(of);
        if (deliveries == 0 && of->done + of->dead == 0) continue;
        EQUAL("each event is worked off once", of->done + of->dead, 1);
        EQUAL("by the last one that it was handed to", of->handed, of->returned + of->done);
        CHECK("no more often than allowed", deliveries <= MOST_DELIVERIES);
        CHECK("it is dead only if it was delivered as often as allowed", !of->dead || deliveries == MOST_DELIVERIES);
        again += deliveries - 1;
        dead += of->dead;
        events++;
    }
    EQUAL("the group is there", eb_group_read(it.bus, group, &info), 1);
    EQUAL("and has nothing left to do", eb_waiting(it.bus, info.slot), 0);
    EQUAL("nor in hand", eb_claim_from(&it.bus->roster, group_of(group), 0), EB_NOTHING);
    CHECK("all redeliveries are counted, as such the dead letters", info.redelivered >= again + dead);
    EQUAL("and all dead letters", info.dead, dead);
    printf("group %u: %llu redelivered, %llu dead\n", group, (unsigned long long)again, (unsigned long long)dead);
    free(fates[group]);
    return events;
}

static void show_deaths(void)
{
    for (int i = 0; i < EB_POINT_COUNT; i++)
        if (died_at[i]) printf("died at %s %llu times\n", eb_test_point_name(i), (unsigned long long)died_at[i]);
    printf("%llu events, %llu deaths, %llu rejected, %llu left with work in hand\n", (unsigned long long)sent(it.bus),
           (unsigned long long)deaths, (unsigned long long)rejections, (unsigned long long)departures);
}

#endif
