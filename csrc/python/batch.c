/* A batch as the core has read it, into events. */
#include "fast.h"

#define LITTLE 32768      /* bytes that are copied sooner than looked at through a memoryview */
#define BUFFER_READ 0x100 /* PyBUF_READ, which the headers of the limited API have from 3.11 on */

static struct {
    PyObject *loads;
    PyTypeObject *event;
    PyObject *opened; /* names of methods */
    PyObject *damaged;
} bound;

/* Raises that the batch is not what was sent; NULL. */
static PyObject *damage(receiver_object *self, PyObject *handle, const char *what)
{
    PyErr_Clear();
    PyObject *text = PyUnicode_FromString(what);
    if (text == NULL) return NULL;
    PyObject *told = PyObject_CallMethodObjArgs((PyObject *)self, bound.damaged, handle, text, NULL);
    Py_DECREF(text);
    Py_XDECREF(told);
    return NULL;
}

/* path, data, path, data … of the events that are text. */
static PyObject *decode(receiver_object *self, PyObject *handle, const eb_batch *batch)
{
    if (batch->head.json_count == 0) return PyList_New(0);
    Py_ssize_t length = (Py_ssize_t)batch->head.json_length;
    PyObject *text = length < LITTLE ? PyBytes_FromStringAndSize(batch->buffer, length)
                                     : PyMemoryView_FromMemory(batch->buffer, length, BUFFER_READ);
    if (text == NULL) return NULL;
    PyObject *values = PyObject_CallFunctionObjArgs(bound.loads, text, NULL);
    Py_DECREF(text);
    if (values == NULL)
        return PyErr_ExceptionMatches(PyExc_ValueError) ? damage(self, handle, "a record is no JSON") : NULL;
    if (PyList_Check(values) && PyList_Size(values) == 2 * (Py_ssize_t)batch->head.json_count) return values;
    Py_DECREF(values);
    return damage(self, handle, "a record is not a path and data");
}

/* All are made now, while what stands beside the array is there; and requests, which only their kinds tell, become such. */
static PyObject *made_now(receiver_object *self, PyObject *handle, PyObject *events)
{
    PyObject *list = PySequence_List(events);
    if (list == NULL)
        return PyErr_ExceptionMatches(PyExc_ValueError) ? damage(self, handle, "a name or a path is not UTF-8") : NULL;
    if (self->asked) {
        PyObject *opened = PyObject_CallMethodObjArgs((PyObject *)self, bound.opened, handle, list, NULL);
        Py_DECREF(list);
        if (opened == NULL) return NULL;
        list = opened;
    }
    PyObject *iterator = PyObject_GetIter(list);
    Py_DECREF(list);
    return iterator;
}

PyObject *eb_unpack(receiver_object *self, PyObject *handle, const eb_batch *batch)
{
    PyObject *values = decode(self, handle, batch);
    if (values == NULL) return NULL;
    PyObject *events = eb_events_new(bound.event, batch, values, self->names);
    Py_DECREF(values);
    if (events == NULL || (!self->asked && batch->head.beside_count == 0)) return events;
    PyObject *made = made_now(self, handle, events);
    Py_DECREF(events);
    return made;
}

PyObject *eb_bind_unpack(PyObject *loads, PyTypeObject *event)
{
    Py_INCREF(loads);
    Py_INCREF(event);
    bound.loads = loads;
    bound.event = event;
    Py_RETURN_NONE;
}

int eb_batch_ready(void)
{
    bound.opened = PyUnicode_InternFromString("_opened");
    bound.damaged = PyUnicode_InternFromString("_damaged");
    return bound.opened != NULL && bound.damaged != NULL;
}
