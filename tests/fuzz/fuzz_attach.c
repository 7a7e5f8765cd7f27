/* Attaching to segments of any content and size: opened, refused or repaired, never a crash; and what was opened can be
 * looked at, received from and sent to. The first byte says whether the input is the segments themselves, or damages to
 * good ones, and whether the signatures are made right again, so that what lies behind them is met too. */
#include "input.h"

#define SLOTS 4u
#define FILE_LIMIT (1u << 22)

enum { RAW = 1, SIGN_RING = 2, SIGN_ROSTER = 4, READ_ONLY = 8, RESIZE = 16, DAMAGES = 64 };

typedef struct {
    int fd;
    char *bytes;
    uint64_t length;
} image;

static image ring, roster; /* good ones, and a file for each to put the damaged ones in */
static uint64_t committed, oldest;

/* --- signatures, as csrc/layout.h describes them --- */

static uint64_t mix(uint64_t state, uint64_t word)
{
    state = (state ^ word) + 0x9e3779b97f4a7c15ull;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ull;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebull;
    return state ^ (state >> 31);
}

static void sign(int fd, uint64_t magic)
{
    eb_signature it = {.version = 0};
    if (pread(fd, &it, sizeof it, 0) != sizeof it) return;
    uint64_t word = mix(magic, (uint64_t)EB_FORMAT << 32 | it.max_subscribers);
    word = mix(mix(word, it.build), it.identity[0]);
    word = mix(mix(word, it.identity[1]), it.capacity);
    it.version = EB_FORMAT;
    it.check = mix(word, it.header_bytes);
    atomic_store(&it.magic, magic);
    HOLDS("a segment can be written", pwrite(fd, &it, sizeof it, 0) == sizeof it);
}

/* --- the images --- */

static image keep(int fd)
{
    image it = {.fd = memfd_create("image", MFD_CLOEXEC), .length = (uint64_t)lseek(fd, 0, SEEK_END)};
    it.bytes = malloc(it.length);
    CHECK("an image can be taken", pread(fd, it.bytes, it.length, 0) == (ssize_t)it.length);
    return it;
}

/* With events of each form, a group, a claim of a member that died, and a topic counter that is behind. */
static void make_images(void)
{
    scene it = scene_of(CAPACITY, SLOTS, (uint64_t)0 - CAPACITY, 1);
    eb_outgoing named = {.topic = EB_INLINE, .system_length = 1, .kind_length = 2, .body_length = 8};
    eb_group_terms terms = {.system = "a", .kind = "**", .name = "g", .start = EB_LATEST, .max_deliveries = 2};
    make_topics(it.bus, 3);
    for (int i = 0; i < 80; i++)
        put(it.bus, (uint32_t)i % 3, (uint64_t)i);
    EQUAL("a group can be made", eb_group_create(it.bus, &terms, EB_POLL), 0);
    for (int i = 0; i < 10; i++) {
        put(it.bus, (uint32_t)i % 3, (uint64_t)i);
        eb_send_raw(&(eb_route){.bus = it.bus, .topic = 1}, "/path", 5, "data", 4);
        eb_send_batch(it.bus, &named, 1, "ak9[\"/\",1]", 11, EB_POLL);
    }
    eb_terms member = {.system = "a", .kind = "**", .name = "m", .start = EB_OLDEST, .gated = 1, .group = "g"};
    int status;
    eb_subscription *sub = subscribe(it.bus, &member, EB_POLL, &status);
    CHECK("a member can join", sub && receive(sub, 4, EB_POLL) > 0);
    die_with(sub);
    eb_subscription_free(sub);
    atomic_fetch_sub(&it.bus->ring.header->topics[0].count, 1);
    eb_bus_persist(it.bus);
    committed = atomic_load(&it.bus->ring.header->committed);
    oldest = atomic_load(&it.bus->ring.header->oldest);
    ring = keep(it.ring_fd);
    roster = keep(it.roster_fd);
    scene_end(&it);
}

static void put_image(const image *it, const void *bytes, uint64_t length, uint64_t size)
{
    HOLDS("a segment can be emptied", length >= size || ftruncate(it->fd, 0) == 0);
    HOLDS("a segment has a size", ftruncate(it->fd, (off_t)size) == 0);
    uint64_t written = length < size ? length : size;
    HOLDS("a segment can be written", pwrite(it->fd, bytes, written, 0) == (ssize_t)written);
}

static void put_raw(input *from, unsigned how)
{
    uint64_t asked = take_bytes(from, 2), first = asked % (from->left + 1), second = from->left - first;
    put_image(&ring, from->at, first, how & RESIZE ? first : ring.length);
    put_image(&roster, from->at + first, second, how & RESIZE ? second : roster.length);
    from->left = 0;
}

/* Where the damage is: in the first words, in a structure's own part, anywhere. */
static uint64_t take_place(input *from, const image *it)
{
    uint64_t at = take_bytes(from, 2);
    const uint64_t bases[] = {0, offsetof(eb_ring_header, topics), sizeof(eb_ring_header), it->length};
    const uint64_t others[] = {0, offsetof(eb_roster_header, groups), sizeof(eb_roster_header),
                               offsetof(eb_roster_header, groups) + offsetof(eb_group, lock)};
    unsigned which = take_byte(from);
    if (which % 8 == 7) return at * 16 % it->length;
    return ((it == &ring ? bases : others)[which % 4] + at % 1024) % it->length;
}

static void put_damaged(input *from, unsigned how)
{
    put_image(&ring, ring.bytes, ring.length, ring.length);
    put_image(&roster, roster.bytes, roster.length, roster.length);
    if (how & RESIZE) {
        const image *which = take_byte(from) % 2 ? &ring : &roster;
        HOLDS("a segment can be cut", ftruncate(which->fd, (off_t)(take_bytes(from, 3) % FILE_LIMIT)) == 0);
    }
    for (int i = 0; from->left > 0 && i < DAMAGES; i++) {
        unsigned what = take_byte(from);
        const image *which = what & 1 ? &ring : &roster;
        uint64_t place = take_place(from, which);
        uint64_t number = take_number(from, committed, oldest);
        size_t length = (size_t[]){1, 4, 8, 8}[what / 2 % 4];
        off_t size = lseek(which->fd, 0, SEEK_END);
        if (place + length > (uint64_t)size) continue;
        HOLDS("a segment can be written", pwrite(which->fd, &number, length, (off_t)place) == (ssize_t)length);
    }
}

/* --- attach --- */

static void take_part(eb_bus *bus, bool writable)
{
    eb_terms terms[] = {{.system = "a", .kind = "**", .name = "f", .start = EB_OLDEST, .gated = 1},
                        {.system = "a", .kind = "**", .name = "f", .start = EB_OLDEST, .gated = 1, .group = "g"},
                        {.system = "a", .kind = "**", .name = "f", .start = 3}};
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        int status;
        eb_subscription *sub = subscribe(bus, &terms[i], EB_POLL, &status);
        known(status);
        for (int batches = 0; sub && batches < 64 && receive(sub, 16, EB_POLL) > 0; batches++) {
        }
        if (sub) leave(sub);
    }
    if (!writable) return;
    known(put(bus, 0, 1));
    known(eb_topic(bus, "ak7", 1, 2, EB_POLL));
    eb_group_terms group = {.system = "a", .kind = "**", .name = "g", .start = EB_LATEST, .max_deliveries = 2};
    known(eb_group_create(bus, &group, EB_POLL));
    known(eb_group_remove(bus, "g", EB_POLL));
    known(eb_group_create(bus, &group, EB_POLL));
    known(eb_shutdown(bus, EB_POLL));
}

static void attach(bool writable)
{
    int status = EB_OK;
    int said = known(eb_signed(roster.fd));
    HOLDS("a yes, a no or damage", said == 0 || said == 1 || said == EB_DAMAGED || said == EB_VERSION);
    known(eb_persists(roster.fd));
    eb_bus *bus = bus_open(ring.fd, roster.fd, writable, &status);
    known(status);
    HOLDS("a bus or a reason", (bus != NULL) == (status == EB_OK));
    if (!bus) return;
    HOLDS("what is not signed is not opened", said == 1);
    known(eb_ring_verify(&bus->ring));
    look_around(bus);
    take_part(bus, writable);
    eb_bus_free(bus);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    input from = {.at = bytes, .left = length};
    if (!ring.bytes) make_images();
    unsigned how = take_byte(&from);
    if (how & RAW) put_raw(&from, how);
    else put_damaged(&from, how);
    if (how & SIGN_RING) sign(ring.fd, EB_RING_MAGIC);
    if (how & SIGN_ROSTER) sign(roster.fd, EB_ROSTER_MAGIC);
    attach(!(how & READ_ONLY));
    if (known(eb_repair(ring.fd, roster.fd)) == EB_OK) attach(true);
    return 0;
}
