/* Doorbells as files and descriptors: who makes, rings, removes and is robbed of them. */
#include "dozing.h"

#include <fcntl.h>

#define OTHER ((uint64_t)getpid()) /* the identity of a bus that there is not, and is no other program's */
#define ANOTHER (OTHER | 1ull << 40)

static eb_bell *make(const scene *it, uint64_t bus)
{
    eb_bell *bell = NULL;
    EQUAL("a bell can be made", eb_bell_make(&it->bus->roster.file, bus, false, NULL, &bell), EB_OK);
    CHECK("it has a file", bell->id != 0 && has_file(bell));
    return bell;
}

/* As if its process had been killed: nobody answers at its file. */
static uint64_t abandon(eb_bell *bell, char *path)
{
    uint64_t id = bell->id;
    path_of(bell, path);
    eb_bell_forget(bell);
    CHECK("its file stays", is_there(path));
    return id;
}

/* What may have the name of a bell. */
static void name_it(char *path, const char *number)
{
    snprintf(path, BELL_PATH, "/dev/shm/eventbus.bell.%016llx.%s", (unsigned long long)OTHER, number);
}

static void a_bell_is_rung_at_its_file(void)
{
    scene it = scene_small();
    char path[BELL_PATH];
    eb_bell *bell = make(&it, OTHER), *other = make(&it, OTHER);
    struct stat seen;
    path_of(bell, path);
    CHECK("it is a socket", lstat(path, &seen) == 0 && S_ISSOCK(seen.st_mode));
    EQUAL("of whoever may write to the bus", seen.st_mode & 0777, 0660);
    CHECK("it is rung", eb_bell_ring(&it.bus->ringer, OTHER, bell->id) && readable(eb_bell_fd(bell)));
    CHECK("and no other one", !readable(eb_bell_fd(other)));
    eb_bell_chime(bell);
    EQUAL("its own process rings it, too", rings(bell), 2);
    for (int i = 0; i < 1000; i++)
        CHECK("whoever has not looked yet answers", eb_bell_ring(&it.bus->ringer, OTHER, bell->id));
    eb_bell_drain(bell);
    CHECK("it forgets all at once", !readable(eb_bell_fd(bell)));
    CHECK("nobody answers where nothing is", !eb_bell_ring(&it.bus->ringer, OTHER, ~bell->id));
    eb_bell_take_down(bell);
    CHECK("its file goes with it", !is_there(path));
    uint64_t id = abandon(other, path);
    CHECK("nobody answers at what is left of a dead one", !eb_bell_ring(&it.bus->ringer, OTHER, id));
    eb_bell_bury(OTHER, id);
    CHECK("which can be buried", !is_there(path));
    scene_end(&it);
}

/* A process has one socket, for what it rings and for what rings it. Whoever watches it has it longer than the bus has. */
static void the_ringer_becomes_the_bell(void)
{
    scene it = scene_small();
    eb_bell *others = hold(it.peer, 0);
    int ringer = it.bus->ringer.fd;
    eb_bell *bell = hold(it.bus, 0), *again = hold(it.bus, 0);
    CHECK("it is the same", eb_bell_fd(bell) == ringer && it.bus->ringer.fd == ringer && again == bell);
    CHECK("it rings", eb_bell_ring(&it.bus->ringer, it.peer->identity, others->id) && rings(others) == 1);
    CHECK("and is rung", eb_bell_ring(&it.peer->ringer, it.bus->identity, bell->id) && rings(bell) == 1);
    eb_bell_release(again);
    eb_bus_leave(it.bus, EB_FOREVER);
    CHECK("the bus was left, and it is open", eb_bell_fd(bell) == ringer);
    CHECK("nobody answers there", !eb_bell_ring(&it.peer->ringer, it.peer->identity, bell->id));
    eb_bell_release(bell);
    CHECK("it is closed with the last who has it", fcntl(ringer, F_GETFD) < 0);
    eb_bell_release(others);
    scene_end(&it);
}

static void another_socket_is_the_bell_where_the_ringer_is_gone(void)
{
    scene it = scene_small();
    int ringer = it.bus->ringer.fd;
    close(ringer);
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    doze(sub);
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    CHECK("and told", readable(eb_bell_fd(bell)) && told(it.bus) == bit_of(sub));
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* Those who are stopped hear nothing, and what is on its way to them is the ringer's. */
static void whoever_does_not_listen_keeps_nobody_from_being_rung(void)
{
    scene it = scene_small();
    eb_bell *stopped = make(&it, OTHER), *other = make(&it, OTHER);
    int least = 1;
    CHECK("a ringer's room is small", setsockopt(it.bus->ringer.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least) == 0);
    for (int i = 0; i < 100; i++)
        CHECK("one who does not listen is rung", eb_bell_ring(&it.bus->ringer, OTHER, stopped->id));
    CHECK("there is room for some", rings(stopped) > 1);
    for (int i = 0; i < 100; i++)
        eb_bell_ring(&it.bus->ringer, OTHER, stopped->id);
    CHECK("and another one, too", eb_bell_ring(&it.bus->ringer, OTHER, other->id) && rings(other) == 1);
    eb_bell_take_down(stopped);
    eb_bell_take_down(other);
    scene_end(&it);
}

static void what_is_left_is_swept_and_nothing_else(void)
{
    scene it = scene_small();
    char dead[BELL_PATH], file[BELL_PATH], link[BELL_PATH], living[BELL_PATH], short_one[BELL_PATH];
    eb_bell *alive = make(&it, OTHER), *of_another = make(&it, ANOTHER);
    path_of(alive, living);
    abandon(make(&it, OTHER), dead);
    name_it(file, "0123456789abcdef");
    name_it(link, "123456789abcdef0");
    name_it(short_one, "23456789");
    CHECK("a file can have such a name", close(open(file, O_CREAT | O_EXCL, 0600)) == 0);
    CHECK("and a link to a dead bell", symlink(dead, link) == 0 && close(open(short_one, O_CREAT, 0600)) == 0);
    CHECK("what is dead is counted", eb_bells_sweep(1) >= 1 && is_there(dead));
    eb_bells_clear(OTHER, false);
    CHECK("and goes", !is_there(dead));
    CHECK("what lives stays, and what is none", has_file(alive) && is_there(file) && is_there(link));
    eb_bells_clear(OTHER, true);
    CHECK("with the bus all of it go", !is_there(living));
    CHECK("but what is none", is_there(file) && is_there(link) && is_there(short_one));
    CHECK("nor another bus's", has_file(of_another));
    eb_bells_clear(0, true);
    CHECK("a bus that has no identity has no bells", has_file(of_another));
    abandon(of_another, dead);
    CHECK("those of the dead go, of whatever bus", eb_bells_sweep(0) >= 1 && !is_there(dead));
    CHECK("again nothing else", is_there(file) && is_there(link) && is_there(short_one));
    CHECK("they are removed", unlink(file) == 0 && unlink(link) == 0 && unlink(short_one) == 0);
    eb_bell_release(alive);
    scene_end(&it);
}

static void a_bell_goes_with_its_bus(void)
{
    scene it = scene_small();
    char path[BELL_PATH];
    eb_bell *bell = hold(it.bus, 0);
    path_of(bell, path);
    CHECK("it is the same for all of the process", eb_bell_hold(it.bus, 0) == bell && has_file(bell));
    eb_bell_release(bell);
    EQUAL("the bus is left", eb_bus_leave(it.bus, EB_FOREVER), EB_OK);
    CHECK("the file is gone", !is_there(path));
    CHECK("the descriptor stays for a loop that watches it", eb_bell_fd(bell) >= 0);
    CHECK("nobody else gets one there", eb_bell_hold(it.bus, 0) == NULL);
    int fd = eb_bell_fd(bell);
    eb_bell_release(bell);
    CHECK("then it goes, too", fcntl(fd, F_GETFD) < 0);
    scene_end(&it);
}

/* --- the dead --- */

static void doze_in_child(void *with)
{
    scene *it = with;
    eb_subscription *sub = join(it->bus, EB_LATEST, true);
    hold(it->bus, 0);
    arm(sub);
}

static uint64_t doorbell_at(const scene *it, uint32_t slot)
{
    return atomic_load(&it->bus->roster.header->slots[slot].doorbell);
}

static void whoever_takes_the_slot_of_a_dead_one_removes_its_bell(void)
{
    scene it = scene_small();
    char path[BELL_PATH];
    die_at(EB_POINT_waiter_raised, 1, doze_in_child, &it);
    path_of(&(eb_bell){.bus = it.bus->identity, .id = doorbell_at(&it, 0)}, path);
    CHECK("a file that nobody answers at", is_there(path));
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    CHECK("whoever takes the slot removes it", eb_slot(sub) == 0 && !is_there(path));
    leave(sub);
    scene_end(&it);
}

static void of_the_dead_nothing_is_left(void)
{
    scene it = scene_small();
    char path[BELL_PATH];
    die_at(EB_POINT_waiter_raised, 1, doze_in_child, &it);
    uint64_t id = doorbell_at(&it, 0);
    path_of(&(eb_bell){.bus = it.bus->identity, .id = id}, path);
    CHECK("a file that nobody answers at", id != 0 && is_there(path));
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    CHECK("for whom nobody answers", !flag_is_up(&it, 0));
    eb_bell *bell = hold(it.bus, 0);
    EQUAL("whoever reaps the slot", eb_bus_reap(it.peer, EB_POLL), 1);
    CHECK("removes it, and nobody else's", !is_there(path) && has_file(bell));
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    CHECK("whoever takes the slot has no doorbell yet", eb_slot(sub) == 0 && doorbell_at(&it, 0) == 0);
    doze(sub);
    EQUAL("and then its own", doorbell_at(&it, 0), bell->id);
    die_with(sub);
    EQUAL("of a subscription whose descriptor is closed", eb_bus_reap(it.peer, EB_POLL), 1);
    CHECK("the bell of its process stays", has_file(bell));
    eb_subscription_free(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

/* --- children --- */

static void in_child(const scene *it, void (*body)(const scene *it))
{
    fflush(stdout);
    eb_fork_begins();
    pid_t child = fork();
    eb_fork_ends();
    if (child == 0) {
        body(it);
        _exit(0);
    }
    int status = 1;
    CHECK("the child ends", waitpid(child, &status, 0) == child);
    EQUAL("and finds all as it should be", status, 0);
}

static eb_bell *parents;

static void doze_as_child(const scene *it)
{
    CHECK("the parent's bell is none of its own", eb_bell_fd(parents) < 0);
    eb_bell_release(parents);
    CHECK("nor is its ringer", it->bus->ringer.fd < 0);
    eb_bell *bell = hold(it->bus, 0);
    eb_subscription *sub = join(it->bus, EB_LATEST, true);
    doze(sub);
    eb_interrupt(sub);
    CHECK("it is rung by itself", readable(eb_bell_fd(bell)));
    EQUAL("and told", told(it->bus), bit_of(sub));
    CHECK("it has a file", has_file(bell));
    leave(sub);
    eb_bus_free(it->bus);
    eb_bus_free(it->peer);
    CHECK("which goes with it", !has_file(bell));
    eb_bell_release(bell);
}

static void a_child_has_a_bell_of_its_own(void)
{
    scene it = scene_small();
    parents = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    doze(sub);
    in_child(&it, doze_as_child);
    CHECK("its parent's stays", has_file(parents) && eb_bell_fd(parents) >= 0);
    EQUAL("and is rung", put(it.peer, 0, 1), EB_OK);
    EQUAL("as before", told(it.bus), bit_of(sub));
    leave(sub);
    eb_bell_release(parents);
    scene_end(&it);
}

/* --- robbed --- */

static int take_number(int wanted, int fd)
{
    CHECK("a number can be taken", dup2(fd, wanted) == wanted);
    return wanted;
}

static void whoever_gets_the_number_of_a_bell_is_left_alone(void)
{
    for (int silent = 0; silent < 2; silent++) {
        scene it = scene_small();
        char path[BELL_PATH];
        int ends[2];
        eb_bell *bell = hold(it.bus, silent);
        eb_subscription *sub = join(it.bus, EB_LATEST, true);
        path_of(bell, path);
        CHECK("a connection", socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && write(ends[1], "x", 1) == 1);
        int taken = take_number(eb_bell_fd(bell), ends[0]);
        CHECK("a loop does not get it", eb_bell_fd(bell) == -1);
        eb_bell_chime(bell);
        CHECK("nothing is written to it", !readable(ends[1]));
        eb_bell_drain(bell);
        CHECK("nor read", readable(taken));
        EQUAL("nobody dozes there", arm(sub), EB_ROBBED);
        leave(sub);
        EQUAL("the bus is left", eb_bus_leave(it.bus, EB_FOREVER), EB_OK);
        eb_bell_release(bell);
        CHECK("it is not closed", fcntl(taken, F_GETFD) >= 0);
        CHECK("the file is gone", !is_there(path));
        CHECK("the connection ends", close(taken) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
        scene_end(&it);
    }
}

static void whoever_gets_the_number_of_a_ringer_is_left_alone(void)
{
    scene it = scene_small();
    int ends[2];
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    doze(sub);
    CHECK("a connection", socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    int taken = take_number(it.peer->ringer.fd, ends[0]);
    eb_bell_ring(&it.peer->ringer, it.bus->identity, bell->id);
    CHECK("a ring that comes too late has no bytes", !readable(ends[1]));
    EQUAL("an event is sent", put(it.peer, 0, 1), EB_OK);
    CHECK("with another ringer", it.peer->ringer.fd != taken && told(it.bus) == bit_of(sub));
    CHECK("nothing is written to what has the number", !readable(ends[1]) && fcntl(taken, F_GETFD) >= 0);
    CHECK("the connection ends", close(taken) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

static void who_is_robbed_of_its_slot_does_not_doze(void)
{
    scene it = scene_small();
    eb_bell *bell = hold(it.bus, 0);
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    doze(sub);
    close(sub->file.fd);
    tire(sub);
    EQUAL("it is to look when its slice is over", late(it.bus), bit_of(sub));
    EQUAL("and finds that it was robbed", arm(sub), EB_ROBBED);
    leave(sub);
    eb_bell_release(bell);
    scene_end(&it);
}

int main(void)
{
    alarm(60);
    RUN(a_bell_is_rung_at_its_file);
    RUN(the_ringer_becomes_the_bell);
    RUN(another_socket_is_the_bell_where_the_ringer_is_gone);
    RUN(whoever_does_not_listen_keeps_nobody_from_being_rung);
    RUN(what_is_left_is_swept_and_nothing_else);
    RUN(a_bell_goes_with_its_bus);
    RUN(whoever_takes_the_slot_of_a_dead_one_removes_its_bell);
    RUN(of_the_dead_nothing_is_left);
    RUN(a_child_has_a_bell_of_its_own);
    RUN(whoever_gets_the_number_of_a_bell_is_left_alone);
    RUN(whoever_gets_the_number_of_a_ringer_is_left_alone);
    RUN(who_is_robbed_of_its_slot_does_not_doze);
    return checked();
}
