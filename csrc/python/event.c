/* One event of a batch that is in hand, in a tuple of its type; a request in one of its own, which knows how it is answered. */
#include "fast.h"

static PyTypeObject *types[2]; /* of events, and of requests */
static allocfunc allocate[2];
static PyObject *once;           /* 1 */
static PyObject *identity, *bus; /* names of attributes */

/* A place for one of the batch; making it may collect garbage. All that a request needs to be filled is made here. */
PyObject *eb_event_empty(const hand_object *hand, bool asked)
{
    PyObject *event = allocate[asked](types[asked], EB_EVENT_FIELDS);
    if (event == NULL || !asked) return event;
    PyObject *asker = hand->bus == NULL ? Py_None : hand->bus;
    if (PyObject_SetAttr(event, identity, Py_None) != 0 || PyObject_SetAttr(event, bus, asker) != 0) Py_CLEAR(event);
    return event;
}

bool eb_is_event(PyObject *object)
{
    return PyObject_TypeCheck(object, types[0]);
}

bool eb_is_request(PyObject *object)
{
    return PyObject_TypeCheck(object, types[1]);
}

static PyObject *sender_of(hand_object *hand, uint32_t index)
{
    const hand_row *row = &hand->rows[index];
    if (hand->sender == NULL || hand->pid != row->sender) {
        PyObject *sender = PyLong_FromUnsignedLong(row->sender);
        if (sender == NULL) return NULL;
        Py_XDECREF(hand->sender);
        hand->sender = sender;
        hand->pid = row->sender;
    }
    return hand->sender;
}

static PyObject *deliveries_of(const hand_object *hand, uint32_t index)
{
    if (hand->batch->head.counted) return PyLong_FromUnsignedLong(hand->batch->deliveries[index]);
    Py_INCREF(once);
    return once;
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

/* Where the path begins in that of a request: behind its identity and a space; -1 where there is none of the two. */
static Py_ssize_t path_begins(PyObject *sent, Py_ssize_t length)
{
    Py_ssize_t space = PyUnicode_FindChar(sent, ' ', 0, length, 1);
    return space > 0 && space + 1 < length ? space + 1 : -1;
}

bool eb_is_addressed(PyObject *sent)
{
    return path_begins(sent, PyUnicode_GetLength(sent)) > 0;
}

/* The path that was asked, and the identity before it into the request; false with an error. */
bool eb_event_address(PyObject *request, PyObject *sent)
{
    Py_ssize_t length = PyUnicode_GetLength(sent), begins = path_begins(sent, length);
    if (begins < 0) {
        PyErr_SetString(PyExc_ValueError, "the path of a request without its identity");
        return false;
    }
    PyObject *whose = PyUnicode_Substring(sent, 0, begins - 1);
    bool known = whose != NULL && PyObject_SetAttr(request, identity, whose) == 0;
    Py_XDECREF(whose);
    return known && put(request, EB_EVENT_PATH, PyUnicode_Substring(sent, begins, length));
}

bool eb_event_fill(hand_object *hand, uint32_t index, PyObject *event)
{
    const hand_row *row = &hand->rows[index];
    PyObject *path = PyList_GetItem(hand->values, 2 * (Py_ssize_t)index);
    eb_extension none = eb_no_extension();
    return (row->asked ? eb_event_address(event, path) : put_borrowed(event, EB_EVENT_PATH, path)) &&
           put_borrowed(event, 0, row->system) && put_borrowed(event, 1, row->kind) &&
           put_borrowed(event, 3, PyList_GetItem(hand->values, 2 * (Py_ssize_t)index + 1)) &&
           put(event, 4, PyLong_FromUnsignedLongLong(row->sequence)) &&
           put(event, 5, PyLong_FromUnsignedLongLong(row->time)) && put_borrowed(event, 6, sender_of(hand, index)) &&
           put(event, 7, deliveries_of(hand, index)) && put_borrowed(event, 8, none.headers) &&
           put_borrowed(event, 9, none.origin);
}

void eb_event_bind(PyTypeObject *event, PyTypeObject *request)
{
    types[0] = event;
    types[1] = request;
    for (int asked = 0; asked < 2; asked++) {
        Py_INCREF(types[asked]);
        allocate[asked] = (allocfunc)PyType_GetSlot(types[asked], Py_tp_alloc);
    }
}

int eb_event_ready(void)
{
    once = PyLong_FromLong(1);
    identity = PyUnicode_InternFromString("_identity");
    bus = PyUnicode_InternFromString("_bus");
    return once != NULL && identity != NULL && bus != NULL;
}
