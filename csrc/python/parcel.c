/* Parcel: events that are sent together, each one's bytes where they are: those of the caller, or what orjson made of its
 * data. What has no route, or is not plain, Python puts together. */
#include "fast.h"

static struct {
    int (*send)(eb_bus *bus, const eb_outgoing *events, const eb_part *parts, int count, int64_t deadline);
    PyObject *outgoing, *too_large; /* names of methods */
} bound;
static PyTypeObject *parcel_type;

typedef struct {
    PyObject base;
    PyObject *owners; /* a list of what the bytes belong to */
    eb_outgoing *events;
    eb_part *parts;
    uint64_t bytes;
    int count, room;
} parcel_object;

/* The topic of the event before, by its names. */
typedef struct {
    PyObject *system, *kind;
    uint32_t topic;
} known;

static bool make_room(parcel_object *parcel)
{
    if (parcel->count < parcel->room) return true;
    int room = parcel->room < 16 ? 16 : parcel->room > INT32_MAX / 4 ? 0 : 2 * parcel->room;
    eb_outgoing *events = room ? PyMem_Realloc(parcel->events, (size_t)room * sizeof *events) : NULL;
    if (events != NULL) parcel->events = events;
    eb_part *parts = events ? PyMem_Realloc(parcel->parts, (size_t)room * sizeof *parts) : NULL;
    if (parts != NULL) parcel->parts = parts;
    if (parts == NULL) PyErr_NoMemory();
    if (parts != NULL) parcel->room = room;
    return parts != NULL;
}

/* Counts one in, whose bytes are the owner's from now on. */
static bool add(parcel_object *parcel, eb_outgoing event, eb_part part, PyObject *owner)
{
    if (!make_room(parcel) || PyList_Append(parcel->owners, owner) != 0) return false;
    parcel->events[parcel->count] = event;
    parcel->parts[parcel->count++] = part;
    parcel->bytes += (uint64_t)event.path_length + event.body_length;
    return true;
}

/* --- what is plain: 1 when it was added, 0 when it is not plain, -1 with an error --- */

static int add_raw(parcel_object *parcel, eb_outgoing event, const char *path, PyObject *path_owner, PyObject *data)
{
    const char *bytes;
    size_t length;
    PyObject *owner = eb_raw(data, &bytes, &length);
    if (owner == NULL) return PyErr_Occurred() ? -1 : 0;
    bool fits = length <= UINT32_MAX, added = false;
    event.body_length = (uint32_t)length;
    if (fits)
        added = add(parcel, event, (eb_part){path, bytes}, owner) && PyList_Append(parcel->owners, path_owner) == 0;
    Py_DECREF(owner);
    return !fits ? 0 : added ? 1 : -1;
}

static int add_text(parcel_object *parcel, eb_outgoing event, PyObject *path, PyObject *data)
{
    PyObject *body = eb_encoded(path, data);
    if (body == NULL) return PyErr_Occurred() ? -1 : 0;
    uint64_t length = (uint64_t)PyBytes_Size(body);
    bool fits = length <= UINT32_MAX;
    event.path_length = 0;
    event.body_length = (uint32_t)length;
    const char *text = PyBytes_AsString(body);
    bool added = fits && add(parcel, event, (eb_part){text, text}, body);
    Py_DECREF(body);
    return !fits ? 0 : added ? 1 : -1;
}

static void remember(known *last, PyObject *system, PyObject *kind)
{
    Py_XINCREF(system);
    Py_XINCREF(kind);
    Py_XDECREF(last->system);
    Py_XDECREF(last->kind);
    last->system = system;
    last->kind = kind;
}

/* 1 when it has a topic of the table. */
static int find_topic(PyObject *sender, known *last, PyObject *system, PyObject *kind)
{
    if (system == last->system && kind == last->kind) return 1;
    eb_route to = {.topic = EB_INLINE};
    PyObject *route = eb_route_of(sender, system, kind);
    if (route != NULL) memcpy(&to, PyBytes_AsString(route), sizeof to);
    Py_XDECREF(route);
    if (PyErr_Occurred()) return -1;
    if (to.topic == EB_INLINE) return 0;
    remember(last, system, kind);
    last->topic = to.topic;
    return 1;
}

static int add_plain(parcel_object *parcel, PyObject *sender, known *last, PyObject *fields)
{
    Py_ssize_t size = PyTuple_Size(fields), length = 0;
    if (size < 3 || size > 5 || (size == 5 && PyTuple_GetItem(fields, 4) != Py_None)) return 0;
    PyObject *path = PyTuple_GetItem(fields, 2), *data = size > 3 ? PyTuple_GetItem(fields, 3) : Py_None;
    if (!eb_is_path(path)) return 0;
    int found = find_topic(sender, last, PyTuple_GetItem(fields, 0), PyTuple_GetItem(fields, 1));
    if (found <= 0) return found;
    const char *text = PyUnicode_AsUTF8AndSize(path, &length);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError)) PyErr_Clear();
    if (text == NULL || length > EB_PATH_LIMIT) return PyErr_Occurred() ? -1 : 0;
    eb_outgoing event = {.topic = last->topic, .path_length = (uint32_t)length};
    return eb_is_raw(data) ? add_raw(parcel, event, text, path, data) : add_text(parcel, event, path, data);
}

/* --- all else --- */

/* Six numbers and the bytes, as Python puts them together, and says what is wrong with more than 32 bits can say. */
static bool add_made(parcel_object *parcel, PyObject *sender, PyObject *made)
{
    PyObject *row, *bytes;
    unsigned long long of[6];
    if (!PyArg_ParseTuple(made, "O!O!", &PyTuple_Type, &row, &PyBytes_Type, &bytes)) return false;
    for (Py_ssize_t i = 0; i < 6; i++) {
        PyObject *number = PyTuple_GetItem(row, i);
        of[i] = number == NULL ? 0 : PyLong_AsUnsignedLongLong(number);
        if (PyErr_Occurred()) return false;
        if (of[i] <= UINT32_MAX) continue;
        PyObject *size = PyLong_FromSsize_t(PyBytes_Size(bytes));
        if (size != NULL) Py_XDECREF(PyObject_CallMethodObjArgs(sender, bound.too_large, size, NULL));
        Py_XDECREF(size);
        return false;
    }
    eb_outgoing event = {(uint32_t)of[0], (uint32_t)of[1], (uint32_t)of[2],
                         (uint32_t)of[3], (uint32_t)of[4], (uint32_t)of[5]};
    const char *head = PyBytes_AsString(bytes);
    return add(parcel, event, (eb_part){head, head + (PyBytes_Size(bytes) - event.body_length)}, bytes);
}

static bool add_event(parcel_object *parcel, PyObject *sender, known *last, PyObject *event, PyObject *origin,
                      PyObject *deadline)
{
    bool plain = PyObject_Size(origin) == 0 && (PyTuple_CheckExact(event) || PyList_CheckExact(event));
    PyObject *fields = !plain ? NULL : PyTuple_CheckExact(event) ? (Py_INCREF(event), event) : PyList_AsTuple(event);
    if (plain && fields == NULL) return false;
    int added = plain ? add_plain(parcel, sender, last, fields) : 0;
    Py_XDECREF(fields);
    if (added != 0) return added > 0;
    PyObject *made = PyObject_CallMethodObjArgs(sender, bound.outgoing, event, origin, deadline, NULL);
    bool done = made != NULL && add_made(parcel, sender, made);
    Py_XDECREF(made);
    return done;
}

/* From an iterable of events, "" or the bus that they come from, and a deadline. */
PyObject *eb_parcel(PyObject *sender, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "_parcel takes events, an origin and a deadline");
        return NULL;
    }
    known last = {NULL, NULL, 0};
    PyObject *events = PyObject_GetIter(given[0]), *event;
    parcel_object *parcel = events == NULL ? NULL : (parcel_object *)PyType_GenericAlloc(parcel_type, 0);
    if (parcel != NULL) parcel->owners = PyList_New(0);
    bool whole = parcel != NULL && parcel->owners != NULL;
    while (whole && (event = PyIter_Next(events)) != NULL) {
        whole = add_event(parcel, sender, &last, event, given[1], given[2]);
        Py_DECREF(event);
    }
    remember(&last, NULL, NULL);
    Py_XDECREF(events);
    if (!PyErr_Occurred()) return (PyObject *)parcel;
    Py_XDECREF((PyObject *)parcel);
    return NULL;
}

/* --- the type --- */

static PyObject *parcel_send(PyObject *object, PyObject *given)
{
    const parcel_object *parcel = (parcel_object *)object;
    unsigned long long bus;
    long long deadline;
    if (!PyArg_ParseTuple(given, "KL", &bus, &deadline)) return NULL;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = bound.send((eb_bus *)(uintptr_t)bus, parcel->events, parcel->parts, parcel->count, deadline);
    Py_END_ALLOW_THREADS;
    return PyLong_FromLong(status);
}

static void parcel_dealloc(PyObject *object)
{
    parcel_object *parcel = (parcel_object *)object;
    Py_XDECREF(parcel->owners);
    PyMem_Free(parcel->events);
    PyMem_Free(parcel->parts);
    eb_fast_free(object);
}

static PyMethodDef parcel_methods[] = {
    {"send", parcel_send, METH_VARARGS, "send(bus, deadline): all or none; the status."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef parcel_members[] = {
    {"count", T_INT, offsetof(parcel_object, count), READONLY, "Events."},
    {"bytes", T_ULONGLONG, offsetof(parcel_object, bytes), READONLY, "Of their paths and data, as they are sent."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot parcel_slots[] = {
    {Py_tp_doc, (void *)"Events that are sent together."},
    {Py_tp_dealloc, (void *)parcel_dealloc},
    {Py_tp_methods, parcel_methods},
    {Py_tp_members, parcel_members},
    {0, NULL},
};

static PyType_Spec parcel_spec = {
    .name = "eventbus._fast.Parcel",
    .basicsize = sizeof(parcel_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = parcel_slots,
};

void eb_parcel_bind(unsigned long long send)
{
    bound.send = (int (*)(eb_bus *, const eb_outgoing *, const eb_part *, int, int64_t))(uintptr_t)send;
}

int eb_parcel_ready(void)
{
    bound.outgoing = PyUnicode_InternFromString("_outgoing");
    bound.too_large = PyUnicode_InternFromString("_too_large");
    parcel_type = (PyTypeObject *)PyType_FromSpec(&parcel_spec);
    return bound.outgoing != NULL && bound.too_large != NULL && parcel_type != NULL;
}
