/* More: awaited, whether there is something in hand by now. It takes what the core has, and waits for the doorbell in between,
 * with a Waiter of the loop; nothing is in hand while it waits. One for all that waits for a subscription in an event loop. */
#include "fast.h"

static PyTypeObject *more_type;
static PyObject *wait_name, *left_name, *pass_on_name; /* names of methods */

typedef struct {
    PyObject base;
    receiver_object *of;
    PyObject *deadline; /* as an int */
    PyObject *waiter;   /* while it waits, else NULL */
    bool again;         /* whether it has waited before */
} more_object;

PyObject *eb_more_of(receiver_object *receiver, PyObject *deadline)
{
    more_object *self = (more_object *)PyType_GenericAlloc(more_type, 0);
    if (self == NULL) return NULL;
    Py_INCREF((PyObject *)receiver);
    Py_INCREF(deadline);
    self->of = receiver;
    self->deadline = deadline;
    return (PyObject *)self;
}

/* With an error that there was before, that stays. */
static void call(receiver_object *of, PyObject *method, PyObject *first, PyObject *second)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)of, method, first, second, NULL);
    Py_XDECREF(result);
    if (type == NULL) return;
    if (result == NULL) PyErr_Clear();
    PyErr_Restore(type, error, traceback);
}

static bool is_over(const receiver_object *of)
{
    return of->ended || of->handle == NULL || of->handle == Py_None;
}

static bool is_late(PyObject *deadline)
{
    long long until = PyLong_AsLongLong(deadline);
    return until != EB_FOREVER && eb_ticket_now() >= until;
}

/* A poll ends the wait of all who wait for the subscription: this one waits on for them, too, or sees to it that the next of
 * them does. */
static void pass_on(more_object *self, PyObject *queue)
{
    receiver_object *of = self->of;
    if (of->doorbell == NULL || of->doorbell == Py_None) return;
    if (queue == NULL || is_over(of) || PyObject_Size(queue) > 0) call(of, pass_on_name, NULL, NULL);
}

/* It waits no longer; whoever gives up leaves no trace. A deadline has a timer. */
static void leave(more_object *self, PyObject *waiter, bool gave_up)
{
    if (!gave_up && !eb_waiter_is_timed(waiter)) return;
    PyObject *given_up = PyBool_FromLong(gave_up);
    call(self->of, left_name, waiter, given_up);
    Py_DECREF(given_up);
}

static void give_up(more_object *self)
{
    PyObject *waiter = self->waiter;
    if (waiter == NULL) return;
    self->waiter = NULL;
    leave(self, waiter, true);
    pass_on(self, NULL);
    Py_DECREF(waiter);
}

/* 1 when there is something in hand, 0 when the deadline is over or the end has come, -1 with an error; 2 when it waits. */
static int look(more_object *self)
{
    receiver_object *of = self->of;
    int filled = eb_poll(of);
    if (filled != 0 || is_over(of) || is_late(self->deadline)) return filled;
    of->in_a_row = 0;
    PyObject *again = PyBool_FromLong(self->again);
    self->again = true;
    self->waiter = PyObject_CallMethodObjArgs((PyObject *)of, wait_name, self->deadline, again, NULL);
    Py_DECREF(again);
    return self->waiter == NULL ? -1 : 2;
}

/* Whether somebody awaits it just now, and was told nothing yet. */
bool eb_more_waits(PyObject *object)
{
    const more_object *self = (more_object *)object;
    return self->waiter != NULL && eb_waiter_is_pending(self->waiter);
}

static PySendResult more_send(PyObject *object, PyObject *value, PyObject **result)
{
    (void)value;
    more_object *self = (more_object *)object;
    PyObject *waiter = self->waiter, *queue = NULL;
    int status = 0;
    if (eb_more_waits(object)) {
        PyErr_SetString(PyExc_RuntimeError, "it is awaited already");
        return PYGEN_ERROR;
    }
    self->waiter = NULL;
    if (waiter != NULL) {
        status = eb_waiter_check(waiter);
        leave(self, waiter, status != 0);
        if (status == 0) queue = eb_waiter_queue(waiter);
    }
    if (status == 0) status = PyErr_Occurred() ? -1 : look(self);
    if (status == 2) {
        Py_XDECREF(waiter);
        *result = eb_waiter_begin(self->waiter);
        return PYGEN_NEXT;
    }
    pass_on(self, queue);
    Py_XDECREF(waiter);
    if (status < 0 || PyErr_Occurred()) return PYGEN_ERROR;
    *result = PyBool_FromLong(status);
    return PYGEN_RETURN;
}

/* For those that await without sending: what was sent is the result, or stands in a StopIteration. */
PyObject *eb_sent(PySendResult sent, PyObject *result)
{
    if (sent == PYGEN_NEXT) return result;
    if (sent == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
        if (stop != NULL) PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
        Py_DECREF(result);
    }
    return NULL;
}

/* The error of what `throw` is given: NULL. */
PyObject *eb_thrown(PyObject *given)
{
    PyObject *type, *error = NULL, *traceback = NULL;
    if (!PyArg_UnpackTuple(given, "throw", 1, 3, &type, &error, &traceback)) return NULL;
    PyErr_SetObject(PyExceptionInstance_Check(type) ? (PyObject *)Py_TYPE(type) : type,
                    PyExceptionInstance_Check(type) ? type : error);
    return NULL;
}

static PyObject *more_iternext(PyObject *object)
{
    PyObject *result = NULL;
    PySendResult sent = more_send(object, Py_None, &result);
    return eb_sent(sent, result);
}

/* An exception for whoever awaits it, as of a task that is cancelled. */
static PyObject *more_throw(PyObject *object, PyObject *given)
{
    give_up((more_object *)object);
    return PyErr_Occurred() ? NULL : eb_thrown(given);
}

static PyObject *more_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    give_up((more_object *)object);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

/* Dropped while it waits. */
static void more_finalize(PyObject *object)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    give_up((more_object *)object);
    if (PyErr_Occurred()) PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, error, traceback);
}

static PyObject *more_self(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static int more_traverse(PyObject *object, visitproc visit, void *arg)
{
    more_object *self = (more_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->of);
    Py_VISIT(self->waiter);
    return 0;
}

static int more_clear(PyObject *object)
{
    more_object *self = (more_object *)object;
    Py_CLEAR(self->of);
    Py_CLEAR(self->waiter);
    return 0;
}

static void more_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    more_finalize(object);
    more_clear(object);
    Py_XDECREF(((more_object *)object)->deadline);
    eb_fast_free(object);
}

static PyMethodDef more_methods[] = {
    {"throw", more_throw, METH_VARARGS, NULL},
    {"close", more_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(more_doc,
             "Awaited, whether there is something in hand by now; False when the time is up or the end has come.");

static PyType_Slot more_slots[] = {
    {Py_tp_doc, (void *)more_doc},
    {Py_tp_traverse, (void *)more_traverse},
    {Py_tp_clear, (void *)more_clear},
    {Py_tp_finalize, (void *)more_finalize},
    {Py_tp_dealloc, (void *)more_dealloc},
    {Py_am_await, (void *)more_self},
    {Py_am_send, (void *)more_send},
    {Py_tp_iter, (void *)more_self},
    {Py_tp_iternext, (void *)more_iternext},
    {Py_tp_methods, (void *)more_methods},
    {0, NULL},
};

static PyType_Spec more_spec = {
    .name = "eventbus._fast.More",
    .basicsize = sizeof(more_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = more_slots,
};

int eb_more_ready(void)
{
    wait_name = PyUnicode_InternFromString("_wait");
    left_name = PyUnicode_InternFromString("_waited");
    pass_on_name = PyUnicode_InternFromString("_pass_on");
    more_type = (PyTypeObject *)PyType_FromSpec(&more_spec);
    return wait_name != NULL && left_name != NULL && pass_on_name != NULL && more_type != NULL;
}
