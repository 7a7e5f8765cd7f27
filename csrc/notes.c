/* How far those have come who bring events from elsewhere. Who writes here holds the publish lock, and so does who reads:
 * whatever a dead one left half-way was repaired before. */
#include "internal.h"

/* The entry of the name, else the first one that is not used, else NULL with a status. */
static int find(eb_ring *ring, const eb_note *note, eb_note_entry **found)
{
    for (uint32_t i = 0; i < EB_NOTES; i++) {
        eb_note_entry *entry = &ring->header->notes[i];
        uint32_t length = atomic_load_explicit(&entry->name_length, memory_order_relaxed);
        if (length > EB_NOTE_NAME_LIMIT) return eb_damaged("a note has an impossible name");
        *found = entry;
        if (length == 0 || (length == note->name_length && memcmp(entry->name, note->name, length) == 0)) return EB_OK;
    }
    return EB_TABLE_FULL;
}

static uint64_t number_of(const eb_note_entry *entry, int value)
{
    return atomic_load_explicit(&entry->values[value].number, memory_order_relaxed);
}

/* The value that holds; of none, one whose number is 0. */
static int holding(const eb_note_entry *entry)
{
    return number_of(entry, 1) > number_of(entry, 0);
}

/* It holds once `committed` is. Killed before its number is stored, there is none but the one before. */
int eb_note_write(eb_ring *ring, const eb_note *note, uint64_t committed)
{
    eb_note_entry *entry;
    int status = find(ring, note, &entry);
    if (status != EB_OK) return status;
    if (atomic_load_explicit(&entry->name_length, memory_order_relaxed) == 0) {
        memcpy(entry->name, note->name, note->name_length);
        atomic_store_explicit(&entry->name_length, note->name_length, memory_order_release);
        EB_TEST_POINT(note_named);
    }
    int before = holding(entry);
    eb_note_value *value = &entry->values[!before];
    atomic_store(&value->number, 0); /* before anything of it is written over */
    value->committed = committed;
    value->length = note->length;
    memcpy(value->bytes, note->bytes, note->length);
    EB_TEST_POINT(note_written);
    atomic_store_explicit(&value->number, number_of(entry, before) + 1, memory_order_release);
    EB_TEST_POINT(note_numbered);
    return EB_OK;
}

/* EB_NOTHING when there is none of the name. */
int eb_note_find(eb_ring *ring, eb_note *note)
{
    eb_note_entry *entry;
    int status = find(ring, note, &entry);
    if (status != EB_OK) return status == EB_TABLE_FULL ? EB_NOTHING : status;
    const eb_note_value *value = &entry->values[holding(entry)];
    uint32_t length = value->length;
    if (atomic_load_explicit(&entry->name_length, memory_order_relaxed) == 0 || number_of(entry, holding(entry)) == 0)
        return EB_NOTHING;
    if (length > EB_NOTE_LIMIT) return eb_damaged("a note has an impossible length");
    memcpy(note->bytes, value->bytes, length);
    note->length = length;
    return EB_OK;
}

/* After the death of the lock's owner: what it noted of events that it did not commit never holds. That is one value at
 * most, so this is one store, between the test points around the repair. */
void eb_notes_repair(eb_ring *ring)
{
    uint64_t committed = atomic_load(&ring->header->committed);
    for (uint32_t i = 0; i < 2 * EB_NOTES; i++) {
        eb_note_value *value = &ring->header->notes[i / 2].values[i % 2];
        if ((int64_t)(value->committed - committed) <= 0 || atomic_load(&value->number) == 0) continue;
        atomic_store(&value->number, 0);
    }
}
