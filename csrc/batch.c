/* The batch of a subscription: its buffer, and how records are copied into it. */
#include "views.h"

#include <stdlib.h>

#define BUFFER_BYTES (64u * 1024u)
#define BUFFER_KEPT (1024u * 1024u) /* while there is nothing to read */

eb_batch *eb_batch_of(eb_subscription *sub)
{
    return &sub->batch;
}

int eb_reserve(eb_subscription *sub, uint64_t size)
{
    if (size < BUFFER_BYTES) size = BUFFER_BYTES;
    if (size <= sub->batch.size) return EB_OK;
    char *buffer = realloc(sub->batch.buffer, size);
    if (!buffer) return EB_SYSTEM;
    sub->batch.buffer = buffer;
    sub->batch.size = size;
    return EB_OK;
}

/* What a large event took is given back once nothing more came: until then another one is likely. */
void eb_batch_trim(eb_subscription *sub)
{
    if (sub->batch.size <= BUFFER_KEPT) return;
    char *buffer = realloc(sub->batch.buffer, BUFFER_BYTES);
    if (!buffer) return;
    sub->batch.buffer = buffer;
    sub->batch.size = BUFFER_BYTES;
}

void eb_batch_begin(eb_subscription *sub)
{
    eb_batch *batch = &sub->batch;
    eb_views_forget(sub);
    batch->buffer[0] = '[';
    batch->head = (eb_batch_head){.json_length = 1, .number = batch->head.number};
    sub->beside_used = sub->viewed = 0;
}

void eb_batch_end(eb_batch *batch, uint32_t count)
{
    eb_batch_head *head = &batch->head;
    uint64_t last = head->json_count > 0 ? head->json_length - 2 : 1;
    batch->buffer[last] = ']';
    head->json_length = last + 1;
    if (count == 0) return;
    head->first_sequence = batch->sequence[0];
    head->last_sequence = batch->sequence[count - 1];
}

/* Of its events, without what separates them. */
uint64_t eb_batch_bytes(const eb_subscription *sub)
{
    const eb_batch_head *head = &sub->batch.head;
    uint64_t around = head->json_count > 0 ? 2ull * head->json_count : 2;
    return head->json_length - around + sub->beside_used + sub->viewed;
}

/* What of a record goes into the array and what beside it. */
typedef struct {
    uint64_t names;  /* the first bytes of the body */
    uint64_t skip;   /* bytes of the body before `beside`: the names, once they have a number */
    uint64_t beside; /* names, extension, path and raw data */
    uint64_t text;   /* the JSON text: the last bytes of the body */
} eb_parts;

static eb_parts parts_of(const eb_record *record)
{
    eb_parts parts = {.names = (uint64_t)record->system_length + record->kind_length};
    if (record->topic != EB_INLINE) parts.skip = parts.names;
    if (record->path_length > 0) {
        parts.beside = record->stored - parts.skip;
        return parts;
    }
    uint64_t before =
        parts.names + record->extension_length + (parts.names > 0); /* an inline record keeps its bracket */
    parts.beside = parts.names - parts.skip + record->extension_length;
    parts.text = record->stored > before ? record->stored - before : 0;
    return parts;
}

#define VIEWED_BYTES 4096u /* raw data of fewer is copied sooner than looked at */

/* Raw data that the reader wants to look at where it is. */
static uint64_t to_view(const eb_record *record, const eb_parts *parts)
{
    uint64_t before = parts->names - parts->skip + record->extension_length + record->path_length;
    return record->path_length > 0 && parts->beside - before >= VIEWED_BYTES ? parts->beside - before : 0;
}

static bool fits(eb_subscription *sub, const eb_parts *parts, uint64_t beside)
{
    eb_batch *batch = &sub->batch;
    if (batch->head.json_length + parts->text + 3 + sub->beside_used + beside <= batch->size) return true;
    batch->needed = parts->text + beside + 16;
    return false;
}

static void keep_text(eb_batch *batch, const eb_ring *ring, const eb_record *record, uint64_t position, uint64_t text,
                      bool shared)
{
    eb_batch_head *head = &batch->head;
    eb_ring_copy(ring, position, record->stored - text, batch->buffer + head->json_length, text, shared);
    head->json_length += text;
    batch->text_end[head->json_count++] = head->json_length;
    batch->buffer[head->json_length++] = ',';
    batch->buffer[head->json_length++] = '\n';
}

/* Copies the record as event number `index` of the batch, or where it `looks`, all but the data that are looked at in the ring;
 * the caller counts it in. */
int eb_batch_keep(eb_subscription *sub, const eb_record *record, uint64_t position, uint32_t index, bool shared,
                  bool looks)
{
    eb_batch *batch = &sub->batch;
    const eb_ring *ring = &sub->bus->ring;
    eb_parts parts = parts_of(record);
    uint64_t viewed = sub->views && looks ? to_view(record, &parts) : 0;
    if (!fits(sub, &parts, parts.beside - viewed)) return EB_LARGE;
    eb_view *view = viewed > 0 ? eb_views_add(sub, record, position, viewed) : NULL;
    if (!view) viewed = 0;
    if (!fits(sub, &parts, parts.beside - viewed)) return EB_LARGE;
    batch->sequence[index] = record->sequence;
    batch->time[index] = record->time;
    batch->sender[index] = record->sender;
    batch->topic[index] = record->topic;
    if (record->path_length == 0) keep_text(batch, ring, record, position, parts.text, shared);
    if (parts.beside == 0) return EB_OK;
    sub->beside_used += parts.beside - viewed;
    sub->viewed += viewed;
    uint64_t offset = batch->size - sub->beside_used, named = parts.names - parts.skip;
    batch->beside[batch->head.beside_count++] =
        (eb_beside){.index = index,
                    .system_length = named > 0 ? record->system_length : 0,
                    .kind_length = named > 0 ? record->kind_length : 0,
                    .extension_length = record->extension_length,
                    .path_length = record->path_length,
                    .data_length = parts.beside - named - record->extension_length - record->path_length,
                    .offset = offset,
                    .data = view ? eb_view_data(view) : NULL,
                    .view = view};
    eb_ring_copy(ring, position, parts.skip, batch->buffer + offset, parts.beside - viewed, shared);
    return EB_OK;
}
