/* Ticket: one request that is waited for. Whoever has it is told of the answer, in whichever thread that comes. All of this
 * happens with the GIL, which is let go only to sleep. */
#include "fast.h"
#include "musl.h"

#include <errno.h>
#include <time.h>

#define NS_PER_SECOND 1000000000ll
#define LONGEST 1e9 /* seconds; a longer wait is for ever, as native.py has it */

static struct {
    int (*rest)(eb_subscription *sub);
    int (*attend)(eb_subscription *sub);
    void (*hail)(eb_subscription *sub);
    PyTypeObject *type;
    PyObject *deadline_after;             /* of a timeout of any kind */
    PyObject *unattended, *create_future; /* names of methods */
} bound;

int64_t eb_ticket_now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * NS_PER_SECOND + at.tv_nsec;
}

bool eb_ticket_is_late(const ticket_object *ticket)
{
    return ticket->deadline == EB_POLL || (ticket->deadline != EB_FOREVER && eb_ticket_now() >= ticket->deadline);
}

bool eb_replies_inherited(const replies_object *self)
{
    return eb_hand_is_inherited(eb_hand_of(self->subscription));
}

/* --- who waits --- */

/* NULL once it is closed. */
static eb_subscription *subscription_of(const replies_object *self)
{
    PyObject *handle = self->subscription->handle;
    return handle == NULL || handle == Py_None ? NULL : eb_subscription_of(handle);
}

/* Only who waits for something holds publishers up. Where that cannot be changed the subscription has ended: whoever asks next
 * is told. */
void eb_replies_rest(replies_object *self)
{
    eb_subscription *sub = subscription_of(self);
    self->armed = 0;
    if (sub != NULL) bound.rest(sub);
}

void eb_replies_hail(const replies_object *self)
{
    eb_subscription *sub = subscription_of(self);
    if (sub != NULL) bound.hail(sub);
}

/* False with an error. */
static bool attend(replies_object *self)
{
    eb_subscription *sub = subscription_of(self);
    int status = sub == NULL ? EB_CLOSED : bound.attend(sub);
    if (status == EB_OK || PyErr_Occurred()) return status == EB_OK;
    PyObject *number = PyLong_FromLong(status);
    PyObject *none =
        number == NULL ? NULL : PyObject_CallMethodObjArgs((PyObject *)self, bound.unattended, number, NULL);
    Py_XDECREF(number);
    Py_XDECREF(none);
    return false;
}

/* Nobody waits for it any more. An error there was before stays. */
void eb_ticket_strike(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    if (!ticket->known) return;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    ticket->known = false;
    self->distant -= ticket->future != NULL;
    if (PyDict_DelItem(self->waiting, ticket->identity) != 0) PyErr_Clear();
    if (PyDict_Size(self->waiting) == 0 && !eb_replies_inherited(self)) eb_replies_rest(self);
    PyErr_Restore(type, error, traceback);
}

/* False with an error. */
static bool expect(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    if (PyDict_Size(self->waiting) == 0 && !attend(self)) return false;
    PyObject *address = PyLong_FromVoidPtr(ticket);
    ticket->known = address != NULL && PyDict_SetItem(self->waiting, ticket->identity, address) == 0;
    Py_XDECREF(address);
    self->distant += ticket->known && ticket->future != NULL;
    if (!ticket->known && PyDict_Size(self->waiting) == 0) eb_replies_rest(self);
    return ticket->known;
}

/* What the answer has for its path: which request of which asker it is to, and until when that waits, on CLOCK_MONOTONIC. */
static PyObject *new_identity(replies_object *self, int64_t deadline)
{
    char text[EB_PREFIX_LIMIT + 40];
    if (deadline == EB_POLL) deadline = eb_ticket_now();
    int length = snprintf(text, sizeof text, "%s%llx", self->prefix, (unsigned long long)self->asked++);
    if (deadline != EB_FOREVER)
        length += snprintf(text + length, sizeof text - (size_t)length, "@%llx", (unsigned long long)deadline);
    return PyUnicode_FromStringAndSize(text, length);
}

/* --- who sleeps --- */

static void fall_asleep(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    ticket->sleeps = true;
    ticket->next = NULL;
    ticket->previous = self->last;
    if (self->last == NULL) self->first = ticket;
    else self->last->next = ticket;
    self->last = ticket;
}

static void wake_up(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    if (!ticket->sleeps) return;
    ticket->sleeps = false;
    if (ticket->previous == NULL) self->first = ticket->next;
    else ticket->previous->next = ticket->next;
    if (ticket->next == NULL) self->last = ticket->previous;
    else ticket->next->previous = ticket->previous;
}

/* Whoever is woken leaves the list at once: it is given no lead while its thread does something else first. */
void eb_ticket_wake(ticket_object *ticket)
{
    wake_up(ticket);
    sem_post(&ticket->news);
}

int eb_ticket_sleep(ticket_object *ticket)
{
    int64_t deadline = ticket->deadline;
    struct timespec at = {.tv_sec = deadline / NS_PER_SECOND, .tv_nsec = deadline % NS_PER_SECOND};
    int status;
    fall_asleep(ticket);
    Py_BEGIN_ALLOW_THREADS;
    status = deadline == EB_FOREVER ? sem_wait(&ticket->news) : sem_clockwait(&ticket->news, CLOCK_MONOTONIC, &at);
    if (status != 0) status = errno == EINTR ? EB_INTERRUPTED : EB_NOTHING;
    Py_END_ALLOW_THREADS;
    if (!eb_replies_inherited(ticket->replies)) wake_up(ticket);
    return status;
}

/* --- the type --- */

static PyObject *ticket_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_INCREF(object);
    return object;
}

static PyObject *ticket_exit(PyObject *object, PyObject *const *given, Py_ssize_t count)
{
    (void)given, (void)count;
    eb_ticket_strike((ticket_object *)object);
    return PyBool_FromLong(0);
}

static int ticket_traverse(PyObject *object, visitproc visit, void *arg)
{
    ticket_object *ticket = (ticket_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)ticket->replies);
    Py_VISIT(ticket->answer);
    Py_VISIT(ticket->loop);
    Py_VISIT(ticket->future);
    return 0;
}

static int ticket_clear(PyObject *object)
{
    ticket_object *ticket = (ticket_object *)object;
    if (ticket->replies != NULL) eb_ticket_strike(ticket);
    Py_CLEAR(ticket->answer);
    Py_CLEAR(ticket->loop);
    Py_CLEAR(ticket->future);
    return 0;
}

static void ticket_dealloc(PyObject *object)
{
    ticket_object *ticket = (ticket_object *)object;
    PyObject_GC_UnTrack(object);
    ticket_clear(object);
    sem_destroy(&ticket->news);
    Py_XDECREF(ticket->identity);
    Py_XDECREF((PyObject *)ticket->replies);
    eb_fast_free(object);
}

static PyMethodDef ticket_methods[] = {
    {"__enter__", ticket_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))ticket_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef ticket_members[] = {
    {"identity", T_OBJECT_EX, offsetof(ticket_object, identity), READONLY, NULL},
    {"answer", T_OBJECT, offsetof(ticket_object, answer), READONLY, NULL},
    {"deadline", T_LONGLONG, offsetof(ticket_object, deadline), READONLY, NULL},
    {"loop", T_OBJECT, offsetof(ticket_object, loop), READONLY, NULL},
    {"future", T_OBJECT, offsetof(ticket_object, future), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot ticket_slots[] = {
    {Py_tp_doc, (void *)"One request that is answered, or not. It is waited for until the end of its with-block."},
    {Py_tp_traverse, (void *)ticket_traverse},
    {Py_tp_clear, (void *)ticket_clear},
    {Py_tp_dealloc, (void *)ticket_dealloc},
    {Py_tp_methods, ticket_methods},
    {Py_tp_members, ticket_members},
    {0, NULL},
};

static PyType_Spec ticket_spec = {
    .name = "eventbus._fast.Ticket",
    .basicsize = sizeof(ticket_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = ticket_slots,
};

/* A number of seconds, as most timeouts are, or None; all else is for Python, which says what is wrong. False with an error. */
static bool read_timeout(PyObject *timeout, int64_t *deadline)
{
    double seconds = Py_TYPE(timeout) == &PyFloat_Type ? PyFloat_AsDouble(timeout) : -1;
    *deadline = EB_FOREVER;
    if (timeout == Py_None || seconds > LONGEST) return true;
    if (seconds > 0) {
        *deadline = eb_ticket_now() + (int64_t)(seconds * 1e9);
        return true;
    }
    PyObject *until = PyObject_CallFunctionObjArgs(bound.deadline_after, timeout, NULL);
    if (until != NULL) *deadline = PyLong_AsLongLong(until);
    Py_XDECREF(until);
    return !PyErr_Occurred();
}

ticket_object *eb_ticket_new(replies_object *replies, PyObject *timeout, PyObject *loop)
{
    ticket_object *ticket = (ticket_object *)PyType_GenericAlloc(bound.type, 0);
    if (ticket == NULL) return NULL;
    Py_INCREF((PyObject *)replies);
    ticket->replies = replies;
    sem_init(&ticket->news, 0, 0);
    Py_XINCREF(loop);
    ticket->loop = loop;
    bool made = read_timeout(timeout, &ticket->deadline);
    if (made && loop != NULL) ticket->future = PyObject_CallMethodObjArgs(loop, bound.create_future, NULL);
    made = made && (loop == NULL || ticket->future != NULL);
    if (made) ticket->identity = new_identity(replies, ticket->deadline);
    if (made && ticket->identity != NULL && expect(ticket)) return ticket;
    Py_DECREF((PyObject *)ticket);
    return NULL;
}

/* NULL with an error when it is none of these. */
ticket_object *eb_ticket_of(PyObject *object, const replies_object *replies)
{
    ticket_object *ticket = PyObject_TypeCheck(object, bound.type) ? (ticket_object *)object : NULL;
    if (ticket != NULL && ticket->replies == replies) return ticket;
    PyErr_SetString(PyExc_TypeError, "a Ticket of these Replies is needed");
    return NULL;
}

void eb_tickets_bind(unsigned long long rest, unsigned long long attend_at, unsigned long long hail,
                     PyObject *deadline_after)
{
    Py_INCREF(deadline_after);
    bound.deadline_after = deadline_after;
    bound.hail = (void (*)(eb_subscription *))(uintptr_t)hail;
    bound.rest = (int (*)(eb_subscription *))(uintptr_t)rest;
    bound.attend = (int (*)(eb_subscription *))(uintptr_t)attend_at;
}

int eb_tickets_ready(void)
{
    bound.unattended = PyUnicode_InternFromString("_unattended");
    bound.create_future = PyUnicode_InternFromString("create_future");
    bound.type = (PyTypeObject *)PyType_FromSpec(&ticket_spec);
    return bound.unattended != NULL && bound.create_future != NULL && bound.type != NULL;
}
