/* Receiver: takes the next batch, and makes events of it. What the core asks or refuses is settled in Python. */
#include "fast.h"

#include <limits.h>
#include <stdbool.h>

static struct {
    int (*receive)(eb_subscription *sub, int limit, int64_t deadline);
    int (*ack)(eb_subscription *sub);
    PyObject *segment_error;
    PyObject *no; /* False */
    /* names of attributes and methods */
    PyObject *subscription, *batch, *acquire, *release, *await_turn, *live_handle, *settle;
} bound;

/* An address that a handle keeps as an int; NULL with an error. */
static void *address_in(PyObject *handle, PyObject *attribute)
{
    PyObject *number = PyObject_GetAttr(handle, attribute);
    if (number == NULL) return NULL;
    void *address = PyLong_AsVoidPtr(number);
    Py_DECREF(number);
    if (address == NULL && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a handle without an address");
    return address;
}

/* Whether `__init__` has given it all it needs; false with an error. */
static bool is_whole(const receiver_object *self)
{
    if (self->ready != NULL && self->names != NULL && self->turn != NULL) return true;
    PyErr_SetString(PyExc_AttributeError, "a Receiver needs _ready, _names and _receiving");
    return false;
}

static PyObject *receiver_unpack(PyObject *object, PyObject *handle)
{
    receiver_object *self = (receiver_object *)object;
    const eb_batch *batch = is_whole(self) ? address_in(handle, bound.batch) : NULL;
    return batch == NULL ? NULL : eb_unpack(self, handle, batch);
}

/* --- the next batch --- */

/* Takes the batch that was read last in hand; its status, or INT_MIN with an error. What runs in between, a signal handler
 * or a destructor, may want to receive: meanwhile there is nothing. */
static int take_batch(receiver_object *self, PyObject *handle, const eb_batch *batch)
{
    self->unpacking = 1;
    PyObject *events = eb_unpack(self, handle, batch), *before = self->ready;
    self->unpacking = 0;
    if (events == NULL) {
        if (PyErr_ExceptionMatches(bound.segment_error))
            self->taken = batch->head.number; /* or it would come for ever */
        return INT_MIN;
    }
    int status = batch->head.status;
    self->ready = events;
    self->taken = batch->head.number;
    Py_XDECREF(before);
    return status;
}

/* The status of what is in hand then, or why there is nothing; INT_MIN with an error. An exception of a signal handler may
 * have come after C had gone on: so a batch that was read and not taken is taken first, before eb_receive rewrites it. */
static int read_batch(receiver_object *self, PyObject *handle, int64_t deadline)
{
    eb_subscription *sub = address_in(handle, bound.subscription);
    const eb_batch *batch = sub == NULL ? NULL : address_in(handle, bound.batch);
    if (batch == NULL) return INT_MIN;
    if (batch->head.number == self->taken) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = bound.receive(sub, self->limit, deadline);
        Py_END_ALLOW_THREADS;
        if (status <= 0 && status != EB_EXHAUSTED) return status;
    }
    if (batch->head.status == EB_EXHAUSTED)
        return EB_EXHAUSTED; /* a member hands it out to nobody, and says so itself */
    return take_batch(self, handle, batch);
}

/* --- the next events --- */

/* 1 when it is this thread's turn to receive, 0 when the time is up, -1 with an error. */
static int await_turn(receiver_object *self, PyObject *turn, PyObject *deadline)
{
    PyObject *taken = PyObject_CallMethodObjArgs(turn, bound.acquire, bound.no, NULL);
    if (taken == bound.no) {
        Py_DECREF(taken);
        taken = PyObject_CallMethodObjArgs((PyObject *)self, bound.await_turn, turn, deadline, NULL);
    }
    if (taken == NULL) return -1;
    int is_mine = PyObject_IsTrue(taken);
    Py_DECREF(taken);
    return is_mine;
}

/* False with an error, also with one that there was before. */
static bool end_turn(PyObject *turn)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyObject *released = PyObject_CallMethodObjArgs(turn, bound.release, NULL);
    if (released == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return false;
    }
    Py_DECREF(released);
    PyErr_Restore(type, error, traceback);
    return type == NULL;
}

static int has_ready(const receiver_object *self)
{
    PyObject *ready = self->ready;
    Py_ssize_t left = eb_events_left(ready);
    if (left >= 0) return left > 0;
    Py_INCREF(ready); /* the call may collect garbage, whose destructors may receive */
    PyObject *hint = PyObject_CallMethod(ready, "__length_hint__", NULL);
    Py_DECREF(ready);
    if (hint == NULL) return -1;
    left = PyLong_AsSsize_t(hint);
    Py_DECREF(hint);
    return left > 0;
}

/* What the core asks for or refuses. 1 to go on, 0 when the time is up or the end has come, -1 with an error. */
static int settle(receiver_object *self, PyObject *handle, int status)
{
    if (status == EB_NOTHING) return 0;
    PyObject *number = PyLong_FromLong(status);
    if (number == NULL) return -1;
    PyObject *settled = PyObject_CallMethodObjArgs((PyObject *)self, bound.settle, handle, number, NULL);
    Py_DECREF(number);
    if (settled == NULL) return -1;
    int go_on = PyObject_IsTrue(settled);
    Py_DECREF(settled);
    return go_on;
}

/* Of a member: what is in hand is done when the next event is asked for. It is out of hand first: an error may have an event
 * delivered once more, but none acknowledged that nobody has seen. 1, or -1 with an error. */
static int acknowledge(receiver_object *self, PyObject *handle)
{
    int count = self->in_hand;
    self->in_hand = 0;
    if (count == 0) return 1;
    eb_subscription *sub = address_in(handle, bound.subscription);
    for (; sub != NULL && count > 0; count--) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = bound.ack(sub);
        Py_END_ALLOW_THREADS;
        if (status != EB_OK && status != EB_NOTHING && settle(self, handle, status) < 0) return -1;
    }
    return sub == NULL ? -1 : 1;
}

static PyObject *receiver_acknowledge(PyObject *object, PyObject *handle)
{
    if (acknowledge((receiver_object *)object, handle) < 0) return NULL;
    Py_RETURN_NONE;
}

/* 1 when there are events, 0 when the time is up or the end has come, -1 with an error. */
static int fill(receiver_object *self, int64_t deadline)
{
    while (!self->unpacking) {
        int ready = has_ready(self), status = 1, go_on;
        if (ready < 0) return -1;
        if (self->handle == NULL || self->handle == Py_None) {
            PyObject *none = PyObject_CallMethodObjArgs((PyObject *)self, bound.live_handle, NULL);
            Py_XDECREF(none);
            return none == NULL ? -1 : 0;
        }
        if (!ready && self->ended) return 0;
        PyObject *handle = self->handle;
        Py_INCREF(handle); /* `close` may drop it while this thread is in Python */
        if (ready) go_on = acknowledge(self, handle);
        else {
            self->in_hand = 0; /* the core acknowledges it with the next claim */
            status = read_batch(self, handle, deadline);
            go_on = status > 0 ? 1 : status == INT_MIN ? -1 : settle(self, handle, status);
        }
        Py_DECREF(handle);
        if (go_on <= 0) return go_on;
        if (status > 0) return 1;
    }
    return 0;
}

static PyObject *receiver_fill(PyObject *object, PyObject *until)
{
    receiver_object *self = (receiver_object *)object;
    long long deadline = PyLong_AsLongLong(until);
    if (PyErr_Occurred() || !is_whole(self)) return NULL;
    PyObject *turn = self->turn;
    Py_INCREF(turn); /* `disown` replaces it */
    int filled = await_turn(self, turn, until);
    if (filled > 0) {
        filled = fill(self, deadline);
        if (!end_turn(turn)) filled = -1;
    }
    Py_DECREF(turn);
    return filled < 0 ? NULL : PyBool_FromLong(filled);
}

/* --- the type --- */

static int receiver_traverse(PyObject *object, visitproc visit, void *arg)
{
    receiver_object *self = (receiver_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->handle);
    Py_VISIT(self->ready);
    Py_VISIT(self->names);
    Py_VISIT(self->turn);
    return 0;
}

static int receiver_clear(PyObject *object)
{
    receiver_object *self = (receiver_object *)object;
    Py_CLEAR(self->handle);
    Py_CLEAR(self->ready);
    Py_CLEAR(self->names);
    Py_CLEAR(self->turn);
    return 0;
}

static void receiver_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    receiver_clear(object);
    eb_fast_free(object);
}

static PyMethodDef receiver_methods[] = {
    {"_unpack", receiver_unpack, METH_O, NULL},
    {"_fill", receiver_fill, METH_O, NULL},
    {"_acknowledge", receiver_acknowledge, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef receiver_members[] = {
    {"_handle", T_OBJECT, offsetof(receiver_object, handle), 0, NULL},
    {"_ready", T_OBJECT_EX, offsetof(receiver_object, ready), 0, NULL},
    {"_names", T_OBJECT_EX, offsetof(receiver_object, names), 0, NULL},
    {"_receiving", T_OBJECT_EX, offsetof(receiver_object, turn), 0, NULL},
    {"_taken", T_UINT, offsetof(receiver_object, taken), 0, NULL},
    {"_limit", T_INT, offsetof(receiver_object, limit), 0, NULL},
    {"_in_hand", T_INT, offsetof(receiver_object, in_hand), 0, NULL},
    {"_asked", T_BOOL, offsetof(receiver_object, asked), 0, NULL},
    {"_ended", T_BOOL, offsetof(receiver_object, ended), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(receiver_doc, "Takes batches in hand.\n\
\n\
Attributes:\n\
    _handle: a SubscriptionHandle, or None once closed.\n\
    _ready: the events of the batch in hand that nobody took yet; it has a ``__length_hint__``.\n\
    _names: system and kind of each topic that it hears, by its number.\n\
    _receiving: the lock of whoever receives.\n\
    _taken: the number of the batch in hand.\n\
    _limit: how many events it takes at once.\n\
    _in_hand: of a member, how many events are handed out and not acknowledged.\n\
    _asked: whether a topic of requests is among ``_names``.\n\
    _ended: whether the end has come.");

static PyType_Slot receiver_slots[] = {
    {Py_tp_doc, (void *)receiver_doc},
    {Py_tp_traverse, (void *)receiver_traverse},
    {Py_tp_clear, (void *)receiver_clear},
    {Py_tp_dealloc, (void *)receiver_dealloc},
    {Py_tp_methods, receiver_methods},
    {Py_tp_members, receiver_members},
    {0, NULL},
};

static PyType_Spec receiver_spec = {
    .name = "eventbus._fast.Receiver",
    .basicsize = sizeof(receiver_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = receiver_slots,
};

PyObject *eb_bind_receive(PyObject *module, PyObject *given)
{
    (void)module;
    unsigned long long receive, ack;
    PyObject *loads, *event, *error;
    if (!PyArg_ParseTuple(given, "KKOO!O:bind_receive", &receive, &ack, &loads, &PyType_Type, &event, &error))
        return NULL;
    bound.receive = (int (*)(eb_subscription *, int, int64_t))(uintptr_t)receive;
    bound.ack = (int (*)(eb_subscription *))(uintptr_t)ack;
    Py_INCREF(error);
    bound.segment_error = error;
    return eb_bind_unpack(loads, (PyTypeObject *)event);
}

int eb_receiver_ready(PyObject *module)
{
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&bound.subscription, "address"}, {&bound.batch, "batch_address"},    {&bound.acquire, "acquire"},
        {&bound.release, "release"},      {&bound.await_turn, "_await_turn"}, {&bound.live_handle, "_live_handle"},
        {&bound.settle, "_settle"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*names[i].name = PyUnicode_InternFromString(names[i].text)) == NULL) return 0;
    bound.no = PyBool_FromLong(0);
    PyObject *type = PyType_FromSpec(&receiver_spec);
    return type != NULL && PyModule_AddObject(module, "Receiver", type) == 0;
}
