/* The whole test framework: a truth that does not hold ends the program and says which one, where. */
#ifndef EVENTBUS_CHECK_H
#define EVENTBUS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

static inline int *check_count(void)
{
    static _Thread_local int count; /* no thread of a stress test waits for another here */
    return &count;
}

static inline void check_failed(const char *file, int line, const char *truth, const char *expression)
{
    printf("%s:%d: not so: %s [%s]\n", file, line, truth, expression);
    fflush(stdout);
    _Exit(1);
}

#define CHECK(truth, expression)                                                                                       \
    do {                                                                                                               \
        ++*check_count();                                                                                              \
        if (!(expression)) check_failed(__FILE__, __LINE__, truth, #expression);                                       \
    } while (0)

/* Also shows both numbers. */
#define EQUAL(truth, left, right)                                                                                      \
    do {                                                                                                               \
        long long left_ = (long long)(left), right_ = (long long)(right);                                              \
        if (left_ != right_) printf("%lld is not %lld\n", left_, right_);                                              \
        CHECK(truth, left_ == right_);                                                                                 \
    } while (0)

#define RUN(moment)                                                                                                    \
    do {                                                                                                               \
        moment();                                                                                                      \
        printf("%s\n", #moment);                                                                                       \
    } while (0)

static inline int checked(void)
{
    printf("%d checks\n", *check_count());
    return 0;
}

#endif
