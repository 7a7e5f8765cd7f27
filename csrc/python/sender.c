/* Sender: what has a route is encoded and sent, events, requests and answers; all else is for the slow ways in Python. */
#include "fast.h"

static struct {
    int (*send)(const void *route, const char *json);
    int (*send_raw)(const void *route, const char *path, size_t path_length, const char *data, size_t length);
    PyObject *dumps;
    PyObject *options;
    PyObject *send_slow, *answer_slow; /* the names of methods */
} bound;

typedef struct {
    PyObject base;
    PyObject *routes, *asked, *answered; /* dicts, as its doc says */
} sender_object;

typedef struct {
    PyObject *system;
    PyObject *kind;
    PyObject *path;
    PyObject *data;
    PyObject *headers;
    PyObject *timeout; /* NULL where it was left out */
} arguments;

/* As C functions with keywords are called; nearly every call has none. */
static int parse(arguments *to, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    static char *names[] = {"system", "kind", "path", "data", "timeout", "headers", NULL};
    *to = (arguments){.data = Py_None, .headers = Py_None};
    if (keywords == NULL && (count == 3 || count == 4)) {
        to->system = given[0];
        to->kind = given[1];
        to->path = given[2];
        if (count == 4) to->data = given[3];
        return 1;
    }
    PyObject *positional = PyTuple_New(count), *named = PyDict_New();
    int parsed = positional != NULL && named != NULL;
    for (Py_ssize_t i = 0; parsed && i < count; i++) {
        Py_INCREF(given[i]);
        parsed = PyTuple_SetItem(positional, i, given[i]) == 0;
    }
    for (Py_ssize_t i = 0; parsed && keywords != NULL && i < PyTuple_Size(keywords); i++)
        parsed = PyDict_SetItem(named, PyTuple_GetItem(keywords, i), given[count + i]) == 0;
    parsed = parsed && PyArg_ParseTupleAndKeywords(positional, named, "OOO|O$OO:send", names, &to->system, &to->kind,
                                                   &to->path, &to->data, &to->timeout, &to->headers);
    Py_XDECREF(positional); /* the caller holds what was in them */
    Py_XDECREF(named);
    return parsed;
}

/* Whether a timeout is a good one at first sight; of all others the slow way says what is wrong. */
static int is_plain(PyObject *timeout)
{
    if (timeout == NULL || timeout == Py_None) return 1;
    if (Py_TYPE(timeout) == &PyFloat_Type) return PyFloat_AsDouble(timeout) >= 0;
    int overflow;
    return Py_TYPE(timeout) == &PyLong_Type && PyLong_AsLongLongAndOverflow(timeout, &overflow) >= 0 && overflow == 0;
}

/* Clears an error that says no more than that the names or the data are none that can be sent: why not is for the slow way
 * to say. Everything else, as of a signal handler, is raised. */
static void clear(PyObject *expected)
{
    if (PyErr_Occurred() && PyErr_ExceptionMatches(expected)) PyErr_Clear();
}

/* A new reference to the bytes that C knows the topic by, which stand under two keys; NULL without an error when the topic is
 * new to this bus. */
static PyObject *route_of(PyObject *routes, PyObject *first, PyObject *second)
{
    PyObject *route = NULL;
    if (routes == NULL) return NULL;
    Py_INCREF(routes);
    PyObject *kinds = PyDict_GetItemWithError(routes, first);
    if (kinds != NULL) {
        Py_INCREF(kinds); /* a comparison of names may run Python, which may close the bus */
        route = PyDict_GetItemWithError(kinds, second);
        Py_XINCREF(route);
        Py_DECREF(kinds);
    }
    Py_DECREF(routes);
    if (route == NULL) clear(PyExc_TypeError);
    return route;
}

PyObject *eb_route_of(PyObject *sender, PyObject *system, PyObject *kind)
{
    return route_of(((sender_object *)sender)->routes, system, kind);
}

bool eb_is_raw(PyObject *data)
{
    return PyBytes_CheckExact(data) || Py_TYPE(data) == &PyByteArray_Type || Py_TYPE(data) == &PyMemoryView_Type;
}

/* In the stable ABI, and deprecated for what it does: the bytes are there for as long as somebody else holds them. */
extern int PyObject_AsReadBuffer(PyObject *of, const void **bytes, Py_ssize_t *length);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Bytes have themselves; of all else a view has them meanwhile, so that they are neither moved nor freed. Of what does not lie
 * in one piece, or was released, the slow way makes bytes, or says why not. */
PyObject *eb_raw(PyObject *data, const char **bytes, size_t *length)
{
    if (PyBytes_CheckExact(data)) {
        *bytes = PyBytes_AsString(data);
        *length = (size_t)PyBytes_Size(data);
        Py_INCREF(data);
        return data;
    }
    const void *at = NULL;
    Py_ssize_t size = 0;
    PyObject *view = PyMemoryView_FromObject(data);
    if (view != NULL && PyObject_AsReadBuffer(view, &at, &size) != 0) Py_CLEAR(view);
    if (view == NULL) clear(PyExc_BufferError);
    if (view == NULL) clear(PyExc_ValueError);
    *bytes = at;
    *length = (size_t)size;
    return view;
}

/* These two: the status, or 1 where nothing was sent, with an error or without. A publisher may have to wait for another's
 * commit, and to wake others takes a while. */
static int send_raw(const char *route, PyObject *to, PyObject *bytes)
{
    Py_ssize_t length;
    const char *path = PyUnicode_AsUTF8AndSize(to, &length);
    if (path == NULL) clear(PyExc_UnicodeError);
    if (path == NULL || length > EB_PATH_LIMIT) return 1;
    const char *data;
    size_t size;
    PyObject *owner = eb_raw(bytes, &data, &size);
    if (owner == NULL) return 1;
    PyThreadState *threads = eb_let_others();
    int status = bound.send_raw(route, path, (size_t)length, data, size);
    eb_back(threads);
    Py_DECREF(owner);
    return status;
}

PyObject *eb_encoded(PyObject *path, PyObject *data)
{
    PyObject *pair = PyTuple_Pack(2, path, data);
    if (pair == NULL) return NULL;
    PyObject *body = PyObject_CallFunctionObjArgs(bound.dumps, pair, Py_None, bound.options, NULL);
    Py_DECREF(pair);
    if (body == NULL) clear(PyExc_TypeError);
    return body;
}

static int send_json(const char *route, PyObject *path, PyObject *data)
{
    PyObject *body = eb_encoded(path, data);
    const char *json = body == NULL ? NULL : PyBytes_AsString(body);
    int status = 1;
    if (json != NULL) {
        PyThreadState *threads = eb_let_others();
        status = bound.send(route, json);
        eb_back(threads);
    }
    Py_XDECREF(body);
    return status;
}

/* As these; also where the topic has no route. */
static int send_on(PyObject *route, PyObject *path, PyObject *data)
{
    const char *to = route == NULL ? NULL : PyBytes_AsString(route);
    return to == NULL ? 1 : (eb_is_raw(data) ? send_raw : send_json)(to, path, data);
}

bool eb_is_path(PyObject *path)
{
    return Py_TYPE(path) == &PyUnicode_Type && PyUnicode_GetLength(path) > 0;
}

/* Whether it was sent; or not, with an error or without. */
static bool is_sent(int status)
{
    return !PyErr_Occurred() && PyErr_CheckSignals() == 0 && status == 0;
}

static bool send_now(PyObject *sender, const arguments *what)
{
    int status = 1;
    if (what->headers == Py_None && is_plain(what->timeout) && eb_is_path(what->path)) {
        PyObject *route = eb_route_of(sender, what->system, what->kind);
        status = send_on(route, what->path, what->data);
        Py_XDECREF(route);
    }
    return is_sent(status);
}

static PyObject *sender_send_now(PyObject *sender, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    arguments what;
    if (!parse(&what, given, count, keywords)) return NULL;
    bool sent = send_now(sender, &what);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(sent);
}

static PyObject *sender_send(PyObject *sender, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    arguments what;
    if (!parse(&what, given, count, keywords)) return NULL;
    if (send_now(sender, &what)) Py_RETURN_TRUE;
    if (PyErr_Occurred()) return NULL;
    return PyObject_CallMethodObjArgs(sender, bound.send_slow, what.system, what.kind, what.path, what.data,
                                      what.headers, what.timeout, NULL);
}

/* A request, from its system, kind, identity, path and data: whether it was sent. */
static PyObject *sender_ask_now(PyObject *sender, PyObject *const *given, Py_ssize_t count)
{
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "_ask_now takes system, kind, identity, path and data");
        return NULL;
    }
    int status = 1;
    if (eb_is_path(given[3])) {
        PyObject *route = route_of(((sender_object *)sender)->asked, given[0], given[1]);
        PyObject *path = route == NULL ? NULL : PyUnicode_FromFormat("%U %U", given[2], given[3]);
        if (path != NULL) status = send_on(route, path, given[4]);
        Py_XDECREF(path);
        Py_XDECREF(route);
    }
    bool sent = is_sent(status);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(sent);
}

/* Whether an answer was sent, as of `sender_ask_now`. */
static bool answer_now(PyObject *sender, PyObject *identity, PyObject *kind, PyObject *data)
{
    PyObject *inbox = PyUnicode_Substring(identity, 0, EB_INBOX_LENGTH);
    PyObject *route = inbox == NULL ? NULL : route_of(((sender_object *)sender)->answered, inbox, kind);
    int status = send_on(route, identity, data);
    Py_XDECREF(route);
    Py_XDECREF(inbox);
    return is_sent(status);
}

/* From the identity of what was asked, its kind and data. */
static PyObject *sender_answer_now(PyObject *sender, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "_answer_now takes an identity, a kind and data");
        return NULL;
    }
    bool sent = answer_now(sender, given[0], given[1], given[2]);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(sent);
}

/* Likewise; the fourth is whether it may wait for room. */
static PyObject *sender_answer(PyObject *sender, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3 && count != 4) {
        PyErr_SetString(PyExc_TypeError, "_answer takes an identity, a kind, data and whether it may wait");
        return NULL;
    }
    if (answer_now(sender, given[0], given[1], given[2])) Py_RETURN_TRUE;
    if (PyErr_Occurred()) return NULL;
    return PyObject_CallMethodObjArgs(sender, bound.answer_slow, given[0], given[1], given[2],
                                      count == 4 ? given[3] : NULL, NULL);
}

PyDoc_STRVAR(send_doc, "send($self, system, kind, path, data=None, *, timeout=..., headers=None)\n--\n\n\
Publishes one event; every subscriber can see it when this returns.\n\
\n\
Args:\n\
    system, kind: the topic, segments separated by dots; up to 255 bytes each.\n\
    path: what it is about; up to 4096 bytes.\n\
    data: anything that orjson encodes, or bytes.\n\
    timeout: seconds to wait for room in the ring; None for ever, 0 not at all; the bus's ``send_timeout`` if\n\
        left out.\n\
    headers: a mapping of str to str that travels beside the data, up to 4096 bytes in all.\n\
\n\
Returns:\n\
    True.\n\
\n\
Raises:\n\
    InvalidError: a bad name, path or header, data that cannot be encoded, an event too large for the ring.\n\
    PolicyDeniedError: the policy forbids it.\n\
    FullError: the ring stayed full; the message names the subscriber that holds it back.\n\
    ClosedError: the bus is closed.");

static PyMethodDef sender_methods[] = {
    {"send", (PyCFunction)(void (*)(void))sender_send, METH_FASTCALL | METH_KEYWORDS, send_doc},
    {"_send_now", (PyCFunction)(void (*)(void))sender_send_now, METH_FASTCALL | METH_KEYWORDS,
     "As send, but False where the topic is new, there is no room at once, or something is wrong."},
    {"_parcel", (PyCFunction)(void (*)(void))eb_parcel, METH_FASTCALL, NULL},
    {"_ask_now", (PyCFunction)(void (*)(void))sender_ask_now, METH_FASTCALL, NULL},
    {"_answer_now", (PyCFunction)(void (*)(void))sender_answer_now, METH_FASTCALL, NULL},
    {"_answer", (PyCFunction)(void (*)(void))sender_answer, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(sender_doc, "Sends to topics that have a route; ``_send_slow`` does the rest, and says what is wrong.\n\
\n\
Attributes:\n\
    _routes: by system and kind, as ``Attachment.route`` makes them.\n\
    _asked: those of requests, by system and kind that are asked.\n\
    _answered: those of answers, by inbox and kind.");

static int sender_traverse(PyObject *object, visitproc visit, void *arg)
{
    sender_object *self = (sender_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->routes);
    Py_VISIT(self->asked);
    Py_VISIT(self->answered);
    return 0;
}

static int sender_clear(PyObject *object)
{
    sender_object *self = (sender_object *)object;
    Py_CLEAR(self->routes);
    Py_CLEAR(self->asked);
    Py_CLEAR(self->answered);
    return 0;
}

static void sender_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    sender_clear(object);
    eb_fast_free(object);
}

static PyMemberDef sender_members[] = {
    {"_routes", T_OBJECT_EX, offsetof(sender_object, routes), 0, NULL},
    {"_asked", T_OBJECT_EX, offsetof(sender_object, asked), 0, NULL},
    {"_answered", T_OBJECT_EX, offsetof(sender_object, answered), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot sender_slots[] = {
    {Py_tp_doc, (void *)sender_doc},
    {Py_tp_traverse, (void *)sender_traverse},
    {Py_tp_clear, (void *)sender_clear},
    {Py_tp_dealloc, (void *)sender_dealloc},
    {Py_tp_methods, sender_methods},
    {Py_tp_members, sender_members},
    {0, NULL},
};

static PyType_Spec sender_spec = {
    .name = "eventbus._fast.Sender",
    .basicsize = sizeof(sender_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = sender_slots,
};

PyObject *eb_bind_send(PyObject *module, PyObject *given)
{
    (void)module;
    unsigned long long send, raw, parts;
    PyObject *dumps, *options;
    if (!PyArg_ParseTuple(given, "KKKOO:bind_send", &send, &raw, &parts, &dumps, &options)) return NULL;
    bound.send = (int (*)(const void *, const char *))(uintptr_t)send;
    bound.send_raw = (int (*)(const void *, const char *, size_t, const char *, size_t))(uintptr_t)raw;
    eb_parcel_bind(parts);
    Py_INCREF(dumps);
    Py_INCREF(options);
    bound.dumps = dumps;
    bound.options = options;
    Py_RETURN_NONE;
}

int eb_sender_ready(PyObject *module)
{
    bound.send_slow = PyUnicode_InternFromString("_send_slow");
    bound.answer_slow = PyUnicode_InternFromString("_answer_slow");
    PyObject *type = PyType_FromSpec(&sender_spec);
    if (bound.send_slow == NULL || bound.answer_slow == NULL || type == NULL) return 0;
    return PyModule_AddObject(module, "Sender", type) == 0;
}
