/* Whether there are other threads, which run while this one sends. */
#include "fast.h"

/* Of glibc 2.32 and later: not 0 while there certainly is no other thread (GNU C Library manual, "Single-Threaded"). Elsewhere there is
 * no such word, and its address is NULL. */
extern char __libc_single_threaded __attribute__((weak));

/* The GIL is let go, but where nobody can wait for it: to take it again is a tenth of a send. */
PyThreadState *eb_let_others(void)
{
    const char *alone = &__libc_single_threaded;
    return alone != NULL && *alone != 0 ? NULL : PyEval_SaveThread();
}

void eb_back(PyThreadState *threads)
{
    if (threads != NULL) PyEval_RestoreThread(threads);
}
