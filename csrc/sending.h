/* Sending, now and later: timetable.c, room.c, wake.c, schedule.c, keeper.c. */
#ifndef EVENTBUS_SENDING_H
#define EVENTBUS_SENDING_H

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
bool eb_fire_due(eb_bus *bus);

/* keeper.c */
int eb_sleep_or_keep(eb_subscription *sub, eb_u32 *semaphore, int64_t slice, int64_t deadline);

#endif
