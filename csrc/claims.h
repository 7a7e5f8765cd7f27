/* What members of groups have in hand: pages.c, claims.c, parking.c, held.c. */
#ifndef EVENTBUS_CLAIMS_H
#define EVENTBUS_CLAIMS_H

#include "internal.h"

#define EB_NEVER INT64_MAX

typedef struct {
    uint64_t key;
    uint32_t claim;
} eb_pick;

/* Those with the lowest keys, in order. */
typedef struct {
    uint32_t count, limit;
    eb_pick of[EB_BATCH_LIMIT];
} eb_picks;

/* pages.c */
eb_page *eb_page_at(const eb_roster *roster, uint32_t number);
uint32_t eb_page_used(const eb_page *page);
uint32_t eb_page_owner(const eb_roster *roster, const eb_group *group);
uint32_t eb_page_next(const eb_group *group, uint32_t from);
void eb_page_list(eb_group *group, uint32_t number, bool listed);
int eb_claim_free(eb_roster *roster, eb_group *group, uint32_t from);
void eb_claims_tidy(eb_roster *roster, eb_group *group);
void eb_claims_drop(eb_roster *roster, eb_group *group);
void eb_claims_drop_all(eb_roster *roster);

/* claims.c */
eb_u64 *eb_claim_holder(const eb_roster *roster, uint32_t claim);
eb_u64 *eb_claim_place(const eb_roster *roster, uint32_t claim);
uint64_t eb_claim_sequence(const eb_roster *roster, uint32_t claim);
uint64_t eb_claim_since(const eb_roster *roster, uint32_t claim);
uint32_t eb_claim_bytes(const eb_roster *roster, uint32_t claim);
uint32_t eb_claim_deliveries(const eb_roster *roster, const eb_group *group, uint32_t claim);
bool eb_claim_finish(eb_roster *roster, uint32_t claim, uint64_t token);
bool eb_claim_return(eb_roster *roster, uint32_t claim, uint64_t token, uint64_t due);
eb_u32 *eb_claim_counter(const eb_roster *roster, uint32_t claim);
int eb_claim_from(const eb_roster *roster, const eb_group *group, uint32_t from);
uint64_t eb_group_gate(const eb_roster *roster, const eb_group *group);
void eb_pick_offer(eb_picks *picks, uint64_t key, uint32_t claim);
void eb_claims_due(const eb_roster *roster, const eb_group *group, int64_t now, eb_picks *picks);
bool eb_any_due(const eb_roster *roster, const eb_group *group, int64_t now);
int64_t eb_claims_look(const eb_roster *roster, const eb_group *group, uint64_t token, int64_t now, int64_t slice);
bool eb_claims_of_others(const eb_roster *roster, const eb_group *group, uint64_t token);
int eb_claim_make(eb_roster *roster, eb_group *group, uint32_t from, uint64_t token, const eb_record *record,
                  uint64_t position, int64_t now);
void eb_claim_adopt(eb_roster *roster, eb_group *group, uint32_t claim, uint64_t token, int64_t now);
void eb_claims_bury(eb_roster *roster, eb_group *group, uint64_t token);
bool eb_group_take_over(eb_roster *roster, eb_group *group, uint64_t from, uint64_t token);
int eb_group_revive(eb_roster *roster, eb_group *group, const eb_ring *ring);

/* parking.c */
uint64_t eb_parked(const eb_bus *bus);
int eb_parking_find(eb_bus *bus, uint64_t bytes, uint32_t entry, uint64_t *place);
bool eb_park(eb_bus *bus, uint64_t committed, uint64_t need, bool *more);

/* held.c */
void eb_take_in_hand(eb_subscription *sub, uint32_t claim);
uint32_t eb_hand_room(const eb_subscription *sub, uint32_t limit);
int eb_finish_first(eb_subscription *sub);
int eb_finish_copied(eb_subscription *sub);
int eb_finish_event(eb_subscription *sub, uint64_t sequence);
int eb_return_event(eb_subscription *sub, uint64_t sequence, uint64_t due);
bool eb_return_all(eb_subscription *sub, uint64_t due);
int eb_copy_held(eb_subscription *sub, uint32_t limit);
int eb_await_hand(eb_subscription *sub, uint32_t limit, int64_t deadline);

/* member.c */
void eb_member_make_room(eb_subscription *sub);
void eb_member_rest(eb_subscription *sub);

#endif
