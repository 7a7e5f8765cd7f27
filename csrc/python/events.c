/* Events: the asynchronous iterator of a Receiver. What is in hand is had without a coroutine; whoever must wait for more
 * waits in the one that Python has for it. */
#include "fast.h"

static PyTypeObject *events_type;
static PyObject *awaited_next, *throw_name; /* names of methods */

typedef struct {
    PyObject base;
    receiver_object *of;
    PyObject *waits; /* the coroutine, where what was in hand had gone by the time that it was awaited; else NULL */
} events_object;

PyObject *eb_events_of(PyObject *receiver)
{
    events_object *self = (events_object *)PyType_GenericAlloc(events_type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(receiver);
    self->of = (receiver_object *)receiver;
    return (PyObject *)self;
}

static PyObject *wait_for_next(events_object *self)
{
    return PyObject_CallMethodObjArgs((PyObject *)self->of, awaited_next, NULL);
}

/* Something to await: itself while there is something in hand, and others in the loop need not run first. Nothing is taken
 * before it is awaited. */
static PyObject *events_anext(PyObject *object)
{
    events_object *self = (events_object *)object;
    const receiver_object *of = self->of;
    if (!eb_is_whole(of)) return NULL;
    bool at_hand = !of->asks && self->waits == NULL && of->in_a_row < EB_BATCH_LIMIT;
    if (!at_hand || eb_hand_left(eb_hand_of(of)) == 0) return wait_for_next(self);
    Py_INCREF(object);
    return object;
}

static PySendResult events_send(PyObject *object, PyObject *value, PyObject **result)
{
    events_object *self = (events_object *)object;
    if (self->waits == NULL) {
        *result = PyIter_Next(self->of->ready);
        if (*result != NULL) {
            self->of->in_a_row++;
            return PYGEN_RETURN;
        }
        if (PyErr_Occurred() || (self->waits = wait_for_next(self)) == NULL) return PYGEN_ERROR;
    }
    PySendResult sent = PyIter_Send(self->waits, value, result);
    if (sent != PYGEN_NEXT) Py_CLEAR(self->waits);
    return sent;
}

/* For those that await without sending: the value stands in the StopIteration. */
static PyObject *events_iternext(PyObject *object)
{
    PyObject *result = NULL;
    PySendResult sent = events_send(object, Py_None, &result);
    if (sent == PYGEN_NEXT) return result;
    if (sent == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
        if (stop != NULL) PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
        Py_DECREF(result);
    }
    return NULL;
}

/* An exception for whoever awaits it, as of a task that is cancelled. */
static PyObject *events_throw(PyObject *object, PyObject *given)
{
    events_object *self = (events_object *)object;
    PyObject *type, *error = NULL, *traceback = NULL;
    if (self->waits != NULL) {
        PyObject *method = PyObject_GetAttr(self->waits, throw_name);
        PyObject *result = method == NULL ? NULL : PyObject_Call(method, given, NULL);
        Py_XDECREF(method);
        if (result == NULL) Py_CLEAR(self->waits);
        return result;
    }
    if (!PyArg_UnpackTuple(given, "throw", 1, 3, &type, &error, &traceback)) return NULL;
    PyErr_SetObject(PyExceptionInstance_Check(type) ? (PyObject *)Py_TYPE(type) : type,
                    PyExceptionInstance_Check(type) ? type : error);
    return NULL;
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
    throw_name = PyUnicode_InternFromString("throw");
    events_type = (PyTypeObject *)PyType_FromSpec(&events_spec);
    return awaited_next != NULL && throw_name != NULL && events_type != NULL;
}
