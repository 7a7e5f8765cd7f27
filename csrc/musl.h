/* Waits until a time on CLOCK_MONOTONIC, where the C library, as musl, only has those until a time on the clock of the wall.
 * musl sleeps for what is left until then when the wait begins, so a clock that is set meanwhile changes nothing; whoever
 * wakes too early sleeps again. */
#ifndef EB_MUSL_H
#define EB_MUSL_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#ifndef __GLIBC__

#define EB_MUSL_SECOND 1000000000ll

/* The time on the wall when it is ``until`` on the clock; false if that is over. */
static inline int eb_musl_wall(clockid_t clock, const struct timespec *until, struct timespec *wall)
{
    struct timespec now;
    clock_gettime(clock, &now);
    clock_gettime(CLOCK_REALTIME, wall);
    long long left = (until->tv_sec - now.tv_sec) * EB_MUSL_SECOND + until->tv_nsec - now.tv_nsec;
    long long nanoseconds = left + wall->tv_nsec;
    wall->tv_sec += nanoseconds / EB_MUSL_SECOND;
    wall->tv_nsec = nanoseconds % EB_MUSL_SECOND;
    return left > 0;
}

static inline int eb_musl_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
{
    struct timespec wall;
    while (eb_musl_wall(clock, until, &wall)) {
        if (sem_timedwait(semaphore, &wall) == 0) return 0;
        if (errno != ETIMEDOUT) return -1;
    }
    if (sem_trywait(semaphore) == 0) return 0;
    errno = ETIMEDOUT;
    return -1;
}

static inline int eb_musl_clocklock(pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until)
{
    struct timespec wall;
    while (eb_musl_wall(clock, until, &wall)) {
        int status = pthread_mutex_timedlock(mutex, &wall);
        if (status != ETIMEDOUT) return status;
    }
    int status = pthread_mutex_trylock(mutex);
    return status == EBUSY ? ETIMEDOUT : status;
}

#define sem_clockwait eb_musl_clockwait
#define pthread_mutex_clocklock eb_musl_clocklock

#endif
#endif
