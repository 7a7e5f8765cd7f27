/* Events: the asynchronous iterator of a Receiver. What is in hand is had at once, and what is not waits as all that waits in an
 * event loop does, without a coroutine. */
#include "fast.h"

static PyTypeObject *events_type;
static PyObject *awaited_next, *forever; /* the name of a method; a deadline */

typedef struct {
    PyObject base;
    receiver_object *of;
    PyObject *waits; /* a More, while it waits; else NULL */
} events_object;

PyObject *eb_events_of(PyObject *receiver)
{
    events_object *self = (events_object *)PyType_GenericAlloc(events_type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(receiver);
    self->of = (receiver_object *)receiver;
    return (PyObject *)self;
}

/* Something to await, which takes nothing before it is awaited: itself while there is something in hand; what waits is awaited
 * by one task. Whoever acknowledges by asking, has yet to join, or has kept others in the loop waiting for long, does more than
 * that in a coroutine. */
static PyObject *events_anext(PyObject *object)
{
    events_object *self = (events_object *)object;
    const receiver_object *of = self->of;
    if (!eb_is_whole(of)) return NULL;
    if (of->asks || of->handle == NULL || of->handle == Py_None || of->in_a_row >= EB_BATCH_LIMIT)
        return PyObject_CallMethodObjArgs((PyObject *)of, awaited_next, NULL);
    if (self->waits != NULL || eb_hand_left(eb_hand_of(of)) == 0) return eb_events_of((PyObject *)of);
    Py_INCREF(object);
    return object;
}

/* 1 when there is something in hand, 0 when nothing will come, -1 with an error; 2 when it waits, with `result`. */
static int more(events_object *self, PyObject *value, PyObject **result)
{
    if (self->waits == NULL) self->waits = eb_more_of(self->of, forever);
    if (self->waits == NULL) return -1;
    if (eb_more_waits(self->waits)) {
        PyErr_SetString(PyExc_RuntimeError, "what __anext__ returned is awaited already");
        return -1;
    }
    PyObject *filled = NULL;
    PySendResult sent = PyIter_Send(self->waits, value, &filled);
    if (sent == PYGEN_NEXT) {
        *result = filled;
        return 2;
    }
    Py_CLEAR(self->waits);
    int there = sent == PYGEN_RETURN ? PyObject_IsTrue(filled) : -1;
    Py_XDECREF(filled);
    return there;
}

static PySendResult events_send(PyObject *object, PyObject *value, PyObject **result)
{
    events_object *self = (events_object *)object;
    int there = 1;
    do {
        if (self->waits == NULL && (*result = PyIter_Next(self->of->ready)) != NULL) { /* or another one was faster */
            self->of->in_a_row++;
            return PYGEN_RETURN;
        }
        if (PyErr_Occurred()) return PYGEN_ERROR;
    } while ((there = more(self, value, result)) == 1);
    if (there == 2) return PYGEN_NEXT;
    if (there == 0) PyErr_SetNone(PyExc_StopAsyncIteration);
    return PYGEN_ERROR;
}

static PyObject *events_iternext(PyObject *object)
{
    PyObject *result = NULL;
    PySendResult sent = events_send(object, Py_None, &result);
    return eb_sent(sent, result);
}

/* As a task that is cancelled has it. */
static PyObject *events_throw(PyObject *object, PyObject *given)
{
    Py_CLEAR(((events_object *)object)->waits);
    return PyErr_Occurred() ? NULL : eb_thrown(given);
}

static PyObject *events_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_CLEAR(((events_object *)object)->waits);
    Py_RETURN_NONE;
}

static PyObject *events_self(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static int events_traverse(PyObject *object, visitproc visit, void *arg)
{
    events_object *self = (events_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->of);
    Py_VISIT(self->waits);
    return 0;
}

static int events_clear(PyObject *object)
{
    events_object *self = (events_object *)object;
    Py_CLEAR(self->waits);
    return 0;
}

static void events_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    events_clear(object);
    Py_XDECREF((PyObject *)((events_object *)object)->of);
    eb_fast_free(object);
}

static PyMethodDef events_methods[] = {
    {"throw", events_throw, METH_VARARGS, NULL},
    {"close", events_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(events_doc, "The events of a subscription, one by one, until it ends.");

static PyType_Slot events_slots[] = {
    {Py_tp_doc, (void *)events_doc},         {Py_tp_traverse, (void *)events_traverse},
    {Py_tp_clear, (void *)events_clear},     {Py_tp_dealloc, (void *)events_dealloc},
    {Py_am_aiter, (void *)events_self},      {Py_am_anext, (void *)events_anext},
    {Py_am_await, (void *)events_self},      {Py_am_send, (void *)events_send},
    {Py_tp_iter, (void *)events_self},       {Py_tp_iternext, (void *)events_iternext},
    {Py_tp_methods, (void *)events_methods}, {0, NULL},
};

static PyType_Spec events_spec = {
    .name = "eventbus._fast.Events",
    .basicsize = sizeof(events_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = events_slots,
};

int eb_events_ready(void)
{
    awaited_next = PyUnicode_InternFromString("_awaited_next");
    forever = PyLong_FromLongLong(EB_FOREVER);
    events_type = (PyTypeObject *)PyType_FromSpec(&events_spec);
    return awaited_next != NULL && forever != NULL && events_type != NULL;
}
