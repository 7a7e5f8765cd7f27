/* Doorbell: what an event loop does when the doorbell was rung. The task of whoever is told goes on at once, before the bell is
 * made to forget: a ring that came meanwhile says nothing that the second look does not see. */
#include "fast.h"

static struct {
    int (*told)(eb_bus *bus, uint16_t *told);
    void (*still)(eb_bus *bus);
    PyObject *running, *current;           /* the loop of this thread, and its task */
    PyObject *popleft, *tell, *tell_desks; /* names of methods */
} bound;

typedef struct {
    PyObject base;
    PyObject *bus;              /* called, the attachment or None */
    PyObject *waiting;          /* by slots, a deque of waiters */
    PyObject *desks;            /* a list */
    unsigned long long address; /* of the bus, while the attachment is there */
} doorbell_object;

/* 1 when the first who waits at the slot has gone on, 0 when that is not for this loop to do, -1 with an error. */
static int step_first(doorbell_object *self, PyObject *slot, PyObject *loop)
{
    PyObject *queue = PyDict_GetItemWithError(self->waiting, slot);
    if (queue == NULL) return PyErr_Occurred() ? -1 : 1;
    if (PyObject_Size(queue) == 0) return 1;
    Py_INCREF(queue);
    int stepped = -1;
    PyObject *first = PySequence_GetItem(queue, 0);
    if (first != NULL) stepped = loop != NULL && eb_waiter_is_of(first, loop) && eb_waiter_is_pending(first);
    if (stepped > 0) {
        PyObject *left = PyObject_CallMethodObjArgs(queue, bound.popleft, NULL);
        stepped = left != NULL && eb_waiter_step(left) == 0 ? 1 : -1;
        Py_XDECREF(left);
    }
    Py_XDECREF(first);
    Py_DECREF(queue);
    return stepped;
}

static int call(doorbell_object *self, PyObject *method, PyObject *argument)
{
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)self, method, argument, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whatever one of them raises, as Ctrl-C does, the others are told; the first error stays. */
static void keep(PyObject *error[3], int status)
{
    if (status >= 0) return;
    if (error[0] == NULL) PyErr_Fetch(&error[0], &error[1], &error[2]);
    else PyErr_Clear();
}

/* All who are to look; 0, or -1 with an error. */
static int tell_all(doorbell_object *self, PyObject *loop, const uint16_t *told, int count)
{
    PyObject *error[3] = {NULL, NULL, NULL};
    PyObject *slots = PyList_New(count);
    for (int i = 0; slots != NULL && i < count; i++) {
        PyObject *slot = PyLong_FromLong(told[i]);
        if (slot == NULL) Py_CLEAR(slots);
        else PyList_SetItem(slots, i, slot);
    }
    if (slots == NULL) return -1;
    for (int i = 0; i < count; i++) {
        PyObject *slot = PyList_GetItem(slots, i);
        int stepped = step_first(self, slot, error[0] == NULL ? loop : NULL);
        keep(error, stepped);
        if (stepped == 0) keep(error, call(self, bound.tell, slot));
    }
    if (PyList_Size(self->desks) > 0) keep(error, call(self, bound.tell_desks, slots));
    Py_DECREF(slots);
    if (error[0] != NULL) PyErr_Restore(error[0], error[1], error[2]);
    return error[0] == NULL ? 0 : -1;
}

/* 0 once those who are to look at a bus that is still there have been told, -1 with an error. */
static int look(doorbell_object *self, PyObject *loop, bool forget)
{
    uint16_t told[EB_SUBSCRIBERS_LIMIT];
    PyObject *bus = PyObject_CallNoArgs(self->bus);
    if (bus == NULL) return -1;
    int status = 0;
    if (bus != Py_None) {
        eb_bus *there = (eb_bus *)(uintptr_t)self->address;
        if (forget) bound.still(there);
        status = tell_all(self, loop, told, bound.told(there, told));
    }
    Py_DECREF(bus);
    return status;
}

/* The loop, if none of its tasks is running: then the task of whoever waits in it may be stepped. New; NULL with an error. */
static PyObject *free_loop(void)
{
    PyObject *loop = PyObject_CallNoArgs(bound.running);
    PyObject *task = loop == NULL ? NULL : PyObject_CallFunctionObjArgs(bound.current, loop, NULL);
    if (task == NULL) {
        Py_XDECREF(loop);
        return NULL;
    }
    PyObject *found = task == Py_None ? loop : Py_None;
    Py_INCREF(found);
    Py_DECREF(loop);
    Py_DECREF(task);
    return found;
}

static PyObject *doorbell_rung(PyObject *object, PyObject *unused)
{
    (void)unused;
    doorbell_object *self = (doorbell_object *)object;
    PyObject *loop = free_loop();
    if (loop == NULL) return NULL;
    int status = look(self, loop, false) == 0 ? look(self, loop, true) : -1;
    Py_DECREF(loop);
    if (status != 0) return NULL;
    Py_RETURN_NONE;
}

/* --- the type --- */

static int doorbell_traverse(PyObject *object, visitproc visit, void *arg)
{
    doorbell_object *self = (doorbell_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->bus);
    Py_VISIT(self->waiting);
    Py_VISIT(self->desks);
    return 0;
}

static int doorbell_clear(PyObject *object)
{
    doorbell_object *self = (doorbell_object *)object;
    Py_CLEAR(self->bus);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->desks);
    return 0;
}

static void doorbell_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    doorbell_clear(object);
    eb_fast_free(object);
}

static PyMethodDef doorbell_methods[] = {
    {"_rung", doorbell_rung, METH_NOARGS, "The bell was rung: whoever is told goes on."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef doorbell_members[] = {
    {"_bus", T_OBJECT_EX, offsetof(doorbell_object, bus), 0, NULL},
    {"_waiting", T_OBJECT_EX, offsetof(doorbell_object, waiting), 0, NULL},
    {"_desks", T_OBJECT_EX, offsetof(doorbell_object, desks), 0, NULL},
    {"_address", T_ULONGLONG, offsetof(doorbell_object, address), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(doorbell_doc, "Tells those whom the doorbell of one bus calls.\n\
\n\
Attributes:\n\
    _bus: called, the Attachment, or None once it was left.\n\
    _address: of the bus, as an int.\n\
    _waiting: by slots, a deque of Waiters.\n\
    _desks: a list of weak references to what else is told.");

static PyType_Slot doorbell_slots[] = {
    {Py_tp_doc, (void *)doorbell_doc},
    {Py_tp_traverse, (void *)doorbell_traverse},
    {Py_tp_clear, (void *)doorbell_clear},
    {Py_tp_dealloc, (void *)doorbell_dealloc},
    {Py_tp_methods, doorbell_methods},
    {Py_tp_members, doorbell_members},
    {0, NULL},
};

static PyType_Spec doorbell_spec = {
    .name = "eventbus._fast.Doorbell",
    .basicsize = sizeof(doorbell_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = doorbell_slots,
};

PyObject *eb_bind_doorbell(PyObject *module, PyObject *given)
{
    (void)module;
    unsigned long long told, still;
    PyObject *running, *current, *cancelled;
    if (!PyArg_ParseTuple(given, "KKOOO:bind_doorbell", &told, &still, &running, &current, &cancelled)) return NULL;
    bound.told = (int (*)(eb_bus *, uint16_t *))(uintptr_t)told;
    bound.still = (void (*)(eb_bus *))(uintptr_t)still;
    Py_INCREF(running);
    Py_INCREF(current);
    bound.running = running;
    bound.current = current;
    eb_waiter_bind(cancelled);
    Py_RETURN_NONE;
}

int eb_doorbell_ready(PyObject *module)
{
    bound.popleft = PyUnicode_InternFromString("popleft");
    bound.tell = PyUnicode_InternFromString("_tell");
    bound.tell_desks = PyUnicode_InternFromString("_tell_desks");
    PyObject *type = PyType_FromSpec(&doorbell_spec);
    return bound.popleft != NULL && bound.tell != NULL && bound.tell_desks != NULL && type != NULL &&
           PyModule_AddObject(module, "Doorbell", type) == 0;
}
