/* Hand: what was read and not yet handed out, in the order in which it is. It alone says which event is the next, and moves
 * on when that is made: so an event that cannot be made, or that a destructor takes in the middle, is neither lost nor
 * mixed with another. */
#include "fast.h"

static const uint64_t *generation; /* the core's: differs in every process that was forked, however */
static PyTypeObject *event_type;
static allocfunc allocate;
static PyTypeObject *hand_type;

/* In a forked child what was read is its parent's. */
bool eb_hand_is_inherited(const hand_object *hand)
{
    return hand->generation != *generation;
}

static Py_ssize_t in_front(const hand_object *hand)
{
    return hand->front == NULL ? 0 : PyList_Size(hand->front) - hand->taken;
}

Py_ssize_t eb_hand_left(const hand_object *hand)
{
    if (eb_hand_is_inherited(hand)) return 0;
    return in_front(hand) + hand->count - (hand->count > 0 ? hand->batch->head.handed : 0);
}

/* Nothing of the batch is in hand any more; what the core holds of it is the core's. While it is made use of, later. */
void eb_hand_drop(hand_object *hand)
{
    hand->dropped = hand->busy;
    if (hand->busy) return;
    PyObject *front = hand->front, *values = hand->values, *made = hand->made, *names[EB_BATCH_LIMIT];
    uint32_t count = hand->count;
    for (uint32_t i = 0; i < count; i++)
        names[i] = hand->rows[i].names;
    hand->front = hand->values = hand->made = NULL;
    hand->count = 0;
    hand->taken = 0;
    for (uint32_t i = 0; i < count; i++)
        Py_XDECREF(names[i]);
    Py_XDECREF(front); /* these may run destructors, which find an empty hand */
    Py_XDECREF(values);
    Py_XDECREF(made);
}

void eb_hand_busy(hand_object *hand)
{
    hand->busy = 1;
}

void eb_hand_idle(hand_object *hand)
{
    hand->busy = 0;
    if (hand->dropped) eb_hand_drop(hand);
}

/* --- one event --- */

/* A place for one; making it may collect garbage. */
PyObject *eb_event_empty(void)
{
    return allocate(event_type, 8);
}

static PyObject *sender_of(hand_object *hand, uint32_t index)
{
    const hand_row *row = &hand->rows[index];
    if (hand->sender == NULL || PyLong_AsUnsignedLong(hand->sender) != row->sender) {
        PyObject *sender = PyLong_FromUnsignedLong(row->sender);
        if (sender == NULL) return NULL;
        Py_XDECREF(hand->sender);
        hand->sender = sender;
    }
    Py_INCREF(hand->sender);
    return hand->sender;
}

/* Steals the value; false when there is none, or no place for it. */
static bool put(PyObject *event, Py_ssize_t field, PyObject *value)
{
    return value != NULL && PyTuple_SetItem(event, field, value) == 0;
}

static bool put_borrowed(PyObject *event, Py_ssize_t field, PyObject *value)
{
    Py_XINCREF(value);
    return put(event, field, value);
}

/* Event number `index` of the batch into the empty `event`; what is called here collects no garbage. */
static bool fill(hand_object *hand, uint32_t index, PyObject *event)
{
    const hand_row *row = &hand->rows[index];
    Py_ssize_t value = 2 * (Py_ssize_t)index;
    return put_borrowed(event, 0, PyTuple_GetItem(row->names, 0)) &&
           put_borrowed(event, 1, PyTuple_GetItem(row->names, 1)) &&
           put_borrowed(event, 2, PyList_GetItem(hand->values, value)) &&
           put_borrowed(event, 3, PyList_GetItem(hand->values, value + 1)) &&
           put(event, 4, PyLong_FromUnsignedLongLong(row->sequence)) &&
           put(event, 5, PyLong_FromUnsignedLongLong(row->time)) && put(event, 6, sender_of(hand, index)) &&
           put(event, 7, PyLong_FromUnsignedLong(index == 0 ? hand->batch->head.deliveries : 1));
}

static PyObject *next_in_front(hand_object *hand)
{
    PyObject *event = PyList_GetItem(hand->front, hand->taken);
    Py_XINCREF(event);
    if (event == NULL) return NULL;
    hand->taken++;
    if (in_front(hand) == 0) Py_CLEAR(hand->front);
    return event;
}

static PyObject *next_made(hand_object *hand)
{
    PyObject *event = PyList_GetItem(hand->made, (Py_ssize_t)hand->batch->head.handed);
    Py_XINCREF(event);
    if (event != NULL) hand->batch->head.handed++;
    return event;
}

/* The place for it first: that may collect garbage, whose destructors may take events, so the next one is whichever is the
 * next after that. NULL without an error when there is none. */
static PyObject *hand_next(PyObject *object)
{
    hand_object *hand = (hand_object *)object;
    if (hand->busy || eb_hand_left(hand) == 0) return NULL;
    if (hand->front != NULL) return next_in_front(hand);
    if (hand->made != NULL) return next_made(hand);
    PyObject *event = eb_event_empty();
    if (event == NULL) return NULL;
    bool one_by_one = !hand->busy && hand->front == NULL && hand->made == NULL;
    uint32_t index = hand->batch->head.handed;
    if (one_by_one && index < hand->count && fill(hand, index, event)) {
        hand->batch->head.handed = index + 1;
        return event;
    }
    Py_DECREF(event);
    return one_by_one || PyErr_Occurred() ? NULL : hand_next(object);
}

/* --- several events --- */

static PyObject *made_at(hand_object *hand, uint32_t index)
{
    if (hand->made != NULL) {
        PyObject *event = PyList_GetItem(hand->made, (Py_ssize_t)index);
        Py_XINCREF(event);
        return event;
    }
    PyObject *event = eb_event_empty();
    if (event == NULL || fill(hand, index, event)) return event;
    Py_DECREF(event);
    return NULL;
}

static PyObject *made_from(hand_object *hand, uint32_t from, uint32_t count)
{
    PyObject *events = PyList_New((Py_ssize_t)count);
    for (uint32_t i = 0; events != NULL && i < count; i++) {
        PyObject *event = made_at(hand, from + i);
        if (event == NULL || PyList_SetItem(events, (Py_ssize_t)i, event) != 0) Py_CLEAR(events);
    }
    return events;
}

PyObject *eb_hand_all(hand_object *hand)
{
    return made_from(hand, 0, hand->count);
}

/* Appends the next event; false with an error, and then it is still the next. */
static bool append_next(hand_object *hand, PyObject *events)
{
    eb_batch_head *head = &hand->batch->head;
    bool front = hand->front != NULL;
    PyObject *event = front ? PyList_GetItem(hand->front, hand->taken) : made_at(hand, head->handed);
    if (front) Py_XINCREF(event);
    bool kept = event != NULL && PyList_Append(events, event) == 0;
    Py_XDECREF(event);
    if (kept && !front) head->handed++;
    if (kept && front && ++hand->taken == PyList_Size(hand->front)) Py_CLEAR(hand->front);
    return kept;
}

static PyObject *hand_take(PyObject *object, PyObject *given)
{
    hand_object *hand = (hand_object *)object;
    PyObject *events;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(given, "O!n:take", &PyList_Type, &events, &limit)) return NULL;
    if (hand->busy) Py_RETURN_NONE;
    eb_hand_busy(hand);
    bool whole = true;
    while (whole && eb_hand_left(hand) > 0 && PyList_Size(events) < limit)
        whole = append_next(hand, events);
    eb_hand_idle(hand);
    if (!whole) return NULL;
    Py_RETURN_NONE;
}

/* Of the batch: they are made once more, and are not in hand until then. */
static PyObject *hand_rewind(PyObject *object, PyObject *events)
{
    hand_object *hand = (hand_object *)object;
    Py_ssize_t size = PyList_Size(events);
    if (size < 0) return NULL;
    eb_batch_head *head = &hand->batch->head;
    if (hand->count > 0 && size <= (Py_ssize_t)(head->handed - head->done)) head->handed -= (uint32_t)size;
    Py_RETURN_NONE;
}

/* The list itself becomes what comes first: nobody else has it, and nothing has to be had for that. */
static PyObject *hand_put_back(PyObject *object, PyObject *events)
{
    hand_object *hand = (hand_object *)object;
    Py_ssize_t size = PyList_Size(events);
    if (size < 0) return NULL;
    if (hand->front != NULL) {
        PyObject *rest = PyList_GetSlice(hand->front, hand->taken, PyList_Size(hand->front));
        int joined = rest == NULL ? -1 : PyList_SetSlice(events, size, size, rest);
        Py_XDECREF(rest);
        if (joined != 0) return NULL;
    }
    PyObject *before = hand->front;
    hand->taken = 0;
    hand->front = size > 0 || before != NULL ? events : NULL;
    Py_XINCREF(hand->front);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyObject *hand_drop(PyObject *object, PyObject *unused)
{
    (void)unused;
    eb_hand_drop((hand_object *)object);
    Py_RETURN_NONE;
}

/* --- the type --- */

static PyObject *hand_iter(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static PyObject *hand_length_hint(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(eb_hand_left((hand_object *)object));
}

static PyObject *hand_unfinished(PyObject *object, void *unused)
{
    const hand_object *hand = (hand_object *)object;
    const eb_batch_head *head = &hand->batch->head;
    (void)unused;
    return PyLong_FromUnsignedLong(eb_hand_is_inherited(hand) ? 0 : head->handed - head->done);
}

static int hand_traverse(PyObject *object, visitproc visit, void *arg)
{
    hand_object *hand = (hand_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(hand->front);
    Py_VISIT(hand->values);
    Py_VISIT(hand->made);
    return 0;
}

static int hand_clear(PyObject *object)
{
    eb_hand_drop((hand_object *)object);
    return 0;
}

static void hand_dealloc(PyObject *object)
{
    hand_object *hand = (hand_object *)object;
    PyObject_GC_UnTrack(object);
    eb_hand_drop(hand);
    Py_XDECREF(hand->sender);
    Py_XDECREF(hand->owner);
    eb_fast_free(object);
}

static PyMethodDef hand_methods[] = {
    {"take", hand_take, METH_VARARGS,
     "take(events, size): appends the next ones, as there are, until the list is so long."},
    {"rewind", hand_rewind, METH_O, "These events, the last ones of the batch that were handed out, were not."},
    {"put_back", hand_put_back, METH_O, "These events come first again."},
    {"drop", hand_drop, METH_NOARGS, "Nothing is in hand any more."},
    {"__length_hint__", hand_length_hint, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef hand_properties[] = {
    {"unfinished", hand_unfinished, NULL, "Events that are handed out and not done with.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot hand_slots[] = {
    {Py_tp_doc,
     (void *)"The events in hand: an iterator that hands out the next one, and goes on when there are more."},
    {Py_tp_traverse, (void *)hand_traverse},
    {Py_tp_clear, (void *)hand_clear},
    {Py_tp_dealloc, (void *)hand_dealloc},
    {Py_tp_iter, (void *)hand_iter},
    {Py_tp_iternext, (void *)hand_next},
    {Py_tp_methods, hand_methods},
    {Py_tp_getset, hand_properties},
    {0, NULL},
};

static PyType_Spec hand_spec = {
    .name = "eventbus._fast.Hand",
    .basicsize = sizeof(hand_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = hand_slots,
};

hand_object *eb_hand_new(PyObject *owner, eb_batch *batch)
{
    hand_object *hand = (hand_object *)PyType_GenericAlloc(hand_type, 0);
    if (hand == NULL) return NULL;
    Py_INCREF(owner);
    hand->owner = owner;
    hand->batch = batch;
    hand->generation = *generation;
    return hand;
}

void eb_hand_bind(const uint64_t *word, PyTypeObject *event)
{
    generation = word;
    Py_INCREF(event);
    event_type = event;
    allocate = (allocfunc)PyType_GetSlot(event, Py_tp_alloc);
}

int eb_hand_ready(PyObject *module)
{
    hand_type = (PyTypeObject *)PyType_FromSpec(&hand_spec);
    Py_XINCREF(hand_type);
    return hand_type != NULL && PyModule_AddObject(module, "Hand", (PyObject *)hand_type) == 0;
}
