/* Event loops among threads that block, on one bus: subscribers and members that doze, rung at a socket, told by a thread
 * where there is none, or watched by themselves. Publishers wait again and again until all that they sent was heard, and
 * nobody looks without having been told: whoever sleeps past an event hangs.
 *
 *   stress_bells [SECONDS [SEED]] */
#include "crowd.h"
#include "dozing.h"

enum { LOOPS = 3, SUBS = 2, SEATS = SUBS + 1, ALONE = 2, HEARERS = LOOPS * SUBS + ALONE, EVENTS = 1 << 22 };

static eb_bus *quiet; /* a third process, which makes no socket */
static _Atomic uint64_t heard_by[HEARERS], taken;
static _Atomic uint8_t *fate; /* how often each event was taken by a member */

/* A subscription or, without a number, a member. */
typedef struct {
    listener me;
    int number;
    bool over;
} seat;

/* --- receive --- */

static void hear_batch(seat *it, uint32_t count)
{
    if (it->number >= 0) {
        check_batch(&it->me, count, true);
        atomic_store(&heard_by[it->number], it->me.last);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sequence = eb_batch_of(it->me.sub)->sequence[i];
        CHECK("the table of events is large enough", sequence < EVENTS);
        EQUAL("an event is one member's", atomic_fetch_add(&fate[sequence], 1), 0);
    }
    atomic_fetch_add(&taken, count);
}

/* One batch, or why there is none. */
static int hear(seat *it, uint64_t *state, int64_t deadline)
{
    for (;;) {
        int status = eb_receive(it->me.sub, 1 + (int)(draw(state) % 8), deadline);
        if (status == EB_UNDECIDED) eb_decide(it->me.sub, eb_batch_of(it->me.sub)->undecided, 1);
        else if (status == EB_LARGE) EQUAL("memory", eb_reserve(it->me.sub, eb_batch_of(it->me.sub)->needed), EB_OK);
        else if (status != EB_INTERRUPTED) {
            CHECK("events, nothing or the end", status > 0 || status == EB_NOTHING || status == EB_CLOSED);
            if (status > 0) hear_batch(it, (uint32_t)status);
            it->over = status == EB_CLOSED;
            return status;
        }
    }
}

static eb_subscription *join_at(eb_bus *bus, int number)
{
    eb_terms terms = {.system = "**", .kind = "**", .name = "stress", .start = EB_LATEST, .gated = number >= 0};
    int status;
    if (number < 0) terms.group = "g";
    eb_subscription *sub = subscribe(bus, &terms, EB_POLL, &status);
    EQUAL("a subscription can be made", status, EB_OK);
    return sub;
}

static seat seats[LOOPS][SEATS], apart[ALONE], blocked[ALONE];

/* --- loops --- */

/* As a task does it that was told: all there is, and then it waits. Now and then it gives up before that. */
static void serve(seat *it, uint64_t *state, int watched)
{
    int64_t until;
    int status = EB_NOTHING;
    while (!it->over && status == EB_NOTHING) {
        while (hear(it, state, EB_BRIEF) > 0)
            continue;
        if (it->over) return;
        status = eb_arm(it->me.sub, watched, &until);
        CHECK("it dozes, or there may be something", status == EB_OK || status == EB_NOTHING);
        if (status == EB_OK && draw(state) % 16 == 0) {
            eb_disarm(it->me.sub);
            status = EB_NOTHING;
        }
    }
}

static bool all_over(const seat *of, int count)
{
    for (int i = 0; i < count; i++)
        if (!of[i].over) return false;
    return true;
}

static void *run_loop(void *with)
{
    unsigned number = (unsigned)(uintptr_t)with;
    eb_bus *bus = (eb_bus *[]){it.bus, it.peer, quiet}[number];
    seat *mine = seats[number];
    uint64_t state = chance_of(500 + number), answers = 0;
    eb_bell *bell = hold(bus, bus == quiet);
    CHECK("where sockets are, there is one", (bell->id == 0) == (bus == quiet));
    for (int i = 0; i < SEATS; i++)
        serve(&mine[i], &state, 0);
    for (; !all_over(mine, SEATS); answers++) {
        await_ring(eb_bell_fd(bell));
        uint64_t bits = told(bus);
        if (draw(&state) % 8 == 0) bits |= late(bus);
        for (int i = 0; i < SEATS; i++)
            if (bits & bit_of(mine[i].me.sub)) serve(&mine[i], &state, 0);
    }
    printf("loop %u: rung %llu times\n", number, (unsigned long long)answers);
    eb_bell_release(bell);
    return NULL;
}

/* One that watches a subscription by itself. */
static void *watch(void *with)
{
    unsigned number = (unsigned)(uintptr_t)with;
    uint64_t state = chance_of(600 + number);
    seat *mine = &apart[number];
    int fd = eb_fileno(mine->me.sub);
    for (serve(mine, &state, 1); !mine->over; serve(mine, &state, 1))
        await_ring(fd);
    return NULL;
}

/* A call that sleeps. */
static void *block(void *with)
{
    unsigned number = (unsigned)(uintptr_t)with;
    uint64_t state = chance_of(700 + number);
    while (hear(&blocked[number], &state, EB_FOREVER) != EB_CLOSED)
        continue;
    return NULL;
}

/* --- publish --- */

static bool all_heard(uint64_t last)
{
    for (int i = 0; i < HEARERS; i++)
        if (atomic_load(&heard_by[i]) < last) return false;
    return atomic_load(&taken) >= last;
}

/* By then all sleep, or are about to. */
static void await_silence(void)
{
    uint64_t last = sent(it.bus);
    while (!all_heard(last))
        sched_yield();
}

static void *publish_and_wait(void *with)
{
    publisher of = publisher_of((unsigned)(uintptr_t)with);
    of.bus = (eb_bus *[]){it.bus, it.peer, quiet}[of.number % LOOPS];
    while (!atomic_load(&stopping)) {
        for (uint64_t bursts = draw(&of.state) % 4; bursts > 0; bursts--)
            send_some(&of);
        if (draw(&of.state) % 4 != 0) await_silence();
    }
    atomic_store(&sent_by[of.number], of.counter);
    free(of.bytes);
    return NULL;
}

/* --- the whole --- */

static void join_all(void)
{
    eb_group_terms group = {.name = "g", .system = "**", .kind = "**", .start = EB_LATEST};
    int number = 0, status = EB_SYSTEM;
    quiet = bus_open(it.ring_fd, it.roster_fd, true, &status);
    EQUAL("a third one attaches", status, EB_OK);
    EQUAL("a group is made", eb_group_create(it.bus, &group, EB_POLL), 0);
    for (int i = 0; i < LOOPS; i++)
        for (int k = 0; k < SEATS; k++) {
            seat *one = &seats[i][k];
            one->number = k < SUBS ? number++ : -1;
            one->me.sub = join_at((eb_bus *[]){it.bus, it.peer, quiet}[i], one->number);
        }
    for (int i = 0; i < 2 * ALONE; i++) {
        seat *one = i < ALONE ? &apart[i] : &blocked[i - ALONE];
        one->number = i % 2 == 0 ? number++ : -1;
        one->me.sub = join_at(i % ALONE == 0 ? it.bus : it.peer, one->number);
    }
    EQUAL("all are counted", number, HEARERS);
}

static void leave_all(void)
{
    for (int i = 0; i < LOOPS; i++)
        for (int k = 0; k < SEATS; k++)
            leave(seats[i][k].me.sub);
    for (int i = 0; i < ALONE; i++) {
        leave(apart[i].me.sub);
        leave(blocked[i].me.sub);
    }
    eb_bus_free(quiet);
}

static void run(unsigned seconds)
{
    pthread_t threads[LOOPS + 2 * ALONE];
    int count = 0;
    join_all();
    for (int i = 0; i < LOOPS; i++)
        threads[count++] = start(run_loop, i);
    for (int i = 0; i < ALONE; i++) {
        threads[count++] = start(watch, i);
        threads[count++] = start(block, i);
    }
    publish_for(seconds, publish_and_wait);
    shut_down();
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    leave_all();
}

int main(int count, char **arguments)
{
    fate = calloc(EVENTS, sizeof *fate);
    run(begin("stress_bells", count, arguments));
    uint64_t all = sent_by_all();
    EQUAL("all that was sent has a sequence", sent(it.bus), all);
    CHECK("all was heard by all", all_heard(all));
    EQUAL("and taken once", atomic_load(&taken), all);
    printf("%llu events\n", (unsigned long long)all);
    scene_end(&it);
    free((void *)fate);
    return 0;
}
