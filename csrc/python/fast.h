/* The module `eventbus._fast`: what a send and an event cost most in the interpreter, done without it.
 *
 *   sender.c    Sender.send: two look-ups, a call of orjson, one of the core
 *   events.c    the events of a batch, made one by one as they are asked for
 *   batch.c     what the core has read at once, into events
 *   receiver.c  Receiver: the next batch in hand, the last one's events acknowledged
 *   module.c    the module
 *
 * It knows the core by the addresses that cffi gives out of its own, so it goes with any build of it; cffi remains the way
 * to all else. One interpreter per process, as for cffi's modules. Python looks for signals between its own steps only, so
 * what is one call here is one step for whatever a signal handler raises. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "eventbus.h"

/* Frees an object of a type that PyType_FromSpec made. */
void eb_fast_free(PyObject *object);

int eb_sender_ready(PyObject *module);
int eb_events_ready(void);
int eb_batch_ready(void);
int eb_receiver_ready(PyObject *module);

PyObject *eb_bind_send(PyObject *module, PyObject *given);
PyObject *eb_bind_receive(PyObject *module, PyObject *given);

/* The events of a batch whose array was decoded into `values`; NULL with an error. What stands beside the array is read from
 * the batch when its event is made: before the next eb_receive. */
PyObject *eb_events_new(PyTypeObject *event, const eb_batch *batch, PyObject *values, PyObject *names);
Py_ssize_t eb_events_left(PyObject *object); /* -1 when it is an iterator of another type */

/* What its doc in receiver.c says; and `unpacking`, while a batch is being taken. */
typedef struct {
    PyObject base;
    PyObject *handle;
    PyObject *ready;
    PyObject *names;
    PyObject *turn;
    unsigned int taken;
    int limit;
    int in_hand;
    char asked;
    char ended;
    char unpacking;
} receiver_object;

/* The events of the batch that was read last; NULL with a SegmentError when it is not what was sent. */
PyObject *eb_unpack(receiver_object *self, PyObject *handle, const eb_batch *batch);
PyObject *eb_bind_unpack(PyObject *loads, PyTypeObject *event);
