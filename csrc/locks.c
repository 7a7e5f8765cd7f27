/* Locks on bytes of the roster's file, and the descriptors that carry them. They belong to an open file description: the
 * kernel drops them when its last descriptor is closed, whoever dies how, in any PID namespace. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- descriptors, which somebody may close underneath, and open as another file --- */

bool eb_file_identify(eb_file *file, int fd)
{
    struct stat seen;
    if (fstat(fd, &seen) != 0) return false;
    *file = (eb_file){.fd = fd, .device = seen.st_dev, .inode = seen.st_ino, .offset = lseek(fd, 0, SEEK_CUR)};
    return true;
}

bool eb_file_ours(const eb_file *file)
{
    eb_file seen = {.fd = -1};
    return file->fd >= 0 && eb_file_identify(&seen, file->fd) && seen.device == file->device &&
           seen.inode == file->inode && seen.offset == file->offset;
}

/* Another description of the same file, for the same use, even when its name is gone or belongs to another one. */
int eb_file_reopen(int fd, eb_file *to)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int mode = fcntl(fd, F_GETFL);
    int opened = mode < 0 ? -1 : open(path, (mode & O_ACCMODE) | O_CLOEXEC);
    if (opened < 0) return EB_SYSTEM;
    lseek(opened, eb_now(), SEEK_SET);
    eb_file_identify(to, opened);
    return EB_OK;
}

/* The number is forgotten in any case; what it is now is closed only if it is still the file that we opened. */
void eb_file_close(eb_file *file)
{
    if (eb_file_ours(file)) close(file->fd);
    file->fd = -1;
}

/* --- locks --- */

/* EB_NOTHING when another description has it. */
static int set_lock(const eb_file *file, short type, int64_t byte)
{
    if (!eb_file_ours(file)) return EB_ROBBED;
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(file->fd, F_OFD_SETLK, &lock) == 0) return EB_OK;
    if (errno == EBADF) return EB_ROBBED; /* since the look before */
    return errno == EAGAIN || errno == EACCES ? EB_NOTHING : EB_SYSTEM;
}

int eb_byte_lock(const eb_file *file, int64_t byte)
{
    return set_lock(file, F_WRLCK, byte);
}

void eb_byte_unlock(const eb_file *file, int64_t byte)
{
    set_lock(file, F_UNLCK, byte);
}

/* Whether another description holds a lock in the range, and where the one that the kernel names lies. In doubt, as when
 * the descriptor is another file by now, it does: nobody is taken for dead by mistake. */
static bool held_elsewhere(const eb_file *file, int64_t start, int64_t length, int64_t *where)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (!eb_file_ours(file) || fcntl(file->fd, F_OFD_GETLK, &lock) != 0) return true;
    if (where) *where = lock.l_start;
    return lock.l_type != F_UNLCK;
}

bool eb_byte_held(const eb_file *file, int64_t byte)
{
    return held_elsewhere(file, byte, 1, NULL);
}

/* These locks are rarely taken and held for microseconds, so waiting is a poll: it needs no thread and ends on time. */
static int lock_until(const eb_file *file, int64_t byte, int64_t deadline)
{
    int status;
    while ((status = eb_byte_lock(file, byte)) == EB_NOTHING) {
        if (eb_over(deadline)) return EB_BUSY;
        struct timespec pause = {.tv_nsec = EB_MILLISECOND};
        if (nanosleep(&pause, NULL) != 0) return EB_INTERRUPTED;
    }
    return status;
}

int eb_door_enter(const eb_file *file, int64_t deadline)
{
    int status = lock_until(file, EB_DOOR_BYTE, deadline);
    if (status == EB_OK) EB_TEST_POINT(door_entered);
    return status;
}

void eb_door_leave(const eb_file *file)
{
    eb_byte_unlock(file, EB_DOOR_BYTE);
    EB_TEST_POINT(door_left);
}

int eb_roster_lock(const eb_file *file, int64_t deadline)
{
    int status = lock_until(file, EB_ROSTER_BYTE, deadline);
    if (status == EB_OK) EB_TEST_POINT(roster_locked);
    return status;
}

void eb_roster_unlock(const eb_file *file)
{
    eb_byte_unlock(file, EB_ROSTER_BYTE);
    EB_TEST_POINT(roster_unlocked);
}

/* A byte that nobody else has, drawn at random: so that those who hold one can be counted, and told apart. */
static int draw(const eb_file *file, int64_t first, int64_t *byte)
{
    int status;
    do {
        uint64_t drawn = 0;
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) return EB_SYSTEM;
        *byte = first + (int64_t)(drawn % EB_DRAWN_BYTES);
        status = eb_byte_lock(file, *byte);
    } while (status == EB_NOTHING);
    return status;
}

int eb_attachment_draw(const eb_file *file, int64_t *byte)
{
    int status = draw(file, EB_ATTACHMENT_BYTE, byte);
    if (status == EB_OK) EB_TEST_POINT(attached);
    return status;
}

int eb_publisher_draw(const eb_file *file, uint64_t *token)
{
    int64_t byte = 0;
    int status = draw(file, EB_PUBLISHER_BYTE, &byte);
    if (status != EB_OK) return status;
    *token = (uint64_t)(byte - EB_PUBLISHER_BYTE) + 1;
    EB_TEST_POINT(publisher_entered);
    return EB_OK;
}

void eb_publisher_unlock(const eb_file *file, uint64_t token)
{
    if (token != 0) eb_byte_unlock(file, EB_PUBLISHER_BYTE + (int64_t)token - 1);
}

/* Of another attachment than the one asking; a token that cannot be is nobody's. */
bool eb_publisher_alive(const eb_file *file, uint64_t token)
{
    return token != 0 && token <= EB_DRAWN_BYTES && eb_byte_held(file, EB_PUBLISHER_BYTE + (int64_t)token - 1);
}

/* The kernel names one lock in the range, not the first, so the range is split there. Its depth is the number found. */
static int64_t count_locks(const eb_file *file, int64_t start, int64_t length)
{
    int64_t where = 0;
    if (length <= 0 || !held_elsewhere(file, start, length, &where)) return 0;
    if (where < start || where >= start + length) return 1; /* in doubt */
    return 1 + count_locks(file, start, where - start) + count_locks(file, where + 1, start + length - where - 1);
}

int64_t eb_attachments(const eb_file *file)
{
    return count_locks(file, EB_ATTACHMENT_BYTE, EB_DRAWN_BYTES);
}

/* Nobody is attached through another description, and no publisher that has left is still in the middle of a send. */
bool eb_is_alone(const eb_file *file)
{
    return !held_elsewhere(file, EB_ATTACHMENT_BYTE, EB_DRAWN_BYTES, NULL) &&
           !held_elsewhere(file, EB_PUBLISHER_BYTE, EB_DRAWN_BYTES, NULL);
}
