/* Scope: a call of the core at the end of a with-block. Between what ends the block and the call nothing runs in which a
 * signal handler could raise: what the block took is let go of, or kept, for certain. */
#include "fast.h"

typedef struct {
    PyObject base;
    int (*end)(void *pointer, int failed);
    void *pointer;
    PyObject *owner; /* of what it points to */
} scope_object;

static PyObject *scope_new(PyTypeObject *type, PyObject *given, PyObject *keywords)
{
    unsigned long long end, pointer;
    PyObject *owner;
    static char *names[] = {"end", "pointer", "owner", NULL};
    if (!PyArg_ParseTupleAndKeywords(given, keywords, "KKO:Scope", names, &end, &pointer, &owner)) return NULL;
    scope_object *scope = (scope_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (scope == NULL) return NULL;
    scope->end = (int (*)(void *, int))(uintptr_t)end;
    scope->pointer = (void *)(uintptr_t)pointer;
    Py_INCREF(owner);
    scope->owner = owner;
    return (PyObject *)scope;
}

static PyObject *scope_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    Py_INCREF(object);
    return object;
}

static PyObject *scope_exit(PyObject *object, PyObject *const *given, Py_ssize_t count)
{
    scope_object *scope = (scope_object *)object;
    int failed = count > 0 && given[0] != Py_None;
    Py_BEGIN_ALLOW_THREADS;
    scope->end(scope->pointer, failed);
    Py_END_ALLOW_THREADS;
    if (!failed && PyErr_CheckSignals() != 0) return NULL;
    return PyBool_FromLong(0);
}

static void scope_dealloc(PyObject *object)
{
    Py_XDECREF(((scope_object *)object)->owner);
    eb_fast_free(object);
}

static PyMethodDef scope_methods[] = {
    {"__enter__", scope_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))scope_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(scope_doc, "Scope(end, pointer, owner)\n--\n\n\
Calls ``end(pointer, failed)`` of the core when its with-block ends; ``failed`` is 1 after an exception. Both are\n\
addresses; ``owner`` is kept until then.");

static PyType_Slot scope_slots[] = {
    {Py_tp_doc, (void *)scope_doc},
    {Py_tp_new, (void *)scope_new},
    {Py_tp_dealloc, (void *)scope_dealloc},
    {Py_tp_methods, (void *)scope_methods},
    {0, NULL},
};

static PyType_Spec scope_spec = {
    .name = "eventbus._fast.Scope",
    .basicsize = sizeof(scope_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = scope_slots,
};

int eb_scope_ready(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&scope_spec);
    return type != NULL && PyModule_AddObject(module, "Scope", type) == 0;
}
