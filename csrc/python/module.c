/* The module itself. */
#include "fast.h"

/* A signal that comes just as Python takes the GIL back is seen no sooner than the next time that it does (CPython 3.11,
 * COMPUTE_EVAL_BREAKER in ceval.c): its handler may raise in code that follows and has nothing to do with the call. */
static PyObject *check_signals(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    if (PyErr_CheckSignals() != 0) return NULL;
    Py_RETURN_NONE;
}

static int64_t interpreter; /* that imported this first, and has what is bound here */

static PyObject *is_first_interpreter(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyBool_FromLong(PyInterpreterState_GetID(PyInterpreterState_Get()) == interpreter);
}

static PyMethodDef functions[] = {
    {"is_first_interpreter", is_first_interpreter, METH_NOARGS, NULL},
    {"check_signals", check_signals, METH_NOARGS, "Runs the handlers of signals that came meanwhile."},
    {"bind_send", eb_bind_send, METH_VARARGS, NULL},
    {"bind_receive", eb_bind_receive, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "eventbus._fast",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    PyObject *module = PyModule_Create(&definition);
    interpreter = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (module != NULL && eb_scope_ready(module) && eb_hand_ready(module) && eb_unpack_ready() &&
        eb_sender_ready(module) && eb_receiver_ready(module))
        return module;
    Py_XDECREF(module);
    return NULL;
}
