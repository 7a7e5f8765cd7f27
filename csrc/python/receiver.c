/* Receiver: a subscription as Python has it; what is in hand, and how more comes into it. */
#include "fast.h"

static PyObject *batch_name; /* the name of an attribute */

static PyObject *receiver_begin(PyObject *object, PyObject *handle)
{
    receiver_object *self = (receiver_object *)object;
    eb_batch *batch = self->ready == NULL ? eb_address_in(handle, batch_name) : NULL;
    eb_subscription *sub = batch == NULL ? NULL : eb_subscription_of(handle);
    hand_object *hand = sub == NULL ? NULL : eb_hand_new(handle, batch);
    if (hand == NULL) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_AttributeError, "a Receiver begins once");
        return NULL;
    }
    hand->of = self;
    self->sub = sub;
    self->ready = (PyObject *)hand;
    Py_INCREF(handle);
    self->handle = handle;
    Py_RETURN_NONE;
}

/* A list of the events of the batch that was read last and is handed out to nobody: it is there until it is buried, or
 * given back. */
static PyObject *receiver_unpack(PyObject *object, PyObject *handle)
{
    receiver_object *self = (receiver_object *)object;
    if (!eb_is_whole(self)) return NULL;
    hand_object *hand = eb_hand_of(self);
    if (hand->busy) {
        PyErr_SetString(PyExc_RuntimeError, "a batch is being taken");
        return NULL;
    }
    eb_hand_drop(hand);
    eb_hand_busy(hand);
    hand->copies = 1;
    PyObject *events = eb_unpack(self, handle, hand) ? eb_hand_all(hand) : NULL;
    hand->copies = 0;
    hand->dropped = 1;
    eb_hand_idle(hand);
    return events;
}

static PyObject *receiver_acknowledge(PyObject *object, PyObject *handle)
{
    if (!eb_is_whole((receiver_object *)object) || eb_acknowledge((receiver_object *)object, handle) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *receiver_fill(PyObject *object, PyObject *until)
{
    int filled = eb_fill((receiver_object *)object, until);
    return filled < 0 ? NULL : PyBool_FromLong(filled);
}

static PyObject *receiver_more(PyObject *object, PyObject *deadline)
{
    return eb_more_of((receiver_object *)object, deadline);
}

/* --- the type --- */

static int receiver_traverse(PyObject *object, visitproc visit, void *arg)
{
    receiver_object *self = (receiver_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->handle);
    Py_VISIT(self->ready);
    Py_VISIT(self->names);
    Py_VISIT(self->turn);
    Py_VISIT(self->doorbell);
    Py_VISIT(self->letters);
    Py_VISIT(self->lent);
    return 0;
}

static int receiver_clear(PyObject *object)
{
    receiver_object *self = (receiver_object *)object;
    if (self->ready != NULL) eb_hand_of(self)->of = NULL;
    Py_CLEAR(self->handle);
    Py_CLEAR(self->ready);
    Py_CLEAR(self->names);
    Py_CLEAR(self->turn);
    Py_CLEAR(self->doorbell);
    Py_CLEAR(self->letters);
    Py_CLEAR(self->lent);
    return 0;
}

static void receiver_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    receiver_clear(object);
    eb_fast_free(object);
}

static PyMethodDef receiver_methods[] = {
    {"_begin", receiver_begin, METH_O, NULL},
    {"_unpack", receiver_unpack, METH_O, NULL},
    {"_fill", receiver_fill, METH_O, NULL},
    {"_more", receiver_more, METH_O, NULL},
    {"_taking", eb_receiver_taking, METH_VARARGS, NULL},
    {"_acknowledge", receiver_acknowledge, METH_O, NULL},
    {"_bury", eb_receiver_bury, METH_VARARGS, NULL},
    {"_ask", eb_receiver_ask, METH_NOARGS, NULL},
    {"_release", eb_receiver_release, METH_O, NULL},
    {"_give_back", eb_receiver_give_back, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef receiver_members[] = {
    {"_handle", T_OBJECT, offsetof(receiver_object, handle), 0, NULL},
    {"_ready", T_OBJECT_EX, offsetof(receiver_object, ready), READONLY, NULL},
    {"_names", T_OBJECT_EX, offsetof(receiver_object, names), 0, NULL},
    {"_receiving", T_OBJECT_EX, offsetof(receiver_object, turn), 0, NULL},
    {"_doorbell", T_OBJECT, offsetof(receiver_object, doorbell), 0, NULL},
    {"_letters", T_OBJECT_EX, offsetof(receiver_object, letters), 0, NULL},
    {"_limit", T_INT, offsetof(receiver_object, limit), 0, NULL},
    {"_ended", T_BOOL, offsetof(receiver_object, ended), 0, NULL},
    {"_manual", T_BOOL, offsetof(receiver_object, manual), 0, NULL},
    {"_asks", T_BOOL, offsetof(receiver_object, asks), 0, NULL},
    {"_views", T_BOOL, offsetof(receiver_object, views), 0, NULL},
    {"_lent", T_OBJECT_EX, offsetof(receiver_object, lent), 0, NULL},
    {"_in_a_row", T_INT, offsetof(receiver_object, in_a_row), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(receiver_doc, "Takes batches in hand.\n\
\n\
Attributes:\n\
    _handle: a SubscriptionHandle, or None once closed.\n\
    _ready: the Hand.\n\
    _names: system and kind of each topic that it hears, by its number; of requests also the kind as it is sent.\n\
    _receiving: the lock of whoever receives.\n\
    _doorbell: by which it is told in event loops, or None.\n\
    _letters: of a member, dead letters that found no room yet; whoever asks for the next event sends them first.\n\
    _limit: how many events it takes at once.\n\
    _ended: whether the end has come.\n\
    _asks: whether to ask for the next event says that those before are done.\n\
    _views: whether raw data are memoryviews; then also\n\
    _lent: a list of those that are handed out.\n\
    _in_a_row: events that were had without waiting since others in the loop could run.");

static PyType_Slot receiver_slots[] = {
    {Py_tp_doc, (void *)receiver_doc},     {Py_tp_traverse, (void *)receiver_traverse},
    {Py_tp_clear, (void *)receiver_clear}, {Py_tp_dealloc, (void *)receiver_dealloc},
    {Py_am_aiter, (void *)eb_events_of},   {Py_tp_methods, receiver_methods},
    {Py_tp_members, receiver_members},     {0, NULL},
};

static PyType_Spec receiver_spec = {
    .name = "eventbus._fast.Receiver",
    .basicsize = sizeof(receiver_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = receiver_slots,
};

static PyTypeObject *receiver_type;

bool eb_is_receiver(PyObject *object)
{
    return PyObject_TypeCheck(object, receiver_type);
}

PyObject *eb_bind_receive(PyObject *module, PyObject *given)
{
    (void)module;
    unsigned long long receive, ack, bury, give_back, reject, generation;
    PyObject *loads, *event, *request, *headers;
    if (!PyArg_ParseTuple(given, "KKKKKKOO!O!O!:bind_receive", &receive, &ack, &bury, &give_back, &reject, &generation,
                          &loads, &PyType_Type, &event, &PyType_Type, &request, &PyType_Type, &headers))
        return NULL;
    if (!eb_headers_bind((PyTypeObject *)headers)) return NULL;
    eb_finish_bind(bury, give_back, reject);
    eb_fill_bind(receive, ack);
    eb_hand_bind((const uint64_t *)(uintptr_t)generation);
    eb_event_bind((PyTypeObject *)event, (PyTypeObject *)request);
    eb_unpack_bind(loads);
    Py_RETURN_NONE;
}

PyObject *eb_bind_views(PyObject *module, PyObject *given)
{
    (void)module;
    unsigned long long hold, release, export, exported, lend, asked;
    if (!PyArg_ParseTuple(given, "KKKKKK:bind_views", &hold, &release, &export, &exported, &lend, &asked)) return NULL;
    eb_view_bind(hold, release, export, exported);
    eb_lent_bind(lend, asked);
    Py_RETURN_NONE;
}

int eb_receiver_ready(PyObject *module)
{
    batch_name = PyUnicode_InternFromString("batch_address");
    receiver_type = (PyTypeObject *)PyType_FromSpec(&receiver_spec);
    Py_XINCREF(receiver_type);
    return batch_name != NULL && receiver_type != NULL &&
           PyModule_AddObject(module, "Receiver", (PyObject *)receiver_type) == 0;
}
