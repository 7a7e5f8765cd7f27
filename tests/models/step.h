/* What the models share: one step of a process, before which it may be killed.
 *
 * STEP(point, statements): the statements happen at once, as one load, store or read-modify-write of shared memory does;
 * the code passes the test point `point` right after them (`_`: there is none). A process with a label `dead` may be
 * killed before each step, DEATHS times in all: what it did before stays, what it had not done never happens.
 * CALM is a step of a process, or of a moment, that nobody is killed in. */
#ifndef DEATHS
#define DEATHS 0
#endif

byte deaths;

#define CALM(point, ...) atomic { __VA_ARGS__ }
#if DEATHS > 0
#define STEP(point, ...)                                                                                               \
    if                                                                                                                 \
    :: atomic { __VA_ARGS__ }                                                                                          \
    :: atomic { deaths < DEATHS -> deaths++; goto dead }                                                               \
    fi
#else
#define STEP(point, ...) atomic { __VA_ARGS__ }
#endif

/* 1 if the condition holds, else 0: a comparison alone is a statement that waits. */
#define TRUTH(condition) ((condition) -> 1 : 0)
