/* View: raw data where it lies in the ring, for a memoryview to look at, and for what others make of that. */
#include "fast.h"

/* Of the limited API from 3.11 on: what PyType_FromSpec has known since 3.9, and a Py_buffer, which is the same in all. */
enum { BF_GETBUFFER = 1, BF_RELEASEBUFFER = 2 };
enum { WRITABLE = 0x01, FORMAT = 0x04, SHAPE = 0x08, STRIDES = 0x10 };

typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
} buffer;

typedef struct {
    PyObject base;
    eb_view *view;
    const char *data;
    Py_ssize_t length, step;
} view_object;

static struct {
    void (*hold)(eb_view *view);
    void (*release)(eb_view *view);
    int (*export)(eb_view *view);
    void (*exported)(eb_view *view);
} bound;

static PyTypeObject *view_type;

static int refuse(buffer *to, const char *why)
{
    to->obj = NULL;
    PyErr_SetString(PyExc_BufferError, why);
    return -1;
}

static int view_export(PyObject *object, buffer *to, int flags)
{
    view_object *self = (view_object *)object;
    if (flags & WRITABLE) return refuse(to, "the data of an event cannot be written to");
    if (bound.export(self->view) != EB_OK) return refuse(to, "the data of this event were released");
    Py_INCREF(object);
    *to = (buffer){.buf = (void *)self->data,
                   .obj = object,
                   .len = self->length,
                   .itemsize = 1,
                   .readonly = 1,
                   .ndim = 1,
                   .format = (flags & FORMAT) != 0 ? "B" : NULL,
                   .shape = (flags & SHAPE) != 0 ? &self->length : NULL,
                   .strides = (flags & STRIDES) != 0 ? &self->step : NULL};
    return 0;
}

static void view_exported(PyObject *object, buffer *of)
{
    (void)of;
    bound.exported(((view_object *)object)->view);
}

static void view_dealloc(PyObject *object)
{
    bound.release(((view_object *)object)->view);
    eb_fast_free(object);
}

/* A memoryview of it. It is released by whoever asks for more. */
PyObject *eb_view_of(const eb_beside *beside)
{
    view_object *self = (view_object *)PyType_GenericAlloc(view_type, 0);
    if (self == NULL) return NULL;
    bound.hold(beside->view);
    self->view = beside->view;
    self->data = beside->data;
    self->length = (Py_ssize_t)beside->data_length;
    self->step = 1;
    PyObject *seen = PyMemoryView_FromObject((PyObject *)self);
    Py_DECREF((PyObject *)self);
    return seen;
}

static PyType_Slot view_slots[] = {
    {Py_tp_doc, (void *)"The raw data of an event, where they lie."},
    {BF_GETBUFFER, (void *)view_export},
    {BF_RELEASEBUFFER, (void *)view_exported},
    {Py_tp_dealloc, (void *)view_dealloc},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "eventbus._fast.View",
    .basicsize = sizeof(view_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = view_slots,
};

void eb_view_bind(unsigned long long hold, unsigned long long release, unsigned long long export,
                  unsigned long long exported)
{
    bound.hold = (void (*)(eb_view *))(uintptr_t)hold;
    bound.release = (void (*)(eb_view *))(uintptr_t)release;
    bound.export = (int (*)(eb_view *))(uintptr_t)export;
    bound.exported = (void (*)(eb_view *))(uintptr_t)exported;
}

int eb_view_ready(void)
{
    view_type = (PyTypeObject *)PyType_FromSpec(&view_spec);
    return view_type != NULL;
}
