/* The module `eventbus._fast`: what a send and an event cost most in the interpreter, and what no signal handler may part,
 * done without it. From the bottom up:
 *
 *   object.c    how objects end
 *   scope.c     Scope: one call at the end of a with-block, in the same step as the end
 *   hand.c      Hand: the events of the batch in hand, each made when it is asked for; read, handed out, done
 *   texts.c     whether texts may be decoded together
 *   headers.c   where an event came from, and its headers
 *   unpack.c    what the core has read at once, into a Hand
 *   finish.c    what was read is handed out, buried, or given back
 *   events.c    Events: what is in hand for who awaits it
 *   receiver.c  Receiver: the next batch in hand, the last one's events acknowledged
 *   sender.c    Sender.send: two look-ups, a call of orjson, one of the core
 *   module.c    the module
 *
 * It knows the core by the addresses that cffi gives out of its own, so it goes with any build of it; cffi remains the way
 * to all else. One interpreter per process, as for cffi's modules. Python looks for signals between its own steps only, so
 * what is one call here is one step for whatever a signal handler raises. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#include "eventbus.h"

/* object.c: frees an object of a type that PyType_FromSpec made. */
void eb_fast_free(PyObject *object);

/* scope.c */
int eb_scope_ready(PyObject *module);

/* headers.c */
typedef struct {
    PyObject *headers;
    PyObject *origin;
} eb_extension;

bool eb_headers_bind(PyTypeObject *headers);
eb_extension eb_no_extension(void);                                 /* borrowed */
eb_extension eb_extension_read(const char *bytes, uint32_t length); /* new; both NULL with an error */

/* hand.c */

enum { EB_EVENT_FIELDS = 10 };

/* What is in hand of a subscription: events that were put back, then those of the batch, of which the core's head says how
 * many were handed out and how many of these are done. A row is one event of the batch but for its path and data. */
typedef struct {
    uint64_t sequence;
    uint64_t time;
    uint32_t sender;
    PyObject *names; /* a tuple that begins with the two below */
    PyObject *system, *kind;
} hand_row;

typedef struct {
    PyObject base;
    PyObject *owner;  /* keeps the batch */
    PyObject *front;  /* a list of events that were put back, or NULL */
    Py_ssize_t taken; /* of it */
    PyObject *values; /* path, data, path, data ... of the batch, or NULL */
    PyObject *made;   /* or a list of its events, all made already; what cannot be read is something else */
    PyObject *sender; /* of the event before, as an int, which is `pid` */
    uint32_t pid;
    eb_batch *batch;
    uint64_t generation; /* of the process whose it is */
    uint32_t count;      /* events of the batch */
    uint32_t number;     /* of the batch */
    char busy;           /* a batch is being taken, or events of it: whatever asks meanwhile gets nothing */
    char dropped;        /* meanwhile somebody dropped it */
    hand_row rows[EB_BATCH_LIMIT];
} hand_object;

int eb_hand_ready(PyObject *module);
void eb_hand_bind(const uint64_t *generation, PyTypeObject *event);
hand_object *eb_hand_new(PyObject *owner, eb_batch *batch);
void eb_hand_drop(hand_object *hand);
void eb_hand_busy(hand_object *hand);
void eb_hand_idle(hand_object *hand);
bool eb_hand_is_inherited(const hand_object *hand);
Py_ssize_t eb_hand_left(const hand_object *hand);
PyObject *eb_event_empty(void);
PyObject *eb_hand_all(hand_object *hand); /* a list of the events of the batch; nothing is handed out by that */
PyObject *eb_hand_unreadable(const hand_object *hand); /* what comes next if that is no event, borrowed; else NULL */

/* What its doc in receiver.c says. */
typedef struct {
    PyObject base;
    PyObject *handle;
    PyObject *ready;
    PyObject *names;
    PyObject *turn;
    int limit;
    char ended;
    char manual; /* it says for itself which events are done */
    char asks;   /* who asks for the next event says by that that those before are done */
    int in_a_row;
} receiver_object;

/* texts.c: the text of event number `text` of those that have one begins there; behind it are a comma and a line break. */
uint64_t eb_text_start(const eb_batch *batch, uint32_t text);
bool eb_texts_stand_alone(const eb_batch *batch);

/* unpack.c: the batch that was read last, in hand; false with an error. */
bool eb_unpack(receiver_object *self, PyObject *handle, hand_object *hand);
void eb_unpack_bind(PyObject *loads);
int eb_unpack_ready(void);

/* finish.c */
void *eb_address_in(PyObject *handle, PyObject *attribute); /* NULL with an error, like the next */
eb_subscription *eb_subscription_of(PyObject *handle);
hand_object *eb_hand_of(const receiver_object *self);
bool eb_is_whole(const receiver_object *self);
void eb_count_delivery(eb_batch *batch, uint32_t index);
void eb_hand_out(eb_batch *batch, uint32_t count);
void eb_bury_event(eb_subscription *sub, uint64_t sequence);
PyObject *eb_receiver_bury(PyObject *object, PyObject *given);
PyObject *eb_receiver_give_back(PyObject *object, PyObject *given);
void eb_finish_bind(unsigned long long bury, unsigned long long give_back, unsigned long long reject);
int eb_finish_ready(void);

/* events.c */
int eb_events_ready(void);
PyObject *eb_events_of(PyObject *receiver);

/* receiver.c and sender.c */
int eb_receiver_ready(PyObject *module);
int eb_sender_ready(PyObject *module);
PyObject *eb_bind_receive(PyObject *module, PyObject *given);
PyObject *eb_bind_send(PyObject *module, PyObject *given);
