/* Waiter: what a task of an event loop waits with. For the task it is a future; whoever rings may let the task go on at once,
 * where a future's has to wait for the loop's next turn.
 *
 * To a task a future is what has `_asyncio_future_blocking` and what the methods below do (CPython, Lib/asyncio/tasks.py). */
#include "fast.h"

enum { PENDING = 0, TOLD, CANCELLED };

typedef struct {
    PyObject base;
    PyObject *loop;
    PyObject *callback, *context; /* of the task, or NULL */
    PyObject *message;            /* of whoever cancelled it, or NULL */
    PyObject *queue;              /* of those who wait for the same */
    PyObject *timer;              /* a handle of the loop, or NULL */
    int state;
    char blocking;
} waiter_object;

static PyTypeObject *waiter_type;
static PyObject *call_soon, *run, *cancelled_error, *context_name;

static PyObject *waiter_new(PyTypeObject *type, PyObject *given, PyObject *keywords)
{
    PyObject *loop;
    static char *names[] = {"loop", NULL};
    if (!PyArg_ParseTupleAndKeywords(given, keywords, "O:Waiter", names, &loop)) return NULL;
    waiter_object *self = (waiter_object *)PyType_GenericAlloc(type, 0);
    if (self == NULL) return NULL;
    Py_INCREF(loop);
    self->loop = loop;
    return (PyObject *)self;
}

/* --- the task's side --- */

/* In the loop's next turn; 0, or -1 with an error. */
static int call_back_soon(waiter_object *self, PyObject *callback, PyObject *context)
{
    PyObject *method = PyObject_GetAttr(self->loop, call_soon);
    PyObject *arguments = method == NULL ? NULL : PyTuple_Pack(2, callback, (PyObject *)self);
    PyObject *keywords = arguments == NULL ? NULL : PyDict_New();
    int status = keywords == NULL ? -1 : PyDict_SetItem(keywords, context_name, context);
    PyObject *handle = status != 0 ? NULL : PyObject_Call(method, arguments, keywords);
    Py_XDECREF(method);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static int end_soon(waiter_object *self, int state)
{
    PyObject *callback = self->callback, *context = self->context;
    self->state = state;
    self->callback = self->context = NULL;
    int status = callback == NULL ? 0 : call_back_soon(self, callback, context);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    return status;
}

static PyObject *waiter_add_done_callback(PyObject *object, PyObject *given, PyObject *keywords)
{
    waiter_object *self = (waiter_object *)object;
    PyObject *callback, *context = Py_None;
    static char *names[] = {"fn", "context", NULL};
    if (!PyArg_ParseTupleAndKeywords(given, keywords, "O|$O:add_done_callback", names, &callback, &context))
        return NULL;
    if (self->callback != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a Waiter is awaited by one task");
        return NULL;
    }
    Py_INCREF(callback);
    Py_INCREF(context);
    self->callback = callback;
    self->context = context;
    if (self->state != PENDING && end_soon(self, self->state) != 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *waiter_remove_done_callback(PyObject *object, PyObject *callback)
{
    waiter_object *self = (waiter_object *)object;
    int same = self->callback == NULL ? 0 : PyObject_RichCompareBool(self->callback, callback, Py_EQ);
    if (same < 0) return NULL;
    if (same > 0) {
        Py_CLEAR(self->callback);
        Py_CLEAR(self->context);
    }
    return PyLong_FromLong(same);
}

static PyObject *waiter_cancel(PyObject *object, PyObject *given, PyObject *keywords)
{
    waiter_object *self = (waiter_object *)object;
    PyObject *message = Py_None;
    static char *names[] = {"msg", NULL};
    if (!PyArg_ParseTupleAndKeywords(given, keywords, "|O:cancel", names, &message)) return NULL;
    if (self->state != PENDING) return PyBool_FromLong(0);
    Py_INCREF(message);
    self->message = message;
    return end_soon(self, CANCELLED) == 0 ? PyBool_FromLong(1) : NULL;
}

/* 0 once it was told; else -1, with an error. */
int eb_waiter_check(PyObject *object)
{
    const waiter_object *self = (waiter_object *)object;
    if (self->state == TOLD) return 0;
    if (self->state == PENDING) PyErr_SetString(PyExc_RuntimeError, "a Waiter is awaited by a task of its loop");
    else if (self->message == NULL || self->message == Py_None) PyErr_SetNone(cancelled_error);
    else PyErr_SetObject(cancelled_error, self->message);
    return -1;
}

static PyObject *waiter_result(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (eb_waiter_check(object) != 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *waiter_get_loop(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_INCREF(((waiter_object *)object)->loop);
    return ((waiter_object *)object)->loop;
}

static PyObject *waiter_done(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((waiter_object *)object)->state != PENDING);
}

static PyObject *waiter_cancelled(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((waiter_object *)object)->state == CANCELLED);
}

static PyObject *waiter_self(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

/* Of whoever awaits it, twice: it is the future to wait for, and then it is over. */
static PyObject *waiter_iternext(PyObject *object)
{
    waiter_object *self = (waiter_object *)object;
    if (self->state == PENDING && !self->blocking) {
        self->blocking = 1;
        return waiter_self(object);
    }
    eb_waiter_check(object);
    return NULL;
}

/* --- the side of whoever rings --- */

static PyObject *waiter_tell(PyObject *object, PyObject *unused)
{
    (void)unused;
    waiter_object *self = (waiter_object *)object;
    if (self->state == PENDING && end_soon(self, TOLD) != 0) return NULL;
    Py_RETURN_NONE;
}

bool eb_waiter_is_pending(PyObject *object)
{
    return ((waiter_object *)object)->state == PENDING;
}

/* Whether it is one, and of that loop. */
bool eb_waiter_is_of(PyObject *object, PyObject *loop)
{
    return Py_TYPE(object) == waiter_type && ((waiter_object *)object)->loop == loop;
}

bool eb_waiter_is_timed(PyObject *object)
{
    return ((waiter_object *)object)->timer != NULL;
}

PyObject *eb_waiter_queue(PyObject *object)
{
    return ((waiter_object *)object)->queue;
}

/* For the task that awaits it; new. */
PyObject *eb_waiter_begin(PyObject *object)
{
    ((waiter_object *)object)->blocking = 1;
    return waiter_self(object);
}

/* Its task goes on within this call. No other one of the loop may be running. */
int eb_waiter_step(PyObject *object)
{
    waiter_object *self = (waiter_object *)object;
    PyObject *callback = self->callback, *context = self->context;
    self->state = TOLD;
    self->callback = self->context = NULL;
    if (callback == NULL) return 0;
    PyObject *result = PyObject_CallMethodObjArgs(context, run, callback, object, NULL);
    Py_DECREF(callback);
    Py_DECREF(context);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* --- the type --- */

static int waiter_traverse(PyObject *object, visitproc visit, void *arg)
{
    waiter_object *self = (waiter_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->message);
    Py_VISIT(self->queue);
    Py_VISIT(self->timer);
    return 0;
}

static int waiter_clear(PyObject *object)
{
    waiter_object *self = (waiter_object *)object;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->message);
    Py_CLEAR(self->queue);
    Py_CLEAR(self->timer);
    return 0;
}

static void waiter_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    waiter_clear(object);
    eb_fast_free(object);
}

static PyMethodDef waiter_methods[] = {
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add_done_callback, METH_VARARGS | METH_KEYWORDS, NULL},
    {"remove_done_callback", waiter_remove_done_callback, METH_O, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", waiter_result, METH_NOARGS, NULL},
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {"done", waiter_done, METH_NOARGS, NULL},
    {"cancelled", waiter_cancelled, METH_NOARGS, NULL},
    {"tell", waiter_tell, METH_NOARGS, "Its task goes on in the loop's next turn. In the thread of the loop."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef waiter_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(waiter_object, blocking), 0, NULL},
    {"queue", T_OBJECT_EX, offsetof(waiter_object, queue), 0, NULL},
    {"timer", T_OBJECT, offsetof(waiter_object, timer), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(waiter_doc, "Waiter(loop)\n--\n\nWhat one task of an event loop awaits until it is told.\n\
\n\
Attributes:\n\
    queue: of those who wait for the same.\n\
    timer: the loop's handle of what tells it if nobody does before, or None.");

static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, (void *)waiter_doc},
    {Py_tp_new, (void *)waiter_new},
    {Py_tp_traverse, (void *)waiter_traverse},
    {Py_tp_clear, (void *)waiter_clear},
    {Py_tp_dealloc, (void *)waiter_dealloc},
    {Py_am_await, (void *)waiter_self},
    {Py_tp_iter, (void *)waiter_self},
    {Py_tp_iternext, (void *)waiter_iternext},
    {Py_tp_methods, waiter_methods},
    {Py_tp_members, waiter_members},
    {0, NULL},
};

static PyType_Spec waiter_spec = {
    .name = "eventbus._fast.Waiter",
    .basicsize = sizeof(waiter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = waiter_slots,
};

void eb_waiter_bind(PyObject *error)
{
    Py_INCREF(error);
    cancelled_error = error;
}

int eb_waiter_ready(PyObject *module)
{
    call_soon = PyUnicode_InternFromString("call_soon");
    run = PyUnicode_InternFromString("run");
    context_name = PyUnicode_InternFromString("context");
    waiter_type = (PyTypeObject *)PyType_FromSpec(&waiter_spec);
    Py_XINCREF(waiter_type);
    return call_soon != NULL && run != NULL && context_name != NULL && waiter_type != NULL &&
           PyModule_AddObject(module, "Waiter", (PyObject *)waiter_type) == 0;
}
