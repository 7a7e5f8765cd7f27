/* Looking at raw data in a ring that is damaged while they are looked at, by subscribers and by members of a group: the input
 * is a program of damages and calls, as in fuzz_receive.c. Whatever it is, a view shows no more than the ring, and its bytes
 * can be read for as long as somebody has it; what became a copy is what it was then, and all is while nothing is damaged. */
#include "claimed.h"

#include "views.h"

#define RING (24u * 1024u)
#define LARGEST 5500u
#define SLOTS 6u

enum { LATE, EARLY, MEMBER, MANUAL, VIEWERS, KEPT = 12, STEPS = 200 };

typedef struct {
    eb_view *view; /* NULL: none */
    uint64_t length;
    bool copied, seen;
    uint64_t sum; /* then */
} keepsake;

static prepared buses[2];
static eb_subscription *subs[VIEWERS];
static uint64_t asking[VIEWERS]; /* for what comes from this sequence on */
static keepsake kept[KEPT];
static bool damaged; /* anything, by now */

/* --- the bus --- */

static void send_raw(eb_bus *to, uint32_t length, unsigned seed)
{
    static char data[LARGEST];
    for (uint32_t i = 0; i < length; i++)
        data[i] = (char)(i * 7 + seed);
    known(eb_send_raw(&(eb_route){.bus = to, .topic = 0}, "/path", 5, data, length));
}

static int make_group(eb_bus *to)
{
    eb_group_terms terms = {.system = "a", .kind = "**", .name = "g", .start = EB_OLDEST, .max_deliveries = 3};
    return eb_group_create(to, &terms, EB_POLL);
}

static prepared prepare(uint64_t position)
{
    scene live = scene_of(RING, SLOTS, position, 1);
    make_topics(live.bus, 1);
    for (unsigned i = 0; i < 7; i++)
        send_raw(live.bus, LARGEST - 500 - i * 100, i);
    EQUAL("a group can be made", make_group(live.bus), 0);
    return prepared_of(live);
}

/* --- what must hold --- */

static uint64_t sum_of(const char *data, uint64_t length)
{
    uint64_t sum = length;
    for (uint64_t i = 0; i < length; i++)
        sum = sum * 31 + (unsigned char)data[i];
    return sum;
}

static bool is_protected(const eb_view *view)
{
    for (const eb_view *one = view->of->first; one; one = one->next)
        if (one == view) return true;
    return false;
}

/* What nobody's cursor protects any more, and somebody looks at, is a copy. */
static void look_at_all(void)
{
    for (int i = 0; i < KEPT; i++) {
        keepsake *one = &kept[i];
        if (!one->view) continue;
        uint64_t sum = sum_of(eb_view_data(one->view), one->length);
        if (one->copied) HOLDS("a copy stays what it was", sum == one->sum);
        else if (!is_protected(one->view)) one->copied = true;
        if (!damaged) HOLDS("what is protected stays what it was", !one->seen || sum == one->sum);
        one->seen = true;
        one->sum = sum;
    }
}

/* --- what the input asks for --- */

static uint64_t token_of(unsigned holder, uint64_t number)
{
    if (holder < MEMBER || holder > MANUAL) return number;
    return subs[holder] ? subs[holder]->token : 0;
}

/* The header of the record that is read next: any of it, or how many bytes it says that follow. */
static void damage_next(input *from, const eb_subscription *sub)
{
    if (!sub) return;
    char *header = bus->ring.data + atomic_load(&sub->position) % RING / 8 * 8;
    unsigned how = take_byte(from);
    uint32_t stored = (uint32_t)take_bytes(from, 2) % (2 * RING);
    if (how % 2) memcpy(header + EB_WORD_TOPIC * 8, &stored, sizeof stored);
    else damage_bytes(from, header, 1 + how / 2 % 8, EB_HEADER_BYTES);
}

static void damage(input *from)
{
    unsigned what = take_byte(from);
    eb_slot_t *slot = &bus->roster.header->slots[what / 16 % SLOTS];
    damaged = true;
    switch (what % 8) {
    case 0: damage_header(from); break;
    case 1: damage_bytes(from, bus->ring.data, 8, RING); break;
    case 2: damage_bytes(from, slot, 8, sizeof *slot); break;
    case 3: atomic_store(&slot->cursor, take_position(from)); break;
    case 4: damage_group(from); break;
    case 5: damage_claim(from); break;
    case 6: atomic_fetch_xor(&slot->owner, take_byte(from) % 4 ? EB_SLOT_GATED : 1ull << take_byte(from) % 64); break;
    default: damage_next(from, subs[what / 16 % VIEWERS]);
    }
}

static void join_anew(unsigned which)
{
    eb_terms terms = {.system = "a",
                      .kind = "**",
                      .name = "fuzz",
                      .start = which == LATE ? EB_LATEST : EB_OLDEST,
                      .gated = which < MEMBER,
                      .group = which < MEMBER ? NULL : "g",
                      .manual = which == MANUAL,
                      .views = 1};
    int status = EB_OK;
    subs[which] = subscribe(bus, &terms, EB_POLL, &status);
    asking[which] = 0;
    known(status);
    HOLDS("a subscription or a reason", (subs[which] != NULL) == (status == EB_OK));
    if (subs[which]) eb_decide(subs[which], 0, 1);
}

static void part(unsigned which, bool dead)
{
    if (!subs[which]) return;
    if (dead) {
        eb_views_end(subs[which]); /* as the memory of a process ends */
        die_with(subs[which]);
    } else {
        eb_unsubscribe(subs[which]);
    }
    eb_subscription_free(subs[which]);
    subs[which] = NULL;
}

static void keep(const eb_beside *beside)
{
    int i = 0;
    while (i < KEPT && kept[i].view)
        i++;
    if (i == KEPT || eb_view_export(beside->view) != EB_OK) return;
    eb_view_hold(beside->view);
    kept[i] = (keepsake){.view = beside->view, .length = beside->data_length};
}

static void let_go(unsigned which)
{
    keepsake *one = &kept[which % KEPT];
    if (!one->view) return;
    eb_view_exported(one->view);
    eb_view_release(one->view);
    one->view = NULL;
}

/* As Python does it: what came is lent, and some of it kept. */
static void receive_some(input *from, unsigned which, int64_t deadline)
{
    int limit = 1 + (int)(take_byte(from) % 8), count = receive(subs[which], limit, deadline);
    unsigned chosen = take_byte(from);
    const eb_batch *batch = eb_batch_of(subs[which]);
    if (count <= 0) return;
    for (int i = 0; i < count; i++)
        if (batch->sequence[i] >= asking[which]) asking[which] = batch->sequence[i] + 1;
    if (eb_views_lend(subs[which], asking[which]) != EB_OK) return;
    for (uint32_t i = 0; i < batch->head.beside_count; i++) {
        const eb_beside *beside = &batch->beside[i];
        if (!beside->view) continue;
        const char *window = eb_window_at(beside->view->window, 0);
        HOLDS("it lies in the window", beside->data >= window && beside->data <= window + 2 * RING);
        HOLDS("and ends there", beside->data_length <= (uint64_t)(window + 2 * RING - beside->data));
        HOLDS("it is no larger than the ring", beside->data_length <= RING);
        touched(beside->data, beside->data_length);
        if (chosen >> i % 8 & 1) keep(beside);
    }
}

static void finish(input *from, eb_subscription *sub)
{
    unsigned how = take_byte(from);
    if (how % 4 == 0) known(eb_ack(sub));
    else if (how % 4 < 3) known(eb_ack_event(sub, take_sequence(from, sub)));
    else give_back(from, sub);
}

static void call(input *from)
{
    unsigned what = take_byte(from), which = what / 16 % VIEWERS;
    eb_subscription *sub = subs[which];
    switch (what % 16) {
    case 0: look_around(bus); return;
    case 1:
    case 2: send_raw(bus, (uint32_t)take_bytes(from, 2) % LARGEST, what); return;
    case 3: send_raw(bus, 4096, what); return;
    case 4: known(eb_bus_reap(bus, EB_POLL)); return;
    case 5: let_go(take_byte(from)); return;
    case 6:
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            eb_viewed_by(bus, slot);
        if (take_byte(from) % 4 == 0)
            known(eb_group_find(bus, "g") < 0 ? make_group(bus) : eb_group_remove(bus, "g", EB_POLL));
        return;
    case 7: part(which, take_byte(from) % 2); return;
    case 8:
        if (!sub) join_anew(which);
        return;
    default: break;
    }
    if (!sub) return;
    switch (what % 16) {
    case 9: eb_views_part(sub); return;
    case 10:
    case 11:
        eb_views_asked(sub, asking[which]);
        if (which >= MEMBER) finish(from, sub);
        return;
    case 12: receive_some(from, which, eb_now() + 20000); return;
    default: receive_some(from, which, EB_POLL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    input from = {.at = bytes, .left = length};
    if (!buses[0].ring) {
        buses[0] = prepare(0);
        buses[1] = prepare((uint64_t)0 - RING);
    }
    restore(&buses[take_byte(&from) % 2]);
    damaged = false;
    for (unsigned i = 0; i < VIEWERS; i++)
        join_anew(i);
    for (int step = 0; from.left > 0 && step < STEPS; step++) {
        if (take_byte(&from) % 4 == 0) damage(&from);
        else call(&from);
        look_at_all();
    }
    for (unsigned i = 0; i < VIEWERS; i++)
        part(i, false);
    look_at_all();
    for (unsigned i = 0; i < KEPT; i++)
        let_go(i);
    return 0;
}
