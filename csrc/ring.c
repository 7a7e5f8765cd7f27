/* Claim, commit, read, topics: pure memory, no system call. Who writes here holds the publish lock. */
#include "internal.h"

#define BODY_BITS 0xFFFFFFFFull
#define LARGE_BYTES 4096u
#define SENDER_MASK ((1u << EB_SENDER_BITS) - 1)
#define EXTENSION_SHIFT EB_SENDER_BITS
#define EXTENSION_MASK ((1u << EB_EXTENSION_BITS) - 1)
#define PATH_SHIFT (EB_SENDER_BITS + EB_EXTENSION_BITS)
#define PATH_MASK ((1u << EB_PATH_BITS) - 1)

static uint64_t block_of(const eb_ring *ring, uint64_t parked)
{
    return (parked & ~(EB_PARKING_BLOCK - 1)) % ring->parking_bytes;
}

/* A damaged position gives some offset inside of the data, aligned like every other; a parked one, the begin of a block. */
static uint64_t offset_of(const eb_ring *ring, uint64_t position)
{
    if (position & EB_PARKED) return 2 * ring->capacity + block_of(ring, position);
    return (ring->mask ? position & ring->mask : position % ring->capacity) & ~7ull; /* a division is worth avoiding */
}

static eb_u64 *word_at(const eb_ring *ring, uint64_t position)
{
    return (eb_u64 *)(void *)(ring->data + offset_of(ring, position));
}

/* What stands before the body: names, extension and path. */
uint64_t eb_head_bytes(const eb_outgoing *event)
{
    return (uint64_t)event->system_length + event->kind_length + event->extension_length + event->path_length;
}

/* Names and brackets: an inline record keeps its opening bracket, because it stands between the names and the text. */
static uint64_t skipped(const eb_outgoing *event)
{
    return event->path_length == 0 && event->topic != EB_INLINE ? 1 : 0;
}

static uint64_t stored_bytes(const eb_outgoing *event)
{
    uint64_t all = eb_head_bytes(event) + event->body_length;
    return event->path_length == 0 ? all - 1 - skipped(event) : all;
}

uint64_t eb_ring_record_bytes(const eb_outgoing *event)
{
    return EB_RECORD_BYTES(stored_bytes(event));
}

/* Of a record that is committed or being overwritten; 0 when it cannot be one. */
static uint64_t record_bytes(const eb_ring *ring, uint64_t position, uint64_t limit)
{
    uint64_t word = atomic_load_explicit(word_at(ring, position) + EB_WORD_TOPIC, memory_order_acquire);
    uint64_t bytes = EB_RECORD_BYTES(word & BODY_BITS);
    return bytes <= limit ? bytes : 0;
}

/* Moves `oldest` past what `need` bytes from `committed` will overwrite. */
int eb_ring_room(eb_ring *ring, uint64_t committed, uint64_t need)
{
    uint64_t oldest = atomic_load_explicit(&ring->header->oldest, memory_order_relaxed); /* only written by us */
    if (committed % 8 != 0) return eb_damaged("the committed position is impossible");   /* or it names the parking */
    if (committed - oldest > ring->capacity) return eb_damaged("the oldest position is impossible");
    if (committed + need - oldest <= ring->capacity) return EB_OK;
    while (committed + need - oldest > ring->capacity) {
        uint64_t bytes = record_bytes(ring, oldest, committed - oldest);
        if (bytes == 0) return eb_damaged("a record has an impossible length");
        oldest += bytes;
    }
    /* [lap]: the record words release it; and it releases the sequence that stands where it points to, which the commit
     * before may have just written, to those who go on from there. */
    atomic_store_explicit(&ring->header->oldest, oldest, memory_order_release);
    EB_TEST_POINT(oldest_moved);
    return EB_OK;
}

/* Words stored with release: a reader that sees one of them also sees the `oldest` stored before. [lap] On x86 every
 * store does that, of whatever width and also in a string instruction, as long as the compiler keeps the order (Intel,
 * Software Developer's Manual, volume 3, "Memory Ordering"), and memcpy is twice as fast with large events. A race
 * detector gets to see the words. */
static void store_bytes(eb_u64 *to, const char *from, uint64_t length)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    atomic_signal_fence(memory_order_release);
    if (length >= LARGE_BYTES) __builtin_ia32_sfence(); /* memcpy may go past the caches then, in no order */
    memcpy(to, from, length);
    return;
#endif
    for (; length >= 8; length -= 8, from += 8) {
        uint64_t word;
        memcpy(&word, from, 8);
        atomic_store_explicit(to++, word, memory_order_release);
    }
    if (length > 0) {
        uint64_t word = 0;
        memcpy(&word, from, length);
        atomic_store_explicit(to, word, memory_order_release);
    }
}

/* Two runs of bytes, one after the other: the word in which they meet is put together first. */
static void store_both(eb_u64 *to, const char *head, uint64_t head_length, const char *body, uint64_t body_length)
{
    uint64_t whole = head_length & ~7ull, rest = head_length - whole;
    store_bytes(to, head, whole);
    to += whole / 8;
    if (rest > 0) {
        char seam[8] = {0};
        uint64_t part = body_length < 8 - rest ? body_length : 8 - rest;
        memcpy(seam, head + whole, rest);
        memcpy(seam + rest, body, part);
        store_bytes(to++, seam, 8);
        body += part;
        body_length -= part;
    }
    store_bytes(to, body, body_length);
}

/* `head` is what stands before the body. The first record's sequence word was written by the commit before; writing the
 * same value again hurts nobody. */
void eb_ring_write(eb_ring *ring, uint64_t position, uint64_t sequence, uint64_t time, uint32_t sender,
                   const eb_outgoing *event, const char *head, const char *body)
{
    eb_u64 *words = word_at(ring, position);
    uint64_t topic = stored_bytes(event) | (uint64_t)event->topic << 32 | (uint64_t)event->system_length << 56;
    uint64_t from = (sender & SENDER_MASK) | (uint64_t)event->extension_length << EXTENSION_SHIFT |
                    (uint64_t)event->path_length << PATH_SHIFT | (uint64_t)event->kind_length << 56;
    atomic_store_explicit(words + EB_WORD_SEQUENCE, sequence, memory_order_release);
    atomic_store_explicit(words + EB_WORD_TIME, time, memory_order_release);
    atomic_store_explicit(words + EB_WORD_TOPIC, topic, memory_order_release);
    atomic_store_explicit(words + EB_WORD_SENDER, from, memory_order_release);
    EB_TEST_POINT(publish_header);
    uint64_t before = eb_head_bytes(event);
    store_both(words + EB_HEADER_WORDS, head, before, body + skipped(event), stored_bytes(event) - before);
}

uint64_t eb_ring_sequence_at(const eb_ring *ring, uint64_t position)
{
    return atomic_load_explicit(word_at(ring, position) + EB_WORD_SEQUENCE, memory_order_acquire);
}

void eb_ring_commit(eb_ring *ring, uint64_t committed, uint64_t next_sequence)
{
    atomic_store_explicit(word_at(ring, committed) + EB_WORD_SEQUENCE, next_sequence, memory_order_release);
    EB_TEST_POINT(publish_copied);
    atomic_store(&ring->header->committed, committed); /* [commit] [wake] [gate] */
}

/* Only the holder of the publish lock adds, so a load and a store are enough; readers want a figure, not an order. */
void eb_ring_count(eb_ring *ring, uint32_t topic, uint64_t position)
{
    bool named = topic == EB_INLINE;
    eb_u64 *count = named ? &ring->header->inline_count : &ring->header->topics[topic].count;
    atomic_store_explicit(named ? &ring->header->inline_last : &ring->header->topics[topic].last, position,
                          memory_order_relaxed);
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
    EB_TEST_POINT(event_counted);
}

/* Whether a record of the topic whose words these are begins at or after `position`. */
bool eb_sent_since(uint64_t position, const eb_u64 *count, const eb_u64 *last)
{
    if (atomic_load_explicit(count, memory_order_relaxed) == 0) return false;
    return (int64_t)(atomic_load_explicit(last, memory_order_relaxed) - position) >= 0;
}

static uint32_t topics_of(const eb_ring *ring)
{
    uint32_t count = atomic_load_explicit(&ring->header->topic_count, memory_order_acquire); /* [topic] */
    return count < EB_TOPICS ? count : EB_TOPICS;
}

static uint64_t counted(const eb_ring *ring)
{
    uint64_t sum = atomic_load_explicit(&ring->header->inline_count, memory_order_relaxed);
    for (uint32_t i = 0; i < topics_of(ring); i++)
        sum += atomic_load_explicit(&ring->header->topics[i].count, memory_order_relaxed);
    return sum;
}

/* Walks the records kept; each whose sequence is at least `from` is counted if `count`. */
static int walk(const eb_ring *ring, uint64_t from, eb_ring *count)
{
    uint64_t committed = atomic_load(&ring->header->committed);
    uint64_t position = atomic_load(&ring->header->oldest);
    if (committed - position > ring->capacity || position % 8 != 0) return eb_damaged("the positions are impossible");
    uint64_t expected = eb_ring_sequence_at(ring, position);
    while (position != committed) {
        eb_record record;
        int status = eb_ring_read(ring, position, committed, &record);
        if (status != EB_OK) return status;
        if (record.sequence != expected++) return eb_damaged("the sequence of the records is broken");
        if (count && record.sequence >= from) eb_ring_count(count, record.topic, position);
        position += record.bytes;
    }
    return eb_ring_sequence_at(ring, position) == expected ? EB_OK : eb_damaged("the next sequence is wrong");
}

int eb_ring_verify(const eb_ring *ring)
{
    return walk(ring, 0, NULL);
}

/* After the death of the lock's owner. Whatever it wrote past `committed` is nobody's; what may lack is the counting of
 * the last events, whose number is the difference of two sums. Counting may be cut short and done again. */
int eb_ring_repair(eb_ring *ring)
{
    uint64_t next = eb_ring_sequence_at(ring, atomic_load(&ring->header->committed));
    eb_notes_repair(ring);
    uint64_t missing = next - 1 - counted(ring);
    if (missing == 0) return EB_OK;
    if (missing > next) return eb_damaged("the topic counters are ahead of the sequence");
    return walk(ring, next - missing, ring);
}

bool eb_ring_lapped(const eb_ring *ring, uint64_t position)
{
    uint64_t oldest = atomic_load_explicit(&ring->header->oldest, memory_order_acquire); /* [lap] */
    return (int64_t)(oldest - position) > 0;
}

/* The oldest record and its sequence, read so that they belong together. */
void eb_ring_oldest(const eb_ring *ring, uint64_t *position, uint64_t *sequence)
{
    do {
        *position = atomic_load_explicit(&ring->header->oldest, memory_order_acquire);
        *sequence = eb_ring_sequence_at(ring, *position);
    } while (eb_ring_lapped(ring, *position));
}

/* Everything a header says is bounded here; `committed - position` must be at most the capacity, or what the parking has
 * from there on. */
int eb_ring_read(const eb_ring *ring, uint64_t position, uint64_t committed, eb_record *record)
{
    eb_u64 *words = word_at(ring, position);
    record->sequence = atomic_load_explicit(words + EB_WORD_SEQUENCE, memory_order_acquire); /* [lap] */
    record->time = atomic_load_explicit(words + EB_WORD_TIME, memory_order_acquire);
    uint64_t topic = atomic_load_explicit(words + EB_WORD_TOPIC, memory_order_acquire);
    uint64_t from = atomic_load_explicit(words + EB_WORD_SENDER, memory_order_acquire);
    record->stored = (uint32_t)topic;
    record->bytes = EB_RECORD_BYTES(record->stored);
    record->topic = (topic >> 32) & EB_INLINE;
    record->system_length = topic >> 56;
    record->sender = from & SENDER_MASK;
    record->extension_length = (from >> EXTENSION_SHIFT) & EXTENSION_MASK;
    record->path_length = (from >> PATH_SHIFT) & PATH_MASK;
    record->kind_length = from >> 56;
    uint64_t most = committed - position;
    if (position & EB_PARKED) {
        uint64_t there = ring->parking_bytes - block_of(ring, position);
        if (there < most) most = there;
    }
    if (record->bytes > most) return eb_damaged("a record has an impossible length");
    if (record->topic != EB_INLINE && record->topic >= EB_TOPICS) return eb_damaged("a record has an impossible topic");
    uint64_t names = (uint64_t)record->system_length + record->kind_length;
    if ((record->topic == EB_INLINE) != (names != 0)) return eb_damaged("a record has misplaced names");
    if (record->path_length > EB_PATH_LIMIT || names + record->extension_length + record->path_length > record->stored)
        return eb_damaged("a record's names are longer than itself");
    return EB_OK;
}

/* With `shared`, a publisher may be overwriting what is read: whole words, and the caller looks for a lap afterwards.
 */
void eb_ring_copy(const eb_ring *ring, uint64_t position, uint64_t skip, char *to, uint64_t length, bool shared)
{
    const char *body = ring->data + offset_of(ring, position) + EB_HEADER_BYTES;
    if (!shared) {
        memcpy(to, body + skip, length);
        return;
    }
    while (length > 0) {
        uint64_t inside = skip % 8, part = 8 - inside < length ? 8 - inside : length;
        uint64_t word = atomic_load_explicit((const eb_u64 *)(const void *)(body + skip - inside),
                                             memory_order_acquire); /* [lap] */
        if (part == 8) memcpy(to, &word, 8);
        else memcpy(to, (const char *)&word + inside, part);
        to += part;
        skip += part;
        length -= part;
    }
}

/* Copies a whole record to an offset of the parking that nobody uses, but members of a group that was removed meanwhile. */
void eb_ring_park(eb_ring *ring, uint64_t position, uint64_t offset, uint64_t bytes)
{
    store_bytes(word_at(ring, offset | EB_PARKED), ring->data + offset_of(ring, position), bytes);
}

/* The way back, as the record of another event, whose sequence word was written by the commit before. */
void eb_ring_unpark(eb_ring *ring, uint64_t place, uint64_t position, uint64_t sequence, uint64_t time, uint64_t bytes)
{
    eb_u64 *from = word_at(ring, place), *to = word_at(ring, position);
    atomic_store_explicit(to + EB_WORD_SEQUENCE, sequence, memory_order_release);
    atomic_store_explicit(to + EB_WORD_TIME, time, memory_order_release);
    store_bytes(to + EB_WORD_TOPIC, (const char *)(from + EB_WORD_TOPIC), bytes - EB_WORD_TOPIC * 8);
}

/* The extension begins with it, or with the mark behind it. */
bool eb_ring_has_origin(const eb_ring *ring, uint64_t position, const eb_record *record)
{
    char first;
    if (record->extension_length == 0) return false;
    eb_ring_copy(ring, position, (uint64_t)record->system_length + record->kind_length, &first, 1, true);
    return (unsigned char)first != EB_EXTENSION_MARK;
}

static const char *topic_text(const eb_ring *ring, uint32_t topic, size_t *system_length, size_t *kind_length)
{
    const eb_topic_entry *entry = &ring->header->topics[topic];
    *system_length = entry->system_length;
    *kind_length = entry->kind_length;
    uint32_t offset = entry->name_offset; /* once: what is checked is what is used */
    return offset <= EB_HEAP_BYTES - *system_length - *kind_length ? ring->header->heap + offset : NULL;
}

/* The first topic from number `from` on that was sent to at or after `position`; EB_TOPICS for none. */
uint32_t eb_ring_sent_to(const eb_ring *ring, uint64_t position, uint32_t from)
{
    uint32_t topics = topics_of(ring);
    const eb_topic_entry *entries = ring->header->topics;
    while (from < topics && !eb_sent_since(position, &entries[from].count, &entries[from].last))
        from++;
    return from < topics ? from : EB_TOPICS;
}

/* The number of the topic, or EB_NOTHING. Entries before `from` are known not to be it. */
int eb_ring_topic_find(const eb_ring *ring, uint32_t from, const char *names, size_t system_length, size_t kind_length)
{
    for (uint32_t i = from; i < topics_of(ring); i++) {
        size_t system, kind;
        const char *text = topic_text(ring, i, &system, &kind);
        if (!text) return eb_damaged("a topic's name lies outside of the table");
        if (system == system_length && kind == kind_length && memcmp(text, names, system + kind) == 0) return (int)i;
    }
    return EB_NOTHING;
}

/* Whether the table may still have room for names of this length: what it has not any more it never has again. */
bool eb_ring_topic_fits(const eb_ring *ring, size_t length)
{
    uint32_t count = topics_of(ring);
    if (count == 0 || count == EB_TOPICS) return count == 0;
    const eb_topic_entry *last = &ring->header->topics[count - 1];
    uint64_t used = (uint64_t)last->name_offset + last->system_length + last->kind_length;
    return used + length <= EB_HEAP_BYTES;
}

/* Under the publish lock. Killed before the last store, the entry is not there and its bytes are used again. */
int eb_ring_topic_add(eb_ring *ring, const char *names, size_t system_length, size_t kind_length)
{
    uint32_t count = topics_of(ring);
    uint64_t used = 0;
    if (count > 0) {
        size_t system, kind;
        if (!topic_text(ring, count - 1, &system, &kind)) return eb_damaged("a topic's name lies outside of the table");
        used = ring->header->topics[count - 1].name_offset + system + kind;
    }
    if (count == EB_TOPICS || used + system_length + kind_length > EB_HEAP_BYTES) return EB_TABLE_FULL;
    eb_topic_entry *entry = &ring->header->topics[count];
    memcpy(ring->header->heap + used, names, system_length + kind_length);
    entry->name_offset = (uint32_t)used;
    entry->system_length = (uint8_t)system_length;
    entry->kind_length = (uint8_t)kind_length;
    EB_TEST_POINT(topic_written);
    atomic_store_explicit(&ring->header->topic_count, count + 1, memory_order_release); /* [topic] */
    EB_TEST_POINT(topic_shown);
    return (int)count;
}

/* Writes system and kind into `names` (512 bytes), one after the other. */
int eb_ring_topic_names(const eb_ring *ring, uint32_t topic, char *names, uint32_t *lengths)
{
    if (topic >= topics_of(ring)) return eb_damaged("a record has a topic that is not in the table");
    size_t system, kind;
    const char *text = topic_text(ring, topic, &system, &kind);
    if (!text) return eb_damaged("a topic's name lies outside of the table");
    memcpy(names, text, system + kind);
    lengths[0] = (uint32_t)system;
    lengths[1] = (uint32_t)kind;
    return EB_OK;
}
