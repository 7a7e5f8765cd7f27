/* Members of groups that look at raw data where they lie, beside publishers that park what others hold: what they look at
 * stays what it was from the beginning to the end of each look. Events are done in order by asking for more, or by other
 * threads in any order, or given back; views are kept past their events, ended by other threads, copied as before a fork;
 * members leave and die with what they look at, and one group is removed and made anew. Each event of the other one is done
 * once.
 *
 *   stress_looks [SECONDS [SEED]] */
#include "looker.h"

enum { ROUNDS = 2, CHOSEN = 1 };

static const char *const NAMES[] = {"a", "b"}, *const KINDS[] = {"**", "k1"};
static _Atomic bool over;
static _Atomic uint64_t looked, unparked, left, died, removed, held_long;

static void *help(void *with)
{
    looker *me = &lookers[(uintptr_t)with];
    uint64_t state = chance_of(500 + (unsigned)(uintptr_t)with);
    while (!atomic_load(&over)) {
        pthread_rwlock_rdlock(&me->here);
        bool any = me->sub && me->manual && draw(&state) % 4 && finish_any(me, &state);
        if (!any) see_to_kept(me, &state);
        if (me->sub && me->parts && draw(&state) % 64 == 0) eb_views_part(me->sub);
        pthread_rwlock_unlock(&me->here);
        sched_yield();
    }
    return NULL;
}

/* --- who looks --- */

static void take_in_hand(looker *me, const eb_batch *batch, uint32_t i)
{
    const eb_beside *beside = &batch->beside[i];
    grip one = {.sequence = batch->sequence[i], .seen = {beside->view, beside->data, beside->data_length}};
    uint64_t names[2];
    const char *copied = batch->buffer + beside->offset + beside->path_length;
    take(me->group, one.sequence);
    if (one.seen.view) hold(one.seen.view);
    expect_whole(one.seen.view ? one.seen.data : copied, beside->data_length, names);
    if (one.seen.view) atomic_fetch_add(&looked, 1);
    else if (beside->data_length >= LARGE) atomic_fetch_add(&unparked, 1);
    pthread_mutex_lock(&me->lock);
    CHECK("no more is in hand than was asked for", me->held < HAND);
    me->hand[me->held++] = one;
    pthread_mutex_unlock(&me->lock);
}

static int receive(eb_subscription *sub, unsigned group, int limit, int64_t deadline)
{
    eb_batch *batch = eb_batch_of(sub);
    for (;;) {
        int status = eb_receive(sub, limit, deadline);
        if (status == EB_UNDECIDED) eb_decide(sub, batch->undecided, group == 0 || batch->undecided == CHOSEN);
        else if (status == EB_LARGE) EQUAL("memory", eb_reserve(sub, batch->needed), EB_OK);
        else if (status != EB_INTERRUPTED && status != EB_BUSY) {
            CHECK("events, nothing or the end", status > 0 || status == EB_NOTHING || status == EB_CLOSED);
            return status;
        }
    }
}

/* Events in hand, or why there are none. */
static int ask(looker *me)
{
    const eb_batch *batch = eb_batch_of(me->sub);
    int status = receive(me->sub, me->group, 1 + (int)(draw(&me->state) % HAND), soon(&me->state));
    if (status <= 0) return status;
    EQUAL("all of it is raw", batch->head.beside_count, status);
    for (int i = 0; i < status; i++)
        if (batch->sequence[i] >= me->lent) me->lent = batch->sequence[i] + 1;
    EQUAL("it is lent", eb_views_lend(me->sub, me->lent), EB_OK);
    for (int i = 0; i < status; i++)
        take_in_hand(me, batch, (uint32_t)i);
    if (eb_test_passed(EB_POINT_copy_placed) > 0 && atomic_load(&unparked) > 0) atomic_store(&owed, 0);
    return status;
}

/* What it has is done once it asks for more; some of the looks go on beyond that. */
static int ask_on(looker *me)
{
    grip all[HAND];
    unsigned count = empty_hand(me, all);
    for (unsigned i = 0; i < count; i++) {
        uint64_t chance = draw(&me->state) % 4;
        if (!me->parts) look_in_ring(&all[i].seen);
        if (chance == 0) keep(me, &me->state, &all[i].seen);
        if (chance > 1) look_away(&all[i].seen);
        if (chance > 1) all[i].seen.view = NULL;
    }
    int status = ask(me);
    for (unsigned i = 0; i < count; i++) {
        finished(me->group, all[i].sequence);
        look_away(&all[i].seen);
    }
    return status;
}

/* NULL where the group is being made anew. */
static eb_subscription *join_group(unsigned group, bool manual, bool views, int64_t spin_ns)
{
    eb_terms terms = {.system = "**",
                      .kind = KINDS[group],
                      .name = "looker",
                      .start = EB_OLDEST,
                      .spin_ns = spin_ns,
                      .group = NAMES[group],
                      .manual = manual,
                      .views = views};
    int status;
    eb_subscription *sub = subscribe(it.bus, &terms, EB_FOREVER, &status);
    CHECK("it can join, now or soon", sub || status == EB_INTERRUPTED || status == EB_BUSY || status == EB_NO_SLOT ||
                                          (status == EB_NOTHING && group == 1));
    return sub;
}

static bool join_to_look(looker *me)
{
    eb_subscription *sub = join_group(me->group, me->manual, true, draw(&me->state) & 1 ? 0 : EB_ADAPTIVE);
    pthread_rwlock_wrlock(&me->here);
    me->sub = sub;
    me->lent = 0;
    pthread_rwlock_unlock(&me->here);
    return sub != NULL;
}

/* With what it looks at, beside who finishes for it; or dead, as its memory ends: then its slot holds its gate still. */
static void part(looker *me, bool dies)
{
    grip all[HAND];
    if (dies) pthread_rwlock_wrlock(&me->here);
    unsigned count = empty_hand(me, all);
    for (unsigned i = 0; dies && i < count; i++)
        look_away(&all[i].seen);
    if (dies) {
        drop_kept(me);
        eb_views_end(me->sub);
        die_with(me->sub);
    } else {
        eb_unsubscribe(me->sub);
        pthread_rwlock_wrlock(&me->here);
    }
    for (unsigned i = 0; !dies && i < count; i++)
        look_away(&all[i].seen);
    eb_subscription_free(me->sub);
    me->sub = NULL;
    pthread_rwlock_unlock(&me->here);
    atomic_fetch_add(dies ? &died : &left, count > 0);
}

/* Nothing in hand and nothing kept: then it holds nobody up. */
static void expect_free(looker *me)
{
    pthread_rwlock_wrlock(&me->here);
    drop_kept(me);
    CHECK("its slot is no gate", !(atomic_load(&slot_of(it.bus, me->sub)->owner) & EB_SLOT_GATED));
    EQUAL("and it looks at nothing", eb_viewed_by(it.bus, eb_slot(me->sub)), 0);
    pthread_rwlock_unlock(&me->here);
}

/* Who finishes for it may be about to. */
static bool has_any(looker *me)
{
    pthread_mutex_lock(&me->sub->at_hand);
    bool any = me->sub->held > 0;
    pthread_mutex_unlock(&me->sub->at_hand);
    return any;
}

/* On a closed bus, once it has nothing in hand, it sees whether anything came back; true at the end of all. */
static bool live(looker *me)
{
    bool ended = false;
    for (uint64_t batches = 1 + draw(&me->state) % 60; batches > 0 && !ended; batches--) {
        bool idle = !has_any(me);
        int status = me->manual ? ask(me) : ask_on(me);
        if (status == EB_CLOSED && me->group == 1) break;
        ended = status == EB_CLOSED && idle;
        for (uint64_t naps = draw(&me->state) % 8; naps > 0; naps--)
            sched_yield();
        if (me->manual && draw(&me->state) % 2) finish_any(me, &me->state);
        if (draw(&me->state) % 64 == 0) return_all(me);
    }
    if (ended) expect_free(me);
    part(me, !ended && draw(&me->state) % 16 == 0);
    return ended;
}

static void *look_on(void *with)
{
    looker *me = &lookers[(uintptr_t)with];
    for (bool ended = false; !ended;) {
        if (join_to_look(me)) ended = live(me);
        if (me->group == 1) ended = eb_closed(it.bus);
        sched_yield();
    }
    return NULL;
}

/* --- beside them --- */

/* Has one event in hand while the ring goes round, so that it is parked, and comes from there to the next one. */
static void hold_one(unsigned group, eb_subscription *sub, uint64_t *state)
{
    const eb_ring_header *ring = it.bus->ring.header;
    uint64_t sequence = eb_batch_of(sub)->sequence[0], since = atomic_load(&ring->committed);
    take(group, sequence);
    for (int looks = 0; looks < 1000 && atomic_load(&ring->committed) - since < ROUNDS * RING_BYTES; looks++)
        sched_yield();
    bool back = draw(state) % 2;
    let_go(group, sequence);
    int status = back ? eb_reject_event(sub, sequence, 0) : eb_ack_event(sub, sequence);
    if (status == EB_OK && !back) finished(group, sequence);
    CHECK("done, or its group is removed", status == EB_OK || (status == EB_CLOSED && group == 1));
    atomic_fetch_add(&held_long, 1);
}

static void *hold_long(void *with)
{
    unsigned group = (unsigned)(uintptr_t)with;
    uint64_t state = chance_of(700 + group);
    for (bool ended = false; !ended; sched_yield()) {
        int status = EB_NOTHING;
        eb_subscription *sub = join_group(group, true, false, 0);
        while (sub && status != EB_CLOSED)
            if ((status = receive(sub, group, 1, soon(&state))) == 1) hold_one(group, sub, &state);
        ended = group == 0 ? status == EB_CLOSED : eb_closed(it.bus);
        eb_subscription_free(sub);
    }
    return NULL;
}

static void make_group(unsigned number)
{
    eb_group_terms terms = {
        .system = "**", .kind = KINDS[number], .name = NAMES[number], .start = EB_LATEST, .max_deliveries = 1 << 30};
    int status;
    while ((status = eb_group_create(it.bus, &terms, EB_FOREVER)) < 0)
        CHECK("a group can be made, soon", status == EB_INTERRUPTED || status == EB_BUSY || status == EB_NO_SLOT);
}

static void *make_anew(void *with)
{
    uint64_t state = chance_of(800 + (unsigned)(uintptr_t)with);
    while (!atomic_load(&stopping)) {
        struct timespec lasts = {.tv_nsec = (int64_t)(draw(&state) % 40000000)},
                        pause = {.tv_nsec = lasts.tv_nsec / 10};
        int status;
        nanosleep(&lasts, NULL);
        while ((status = eb_group_remove(it.bus, NAMES[1], EB_FOREVER)) != EB_OK)
            CHECK("it can be removed, soon", status == EB_INTERRUPTED || status == EB_BUSY);
        nanosleep(&pause, NULL);
        make_group(1);
        atomic_fetch_add(&removed, 1);
    }
    return NULL;
}

/* Now and then somebody stands still where others see the half of what it does. */
static void stumble(int point)
{
    static _Thread_local uint64_t state;
    bool there = point == EB_POINT_look_moved || point == EB_POINT_look_gated || point == EB_POINT_look_over ||
                 point == EB_POINT_claim_copied || point == EB_POINT_copy_filled || point == EB_POINT_parked_copied ||
                 point == EB_POINT_parked_moved || point == EB_POINT_parked_gate || point == EB_POINT_export_ended;
    if (there && draw(&state) % 8 == 0) sched_yield();
}

/* --- the whole --- */

static void run(unsigned seconds)
{
    eb_test_hook = stumble;
    pthread_t threads[LOOKERS], helpers[LOOKERS], holders[GROUPS], maker;
    fates = calloc(EVENTS, sizeof *fates);
    CHECK("memory", fates);
    for (unsigned i = 0; i < GROUPS; i++)
        make_group(i);
    for (int i = 0; i < LOOKERS; i++) {
        lookers[i] =
            (looker){.group = (unsigned)i % GROUPS, .manual = i / 2 % 2, .state = chance_of(100 + (unsigned)i)};
        pthread_rwlock_init(&lookers[i].here, NULL);
        pthread_mutex_init(&lookers[i].lock, NULL);
    }
    for (int i = 0; i < LOOKERS; i++) {
        threads[i] = start(look_on, i);
        helpers[i] = start(help, i);
    }
    for (int i = 0; i < GROUPS; i++)
        holders[i] = start(hold_long, i);
    maker = start(make_anew, 0);
    atomic_store(&owed, 1); /* a copy of what was kept, and one of what was parked */
    publish_for(seconds, show);
    pthread_join(maker, NULL);
    shut_down();
    for (int i = 0; i < LOOKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < GROUPS; i++)
        pthread_join(holders[i], NULL);
    atomic_store(&over, true);
    for (int i = 0; i < LOOKERS; i++)
        pthread_join(helpers[i], NULL);
    for (int i = 0; i < LOOKERS; i++)
        drop_kept(&lookers[i]);
}

int main(int count, char **arguments)
{
    run(begin("stress_looks", count, arguments));
    EQUAL("all that was sent has a sequence", sent(it.bus), sent_by_all());
    for (uint64_t sequence = 1; sequence <= sent(it.bus); sequence++)
        EQUAL("each is done once", atomic_load(&fates[sequence].done), 1);
    printf("%llu events, %llu looked at, %llu from the parking, %d copies, %llu ended apart, %llu looked at again\n",
           (unsigned long long)sent(it.bus), (unsigned long long)looked, (unsigned long long)unparked,
           eb_test_passed(EB_POINT_copy_placed), (unsigned long long)ended_apart, (unsigned long long)again);
    printf("%llu given back, %llu held long, %llu left and %llu died with some, %llu groups removed\n",
           (unsigned long long)given_back, (unsigned long long)held_long, (unsigned long long)left,
           (unsigned long long)died, (unsigned long long)removed);
    free(fates);
    scene_end(&it);
    return 0;
}
