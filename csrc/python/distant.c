/* Who waits for answers in event loops: each is told by its future, and in its own loop. */
#include "fast.h"

static struct {
    PyObject *done, *set_result; /* names of methods */
} bound;

/* It has its answer, or will have none. */
void eb_distant_owe(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    Py_INCREF((PyObject *)ticket);
    ticket->next = NULL;
    if (self->last_owed == NULL) self->owed = ticket;
    else self->last_owed->next = ticket;
    self->last_owed = ticket;
}

/* The first of that loop, not owed any more; NULL for none. */
static ticket_object *take_owed(replies_object *self, PyObject *loop)
{
    ticket_object *before = NULL, *ticket = self->owed;
    while (ticket != NULL && ticket->loop != loop) {
        before = ticket;
        ticket = ticket->next;
    }
    if (ticket == NULL) return NULL;
    if (before == NULL) self->owed = ticket->next;
    else before->next = ticket->next;
    if (self->last_owed == ticket) self->last_owed = before;
    return ticket;
}

/* False with an error. */
static bool resolve(PyObject *future)
{
    PyObject *done = PyObject_CallMethodObjArgs(future, bound.done, NULL);
    int over = done == NULL ? -1 : PyObject_IsTrue(done);
    Py_XDECREF(done);
    if (over != 0) return over > 0;
    PyObject *none = PyObject_CallMethodObjArgs(future, bound.set_result, Py_None, NULL);
    Py_XDECREF(none);
    return none != NULL;
}

/* In the loop that is given, those who wait there are told; of one that is closed they are forgotten. Whether others are still
 * to be told in theirs. */
PyObject *eb_distant_tell(PyObject *object, PyObject *const *given, Py_ssize_t count)
{
    replies_object *self = (replies_object *)object;
    bool closed = count > 1 && given[1] == Py_True, told = true;
    ticket_object *ticket;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "tell takes a loop");
        return NULL;
    }
    while (told && (ticket = take_owed(self, given[0])) != NULL) {
        told = closed || resolve(ticket->future);
        Py_DECREF((PyObject *)ticket);
    }
    return told ? PyBool_FromLong(self->owed != NULL) : NULL;
}

/* A list of those who wait, in that loop or in any, whose deadline is before `now`; NULL with an error. `next` becomes the
 * first of the other deadlines. */
static PyObject *late(const replies_object *self, PyObject *loop, int64_t now, int64_t *next)
{
    PyObject *found = PyList_New(0), *identity, *address;
    Py_ssize_t place = 0;
    while (found != NULL && PyDict_Next(self->waiting, &place, &identity, &address)) {
        ticket_object *ticket = PyLong_AsVoidPtr(address);
        if (ticket->future == NULL || (loop != NULL && ticket->loop != loop)) continue;
        bool is_late = now == INT64_MAX || (ticket->deadline != EB_FOREVER && ticket->deadline <= now);
        if (is_late && PyList_Append(found, (PyObject *)ticket) != 0) Py_CLEAR(found);
        else if (!is_late && ticket->deadline != EB_FOREVER && ticket->deadline < *next) *next = ticket->deadline;
    }
    return found;
}

/* All of the list, which is given up, are told that there is this answer, or none. */
static void give_up(PyObject *list, PyObject *answer)
{
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
        ticket_object *ticket = (ticket_object *)PyList_GetItem(list, i);
        if (!ticket->known) continue;
        Py_XINCREF(answer);
        ticket->answer = answer;
        eb_ticket_strike(ticket);
        eb_distant_owe(ticket);
    }
    Py_DECREF(list);
}

/* Those who wait in the loop and have no time left will have no answer; the next deadline of the others, or EB_FOREVER. */
PyObject *eb_distant_expire(PyObject *object, PyObject *loop)
{
    int64_t next = INT64_MAX;
    PyObject *found = late((replies_object *)object, loop, eb_ticket_now(), &next);
    if (found == NULL) return NULL;
    give_up(found, NULL);
    return PyLong_FromLongLong(next == INT64_MAX ? EB_FOREVER : next);
}

/* All who wait in loops have this error for an answer, or with None none. */
PyObject *eb_distant_release(PyObject *object, PyObject *error)
{
    int64_t next = INT64_MAX;
    PyObject *found = late((replies_object *)object, NULL, INT64_MAX, &next);
    if (found == NULL) return NULL;
    give_up(found, error == Py_None ? NULL : error);
    Py_RETURN_NONE;
}

int eb_distant_ready(void)
{
    bound.done = PyUnicode_InternFromString("done");
    bound.set_result = PyUnicode_InternFromString("set_result");
    return bound.done != NULL && bound.set_result != NULL;
}
