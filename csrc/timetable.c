/* What is to be sent later, and when somebody has to look for it: the entries, pure memory. Who writes here holds the
 * publish lock. An entry that says what cannot be is none. */
#include "sending.h"

#define KEPT_NS (20 * EB_MILLISECOND) /* after what is due, before somebody else takes the keeper for gone */

/* Each takes a block of the parking, the first one the last block. */
static eb_scheduled *entry_at(const eb_ring *ring, uint32_t entry)
{
    char *end = ring->data + 2 * ring->capacity + ring->parking_bytes;
    return (eb_scheduled *)(void *)(end - (uint64_t)(entry + 1) * EB_PARKING_BLOCK);
}

uint32_t eb_timetable_limit(const eb_ring *ring)
{
    return (uint32_t)(ring->parking_bytes / EB_PARKING_BLOCK / 8);
}

/* Entries at and past it are none. */
uint32_t eb_timetable_used(const eb_ring *ring)
{
    uint32_t used = atomic_load_explicit(&ring->header->scheduled_used, memory_order_acquire);
    return used < eb_timetable_limit(ring) ? used : eb_timetable_limit(ring);
}

/* Whether there is one. Without the lock: whoever copies its record looks afterwards whether it is still the same. [due] */
bool eb_timetable_read(const eb_ring *ring, uint32_t entry, eb_timed *to)
{
    const eb_scheduled *from = entry_at(ring, entry);
    to->entry = entry;
    to->due = (int64_t)atomic_load_explicit(&from->due, memory_order_acquire); /* [due] */
    to->number = atomic_load_explicit(&from->number, memory_order_acquire);
    to->place = atomic_load_explicit(&from->place, memory_order_acquire);
    to->bytes = atomic_load_explicit(&from->bytes, memory_order_acquire);
    uint64_t offset = to->place & ~EB_PARKED;
    return to->due > 0 && to->number > 0 && (to->place & EB_PARKED) && offset % EB_PARKING_BLOCK == 0 &&
           offset < ring->parking_bytes && to->bytes >= EB_HEADER_BYTES && to->bytes % 8 == 0 &&
           to->bytes <= ring->parking_bytes - offset;
}

/* Whether the record is the one that the entry means. */
bool eb_timetable_record(const eb_ring *ring, const eb_timed *of, eb_record *record)
{
    return eb_ring_read(ring, of->place, of->place + of->bytes, record) == EB_OK && record->bytes == of->bytes &&
           record->sequence == of->number;
}

/* The first entry from `from` on, or EB_NOTHING. */
int eb_timetable_next(const eb_ring *ring, uint32_t from, eb_timed *to)
{
    for (uint32_t used = eb_timetable_used(ring); from < used; from++)
        if (eb_timetable_read(ring, from, to)) return (int)from;
    return EB_NOTHING;
}

#define EACH_ENTRY(ring, of)                                                                                           \
    for (int next_entry = 0; (next_entry = eb_timetable_next(ring, (uint32_t)next_entry, of)) >= 0; next_entry++)

/* The first one that is free; as many as there may be when none is. */
uint32_t eb_timetable_free(const eb_ring *ring)
{
    uint32_t used = eb_timetable_used(ring);
    eb_timed seen;
    for (uint32_t entry = 0; entry < used; entry++)
        if (!eb_timetable_read(ring, entry, &seen)) return entry;
    return used;
}

static bool comes_before(const eb_timed *one, const eb_timed *other)
{
    return one->due != other->due ? one->due < other->due : one->number < other->number;
}

/* The first ones of those that are due, in their order. */
uint32_t eb_timetable_due(const eb_ring *ring, int64_t now, eb_timed *due, uint32_t limit)
{
    uint32_t count = 0;
    eb_timed seen;
    EACH_ENTRY(ring, &seen)
    {
        if (seen.due > now || (count == limit && !comes_before(&seen, &due[count - 1]))) continue;
        uint32_t at = count < limit ? count++ : count - 1;
        for (; at > 0 && comes_before(&seen, &due[at - 1]); at--)
            due[at] = due[at - 1];
        due[at] = seen;
    }
    return count;
}

/* --- under the publish lock --- */

/* The record is in its place already. Killed before the last store, there is no such entry: its number is nobody's, and who
 * looks too early finds that out. */
void eb_timetable_put(eb_ring *ring, const eb_timed *what)
{
    eb_ring_header *header = ring->header;
    eb_scheduled *entry = entry_at(ring, what->entry);
    atomic_store(&entry->due,
                 0); /* before it is counted in: these bytes were a record's, or an entry's that cannot be */
    atomic_store_explicit(&entry->number, what->number, memory_order_relaxed);
    atomic_store_explicit(&entry->place, what->place, memory_order_relaxed);
    atomic_store_explicit(&entry->bytes, what->bytes, memory_order_relaxed);
    atomic_store_explicit(&entry->intended, 0, memory_order_relaxed);
    EB_TEST_POINT(schedule_written);
    if (what->entry >= eb_timetable_used(ring))
        atomic_store_explicit(&header->scheduled_used, what->entry + 1, memory_order_release);
    EB_TEST_POINT(schedule_used);
    atomic_store_explicit(&header->scheduled, what->number, memory_order_relaxed);
    EB_TEST_POINT(schedule_numbered);
    uint64_t look = atomic_load_explicit(&header->look, memory_order_relaxed);
    if (look == 0 || (int64_t)look > what->due) atomic_store(&header->look, (uint64_t)what->due); /* [keeper] */
    EB_TEST_POINT(schedule_look);
    atomic_store(&entry->due, (uint64_t)what->due); /* [due] */
    EB_TEST_POINT(schedule_stored);
}

/* From here on until it is taken away, it was sent as soon as more is committed. */
void eb_timetable_intend(eb_ring *ring, uint32_t entry, uint64_t position)
{
    atomic_store(&entry_at(ring, entry)->intended, position | EB_INTENDED);
    EB_TEST_POINT(schedule_intended);
}

/* Sent, or cancelled. */
void eb_timetable_take_away(eb_ring *ring, uint32_t entry)
{
    atomic_store(&entry_at(ring, entry)->due, 0);
    EB_TEST_POINT(schedule_freed);
}

/* When to look next, and how many entries there are. Killed before that, somebody looks too early. */
void eb_timetable_settle(eb_ring *ring)
{
    int64_t look = 0;
    uint32_t used = 0;
    eb_timed seen;
    EACH_ENTRY(ring, &seen)
    {
        used = seen.entry + 1;
        if (look == 0 || seen.due < look) look = seen.due;
    }
    atomic_store_explicit(&ring->header->scheduled_used, used, memory_order_release);
    atomic_store_explicit(&ring->header->overdue, 0, memory_order_relaxed);
    atomic_store(&ring->header->look, (uint64_t)look);
    EB_TEST_POINT(schedule_settled);
}

/* What found no room, of so many bytes, is tried again then; meanwhile publishers leave as much. */
void eb_timetable_put_off(eb_ring *ring, int64_t until, uint64_t need)
{
    atomic_store_explicit(&ring->header->overdue, need, memory_order_relaxed);
    EB_TEST_POINT(schedule_overdue);
    atomic_store(&ring->header->look, (uint64_t)until);
    EB_TEST_POINT(schedule_put_off);
}

/* Never more than what is sent later may have. */
uint64_t eb_timetable_overdue(const eb_ring *ring)
{
    uint64_t overdue = atomic_load_explicit(&ring->header->overdue, memory_order_relaxed);
    return overdue < ring->parking_bytes / 2 ? overdue : ring->parking_bytes / 2;
}

/* After the death of the lock's owner. Nobody has published since it meant to send one: whether more is committed by now says
 * whether it did. May be cut short and done again. `look` is too early at worst. */
void eb_timetable_repair(eb_ring *ring)
{
    uint64_t committed = atomic_load(&ring->header->committed);
    eb_timed seen;
    EACH_ENTRY(ring, &seen)
    {
        eb_scheduled *entry = entry_at(ring, seen.entry);
        uint64_t intended = atomic_load(&entry->intended);
        if (intended == 0) continue;
        bool sent = (int64_t)(committed - (intended & ~EB_INTENDED)) > 0;
        if (sent) eb_timetable_take_away(ring, seen.entry);
        else atomic_store(&entry->intended, 0);
    }
}

/* --- when to look --- */

/* When somebody who may send has to look; EB_NEVER when nothing is to be sent. A load in a line that is rarely written. */
int64_t eb_look_at(const eb_bus *bus)
{
    const eb_ring_header *header = bus->ring.header;
    int64_t look = (int64_t)atomic_load(&header->look); /* [keeper] */
    return look > 0 && bus->token != 0 && !atomic_load(&header->closed) ? look : EB_NEVER;
}

/* Until when whoever promises to look then is taken for alive. */
uint64_t eb_kept_until(int64_t look)
{
    return (uint64_t)(look + KEPT_NS);
}

/* Whether that is a promise of somebody asleep to look by then, and has not passed. */
bool eb_is_kept(uint64_t kept, int64_t look, int64_t now)
{
    return (int64_t)kept > now && kept <= eb_kept_until(look);
}
