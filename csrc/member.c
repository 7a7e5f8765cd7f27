/* The flow of a group's members: take, acknowledge, give back. */
#include "internal.h"

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
            if (!eb_group_take_over(group, owner, sub->token)) continue;
            sub->refused = 0;
            return EB_OK;
        }
        int status = eb_event_wait(&group->unlocked, epoch, eb_sooner(EB_FOREVER, LOCK_SLICE_NS));
        if (status == EB_INTERRUPTED) return status;
        int64_t now = eb_now();
        if (grace == 0) grace = now + LOCK_GRACE_NS;
        if (sub->refused == 0) sub->refused = now;
        if (eb_ended(sub)) return EB_CLOSED;
        if (status != EB_NOTHING || !eb_over(grace)) continue;
        if (!eb_over(deadline)) return EB_INTERRUPTED;
        return now - sub->refused > LOCK_LONG_NS ? EB_BUSY : EB_NOTHING;
    }
}

/* --- take --- */

static eb_claim *held(const eb_subscription *sub)
{
    return &sub->group->claims[sub->claim];
}

/* Whose descriptor was closed underneath counts as dead: what it had in hand is another member's by now. */
static bool is_holder(const eb_subscription *sub)
{
    return atomic_load(&held(sub)->holder) == sub->token;
}

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
    for (uint32_t i = 0; i < eb_claims_used(group); i++) {
        uint64_t holder = atomic_load(&group->claims[i].holder);
        if (holder == 0 || holder == EB_RETURNED || holder == sub->token) continue;
        if (!eb_token_alive(&sub->bus->roster, holder)) eb_claim_return(&group->claims[i], true);
    }
    forget_dead_sleepers(sub);
}

/* Claims the next records that are heard, up to `limit`; EB_NOTHING when there are none. Records skipped before the
 * first one stay skipped. */
static int claim_new(eb_subscription *sub, uint32_t limit, int64_t now)
{
    eb_group *group = sub->group;
    uint64_t position = atomic_load(&group->cursor), start = position, end = position;
    uint64_t committed = atomic_load(&sub->bus->ring.header->committed); /* [commit], and never behind the cursor */
    uint32_t found = 0;
    int status = EB_OK;
    for (uint32_t looked = 0; position != committed && found < limit && looked < EB_LOOK_RECORDS; looked++) {
        eb_record record;
        int verdict = EB_UNHEARD;
        status = read_record(sub, position, committed, &record);
        if (status == EB_OK && record.sequence >= atomic_load(&group->start))
            verdict = eb_verdict(sub, &record, position);
        if (status == EB_OK && verdict == EB_UNKNOWN) status = eb_ask(sub, &record, position);
        uint64_t moved = atomic_load(&group->cursor); /* [gate]: what is behind it may have been overwritten */
        if ((int64_t)(moved - position) > 0) {
            position = moved;
            committed = atomic_load(&sub->bus->ring.header->committed);
            status = EB_OK;
            continue;
        }
        if (status != EB_OK) break;
        if (verdict == EB_HEARD && found++ == 0) start = position;
        position += record.bytes;
        if (verdict == EB_HEARD) end = position;
    }
    if (found > 0) return eb_claim_add(group, sub->token, start, end, (uint64_t)now);
    eb_cursor_raise(&group->cursor, position);
    EB_TEST_POINT(cursor_skipped);
    return status == EB_OK ? EB_NOTHING : status;
}

/* Tells publishers how far the group is. [cursor] [space] */
static void move_gate(eb_subscription *sub)
{
    eb_roster *roster = &sub->bus->roster;
    eb_slot_t *slot = &roster->header->slots[eb_group_slot(sub->group, roster)];
    uint64_t gate = eb_group_gate(sub->group) & ~7ull, before = atomic_load(&slot->cursor);
    if ((int64_t)(gate - before) <= 0) return;
    eb_cursor_raise(&slot->cursor, gate);
    sub->freed += gate - before;
    eb_freed(sub, gate == atomic_load(&sub->bus->ring.header->committed));
}

/* What is acknowledged frees room at once where publishers wait for it, but for what comes within a moment: else they find it
 * when they look. */
static void make_room(eb_subscription *sub)
{
    if (atomic_load(&sub->bus->roster.header->space.waiters) == 0) return; /* [space] */
    int64_t now = eb_now();
    if (now - sub->made_room < ROOM_NS) return;
    sub->made_room = now;
    move_gate(sub);
    EB_TEST_POINT(room_made);
}

/* Under the group's lock: a claim for this member, or why there is none. */
static int choose(eb_subscription *sub, uint32_t limit)
{
    eb_group *group = sub->group;
    const eb_ring *ring = &sub->bus->ring;
    int64_t now = eb_now();
    int status = eb_group_check(group, &ring->header->committed, ring->capacity);
    if (status != EB_OK) return status;
    bury(sub, now);
    int found = eb_claim_returned(group, atomic_load(&ring->header->committed));
    if (found >= 0) eb_claim_adopt(group, found, sub->token, (uint64_t)now);
    else found = claim_new(sub, limit, now);
    if (found >= 0) {
        sub->claim = found;
        sub->handed = sub->delivered = atomic_load(&held(sub)->start);
    }
    move_gate(sub);
    EB_TEST_POINT(claim_gated);
    return found >= 0 ? EB_OK : found;
}

/* Copies what the claim still has; protected by the gate, so without a look back, as long as there is the group. */
static int copy_claim(eb_subscription *sub, uint32_t limit)
{
    eb_claim *claim = held(sub);
    uint64_t end = atomic_load(&claim->end), committed = atomic_load(&sub->bus->ring.header->committed);
    bool first = sub->handed == atomic_load(&claim->start);
    uint64_t before = sub->delivered;
    uint32_t count = 0;
    int status = EB_OK;
    eb_batch_begin(sub);
    while (status == EB_OK && count < limit && sub->delivered != end) {
        eb_record record;
        status = read_record(sub, sub->delivered, committed, &record);
        if (status != EB_OK) break;
        int verdict = eb_verdict(sub, &record, sub->delivered);
        if (record.sequence < atomic_load(&sub->group->start)) verdict = EB_UNHEARD;
        if (verdict == EB_UNKNOWN) status = eb_ask(sub, &record, sub->delivered);
        if (verdict == EB_HEARD) status = eb_batch_keep(sub, &record, sub->delivered, count, false);
        if (status != EB_OK) break;
        count += verdict == EB_HEARD;
        sub->delivered += record.bytes;
    }
    eb_batch_end(&sub->batch, count);
    if (first && count > 0) sub->batch.head.deliveries = (uint32_t)eb_claim_deliveries(sub->group, claim);
    if (count == 0) return status;
    sub->handed = sub->delivered;
    eb_took(&sub->pace, count, sub->delivered - before);
    return (int)count;
}

static bool exhausted(const eb_subscription *sub)
{
    const eb_claim *claim = held(sub);
    return sub->handed == atomic_load(&claim->start) &&
           atomic_load(&claim->deliveries) > atomic_load(&sub->group->max_deliveries);
}

/* Whoever asks has done with all that was handed out before; not with what was only looked at: an event whose topic had
 * to be asked about keeps its count. */
static int take(eb_subscription *sub, uint32_t limit, int64_t deadline)
{
    for (;;) {
        if (sub->claim < 0) {
            int status = lock_group(sub, deadline);
            if (status != EB_OK) return status;
            status = choose(sub, limit);
            eb_group_unlock(sub->group);
            if (status != EB_OK) return status;
            eb_relay_pass_on(sub);
        }
        eb_claim *claim = held(sub);
        if (!is_holder(sub)) return eb_damaged("a claim was taken from its holder");
        eb_claim_acknowledge(claim, sub->handed);
        make_room(sub);
        bool last = exhausted(sub);
        int status = copy_claim(sub, last ? 1 : limit);
        if (status != EB_OK) return last && status > 0 ? EB_EXHAUSTED : status;
        eb_claim_finish(claim);
        sub->claim = -1;
    }
}

/* The next event of the claim is done with. */
static int acknowledge(eb_subscription *sub)
{
    eb_claim *claim = held(sub);
    if (!is_holder(sub)) return eb_damaged("a claim was taken from its holder");
    uint64_t position = atomic_load(&claim->start), committed = atomic_load(&sub->bus->ring.header->committed);
    int verdict = EB_UNKNOWN;
    while (position != sub->handed && verdict != EB_HEARD) {
        eb_record record;
        int status = read_record(sub, position, committed, &record);
        if (status != EB_OK) return status;
        verdict = eb_verdict(sub, &record, position);
        if (record.sequence < atomic_load(&sub->group->start)) verdict = EB_UNHEARD;
        position += record.bytes;
    }
    if (verdict != EB_HEARD) return EB_NOTHING;
    eb_batch_head *head = &sub->batch.head;
    if (head->done < head->handed) head->done++;
    eb_claim_acknowledge(claim, position);
    if (position == atomic_load(&claim->end)) {
        eb_claim_finish(claim);
        sub->claim = -1;
    }
    make_room(sub);
    return EB_OK;
}

int eb_member_ack(eb_subscription *sub)
{
    if (!sub->group || sub->claim < 0) return EB_NOTHING;
    int status = acknowledge(sub);
    return eb_group_gone(sub) ? eb_group_end(sub->group) : status;
}

int eb_member_return(eb_subscription *sub, bool handed_out)
{
    if (!sub->group || sub->claim < 0) return EB_NOTHING;
    bool mine = is_holder(sub) && !eb_group_gone(sub);
    if (mine) eb_claim_return(held(sub), handed_out);
    sub->claim = -1;
    if (mine) eb_relay_wake(sub, false);
    return mine ? EB_OK : EB_NOTHING;
}

/* In one step for whoever may be interrupted: it is done, and counted, or neither. */
int eb_member_bury(eb_subscription *sub)
{
    int status = eb_member_ack(sub);
    if (status != EB_OK) return status;
    atomic_fetch_add(&sub->group->dead, 1);
    EB_TEST_POINT(dead_counted);
    return EB_OK;
}

/* --- receive --- */

/* A wake-up for all may be lost with one that is not asleep yet, so whoever finds the group gone wakes the others again. */
static int end_for_all(eb_subscription *sub)
{
    if (!eb_group_gone(sub)) return EB_CLOSED;
    eb_relay_wake(sub, true);
    return eb_group_end(sub->group);
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
        if (status == EB_NO_SLOT && !eb_over(deadline)) { /* others hold all claims: until one is done, or found dead */
            eb_nap(eb_sooner(deadline, CHECK_NS));
            return EB_INTERRUPTED;
        }
        if (status != EB_NOTHING && status != EB_NO_SLOT) return status;
        uint64_t seen = atomic_load(&sub->group->cursor);
        if (closed && seen == atomic_load(&header->committed) && !eb_claims_held(sub->group)) {
            eb_relay_wake(sub, true); /* others wait for what was held */
            return EB_CLOSED;
        }
        bool more = seen != atomic_load(&header->committed);
        if (more && (status = eb_look_on(deadline, &begun)) == EB_OK) continue;
        if (more && status == EB_INTERRUPTED) return status;
        if (eb_over(deadline)) {
            /* It may have been woken, the flag lowered, for what another one took, or to watch. */
            eb_relay_pass_on(sub);
            return EB_NOTHING;
        }
        if (woken) return EB_INTERRUPTED; /* for nothing, or by a signal at the same time */
        status = eb_relay_await(sub, seen, closed, deadline);
        if (status != EB_OK && status != EB_NOTHING) return status; /* at its deadline it looks once more */
    }
}
