/* One bus, many threads on one mapping, as a race detector needs it: publishers, gated and dropping subscribers,
 * joiners and leavers, readers of the figures.
 *
 *   stress [SECONDS [SEED]] */
#include "crowd.h"

enum { GATED = 2, DROPPING = 2, JOINERS = 2, CHOSEN = 1 };

static _Atomic bool figures_stopping;
static eb_subscription *gated[GATED], *deaf, *choosy;

/* --- receive --- */

/* One batch, or why there is none. */
static int hear(listener *me, int limit, int64_t deadline, bool gapless)
{
    for (;;) {
        int status = eb_receive(me->sub, limit, deadline);
        if (status == EB_UNDECIDED) eb_decide(me->sub, eb_batch_of(me->sub)->undecided, 1);
        else if (status == EB_LARGE) EQUAL("memory", eb_reserve(me->sub, eb_batch_of(me->sub)->needed), EB_OK);
        else if (status != EB_INTERRUPTED) {
            CHECK("events, nothing or the end", status > 0 || status == EB_NOTHING || status == EB_CLOSED);
            if (status > 0) check_batch(me, (uint32_t)status, gapless);
            return status;
        }
    }
}

/* With nothing left to read, what was received and what was lost are all there was. */
static void expect_account(const listener *me)
{
    uint64_t next = me->sub->sequence;
    EQUAL("received and lost are all that passed", me->received + eb_lost(me->sub), next - me->from);
}

static listener listen_from(int64_t start, bool holds, int64_t spin)
{
    eb_terms terms = {.system = "**", .kind = "**", .name = "stress", .start = start, .spin_ns = spin, .gated = holds};
    int status;
    listener me = {.sub = NULL};
    do
        me.sub = subscribe(it.bus, &terms, EB_FOREVER, &status);
    while (!me.sub && (status == EB_INTERRUPTED || status == EB_BUSY));
    EQUAL("a subscription can be made", status, EB_OK);
    me.from = start > 0 ? (uint64_t)start : me.sub->sequence;
    return me;
}

static void *receive_gated(void *with)
{
    unsigned number = (unsigned)(uintptr_t)with;
    uint64_t state = chance_of(100 + number);
    listener me = {.sub = gated[number], .from = 1};
    while (hear(&me, 1 + (int)(draw(&state) % EB_BATCH_LIMIT), soon(&state), true) != EB_CLOSED)
        CHECK("a gated subscriber loses nothing", eb_lost(me.sub) == 0);
    EQUAL("it heard the last event", me.last, sent(it.bus));
    for (int i = 0; i < PUBLISHERS; i++)
        EQUAL("and all of each publisher's", me.next[i], atomic_load(&sent_by[i]));
    expect_account(&me);
    return NULL;
}

/* Looks away until the ring has gone round: laps are made, not waited for. */
static void look_away(void)
{
    const eb_ring_header *header = it.bus->ring.header;
    uint64_t mark = atomic_load(&header->committed);
    while (atomic_load(&header->committed) - mark < 2 * RING_BYTES && !atomic_load(&stopping))
        sched_yield();
}

static void *receive_dropping(void *with)
{
    uint64_t state = chance_of(200 + (unsigned)(uintptr_t)with);
    listener me = listen_from(EB_LATEST, false, with ? 0 : EB_ADAPTIVE);
    int status;
    look_away();
    atomic_fetch_sub(&owed, 1);
    while ((status = hear(&me, 1 + (int)(draw(&state) % 64), soon(&state), false)) != EB_CLOSED) {
        if (status == EB_NOTHING) expect_account(&me);
        if (draw(&state) % 16 == 0) look_away();
    }
    expect_account(&me);
    CHECK("it was lapped", eb_lost(me.sub) > 0);
    printf("dropping: %llu received, %llu lost\n", (unsigned long long)me.received,
           (unsigned long long)eb_lost(me.sub));
    leave(me.sub);
    return NULL;
}

static void *join_and_leave(void *with)
{
    uint64_t state = chance_of(300 + (unsigned)(uintptr_t)with), joined = 0;
    int status = EB_NOTHING;
    for (; status != EB_CLOSED; joined++) {
        int64_t start = (int64_t[]){EB_LATEST, EB_OLDEST, 1 + (int64_t)sent(it.bus)}[draw(&state) % 3];
        listener me = listen_from(start, draw(&state) & 1, draw(&state) & 1 ? 0 : EB_ADAPTIVE);
        bool gapless = start == EB_LATEST && (atomic_load(&slot_of(it.bus, me.sub)->owner) & EB_SLOT_GATED);
        for (uint64_t batches = draw(&state) % 20; batches > 0 && status != EB_CLOSED; batches--) {
            status = hear(&me, 1 + (int)(draw(&state) % 32), soon(&state), gapless);
            if (status == EB_NOTHING || status == EB_CLOSED) expect_account(&me);
        }
        leave(me.sub);
    }
    printf("joined and left %llu times\n", (unsigned long long)joined);
    return NULL;
}

/* Hears one topic of all, and looks away so often that publishers move its cursor on while it reads. */
static void *receive_chosen(void *with)
{
    uint64_t state = chance_of(250);
    listener me = {.sub = choosy};
    int status;
    (void)with;
    do {
        status = eb_receive(choosy, 1 + (int)(draw(&state) % 64), soon(&state));
        const eb_batch *batch = eb_batch_of(choosy);
        if (status == EB_UNDECIDED) eb_decide(choosy, batch->undecided, batch->undecided == CHOSEN);
        if (status == EB_LARGE) EQUAL("memory", eb_reserve(choosy, batch->needed), EB_OK);
        if (status > 0) check_batch(&me, (uint32_t)status, false);
        for (int i = 0; i < status; i++)
            EQUAL("it hears its topic only", batch->topic[i], CHOSEN);
        for (uint64_t naps = draw(&state) % 500; naps > 0; naps--)
            sched_yield();
    } while (status != EB_CLOSED);
    EQUAL("and all of it", me.received, eb_topic_count(it.bus, CHOSEN));
    EQUAL("nothing is lost", eb_lost(choosy), 0);
    return NULL;
}

/* Hears nothing, holds nobody up, and ends when it is told. */
static void *sleep_deaf(void *with)
{
    (void)with;
    int status;
    do {
        status = eb_receive(deaf, 1, EB_FOREVER);
        if (status == EB_UNDECIDED) eb_decide(deaf, eb_batch_of(deaf)->undecided, 0);
    } while (status == EB_INTERRUPTED || status == EB_UNDECIDED);
    EQUAL("a deaf subscriber hears only the end", status, EB_CLOSED);
    return NULL;
}

/* --- figures --- */

static void read_backlog(eb_subscription *sub)
{
    eb_walk walk = {.count = 0};
    int status;
    while ((status = eb_backlog(sub, &walk)) == EB_UNDECIDED)
        walk.count += walk.undecided == EB_INLINE;
    EQUAL("what waits can be counted beside its receiver", status, EB_OK);
    CHECK("it is no more than the ring holds", walk.count <= RING_BYTES / EB_HEADER_BYTES);
}

static void read_roster(void)
{
    eb_subscriber_info info;
    for (uint32_t slot = 0; slot <= SLOTS; slot++)
        if (eb_subscriber(it.bus, slot, &info) == 1)
            CHECK("who is there says who it is", !strcmp(info.name, "stress") && !strcmp(info.system, "**"));
    int slowest = eb_slowest(it.bus);
    CHECK("the slowest is one of them", slowest >= -1 && slowest < (int)SLOTS);
}

static void add_topic(uint32_t number)
{
    char names[16];
    int length = snprintf(names, sizeof names, "zk%u", number), status;
    do
        status = eb_topic(it.bus, names, 1, (size_t)length - 1, EB_FOREVER);
    while (status == EB_INTERRUPTED);
    EQUAL("a topic is added while others send", status, number);
}

static void *read_figures(void *with)
{
    uint64_t state = chance_of(400), before = 0;
    uint32_t topics = TOPICS;
    (void)with;
    while (!atomic_load(&figures_stopping)) {
        eb_stats stats;
        EQUAL("the statistics can be read at any time", eb_stats_read(it.bus, &stats), EB_OK);
        CHECK("they add up", stats.used <= RING_BYTES && stats.sent >= before && stats.topics == topics);
        before = stats.sent;
        read_roster();
        read_backlog(gated[draw(&state) % GATED]);
        if (topics < 1000) add_topic(topics++);
        sched_yield();
    }
    return NULL;
}

/* --- the whole --- */

static void run(unsigned seconds)
{
    pthread_t others[GATED + DROPPING + JOINERS];
    int count = 0;
    atomic_store(&owed, DROPPING);
    for (int i = 0; i < GATED; i++)
        gated[i] = listen_from(EB_LATEST, true, i ? 0 : EB_ADAPTIVE).sub;
    deaf = listen_from(EB_LATEST, true, 0).sub;
    choosy = listen_from(EB_LATEST, true, 0).sub;
    pthread_t deaf_thread = start(sleep_deaf, 0), choosy_thread = start(receive_chosen, 0),
              figures = start(read_figures, 0);
    for (int i = 0; i < GATED; i++)
        others[count++] = start(receive_gated, i);
    for (int i = 0; i < DROPPING; i++)
        others[count++] = start(receive_dropping, i);
    for (int i = 0; i < JOINERS; i++)
        others[count++] = start(join_and_leave, i);
    publish_for(seconds, publish);
    eb_interrupt(deaf);
    pthread_join(deaf_thread, NULL);
    shut_down();
    for (int i = 0; i < count; i++)
        pthread_join(others[i], NULL);
    pthread_join(choosy_thread, NULL);
    atomic_store(&figures_stopping, true);
    pthread_join(figures, NULL);
}

static void expect_whole(void)
{
    uint64_t all = sent_by_all();
    EQUAL("all that was sent has a sequence", sent(it.bus), all);
    EQUAL("and is counted", counted_events(it.bus), all);
    EQUAL("the records can be walked", eb_ring_verify(&it.bus->ring), EB_OK);
    for (int i = 0; i < GATED; i++)
        leave(gated[i]);
    leave(deaf);
    leave(choosy);
    eb_subscriber_info info;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        EQUAL("every slot was given back", eb_subscriber(it.bus, slot, &info), 0);
    printf("%llu events\n", (unsigned long long)all);
}

int main(int count, char **arguments)
{
    run(begin("stress", count, arguments));
    expect_whole();
    scene_end(&it);
    return 0;
}
