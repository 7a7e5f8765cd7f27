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

static int64_t owner; /* the interpreter that imported it first: types and functions are its, in all of the process */

static int64_t current(void)
{
    return PyInterpreterState_GetID(PyInterpreterState_Get());
}

static PyObject *is_owner(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyBool_FromLong(current() == owner);
}

static PyMethodDef functions[] = {
    {"is_owner", is_owner, METH_NOARGS, "Whether this interpreter is the one of the process that imported it first."},
    {"check_signals", check_signals, METH_NOARGS, "Runs the handlers of signals that came meanwhile."},
    {"bind_views", eb_bind_views, METH_VARARGS, NULL},
    {"bind_send", eb_bind_send, METH_VARARGS, NULL},
    {"bind_receive", eb_bind_receive, METH_VARARGS, NULL},
    {"bind_replies", eb_bind_replies, METH_VARARGS, NULL},
    {"bind_doorbell", eb_bind_doorbell, METH_VARARGS, NULL},
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
    owner = current();
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && eb_scope_ready(module) && eb_fields_ready(module) && eb_event_ready() && eb_parcel_ready() &&
        eb_hand_ready(module) && eb_view_ready() && eb_lent_ready() && eb_unpack_ready() && eb_sender_ready(module) &&
        eb_finish_ready() && eb_fill_ready() && eb_events_ready() && eb_receiver_ready(module) && eb_tickets_ready() &&
        eb_distant_ready() && eb_replies_ready(module) && eb_waiter_ready(module) && eb_more_ready() &&
        eb_taking_ready() && eb_doorbell_ready(module))
        return module;
    Py_XDECREF(module);
    return NULL;
}
