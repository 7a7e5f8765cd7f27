/* What happens at a test point: count, stop or die if this is the one, run the hook. Never part of a release. */
#include "testing.h"

#include <signal.h>
#include <unistd.h>

#include "internal.h"

#define EB_POINT_STRING(name) #name,
static const char *const names[] = {EB_TEST_POINT_LIST(EB_POINT_STRING)};

static _Atomic int passes_left[EB_POINT_COUNT], signals[EB_POINT_COUNT], passed[EB_POINT_COUNT];

void (*eb_test_hook)(int point);

int eb_test_point_count(void)
{
    return EB_POINT_COUNT;
}

const char *eb_test_point_name(int point)
{
    return point >= 0 && point < EB_POINT_COUNT ? names[point] : "";
}

void eb_test_arm(int point, int signal, int passes)
{
    if (point < 0 || point >= EB_POINT_COUNT) return;
    atomic_store(&passed[point], 0);
    atomic_store(&signals[point], signal);
    atomic_store(&passes_left[point], passes);
}

int eb_test_passed(int point)
{
    return point >= 0 && point < EB_POINT_COUNT ? atomic_load(&passed[point]) : 0;
}

int eb_test_means(const char *patterns, const char *name)
{
    return eb_means(patterns, name, strlen(name));
}

#ifdef EB_COVERAGE
void __gcov_dump(void);
void __gcov_reset(void);
void eb_test_flush(void)
{
    __gcov_dump();
    __gcov_reset();
}
#else
void eb_test_flush(void)
{
}
#endif

void eb_test_point(int point)
{
    atomic_fetch_add(&passed[point], 1);
    if (atomic_load(&passes_left[point]) > 0 && atomic_fetch_sub(&passes_left[point], 1) == 1) {
        eb_test_flush();
        kill(getpid(), atomic_load(&signals[point]));
    }
    if (eb_test_hook) eb_test_hook(point);
}
