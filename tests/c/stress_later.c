/* Events that are sent later, among others: planners put them down, cancel their own and others', and die with the publish lock
 * or without; subscribers and members of a group, mostly asleep, hear them. Each is sent once, not before it is due, or never.
 *
 *   stress_later [SECONDS [SEED]] */
#include "crowd.h"

#include <setjmp.h>

enum { PLANNERS = 3, HEARERS = 2, MEMBERS = 2, LATER = TOPICS, PLANS = 1 << 22, TEAM = HEARERS };

static const int dooms[] = {EB_POINT_schedule_copied,  EB_POINT_schedule_written,   EB_POINT_schedule_used,
                            EB_POINT_schedule_look,    EB_POINT_schedule_numbered,  EB_POINT_schedule_stored,
                            EB_POINT_schedule_freed,   EB_POINT_schedule_unlocked,  EB_POINT_schedule_intended,
                            EB_POINT_schedule_settled, EB_POINT_schedule_committed, EB_POINT_schedule_told,
                            EB_POINT_publish_copied,   EB_POINT_publish_committed,  EB_POINT_wake_lowered};

/* What becomes of one event, kept apart from what the bus knows. */
typedef struct {
    _Atomic uint64_t number;            /* on the bus, once somebody knows it */
    _Atomic int64_t due;                /* set before it is put down */
    _Atomic uint8_t there;              /* it was put down to the end */
    _Atomic uint8_t cancelled;          /* how often, for sure */
    _Atomic uint8_t perhaps;            /* whoever cancelled it died in the middle */
    _Atomic uint8_t heard[HEARERS + 1]; /* by each subscriber, and by the group */
} plan_of;

/* A planner is a thread between attaching and leaving or dying. */
static _Thread_local struct {
    eb_bus *bus;
    uint64_t state;
    int doom, passes;
    uint64_t putting, cancelling; /* which event, else 0 */
    bool settled;
    jmp_buf grave;
} self;

static plan_of *plans;
static eb_subscription *hearing[HEARERS];
static _Atomic bool figures_stopping;
static _Atomic uint64_t drawn, refused, too_late, deaths;
static _Atomic uint64_t died_at[EB_POINT_COUNT];

/* --- the events --- */

static size_t text_of(uint64_t plan, char *text)
{
    size_t filler = plan % 16 == 0 ? 700 : plan % 60;
    int length = sprintf(text, "[%llu,\"", (unsigned long long)plan);
    memset(text + length, 'a' + (int)(plan % 16), filler);
    return (size_t)length + filler + (size_t)sprintf(text + length + filler, "\"]");
}

/* --- planners --- */

static void die(int point)
{
    atomic_fetch_add(&deaths, 1);
    atomic_fetch_add(&died_at[point], 1);
    if (self.cancelling && self.settled) atomic_fetch_add(&plans[self.cancelling].cancelled, 1);
    else if (self.cancelling) atomic_store(&plans[self.cancelling].perhaps, 1);
    atomic_fetch_add(&it.bus->ring.header->publish_lock,
                     0); /* what the kernel orders by a death, a race detector sees */
    eb_guard_enter();
    eb_file_close(&self.bus->roster.file);
    eb_guard_leave();
    longjmp(self.grave, 1);
}

/* What a step has decided is known even of those that die right after it. */
static void note_or_die(int point)
{
    if (!self.bus) return;
    if (point == EB_POINT_schedule_stored && self.putting) atomic_store(&plans[self.putting].there, 1);
    if (point == EB_POINT_schedule_settled) self.settled = true;
    if (point != self.doom || --self.passes > 0) return;
    self.doom = -1;
    die(point);
}

static void put_one_down(void)
{
    char text[800];
    uint64_t chance = draw(&self.state) % 16, plan = atomic_fetch_add(&drawn, 1) + 1;
    CHECK("the table of plans is large enough", plan < PLANS);
    size_t length = text_of(plan, text);
    eb_outgoing event = {.topic = LATER, .body_length = (uint32_t)length};
    int64_t delay = chance == 0 ? 0 : (int64_t)(draw(&self.state) % (chance == 1 ? 200 : 5)) * EB_MILLISECOND, number;
    atomic_store(&plans[plan].due, eb_now() + delay);
    self.putting = plan;
    do
        number = eb_schedule(self.bus, &event, text, length, atomic_load(&plans[plan].due), EB_FOREVER);
    while (number == EB_INTERRUPTED || number == EB_BUSY);
    self.putting = 0;
    if (number != EB_FULL) CHECK("an event is put down", number > 0);
    else EQUAL("what was refused is not there", atomic_load(&plans[plan].there), 0);
    if (number == EB_FULL) atomic_fetch_add(&refused, 1);
    else atomic_store(&plans[plan].number, (uint64_t)number);
}

/* One of the last, whoever put it down. */
static void cancel_one(void)
{
    uint64_t last = atomic_load(&drawn), plan = last - draw(&self.state) % (last < 100 ? last + 1 : 100);
    uint64_t number = atomic_load(&plans[plan].number);
    int status;
    if (number == 0) return;
    self.settled = false;
    self.cancelling = plan;
    do
        status = eb_cancel(self.bus, number, EB_FOREVER);
    while (status == EB_INTERRUPTED || status == EB_BUSY);
    self.cancelling = 0;
    CHECK("it was cancelled or not", status == 0 || status == 1);
    if (status == 1) atomic_fetch_add(&plans[plan].cancelled, 1);
    else atomic_fetch_add(&too_late, 1);
}

static void doze(void)
{
    for (uint64_t naps = draw(&self.state) % 200; naps > 0; naps--)
        sched_yield();
}

static void live(void)
{
    int status;
    self.bus = NULL;
    self.putting = self.cancelling = 0;
    eb_bus *bus = bus_open(it.ring_fd, it.roster_fd, 1, &status);
    CHECK("a planner can attach", bus && status == EB_OK);
    self.doom = draw(&self.state) % 4 ? dooms[draw(&self.state) % (sizeof dooms / sizeof *dooms)] : -1;
    self.passes = 1 + (int)(draw(&self.state) % 10);
    self.bus = bus;
    for (uint64_t turns = draw(&self.state) % 500; turns > 0 && !atomic_load(&stopping); turns--) {
        uint64_t chance = draw(&self.state) % 8;
        if (chance < 4) put_one_down();
        else if (chance < 6) cancel_one();
        else doze();
    }
    self.doom = -1;
}

static void *plan_and_die(void *with)
{
    self.state = chance_of(600 + (unsigned)(uintptr_t)with);
    while (!atomic_load(&stopping)) {
        if (setjmp(self.grave) == 0) live();
        eb_bus *bus = self.bus;
        self.bus = NULL;
        eb_bus_free(bus);
    }
    return NULL;
}

/* In bursts: the lock is left to the planners in between. */
static void *publish_in_bursts(void *with)
{
    publisher of = publisher_of((unsigned)(uintptr_t)with);
    while (!atomic_load(&stopping)) {
        for (uint64_t sends = draw(&of.state) % 32; sends > 0; sends--)
            send_some(&of);
        nanosleep(&(struct timespec){.tv_nsec = (long)(draw(&of.state) % 500000)}, NULL);
    }
    atomic_store(&sent_by[of.number], of.counter);
    free(of.bytes);
    return NULL;
}

/* --- those who hear --- */

static void hear_one(const char *text, const char *end, unsigned who)
{
    char expected[800];
    uint64_t plan = strtoull(text, NULL, 10);
    CHECK("it names a plan", plan > 0 && plan <= atomic_load(&drawn));
    size_t length = text_of(plan, expected) - 2; /* without the brackets */
    CHECK("it is whole", length == (size_t)(end - text) && !memcmp(text, expected + 1, length));
    CHECK("it was put down", atomic_load(&plans[plan].there));
    CHECK("it is not early", eb_now() >= atomic_load(&plans[plan].due));
    EQUAL("it comes once", atomic_fetch_add(&plans[plan].heard[who], 1), 0);
}

/* Until the end of the bus. The members of the group count as one. */
static void hear_all(eb_subscription *sub, unsigned who, uint64_t *state)
{
    int status;
    do {
        status = eb_receive(sub, 1 + (int)(draw(state) % 8), who == 0 ? soon(state) : eb_now() + EB_SLICE_NS);
        eb_batch *batch = eb_batch_of(sub);
        if (status == EB_UNDECIDED) eb_decide(sub, batch->undecided, batch->undecided == LATER);
        if (status == EB_LARGE) EQUAL("memory", eb_reserve(sub, batch->needed), EB_OK);
        const char *text = batch->buffer + 1;
        for (int i = 0; i < status; i++) {
            const char *end = batch->buffer + batch->text_end[i];
            hear_one(text, end, who);
            text = end + 2; /* a comma and a line break */
        }
        if (status > 0) batch->head.handed = (uint32_t)status;
    } while (status != EB_CLOSED);
}

static void *listen_alone(void *with)
{
    unsigned who = (unsigned)(uintptr_t)with;
    uint64_t state = chance_of(700 + who);
    hear_all(hearing[who], who, &state);
    EQUAL("nothing is lost", eb_lost(hearing[who]), 0);
    return NULL;
}

static eb_subscription *join_in(const char *group)
{
    eb_terms terms = {.system = "**", .kind = "k4", .name = "", .start = EB_LATEST, .gated = !group, .group = group};
    int status;
    eb_subscription *sub;
    do
        sub = subscribe(it.bus, &terms, EB_FOREVER, &status);
    while (!sub && (status == EB_INTERRUPTED || status == EB_BUSY));
    EQUAL("it can be joined", status, EB_OK);
    return sub;
}

static void *work(void *with)
{
    uint64_t state = chance_of(800 + (unsigned)(uintptr_t)with);
    eb_subscription *sub = join_in("g");
    hear_all(sub, TEAM, &state);
    leave(sub);
    return NULL;
}

/* --- figures --- */

/* How many wait. */
static unsigned read_timetable(void)
{
    static _Thread_local eb_scheduled_info info;
    unsigned count = 0;
    for (int i = 0; (i = eb_scheduled_read(it.bus, (uint32_t)i, &info)) >= 0; i++, count++) {
        char text[32] = {0};
        CHECK("its names are those of its topic", info.system_length == 1 && !memcmp(info.names, "ak4", 3));
        memcpy(text, info.path, info.path_length < 31 ? info.path_length : 31);
        uint64_t plan = strtoull(text, NULL, 10); /* the text is stored without its bracket */
        CHECK("what is to be sent names a plan", plan > 0 && plan <= atomic_load(&drawn));
        uint64_t number = atomic_load(&plans[plan].number);
        CHECK("whose number it says", number == 0 || number == info.number);
    }
    return count;
}

static void *read_figures(void *with)
{
    (void)with;
    while (!atomic_load(&figures_stopping)) {
        read_timetable();
        eb_bus_reap(it.bus, EB_POLL);
        sched_yield();
    }
    return NULL;
}

/* --- the whole --- */

static void make_ready(void)
{
    eb_group_terms terms = {.system = "**", .kind = "k4", .name = "g", .start = EB_LATEST, .max_deliveries = 1};
    plans = calloc(PLANS, sizeof *plans);
    CHECK("memory", plans);
    EQUAL("there is a topic of its own", eb_topic(it.bus, "ak4", 1, 2, EB_FOREVER), LATER);
    EQUAL("and a group", eb_group_create(it.bus, &terms, EB_FOREVER), 0);
    for (int i = 0; i < HEARERS; i++)
        hearing[i] = join_in(NULL);
    eb_test_hook = note_or_die;
}

static void run(unsigned seconds)
{
    pthread_t planners[PLANNERS], others[HEARERS + MEMBERS], figures = start(read_figures, 0);
    for (int i = 0; i < HEARERS + MEMBERS; i++)
        others[i] = start(i < HEARERS ? listen_alone : work, i);
    for (int i = 0; i < PLANNERS; i++)
        planners[i] = start(plan_and_die, i);
    publish_for(seconds, publish_in_bursts);
    for (int i = 0; i < PLANNERS; i++)
        pthread_join(planners[i], NULL);
    while (read_timetable() > 0) /* those who hear send it: nobody else is left to */
        nanosleep(&(struct timespec){.tv_nsec = EB_MILLISECOND}, NULL);
    shut_down();
    for (int i = 0; i < HEARERS + MEMBERS; i++)
        pthread_join(others[i], NULL);
    atomic_store(&figures_stopping, true);
    pthread_join(figures, NULL);
}

/* How many were sent. */
static uint64_t expect_sent_once(void)
{
    uint64_t sum = 0, cancelled = 0;
    for (uint64_t plan = 1; plan <= atomic_load(&drawn); plan++) {
        const plan_of *of = &plans[plan];
        unsigned heard = of->heard[TEAM];
        for (int i = 0; i < HEARERS; i++)
            EQUAL("all hear the same", of->heard[i], heard);
        CHECK("nothing is cancelled twice", of->cancelled <= 1);
        CHECK("only what was put down is sent or cancelled", of->there || heard + of->cancelled == 0);
        if (of->cancelled) EQUAL("what was cancelled is not sent", heard, 0);
        else if (of->there && !of->perhaps) EQUAL("what was put down is sent", heard, 1);
        sum += heard;
        cancelled += of->cancelled;
    }
    printf("%llu plans, %llu refused, %llu sent, %llu cancelled, %llu too late\n", (unsigned long long)drawn,
           (unsigned long long)refused, (unsigned long long)sum, (unsigned long long)cancelled,
           (unsigned long long)too_late);
    return sum;
}

int main(int count, char **arguments)
{
    unsigned seconds = begin("stress_later", count, arguments);
    make_ready();
    run(seconds);
    uint64_t later = expect_sent_once();
    EQUAL("they are counted", eb_topic_count(it.bus, LATER), later);
    EQUAL("all that was sent has a sequence", sent(it.bus), sent_by_all() + later);
    for (int i = 0; i < EB_POINT_COUNT; i++)
        if (died_at[i]) printf("died at %s %llu times\n", eb_test_point_name(i), (unsigned long long)died_at[i]);
    printf("%llu deaths\n", (unsigned long long)deaths);
    for (int i = 0; i < HEARERS; i++)
        leave(hearing[i]);
    free(plans);
    scene_end(&it);
    return 0;
}
