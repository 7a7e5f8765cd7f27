/* Threads that look at raw data where they lie while publishers go round: what is in hand and what is kept stays what it was,
 * also as it becomes a copy beside whoever reads it. What is kept is let go of by other threads, looked at again, copied as
 * before a fork, or left behind by a subscription that ends.
 *
 *   stress_views [SECONDS [SEED]] */
#include "sights.h"

enum { VIEWERS = 2, JOINERS = 2, KEPT = 6 };

typedef struct {
    listener of;
    uint64_t state;
    pthread_mutex_t lock; /* of what is kept */
    keepsake kept[KEPT];
} viewer;

static viewer viewers[VIEWERS];
static _Atomic bool keeping_over;
static _Atomic uint64_t viewed, let_go, again, left_behind;

/* --- what is kept --- */

static void drop(keepsake *one)
{
    uint64_t names[2];
    if (!one->view) return;
    expect_whole(one->data, one->length, names);
    release(one->view);
    one->view = NULL;
    atomic_fetch_add(&let_go, 1);
}

static void keep(viewer *me, const eb_beside *beside)
{
    hold(beside->view);
    keepsake before = swap(&me->lock, &me->kept[draw(&me->state) % KEPT],
                           (keepsake){.view = beside->view, .data = beside->data, .length = beside->data_length});
    drop(&before);
}

/* Somebody else, who has it from the one that reads. */
static void *keep_for(void *with)
{
    viewer *me = &viewers[(uintptr_t)with];
    uint64_t state = chance_of(500 + (unsigned)(uintptr_t)with), names[2];
    while (!atomic_load(&keeping_over)) {
        keepsake one = swap(&me->lock, &me->kept[draw(&state) % KEPT], (keepsake){.view = NULL});
        if (one.view && draw(&state) % 2) {
            EQUAL("one may be looked at again", eb_view_export(one.view), EB_OK);
            expect_whole(one.data, one.length, names);
            eb_view_exported(one.view);
            one = swap(&me->lock, &me->kept[draw(&state) % KEPT], one);
            atomic_fetch_add(&again, 1);
        }
        drop(&one);
        if (draw(&state) % 64 == 0) eb_views_part(me->of.sub);
        sched_yield();
    }
    return NULL;
}

/* --- who looks --- */

static const char *data_at(const eb_batch *batch, uint32_t i)
{
    const eb_beside *beside = &batch->beside[i];
    return beside->view ? beside->data : batch->buffer + beside->offset + beside->path_length;
}

static void look_at(viewer *me, uint32_t count, bool gapless)
{
    const eb_batch *batch = eb_batch_of(me->of.sub);
    uint64_t names[2];
    EQUAL("all of it is raw", batch->head.beside_count, count);
    EQUAL("it is lent", eb_views_lend(me->of.sub, batch->head.last_sequence + 1), EB_OK);
    for (uint32_t i = 0; i < count; i++) {
        const eb_beside *beside = &batch->beside[i];
        if (beside->view) hold(beside->view);
        expect_whole(data_at(batch, i), beside->data_length, names);
        uint64_t *next = &me->of.next[names[0]];
        CHECK("each publisher's come in order, and all of them", (!gapless && *next == 0) || names[1] == *next);
        *next = names[1] + 1;
        me->of.received++;
        atomic_fetch_add(&viewed, beside->view != NULL);
        if (beside->view && draw(&me->state) % 3 == 0) keep(me, beside);
    }
    for (uint64_t naps = draw(&me->state) % 8; naps > 0; naps--)
        sched_yield();
    for (uint32_t i = 0; i < count; i++) {
        expect_whole(data_at(batch, i), batch->beside[i].data_length, names);
        if (batch->beside[i].view) release(batch->beside[i].view);
    }
    eb_views_asked(me->of.sub, batch->head.last_sequence + 1);
    if (eb_test_passed(EB_POINT_copy_placed) > 0) atomic_store(&owed, 0);
}

static int hear(viewer *me, bool gapless)
{
    for (;;) {
        int status = eb_receive(me->of.sub, 1 + (int)(draw(&me->state) % 8), soon(&me->state));
        if (status == EB_UNDECIDED) eb_decide(me->of.sub, eb_batch_of(me->of.sub)->undecided, 1);
        else if (status == EB_LARGE) EQUAL("memory", eb_reserve(me->of.sub, eb_batch_of(me->of.sub)->needed), EB_OK);
        else if (status != EB_INTERRUPTED) {
            CHECK("events, nothing or the end", status > 0 || status == EB_NOTHING || status == EB_CLOSED);
            if (status > 0) look_at(me, (uint32_t)status, gapless);
            return status;
        }
    }
}

static eb_subscription *join_to_look(void)
{
    eb_terms terms = {.system = "**", .kind = "**", .name = "viewer", .start = EB_LATEST, .gated = 1, .views = 1};
    eb_subscription *sub;
    int status;
    do
        sub = subscribe(it.bus, &terms, EB_FOREVER, &status);
    while (!sub && (status == EB_INTERRUPTED || status == EB_BUSY));
    EQUAL("a subscription can be made", status, EB_OK);
    return sub;
}

static void *look_on(void *with)
{
    viewer *me = &viewers[(uintptr_t)with];
    while (hear(me, true) != EB_CLOSED)
        ;
    for (int i = 0; i < PUBLISHERS; i++)
        EQUAL("it looked at all of each publisher's", me->of.next[i], atomic_load(&sent_by[i]));
    return NULL;
}

/* It leaves with what it has kept, which others look at after it. */
static void *look_and_leave(void *with)
{
    uint64_t state = chance_of(300 + (unsigned)(uintptr_t)with), names[2];
    int status = EB_NOTHING;
    while (status != EB_CLOSED) {
        viewer me = {.of = {.sub = join_to_look()}, .state = draw(&state)};
        pthread_mutex_init(&me.lock, NULL);
        for (uint64_t batches = draw(&state) % 20; batches > 0 && status != EB_CLOSED; batches--)
            status = hear(&me, false);
        leave(me.of.sub);
        for (int i = 0; i < KEPT; i++) {
            if (!me.kept[i].view) continue;
            EQUAL("what was left behind may be looked at", eb_view_export(me.kept[i].view), EB_OK);
            expect_whole(me.kept[i].data, me.kept[i].length, names);
            eb_view_exported(me.kept[i].view);
            drop(&me.kept[i]);
            atomic_fetch_add(&left_behind, 1);
        }
        pthread_mutex_destroy(&me.lock);
    }
    return NULL;
}

/* --- the whole --- */

static void run(unsigned seconds)
{
    pthread_t readers[VIEWERS], keepers[VIEWERS], joiners[JOINERS];
    for (int i = 0; i < VIEWERS; i++) {
        viewers[i] = (viewer){.of = {.sub = join_to_look()}, .state = chance_of(100 + (unsigned)i)};
        pthread_mutex_init(&viewers[i].lock, NULL);
    }
    for (int i = 0; i < VIEWERS; i++) {
        readers[i] = start(look_on, i);
        keepers[i] = start(keep_for, i);
    }
    for (int i = 0; i < JOINERS; i++)
        joiners[i] = start(look_and_leave, i);
    atomic_store(&owed, 1); /* a copy */
    publish_for(seconds, show);
    shut_down();
    for (int i = 0; i < VIEWERS; i++)
        pthread_join(readers[i], NULL);
    for (int i = 0; i < JOINERS; i++)
        pthread_join(joiners[i], NULL);
    atomic_store(&keeping_over, true);
    for (int i = 0; i < VIEWERS; i++)
        pthread_join(keepers[i], NULL);
}

/* With nothing kept any more nothing protects the ring. */
static void expect_free(viewer *me)
{
    for (int i = 0; i < KEPT; i++)
        drop(&me->kept[i]);
    EQUAL("all of the ring is free", atomic_load(&slot_of(it.bus, me->of.sub)->cursor),
          atomic_load(&it.bus->ring.header->committed));
    leave(me->of.sub);
    pthread_mutex_destroy(&me->lock);
}

int main(int count, char **arguments)
{
    run(begin("stress_views", count, arguments));
    EQUAL("all that was sent has a sequence", sent(it.bus), sent_by_all());
    for (int i = 0; i < VIEWERS; i++)
        expect_free(&viewers[i]);
    printf("%llu events, %llu looked at, %d copies, %llu kept, %llu looked at again, %llu left behind\n",
           (unsigned long long)sent(it.bus), (unsigned long long)viewed, eb_test_passed(EB_POINT_copy_placed),
           (unsigned long long)let_go, (unsigned long long)again, (unsigned long long)left_behind);
    scene_end(&it);
    return 0;
}
