/* The flow of a group's members: claim events, and receive what is in hand. */
#include "sending.h"
#include "views.h"

#define CHECK_NS (10 * EB_MILLISECOND) /* how often somebody looks whether a holder is dead */
#define LOCK_TRIES 100
#define ROOM_NS 200000ll /* how often a member tells publishers, in the middle of a claim, how far it is */
#define LOCK_SLICE_NS (5 * EB_MILLISECOND)
#define LOCK_LONG_NS (1000 * EB_MILLISECOND)
#define LOCK_GRACE_NS (50 * EB_MILLISECOND) /* also what a poll grants: the lock is held for microseconds */

/* --- the group's lock --- */

/* EB_NOTHING when the time is up: its living holder may be stopped, or wait for its turn on a busy host; EB_BUSY when that
 * has been so for long, in however many calls. Meanwhile it
 * comes back with EB_INTERRUPTED, for a signal that came between two waits; and with EB_CLOSED when it is to leave. */
static int lock_group(eb_subscription *sub, int64_t deadline)
{
    eb_group *group = sub->group;
    int64_t grace = 0;
    for (;;) {
        for (int i = 0; i < LOCK_TRIES; i++) {
            if (eb_group_try_lock(group, sub->token)) {
                sub->refused = 0;
                return EB_OK;
            }
            eb_pause();
        }
        uint32_t epoch = eb_event_prepare(&group->unlocked);
        uint64_t owner = atomic_load(&group->lock);
        if (owner == 0) continue;
        if (!eb_token_alive(&sub->bus->roster, owner)) {
            if (!eb_group_take_over(&sub->bus->roster, group, owner, sub->token)) continue;
            sub->refused = 0;
            return EB_OK;
        }
        int64_t slice = deadline == EB_BRIEF ? EB_BRIEFLY : LOCK_SLICE_NS;
        int status = eb_event_wait(&group->unlocked, epoch, eb_sooner(EB_FOREVER, slice));
        if (status == EB_INTERRUPTED) return status;
        int64_t now = eb_now();
        if (grace == 0) grace = now + (deadline == EB_BRIEF ? 0 : LOCK_GRACE_NS);
        if (sub->refused == 0) sub->refused = now;
        if (eb_ended(sub)) return EB_CLOSED;
        if (status != EB_NOTHING || !eb_over(grace)) continue;
        if (!eb_over(deadline)) return EB_INTERRUPTED;
        return now - sub->refused > LOCK_LONG_NS ? EB_BUSY : EB_NOTHING;
    }
}

/* --- take --- */

/* Who died asleep is no sleeper any more. */
static void forget_dead_sleepers(eb_subscription *sub)
{
    for (uint32_t slot = 0; slot < eb_roster_used(&sub->bus->roster); slot++) {
        uint64_t word = atomic_load(&sub->group->asleep[slot / 64]);
        if (!(word >> (slot % 64) & 1) || eb_slot_alive(&sub->bus->roster, slot)) continue;
        eb_asleep_set(sub->group, slot, false);
        EB_TEST_POINT(asleep_cleared);
    }
}

/* Positions of a group come from memory that others may scribble over, even between a check and now. */
static int read_record(const eb_subscription *sub, uint64_t position, uint64_t committed, eb_record *record)
{
    const eb_ring *ring = &sub->bus->ring;
    if (committed - position > ring->capacity || position % 8 != 0)
        return eb_damaged("a position of a group is impossible");
    return eb_ring_read(ring, position, committed, record);
}

/* What dead members held is given back for them. */
static void bury(eb_subscription *sub, int64_t now)
{
    eb_group *group = sub->group;
    uint64_t since =
        (uint64_t)now - atomic_load(&group->checked_at); /* of a time to come, as another clock has it: ages */
    if (since < CHECK_NS) return;
    atomic_store(&group->checked_at, (uint64_t)now);
    EB_TEST_POINT(bury_stamped);
    eb_claims_bury(&sub->bus->roster, group, sub->token);
    eb_claims_tidy(&sub->bus->roster, group);
    forget_dead_sleepers(sub);
}

/* Claims the next records that are heard, up to `limit`; EB_NOTHING when there are none. Records that are skipped stay
 * skipped. Publishers move the cursor over what the group does not hear: where it is past what was read, that may have been
 * overwritten. */
static int claim_new(eb_subscription *sub, uint32_t limit, int64_t now)
{
    eb_group *group = sub->group;
    uint64_t position = atomic_load(&group->cursor);
    uint64_t committed = atomic_load(&sub->bus->ring.header->committed); /* [commit], and never behind the cursor */
    uint32_t found = 0;
    int status = EB_OK, claim = -1;
    for (uint32_t looked = 0; position != committed && found < limit && looked < EB_LOOK_RECORDS; looked++) {
        eb_record record;
        int verdict = EB_UNHEARD;
        status = read_record(sub, position, committed, &record);
        if (status == EB_OK && record.sequence >= atomic_load(&group->start))
            verdict = eb_verdict(sub, &record, position);
        if (status == EB_OK && verdict == EB_UNKNOWN) status = eb_ask(sub, &record, position);
        uint64_t moved = atomic_load(&group->cursor); /* [gate] */
        if ((int64_t)(moved - position) > 0) {
            position = moved;
            committed = atomic_load(&sub->bus->ring.header->committed);
            status = EB_OK;
            continue;
        }
        if (status == EB_OK && verdict == EB_HEARD) {
            claim = eb_claim_make(&sub->bus->roster, group, (uint32_t)(claim + 1), sub->token, &record, position, now);
            if (claim < 0) status = claim;
            else eb_take_in_hand(sub, (uint32_t)claim);
        }
        if (status != EB_OK) break;
        found += verdict == EB_HEARD;
        position += record.bytes;
    }
    eb_cursor_raise(&group->cursor, position);
    EB_TEST_POINT(claim_cursor);
    if (found > 0) return EB_OK;
    EB_TEST_POINT(cursor_skipped);
    return status == EB_OK ? EB_NOTHING : status;
}

/* Takes what was given back and is due, the oldest first. Whether there was any. */
static bool adopt(eb_subscription *sub, uint32_t limit, int64_t now)
{
    eb_picks picks = {.limit = limit};
    eb_claims_due(&sub->bus->roster, sub->group, now, &picks);
    for (uint32_t i = 0; i < picks.count; i++) {
        eb_claim_adopt(&sub->bus->roster, sub->group, picks.of[i].claim, sub->token, now);
        eb_take_in_hand(sub, picks.of[i].claim);
    }
    return picks.count > 0;
}

/* Tells publishers how far the group is. [cursor] [space] */
static void move_gate(eb_subscription *sub)
{
    eb_roster *roster = &sub->bus->roster;
    eb_slot_t *slot = &roster->header->slots[eb_group_slot(sub->group, roster)];
    uint64_t gate = eb_group_gate(roster, sub->group) & ~7ull, before = atomic_load(&slot->cursor);
    if ((int64_t)(gate - before) <= 0) return;
    eb_cursor_raise(&slot->cursor, gate);
    sub->freed += gate - before;
    eb_freed(sub, gate == atomic_load(&sub->bus->ring.header->committed));
}

static bool is_room_wanted(const eb_subscription *sub)
{
    return atomic_load(&sub->bus->roster.header->space.waiters) != 0; /* [space] */
}

/* What is acknowledged frees room at once where publishers wait for it, but for what comes within a moment: else they find it
 * when they look. By whoever has `at_hand`. */
static void make_room(eb_subscription *sub)
{
    if (!is_room_wanted(sub)) return;
    int64_t now = eb_now();
    if (now - sub->made_room < ROOM_NS) return;
    sub->made_room = now;
    move_gate(sub);
    if (atomic_exchange(&sub->unparked, false)) eb_event_post(&sub->bus->roster.header->space);
    EB_TEST_POINT(room_made);
}

/* By any thread, also beside one that receives. */
void eb_member_make_room(eb_subscription *sub)
{
    if (!is_room_wanted(sub)) return;
    pthread_mutex_lock(&sub->at_hand);
    if (sub->present) make_room(sub); /* else its group may be another by now */
    pthread_mutex_unlock(&sub->at_hand);
}

/* Before it sleeps: what it looked at holds nobody up, and whoever waits for the room of that is told. */
void eb_member_rest(eb_subscription *sub)
{
    if (!sub->views) return;
    eb_views_rest(sub, false);
    if (atomic_exchange(&sub->unparked, false)) eb_event_post(&sub->bus->roster.header->space);
}

/* Under the group's lock: events for this member, or why there are none. */
static int choose(eb_subscription *sub, uint32_t limit)
{
    const eb_ring *ring = &sub->bus->ring;
    int64_t now = eb_now();
    int status = eb_group_check(sub->group, &ring->header->committed, ring->capacity);
    if (status != EB_OK) return status;
    bury(sub, now);
    if (!adopt(sub, limit, now)) status = claim_new(sub, limit, now);
    if (is_room_wanted(sub) || now - sub->made_room >= ROOM_NS) {
        sub->made_room = now;
        move_gate(sub);
        EB_TEST_POINT(claim_gated);
    }
    return status;
}

/* By whoever has `at_hand`, but for as long as it waits for the group's lock. */
static int claim(eb_subscription *sub, uint32_t limit, int64_t deadline)
{
    pthread_mutex_unlock(&sub->at_hand);
    int status = lock_group(sub, deadline);
    pthread_mutex_lock(&sub->at_hand);
    if (status != EB_OK) return status;
    status = choose(sub, limit);
    eb_group_unlock(sub->group);
    if (status == EB_OK) eb_relay_pass_on(sub);
    return status;
}

/* Of a bus that was shut down: then nobody waits with full hands. */
static bool nothing_left(const eb_subscription *sub)
{
    const eb_ring_header *header = sub->bus->ring.header;
    return atomic_load(&header->closed) != 0 && atomic_load(&sub->group->cursor) == atomic_load(&header->committed);
}

/* Whoever asks has done with all that was handed out before, unless it says so for each event. What was taken and turns out
 * to be unheard is done with, too. */
static int take(eb_subscription *sub, uint32_t limit, int64_t deadline)
{
    pthread_mutex_lock(&sub->at_hand);
    int status = sub->manual ? EB_OK : eb_finish_copied(sub);
    bool read = sub->copied == sub->held, full = false;
    eb_views_settle(sub);
    make_room(sub);
    while (status == EB_OK && !full) {
        uint32_t room = eb_hand_room(sub, limit);
        full = read && room == 0;
        if (read && !full) status = claim(sub, room, deadline);
        if (status == EB_OK && !full) status = eb_copy_held(sub, limit);
        read = true;
    }
    pthread_mutex_unlock(&sub->at_hand);
    if (!full) return status;
    return nothing_left(sub) ? EB_NOTHING : eb_await_hand(sub, limit, deadline);
}

/* --- receive --- */

/* A wake-up for all may be lost with one that is not asleep yet, so whoever finds the group gone wakes the others again. */
static int end_for_all(eb_subscription *sub)
{
    if (!eb_group_gone(sub)) return EB_CLOSED;
    eb_views_rest(sub, true);
    eb_relay_wake(sub, true);
    return eb_group_end(sub->group);
}

/* Of a bus that was shut down, with all taken: whether nothing can come back. Who has something in hand itself does not wait
 * for others, who may wait for it. */
static bool is_over(eb_subscription *sub)
{
    pthread_mutex_lock(&sub->at_hand);
    bool busy = sub->held > 0;
    pthread_mutex_unlock(&sub->at_hand);
    return busy || !eb_claims_of_others(&sub->bus->roster, sub->group, sub->token);
}

/* Whether there would be no use in looking on. */
static bool is_full(eb_subscription *sub, uint32_t limit)
{
    pthread_mutex_lock(&sub->at_hand);
    bool full = eb_hand_room(sub, limit) == 0;
    pthread_mutex_unlock(&sub->at_hand);
    return full;
}

int eb_member_receive(eb_subscription *sub, uint32_t limit, int64_t deadline)
{
    const eb_ring_header *header = sub->bus->ring.header;
    int64_t begun = 0;
    for (bool woken = false;; woken = true) {
        if (eb_ended(sub)) return end_for_all(sub);
        bool closed = atomic_load(&header->closed) != 0;
        int status = take(sub, limit, deadline);
        /* Else what was read may be other records' bytes, and no damage what looks like it. */
        if (!eb_group_stayed(sub)) return end_for_all(sub);
        if (status == EB_NO_SLOT) eb_bus_reap(sub->bus, deadline); /* a group that is no more may have them */
        if (status == EB_NO_SLOT && !eb_over(deadline)) { /* others hold all claims: until one is done, or found dead */
            eb_nap(eb_sooner(deadline, CHECK_NS));
            return EB_INTERRUPTED;
        }
        if (status != EB_NOTHING && status != EB_NO_SLOT) return status;
        uint64_t seen = atomic_load(&sub->group->cursor);
        if (closed && seen == atomic_load(&header->committed) && is_over(sub)) {
            eb_relay_wake(sub, true); /* others wait for what was held */
            return EB_CLOSED;
        }
        bool more = seen != atomic_load(&header->committed) && !is_full(sub, limit);
        if (more && (status = eb_look_on(deadline, &begun)) == EB_OK) continue;
        if (more && status == EB_INTERRUPTED) return status;
        if (!woken && eb_fire_due(sub->bus, deadline)) continue; /* it may hear what it has sent */
        if (eb_over(deadline)) {
            /* It may have been woken, the flag lowered, for what another one took, or to watch. */
            eb_relay_pass_on(sub);
            return EB_NOTHING;
        }
        if (woken) return EB_INTERRUPTED; /* for nothing, or by a signal at the same time */
        eb_member_rest(sub);
        status = eb_relay_await(sub, seen, closed, deadline);
        if (status != EB_OK && status != EB_NOTHING) return status; /* at its deadline it looks once more */
    }
}
