/* Events that are sent later: put down, cancelled, sent when they are due, and read by people. */
#include "sending.h"

#define AT_ONCE 32 /* in one pass: others wait for the lock; and */
#define AT_ONCE_BYTES (1u << 20)
#define AGAIN_NS (5 * EB_MILLISECOND) /* until what found no room is tried again */

/* --- put down --- */

/* Half of the parking: what members have in hand finds room in the other half. */
static uint64_t room_for(const eb_bus *bus)
{
    return bus->ring.parking_bytes / 2;
}

/* Bytes of the parking that it takes, with its entry. */
static uint64_t taken_by(uint64_t bytes)
{
    return EB_BLOCKS(bytes) * EB_PARKING_BLOCK + EB_PARKING_BLOCK;
}

static uint64_t taken(const eb_bus *bus)
{
    uint64_t sum = 0;
    eb_timed seen;
    for (int entry = 0; (entry = eb_timetable_next(&bus->ring, (uint32_t)entry, &seen)) >= 0; entry++)
        sum += taken_by(seen.bytes);
    return sum;
}

/* Under the publish lock. */
static int put_down(eb_bus *bus, const eb_outgoing *event, const char *bytes, eb_timed *what)
{
    eb_ring *ring = &bus->ring;
    if (atomic_load(&ring->header->closed)) return EB_CLOSED;
    what->entry = eb_timetable_free(ring);
    what->number = atomic_load_explicit(&ring->header->scheduled, memory_order_relaxed) + 1;
    if (what->entry == eb_timetable_limit(ring) || taken(bus) + taken_by(what->bytes) > room_for(bus)) return EB_FULL;
    int status = eb_parking_find(bus, what->bytes, what->entry, &what->place);
    if (status != EB_OK) return status;
    eb_ring_write(ring, what->place, what->number, 0, bus->pid, event, bytes, bytes + eb_head_bytes(event));
    EB_TEST_POINT(schedule_copied);
    eb_timetable_put(ring, what);
    return EB_OK;
}

int64_t eb_schedule(eb_bus *bus, const eb_outgoing *event, const char *bytes, size_t length, int64_t due,
                    int64_t deadline)
{
    eb_timed what = {.due = due > 0 ? due : 1};
    if (event->topic >= EB_TOPICS && event->topic != EB_INLINE)
        return eb_damaged("a topic number that the table has not");
    int status = eb_measure(bus, event, &what.bytes);
    if (status == EB_OK && eb_head_bytes(event) + event->body_length != length) status = EB_TOO_LARGE;
    if (status == EB_OK && taken_by(what.bytes) > room_for(bus)) status = EB_TOO_LARGE;
    if (status == EB_OK) status = eb_bus_check(bus);
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    status = put_down(bus, event, bytes, &what);
    eb_bus_unlock_publish(bus);
    if (status != EB_OK) return status;
    EB_TEST_POINT(schedule_unlocked);
    eb_fire_due(bus, EB_POLL);
    eb_see_kept(bus, NULL);
    return (int64_t)what.number;
}

int64_t eb_schedule_limit(const eb_bus *bus)
{
    int64_t room = (int64_t)(room_for(bus) - EB_PARKING_BLOCK), limit = eb_event_limit(bus);
    return room < limit ? room : limit;
}

int eb_cancel(eb_bus *bus, uint64_t number, int64_t deadline)
{
    eb_timed seen;
    int status = eb_bus_check(bus), entry = 0;
    if (status == EB_OK) status = eb_bus_lock_publish(bus, deadline);
    if (status != EB_OK) return status;
    while ((entry = eb_timetable_next(&bus->ring, (uint32_t)entry, &seen)) >= 0 && seen.number != number)
        entry++;
    if (entry >= 0) {
        eb_timetable_take_away(&bus->ring, seen.entry);
        eb_timetable_settle(&bus->ring);
    }
    eb_bus_unlock_publish(bus);
    return entry >= 0;
}

/* --- send --- */

/* As a publisher who drains the ring, and before all who wait: it was there before them. One whose record was written over
 * is nothing that could be sent. */
static int send_one(eb_bus *bus, const eb_timed *one, eb_outgoing *sent)
{
    eb_ring *ring = &bus->ring;
    eb_record record;
    if (!eb_timetable_record(ring, one, &record)) {
        eb_timetable_take_away(ring, one->entry);
        return EB_NOTHING;
    }
    int status = eb_room_claim(bus, one->bytes + 8, 0, EB_DRAINERS_SHARE(ring->capacity));
    if (status != EB_OK) return status;
    uint64_t position = atomic_load(&ring->header->committed), sequence = eb_ring_sequence_at(ring, position);
    eb_timetable_intend(ring, one->entry, position);
    eb_ring_unpark(ring, one->place, position, sequence, eb_wall_clock(), one->bytes);
    eb_ring_commit(ring, position + one->bytes, sequence + 1);
    EB_TEST_POINT(schedule_committed);
    eb_ring_count(ring, record.topic, position);
    eb_timetable_take_away(ring, one->entry);
    *sent = (eb_outgoing){.topic = record.topic};
    return EB_OK;
}

/* Under the publish lock: how many were sent. */
static uint32_t send_due(eb_bus *bus, eb_outgoing *sent)
{
    eb_timed due[AT_ONCE];
    uint32_t count = 0, found = eb_timetable_due(&bus->ring, eb_now(), due, AT_ONCE);
    uint64_t bytes = 0;
    int status = EB_OK;
    uint32_t next = 0;
    while (next < found && bytes < AT_ONCE_BYTES) {
        status = send_one(bus, &due[next], &sent[count]);
        if (status != EB_OK && status != EB_NOTHING) break;
        if (status == EB_OK) bytes += due[next].bytes;
        count += status == EB_OK;
        next++;
    }
    bool waits = status != EB_OK && status != EB_NOTHING;
    eb_timetable_settle(&bus->ring);
    if (waits) eb_timetable_put_off(&bus->ring, eb_now() + AGAIN_NS, due[next].bytes);
    return count;
}

/* Whether anything was sent. A look at a word when nothing is to be; else the publish lock is waited for as by a poll of the
 * caller's. */
bool eb_fire_due(eb_bus *bus, int64_t deadline)
{
    eb_outgoing sent[AT_ONCE];
    int64_t look = eb_look_at(bus);
    if (look == EB_NEVER || look > eb_now()) return false;
    if (eb_bus_check(bus) != EB_OK || eb_bus_lock_publish(bus, deadline == EB_BRIEF ? EB_BRIEF : EB_POLL) != EB_OK)
        return false;
    uint32_t count = atomic_load(&bus->ring.header->closed) ? 0 : send_due(bus, sent);
    eb_bus_unlock_publish(bus);
    EB_TEST_POINT(schedule_told);
    if (count > 0) eb_wake(bus, eb_may_hear, sent, (int)count);
    return count > 0;
}

/* --- read --- */

/* A raw path; or as much of the JSON text, which begins with it, as its path may take there. */
static void copy_path(const eb_ring *ring, uint64_t place, const eb_record *record, eb_scheduled_info *out)
{
    uint64_t names = (uint64_t)record->system_length + record->kind_length;
    uint64_t skip = names + record->extension_length, length = record->path_length;
    if (length == 0) {
        skip += names > 0; /* an inline record keeps its bracket */
        length = record->stored > skip ? record->stored - skip : 0;
        out->is_text = 1;
    }
    if (length > sizeof out->path) length = sizeof out->path;
    eb_ring_copy(ring, place, skip, out->path, length, true);
    out->path_length = (uint32_t)length;
}

/* The number of the first entry from `from` on, or EB_NOTHING. What is sent meanwhile is passed over. [due] */
int eb_scheduled_read(const eb_bus *bus, uint32_t from, eb_scheduled_info *out)
{
    const eb_ring *ring = &bus->ring;
    eb_timed seen, again;
    for (int entry = (int)from; (entry = eb_timetable_next(ring, (uint32_t)entry, &seen)) >= 0; entry++) {
        eb_record record;
        bool whole = eb_timetable_record(ring, &seen, &record);
        *out = (eb_scheduled_info){.number = seen.number, .due_ns = seen.due - eb_now(), .bytes = seen.bytes};
        uint32_t lengths[2] = {record.system_length, record.kind_length};
        bool named = whole && record.topic != EB_INLINE;
        if (named) whole = eb_ring_topic_names(ring, record.topic, out->names, lengths) == EB_OK;
        else if (whole) eb_ring_copy(ring, seen.place, 0, out->names, (uint64_t)lengths[0] + lengths[1], true);
        if (!whole) continue;
        out->system_length = lengths[0];
        out->kind_length = lengths[1];
        copy_path(ring, seen.place, &record, out);
        if (eb_timetable_read(ring, seen.entry, &again) && again.number == seen.number) return entry;
    }
    return EB_NOTHING;
}
