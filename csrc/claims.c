/* The claims of a group, one for each event that a member has in hand or gave back, on pages that all groups share. */
#include "claims.h"

static eb_page *page_of(const eb_roster *roster, uint32_t claim)
{
    return eb_page_at(roster, claim / EB_PAGE_CLAIMS);
}

static eb_claim_terms *terms_of(const eb_roster *roster, uint32_t claim)
{
    return &page_of(roster, claim)->terms[claim % EB_PAGE_CLAIMS];
}

/* --- one claim --- */

eb_u64 *eb_claim_holder(const eb_roster *roster, uint32_t claim)
{
    return &page_of(roster, claim)->claims[claim % EB_PAGE_CLAIMS].holder;
}

eb_u64 *eb_claim_place(const eb_roster *roster, uint32_t claim)
{
    return &page_of(roster, claim)->claims[claim % EB_PAGE_CLAIMS].place;
}

uint64_t eb_claim_sequence(const eb_roster *roster, uint32_t claim)
{
    return atomic_load_explicit(&terms_of(roster, claim)->sequence, memory_order_relaxed);
}

uint64_t eb_claim_since(const eb_roster *roster, uint32_t claim)
{
    return atomic_load_explicit(&terms_of(roster, claim)->since, memory_order_relaxed);
}

uint32_t eb_claim_bytes(const eb_roster *roster, uint32_t claim)
{
    return atomic_load_explicit(&terms_of(roster, claim)->bytes, memory_order_relaxed);
}

/* Where its reader stores that it was handed out: the deliveries before, with EB_HANDED_OUT. */
eb_u32 *eb_claim_counter(const eb_roster *roster, uint32_t claim)
{
    return &terms_of(roster, claim)->deliveries;
}

/* With this one; at most one more than allowed. */
uint32_t eb_claim_deliveries(const eb_roster *roster, const eb_group *group, uint32_t claim)
{
    uint32_t before = atomic_load(eb_claim_counter(roster, claim)) & ~EB_HANDED_OUT;
    uint32_t most = atomic_load(&group->max_deliveries);
    return before < most ? before + 1 : most + 1;
}

/* False when it is not the holder's any more. The exchange comes after all that was read of the record. [park] */
bool eb_claim_finish(eb_roster *roster, uint32_t claim, uint64_t token)
{
    bool mine = atomic_compare_exchange_strong(eb_claim_holder(roster, claim), &token, 0);
    if (mine) EB_TEST_POINT(claim_finished);
    return mine;
}

/* To be claimed first by whoever asks next, from `due` on. */
bool eb_claim_return(eb_roster *roster, uint32_t claim, uint64_t token, uint64_t due)
{
    if (atomic_load(eb_claim_holder(roster, claim)) != token) return false;
    atomic_store(&terms_of(roster, claim)->since, due);
    EB_TEST_POINT(claim_due);
    bool mine = atomic_compare_exchange_strong(eb_claim_holder(roster, claim), &token, EB_RETURNED);
    if (mine) EB_TEST_POINT(claim_returned);
    return mine;
}

/* --- all of a group --- */

/* The first claim at or past `from` that somebody holds or gave back, or EB_NOTHING. */
int eb_claim_from(const eb_roster *roster, const eb_group *group, uint32_t from)
{
    for (uint32_t number = from / EB_PAGE_CLAIMS; (number = eb_page_next(group, number)) < EB_PAGES; number++) {
        const eb_page *page = eb_page_at(roster, number);
        uint32_t first = number * EB_PAGE_CLAIMS, used = eb_page_used(page);
        for (uint32_t i = from > first ? from - first : 0; i < used; i++)
            if (atomic_load(&page->claims[i].holder) != 0) return (int)(first + i);
    }
    return EB_NOTHING;
}

#define EACH_CLAIM(roster, group, claim)                                                                               \
    for (int claim = 0; (claim = eb_claim_from(roster, group, (uint32_t)claim)) >= 0; claim++)

/* Nothing of the ring before it is needed by the group any more. The cursor is read before the claims: those made meanwhile
 * are past it; and a holder before its place, which is that of a claim made later at worst. [gate] */
uint64_t eb_group_gate(const eb_roster *roster, const eb_group *group)
{
    uint64_t gate = atomic_load(&group->cursor);
    EACH_CLAIM(roster, group, claim)
    {
        uint64_t place = atomic_load(eb_claim_place(roster, (uint32_t)claim));
        if (!(place & EB_PARKED) && (int64_t)(place - gate) < 0) gate = place;
    }
    return gate;
}

void eb_pick_offer(eb_picks *picks, uint64_t key, uint32_t claim)
{
    uint32_t at = picks->count;
    if (at == picks->limit && (at == 0 || picks->of[at - 1].key <= key)) return;
    if (at == picks->limit) at--;
    else picks->count++;
    for (; at > 0 && picks->of[at - 1].key > key; at--)
        picks->of[at] = picks->of[at - 1];
    picks->of[at] = (eb_pick){key, claim};
}

static bool is_due(const eb_roster *roster, uint32_t claim, int64_t now)
{
    return atomic_load(eb_claim_holder(roster, claim)) == EB_RETURNED &&
           (int64_t)eb_claim_since(roster, claim) - now <= 0;
}

/* Those that were given back and may be delivered now, the oldest events first. */
void eb_claims_due(const eb_roster *roster, const eb_group *group, int64_t now, eb_picks *picks)
{
    EACH_CLAIM(roster, group, claim)
    if (is_due(roster, (uint32_t)claim, now))
        eb_pick_offer(picks, eb_claim_sequence(roster, (uint32_t)claim), (uint32_t)claim);
}

bool eb_any_due(const eb_roster *roster, const eb_group *group, int64_t now)
{
    EACH_CLAIM(roster, group, claim)
    if (is_due(roster, (uint32_t)claim, now)) return true;
    return false;
}

/* When somebody who sleeps has to look again: after `slice` if members hold claims, which may die, but for the one with that
 * token; when a returned one is due; EB_NEVER. */
int64_t eb_claims_look(const eb_roster *roster, const eb_group *group, uint64_t token, int64_t now, int64_t slice)
{
    int64_t look = EB_NEVER;
    EACH_CLAIM(roster, group, claim)
    {
        uint64_t holder = atomic_load(eb_claim_holder(roster, (uint32_t)claim));
        if (holder == token) continue;
        bool returned = holder == EB_RETURNED;
        int64_t then = returned ? (int64_t)eb_claim_since(roster, (uint32_t)claim) : now + slice;
        if (then < look) look = then;
    }
    return look;
}

/* Whether any is another's, or was given back. */
bool eb_claims_of_others(const eb_roster *roster, const eb_group *group, uint64_t token)
{
    EACH_CLAIM(roster, group, claim)
    if (atomic_load(eb_claim_holder(roster, (uint32_t)claim)) != token) return true;
    return false;
}

/* --- under the group's lock --- */

/* Its number, or EB_NO_SLOT; free ones are looked for from `from` on. Once all that are to be made are, the cursor moves past
 * the last one. Who sees the holder sees the rest. */
int eb_claim_make(eb_roster *roster, eb_group *group, uint32_t from, uint64_t token, const eb_record *record,
                  uint64_t position, int64_t now)
{
    int claim = eb_claim_free(roster, group, from);
    if (claim < 0) return claim;
    eb_page *page = page_of(roster, (uint32_t)claim);
    uint32_t i = (uint32_t)claim % EB_PAGE_CLAIMS;
    atomic_store_explicit(&page->claims[i].place, position, memory_order_relaxed);
    atomic_store_explicit(&page->terms[i].sequence, record->sequence, memory_order_relaxed);
    atomic_store_explicit(&page->terms[i].since, (uint64_t)now, memory_order_relaxed);
    atomic_store_explicit(&page->terms[i].deliveries, 0, memory_order_relaxed);
    atomic_store_explicit(&page->terms[i].bytes, (uint32_t)record->bytes, memory_order_relaxed);
    EB_TEST_POINT(claim_written);
    if (i >= eb_page_used(page)) atomic_store_explicit(&page->used, i + 1, memory_order_release);
    EB_TEST_POINT(claim_used);
    atomic_store_explicit(&page->claims[i].holder, token, memory_order_release);
    EB_TEST_POINT(claim_held);
    return claim;
}

/* One that was given back. */
void eb_claim_adopt(eb_roster *roster, eb_group *group, uint32_t claim, uint64_t token, int64_t now)
{
    uint32_t counted = atomic_load(eb_claim_counter(roster, claim)), before = counted & ~EB_HANDED_OUT;
    if (counted != before && before + 1 < EB_HANDED_OUT) before++;
    atomic_store(&terms_of(roster, claim)->since, (uint64_t)now);
    atomic_store(eb_claim_holder(roster, claim), token);
    EB_TEST_POINT(claim_adopted);
    if (counted != before) atomic_store(eb_claim_counter(roster, claim), before);
    EB_TEST_POINT(claim_deliveries);
    if (before > 0) atomic_store(&group->redelivered, atomic_load(&group->redelivered) + 1);
    EB_TEST_POINT(claim_counted);
}

/* What the dead had in hand is given back for them. Whether somebody lives is asked once for all that it has. */
void eb_claims_bury(eb_roster *roster, eb_group *group, uint64_t token)
{
    uint64_t living[EB_SUBSCRIBERS_LIMIT] = {0};
    EACH_CLAIM(roster, group, claim)
    {
        uint64_t holder = atomic_load(eb_claim_holder(roster, (uint32_t)claim));
        uint32_t slot = (holder & 0xFFF) - 1;
        if (holder == 0 || holder == EB_RETURNED || holder == token) continue;
        if (slot < EB_SUBSCRIBERS_LIMIT && living[slot] == holder) continue;
        if (slot < EB_SUBSCRIBERS_LIMIT && eb_token_alive(roster, holder)) living[slot] = holder;
        else eb_claim_return(roster, (uint32_t)claim, holder, 0);
    }
}

/* After the death of the lock's owner: the pages that it may have taken and not listed, and the cursor. */
static void mend(eb_roster *roster, eb_group *group)
{
    for (uint32_t number = 0; number < EB_PAGES; number++)
        if (atomic_load(&eb_page_at(roster, number)->group) == eb_page_owner(roster, group))
            eb_page_list(group, number, true);
    EACH_CLAIM(roster, group, claim)
    {
        uint64_t place = atomic_load(eb_claim_place(roster, (uint32_t)claim));
        if (!(place & EB_PARKED)) eb_cursor_raise(&group->cursor, place + eb_claim_bytes(roster, (uint32_t)claim));
    }
}

/* From an owner that is dead. What it may have left undone comes after its claims. */
bool eb_group_take_over(eb_roster *roster, eb_group *group, uint64_t from, uint64_t token)
{
    if (!atomic_compare_exchange_strong(&group->lock, &from, token)) return false; /* [group] */
    EB_TEST_POINT(group_taken_over);
    mend(roster, group);
    EB_TEST_POINT(group_mended);
    return true;
}

/* --- under the roster's lock --- */

static bool is_possible(const eb_roster *roster, const eb_ring *ring, uint32_t claim)
{
    uint64_t place = atomic_load(eb_claim_place(roster, claim)), bytes = eb_claim_bytes(roster, claim);
    uint64_t committed = atomic_load(&ring->header->committed), offset = place & ~EB_PARKED;
    if (offset % 8 != 0) return false;
    if (place & EB_PARKED) return offset < ring->parking_bytes && bytes <= ring->parking_bytes - offset;
    return committed - place <= ring->capacity && bytes <= committed - place;
}

/* While nobody is attached: what anybody held is to be claimed first, and delays go on. */
static int revive(eb_roster *roster, eb_group *group, const eb_ring *ring)
{
    EACH_CLAIM(roster, group, claim)
    {
        uint64_t holder = atomic_load(eb_claim_holder(roster, (uint32_t)claim));
        if (!is_possible(roster, ring, (uint32_t)claim)) return eb_damaged("a claim of a group is impossible");
        if (holder != EB_RETURNED) eb_claim_return(roster, (uint32_t)claim, holder, 0);
    }
    EB_TEST_POINT(alone_returned);
    return EB_OK;
}

/* While nobody is attached: nobody sleeps or has the lock, and what anybody held is to be claimed first. */
int eb_group_revive(eb_roster *roster, eb_group *group, const eb_ring *ring)
{
    eb_group_take_over(roster, group, atomic_load(&group->lock), 1);
    int status = eb_group_check(group, &ring->header->committed, ring->capacity);
    if (status == EB_OK) status = revive(roster, group, ring);
    if (status != EB_OK) return status;
    for (uint32_t i = 0; i < EB_WAITER_WORDS; i++)
        atomic_store(&group->asleep[i], 0);
    atomic_store(&group->checked_at, 0);
    atomic_store(&group->watched, 0);
    atomic_store(&group->unlocked.waiters, 0);
    EB_TEST_POINT(alone_forgotten);
    atomic_store(&group->lock, 0);
    return EB_OK;
}
