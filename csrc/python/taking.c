/* Taking: what a member's next events are read to, in one step with their being acknowledged: what is returned is done with, and
 * what is not is given back. */
#include "fast.h"

static PyTypeObject *taking_type;
static PyObject *begins_name, *reject_name; /* names of methods */

typedef struct {
    PyObject base;
    receiver_object *of;
    PyObject *read;     /* what makes a value of an event */
    PyObject *deadline; /* as an int */
    Py_ssize_t limit;
} taking_object;

PyObject *eb_receiver_taking(PyObject *receiver, PyObject *given)
{
    PyObject *read, *deadline;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(given, "OnO!:_taking", &read, &limit, &PyLong_Type, &deadline)) return NULL;
    if (!eb_is_whole((receiver_object *)receiver)) return NULL;
    taking_object *self = (taking_object *)PyType_GenericAlloc(taking_type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(receiver);
    Py_INCREF(read);
    Py_INCREF(deadline);
    self->of = (receiver_object *)receiver;
    self->read = read;
    self->limit = limit;
    self->deadline = deadline;
    return (PyObject *)self;
}

/* Of the object itself, without arguments: 1, 0 where it says no, -1 with an error. */
static int ask(receiver_object *of, PyObject *method)
{
    PyObject *said = PyObject_CallMethodObjArgs((PyObject *)of, method, NULL);
    if (said == NULL) return -1;
    int answer = PyObject_IsTrue(said);
    Py_DECREF(said);
    return answer;
}

/* Its letters first; and whether it may have more. */
static int begins(receiver_object *of)
{
    bool plain = !of->ended && (of->letters == NULL || PyObject_Size(of->letters) == 0);
    return plain ? 1 : ask(of, begins_name);
}

/* The values of these events; NULL with an error. */
static PyObject *values_of(PyObject *read, PyObject *events)
{
    Py_ssize_t count = PyList_Size(events);
    PyObject *values = PyList_New(count);
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        PyObject *value = PyObject_CallFunctionObjArgs(read, PyList_GetItem(events, i), NULL);
        if (value == NULL || PyList_SetItem(values, i, value) != 0) Py_CLEAR(values);
    }
    return values;
}

/* With an error, which stays, or which is that of giving back. */
static void give_back(receiver_object *of)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    int given = ask(of, reject_name);
    if (given >= 0) {
        PyErr_Restore(type, error, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

/* The values of what is in hand, done with: an empty list where another thread was faster, NULL with an error. */
static PyObject *take(taking_object *self)
{
    receiver_object *of = self->of;
    PyObject *handle = of->handle, *events = PyList_New(0);
    Py_XINCREF(handle); /* `close` may drop it */
    PyObject *values = NULL;
    if (events != NULL && eb_hand_take(eb_hand_of(of), self->limit, events)) values = values_of(self->read, events);
    bool done = values != NULL && PyErr_CheckSignals() == 0;
    if (done && PyList_Size(values) > 0 && handle != NULL && handle != Py_None) done = eb_acknowledge(of, handle) >= 0;
    if (!done) {
        give_back(of);
        Py_CLEAR(values);
    }
    Py_XDECREF(events);
    Py_XDECREF(handle);
    return values;
}

/* NULL without an error when the time is up or the end has come. What is handed out and not done is of a call that raised. */
static PyObject *next_values(taking_object *self)
{
    receiver_object *of = self->of;
    const eb_batch_head *head = &eb_hand_of(of)->batch->head;
    bool unfinished = !eb_hand_is_inherited(eb_hand_of(of)) && head->handed != head->done;
    if (unfinished && ask(of, reject_name) < 0) return NULL;
    of->limit = (int)self->limit;
    for (;;) {
        if (begins(of) <= 0 || eb_fill(of, self->deadline) <= 0) return NULL;
        PyObject *values = take(self);
        if (values == NULL || PyList_Size(values) > 0) return values;
        Py_DECREF(values);
    }
}

/* In its turn from the first event until they are done with: else who receives meanwhile would be done with them. */
static PyObject *taking_next(PyObject *object)
{
    taking_object *self = (taking_object *)object;
    PyObject *turn = self->of->turn, *values = NULL;
    Py_INCREF(turn);
    if (eb_turn_await(self->of, turn, self->deadline) > 0) {
        values = next_values(self);
        if (!eb_turn_end(turn)) Py_CLEAR(values);
    }
    Py_DECREF(turn);
    return values;
}

static PyObject *taking_self(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static void taking_dealloc(PyObject *object)
{
    taking_object *self = (taking_object *)object;
    Py_XDECREF((PyObject *)self->of);
    Py_XDECREF(self->read);
    Py_XDECREF(self->deadline);
    eb_fast_free(object);
}

PyDoc_STRVAR(taking_doc, "Iterated, lists of what a member's next events were read to, until the time is up.");

static PyType_Slot taking_slots[] = {
    {Py_tp_doc, (void *)taking_doc},
    {Py_tp_dealloc, (void *)taking_dealloc},
    {Py_tp_iter, (void *)taking_self},
    {Py_tp_iternext, (void *)taking_next},
    {0, NULL},
};

static PyType_Spec taking_spec = {
    .name = "eventbus._fast.Taking",
    .basicsize = sizeof(taking_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = taking_slots,
};

int eb_taking_ready(void)
{
    begins_name = PyUnicode_InternFromString("_begins");
    reject_name = PyUnicode_InternFromString("reject");
    taking_type = (PyTypeObject *)PyType_FromSpec(&taking_spec);
    return begins_name != NULL && reject_name != NULL && taking_type != NULL;
}
