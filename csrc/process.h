/* Who is told of forks and of the end of the process. */
#ifndef EVENTBUS_PROCESS_H
#define EVENTBUS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* What process.c keeps of whoever must know of forks and of the end: by its functions. All but `at_exit` run within the
 * guard, the first three in the thread that forks. */
typedef struct eb_kept eb_kept;
typedef struct {
    void (*before_fork)(eb_kept *kept, bool python);
    void (*in_parent)(eb_kept *kept);             /* where Python forks */
    bool (*in_child)(eb_kept *kept, bool python); /* whether it is the child's from now on */
    void (*hold)(eb_kept *kept);                  /* its memory, for `at_exit`, which gives it up */
    void (*at_exit)(eb_kept *kept);
    void (*number_taken)(eb_kept *kept, int fd);
} eb_keeping;
struct eb_kept {
    eb_kept *next;
    const eb_keeping *how;
    uint64_t generation; /* of the process whose it is */
    bool over;           /* its end has begun with that of the process */
};

/* process.c */
void eb_process_ready(void);
uint64_t eb_generation(void);
bool eb_is_ours(const eb_kept *one);
void eb_guard_enter(void);
void eb_guard_leave(void);
void eb_keep(eb_kept *one, const eb_keeping *how);
void eb_keep_no_more(eb_kept *one);
void eb_number_taken(int fd);
eb_kept *eb_kept_that(bool (*is)(const eb_kept *one, const void *with), const void *with);

#endif
