/* A descriptor for one subscription by itself, for loops of any kind: it can be read when there may be something, also when
 * it is time to look again. It is an epoll instance of a doorbell of its own and of a timer. */
#define _GNU_SOURCE
#include "bell.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000ll

static bool add(int watch, int fd)
{
    struct epoll_event readable = {.events = EPOLLIN};
    return epoll_ctl(watch, EPOLL_CTL_ADD, fd, &readable) == 0;
}

/* Whether the numbers still mean what was put together: all that is no file looks alike to fstat. */
static bool has(int watch, int fd)
{
    struct epoll_event readable = {.events = EPOLLIN};
    return watch >= 0 && fd >= 0 && epoll_ctl(watch, EPOLL_CTL_MOD, fd, &readable) == 0;
}

static void take(int *number, int fd)
{
    eb_guard_enter();
    if (fd >= 0) eb_number_taken(fd);
    *number = fd;
    eb_guard_leave();
}

static int assemble(eb_subscription *sub, eb_apart *apart)
{
    eb_bus *bus = sub->bus;
    bool mute = atomic_load(&bus->roster.header->mute) != 0;
    int status = eb_bell_make(&bus->roster.file, bus->identity, bus->silent || mute, NULL, &apart->bell);
    if (status != EB_OK) return status;
    take(&apart->watch, epoll_create1(EPOLL_CLOEXEC));
    take(&apart->timer, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    bool whole = apart->watch >= 0 && apart->timer >= 0 && add(apart->watch, apart->bell->file.fd) &&
                 add(apart->watch, apart->timer);
    return whole ? EB_OK : EB_SYSTEM;
}

/* By whoever has the turn. */
int eb_apart_make(eb_subscription *sub)
{
    if (sub->apart) return EB_OK;
    eb_apart *apart = calloc(1, sizeof *apart);
    if (!apart) return EB_SYSTEM;
    apart->watch = apart->timer = -1;
    int status = assemble(sub, apart);
    if (status == EB_OK) {
        eb_guard_enter();
        sub->apart = apart;
        eb_guard_leave();
        return EB_OK;
    }
    int error = errno;
    if (apart->timer >= 0) add(apart->watch, apart->timer); /* by which it is known to be ours */
    eb_apart_close(apart, true);
    errno = error;
    return status;
}

static void set(const eb_apart *apart, struct itimerspec at)
{
    timerfd_settime(apart->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* From now on it can be read. */
void eb_apart_tell(const eb_apart *apart)
{
    set(apart, (struct itimerspec){.it_value.tv_nsec = 1});
}

/* It can be read from `until` on at the latest; what was told before is forgotten where that is asked for. */
void eb_apart_until(const eb_apart *apart, int64_t until, bool anew)
{
    if (anew) eb_bell_drain(apart->bell);
    set(apart, (struct itimerspec){.it_value = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND}});
}

/* Of a parent, the file of the bell stays. */
void eb_apart_close(eb_apart *apart, bool ours)
{
    if (!apart) return;
    bool timed = has(apart->watch, apart->timer);
    bool watched = timed || (apart->bell && has(apart->watch, apart->bell->file.fd));
    if (timed) close(apart->timer);
    if (watched) close(apart->watch);
    if (apart->bell && ours) eb_bell_take_down(apart->bell);
    else if (apart->bell) eb_bell_forget(apart->bell);
    free(apart);
}

void eb_apart_number_taken(eb_apart *apart, int fd)
{
    if (!apart) return;
    eb_bell_number_taken(apart->bell, fd);
    if (apart->watch == fd) apart->watch = -1;
    if (apart->timer == fd) apart->timer = -1;
}
