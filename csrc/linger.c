/* When to nap, look or sleep while nothing, or little, waits: only time depends on it, never what is received. */
#define _GNU_SOURCE
#include "sending.h"

#include <sched.h>
#include <sys/resource.h>

#define SPIN_LOOKS 4
#define SPIN_MAX_NS 200000ll
#define SPIN_MIN_NS 1000ll
#define SPIN_SLEPT_NS 200000ll
#define SPIN_LONG_NS 10000ll
#define SPIN_CROWDED_NS 4000ll
#define SPIN_LOADED_NS 200000ll
#define SPIN_CALM_NS (50 * EB_MILLISECOND)
#define SPIN_CALM_MAX_NS (1000 * EB_MILLISECOND)
#define NAP_MIN_NS 30000ll
#define NAP_MAX_NS 400000ll
#define NAP_GATHER 256
#define NAP_EVENTS 5
#define NAP_ANSWERED 3 /* events heard for each one sent: with fewer it is a dialogue */
#define NAP_STREAM 16
#define NAP_INTERVAL_NS 20000ll
#define NAP_WINDOW_NS 400000ll
#define NAP_LARGE 65536 /* bytes of an event count as one more */
#define NAP_COPIED 8    /* bytes that a publisher copies in a nanosecond at most: so much later the next one may come */
#define NAP_FEW 3       /* events that a nap is for at least, where few were taken before it */
#define NAP_DOUBTS 4    /* looks until it is tried again where fewer came, twice as many each time; and */
#define NAP_MOST_DOUBTS 256

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

static int64_t at_least(int64_t value, int64_t limit)
{
    return value > limit ? value : limit;
}

static bool is_adaptive(const eb_pace *pace)
{
    return pace->spin_ns < 0;
}

/* After each batch: its events, and the bytes of the ring that they came from. */
void eb_took(eb_pace *pace, uint32_t events, uint64_t bytes)
{
    pace->taken += events;
    pace->spacing = bytes / events;
    pace->lingered = false;
}

/* --- nap --- */

/* Events that gather while it naps: never so many that a publisher could run out of room. */
static int64_t worth_gathering(const eb_subscription *sub)
{
    uint64_t spacing = sub->pace.spacing;
    return spacing > 0 ? at_most((int64_t)(sub->bus->ring.capacity / 8 / spacing), NAP_GATHER) : NAP_GATHER;
}

/* After a nap that few large events promised: one came only, if any, so somebody may wait for us. Each time for longer. */
static void doubt(eb_pace *pace, int64_t taken)
{
    pace->napped = false;
    pace->doubts = taken >= NAP_FEW - 1 ? 0 : pace->doubts == 0 ? NAP_DOUBTS : 2 * pace->doubts;
    if (pace->doubts > NAP_MOST_DOUBTS) pace->doubts = NAP_MOST_DOUBTS;
    pace->distrust = pace->doubts;
}

/* How long to nap, when events come so fast that it pays to let some gather, else 0: looking after each one makes the
 * publisher wait for the cache line and costs us a batch for an event. Several must have come since the last time, and
 * several for each that this process sent: a dialogue, in which each event waits for the answer to the one before, is
 * never slowed down. What counts is the stream of all events: who hears a part of it spares the publisher as much. */
int64_t eb_nap_ns(eb_subscription *sub)
{
    eb_pace *pace = &sub->pace;
    int64_t now = eb_now(), elapsed = now - pace->waited_at, taken = (int64_t)pace->taken;
    bool trusted = pace->distrust == 0;
    int64_t weight = taken + (trusted ? taken * (int64_t)(pace->spacing / NAP_LARGE) : 0);
    int64_t interval = NAP_INTERVAL_NS + (trusted ? (int64_t)(pace->spacing / NAP_COPIED) : 0);
    if (pace->distrust > 0) pace->distrust--;
    if (pace->napped) doubt(pace, taken);
    if (weight < NAP_EVENTS && elapsed < NAP_WINDOW_NS) return 0; /* too early to tell */
    uint64_t published = eb_published();
    int64_t answered = (int64_t)(published - pace->published), passed = (int64_t)(sub->sequence - pace->passed);
    pace->waited_at = now;
    pace->taken = 0;
    pace->published = published;
    pace->passed = sub->sequence;
    if (!is_adaptive(pace) || weight < NAP_EVENTS || taken < NAP_ANSWERED * answered) return 0;
    if (elapsed > at_least(passed, taken) * interval) return 0;
    pace->napped = taken < NAP_EVENTS;
    int64_t gathered = at_least(worth_gathering(sub), pace->napped ? NAP_FEW : 1);
    return at_most(at_least(gathered * elapsed / taken, NAP_MIN_NS), NAP_MAX_NS);
}

/* Before reading. In a stream that is slower than its reader, each look would find an event or two, and a batch costs as
 * much as several events do. So when only few wait, it naps first, and reads what has gathered then. EB_INTERRUPTED by a
 * signal. */
int eb_gather(eb_subscription *sub, int64_t deadline)
{
    uint64_t position = atomic_load_explicit(&sub->position, memory_order_relaxed);
    uint64_t waiting = atomic_load(&sub->bus->ring.header->committed) - position;
    uint64_t enough = (uint64_t)worth_gathering(sub) / 8 * sub->pace.spacing;
    if (sub->pace.taken < NAP_STREAM || waiting >= enough || EB_IS_POLL(deadline)) return EB_OK;
    int64_t nap = eb_nap_ns(sub);
    return nap > 0 ? eb_nap(eb_sooner(deadline, nap)) : EB_OK;
}

/* --- look --- */

/* The longer, the more often others had the CPU and kept it. */
static void calm_down(eb_pace *pace, int64_t now)
{
    pace->calm_ns = at_most(at_least(pace->calm_ns * 2, SPIN_CALM_NS), SPIN_CALM_MAX_NS);
    pace->loaded_until = now + pace->calm_ns;
}

/* How often the kernel has let others run instead of this thread. */
static long switches(void)
{
    struct rusage used;
    return getrusage(RUSAGE_THREAD, &used) == 0 ? used.ru_nivcsw : 0;
}

/* Looks for as long as looking has paid lately: doubled when something came, halved when nothing did. Between looks it
 * lets others run on this CPU; when somebody did and still nothing came, looking takes that somebody's time. Where
 * others keep the CPU once they have it, a sleeper is faster: the kernel lets it run as soon as it is woken. A virtual
 * machine's host may take the CPU away too, which a sleeper would pay for as well: who looks for long asks the kernel
 * whose it was, at the price of half a microsecond. */
static bool spin(eb_subscription *sub, uint64_t seen, int64_t deadline)
{
    eb_pace *pace = &sub->pace;
    bool adaptive = is_adaptive(pace);
    int64_t budget = adaptive ? pace->budget : pace->spin_ns;
    int64_t begun = eb_now(), end = eb_sooner(deadline, budget), now = begun, before;
    int64_t look;
    long switched = -1; /* not asked yet */
    do {
        for (int i = 0; i < SPIN_LOOKS; i++) {
            if (eb_moved(sub, seen)) {
                if (adaptive) pace->budget = at_most(budget * 2, SPIN_MAX_NS);
                pace->calm_ns /= 2;
                return true;
            }
            eb_pause();
        }
        if (switched < 0 && now - begun > SPIN_LONG_NS) switched = switches();
        look = eb_look_at(sub->bus);
        before = now;
        sched_yield();
        now = eb_now();
        bool shared = now - before > SPIN_CROWDED_NS && (switched < 0 || switches() != switched);
        if (shared && now - before > SPIN_LOADED_NS) calm_down(pace, now);
        if (adaptive && shared && !eb_moved(sub, seen)) break;
    } while (now < end && now < look);
    if (adaptive) pace->budget = budget / 2 < SPIN_MIN_NS ? 0 : budget / 2;
    return false;
}

/* Before sleeping: EB_OK when it is time to look again, EB_NOTHING when it is time to sleep. In between comes
 * EB_INTERRUPTED: a signal that came while we looked must not wait for the end of the sleep. */
int eb_linger(eb_subscription *sub, uint64_t seen, int64_t deadline)
{
    eb_pace *pace = &sub->pace;
    if (pace->lingered) {
        pace->lingered = false;
        return EB_NOTHING;
    }
    int64_t nap = eb_nap_ns(sub);
    if (nap > 0) return eb_nap(eb_sooner(deadline, nap));
    bool pays = is_adaptive(pace) ? pace->budget > 0 && eb_now() > pace->loaded_until : pace->spin_ns > 0;
    if (!pays) return EB_NOTHING;
    if (spin(sub, seen, deadline)) return EB_OK;
    pace->lingered = true;
    return EB_INTERRUPTED;
}

/* --- sleep --- */

/* Woken soon, the next wait begins with looking. Whoever had its descriptor closed underneath has lost its slot, or will:
 * nobody would wake it. */
int eb_sleep(eb_subscription *sub, eb_u32 *semaphore, int64_t until, int64_t deadline)
{
    if (!eb_file_ours(&sub->file)) return EB_ROBBED;
    eb_pace *pace = &sub->pace;
    int64_t before = eb_now();
    if (deadline != EB_FOREVER && deadline < until) until = deadline;
    int status = eb_semaphore_wait(semaphore, until);
    int64_t now = eb_now();
    if (status == EB_OK && now - before < SPIN_SLEPT_NS && now > pace->loaded_until) pace->budget = SPIN_MAX_NS;
    return status;
}
