/* The test points' own declarations, for a build with EVENTBUS_TEST_POINTS=1 only. */
#ifndef EVENTBUS_TESTING_H
#define EVENTBUS_TESTING_H
#endif

int eb_test_point_count(void);
const char *eb_test_point_name(int point);
/* This process sends itself `signal` when it has come to the point `passes` times; 0 disarms. Each point is armed by
 * itself. */
void eb_test_arm(int point, int signal, int passes);
/* How often this process, and those it was forked from, came to the point since it was armed last. */
int eb_test_passed(int point);
/* Whether the text of patterns means the name, as it is told from a slot. */
int eb_test_means(const char *patterns, const char *name);
/* Writes down what a build that measures coverage has counted, which else only a normal end does. */
void eb_test_flush(void);
