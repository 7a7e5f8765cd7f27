/* Receiving from a bus that is damaged while it is used: the input is a program of damages and calls. Whatever it is,
 * each call ends with a status, and a batch is what eventbus.h says. */
#include "claimed.h"

#include "sending.h"

#define SLOTS 8u
#define GROUP "g"

enum { GATED, DROPPING, MEMBER, OTHER_MEMBER, MANUAL, SUBSCRIPTIONS, STEPS = 200 };

static prepared buses[2];
static eb_subscription *subs[SUBSCRIPTIONS];

/* --- the bus --- */

static void send_some(eb_bus *to, int count)
{
    eb_outgoing named = {
        .topic = EB_INLINE, .system_length = 1, .kind_length = 2, .extension_length = 1, .body_length = 8};
    for (int i = 0; i < count; i++) {
        put(to, (uint32_t)i % 4, (uint64_t)i);
        eb_send_raw(&(eb_route){.bus = to, .topic = (uint32_t)i % 4}, "/path", 5, "data", 4);
        eb_send_batch(to, &named, 1, "ak9o[\"/\",1]", 12, EB_POLL);
    }
}

/* With events and a group. */
static prepared prepare(uint64_t position)
{
    scene live = scene_of(CAPACITY, SLOTS, position, 1);
    eb_bus *made = live.bus;
    make_topics(made, 4);
    send_some(made, 60);
    eb_group_terms terms = {.system = "a", .kind = "**", .name = GROUP, .start = EB_LATEST, .max_deliveries = 2};
    EQUAL("a group can be made", eb_group_create(made, &terms, EB_POLL), 0);
    send_some(made, 10);
    return prepared_of(live);
}

/* --- what the input asks for --- */

static uint64_t token_of(unsigned holder, uint64_t number)
{
    if (holder < MEMBER || holder > MANUAL) return number;
    return subs[holder] ? subs[holder]->token : 0;
}

/* The header's words, an entry of the timetable, or a record that an entry may mean. */
static void damage_timetable(input *from)
{
    eb_ring_header *ring = bus->ring.header;
    unsigned what = take_byte(from), which = what / 16 % 4;
    uint64_t number = take_position(from);
    eb_u64 *wide[] = {&ring->look, &ring->kept, &ring->overdue, &ring->scheduled};
    char *end = bus->ring.data + 2 * CAPACITY + bus->ring.parking_bytes;
    eb_scheduled *entry = (eb_scheduled *)(void *)(end - (which + 1) * EB_PARKING_BLOCK);
    switch (what % 16) {
    case 0: atomic_store(wide[which], number); break;
    case 1: atomic_store(&ring->scheduled_used, (uint32_t)number); break;
    case 2:
    case 3: atomic_store(&entry->due, take_byte(from) % 2 ? 1 : number); break;
    case 4: atomic_store(&entry->number, number); break;
    case 5:
    case 6: atomic_store(&entry->place, (number % (2 * CAPACITY)) | EB_PARKED); break;
    case 7: atomic_store(&entry->bytes, number); break;
    case 8: atomic_store(&entry->intended, number | EB_INTENDED); break;
    case 9: atomic_store(&ring->look, 1); break;
    default: damage_bytes(from, bus->ring.data + 2 * CAPACITY, 8, bus->ring.parking_bytes);
    }
}

static void damage(input *from)
{
    eb_ring_header *ring = bus->ring.header;
    eb_roster_header *roster = bus->roster.header;
    eb_slot_t *slot;
    switch (take_byte(from) % 8) {
    case 0: damage_header(from); break;
    case 1: damage_bytes(from, bus->ring.data, 8, CAPACITY); break;
    case 2:
        switch (take_byte(from) % 4) {
        case 3: damage_bytes(from, ring->notes, 8, 2 * sizeof *ring->notes); break;
        case 2: damage_timetable(from); break;
        default: damage_bytes(from, ring->topics, 8, 8 * sizeof *ring->topics);
        }
        break;
    case 3: /* past the signature, which was checked when the bus was opened */
        damage_bytes(from, &roster->persist, 8,
                     offsetof(eb_roster_header, groups) - offsetof(eb_roster_header, persist));
        break;
    case 4:
        slot = &roster->slots[take_byte(from) % SLOTS];
        damage_bytes(from, slot, 8, sizeof *slot);
        break;
    case 5: damage_group(from); break;
    default: damage_claim(from);
    }
}

static void join_anew(unsigned which)
{
    eb_terms terms = {.system = "a",
                      .kind = "**",
                      .name = "fuzz",
                      .start = EB_OLDEST,
                      .gated = which == GATED,
                      .local = which == OTHER_MEMBER,
                      .manual = which == MANUAL};
    int status = EB_OK;
    if (which >= MEMBER) terms.group = GROUP;
    subs[which] = subscribe(bus, &terms, EB_POLL, &status);
    known(status);
    HOLDS("a subscription or a reason", (subs[which] != NULL) == (status == EB_OK));
    for (uint32_t topic = 0; subs[which] && topic < 4; topic++)
        if (topic != 2) eb_decide(subs[which], topic, topic != 3);
}

static void part(unsigned which, bool dead)
{
    if (!subs[which]) return;
    if (dead) die_with(subs[which]);
    else eb_unsubscribe(subs[which]);
    eb_subscription_free(subs[which]);
    subs[which] = NULL;
}

static void count_backlog(eb_subscription *sub)
{
    eb_walk walk = {.count = 0};
    int status, asked = 0;
    while ((status = known(eb_backlog(sub, &walk))) == EB_UNDECIDED) {
        HOLDS("it asks about each record once", ++asked <= (int)(CAPACITY / EB_HEADER_BYTES) + EB_TOPICS);
        HOLDS("names fit", walk.system_length + walk.kind_length <= sizeof walk.names);
        if (walk.undecided == EB_INLINE) walk.count++;
        else known(eb_decide(sub, walk.undecided, 1));
    }
    if (status == EB_OK) HOLDS("no more waits than the ring holds", walk.count <= CAPACITY / EB_HEADER_BYTES);
}

static void send(input *from)
{
    char bytes[1024] = "[\"/path\",[1]]";
    uint32_t length = 13 + (uint32_t)take_bytes(from, 2) % 1000;
    unsigned how = take_byte(from), extension = how / 64;
    eb_outgoing events[2] = {{.topic = EB_INLINE,
                              .system_length = 1,
                              .kind_length = 2,
                              .extension_length = extension,
                              .body_length = length - 3 - extension},
                             {.topic = 1, .extension_length = extension, .path_length = 1, .body_length = 2}};
    eb_route route = {.bus = bus, .topic = how / 8 % 8};
    eb_note note = {.name_length = 1, .length = EB_NOTE_LIMIT, .name = "n"};
    switch (how % 5) {
    case 0:
        memset(bytes + 13, 'x', length - 13);
        known(eb_send(&route, bytes));
        break;
    case 1: known(eb_send_raw(&route, "/path", 5, bytes, length)); break;
    case 2: known(eb_send_batch(bus, events, 1, bytes, length, EB_POLL)); break;
    case 3: known(eb_send_noted(bus, &note, events, 2, bytes, length + 3 + extension, eb_now() + 1000)); break;
    default: known(eb_topic(bus, (char[]){'a', 'k', (char)('0' + take_byte(from) % 16)}, 1, 2, EB_POLL));
    }
}

/* For now, or not before this input is over; or cancels one of the first. */
static void put_down(input *from)
{
    static char bytes[1024];
    unsigned how = take_byte(from);
    uint32_t length = 2 + (uint32_t)take_bytes(from, 2) % 1000;
    eb_outgoing event = {.topic = how / 4 % 8, .body_length = length};
    if (how % 4 == 3) known(eb_cancel(bus, how / 4 % 8, EB_POLL));
    else if (eb_schedule(bus, &event, bytes, length, how % 2 ? eb_now() * 2 : 1, EB_POLL) > 0)
        eb_fire_due(bus, EB_POLL);
}

static void call(input *from)
{
    unsigned what = take_byte(from), which = take_byte(from) % SUBSCRIPTIONS;
    eb_subscription *sub = subs[which];
    int limit = (int)(1 + what / 16 % 16);
    eb_note note = {.name_length = 1, .name = "n"};
    switch (what % 16) {
    case 0: look_around(bus); return;
    case 1: send(from); return;
    case 2:
        known(eb_bus_reap(bus, EB_POLL));
        if (known(eb_note_read(bus, &note, EB_POLL)) == EB_OK) HOLDS("a note fits", note.length <= EB_NOTE_LIMIT);
        return;
    case 3: part(which, take_byte(from) % 2); return;
    case 4:
        if (!sub) join_anew(which);
        return;
    case 5: known(eb_roster_wait(bus, eb_roster_epoch(bus), eb_now() + 1000)); return;
    case 6: known(eb_shutdown(bus, EB_POLL)); return;
    case 12: put_down(from); return;
    default: break;
    }
    if (!sub) return;
    switch (what % 16) {
    case 7: count_backlog(sub); return;
    case 8: known(take_byte(from) % 2 ? eb_ack(sub) : eb_ack_event(sub, take_sequence(from, sub))); return;
    case 9: give_back(from, sub); return;
    case 10: receive(sub, limit, eb_now() + 20000); return;
    case 11: known(eb_decide(sub, (uint32_t)take_bytes(from, 2), 1)); return;
    default: receive(sub, limit, EB_POLL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    input from = {.at = bytes, .left = length};
    if (!buses[0].ring) {
        buses[0] = prepare(0);
        buses[1] = prepare((uint64_t)0 - CAPACITY);
    }
    const prepared *it = &buses[take_byte(&from) % 2];
    restore(it);
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        join_anew(i);
    for (int step = 0; from.left > 0 && step < STEPS; step++)
        if (take_byte(&from) % 2 == 0) damage(&from);
        else call(&from);
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        part(i, false);
    return 0;
}
