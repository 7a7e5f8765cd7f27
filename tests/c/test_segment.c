/* Segments: what is refused when mapped, and what a creator that died half-way leaves. */
#include "scene.h"

#include <sys/stat.h>

static int opened(int ring_fd, int roster_fd)
{
    int status = EB_OK;
    eb_bus *bus = bus_open(ring_fd, roster_fd, 1, &status);
    if (bus) eb_bus_free(bus);
    return status;
}

static void flip(int fd, off_t at, int bit)
{
    uint8_t byte = 0;
    CHECK("it can be read", pread(fd, &byte, 1, at) == 1);
    byte ^= (uint8_t)(1 << bit);
    CHECK("it can be written", pwrite(fd, &byte, 1, at) == 1);
}

static void every_flipped_bit_of_a_signature_is_refused(void)
{
    scene it = scene_small();
    for (off_t at = 0; at < (off_t)sizeof(eb_signature); at++)
        for (int bit = 0; bit < 8; bit++) {
            flip(it.ring_fd, at, bit);
            int ring = opened(it.ring_fd, it.roster_fd);
            CHECK("of the ring", ring == EB_DAMAGED || ring == EB_VERSION);
            CHECK("with a reason", strlen(eb_detail()) > 0);
            flip(it.ring_fd, at, bit);
            flip(it.roster_fd, at, bit);
            int roster = opened(it.ring_fd, it.roster_fd), is_signed = eb_signed(it.roster_fd);
            CHECK("of the roster", roster == EB_DAMAGED || roster == EB_VERSION);
            EQUAL("which is signed by nobody then", is_signed, roster);
            flip(it.roster_fd, at, bit);
        }
    EQUAL("flipped back, all is well", opened(it.ring_fd, it.roster_fd), EB_OK);
    EQUAL("and signed", eb_signed(it.roster_fd), 1);
    scene_end(&it);
}

static void a_segment_shorter_than_it_says_is_refused(void)
{
    for (int i = 0; i < 2; i++) {
        scene it = scene_small();
        int fd = i ? it.roster_fd : it.ring_fd;
        int64_t whole = i ? eb_roster_bytes(4) : eb_ring_bytes(CAPACITY);
        const int64_t lengths[] = {0, 1, 63, 64, 4095, 4096, whole - 4096, whole - 1};
        for (int n = 7; n >= 0; n--) {
            CHECK("it is cut", ftruncate(fd, lengths[n]) == 0);
            EQUAL("it is not mapped", opened(it.ring_fd, it.roster_fd), EB_DAMAGED);
        }
        if (i) EQUAL("an empty roster is one that was never finished", eb_signed(it.roster_fd), 0);
        atomic_store(&it.bus->ended, EB_CLOSED); /* what they still map is gone: unmapping is all that is done */
        atomic_store(&it.peer->ended, EB_CLOSED);
        eb_bus_free(it.bus);
        eb_bus_free(it.peer);
        it.bus = it.peer = NULL;
        scene_end(&it);
    }
}

static void ring_and_roster_of_two_buses_are_refused(void)
{
    scene one = scene_small(), other = scene_of(CAPACITY, 5, 0, 1), larger = scene_of(2 * CAPACITY, 4, 0, 1);
    EQUAL("of another number of slots", opened(one.ring_fd, other.roster_fd), EB_DAMAGED);
    EQUAL("of another capacity", opened(one.ring_fd, larger.roster_fd), EB_DAMAGED);
    EQUAL("in the wrong order", opened(one.roster_fd, one.ring_fd), EB_VERSION);
    int ring_fd = memfd_create("ring", MFD_CLOEXEC), roster_fd = memfd_create("roster", MFD_CLOEXEC);
    CHECK("a ring can be made", ftruncate(ring_fd, eb_ring_bytes(CAPACITY)) == 0);
    CHECK("a roster too", ftruncate(roster_fd, eb_roster_bytes(4)) == 0);
    EQUAL("a bus alike", eb_format(ring_fd, roster_fd, CAPACITY, 4, 7, 9), EB_OK);
    EQUAL("of another identity", opened(one.ring_fd, roster_fd), EB_DAMAGED);
    close(ring_fd);
    close(roster_fd);
    scene_end(&one);
    scene_end(&other);
    scene_end(&larger);
}

static void sizes_have_limits(void)
{
    EQUAL("a ring of nothing", eb_ring_bytes(0), EB_TOO_LARGE);
    EQUAL("a ring past the limit", eb_ring_bytes((1ull << 40) + 1), EB_TOO_LARGE);
    CHECK("a ring of a page and a byte has two", eb_ring_bytes(4097) == eb_ring_bytes(8192));
    EQUAL("a roster of nobody", eb_roster_bytes(0), EB_TOO_LARGE);
    EQUAL("a roster past the limit", eb_roster_bytes(EB_SUBSCRIBERS_LIMIT + 1), EB_TOO_LARGE);
    CHECK("a roster of all", eb_roster_bytes(EB_SUBSCRIBERS_LIMIT) > EB_SUBSCRIBERS_LIMIT * (int64_t)sizeof(eb_slot_t));
}

static void a_capacity_that_is_no_power_of_two_is_a_ring_too(void)
{
    scene it = scene_of(3 * CAPACITY, 4, 0, 1);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    for (uint64_t i = 0; i < 200; i++) {
        size_t length = 1 + i * 37 % 900;
        EQUAL("an event goes in", put_sized(it.peer, 0, length, i), EB_OK);
        EQUAL("and comes out", eb_receive(sub, 1, EB_POLL), 1);
        CHECK("whole", holds_pattern(eb_batch_of(sub), length, i));
    }
    leave(sub);
    scene_end(&it);
}

typedef struct {
    int ring_fd, roster_fd;
} segments;

static void format(void *with)
{
    const segments *made = with;
    eb_format(made->ring_fd, made->roster_fd, CAPACITY, 4, 7, 8);
}

static void a_creator_that_died_leaves_a_bus_or_none(void)
{
    const struct {
        int point, is_signed, opens;
    } steps[] = {{EB_POINT_format_ring_sized, 0, EB_VERSION},
                 {EB_POINT_format_ring_signed, 0, EB_VERSION},
                 {EB_POINT_format_roster_signed, 1, EB_OK}};
    for (int i = 0; i < 3; i++) {
        segments made = {memfd_create("ring", MFD_CLOEXEC), memfd_create("roster", MFD_CLOEXEC)};
        CHECK("a ring can be made", ftruncate(made.ring_fd, eb_ring_bytes(CAPACITY)) == 0);
        EQUAL("without a roster it is unsigned", eb_signed(made.roster_fd), 0);
        CHECK("a roster too", ftruncate(made.roster_fd, eb_roster_bytes(4)) == 0);
        die_at(steps[i].point, 1, format, &made);
        EQUAL("signed when all is written", eb_signed(made.roster_fd), steps[i].is_signed);
        EQUAL("and then it opens", opened(made.ring_fd, made.roster_fd), steps[i].opens);
        close(made.ring_fd);
        close(made.roster_fd);
    }
}

static void a_ring_mapped_read_only_is_enough_to_receive(void)
{
    scene it = scene_small();
    int status;
    eb_bus *reader = bus_open(it.ring_fd, it.roster_fd, 0, &status);
    EQUAL("it opens", status, EB_OK);
    eb_subscription *sub = join(reader, EB_LATEST, true), *drop = join(reader, EB_LATEST, false);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    EQUAL("and heard", next(sub), 1);
    EQUAL("by all", next(drop), 1);
    leave(sub);
    leave(drop);
    eb_bus_free(reader);
    scene_end(&it);
}

static void what_a_repair_cannot_mend_is_refused(void)
{
    scene it = scene_small();
    put(it.peer, 0, 1);
    atomic_store(&it.bus->ring.header->committed, 3 * RECORD);
    EQUAL("a position amid nothing", eb_repair(it.ring_fd, it.roster_fd), EB_DAMAGED);
    atomic_store(&it.bus->ring.header->committed, RECORD);
    EQUAL("set right, it is repaired", eb_repair(it.ring_fd, it.roster_fd), EB_OK);
    scene_end(&it);
}

static void every_status_has_words(void)
{
    for (int status = EB_EXHAUSTED; status < EB_OK; status++)
        CHECK("of its own", strcmp(eb_strerror(status), eb_strerror(EB_EXHAUSTED - 1)) != 0);
    CHECK("any success the same", eb_strerror(0) == eb_strerror(7));
}

int main(void)
{
    RUN(every_flipped_bit_of_a_signature_is_refused);
    RUN(a_segment_shorter_than_it_says_is_refused);
    RUN(ring_and_roster_of_two_buses_are_refused);
    RUN(sizes_have_limits);
    RUN(a_capacity_that_is_no_power_of_two_is_a_ring_too);
    RUN(a_creator_that_died_leaves_a_bus_or_none);
    RUN(a_ring_mapped_read_only_is_enough_to_receive);
    RUN(what_a_repair_cannot_mend_is_refused);
    RUN(every_status_has_words);
    return checked();
}
