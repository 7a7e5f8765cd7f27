/* The events of a batch, each made when it is asked for: so it takes the place in the caches that the one before has left. */
#include "fast.h"

typedef struct {
    uint64_t sequence;
    uint64_t time;
    uint32_t sender;
    uint32_t topic;
} event_row;

typedef struct {
    PyVarObject base;
    allocfunc allocate;
    PyTypeObject *event;
    PyObject *values;
    PyObject *names;
    PyObject *pair;   /* the names of the event before, */
    PyObject *sender; /* and its sender */
    const eb_batch *batch;
    uint32_t deliveries;
    uint32_t beside;
    Py_ssize_t value;
    Py_ssize_t next;
    event_row rows[];
} events_object;

static PyObject *next_value(events_object *events)
{
    if (events->value >= PyList_Size(events->values)) {
        PyErr_SetString(PyExc_ValueError, "fewer values came than events");
        return NULL;
    }
    PyObject *value = PyList_GetItem(events->values, events->value++);
    Py_XINCREF(value);
    return value;
}

/* The names of row number `next`, looked up where they differ from those of the row before; borrowed. */
static PyObject *pair_of(events_object *events)
{
    const event_row *row = &events->rows[events->next];
    if (events->pair != NULL && events->next > 0 && row[-1].topic == row->topic) return events->pair;
    PyObject *topic = PyLong_FromUnsignedLong(row->topic);
    if (topic == NULL) return NULL;
    PyObject *pair = PyDict_GetItemWithError(events->names, topic);
    if (pair == NULL && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, topic);
    Py_DECREF(topic);
    Py_XINCREF(pair);
    Py_XDECREF(events->pair);
    events->pair = pair;
    return pair;
}

static PyObject *sender_of(events_object *events)
{
    const event_row *row = &events->rows[events->next];
    if (events->sender == NULL || row[-1].sender != row->sender) {
        Py_XDECREF(events->sender);
        events->sender = PyLong_FromUnsignedLong(row->sender);
    }
    Py_XINCREF(events->sender);
    return events->sender;
}

/* Steals the value; false when there is none, or no place for it. */
static int put(PyObject *event, Py_ssize_t field, PyObject *value)
{
    return value != NULL && PyTuple_SetItem(event, field, value) == 0;
}

static int put_names(events_object *events, PyObject *event, const eb_beside *beside)
{
    if (beside != NULL && beside->system_length + beside->kind_length > 0) {
        const char *system = events->batch->buffer + beside->offset, *kind = system + beside->system_length;
        return put(event, 0, PyUnicode_DecodeUTF8(system, beside->system_length, NULL)) &&
               put(event, 1, PyUnicode_DecodeUTF8(kind, beside->kind_length, NULL));
    }
    PyObject *pair = pair_of(events);
    for (Py_ssize_t i = 0; i < 2; i++) {
        PyObject *name = pair == NULL ? NULL : PyTuple_GetItem(pair, i);
        Py_XINCREF(name);
        if (!put(event, i, name)) return 0;
    }
    return 1;
}

static int put_content(events_object *events, PyObject *event, const eb_beside *beside)
{
    if (beside == NULL || beside->path_length == 0)
        return put(event, 2, next_value(events)) && put(event, 3, next_value(events));
    const char *path = events->batch->buffer + beside->offset + beside->system_length + beside->kind_length;
    return put(event, 2, PyUnicode_DecodeUTF8(path, beside->path_length, NULL)) &&
           put(event, 3, PyBytes_FromStringAndSize(path + beside->path_length, (Py_ssize_t)beside->data_length));
}

static PyObject *events_next(PyObject *object)
{
    events_object *events = (events_object *)object;
    PyObject *event = events->next < Py_SIZE(object) ? events->allocate(events->event, 8) : NULL;
    if (event == NULL) return NULL;
    if (events->next >= Py_SIZE(object)) { /* this may have collected garbage, whose destructors took the last one */
        Py_DECREF(event);
        return NULL;
    }
    const event_row *row = &events->rows[events->next];
    const eb_beside *beside = NULL;
    if (events->batch != NULL && events->beside < events->batch->head.beside_count &&
        events->batch->beside[events->beside].index == (uint32_t)events->next)
        beside = &events->batch->beside[events->beside++];
    if (put_names(events, event, beside) && put_content(events, event, beside) &&
        put(event, 4, PyLong_FromUnsignedLongLong(row->sequence)) &&
        put(event, 5, PyLong_FromUnsignedLongLong(row->time)) && put(event, 6, sender_of(events)) &&
        put(event, 7, PyLong_FromUnsignedLong(events->next == 0 ? events->deliveries : 1))) {
        events->next++;
        return event;
    }
    Py_DECREF(event);
    return NULL;
}

static void events_dealloc(PyObject *object)
{
    events_object *events = (events_object *)object;
    Py_XDECREF(events->event);
    Py_XDECREF(events->values);
    Py_XDECREF(events->names);
    Py_XDECREF(events->pair);
    Py_XDECREF(events->sender);
    eb_fast_free(object);
}

static PyObject *events_iter(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static PyObject *events_length_hint(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(Py_SIZE(object) - ((events_object *)object)->next);
}

static PyMethodDef events_methods[] = {
    {"__length_hint__", events_length_hint, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot events_slots[] = {
    {Py_tp_dealloc, (void *)events_dealloc},
    {Py_tp_iter, (void *)events_iter},
    {Py_tp_iternext, (void *)events_next},
    {Py_tp_methods, events_methods},
    {0, NULL},
};

static PyType_Spec events_spec = {
    .name = "eventbus._fast.Events",
    .basicsize = offsetof(events_object, rows),
    .itemsize = sizeof(event_row),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = events_slots,
};

static PyTypeObject *events_type;

PyObject *eb_events_new(PyTypeObject *event, const eb_batch *batch, PyObject *values, PyObject *names)
{
    uint32_t count = batch->head.status > 0 ? (uint32_t)batch->head.status : 1;
    events_object *events = (events_object *)PyType_GenericAlloc(events_type, count);
    if (events == NULL) return NULL;
    Py_INCREF(event);
    Py_INCREF(values);
    Py_INCREF(names);
    events->event = event;
    events->allocate = (allocfunc)PyType_GetSlot(event, Py_tp_alloc);
    events->values = values;
    events->names = names;
    events->batch = batch->head.beside_count > 0 ? batch : NULL;
    events->deliveries = batch->head.deliveries;
    for (uint32_t i = 0; i < count; i++)
        events->rows[i] = (event_row){.sequence = batch->sequence[i],
                                      .time = batch->time[i],
                                      .sender = batch->sender[i],
                                      .topic = batch->topic[i]};
    return (PyObject *)events;
}

Py_ssize_t eb_events_left(PyObject *object)
{
    return Py_TYPE(object) == events_type ? Py_SIZE(object) - ((events_object *)object)->next : -1;
}

int eb_events_ready(void)
{
    events_type = (PyTypeObject *)PyType_FromSpec(&events_spec);
    return events_type != NULL;
}
