/* What the core has read at once, into a hand. */
#include "fast.h"

#define LITTLE 32768      /* bytes that are copied sooner than looked at through a memoryview */
#define BUFFER_READ 0x100 /* PyBUF_READ, which the headers of the limited API have from 3.11 on */

static PyObject *loads;
static PyObject *opened, *bus; /* the names of a method and of an attribute */

/* What orjson makes of all texts at once; NULL with an error, or without one if it refuses them. */
static PyObject *decode_all(const eb_batch *batch)
{
    Py_ssize_t length = (Py_ssize_t)batch->head.json_length;
    PyObject *text = length < LITTLE ? PyBytes_FromStringAndSize(batch->buffer, length)
                                     : PyMemoryView_FromMemory(batch->buffer, length, BUFFER_READ);
    if (text == NULL) return NULL;
    PyObject *values = PyObject_CallFunctionObjArgs(loads, text, NULL);
    Py_DECREF(text);
    if (values == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) PyErr_Clear();
    return values;
}

static bool are_paths_and_data(PyObject *values, Py_ssize_t count)
{
    if (!PyList_Check(values) || PyList_Size(values) != 2 * count) return false;
    for (Py_ssize_t i = 0; i < count; i++)
        if (Py_TYPE(PyList_GetItem(values, 2 * i)) != &PyUnicode_Type) return false;
    return true;
}

/* path, data, path, data ... of the events that are text; false with an error, or without one if not all are what was
 * sent, or orjson had no memory for them, which it says in the same way. */
static bool decode(hand_object *hand)
{
    const eb_batch *batch = hand->batch;
    Py_ssize_t count = batch->head.json_count;
    if (count == 0) return (hand->values = PyList_New(0)) != NULL;
    PyObject *values = count == 1 || eb_texts_stand_alone(batch) ? decode_all(batch) : NULL;
    if (values != NULL && are_paths_and_data(values, count)) hand->values = values;
    else Py_XDECREF(values);
    return hand->values != NULL;
}

/* Whose event number `index` is, by its topic; false with an error. */
static bool write_names(hand_object *hand, PyObject *known, uint32_t index)
{
    const eb_batch *batch = hand->batch;
    hand_row *row = &hand->rows[index];
    PyObject *topic = PyLong_FromUnsignedLong(batch->topic[index]);
    if (topic == NULL) return false;
    row->names = PyDict_GetItemWithError(known, topic);
    if (row->names == NULL && !PyErr_Occurred() && batch->topic[index] != EB_INLINE)
        PyErr_SetObject(PyExc_KeyError, topic);
    Py_DECREF(topic);
    if (row->names == NULL) return !PyErr_Occurred();
    row->system = PyTuple_GetItem(row->names, 0);
    row->kind = PyTuple_GetItem(row->names, 1);
    row->asked = PyTuple_Size(row->names) > 2;
    return true;
}

/* The rows; -1 with an error, else whether Python has to find out what is a request: where the names stand in the record
 * alone, or the path is none of one. */
static int write_rows(hand_object *hand, PyObject *known, uint32_t count)
{
    const eb_batch *batch = hand->batch;
    bool unclear = false, all_text = batch->head.beside_count == 0 && hand->values != NULL;
    for (uint32_t i = 0; i < count; i++) {
        hand_row *row = &hand->rows[i];
        *row = (hand_row){.sequence = batch->sequence[i], .time = batch->time[i], .sender = batch->sender[i]};
        hand->count = i + 1;
        if (i > 0 && batch->topic[i] == batch->topic[i - 1]) {
            row->names = row[-1].names;
            row->system = row[-1].system;
            row->kind = row[-1].kind;
            row->asked = row[-1].asked;
        } else if (!write_names(hand, known, i)) {
            return -1;
        }
        Py_XINCREF(row->names);
        unclear = unclear || row->names == NULL;
        if (row->asked && all_text)
            unclear = unclear || !eb_is_addressed(PyList_GetItem(hand->values, 2 * (Py_ssize_t)i));
    }
    return unclear;
}

/* By what requests are answered, if there are any; false with an error. */
static bool find_bus(receiver_object *self, hand_object *hand)
{
    bool asked = false;
    for (uint32_t i = 0; i < hand->count && !asked; i++)
        asked = hand->rows[i].asked;
    if (!asked || hand->bus != NULL) return true;
    hand->bus = PyObject_GetAttr((PyObject *)self, bus);
    return hand->bus != NULL;
}

/* --- batches that are more than an array --- */

/* Of a batch that is not what was sent, what is no text as bytes. */
static PyObject *text_of(const hand_object *hand, const char *bytes, uint32_t length)
{
    PyObject *text = PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)length, NULL);
    if (text != NULL || hand->values != NULL || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return text;
    PyErr_Clear();
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)length);
}

/* In such a batch, None for headers that are none. */
static eb_extension extension_of(const hand_object *hand, const char *bytes, uint32_t length)
{
    eb_extension read = eb_extension_read(bytes, length);
    if (read.headers != NULL || hand->values != NULL || !PyErr_ExceptionMatches(PyExc_ValueError)) return read;
    PyErr_Clear();
    read = eb_extension_read(NULL, 0);
    Py_DECREF(read.headers);
    Py_INCREF(Py_None);
    read.headers = Py_None;
    return read;
}

/* Of text number `text`: the path, or None if none of them is decoded. */
static PyObject *path_of(const hand_object *hand, uint32_t text)
{
    PyObject *path = hand->values == NULL ? Py_None : PyList_GetItem(hand->values, 2 * (Py_ssize_t)text);
    Py_XINCREF(path);
    return path;
}

/* The data, or all of the text. */
static PyObject *data_of(const hand_object *hand, uint32_t text)
{
    if (hand->values == NULL) {
        uint64_t start = eb_text_start(hand->batch, text), end = hand->batch->text_end[text];
        return PyBytes_FromStringAndSize(hand->batch->buffer + start, (Py_ssize_t)(end - start));
    }
    PyObject *data = PyList_GetItem(hand->values, 2 * (Py_ssize_t)text + 1);
    Py_XINCREF(data);
    return data;
}

static PyObject *tuple_of(PyObject *(*fields)[EB_EVENT_FIELDS])
{
    PyObject *tuple = PyTuple_New(EB_EVENT_FIELDS);
    for (Py_ssize_t i = 0; i < EB_EVENT_FIELDS; i++) {
        if (tuple != NULL) PyTuple_SetItem(tuple, i, (*fields)[i]);
        else Py_DECREF((*fields)[i]);
    }
    return tuple;
}

static PyObject *event_of(const hand_object *hand, PyObject *(*fields)[EB_EVENT_FIELDS], bool asked)
{
    PyObject *event = eb_event_empty(hand, asked);
    if (event == NULL) {
        for (Py_ssize_t i = 0; i < EB_EVENT_FIELDS; i++)
            Py_DECREF((*fields)[i]);
        return NULL;
    }
    bool whole = eb_fields_set(event, fields);
    if (whole && asked) whole = eb_event_address(event, ((fields_object *)event)->path);
    if (!whole) Py_CLEAR(event);
    return event;
}

/* An event, a request, or a plain tuple of its fields. Steals their references, also where one could not be made: then NULL,
 * and nothing is made beside that error, as what the collector runs may lose it. */
static PyObject *fields_of(const hand_object *hand, PyObject *(*fields)[EB_EVENT_FIELDS], bool asked, bool plain)
{
    bool whole = true;
    for (Py_ssize_t i = 0; i < EB_EVENT_FIELDS; i++)
        whole = whole && (*fields)[i] != NULL;
    if (whole) return plain ? tuple_of(fields) : event_of(hand, fields, asked);
    for (Py_ssize_t i = 0; i < EB_EVENT_FIELDS; i++)
        Py_XDECREF((*fields)[i]);
    return NULL;
}

/* A plain tuple has the kind of a request as it was sent. */
static PyObject *kind_of(const hand_row *row, bool plain)
{
    return plain && row->asked ? PyTuple_GetItem(row->names, 2) : row->kind;
}

/* Raw data: bytes, or a memoryview of these, or of what lies in the ring. */
static PyObject *raw_of(const hand_object *hand, const eb_beside *beside, const char *bytes)
{
    bool views = hand->of != NULL && hand->of->views && !hand->copies;
    if (views && beside->view != NULL) return eb_view_of(beside);
    PyObject *copy = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)beside->data_length);
    PyObject *seen = views && copy != NULL ? PyMemoryView_FromObject(copy) : NULL;
    if (views) Py_XDECREF(copy);
    return views ? seen : copy;
}

/* Event number `index`; `beside` is what stands beside the array for it, or NULL, and `text` the number of its text, if
 * it has one. */
static PyObject *fields_at(const hand_object *hand, uint32_t index, const eb_beside *beside, uint32_t text, bool plain)
{
    const hand_row *row = &hand->rows[index];
    const char *bytes = beside == NULL ? NULL : hand->batch->buffer + beside->offset;
    bool named = beside != NULL && beside->system_length + beside->kind_length > 0;
    bool raw = beside != NULL && beside->path_length > 0;
    uint32_t extended = beside == NULL ? 0 : beside->extension_length;
    const char *kind = named ? bytes + beside->system_length : bytes,
               *extension = named ? kind + beside->kind_length : bytes, *path = raw ? extension + extended : NULL;
    eb_extension more = extension_of(hand, extension, extended);
    if (more.headers == NULL) return NULL;
    PyObject *fields[EB_EVENT_FIELDS] = {
        named ? text_of(hand, bytes, beside->system_length) : Py_XNewRef(row->system),
        named ? text_of(hand, kind, beside->kind_length) : Py_XNewRef(kind_of(row, plain)),
        raw ? text_of(hand, path, beside->path_length) : path_of(hand, text),
        raw ? raw_of(hand, beside, path + beside->path_length) : data_of(hand, text),
        PyLong_FromUnsignedLongLong(row->sequence),
        PyLong_FromUnsignedLongLong(more.time ? more.time : row->time),
        PyLong_FromUnsignedLong(more.time ? more.sender : row->sender),
        PyLong_FromUnsignedLong(hand->batch->head.counted ? hand->batch->deliveries[index] : 1),
        more.headers,
        more.origin,
    };
    return fields_of(hand, &fields, row->asked, plain);
}

static PyObject *all_fields(const hand_object *hand, bool plain)
{
    const eb_batch *batch = hand->batch;
    PyObject *list = PyList_New((Py_ssize_t)hand->count);
    uint32_t beside = 0, text = 0;
    for (uint32_t i = 0; list != NULL && i < hand->count; i++) {
        bool has = beside < batch->head.beside_count && batch->beside[beside].index == i;
        const eb_beside *its = has ? &batch->beside[beside++] : NULL;
        PyObject *fields = fields_at(hand, i, its, text, plain);
        text += !has || its->path_length == 0;
        if (fields == NULL || PyList_SetItem(list, (Py_ssize_t)i, fields) != 0) Py_CLEAR(list);
    }
    return list;
}

/* All are made now, while what stands beside the array is there. Where one is not what was sent, or may be a request or
 * not, Python finds out which: it gets the texts as they are. */
static bool make_all(receiver_object *self, PyObject *handle, hand_object *hand, bool unclear)
{
    PyObject *fields = hand->values == NULL ? NULL : all_fields(hand, unclear);
    if (fields == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        Py_CLEAR(hand->values);
    }
    unclear = unclear || hand->values == NULL;
    if (fields == NULL && !PyErr_Occurred()) fields = all_fields(hand, true);
    if (fields == NULL) return false;
    if (!unclear) {
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
    bool whole = decode(hand);
    int unclear = whole || !PyErr_Occurred() ? write_rows(hand, self->names, count) : -1;
    if (unclear < 0 || !find_bus(self, hand)) return false;
    return (whole && !unclear && head->beside_count == 0) || make_all(self, handle, hand, unclear > 0);
}

void eb_unpack_bind(PyObject *given)
{
    Py_INCREF(given);
    loads = given;
}

int eb_unpack_ready(void)
{
    opened = PyUnicode_InternFromString("_opened");
    bus = PyUnicode_InternFromString("_bus");
    return opened != NULL && bus != NULL;
}
