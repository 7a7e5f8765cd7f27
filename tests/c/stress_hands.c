/* Groups whose members fetch several events, have several in hand, and finish them in any order, give them back for later, or
 * keep one while the ring goes round, so that publishers park it; members die with it, and publishers while they park. Each
 * event is worked off once, its bytes as they were sent; what was only fetched was not delivered.
 *
 *   stress_hands [SECONDS [SEED]] */
#define RING_BYTES (8u * 1024u)
#include "fates.h"

enum { CHOSEN = 1, ROUNDS = 3, LOOKS = 100 };

static const int dooms[] = {EB_POINT_group_locked,  EB_POINT_group_mended,     EB_POINT_bury_stamped,
                            EB_POINT_claim_written, EB_POINT_claim_held,       EB_POINT_claim_cursor,
                            EB_POINT_claim_gated,   EB_POINT_claim_adopted,    EB_POINT_claim_counted,
                            EB_POINT_claim_copied,  EB_POINT_claim_copied,     EB_POINT_claim_finished,
                            EB_POINT_claim_due,     EB_POINT_claim_returned,   EB_POINT_room_made,
                            EB_POINT_waiter_raised, EB_POINT_claim_deliveries, EB_POINT_claim_handed_out};
static const int ends[] = {EB_POINT_parked_copied, EB_POINT_parked_moved, EB_POINT_parked_gate, EB_POINT_publish_gated};

/* A publisher with an attachment of its own, which it dies with. */
static _Thread_local struct {
    publisher of;
    int doom, passes;
    jmp_buf grave;
} self;

static _Atomic uint64_t publishers_died, kept_long, kept_parked;

/* --- publishers --- */

/* Whatever it was about to send was not. The lock is as it left it. */
static void die_sending(int point)
{
    atomic_fetch_add(&died_at[point], 1);
    atomic_fetch_add(&publishers_died, 1);
    atomic_fetch_add(&it.bus->ring.header->publish_lock, 0); /* as in settle() */
    eb_guard_enter();
    eb_file_close(&self.of.bus->roster.file);
    eb_guard_leave();
    longjmp(self.grave, 1);
}

static void maybe_die_either(int point)
{
    maybe_die(point);
    if (!self.of.bus || point != self.doom || --self.passes > 0) return;
    self.doom = -1;
    die_sending(point);
}

static void *publish_and_die(void *with)
{
    self.of = publisher_of((unsigned)(uintptr_t)with);
    self.of.bus = NULL;
    while (!atomic_load(&stopping)) {
        int status;
        if (setjmp(self.grave) == 0) {
            self.of.bus = bus_open(it.ring_fd, it.roster_fd, 1, &status);
            CHECK("a publisher can attach", self.of.bus && status == EB_OK);
            self.doom = ends[draw(&self.of.state) % (sizeof ends / sizeof *ends)];
            self.passes = 1 + (int)(draw(&self.of.state) % 300);
            while (!atomic_load(&stopping))
                send_some(&self.of);
            self.doom = -1;
        }
        eb_bus_free(self.of.bus);
        self.of.bus = NULL;
    }
    atomic_store(&sent_by[self.of.number], self.of.counter);
    free(self.of.bytes);
    return NULL;
}

/* --- members --- */

static void acknowledge(uint64_t sequence)
{
    EQUAL("what is in hand can be acknowledged", eb_ack_event(me.sub, sequence), EB_OK);
    work_off(sequence);
    EQUAL("once", eb_ack_event(me.sub, sequence), EB_NOTHING);
}

static void reject(grip *of, int64_t delay)
{
    uint64_t sequence = of->sequence;
    give_up(of);
    atomic_fetch_add(&rejections, 1);
    EQUAL("what is in hand can be given back", eb_reject_event(me.sub, sequence, delay), EB_OK);
    let_go(grip_of(sequence));
}

static void finish_any(uint64_t *state)
{
    grip *of = &me.hand[draw(state) % me.held];
    uint64_t chance = draw(state) % 256;
    if (chance == 0) die(-1);
    if (chance < 8 || (of->sequence % POISONED == 0 && chance < 224)) reject(of, (int64_t)(draw(state) % 4 * 500000));
    else acknowledge(of->sequence);
}

static void return_all(int64_t delay)
{
    give_up_all();
    atomic_fetch_add(&rejections, 1);
    eb_return(me.sub, delay);
    me.held = 0;
}

/* Goes through the batch, and finishes this and that in between; false when it leaves, with the rest of it fetched. */
static bool see_all(uint64_t *state, int count)
{
    for (int i = 0; i < count;) {
        uint64_t chance = draw(state) % 512;
        if (chance == 0) die(-1);
        if (chance == 1) return false;
        if (chance == 2) {
            return_all((int64_t)(draw(state) % 2 * 500000));
            return true;
        }
        if (me.held > 0 && chance % 2) finish_any(state);
        else see(i++);
    }
    return true;
}

static bool is_parked(uint64_t sequence)
{
    eb_claim_info claim;
    for (int i = 0; (i = eb_claim_read(it.bus, me.group, (uint32_t)i, &claim)) >= 0; i++)
        if (claim.sequence == sequence) return claim.parked;
    return false;
}

/* What it has kept while the ring went round. */
static void let_go_at_last(uint64_t *state, uint64_t kept)
{
    atomic_fetch_add(&kept_long, 1);
    if (is_parked(kept) && atomic_fetch_add(&kept_parked, 1) == 0) atomic_fetch_sub(&owed, 1);
    uint64_t chance = draw(state) % 8;
    if (chance == 0) die(-1);
    if (chance <= 2) reject(grip_of(kept), 0);
    else acknowledge(kept);
}

/* With one event that it keeps, or none. */
static void hold(uint64_t *state, int limit, bool keeps)
{
    const eb_ring_header *ring = it.bus->ring.header;
    uint64_t kept = 0, since = 0;
    unsigned looks = 0;
    while (keeps && looks++ < LOOKS && (kept == 0 || atomic_load(&ring->committed) - since < ROUNDS * RING_BYTES)) {
        int status = ask(limit, soon(state));
        if (status == EB_CLOSED) break;
        if (status == EB_EXHAUSTED) bury_letter(state);
        for (int i = 0; i < status; i++)
            see(i);
        if (kept == 0 && me.held > 0) {
            since = atomic_load(&ring->committed);
            kept = me.hand[me.held - 1].sequence;
        }
        for (unsigned i = 0; i < me.held;)
            if (me.hand[i].sequence != kept && draw(state) % 2) acknowledge(me.hand[i].sequence);
            else i++;
    }
    if (kept != 0) let_go_at_last(state, kept);
}

/* On a closed bus it finishes what it has, and sees whether anything came back. */
static int live(uint64_t *state)
{
    int limit = 4 + (int)(draw(state) % (draw(state) % 16 == 0 ? PREFETCH - 4 : 8)), status = EB_NOTHING;
    bool stays = true;
    join_group(state, true, draw(state) % 2);
    me.doom = draw(state) % 2 ? dooms[draw(state) % (sizeof dooms / sizeof *dooms)] : -1;
    me.passes = 1 + (int)(draw(state) % 8);
    hold(state, limit, draw(state) % 2);
    for (uint64_t batches = 1 + draw(state) % 50; batches > 0 && stays; batches--) {
        status = ask(limit, soon(state));
        if (status == EB_EXHAUSTED) bury_letter(state);
        stays = see_all(state, status);
        if (status == EB_CLOSED && me.held == 0) break;
        for (uint64_t acts = draw(state) % (2 * limit + 1); acts > 0 && me.held > 0 && stays; acts--)
            finish_any(state);
        if (status == EB_CLOSED) status = EB_NOTHING;
    }
    part();
    return status;
}

static void *work(void *with)
{
    live_on((unsigned)(uintptr_t)with, live);
    return NULL;
}

/* --- the whole --- */

static void run(unsigned seconds)
{
    pthread_t members[GROUPS * MEMBERS], figures;
    eb_test_hook = maybe_die_either;
    atomic_store(&owed, 1); /* an event that is kept for so long that it is parked */
    make_group(0, "**");
    make_group(1, "k1");
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        members[i] = start(work, i);
    figures = start(read_figures, 0);
    publish_for(seconds, publish_and_die);
    shut_down();
    for (int i = 0; i < GROUPS * MEMBERS; i++)
        pthread_join(members[i], NULL);
    atomic_store(&figures_stopping, true);
    pthread_join(figures, NULL);
}

int main(int count, char **arguments)
{
    run(begin("stress_hands", count, arguments));
    EQUAL("all that was sent has a sequence", sent(it.bus), sent_by_all());
    EQUAL("one group hears all", expect_worked_off_once(0), sent(it.bus));
    EQUAL("the other one its topic", expect_worked_off_once(1), eb_topic_count(it.bus, CHOSEN));
    EQUAL("nothing is left in the parking", eb_parked(it.bus), 0);
    CHECK("what is kept for long is parked", kept_parked > 0);
    show_deaths();
    printf("%llu times round, %d parked, %llu of %llu kept long, %llu publishers died\n",
           (unsigned long long)((atomic_load(&it.bus->ring.header->committed) + RING_BYTES) / RING_BYTES),
           eb_test_passed(EB_POINT_parked_moved), (unsigned long long)kept_parked, (unsigned long long)kept_long,
           (unsigned long long)publishers_died);
    scene_end(&it);
    return 0;
}
