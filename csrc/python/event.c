/* One event of a batch that is in hand, in a tuple of its type; a request in one of its own, which knows how it is answered. */
#include "fast.h"

static PyTypeObject *types[2]; /* of events, and of requests */
static allocfunc allocate[2];
static PyObject *identity, *bus; /* names of attributes */

/* A place for one of the batch; making it may collect garbage. All that a request needs to be filled is made here. */
PyObject *eb_event_empty(const hand_object *hand, bool asked)
{
    PyObject *event = allocate[asked](types[asked], 0);
    if (event == NULL || !asked) return event;
    PyObject *asker = hand->bus == NULL ? Py_None : hand->bus;
    if (PyObject_SetAttr(event, identity, Py_None) != 0 || PyObject_SetAttr(event, bus, asker) != 0) Py_CLEAR(event);
    return event;
}

bool eb_is_event(PyObject *object)
{
    return PyObject_TypeCheck(object, types[0]);
}

/* With an error if one of the list is something else. */
bool eb_are_events(PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++)
        if (!eb_is_event(PyList_GetItem(list, i))) PyErr_SetString(PyExc_TypeError, "only events can be put back");
    return !PyErr_Occurred();
}

bool eb_is_request(PyObject *object)
{
    return PyObject_TypeCheck(object, types[1]);
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

/* The path that was asked, and the identity before it, into the request, which may be what has the path that was sent; false
 * with an error. */
bool eb_event_address(PyObject *request, PyObject *sent)
{
    Py_ssize_t length = PyUnicode_GetLength(sent), begins = path_begins(sent, length);
    if (begins < 0) {
        PyErr_SetString(PyExc_ValueError, "the path of a request without its identity");
        return false;
    }
    PyObject *whose = PyUnicode_Substring(sent, 0, begins - 1), *path = PyUnicode_Substring(sent, begins, length);
    bool known = whose != NULL && path != NULL && PyObject_SetAttr(request, identity, whose) == 0;
    Py_XDECREF(whose);
    PyObject *other = path;
    if (known) {
        other = ((fields_object *)request)->path;
        ((fields_object *)request)->path = path;
    }
    Py_XDECREF(other);
    return known;
}

bool eb_event_fill(hand_object *hand, uint32_t index, PyObject *event)
{
    const hand_row *row = &hand->rows[index];
    fields_object *fields = (fields_object *)event;
    PyObject *path = PyList_GetItem(hand->values, 2 * (Py_ssize_t)index);
    PyObject *data = PyList_GetItem(hand->values, 2 * (Py_ssize_t)index + 1);
    if (path == NULL || data == NULL) return false;
    if (!row->asked) fields->path = Py_NewRef(path);
    else if (!eb_event_address(event, path)) return false;
    eb_extension none = eb_no_extension();
    fields->system = Py_NewRef(row->system);
    fields->kind = Py_NewRef(row->kind);
    fields->data = Py_NewRef(data);
    fields->sequence = row->sequence;
    fields->time = row->time;
    fields->sender = row->sender;
    fields->deliveries = hand->batch->head.counted ? hand->batch->deliveries[index] : 1;
    fields->headers = Py_NewRef(none.headers);
    fields->origin = Py_NewRef(none.origin);
    return true;
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
    identity = PyUnicode_InternFromString("_identity");
    bus = PyUnicode_InternFromString("_bus");
    return identity != NULL && bus != NULL;
}
