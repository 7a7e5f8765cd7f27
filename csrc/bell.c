/* The doorbell: a datagram socket that stands beside the segments, at which whoever publishes rings for a process whose
 * subscriptions wait in an event loop.
 *
 * Its file is named after the identity of the bus, and by a number drawn at random. A datagram says nothing: that it is
 * there means "look". It has no bytes, so that nothing is written to what has got the number of a socket that was closed
 * meanwhile. Whether somebody still answers there the kernel knows: a connection to a dead one is refused, in any
 * PID or network namespace. Where a socket cannot be had, it is a pipe, which only its own process writes to. */
#define _GNU_SOURCE
#include "bell.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BELL "eventbus.bell."
#define BELL_DIGITS (16 + 1 + 16) /* identity, dot, number */
#define AT_ONCE 16                /* datagrams that one call takes */

typedef struct sockaddr_un address;

static address address_of(uint64_t bus, uint64_t id)
{
    address at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/%s%016llx.%016llx", EB_SHARED_MEMORY, BELL, (unsigned long long)bus,
             (unsigned long long)id);
    return at;
}

/* --- make --- */

static int take(eb_file *file, int fd)
{
    if (fd < 0) return EB_SYSTEM;
    eb_guard_enter();
    eb_number_taken(fd);
    eb_file_identify(file, fd);
    eb_guard_leave();
    return EB_OK;
}

/* One that no file leads to: others' are rung with it. */
int eb_ringer_make(eb_file *file)
{
    return take(file, socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/* A pipe whose both ends are one descriptor: an eventfd cannot be told from another one that has got its number. */
static int open_pipe(eb_file *file)
{
    int ends[2];
    char path[32];
    if (pipe2(ends, O_CLOEXEC) != 0) return EB_SYSTEM;
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    int status = take(file, open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)), error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return status;
}

/* Whoever may write to the roster may ring. Until that is so nobody else may: the file is made for its owner alone. */
static bool bind_for_all(const eb_bell *bell, const struct stat *roster)
{
    address at = address_of(bell->bus, bell->id);
    if (fchmod(bell->file.fd, 0600) != 0) return false;
    if (bind(bell->file.fd, (struct sockaddr *)&at, sizeof at) != 0) return false;
    EB_TEST_POINT(bell_bound);
    bool shared = (roster->st_mode & 060) != 0;
    if ((!shared || lchown(at.sun_path, (uid_t)-1, roster->st_gid) == 0) &&
        chmod(at.sun_path, roster->st_mode & 0660) == 0)
        return true;
    unlink(at.sun_path);
    return false;
}

static bool has_socket(eb_bell *bell, const eb_file *ringer)
{
    if (!ringer) return eb_ringer_make(&bell->file) == EB_OK;
    bell->file = *ringer;
    return true;
}

static bool hang(eb_bell *bell, const eb_file *roster, const eb_file *ringer)
{
    struct stat seen;
    bool drawn = getrandom(&bell->id, sizeof bell->id, 0) == sizeof bell->id && bell->id != 0;
    if (drawn && fstat(roster->fd, &seen) == 0 && has_socket(bell, ringer) && bind_for_all(bell, &seen)) return true;
    if (ringer) bell->file.fd = -1;
    eb_file_close(&bell->file);
    bell->id = 0;
    return false;
}

/* A `silent` one is a pipe, and so is each where a socket cannot be had, or its file not be made. A socket that its process
 * rings others' with may be given, and is the bell's then, if that has an id. */
int eb_bell_make(const eb_file *roster, uint64_t bus, bool silent, const eb_file *ringer, eb_bell **made)
{
    eb_bell *bell = calloc(1, sizeof *bell);
    if (!bell) return EB_SYSTEM;
    bell->file.fd = -1;
    bell->bus = bus;
    atomic_store(&bell->holders, 1);
    if ((!silent && hang(bell, roster, ringer)) || open_pipe(&bell->file) == EB_OK) {
        *made = bell;
        return EB_OK;
    }
    free(bell);
    return EB_SYSTEM;
}

/* --- ring --- */

/* Whether nobody has closed its descriptor. */
bool eb_bell_whole(const eb_bell *bell)
{
    return eb_file_ours(&bell->file);
}

static bool ring(int fd, const address *at)
{
    return sendto(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)at, sizeof *at) == 0;
}

/* Whether no more can be rung with it, as too much is on its way to those who do not listen: as EAGAIN says, too. */
static bool is_choked(int fd)
{
    int waiting = 0, room = 0;
    socklen_t size = sizeof room;
    return ioctl(fd, SIOCOUTQ, &waiting) == 0 && getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size) == 0 &&
           waiting >= room;
}

static bool ring_with_another(const address *at)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool rung = fd >= 0 && (ring(fd, at) || errno == EAGAIN);
    if (fd >= 0) close(fd);
    return rung;
}

/* Whether somebody is there to hear it; one whose queue is full will look anyway. */
bool eb_bell_ring(const eb_file *from, uint64_t bus, uint64_t id)
{
    address at = address_of(bus, id);
    int error = errno;
    bool rung = ring(from->fd, &at) || (errno == EAGAIN && (!is_choked(from->fd) || ring_with_another(&at)));
    errno = error;
    return rung;
}

/* Our own, with itself. */
void eb_bell_chime(const eb_bell *bell)
{
    if (bell->id != 0) eb_bell_ring(&bell->file, bell->bus, bell->id);
    else if (eb_bell_whole(bell) && write(bell->file.fd, "", 1) < 0) return; /* it is full: it was rung before */
}

void eb_bell_drain(const eb_bell *bell)
{
    char bytes[AT_ONCE];
    struct iovec place = {bytes,
                          1}; /* of a datagram, nothing is read but that it was there; qemu's own would stay without */
    struct mmsghdr messages[AT_ONCE];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < AT_ONCE; i++)
        messages[i].msg_hdr.msg_iov = &place, messages[i].msg_hdr.msg_iovlen = 1;
    if (!eb_bell_whole(bell)) return;
    if (bell->id != 0)
        while (recvmmsg(bell->file.fd, messages, AT_ONCE, MSG_DONTWAIT, NULL) == AT_ONCE)
            ;
    else
        while (read(bell->file.fd, bytes, sizeof bytes) == sizeof bytes)
            ;
}

/* --- the end of it --- */

/* Its file goes, also where its descriptor was closed underneath; the descriptor, which a loop may be watching, with the
 * last who holds it. */
void eb_bell_take_down(eb_bell *bell)
{
    address at = address_of(bell->bus, bell->id);
    if (bell->id != 0) unlink(at.sun_path);
    EB_TEST_POINT(bell_taken_down);
    eb_bell_release(bell);
}

void eb_bell_release(eb_bell *bell)
{
    if (atomic_fetch_sub(&bell->holders, 1) != 1) return;
    eb_file_close(&bell->file);
    free(bell);
}

/* In a child: it is its parent's. */
void eb_bell_forget(eb_bell *bell)
{
    eb_file_close(&bell->file);
    eb_bell_release(bell);
}

void eb_bell_number_taken(eb_bell *bell, int fd)
{
    if (bell && bell->file.fd == fd) bell->file.fd = -1;
}

int eb_bell_fd(const eb_bell *bell)
{
    return eb_bell_whole(bell) ? bell->file.fd : -1;
}

static bool is_socket(const char *path)
{
    struct stat seen;
    return lstat(path, &seen) == 0 && S_ISSOCK(seen.st_mode);
}

/* Whether it is a socket at which nobody answers. */
static bool is_dead(const char *path)
{
    address at = {.sun_family = AF_UNIX};
    if (!is_socket(path)) return false;
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool dead = fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    return dead;
}

/* Of a slot whose owner is dead: its process may live, and others wait there. */
void eb_bell_bury(uint64_t bus, uint64_t id)
{
    address at = address_of(bus, id);
    if (id != 0 && is_dead(at.sun_path)) unlink(at.sun_path);
}

static bool is_bell(const char *name, uint64_t bus)
{
    char wanted[sizeof BELL + 17];
    int length = snprintf(wanted, sizeof wanted, bus != 0 ? "%s%016llx." : "%s", BELL, (unsigned long long)bus);
    return strncmp(name, wanted, (size_t)length) == 0 && strlen(name) == sizeof BELL - 1 + BELL_DIGITS;
}

/* Those of a bus, or with 0 of every bus, of which it is so; they stay where they are to be `counted`. How many. */
static int clear(uint64_t bus, bool (*is)(const char *path), bool counted)
{
    int found = 0;
    DIR *folder = opendir(EB_SHARED_MEMORY);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[sizeof EB_SHARED_MEMORY + sizeof entry->d_name];
        if (!is_bell(entry->d_name, bus)) continue;
        snprintf(path, sizeof path, "%s/%s", EB_SHARED_MEMORY, entry->d_name);
        if (is(path) && (counted || unlink(path) == 0)) found++;
    }
    if (folder) closedir(folder);
    return found;
}

/* With the bus, all go; while it stays, those of the dead. */
void eb_bells_clear(uint64_t bus, bool living)
{
    if (bus != 0) clear(bus, living ? is_socket : is_dead, false);
}

int eb_bells_sweep(int counting)
{
    return clear(0, is_dead, counting != 0);
}

void eb_bells_remove(int roster_fd)
{
    eb_bells_clear(eb_roster_identity(roster_fd), true);
    EB_TEST_POINT(bells_unlinked);
}
