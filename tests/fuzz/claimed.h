/* What an input may damage of a group and of what its members have in hand. */
#ifndef EVENTBUS_FUZZ_CLAIMED_H
#define EVENTBUS_FUZZ_CLAIMED_H

#include "damage.h"

enum { PAGES = 3 };

/* That of a member, by a number below 7, 0 where it is not there; or the number that was given. */
static uint64_t token_of(unsigned holder, uint64_t number);

static uint64_t take_holder(input *from, uint64_t number)
{
    unsigned holder = take_byte(from) % 8;
    return holder == 7 ? EB_RETURNED : token_of(holder, number);
}

static void damage_group(input *from)
{
    eb_group *group = &bus->roster.header->groups[0];
    unsigned what = take_byte(from) % 16;
    uint64_t number = take_holder(from, take_position(from));
    eb_u64 *wide[] = {&group->lock,       &group->cursor, &group->start,    &group->watched,
                      &group->checked_at, group->asleep,  &group->pages[0], &group->pages[EB_PAGES / 64 - 1]};
    eb_u32 *narrow[] = {&group->slot, &group->max_deliveries, &group->open};
    if (what < 8) atomic_store(wide[what], number);
    else if (what < 11) atomic_store(narrow[what - 8], (uint32_t)number);
    else damage_bytes(from, group, 8, sizeof *group);
}

/* Of the first pages, which are the group's if any are; each is taken with a single claim, or with many. */
static void damage_claim(input *from)
{
    unsigned what = take_byte(from), which = take_byte(from);
    eb_page *page = &bus->roster.header->pages[what / 16 % PAGES];
    unsigned claim = which % (which & 0x80 ? EB_PAGE_CLAIMS : 8);
    uint64_t number = take_position(from);
    switch (what % 16) {
    case 0:
    case 1: atomic_store(&page->claims[claim].holder, take_holder(from, number)); break;
    case 2:
    case 3: atomic_store(&page->claims[claim].place, number); break;
    case 4:
    case 5: atomic_store(&page->claims[claim].place, (number % (2 * bus->ring.capacity)) | EB_PARKED); break;
    case 6: atomic_store(&page->terms[claim].sequence, number); break;
    case 7: atomic_store(&page->terms[claim].since, take_byte(from) % 2 ? number : 0); break;
    case 8: atomic_store(&page->terms[claim].deliveries, (uint32_t)number); break;
    case 9: atomic_store(&page->terms[claim].bytes, (uint32_t)number); break;
    case 10: atomic_store(&page->group, (uint32_t)number % (EB_GROUPS + 2)); break;
    case 11: atomic_store(&page->used, (uint32_t)number); break;
    case 12: atomic_fetch_xor(&bus->roster.header->groups[0].pages[0], 1ull << (what / 16 % PAGES)); break;
    case 13: damage_bytes(from, bus->ring.data + 2 * bus->ring.capacity, 8, bus->ring.parking_bytes); break;
    default: damage_bytes(from, page, 8, sizeof *page);
    }
}

/* That of an event in hand, if there is one, else any. */
static uint64_t take_sequence(input *from, const eb_subscription *sub)
{
    unsigned which = take_byte(from);
    return which < 192 && sub->held > 0 ? sub->hand[which % sub->held].sequence : which;
}

static void give_back(input *from, eb_subscription *sub)
{
    unsigned how = take_byte(from);
    int64_t delay = how / 4 % 2;
    switch (how % 4) {
    case 0: known(eb_return(sub, delay)); break;
    case 1: known(eb_bury(sub, take_sequence(from, sub))); break;
    default: known(eb_reject_event(sub, take_sequence(from, sub), delay));
    }
}

#endif
