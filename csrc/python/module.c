/* The module itself. */
#include "fast.h"

void eb_fast_free(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMethodDef functions[] = {
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
    if (module != NULL && eb_events_ready() && eb_batch_ready() && eb_sender_ready(module) && eb_receiver_ready(module))
        return module;
    Py_XDECREF(module);
    return NULL;
}
