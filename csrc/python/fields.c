/* Fields: what an event is made of, read as attributes or as the tuple of them all. Its numbers are objects once somebody asks. */
#include "fast.h"

#include <limits.h>

static PyTypeObject *fields_type;

/* --- as a tuple --- */

/* What the collector runs in between, and asks it for all objects, may see one that is not made yet. */
static PyObject *made(PyObject *object)
{
    if (object == NULL) PyErr_SetString(PyExc_AttributeError, "this event is not made yet");
    return Py_XNewRef(object);
}

static PyObject *field(const fields_object *self, Py_ssize_t index)
{
    switch (index) {
    case 0: return made(self->system);
    case 1: return made(self->kind);
    case EB_EVENT_PATH: return made(self->path);
    case 3: return made(self->data);
    case 4: return PyLong_FromUnsignedLongLong(self->sequence);
    case 5: return PyLong_FromUnsignedLongLong(self->time);
    case 6: return PyLong_FromUnsignedLong(self->sender);
    case 7: return PyLong_FromUnsignedLong(self->deliveries);
    case 8: return made(self->headers);
    default: return made(self->origin);
    }
}

static PyObject *tuple_of(PyObject *object)
{
    PyObject *tuple = PyTuple_New(EB_EVENT_FIELDS);
    for (Py_ssize_t i = 0; tuple != NULL && i < EB_EVENT_FIELDS; i++) {
        PyObject *value = field((fields_object *)object, i);
        if (value == NULL) Py_CLEAR(tuple);
        else PyTuple_SetItem(tuple, i, value);
    }
    return tuple;
}

static Py_ssize_t fields_length(PyObject *object)
{
    (void)object;
    return EB_EVENT_FIELDS;
}

static PyObject *fields_item(PyObject *object, Py_ssize_t index)
{
    if (index >= 0 && index < EB_EVENT_FIELDS) return field((fields_object *)object, index);
    PyErr_SetString(PyExc_IndexError, "an event has no such field");
    return NULL;
}

static PyObject *fields_subscript(PyObject *object, PyObject *key)
{
    PyObject *tuple = tuple_of(object);
    PyObject *value = tuple == NULL ? NULL : PyObject_GetItem(tuple, key);
    Py_XDECREF(tuple);
    return value;
}

static PyObject *fields_iter(PyObject *object)
{
    PyObject *tuple = tuple_of(object);
    PyObject *iterator = tuple == NULL ? NULL : PyObject_GetIter(tuple);
    Py_XDECREF(tuple);
    return iterator;
}

static Py_hash_t fields_hash(PyObject *object)
{
    PyObject *tuple = tuple_of(object);
    Py_hash_t hash = tuple == NULL ? -1 : PyObject_Hash(tuple);
    Py_XDECREF(tuple);
    return hash;
}

static PyObject *fields_compare(PyObject *object, PyObject *other, int how)
{
    bool same = PyObject_TypeCheck(other, fields_type);
    if (!same && !PyTuple_Check(other)) Py_RETURN_NOTIMPLEMENTED;
    PyObject *ours = tuple_of(object), *theirs = same ? tuple_of(other) : Py_XNewRef(other), *result = NULL;
    if (ours != NULL && theirs != NULL) result = PyObject_RichCompare(ours, theirs, how);
    Py_XDECREF(ours);
    Py_XDECREF(theirs);
    return result;
}

/* --- made of others --- */

/* Steals all references; false with an error where a number is none. */
bool eb_fields_set(PyObject *object, PyObject *(*values)[EB_EVENT_FIELDS])
{
    fields_object *self = (fields_object *)object;
    PyObject **value = *values;
    self->system = value[0];
    self->kind = value[1];
    self->path = value[EB_EVENT_PATH];
    self->data = value[3];
    self->headers = value[8];
    self->origin = value[9];
    unsigned long long numbers[4] = {0};
    for (int i = 0; i < 4; i++) {
        if (!PyErr_Occurred()) numbers[i] = PyLong_AsUnsignedLongLong(value[4 + i]);
        if (i > 1 && numbers[i] > UINT_MAX && !PyErr_Occurred())
            PyErr_SetString(PyExc_OverflowError, "an event's sender and deliveries have 32 bits");
        Py_DECREF(value[4 + i]);
    }
    self->sequence = numbers[0];
    self->time = numbers[1];
    self->sender = (uint32_t)numbers[2];
    self->deliveries = (uint32_t)numbers[3];
    return !PyErr_Occurred();
}

static PyObject *fields_new(PyTypeObject *type, PyObject *given, PyObject *named)
{
    PyObject *values[EB_EVENT_FIELDS];
    (void)named;
    if (PyTuple_Size(given) != EB_EVENT_FIELDS) {
        PyErr_SetString(PyExc_TypeError, "an event has ten fields");
        return NULL;
    }
    PyObject *object = PyType_GenericAlloc(type, 0);
    for (Py_ssize_t i = 0; object != NULL && i < EB_EVENT_FIELDS; i++)
        values[i] = Py_XNewRef(PyTuple_GetItem(given, i));
    if (object != NULL && !eb_fields_set(object, &values)) Py_CLEAR(object);
    return object;
}

/* --- the type --- */

static int fields_traverse(PyObject *object, visitproc visit, void *arg)
{
    fields_object *self = (fields_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->system);
    Py_VISIT(self->kind);
    Py_VISIT(self->path);
    Py_VISIT(self->data);
    Py_VISIT(self->headers);
    Py_VISIT(self->origin);
    return 0;
}

static void fields_dealloc(PyObject *object)
{
    fields_object *self = (fields_object *)object;
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->system);
    Py_XDECREF(self->kind);
    Py_XDECREF(self->path);
    Py_XDECREF(self->data);
    Py_XDECREF(self->headers);
    Py_XDECREF(self->origin);
    eb_fast_free(object);
}

static PyMemberDef fields_members[] = {
    {"system", T_OBJECT_EX, offsetof(fields_object, system), READONLY, NULL},
    {"kind", T_OBJECT_EX, offsetof(fields_object, kind), READONLY, NULL},
    {"path", T_OBJECT_EX, offsetof(fields_object, path), READONLY, NULL},
    {"data", T_OBJECT_EX, offsetof(fields_object, data), READONLY, NULL},
    {"sequence", T_ULONGLONG, offsetof(fields_object, sequence), READONLY, NULL},
    {"time", T_ULONGLONG, offsetof(fields_object, time), READONLY, NULL},
    {"sender", T_UINT, offsetof(fields_object, sender), READONLY, NULL},
    {"deliveries", T_UINT, offsetof(fields_object, deliveries), READONLY, NULL},
    {"headers", T_OBJECT_EX, offsetof(fields_object, headers), READONLY, NULL},
    {"origin", T_OBJECT_EX, offsetof(fields_object, origin), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot fields_slots[] = {
    {Py_tp_doc, (void *)"The fields of an event, in their order."},
    {Py_tp_new, (void *)fields_new},
    {Py_tp_traverse, (void *)fields_traverse},
    {Py_tp_dealloc, (void *)fields_dealloc},
    {Py_tp_members, fields_members},
    {Py_tp_iter, (void *)fields_iter},
    {Py_tp_hash, (void *)fields_hash},
    {Py_tp_richcompare, (void *)fields_compare},
    {Py_sq_length, (void *)fields_length},
    {Py_sq_item, (void *)fields_item},
    {Py_mp_length, (void *)fields_length},
    {Py_mp_subscript, (void *)fields_subscript},
    {0, NULL},
};

static PyType_Spec fields_spec = {
    .name = "eventbus._fast.Fields",
    .basicsize = sizeof(fields_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = fields_slots,
};

int eb_fields_ready(PyObject *module)
{
    fields_type = (PyTypeObject *)PyType_FromSpec(&fields_spec);
    Py_XINCREF(fields_type);
    return fields_type != NULL && PyModule_AddObject(module, "Fields", (PyObject *)fields_type) == 0;
}
