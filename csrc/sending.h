/* Sending, now and later, and waiting for it: timetable.c, room.c, wake.c, schedule.c, keeper.c, and the flows of receiving. */
#ifndef EVENTBUS_SENDING_H
#define EVENTBUS_SENDING_H

#include "bell.h"
#include "claims.h"

/* What is to be sent later, as its entry of the timetable says, checked against the parking. */
typedef struct {
    int64_t due;
    uint64_t number;
    uint64_t place;
    uint64_t bytes;
    uint32_t entry;
} eb_timed;

/* timetable.c */
uint32_t eb_timetable_limit(const eb_ring *ring);
uint32_t eb_timetable_used(const eb_ring *ring);
bool eb_timetable_read(const eb_ring *ring, uint32_t entry, eb_timed *to);
bool eb_timetable_record(const eb_ring *ring, const eb_timed *of, eb_record *record);
int eb_timetable_next(const eb_ring *ring, uint32_t from, eb_timed *to);
uint32_t eb_timetable_free(const eb_ring *ring);
uint32_t eb_timetable_due(const eb_ring *ring, int64_t now, eb_timed *due, uint32_t limit);
void eb_timetable_put(eb_ring *ring, const eb_timed *what);
void eb_timetable_intend(eb_ring *ring, uint32_t entry, uint64_t position);
void eb_timetable_take_away(eb_ring *ring, uint32_t entry);
void eb_timetable_settle(eb_ring *ring);
void eb_timetable_put_off(eb_ring *ring, int64_t until, uint64_t need);
uint64_t eb_timetable_overdue(const eb_ring *ring);
void eb_timetable_repair(eb_ring *ring);
int64_t eb_look_at(const eb_bus *bus);
uint64_t eb_kept_until(int64_t look);
bool eb_is_kept(uint64_t kept, int64_t look, int64_t now);

/* room.c */
int eb_measure(const eb_bus *bus, const eb_outgoing *event, uint64_t *bytes);
bool eb_room_fits(const eb_bus *bus, uint64_t gate, uint64_t need, uint64_t share);
int eb_room_claim(eb_bus *bus, uint64_t need, uint64_t before, uint64_t share);

/* wake.c */
typedef bool (*eb_wakes)(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count);
bool eb_may_hear(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count);
bool eb_lags(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count);
bool eb_anybody(const eb_bus *bus, uint32_t slot, const eb_outgoing *events, int count);
void eb_wake(eb_bus *bus, eb_wakes chosen, const eb_outgoing *events, int count);
void eb_see_kept(eb_bus *bus, const eb_subscription *but);
void eb_pass_wake(eb_subscription *sub);

/* schedule.c */
bool eb_fire_due(eb_bus *bus, int64_t deadline);

/* keeper.c */
void eb_promise(eb_subscription *sub, int64_t *until);
void eb_promise_over(eb_subscription *sub);
int eb_sleep_or_keep(eb_subscription *sub, eb_u32 *semaphore, int64_t until, int64_t deadline);

/* linger.c */
void eb_took(eb_pace *pace, uint32_t events, uint64_t bytes);
int eb_gather(eb_subscription *sub, int64_t deadline);
int64_t eb_nap_ns(eb_subscription *sub);
int eb_linger(eb_subscription *sub, uint64_t seen, int64_t deadline);
int eb_sleep(eb_subscription *sub, eb_u32 *semaphore, int64_t until, int64_t deadline);

/* publish.c */
uint64_t eb_published(void);

/* single.c */
bool eb_single_lie_down(eb_subscription *sub, uint64_t seen, uint64_t bell);
int eb_single_settle(eb_subscription *sub);
int eb_single_receive(eb_subscription *sub, uint32_t limit, int64_t deadline);

/* relay.c */
eb_u32 *eb_relay_semaphore(const eb_subscription *sub);
void eb_relay_wake(eb_subscription *sub, bool all);
void eb_relay_pass_on(eb_subscription *sub);
bool eb_relay_lie_down(eb_subscription *sub, uint64_t seen, bool closed, uint64_t bell);
int64_t eb_relay_look(eb_subscription *sub);
void eb_relay_rise(eb_subscription *sub);
int eb_relay_await(eb_subscription *sub, uint64_t seen, bool closed, int64_t deadline);

/* member.c */
int eb_member_receive(eb_subscription *sub, uint32_t limit, int64_t deadline);

#endif
