/* Groups with many members in one process: they take, acknowledge, give back, leave with work in hand, join, and die at
 * every moment that has a test point, with claims and with the group's lock. Each event is worked off once, and each
 * time that it was handed out more than once is counted.
 *
 *   stress_groups [SECONDS [SEED]] */
#include "crowd.h"

#include <setjmp.h>

enum { GROUPS = 2, MEMBERS = 4, MOST_DELIVERIES = 3, POISONED = 37, PREFETCH = 8, EVENTS = 1 << 22 };

/* What became of one event in one group. */
typedef struct {
    _Atomic uint8_t handed;   /* seen by a member */
    _Atomic uint8_t returned; /* seen, and not worked off by who saw it */
    _Atomic uint8_t unseen;   /* deliveries that were counted, of which the member died before it saw them */
    _Atomic uint8_t restarted;
    _Atomic uint8_t done, dead;
} fate;

/* A member is a thread between joining and leaving or dying. */
typedef struct {
    eb_subscription *sub;
    unsigned group;
    int doom, passes;   /* it dies at this point, at this pass */
    uint64_t in_hand;   /* the sequence of what it works on, or 0 */
    bool undeliverable; /* which was handed out as often as allowed */
    jmp_buf grave;
} member;

static fate *fates[GROUPS];
static _Thread_local member me;
static _Atomic bool figures_stopping;
static _Atomic uint64_t deaths, rejections, departures;
static _Atomic uint64_t died_at[EB_POINT_COUNT];

static const int dooms[] = {EB_POINT_group_locked,   EB_POINT_claim_written,  EB_POINT_claim_held,
                            EB_POINT_claim_cursor,   EB_POINT_claim_gated,    EB_POINT_claim_adopted,
                            EB_POINT_claim_counted,  EB_POINT_claim_reset,    EB_POINT_claim_acknowledged,
                            EB_POINT_claim_finished, EB_POINT_claim_returned, EB_POINT_waiter_raised};

static fate *fate_of(uint64_t sequence)
{
    CHECK("the table of events is large enough", sequence > 0 && sequence < EVENTS);
    return &fates[me.group][sequence];
}

static eb_group *group_of(unsigned number)
{
    return &it.bus->roster.header->groups[number];
}

/* --- the account --- */

static void work_off(void)
{
    fate *of = fate_of(me.in_hand);
    atomic_fetch_add(me.undeliverable ? &of->dead : &of->done, 1);
    me.in_hand = 0;
}

static void give_up(void)
{
    if (me.in_hand != 0 && !me.undeliverable) atomic_fetch_add(&fate_of(me.in_hand)->returned, 1);
    me.in_hand = 0;
}

/* Claims whose next event counts as handed out already. */
static void expect_more_deliveries(void)
{
    eb_group *group = group_of(me.group);
    for (uint32_t i = 0; i < EB_CLAIMS; i++) {
        const eb_claim *claim = &group->claims[i];
        uint64_t start = atomic_load(&claim->start);
        if (atomic_load(&claim->holder) == me.sub->token && start != atomic_load(&claim->end))
            atomic_fetch_add(&fate_of(eb_ring_sequence_at(&it.bus->ring, start))->unseen, 1);
    }
}

/* The account is made before anybody can see that it is dead. */
static void die(int point)
{
    bool holding = me.in_hand != 0,
         worked_off = point == EB_POINT_claim_acknowledged || point == EB_POINT_claim_finished;
    if (holding && point == EB_POINT_claim_reset) atomic_store(&fate_of(me.in_hand)->restarted, 1);
    if (holding && worked_off && me.undeliverable)
        atomic_fetch_add(&group_of(me.group)->dead, 1); /* a death loses it */
    if (holding && worked_off) work_off();
    else give_up();
    if ((!holding || worked_off) && point != EB_POINT_claim_adopted) expect_more_deliveries();
    atomic_fetch_add(&deaths, 1);
    if (point >= 0) atomic_fetch_add(&died_at[point], 1);
    die_with(me.sub);
    if (point >= 0) pthread_mutex_unlock(&me.sub->turn); /* the process, whose death would end it, lives on */
    longjmp(me.grave, 1);
}

static void maybe_die(int point)
{
    if (!me.sub || point != me.doom || --me.passes > 0) return;
    me.doom = -1;
    die(point);
}

/* --- a member's life --- */

static bool join_group(uint64_t *state)
{
    eb_terms terms = {.system = "**", .kind = "**", .name = "member", .start = EB_OLDEST, .gated = 1};
    char name[] = {(char)('a' + me.group), 0};
    int status;
    terms.group = name;
    terms.spin_ns = draw(state) & 1 ? 0 : EB_ADAPTIVE;
    do
        me.sub = subscribe(it.bus, &terms, EB_FOREVER, &status);
    while (!me.sub && (status == EB_INTERRUPTED || status == EB_BUSY));
    EQUAL("a member can join", status, EB_OK);
    return true;
}

static int ask(int limit, int64_t deadline)
{
    for (;;) {
        int status = eb_receive(me.sub, limit, deadline);
        if (status == EB_UNDECIDED) eb_decide(me.sub, eb_batch_of(me.sub)->undecided, 1);
        else if (status != EB_INTERRUPTED) return status;
    }
}

static void see(uint64_t sequence, bool first)
{
    fate *of = fate_of(sequence);
    unsigned deliveries = eb_batch_of(me.sub)->head.deliveries;
    unsigned count = atomic_fetch_add(&of->handed, 1) + 1u;
    me.in_hand = sequence;
    me.undeliverable = false;
    CHECK("nobody else has worked it off", atomic_load(&of->done) + atomic_load(&of->dead) == 0);
    CHECK("it is not handed out more often than allowed", count <= MOST_DELIVERIES || atomic_load(&of->restarted));
    if (!first) EQUAL("what comes after the first was never seen before", count, 1);
    else if (atomic_load(&of->restarted)) CHECK("a redelivery says that it is one", deliveries > 1);
    else EQUAL("it says how often it was delivered", deliveries, count + atomic_load(&of->unseen));
}

static void bury_letter(uint64_t sequence)
{
    const fate *of = fate_of(sequence);
    unsigned deliveries = eb_batch_of(me.sub)->head.deliveries;
    me.in_hand = sequence;
    me.undeliverable = true;
    EQUAL("it was delivered as often as allowed", deliveries, MOST_DELIVERIES + 1);
    if (!atomic_load(&of->restarted)) /* more than that where somebody died who was about to bury it */
        CHECK("which all were counted", atomic_load(&of->handed) + atomic_load(&of->unseen) + 1u >= deliveries);
    EQUAL("a dead letter is acknowledged, and counted", eb_bury(me.sub), EB_OK);
    work_off();
}

/* Works through the batch and asks for each as Python does; false when the rest of it is somebody else's. Some events
 * are given back nearly each time, until they are dead letters. */
static bool work_one_by_one(uint64_t *state, int count)
{
    const eb_batch *batch = eb_batch_of(me.sub);
    for (int i = 0; i < count; i++) {
        see(batch->sequence[i], i == 0);
        uint64_t chance = draw(state) % 256;
        if (chance == 0) die(-1);
        if (chance <= 4 || (batch->sequence[i] % POISONED == 0 && chance < 224)) {
            give_up();
            atomic_fetch_add(&rejections, 1);
            EQUAL("what is in hand can be given back", eb_return(me.sub, 1), EB_OK);
            return false;
        }
        EQUAL("what is in hand can be acknowledged", eb_ack(me.sub), EB_OK);
        work_off();
        if (chance == 5) return false; /* leaves with the rest of the batch in hand, unseen */
    }
    return true;
}

/* Does all, and acknowledges by asking for more. */
static int work_at_once(int count, int limit, int64_t deadline)
{
    uint64_t sequence[PREFETCH];
    memcpy(sequence, eb_batch_of(me.sub)->sequence, (size_t)count * sizeof *sequence);
    for (int i = 0; i < count; i++)
        see(sequence[i], i == 0);
    int status = ask(limit, deadline);
    for (int i = 0; i < count; i++) {
        me.in_hand = sequence[i];
        me.undeliverable = false;
        work_off();
    }
    return status;
}

static int live(uint64_t *state)
{
    bool one_by_one = draw(state) % 4 != 0, stays = join_group(state);
    int limit = 1 + (int)(draw(state) % PREFETCH), status = EB_NOTHING;
    me.in_hand = 0;
    me.doom = one_by_one && draw(state) % 2 ? dooms[draw(state) % (sizeof dooms / sizeof *dooms)] : -1;
    me.passes = 1 + (int)(draw(state) % 3);
    for (uint64_t batches = draw(state) % 50; batches > 0 && stays && status != EB_CLOSED; batches--) {
        status = ask(limit, soon(state));
        while (status > 0 && !one_by_one) {
            check_batch(&(listener){.sub = me.sub}, (uint32_t)status, false);
            status = work_at_once(status, limit, soon(state));
        }
        if (status > 0) check_batch(&(listener){.sub = me.sub}, (uint32_t)status, false);
        if (status > 0) stays = work_one_by_one(state, status);
        if (status == EB_EXHAUSTED) bury_letter(eb_batch_of(me.sub)->sequence[0]);
        CHECK("events, nothing or the end",
              status > 0 || status == EB_NOTHING || status == EB_CLOSED || status == EB_EXHAUSTED);
    }
    if (me.sub->claim >= 0) atomic_fetch_add(&departures, 1);
    eb_unsubscribe(me.sub);
    return status;
}

static void *work(void *with)
{
    unsigned number = (unsigned)(uintptr_t)with;
    uint64_t state = chance_of(500 + number);
    me.group = number % GROUPS;
    _Atomic int status = EB_NOTHING; /* outlives a death */
    while (atomic_load(&status) != EB_CLOSED) {
        if (setjmp(me.grave) == 0) atomic_store(&status, live(&state));
        else atomic_store(&status, EB_NOTHING);
        me.doom = -1;
        eb_subscription_free(me.sub);
        me.sub = NULL;
    }
    return NULL;
}

/* --- figures --- */

static void read_group(unsigned number)
{
    eb_group_info group;
    eb_claim_info claim;
    EQUAL("a group can be read at any time", eb_group_read(it.bus, number, &group), 1);
    CHECK("it has no more to do than the ring holds", eb_waiting(it.bus, group.slot) <= RING_BYTES / EB_HEADER_BYTES);
    EQUAL("it says what it is", group.max_deliveries, MOST_DELIVERIES);
    for (uint32_t i = 0; i < EB_CLAIMS; i++)
        if (eb_claim_read(it.bus, number, i, &claim) == 1)
            CHECK("nobody claims more than asked for", claim.events <= PREFETCH);
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
        eb_bus_reap(it.bus);
        sched_yield();
    }
    return NULL;
}

/* --- the whole --- */

static void make_groups(void)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        char name[] = {(char)('a' + i), 0};
        eb_group_terms terms = {
            .system = "**", .kind = "**", .name = name, .start = EB_LATEST, .max_deliveries = MOST_DELIVERIES};
        EQUAL("groups are numbered from zero", eb_group_create(it.bus, &terms, EB_FOREVER), i);
        fates[i] = calloc(EVENTS, sizeof *fates[i]);
        CHECK("memory", fates[i]);
    }
}

static void run(unsigned seconds)
{
    pthread_t members[GROUPS * MEMBERS], figures;
    eb_test_hook = maybe_die;
    make_groups();
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        members[i] = start(work, i);
    figures = start(read_figures, 0);
    publish_for(seconds);
    shut_down();
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        pthread_join(members[i], NULL);
    atomic_store(&figures_stopping, true);
    pthread_join(figures, NULL);
}

static void expect_all_worked_off(unsigned group)
{
    uint64_t redelivered = 0, dead = 0;
    eb_group_info info;
    me.group = group;
    for (uint64_t sequence = 1; sequence <= sent(it.bus); sequence++) {
        const fate *of = fate_of(sequence);
        EQUAL("each event is worked off once", of->done + of->dead, 1);
        EQUAL("by the last one that it was handed to", of->handed, of->returned + of->done);
        redelivered += of->returned;
        dead += of->dead;
    }
    EQUAL("the group is there", eb_group_read(it.bus, group, &info), 1);
    EQUAL("and has nothing left to do", eb_waiting(it.bus, info.slot), 0);
    CHECK("all redeliveries are counted", info.redelivered >= redelivered);
    EQUAL("and all dead letters", info.dead, dead);
    printf("group %u: %llu redelivered, %llu dead\n", group, (unsigned long long)redelivered, (unsigned long long)dead);
    free(fates[group]);
}

int main(int count, char **arguments)
{
    run(begin("stress_groups", count, arguments));
    EQUAL("all that was sent has a sequence", sent(it.bus), sent_by_all());
    for (unsigned i = 0; i < GROUPS; i++)
        expect_all_worked_off(i);
    for (int i = 0; i < EB_POINT_COUNT; i++)
        if (died_at[i]) printf("died at %s %llu times\n", eb_test_point_name(i), (unsigned long long)died_at[i]);
    printf("%llu events, %llu deaths, %llu rejected, %llu left with work in hand\n", (unsigned long long)sent(it.bus),
           (unsigned long long)deaths, (unsigned long long)rejections, (unsigned long long)departures);
    scene_end(&it);
    return 0;
}
