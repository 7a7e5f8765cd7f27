/* Events that say who sent them and check themselves, and who listens to them: no order or count is taken on trust. */
#ifndef EVENTBUS_PAYLOAD_H
#define EVENTBUS_PAYLOAD_H

#include "scene.h"

enum { PUBLISHERS = 3, TOPICS = 4, FILLER = 900, EVENT_ROOM = FILLER + 64 };

/* splitmix64 */
static inline uint64_t draw(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15ull;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ull;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebull;
    return word ^ (word >> 31);
}

/* "publisher,counter,"filler"": what the filler is, and how it travels, follows from the two numbers. */
static inline size_t body_of(unsigned publisher, uint64_t counter, char *body)
{
    uint64_t state = (uint64_t)publisher << 56 ^ counter;
    bool long_one = draw(&state) % 16 == 0;
    uint64_t length = draw(&state) % (long_one ? FILLER : 60);
    char *at = body + sprintf(body, "%u,%llu,\"", publisher, (unsigned long long)counter);
    for (uint64_t i = 0; i < length; i++)
        *at++ = (char)('a' + (draw(&state) & 15));
    *at++ = '"';
    return (size_t)(at - body);
}

typedef enum { TEXT, RAW, NAMED } travel;

static inline travel travel_of(unsigned publisher, uint64_t counter)
{
    return (travel[]){TEXT, TEXT, RAW, RAW, TEXT, NAMED, RAW, TEXT}[(publisher + counter * 5) % 8];
}

/* Appends one event; its bytes begin at `bytes`, whose end is returned. */
static inline char *compose(eb_outgoing *event, char *bytes, unsigned publisher, uint64_t counter)
{
    travel how = travel_of(publisher, counter);
    *event = (eb_outgoing){.topic = (uint32_t)(counter % TOPICS)};
    if (how == RAW) {
        event->path_length = 2;
        memcpy(bytes, "/p", 2);
        event->body_length = (uint32_t)body_of(publisher, counter, bytes + 2);
        return bytes + 2 + event->body_length;
    }
    if (how == NAMED) {
        *event = (eb_outgoing){.topic = EB_INLINE, .system_length = 3, .kind_length = 2};
        memcpy(bytes, "sysk9", 5);
        bytes += 5;
    }
    size_t length = body_of(publisher, counter, bytes + 1);
    bytes[0] = '[';
    bytes[length + 1] = ']';
    event->body_length = (uint32_t)length + 2;
    return bytes + event->body_length;
}

typedef struct {
    eb_subscription *sub;
    uint64_t from; /* the first sequence that it owes an account of */
    uint64_t last, received;
    uint64_t next[PUBLISHERS]; /* 0 before the first */
} listener;

static inline void expect_event(listener *me, const char *text, const char *end, uint64_t sequence, bool gapless)
{
    char expected[EVENT_ROOM], *rest;
    unsigned publisher = (unsigned)strtoul(text, &rest, 10);
    CHECK("an event names one of the publishers", publisher < PUBLISHERS && *rest == ',');
    uint64_t counter = strtoull(rest + 1, NULL, 10);
    size_t length = body_of(publisher, counter, expected);
    CHECK("its bytes are what they say", length == (size_t)(end - text) && memcmp(text, expected, length) == 0);
    CHECK("sequences only grow", sequence > me->last);
    CHECK("each publisher's events come in order", me->next[publisher] <= counter);
    if (gapless && me->last > 0) CHECK("no sequence is missing", sequence == me->last + 1);
    if (gapless && me->next[publisher] > 0) CHECK("no event is missing", counter == me->next[publisher]);
    me->next[publisher] = counter + 1;
    me->last = sequence;
    me->received++;
}

static inline void check_batch(listener *me, uint32_t count, bool gapless)
{
    const eb_batch *batch = eb_batch_of(me->sub);
    const char *text = batch->buffer + 1;
    uint32_t besides = 0, texts = 0;
    for (uint32_t i = 0; i < count; i++) {
        const eb_beside *beside = besides < batch->head.beside_count ? &batch->beside[besides] : NULL;
        if (beside && beside->index == i) besides++;
        else beside = NULL;
        if (beside && beside->path_length > 0) {
            const char *raw = batch->buffer + beside->offset + beside->path_length;
            expect_event(me, raw, raw + beside->data_length, batch->sequence[i], gapless);
            continue;
        }
        if (beside) CHECK("names travel with their event", !memcmp(batch->buffer + beside->offset, "sysk9", 5));
        const char *end = batch->buffer + batch->text_end[texts++];
        expect_event(me, text, end, batch->sequence[i], gapless);
        text = end + 2; /* a comma and a line break */
    }
    CHECK("nothing else is in the batch", texts == batch->head.json_count && besides == batch->head.beside_count);
}

#endif
