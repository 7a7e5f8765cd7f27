/* Attaching, forking and leaving, at moments that are made by hand: bytes are counted, names looked at, by those who stay. */
#include "scene.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* --- a bus with names, as Python makes it --- */

typedef struct {
    char name[64], ring[96], roster[96];
} named;

static named name_it(const char *what)
{
    named it;
    snprintf(it.name, sizeof it.name, "test-c-%d-%s", (int)getpid(), what);
    snprintf(it.ring, sizeof it.ring, "/eventbus.%s.ring", it.name);
    snprintf(it.roster, sizeof it.roster, "/eventbus.%s.roster", it.name);
    return it;
}

static bool has(const char *segment)
{
    char path[128];
    struct stat seen;
    snprintf(path, sizeof path, "/dev/shm%s", segment);
    return stat(path, &seen) == 0;
}

static int take(eb_bus *bus, const named *it, int flags)
{
    int roster = shm_open(it->roster, O_RDWR | flags, 0600);
    CHECK("a roster can be opened", roster >= 0);
    EQUAL("and taken", eb_bus_take_roster(bus, flags != 0, roster), EB_OK);
    int status = eb_bus_enter(bus, EB_POLL);
    if (status != EB_OK) return status;
    EQUAL("a ring too", eb_bus_take_ring(bus, flags != 0, shm_open(it->ring, O_RDWR | flags, 0600)), EB_OK);
    return EB_OK;
}

static eb_bus *create(const named *it)
{
    eb_bus *bus = eb_bus_new(it->name);
    EQUAL("a bus can be begun", take(bus, it, O_CREAT | O_EXCL), EB_OK);
    CHECK("a ring has room", ftruncate(eb_bus_ring_fd(bus), eb_ring_bytes(CAPACITY)) == 0);
    CHECK("a roster has room", ftruncate(eb_bus_roster_fd(bus), eb_roster_bytes(4)) == 0);
    EQUAL("it is formatted", eb_format(eb_bus_ring_fd(bus), eb_bus_roster_fd(bus), CAPACITY, 4, 7, 8), EB_OK);
    EQUAL("and attached to", eb_bus_attach(bus, 1), EB_OK);
    EQUAL("and open", eb_bus_opened(bus, 0), EB_OK);
    return bus;
}

static eb_bus *attach(const named *it)
{
    eb_bus *bus = eb_bus_new(it->name);
    EQUAL("it can be entered", take(bus, it, 0), EB_OK);
    EQUAL("and attached to", eb_bus_attach(bus, 1), EB_OK);
    EQUAL("and open", eb_bus_opened(bus, 0), EB_OK);
    return bus;
}

static void close_bus(eb_bus *bus)
{
    EQUAL("it can be left", eb_bus_leave(bus, eb_now() + EB_MILLISECOND * 1000), EB_OK);
    eb_bus_free(bus);
}

/* --- bytes --- */

static void attachments_are_counted_exactly(void)
{
    enum { MANY = 200 };
    scene it = scene_small();
    eb_file files[MANY];
    int64_t bytes[MANY];
    EQUAL("at first there is the other one", eb_bus_others(it.bus), 1);
    for (int i = 0; i < MANY; i++) {
        EQUAL("a description can be had", eb_file_reopen(it.roster_fd, &files[i]), EB_OK);
        EQUAL("each can attach", eb_attachment_draw(&files[i], &bytes[i]), EB_OK);
        EQUAL("and is counted", eb_bus_others(it.bus), i + 2);
        EQUAL("by others, not by itself", eb_attachments(&files[i]), i + 2);
    }
    for (int i = 0; i < MANY; i++) {
        if (i % 2) eb_byte_unlock(&files[i], bytes[i]);
        eb_file_close(&files[i]);
        EQUAL("detached or dead, it is not", eb_bus_others(it.bus), MANY - i);
    }
    eb_subscription *sub = join(it.bus, EB_LATEST, true);
    EQUAL("a slot's lock is no attachment", eb_bus_others(it.peer), 1);
    EQUAL("nor is the door's", eb_bus_enter(it.bus, EB_POLL), EB_OK);
    EQUAL("it is still one", eb_bus_others(it.peer), 1);
    leave(sub);
    scene_end(&it);
}

static void one_at_a_time_passes_the_door(void)
{
    scene it = scene_small();
    EQUAL("the first enters", eb_bus_enter(it.bus, EB_POLL), EB_OK);
    EQUAL("the second does not", eb_bus_enter(it.peer, EB_POLL), EB_BUSY);
    EQUAL("until its deadline", eb_bus_enter(it.peer, eb_now() + EB_MILLISECOND), EB_BUSY);
    EQUAL("the first leaves", eb_bus_opened(it.bus, 0), EB_OK);
    EQUAL("the second enters", eb_bus_enter(it.peer, EB_POLL), EB_OK);
    EQUAL("whoever leaves the bus", eb_bus_leave(it.peer, EB_POLL), EB_OK);
    EQUAL("leaves the door", eb_bus_enter(it.bus, EB_POLL), EB_OK);
    scene_end(&it);
}

static void leaving_releases_what_it_took_and_no_more(void)
{
    scene it = scene_small();
    uint64_t token = it.bus->token;
    CHECK("each has a token of its own", token != 0 && it.peer->token != 0 && token != it.peer->token);
    CHECK("one sees that the other lives", eb_publisher_alive(&it.peer->roster.file, token));
    EQUAL("a thread of it has the roster's lock", eb_roster_lock(&it.bus->roster.file, EB_POLL), EB_OK);
    eb_file copy = it.bus->roster.file; /* as a process has that was forked without libc */
    copy.fd = fcntl(copy.fd, F_DUPFD_CLOEXEC, 0);
    EQUAL("it leaves", eb_bus_leave(it.bus, EB_POLL), EB_OK);
    EQUAL("the roster's lock is kept", eb_roster_lock(&it.peer->roster.file, EB_POLL), EB_BUSY);
    CHECK("it publishes no more", !eb_publisher_alive(&it.peer->roster.file, token));
    EQUAL("nor is it attached", eb_bus_others(it.peer), 0);
    EQUAL("nor at the door", eb_door_enter(&it.peer->roster.file, EB_POLL), EB_OK);
    CHECK("nobody is nobody", !eb_publisher_alive(&it.peer->roster.file, 0));
    CHECK("nor is what cannot be", !eb_publisher_alive(&it.peer->roster.file, ~0ull));
    eb_file_close(&copy);
    EQUAL("with the last descriptor it goes", eb_roster_lock(&it.peer->roster.file, EB_POLL), EB_OK);
    scene_end(&it);
}

static void who_leaves_in_the_middle_of_a_send_is_counted(void)
{
    scene it = scene_small();
    uint64_t token = it.bus->token;
    EQUAL("a thread is in the middle of a send", eb_bus_lock_publish(it.bus, EB_POLL), EB_OK);
    EQUAL("another one leaves the bus", eb_bus_leave(it.bus, EB_POLL), EB_OK);
    CHECK("the publisher still lives", eb_publisher_alive(&it.peer->roster.file, token));
    EQUAL("though nobody is attached", eb_bus_others(it.peer), 0);
    CHECK("so nobody is alone there", !eb_bus_alone(it.peer));
    EQUAL("nor takes the lock", eb_bus_lock_publish(it.peer, EB_POLL), EB_BUSY);
    eb_bus_unlock_publish(it.bus);
    EQUAL("once it is done, others send", put(it.peer, 0, 1), EB_OK);
    EQUAL("it does not any more", put(it.bus, 0, 2), EB_CLOSED);
    eb_bus_free(it.bus);
    it.bus = NULL;
    CHECK("and when the bus has gone, the other is alone", eb_bus_alone(it.peer));
    scene_end(&it);
}

static void leave_now(void *with)
{
    EQUAL("it is left", eb_bus_leave(with, EB_POLL), EB_OK);
}

/* Whoever took the lock for a moment while its process gave its byte back. */
static void a_lock_that_was_taken_over_is_not_given_back(void)
{
    scene it = scene_small();
    eb_u64 *lock = &it.bus->ring.header->publish_lock;
    EQUAL("it leaves", eb_bus_leave(it.bus, EB_POLL), EB_OK);
    EQUAL("and takes the lock no more", eb_bus_lock_publish(it.bus, EB_POLL), EB_CLOSED);
    EQUAL("which is free", atomic_load(lock), 0);
    atomic_store(&it.bus->ended, EB_OK); /* as it was when it looked */
    EQUAL("though it had looked before", eb_bus_lock_publish(it.bus, EB_POLL), EB_OK);
    atomic_store(&it.bus->ended, EB_CLOSED);
    EQUAL("another finds its owner dead", eb_bus_lock_publish(it.peer, EB_POLL), EB_OK);
    eb_bus_unlock_publish(it.bus);
    EQUAL("the lock is the other's", atomic_load(lock), it.peer->token);
    eb_bus_unlock_publish(it.peer);
    EQUAL("until it gives it back", atomic_load(lock), 0);
    scene_end(&it);
}

static void who_leaves_between_look_and_lock_does_not_send(void)
{
    scene it = scene_small();
    plan_at(EB_POINT_lock_taken, 1, leave_now, it.bus);
    atomic_store(&it.bus->ring.header->publish_lock, 0);
    EQUAL("the send begins before", put(it.peer, 0, 1), EB_OK);
    CHECK("as the plan says", happened());
    EQUAL("and is refused after", put(it.bus, 0, 2), EB_CLOSED);
    EQUAL("one event is there", sent(it.peer), 1);
    scene_end(&it);
}

static int add_topic(eb_bus *bus)
{
    return eb_topic(bus, "ab", 1, 1, EB_POLL);
}

static int shut_down(eb_bus *bus)
{
    return eb_shutdown(bus, EB_POLL);
}

static void who_leaves_between_look_and_lock_writes_nothing(void)
{
    int (*const ways[])(eb_bus *bus) = {add_topic, shut_down};
    for (int i = 0; i < 2; i++) {
        scene it = scene_small();
        plan_at(EB_POINT_lock_taken, 1, leave_now,
                it.bus); /* another thread, as it would be, waits in vain for this one */
        EQUAL("it is refused", ways[i](it.bus), EB_CLOSED);
        CHECK("after it had the lock", happened());
        eb_stats stats;
        EQUAL("others look", eb_stats_read(it.peer, &stats), EB_OK);
        CHECK("and see neither topic nor end", stats.topics == 0 && !stats.closed);
        EQUAL("and send", put(it.peer, 0, 1), EB_OK);
        scene_end(&it);
    }
}

/* --- names --- */

static void the_last_one_out_removes_the_names(void)
{
    named it = name_it("last");
    eb_bus *first = create(&it), *second = attach(&it);
    close_bus(first);
    CHECK("while somebody is there they stay", has(it.ring) && has(it.roster));
    close_bus(second);
    CHECK("then they go", !has(it.ring) && !has(it.roster));
    first = create(&it);
    eb_bus_free(first);
    CHECK("also with a bus that is only forgotten", !has(it.ring) && !has(it.roster));
}

static void a_name_that_means_another_is_left_alone(void)
{
    named it = name_it("other");
    eb_bus *first = create(&it);
    CHECK("it has its name", eb_bus_named(first));
    shm_unlink(it.ring);
    shm_unlink(it.roster);
    CHECK("now it has none", !eb_bus_named(first));
    eb_bus *second = create(&it);
    CHECK("which means another one by now", !eb_bus_named(first) && eb_bus_named(second));
    close_bus(first);
    CHECK("the name is the other's", has(it.ring) && has(it.roster));
    close_bus(second);
}

static void what_is_opened_half_way_leaves_nothing(void)
{
    named it = name_it("half");
    eb_bus *bus = eb_bus_new(it.name);
    EQUAL("a bus is begun", take(bus, &it, O_CREAT | O_EXCL), EB_OK);
    EQUAL("and given up", eb_bus_opened(bus, 1), EB_OK);
    CHECK("its names go", !has(it.ring) && !has(it.roster));
    eb_bus_free(bus);
    bus = eb_bus_new(it.name);
    EQUAL("a roster is made", eb_bus_take_roster(bus, 1, shm_open(it.roster, O_RDWR | O_CREAT | O_EXCL, 0600)), EB_OK);
    EQUAL("and given up before the door", eb_bus_opened(bus, 1), EB_OK);
    CHECK("it goes", !has(it.roster));
    eb_bus_free(bus);
    eb_bus *other = create(&it);
    bus = eb_bus_new(it.name);
    EQUAL("one is joined", take(bus, &it, 0), EB_OK);
    EQUAL("nearly", eb_bus_attach(bus, 1), EB_OK);
    EQUAL("and given up", eb_bus_opened(bus, 1), EB_OK);
    EQUAL("the other is alone again", eb_bus_others(other), 0);
    CHECK("in every way", eb_bus_alone(other) && has(it.ring) && has(it.roster));
    eb_bus_free(bus);
    close_bus(other);
}

/* --- forks --- */

/* What a child finds, as its exit status; it is forked by `how` and the parent goes on when it has ended. */
static int told_by_child(pid_t (*how)(void), int (*deed)(eb_bus *bus), eb_bus *bus)
{
    fflush(stdout);
    pid_t child = how();
    if (child == 0) _exit(deed(bus));
    int status = 0;
    CHECK("the child can be waited for", waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static pid_t fork_for_python(void)
{
    eb_fork_begins();
    pid_t child = fork();
    eb_fork_ends();
    return child;
}

static pid_t fork_without_libc(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static int send_and_leave(eb_bus *bus)
{
    if (eb_bus_others(bus) != 1 || put(bus, 0, 5) != EB_OK) return 1;
    int status = eb_bus_leave(bus, EB_POLL);
    eb_bus_free(bus);
    return status == EB_OK ? 0 : 2;
}

static int find_it_is_not_ours(eb_bus *bus)
{
    if (put(bus, 0, 5) != EB_FORKED || eb_bus_check(bus) != EB_FORKED) return 1;
    if (eb_topic(bus, "ab", 1, 1, EB_POLL) != EB_FORKED || eb_shutdown(bus, EB_POLL) != EB_FORKED) return 2;
    if (eb_bus_leave(bus, EB_POLL) != EB_FORKED || eb_bus_roster_fd(bus) >= 0) return 3;
    eb_bus_free(bus);
    return 0;
}

static void a_child_of_python_is_attached(void)
{
    named it = name_it("child");
    eb_bus *bus = create(&it);
    int before = eb_bus_roster_fd(bus);
    EQUAL("it works, and leaves", told_by_child(fork_for_python, send_and_leave, bus), 0);
    EQUAL("its parent has what it had", eb_bus_roster_fd(bus), before);
    EQUAL("and is alone", eb_bus_others(bus), 0);
    CHECK("under its names", has(it.ring) && has(it.roster));
    EQUAL("its event is there", sent(bus), 1);
    EQUAL("and others follow", put(bus, 0, 6), EB_OK);
    close_bus(bus);
    CHECK("the last one out was the parent", !has(it.ring) && !has(it.roster));
}

static void a_child_of_c_has_nothing(void)
{
    named it = name_it("c");
    eb_bus *bus = create(&it);
    pid_t (*const ways[])(void) = {fork, fork_without_libc};
    for (int i = 0; i < 2; i++) {
        eb_subscription *sub = join(bus, EB_LATEST, true);
        EQUAL("it is told so", told_by_child(ways[i], find_it_is_not_ours, bus), 0);
        CHECK("the parent's names stay", has(it.ring) && has(it.roster) && eb_bus_named(bus));
        eb_bus *other = attach(&it);
        EQUAL("the parent's attachment too", eb_bus_others(other), 1);
        CHECK("its publisher", eb_publisher_alive(&other->roster.file, bus->token));
        CHECK("and its slot", eb_slot_alive(&other->roster, eb_slot(sub)));
        close_bus(other);
        EQUAL("it sends", put(bus, 0, 1), EB_OK);
        EQUAL("and hears", next(sub), 1);
        leave(sub);
    }
    close_bus(bus);
    CHECK("and leaves", !has(it.ring) && !has(it.roster));
}

/* A helper that C has forked outlives its parent; what others see of the parent then. */
static void nobody_outlives_its_death(void)
{
    named it = name_it("dead");
    eb_bus *bus = create(&it);
    int line[2], forked[2];
    CHECK("there is a line", pipe(line) == 0 && pipe(forked) == 0);
    eb_fork_begins();
    fflush(stdout);
    pid_t parent = fork();
    if (parent == 0) {
        eb_subscription *sub = join(bus, EB_LATEST, true);
        char word = 0;
        eb_fork_ends();
        pid_t helper = fork();
        if (helper == 0) {
            close(line[1]);
            ssize_t told = write(forked[1], &word, 1);
            ssize_t got = read(line[0], &word, 1); /* until the test ends the line */
            eb_subscription_free(sub);
            _exit(told != 1 || got != 0);
        }
        kill(getpid(), read(forked[0], &word, 1) == 1 ? SIGKILL : SIGABRT); /* not while the helper is being made */
    }
    eb_fork_ends();
    close(line[0]);
    waitpid(parent, NULL, 0);
    close(forked[0]);
    close(forked[1]);
    CHECK("the dead one's slot is known", eb_roster_used(&bus->roster) == 1);
    CHECK("and dead", !eb_slot_alive(&bus->roster, 0));
    EQUAL("nobody else is attached", eb_bus_others(bus), 0);
    CHECK("nor sending", eb_bus_alone(bus));
    close(line[1]);
    close_bus(bus);
}

static void a_child_without_a_descriptor_says_why(void)
{
    named it = name_it("orphan");
    eb_bus *bus = create(&it);
    struct rlimit before, now;
    getrlimit(RLIMIT_NOFILE, &before);
    now = before;
    now.rlim_cur = 64;
    CHECK("few descriptors are allowed", setrlimit(RLIMIT_NOFILE, &now) == 0);
    int fds[64], count = 0;
    while ((fds[count] = dup(0)) >= 0)
        count++;
    fflush(stdout);
    pid_t child = fork_for_python();
    if (child == 0) {
        bool told = put(bus, 0, 1) == EB_ORPHAN && eb_bus_error(bus) == EMFILE;
        told = told && eb_bus_leave(bus, EB_POLL) == EB_ORPHAN;
        eb_bus_free(bus);
        _exit(told ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    while (count > 0)
        close(fds[--count]);
    setrlimit(RLIMIT_NOFILE, &before);
    EQUAL("it is told", status, 0);
    EQUAL("the parent goes on", put(bus, 0, 1), EB_OK);
    close_bus(bus);
}

/* --- descriptors that somebody else closed --- */

static void a_closed_descriptor_is_noticed(void)
{
    named it = name_it("robbed");
    eb_bus *bus = create(&it);
    eb_subscription *sub = join(bus, EB_LATEST, true);
    int roster = eb_bus_roster_fd(bus), slot = sub->file.fd;
    close(roster);
    close(slot);
    CHECK("their numbers are given to others", open("/dev/null", O_RDWR) >= 0 && open("/dev/null", O_RDWR) >= 0);
    EQUAL("it is no lock any more", eb_subscription_check(sub), EB_ROBBED);
    EQUAL("nor a bus", put(bus, 0, 1), EB_ROBBED);
    EQUAL("nor anything", eb_topic(bus, "xy", 1, 1, EB_POLL), EB_ROBBED);
    int status;
    eb_terms terms = {.system = "", .kind = "", .name = "", .start = EB_LATEST};
    CHECK("nobody joins", !subscribe(bus, &terms, EB_POLL, &status) && status == EB_ROBBED);
    leave(sub);
    EQUAL("leaving says so", eb_bus_leave(bus, EB_POLL), EB_ROBBED);
    eb_bus_free(bus);
    CHECK("what has the numbers now is open", fcntl(roster, F_GETFD) >= 0 && fcntl(slot, F_GETFD) >= 0);
    close(roster);
    close(slot);
    CHECK("the names are left as abandoned", has(it.ring) && has(it.roster));
    shm_unlink(it.ring);
    shm_unlink(it.roster);
}

static void a_number_of_our_own_that_is_another_s_now(void)
{
    named it = name_it("number");
    eb_bus *bus = create(&it), *keeper = attach(&it);
    close(eb_bus_roster_fd(bus));
    eb_bus *other = attach(&it);
    EQUAL("the same file under the same number", eb_bus_check(bus), EB_ROBBED);
    EQUAL("is not taken for ours", eb_bus_leave(bus, EB_POLL), EB_ROBBED);
    EQUAL("the other one works", put(other, 0, 1), EB_OK);
    EQUAL("and is attached", eb_bus_others(keeper), 1);
    eb_bus_free(bus);
    close_bus(other);
    close_bus(keeper);
}

int main(void)
{
    RUN(attachments_are_counted_exactly);
    RUN(one_at_a_time_passes_the_door);
    RUN(leaving_releases_what_it_took_and_no_more);
    RUN(who_leaves_in_the_middle_of_a_send_is_counted);
    RUN(a_lock_that_was_taken_over_is_not_given_back);
    RUN(who_leaves_between_look_and_lock_does_not_send);
    RUN(who_leaves_between_look_and_lock_writes_nothing);
    RUN(the_last_one_out_removes_the_names);
    RUN(a_name_that_means_another_is_left_alone);
    RUN(what_is_opened_half_way_leaves_nothing);
    RUN(a_child_of_python_is_attached);
    RUN(a_child_of_c_has_nothing);
    RUN(nobody_outlives_its_death);
    RUN(a_child_without_a_descriptor_says_why);
    RUN(a_closed_descriptor_is_noticed);
    RUN(a_number_of_our_own_that_is_another_s_now);
    return checked();
}
