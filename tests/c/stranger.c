/* What a library of another build does with the bus of a name: makes it, works on it, or tries to open it. The tests
 * compile this with a core of other sizes or another format, and talk to it over its input and output. */
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int opened(const char *name, const char *part, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "/dev/shm/eventbus.%s.%s", name, part);
    int fd = open(path, flags | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        printf("no %s: %s\n", part, strerror(errno));
        exit(1);
    }
    return fd;
}

static int say(const char *what, const char *detail)
{
    printf("%s%s\n", what, detail);
    return fflush(stdout);
}

/* One event sent and heard, or what went wrong. */
static const char *round_trip(eb_bus *bus, eb_subscription *sub)
{
    int topic = eb_topic(bus, "ab", 1, 1, EB_FOREVER);
    int sent = topic < 0 ? topic : eb_send(&(eb_route){.bus = bus, .topic = (uint32_t)topic}, "[\"/c\",7]");
    if (sent != EB_OK) return eb_strerror(sent);
    int heard = eb_receive(sub, 1, EB_POLL);
    while (heard == EB_UNDECIDED) {
        eb_decide(sub, eb_batch_of(sub)->undecided, 1);
        heard = eb_receive(sub, 1, EB_POLL);
    }
    if (heard != 1) return eb_strerror(heard);
    bool whole = eb_batch_of(sub)->head.json_length == 8 && memcmp(eb_batch_of(sub)->buffer, "[\"/c\",7]", 8) == 0;
    return whole ? "works" : "another event came";
}

static int work(eb_bus *bus)
{
    int status = EB_SYSTEM;
    eb_terms terms = {.system = "**", .kind = "**", .name = "stranger", .start = EB_LATEST, .gated = 1};
    eb_bus_opened(bus, 0);
    eb_subscription *sub = subscribe(bus, &terms, EB_FOREVER, &status);
    if (!sub) return say("cannot subscribe: ", eb_strerror(status));
    say(round_trip(bus, sub), "");
    while (getchar() != EOF)
        say(round_trip(bus, sub), "");
    eb_subscription_free(sub);
    eb_bus_free(bus);
    return 0;
}

static int make(const char *name)
{
    const uint64_t capacity = 65536;
    eb_bus *bus = eb_bus_new(name);
    if (eb_bus_take_roster(bus, 1, opened(name, "roster", O_CREAT | O_EXCL)) != EB_OK)
        return say("refused: ", "roster");
    if (eb_bus_enter(bus, EB_FOREVER) != EB_OK) return say("refused: ", "the door");
    if (eb_bus_take_ring(bus, 1, opened(name, "ring", O_CREAT | O_EXCL)) != EB_OK) return say("refused: ", "ring");
    int ring_fd = eb_bus_ring_fd(bus), roster_fd = eb_bus_roster_fd(bus);
    if (posix_fallocate(ring_fd, 0, eb_ring_bytes(capacity)) || posix_fallocate(roster_fd, 0, eb_roster_bytes(4)))
        return say("refused: ", "no space");
    if (eb_format(ring_fd, roster_fd, capacity, 4, 1, 2) != EB_OK) return say("refused: ", "format");
    return eb_bus_attach(bus, 1) == EB_OK ? work(bus) : say("refused: ", eb_detail());
}

/* The order in which eventbus/core/segment.py looks: what is not signed by this build is not touched. */
static int join(const char *name)
{
    eb_bus *bus = eb_bus_new(name);
    if (eb_bus_take_roster(bus, 0, opened(name, "roster", 0)) != EB_OK) return say("refused: ", "roster");
    if (eb_bus_enter(bus, EB_FOREVER) != EB_OK) return say("refused: ", "the door");
    if (eb_signed(eb_bus_roster_fd(bus)) != 1) return say("refused: ", eb_detail());
    if (eb_bus_take_ring(bus, 0, opened(name, "ring", 0)) != EB_OK) return say("refused: ", "ring");
    return eb_bus_attach(bus, 1) == EB_OK ? work(bus) : say("refused: ", eb_detail());
}

int main(int count, char **arguments)
{
    if (count != 3) return say("refused: ", "make NAME or join NAME");
    return strcmp(arguments[1], "make") == 0 ? make(arguments[2]) : join(arguments[2]);
}
