/* Replies: the answers to all that a bus has asked come by one subscription. Of the threads that wait one receives, the leader;
 * it gives each answer to whoever asked, and the lead to another one when it leaves, for whatever reason. All of this happens
 * with the GIL, which is let go only to sleep: no lock is left taken, and no lead with nobody. */
#include "fast.h"

#include <string.h>

static struct {
    PyObject *fill, *misread; /* names of methods */
} bound;

/* --- who receives --- */

/* By whoever has the lead. */
static void pass_lead_on(replies_object *self)
{
    self->leader = self->first;
    self->thread = 0;
    if (self->leader != NULL) eb_ticket_wake(self->leader);
    else if (self->distant > 0 || self->owed != NULL) eb_replies_hail(self);
}

/* To whom it is for; what nobody waits for any more is dropped. False with an error. */
static bool give(replies_object *self, PyObject *identity, PyObject *answer)
{
    PyObject *address = PyDict_GetItemWithError(self->waiting, identity);
    if (address == NULL) return !PyErr_Occurred();
    ticket_object *ticket = PyLong_AsVoidPtr(address);
    Py_INCREF(ticket);
    Py_INCREF(answer);
    ticket->answer = answer;
    eb_ticket_strike(ticket);
    if (ticket->sleeps) eb_ticket_wake(ticket);
    if (ticket->future != NULL) eb_distant_owe(ticket);
    Py_DECREF(ticket);
    return true;
}

/* All that is in hand; false with an error. */
static bool give_all(replies_object *self)
{
    PyObject *answer;
    while ((answer = PyIter_Next(self->subscription->ready)) != NULL) {
        bool given = give(self, ((fields_object *)answer)->path, answer);
        Py_DECREF(answer);
        if (!given) return false;
    }
    return !PyErr_Occurred();
}

/* An answer that cannot be read is for whoever asked: that is an error of its own. Else there is an error as before. */
static bool give_error(replies_object *self)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *identity = PyObject_CallMethodObjArgs((PyObject *)self, bound.misread, error, NULL);
    bool given = identity != NULL && identity != Py_None && give(self, identity, error);
    Py_XDECREF(identity);
    if (!given && !PyErr_Occurred()) {
        PyErr_Restore(type, error, traceback);
        return false;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return given;
}

/* Whether the end has come, or a batch is being taken beneath us. */
static bool is_over(const replies_object *self)
{
    const receiver_object *from = self->subscription;
    return from->ended || from->handle == NULL || from->handle == Py_None || eb_hand_of(from)->busy;
}

/* 1 when something came, 0 when nothing did, -1 with an error. */
static int receive(replies_object *self, int64_t deadline)
{
    PyObject *until = PyLong_FromLongLong(deadline);
    PyObject *filled = NULL;
    self->armed = 0;
    if (until != NULL) filled = PyObject_CallMethodObjArgs((PyObject *)self->subscription, bound.fill, until, NULL);
    Py_XDECREF(until);
    if (filled == NULL) return give_error(self) ? 1 : -1;
    int came = PyObject_IsTrue(filled);
    Py_DECREF(filled);
    return came <= 0 || give_all(self) ? came : -1;
}

/* For one who waits: 1 to go on, 0 when nothing came and nothing can, -1 with an error. */
static int receive_for(replies_object *self, const ticket_object *ticket)
{
    int came = receive(self, ticket->deadline);
    if (self->owed != NULL) eb_replies_hail(self);
    return came != 0 ? came : !is_over(self) && !eb_ticket_is_late(ticket);
}

/* Until it has its answer. As `follow`. A handler or a destructor that asks in the midst of it has the lead meanwhile, and may
 * receive its answer, too. */
static int lead(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    ticket_object *before = self->leader == ticket ? NULL : self->leader;
    int go_on = 1;
    self->leader = ticket;
    self->thread = PyThread_get_thread_ident();
    while (go_on > 0 && ticket->answer == NULL)
        go_on = receive_for(self, ticket);
    if (eb_replies_inherited(self)) return go_on;
    self->leader = before;
    if (before == NULL) pass_lead_on(self);
    return go_on;
}

/* Whether another thread receives. */
static bool is_led(const replies_object *self)
{
    return self->leader != NULL && self->thread != PyThread_get_thread_ident();
}

static bool may_lead(const ticket_object *ticket)
{
    const replies_object *self = ticket->replies;
    return !is_led(self) || self->leader == ticket || eb_replies_inherited(self);
}

/* From now on the doorbell tells of the next answer, unless there may be one already, or a thread receives from now on: then
 * that one says so. False with an error. */
static bool lie_down(replies_object *self, PyObject *call, PyObject *loop)
{
    self->armed = 1;
    PyObject *lies = PyObject_CallFunctionObjArgs(call, loop, NULL);
    int down = lies == NULL ? -1 : PyObject_IsTrue(lies);
    Py_XDECREF(lies);
    if (down <= 0) self->armed = 0;
    return down >= 0;
}

/* In a loop: gives out what there is at once, else lies down, for which a call is given; unless a thread receives, or another
 * loop is at it, which then looks again: the bell may have been for what came since. Whether something was given out. */
static PyObject *replies_attend(PyObject *object, PyObject *const *given, Py_ssize_t count)
{
    replies_object *self = (replies_object *)object;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "attend takes a call and a loop");
        return NULL;
    }
    self->again = self->attended;
    if (is_led(self) || self->attended) return PyBool_FromLong(0);
    self->attended = 1;
    int came = receive(self, EB_BRIEF);
    bool goes_on = came == 0 && self->distant > 0 && !is_led(self) && !is_over(self);
    if (goes_on && !lie_down(self, given[0], given[1])) came = -1;
    if (self->again) self->armed = 0;
    self->attended = 0;
    return came < 0 ? NULL : PyBool_FromLong(came);
}

/* --- who waits --- */

/* Until it has its answer or the lead. 1 to go on, 0 when the time is up, -1 with an error. Before handlers run it has neither
 * the lead nor a place among those who sleep: they may ask, too. */
static int follow(ticket_object *ticket)
{
    replies_object *self = ticket->replies;
    int status = eb_ticket_sleep(ticket);
    if (eb_replies_inherited(self)) return 1;
    bool woken = status == EB_OK || ticket->answer != NULL;
    if (self->leader == ticket && (!woken || ticket->answer != NULL)) pass_lead_on(self);
    if (woken) return 1;
    return status != EB_INTERRUPTED ? 0 : PyErr_CheckSignals() == 0 ? 1 : -1;
}

/* What came in time, or None. */
static PyObject *replies_wait(PyObject *object, PyObject *given)
{
    ticket_object *ticket = eb_ticket_of(given, (replies_object *)object);
    int go_on = 1;
    while (ticket != NULL && go_on > 0 && ticket->answer == NULL)
        go_on = may_lead(ticket) ? lead(ticket) : follow(ticket);
    if (ticket == NULL || go_on < 0) return NULL;
    PyObject *answer = ticket->answer == NULL ? Py_None : ticket->answer;
    Py_INCREF(answer);
    return answer;
}

/* --- the type --- */

static PyObject *replies_begin(PyObject *object, PyObject *given)
{
    replies_object *self = (replies_object *)object;
    PyObject *receiver;
    const char *prefix;
    if (!PyArg_ParseTuple(given, "Os:_begin", &receiver, &prefix)) return NULL;
    if (self->waiting != NULL || !eb_is_receiver(receiver) || !eb_is_whole((receiver_object *)receiver) ||
        strlen(prefix) > EB_PREFIX_LIMIT) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "Replies begin once, with a Receiver and a prefix");
        return NULL;
    }
    self->waiting = PyDict_New();
    if (self->waiting == NULL) return NULL;
    strcpy(self->prefix, prefix);
    Py_INCREF(receiver);
    self->subscription = (receiver_object *)receiver;
    eb_replies_rest(self);
    Py_RETURN_NONE;
}

/* A ticket for one request that is about to be sent, from the timeout of its answer, and from the running loop if that is
 * waited for in one. */
static PyObject *replies_expect(PyObject *object, PyObject *const *given, Py_ssize_t count)
{
    replies_object *self = (replies_object *)object;
    if (self->waiting == NULL || count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "expect takes a timeout, or timeout and loop, after _begin");
        return NULL;
    }
    return (PyObject *)eb_ticket_new(self, given[0], count == 2 ? given[1] : NULL);
}

static PyObject *replies_usable(PyObject *object, void *unused)
{
    const replies_object *self = (replies_object *)object;
    (void)unused;
    bool whole = self->waiting != NULL && self->subscription->handle != NULL && self->subscription->handle != Py_None;
    return PyBool_FromLong(whole && !eb_replies_inherited(self));
}

static PyObject *replies_under_way(PyObject *object, void *unused)
{
    const replies_object *self = (replies_object *)object;
    (void)unused;
    return PyLong_FromSsize_t(self->waiting == NULL ? 0 : PyDict_Size(self->waiting));
}

/* Whether somebody waits in a loop, and nobody sees to it that the next answer is received. */
static PyObject *replies_unattended(PyObject *object, void *unused)
{
    const replies_object *self = (replies_object *)object;
    (void)unused;
    return PyBool_FromLong(self->distant > 0 && !self->armed && !is_led(self));
}

static PyObject *replies_owes(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((replies_object *)object)->owed != NULL);
}

static int replies_traverse(PyObject *object, visitproc visit, void *arg)
{
    replies_object *self = (replies_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->subscription);
    Py_VISIT(self->waiting);
    return 0;
}

/* Tickets keep it: with the last of them it goes. */
static void replies_dealloc(PyObject *object)
{
    replies_object *self = (replies_object *)object;
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->subscription);
    Py_CLEAR(self->waiting);
    eb_fast_free(object);
}

static PyMethodDef replies_methods[] = {
    {"_begin", replies_begin, METH_VARARGS, NULL},
    {"expect", (PyCFunction)(void (*)(void))replies_expect, METH_FASTCALL,
     "A Ticket for a request that is answered within so many seconds; in a loop, if there is one."},
    {"attend", (PyCFunction)(void (*)(void))replies_attend, METH_FASTCALL,
     "Gives out what there is at once, or has the doorbell tell of the next; whether something was given out."},
    {"tell", (PyCFunction)(void (*)(void))eb_distant_tell, METH_FASTCALL,
     "Tells those who wait in the running loop; whether others are to be told in theirs. True behind a loop that is\n"
     "closed forgets them."},
    {"expire", eb_distant_expire, METH_O,
     "Those who wait in the loop and have no time left are to be told; the next deadline of the others there, or "
     "FOREVER."},
    {"release", eb_distant_release, METH_O, "All who wait in loops have this error for an answer; None is for none."},
    {"wait", replies_wait, METH_O, "What the request of this ticket is answered in time, or None."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef replies_members[] = {
    {"armed", T_BOOL, offsetof(replies_object, armed), 0, "Whether a doorbell tells of the next answer."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef replies_properties[] = {
    {"usable", replies_usable, NULL, "Whether it is open, and this process's.", NULL},
    {"unattended", replies_unattended, NULL, "Whether some wait in loops, and nobody sees to the next answer.", NULL},
    {"owes", replies_owes, NULL, "Whether some are to be told in their loops.", NULL},
    {"under_way", replies_under_way, NULL, "How many requests are waited for.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(replies_doc, "Gives out the answers that come by one subscription.");

static PyType_Slot replies_slots[] = {
    {Py_tp_doc, (void *)replies_doc},
    {Py_tp_traverse, (void *)replies_traverse},
    {Py_tp_dealloc, (void *)replies_dealloc},
    {Py_tp_methods, replies_methods},
    {Py_tp_getset, replies_properties},
    {Py_tp_members, replies_members},
    {0, NULL},
};

static PyType_Spec replies_spec = {
    .name = "eventbus._fast.Replies",
    .basicsize = sizeof(replies_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = replies_slots,
};

PyObject *eb_bind_replies(PyObject *module, PyObject *given)
{
    (void)module;
    unsigned long long rest, attend, hail;
    PyObject *deadline_after;
    if (!PyArg_ParseTuple(given, "KKKO:bind_replies", &rest, &attend, &hail, &deadline_after)) return NULL;
    eb_tickets_bind(rest, attend, hail, deadline_after);
    Py_RETURN_NONE;
}

int eb_replies_ready(PyObject *module)
{
    bound.fill = PyUnicode_InternFromString("_fill");
    bound.misread = PyUnicode_InternFromString("_misread");
    PyObject *type = PyType_FromSpec(&replies_spec);
    if (bound.fill == NULL || bound.misread == NULL || type == NULL) return 0;
    return PyModule_AddObject(module, "Replies", type) == 0;
}
