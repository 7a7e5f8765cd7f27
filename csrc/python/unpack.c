/* What the core has read at once, into a hand. */
#include "fast.h"

#define LITTLE 32768      /* bytes that are copied sooner than looked at through a memoryview */
#define BUFFER_READ 0x100 /* PyBUF_READ, which the headers of the limited API have from 3.11 on */

static PyObject *loads;
static PyObject *opened, *damaged; /* names of methods */

/* Raises that the batch is not what was sent; false. */
static bool damage(receiver_object *self, PyObject *handle, const char *what)
{
    PyErr_Clear();
    PyObject *text = PyUnicode_FromString(what);
    if (text == NULL) return false;
    PyObject *told = PyObject_CallMethodObjArgs((PyObject *)self, damaged, handle, text, NULL);
    Py_DECREF(text);
    Py_XDECREF(told);
    return false;
}

/* path, data, path, data ... of the events that are text. */
static bool decode(receiver_object *self, PyObject *handle, hand_object *hand)
{
    const eb_batch *batch = hand->batch;
    if (batch->head.json_count == 0) return (hand->values = PyList_New(0)) != NULL;
    Py_ssize_t length = (Py_ssize_t)batch->head.json_length;
    PyObject *text = length < LITTLE ? PyBytes_FromStringAndSize(batch->buffer, length)
                                     : PyMemoryView_FromMemory(batch->buffer, length, BUFFER_READ);
    if (text == NULL) return false;
    PyObject *values = PyObject_CallFunctionObjArgs(loads, text, NULL);
    if (values == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) { /* which is also how orjson says: no memory */
        PyErr_Clear();
        values = PyObject_CallFunctionObjArgs(loads, text, NULL);
    }
    Py_DECREF(text);
    if (values == NULL) return PyErr_ExceptionMatches(PyExc_ValueError) && damage(self, handle, "a record is no JSON");
    bool whole = PyList_Check(values) && PyList_Size(values) == 2 * (Py_ssize_t)batch->head.json_count;
    if (whole) hand->values = values;
    else Py_DECREF(values);
    return whole || damage(self, handle, "a record is not a path and data");
}

/* The rows; -1 with an error, else whether requests may be among them: whose names have a mark behind them, or stand in the
 * record alone. */
static int write_rows(hand_object *hand, PyObject *known, uint32_t count)
{
    const eb_batch *batch = hand->batch;
    bool asked = false;
    for (uint32_t i = 0; i < count; i++) {
        hand_row *row = &hand->rows[i];
        *row = (hand_row){.sequence = batch->sequence[i], .time = batch->time[i], .sender = batch->sender[i]};
        hand->count = i + 1;
        if (i > 0 && batch->topic[i] == batch->topic[i - 1]) {
            row->names = row[-1].names;
            row->system = row[-1].system;
            row->kind = row[-1].kind;
        } else {
            PyObject *topic = PyLong_FromUnsignedLong(batch->topic[i]);
            if (topic == NULL) return -1;
            row->names = PyDict_GetItemWithError(known, topic);
            if (row->names == NULL && !PyErr_Occurred() && batch->topic[i] != EB_INLINE)
                PyErr_SetObject(PyExc_KeyError, topic);
            Py_DECREF(topic);
            if (PyErr_Occurred()) return -1;
            asked = asked || row->names == NULL || PyTuple_Size(row->names) > 2;
            if (row->names == NULL) continue;
            row->system = PyTuple_GetItem(row->names, 0);
            row->kind = PyTuple_GetItem(row->names, 1);
        }
        Py_XINCREF(row->names);
    }
    return asked;
}

/* --- batches that are more than an array --- */

static PyObject *text_of(const char *bytes, uint32_t length)
{
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)length, NULL);
}

static PyObject *known(PyObject *name)
{
    Py_XINCREF(name);
    return name;
}

static PyObject *value_of(const hand_object *hand, Py_ssize_t *value)
{
    PyObject *found = PyList_GetItem(hand->values, (*value)++);
    Py_XINCREF(found);
    return found;
}

/* A tuple of an event's fields: an event, or a plain one. Steals their references, also where one could not be made: then
 * NULL. */
static PyObject *fields_of(PyObject *(*fields)[EB_EVENT_FIELDS], bool plain)
{
    PyObject *tuple = plain ? PyTuple_New(EB_EVENT_FIELDS) : eb_event_empty();
    for (Py_ssize_t i = 0; i < EB_EVENT_FIELDS; i++) {
        PyObject *field = (*fields)[i];
        if (tuple != NULL && field != NULL) PyTuple_SetItem(tuple, i, field);
        else {
            Py_XDECREF(field);
            Py_CLEAR(tuple);
        }
    }
    return tuple;
}

/* Event number `index`; `beside` is what stands beside the array for it, or NULL, and `value` where its text would be. */
static PyObject *fields_at(const hand_object *hand, uint32_t index, const eb_beside *beside, Py_ssize_t *value,
                           bool plain)
{
    const hand_row *row = &hand->rows[index];
    const char *bytes = beside == NULL ? NULL : hand->batch->buffer + beside->offset;
    bool named = beside != NULL && beside->system_length + beside->kind_length > 0;
    bool raw = beside != NULL && beside->path_length > 0;
    uint32_t extended = beside == NULL ? 0 : beside->extension_length;
    const char *kind = named ? bytes + beside->system_length : bytes,
               *extension = named ? kind + beside->kind_length : bytes, *path = raw ? extension + extended : NULL;
    eb_extension more = eb_extension_read(extension, extended);
    if (more.headers == NULL) return NULL;
    PyObject *fields[EB_EVENT_FIELDS] = {
        named ? text_of(bytes, beside->system_length) : known(row->system),
        named ? text_of(kind, beside->kind_length) : known(row->kind),
        raw ? text_of(path, beside->path_length) : value_of(hand, value),
        raw ? PyBytes_FromStringAndSize(path + beside->path_length, (Py_ssize_t)beside->data_length)
            : value_of(hand, value),
        PyLong_FromUnsignedLongLong(row->sequence),
        PyLong_FromUnsignedLongLong(row->time),
        PyLong_FromUnsignedLong(row->sender),
        PyLong_FromUnsignedLong(index == 0 ? hand->batch->head.deliveries : 1),
        more.headers,
        more.origin,
    };
    return fields_of(&fields, plain);
}

static PyObject *all_fields(const hand_object *hand, bool plain)
{
    const eb_batch *batch = hand->batch;
    PyObject *list = PyList_New((Py_ssize_t)hand->count);
    Py_ssize_t value = 0;
    uint32_t beside = 0;
    for (uint32_t i = 0; list != NULL && i < hand->count; i++) {
        bool has = beside < batch->head.beside_count && batch->beside[beside].index == i;
        PyObject *fields = fields_at(hand, i, has ? &batch->beside[beside++] : NULL, &value, plain);
        if (fields == NULL || PyList_SetItem(list, (Py_ssize_t)i, fields) != 0) Py_CLEAR(list);
    }
    return list;
}

/* All are made now: while what stands beside the array is there; and requests, which only their kinds tell, become such. */
static bool make_all(receiver_object *self, PyObject *handle, hand_object *hand, bool asked)
{
    PyObject *fields = all_fields(hand, asked);
    if (fields == NULL)
        return PyErr_ExceptionMatches(PyExc_ValueError) &&
               damage(self, handle, "a name, a path or a header is not UTF-8");
    if (!asked) {
        hand->made = fields;
        return true;
    }
    hand->made = PyObject_CallMethodObjArgs((PyObject *)self, opened, handle, fields, NULL);
    Py_DECREF(fields);
    return hand->made != NULL;
}

bool eb_unpack(receiver_object *self, PyObject *handle, hand_object *hand)
{
    const eb_batch_head *head = &hand->batch->head;
    uint32_t count = head->status > 0 ? (uint32_t)head->status : 1;
    bool whole = decode(self, handle, hand);
    int asked = whole ? write_rows(hand, self->names, count) : -1;
    return asked >= 0 && ((!asked && head->beside_count == 0) || make_all(self, handle, hand, asked > 0));
}

void eb_unpack_bind(PyObject *given)
{
    Py_INCREF(given);
    loads = given;
}

int eb_unpack_ready(void)
{
    opened = PyUnicode_InternFromString("_opened");
    damaged = PyUnicode_InternFromString("_damaged");
    return opened != NULL && damaged != NULL;
}
