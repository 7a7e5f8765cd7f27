/* The pages on which claims stand: a group's until they are empty. */
#include "claims.h"

eb_page *eb_page_at(const eb_roster *roster, uint32_t number)
{
    return &roster->header->pages[number];
}

uint32_t eb_page_used(const eb_page *page)
{
    uint32_t used = atomic_load_explicit(&page->used, memory_order_acquire);
    return used < EB_PAGE_CLAIMS ? used : EB_PAGE_CLAIMS;
}

/* What a page of the group has as its. */
uint32_t eb_page_owner(const eb_roster *roster, const eb_group *group)
{
    return (uint32_t)(group - roster->header->groups) + 1;
}

/* The number of the next page of the group from `from` on, or EB_PAGES. */
uint32_t eb_page_next(const eb_group *group, uint32_t from)
{
    while (from < EB_PAGES) {
        uint64_t bits = atomic_load(&group->pages[from / 64]) >> (from % 64);
        if (bits != 0) return from + (uint32_t)__builtin_ctzll(bits);
        from = (from / 64 + 1) * 64;
    }
    return EB_PAGES;
}

/* --- under the group's lock --- */

void eb_page_list(eb_group *group, uint32_t number, bool listed)
{
    uint64_t bit = 1ull << (number % 64);
    if (listed) atomic_fetch_or(&group->pages[number / 64], bit);
    else atomic_fetch_and(&group->pages[number / 64], ~bit);
}

/* Whether as many pages are left as there are other groups that have none: a group that has one leaves them to these. */
static bool is_scarce(const eb_roster *roster, const eb_group *group)
{
    uint32_t left = 0, without = 0;
    if (eb_page_next(group, 0) == EB_PAGES) return false;
    for (uint32_t number = 0; number < EB_PAGES; number++)
        left += atomic_load(&eb_page_at(roster, number)->group) == 0;
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        const eb_group *other = &roster->header->groups[i];
        without += eb_group_is_open(other) && eb_page_next(other, 0) == EB_PAGES;
    }
    return left <= without;
}

/* One that was nobody's, or EB_PAGES. */
static uint32_t take_page(eb_roster *roster, eb_group *group)
{
    if (is_scarce(roster, group)) return EB_PAGES;
    for (uint32_t number = 0; number < EB_PAGES; number++) {
        eb_page *page = eb_page_at(roster, number);
        uint32_t nobody = 0;
        if (atomic_load(&page->group) != 0) continue;
        if (!atomic_compare_exchange_strong(&page->group, &nobody, eb_page_owner(roster, group))) continue;
        EB_TEST_POINT(page_taken);
        eb_page_list(group, number, true);
        EB_TEST_POINT(page_listed);
        return number;
    }
    return EB_PAGES;
}

/* A free claim at or past `from`, or EB_NO_SLOT. */
int eb_claim_free(eb_roster *roster, eb_group *group, uint32_t from)
{
    for (uint32_t number = from / EB_PAGE_CLAIMS; (number = eb_page_next(group, number)) < EB_PAGES; number++) {
        const eb_page *page = eb_page_at(roster, number);
        uint32_t first = number * EB_PAGE_CLAIMS;
        for (uint32_t i = from > first ? from - first : 0; i < EB_PAGE_CLAIMS; i++)
            if (atomic_load(&page->claims[i].holder) == 0) return (int)(first + i);
    }
    uint32_t taken = take_page(roster, group);
    return taken < EB_PAGES ? (int)(taken * EB_PAGE_CLAIMS) : EB_NO_SLOT;
}

/* Gives empty pages back, but for one. */
void eb_claims_tidy(eb_roster *roster, eb_group *group)
{
    uint32_t number = eb_page_next(group, 0);
    while (number < EB_PAGES && (number = eb_page_next(group, number + 1)) < EB_PAGES) {
        eb_page *page = eb_page_at(roster, number);
        uint32_t i = 0, used = eb_page_used(page);
        while (i < used && atomic_load(&page->claims[i].holder) == 0)
            i++;
        if (i < used) continue;
        atomic_store(&page->used, 0);
        eb_page_list(group, number, false);
        EB_TEST_POINT(page_unlisted);
        atomic_store(&page->group, 0);
        EB_TEST_POINT(page_given_back);
    }
}

/* --- under the roster's lock --- */

/* Of an entry that is no group's any more, nor any living member's. */
void eb_claims_drop(eb_roster *roster, eb_group *group)
{
    for (uint32_t number = 0; number < EB_PAGES; number++) {
        eb_page *page = eb_page_at(roster, number);
        if (atomic_load(&page->group) != eb_page_owner(roster, group)) continue;
        for (uint32_t i = 0; i < EB_PAGE_CLAIMS; i++)
            atomic_store(&page->claims[i].holder, 0);
        atomic_store(&page->used, 0);
        EB_TEST_POINT(page_emptied);
        eb_page_list(group, number, false);
        atomic_store(&page->group, 0);
        EB_TEST_POINT(page_dropped);
    }
}

/* Of all such entries: else the other groups want for pages until one is made of the entry. */
void eb_claims_drop_all(eb_roster *roster)
{
    for (uint32_t i = 0; i < EB_GROUPS; i++) {
        eb_group *group = &roster->header->groups[i];
        if (!eb_group_is_open(group) && eb_roster_member(roster, i, 0) < 0) eb_claims_drop(roster, group);
    }
}
