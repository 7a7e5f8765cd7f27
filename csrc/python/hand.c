/* Hand: what was read and not yet handed out, in the order in which it is. It alone says which event is the next, and moves
 * on when that is made: so an event that cannot be made, or that a destructor takes in the middle, is neither lost nor
 * mixed with another. */
#include "fast.h"

static const uint64_t *generation; /* the core's: differs in every process that was forked, however */
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

/* Whether the next one of the batch is a request. */
static bool is_asked(const hand_object *hand, uint32_t index)
{
    return index < hand->count && hand->rows[index].asked;
}

/* Number `index` of those that are made already, borrowed, if it is an event. */
static PyObject *event_made(const hand_object *hand, Py_ssize_t index)
{
    PyObject *event = PyList_GetItem(hand->made, index);
    return event != NULL && eb_is_event(event) ? event : NULL;
}

static bool is_bare(const hand_object *hand)
{
    return hand->front == NULL && hand->made == NULL;
}

/* So many of the next are handed out: whoever has them has their data alone. */
static void move_on(hand_object *hand, Py_ssize_t count)
{
    if (hand->front != NULL) {
        hand->taken += count;
        if (in_front(hand) == 0) Py_CLEAR(hand->front);
        return;
    }
    eb_hand_forget(hand, count);
    eb_hand_out(hand->batch, (uint32_t)count);
    if (hand->batch->head.handed == hand->count) eb_hand_drop(hand);
}

/* The next one, if it is made already, borrowed. */
static PyObject *peek(const hand_object *hand)
{
    if (hand->front != NULL) return PyList_GetItem(hand->front, hand->taken);
    return hand->made == NULL ? NULL : event_made(hand, (Py_ssize_t)hand->batch->head.handed);
}

PyObject *eb_hand_unreadable(const hand_object *hand)
{
    bool next = hand->front == NULL && hand->made != NULL && eb_hand_left(hand) > 0 && peek(hand) == NULL;
    return next ? PyList_GetItem(hand->made, (Py_ssize_t)hand->batch->head.handed) : NULL;
}

static PyObject *next_event(hand_object *hand, PyObject *whose);

/* Of those that are made already. What lending it takes comes first, as with a place for it. */
static PyObject *next_made(hand_object *hand, PyObject *whose)
{
    PyObject *event = peek(hand), *loan = NULL;
    if (event == NULL) return NULL;
    Py_INCREF(event);
    if (eb_hand_looks(hand)) loan = eb_loan_of(hand->of, event, whose);
    bool same = !PyErr_Occurred() && !hand->busy && eb_hand_left(hand) > 0 && peek(hand) == event;
    bool lent = same && (loan == NULL || (hand->of != NULL && eb_lend(hand->of, loan, event)));
    Py_XDECREF(loan);
    if (lent) {
        move_on(hand, 1);
        return event;
    }
    Py_DECREF(event);
    if (same && !PyErr_Occurred()) eb_hand_drop(hand); /* another thread has closed */
    return PyErr_Occurred() ? NULL : next_event(hand, whose);
}

/* The place for it first: that may collect garbage, whose destructors may take events, so the next one is whichever is the
 * next after that. NULL without an error when there is none. */
static PyObject *next_event(hand_object *hand, PyObject *whose)
{
    if (hand->busy || eb_hand_left(hand) == 0) return NULL;
    if (hand->of != NULL && hand->of->asks && (!eb_asks_on(hand->of) || hand->busy || eb_hand_left(hand) == 0))
        return NULL;
    if (!is_bare(hand)) return next_made(hand, whose);
    bool asked = is_asked(hand, hand->batch->head.handed);
    PyObject *event = eb_event_empty(hand, asked);
    if (event == NULL) return NULL;
    uint32_t index = hand->batch->head.handed;
    bool same = !hand->busy && is_bare(hand) && index < hand->count && is_asked(hand, index) == asked;
    bool filled = same && eb_event_fill(hand, index, event);
    if (filled) move_on(hand, 1);
    else Py_DECREF(event);
    return filled ? event : PyErr_Occurred() ? NULL : next_event(hand, whose);
}

static PyObject *hand_next(PyObject *object)
{
    hand_object *hand = (hand_object *)object;
    PyObject *whose = NULL;
    PyObject *event = !hand->busy && eb_hand_asks(hand, &whose) ? next_event(hand, whose) : NULL;
    Py_XDECREF(whose);
    return event;
}

/* --- several events --- */

/* A list with places for so many; bare ones are empty events, which nobody sees before they are filled. */
static PyObject *places(const hand_object *hand, Py_ssize_t count, bool bare)
{
    uint32_t first = hand->batch->head.handed;
    PyObject *events = PyList_New(count);
    for (Py_ssize_t i = 0; events != NULL && bare && i < count; i++) {
        PyObject *event = eb_event_empty(hand, is_asked(hand, first + (uint32_t)i));
        if (event != NULL) PyObject_GC_UnTrack(event);
        if (event == NULL || PyList_SetItem(events, i, event) != 0) Py_CLEAR(events);
    }
    return events;
}

/* Whether an empty event is a place for number `index` of the batch. */
static bool fits(const hand_object *hand, uint32_t index, PyObject *event)
{
    return eb_is_request(event) == is_asked(hand, index);
}

/* The next events into their places; false with an error, or without one where a place is none for its event: others are the
 * next by now. What is called here collects no garbage. */
static bool fill_all(hand_object *hand, PyObject *events)
{
    PyObject *from = hand->front != NULL ? hand->front : hand->made;
    Py_ssize_t first = hand->front != NULL ? hand->taken : (Py_ssize_t)hand->batch->head.handed;
    for (Py_ssize_t i = 0; i < PyList_Size(events); i++) {
        PyObject *event = PyList_GetItem(from == NULL ? events : from, from == NULL ? i : first + i);
        uint32_t index = (uint32_t)(first + i);
        if (event == NULL || (from == NULL && !(fits(hand, index, event) && eb_event_fill(hand, index, event))))
            return false;
        if (from == NULL) {
            PyObject_GC_Track(event);
            continue;
        }
        Py_INCREF(event);
        if (PyList_SetItem(events, i, event) != 0) return false;
    }
    return true;
}

PyObject *eb_hand_all(hand_object *hand)
{
    PyObject *events = places(hand, (Py_ssize_t)hand->count, is_bare(hand));
    if (events != NULL && !fill_all(hand, events)) Py_CLEAR(events);
    return events;
}

/* How many can be taken at once, of those in front or of the batch; none past what cannot be read. */
static Py_ssize_t at_once(const hand_object *hand, Py_ssize_t limit)
{
    Py_ssize_t left = hand->busy ? 0 : eb_hand_left(hand), count = 0;
    if (left > 0 && hand->front != NULL) left = in_front(hand);
    if (left > limit) left = limit;
    if (hand->front != NULL || hand->made == NULL) return left;
    while (count < left && event_made(hand, (Py_ssize_t)hand->batch->head.handed + count) != NULL)
        count++;
    return count;
}

/* The next events are lent, if they still are the next; else false, as with an error. */
static bool lend_all(hand_object *hand, PyObject *events, Py_ssize_t limit)
{
    Py_ssize_t count = PyList_Size(events);
    PyObject *loan = eb_loan_of(hand->of, events, NULL);
    bool same = loan != NULL && at_once(hand, limit) == count && peek(hand) == PyList_GetItem(events, 0);
    bool lent = same && hand->of != NULL && eb_lend(hand->of, loan, PyList_GetItem(events, count - 1));
    Py_XDECREF(loan);
    if (same && !lent && !PyErr_Occurred()) eb_hand_drop(hand); /* another thread has closed */
    return lent;
}

/* As with one: the places first, for that may collect garbage. Then whatever is the next goes to them and on to the
 * caller's list, or nothing is handed out. */
bool eb_hand_take(hand_object *hand, Py_ssize_t limit, PyObject *into)
{
    Py_ssize_t count;
    PyObject *whose = NULL;
    bool may = hand->busy || PyList_Size(into) > 0 || eb_hand_asks(hand, &whose);
    Py_XDECREF(whose);
    if (!may) return false;
    while ((count = at_once(hand, limit)) > 0) {
        bool bare = is_bare(hand), whole = false;
        PyObject *events = places(hand, count, bare);
        bool same = events != NULL && is_bare(hand) == bare && at_once(hand, limit) == count;
        if (same) whole = fill_all(hand, events);
        Py_ssize_t end = PyList_Size(into);
        bool lends = whole && !bare && eb_hand_looks(hand);
        if (lends) whole = lend_all(hand, events, limit);
        bool taken = whole && PyList_SetSlice(into, end, end, events) == 0;
        if (taken) move_on(hand, count);
        else if (whole && lends) eb_hand_take_back(hand, events);
        Py_XDECREF(events);
        if (taken) break;
        if (PyErr_Occurred()) return false;
    }
    return true;
}

static PyObject *hand_take(PyObject *object, PyObject *given)
{
    PyObject *into;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(given, "nO!:take", &limit, &PyList_Type, &into)) return NULL;
    if (!eb_hand_take((hand_object *)object, limit, into)) return NULL;
    Py_INCREF(into);
    return into;
}

/* A list that its caller has done with, in front of what is there already; without memory for more where there is none. */
static PyObject *hand_put_back(PyObject *object, PyObject *events)
{
    hand_object *hand = (hand_object *)object;
    Py_ssize_t count = PyList_Size(events);
    if (count < 0 || !eb_are_events(events) || (hand->of != NULL && !eb_lent_back(hand->of, events))) return NULL;
    PyObject *front = hand->front;
    Py_ssize_t taken = hand->taken;
    if (front == NULL && count > 0) {
        Py_INCREF(events);
        hand->front = events;
        hand->taken = 0;
    } else if (count > 0) {
        Py_INCREF(front);
        hand->taken = 0; /* before destructors of what was taken, which may take events */
        int status = PyList_SetSlice(front, 0, taken, events);
        if (status != 0) hand->taken = taken;
        Py_DECREF(front);
        if (status != 0) return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *hand_drop(PyObject *object, PyObject *unused)
{
    (void)unused;
    eb_hand_drop((hand_object *)object);
    Py_RETURN_NONE;
}

/* --- the type --- */

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

static PyObject *hand_unreadable(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(eb_hand_unreadable((hand_object *)object) != NULL);
}

static int hand_traverse(PyObject *object, visitproc visit, void *arg)
{
    hand_object *hand = (hand_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(hand->front);
    Py_VISIT(hand->values);
    Py_VISIT(hand->made);
    Py_VISIT(hand->bus);
    return 0;
}

static int hand_clear(PyObject *object)
{
    eb_hand_drop((hand_object *)object);
    Py_CLEAR(((hand_object *)object)->bus);
    return 0;
}

static void hand_dealloc(PyObject *object)
{
    hand_object *hand = (hand_object *)object;
    PyObject_GC_UnTrack(object);
    eb_hand_drop(hand);
    Py_CLEAR(hand->bus);
    Py_XDECREF(hand->owner);
    eb_fast_free(object);
}

static PyMethodDef hand_methods[] = {
    {"take", hand_take, METH_VARARGS,
     "take(limit, into): up to so many of the next events, at the end of a list; that list."},
    {"put_back", hand_put_back, METH_O, "These events come first again."},
    {"drop", hand_drop, METH_NOARGS, "Nothing is in hand any more."},
    {"__length_hint__", hand_length_hint, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef hand_properties[] = {
    {"unfinished", hand_unfinished, NULL, "Events that are handed out and not done with.", NULL},
    {"unreadable", hand_unreadable, NULL, "Whether what comes next is no event.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot hand_slots[] = {
    {Py_tp_doc,
     (void *)"The events in hand: an iterator that hands out the next one, and goes on when there are more. It stops\n"
             "before what cannot be read."},
    {Py_tp_traverse, (void *)hand_traverse},
    {Py_tp_clear, (void *)hand_clear},
    {Py_tp_dealloc, (void *)hand_dealloc},
    {Py_tp_iter, (void *)PyObject_SelfIter},
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

void eb_hand_bind(const uint64_t *word)
{
    generation = word;
}

int eb_hand_ready(PyObject *module)
{
    hand_type = (PyTypeObject *)PyType_FromSpec(&hand_spec);
    Py_XINCREF(hand_type);
    return hand_type != NULL && PyModule_AddObject(module, "Hand", (PyObject *)hand_type) == 0;
}
