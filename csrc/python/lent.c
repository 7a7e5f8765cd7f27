/* Raw data that were handed out as memoryviews: whoever asks for the next event has done with what it was given before, so
 * that is released. Who else has an array made of it keeps it; the core sees to it that its bytes stay. */
#include "fast.h"

static struct {
    int (*asked)(eb_subscription *sub, uint64_t next);
    PyObject *whose, *release; /* the names of methods */
} bound;

enum { DATA = 3, SEQUENCE = 4 };       /* of an event */
enum { REFERENCE = 0, OWNER, NUMBER }; /* of an entry of the list */

/* Its sequence; 0 with an error. */
static uint64_t number_in(PyObject *tuple, Py_ssize_t field)
{
    PyObject *number = PyTuple_GetItem(tuple, field);
    return number == NULL ? 0 : (uint64_t)PyLong_AsUnsignedLongLong(number);
}

/* What the events of a list, from number `first` on, look at is lent to who asked. False with an error: then it is not. */
bool eb_lend(receiver_object *self, PyObject *events)
{
    if (!self->views) return true;
    Py_ssize_t before = PyList_Size(self->lent), count = PyList_Size(events);
    PyObject *whose = before < 0 ? NULL : PyObject_CallMethodObjArgs((PyObject *)self, bound.whose, NULL);
    bool lent = whose != NULL;
    uint64_t sequence = 0;
    for (Py_ssize_t i = 0; lent && i < count; i++) {
        PyObject *event = PyList_GetItem(events, i), *data = event == NULL ? NULL : PyTuple_GetItem(event, DATA);
        sequence = data == NULL ? 0 : number_in(event, SEQUENCE);
        lent = sequence != 0;
        if (!lent || !PyMemoryView_Check(data)) continue;
        PyObject *reference = PyWeakref_NewRef(data, NULL);
        PyObject *entry =
            reference == NULL ? NULL : PyTuple_Pack(3, reference, whose, PyTuple_GetItem(event, SEQUENCE));
        lent = entry != NULL && PyList_Append(self->lent, entry) == 0;
        Py_XDECREF(entry);
        Py_XDECREF(reference);
    }
    Py_XDECREF(whose);
    if (lent && sequence >= self->next) self->next = sequence + 1;
    if (!lent && before >= 0) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (PyList_SetSlice(self->lent, before, PyList_Size(self->lent), NULL) != 0) PyErr_Clear();
        PyErr_Restore(type, error, traceback);
    }
    return lent;
}

bool eb_lend_one(receiver_object *self, PyObject *event)
{
    if (!self->views) return true;
    PyObject *events = PyList_New(1);
    if (events == NULL) return false;
    Py_INCREF(event);
    bool lent = PyList_SetItem(events, 0, event) == 0 && eb_lend(self, events);
    Py_DECREF(events);
    return lent;
}

/* Of a memoryview that something else looks at, too, nothing comes: it stays. */
static void release(PyObject *view)
{
    PyObject *released = PyObject_CallMethodObjArgs(view, bound.release, NULL);
    if (released == NULL) PyErr_Clear();
    Py_XDECREF(released);
}

/* Those of `whose`, or of the event `sequence`, or all with neither, leave the list, and are released where asked for. What
 * nobody has any more goes with them. */
static bool end(receiver_object *self, PyObject *whose, uint64_t sequence, bool releasing)
{
    if (PyList_Size(self->lent) == 0) return true;
    PyObject *rest = PyList_New(0),
             *ended = PyList_New(0); /* these may collect garbage, whose destructors may receive */
    PyObject *entries = self->lent;
    bool done = rest != NULL && ended != NULL;
    for (Py_ssize_t i = 0; done && i < PyList_Size(entries); i++) {
        PyObject *entry = PyList_GetItem(entries, i), *view = PyObject_CallNoArgs(PyTuple_GetItem(entry, REFERENCE));
        bool its = whose != NULL ? PyTuple_GetItem(entry, OWNER) == whose
                                 : sequence == 0 || number_in(entry, NUMBER) == sequence;
        done = view != NULL && (view == Py_None || PyList_Append(its ? ended : rest, its ? view : entry) == 0);
        Py_XDECREF(view);
    }
    if (done) {
        self->lent = rest; /* before anything is released: what that runs finds the list whole */
        rest = entries;
    }
    for (Py_ssize_t i = 0; done && releasing && i < PyList_Size(ended); i++)
        release(PyList_GetItem(ended, i));
    Py_XDECREF(rest);
    Py_XDECREF(ended);
    return done;
}

/* Before the next event is handed out, or waited for. False with an error: then nothing was asked for. What was put back is
 * yet to be handed out. */
bool eb_lent_ask(receiver_object *self)
{
    if (!self->views || self->manual) return true;
    PyObject *whose = PyObject_CallMethodObjArgs((PyObject *)self, bound.whose, NULL);
    if (whose == NULL) return false;
    bool ended = end(self, whose, 0, true);
    Py_DECREF(whose);
    if (!ended) return false;
    PyObject *front = eb_hand_of(self)->front;
    PyObject *first = front == NULL ? NULL : PyList_GetItem(front, eb_hand_of(self)->taken);
    uint64_t next = first == NULL ? self->next : number_in(first, SEQUENCE);
    if (PyErr_Occurred()) return false;
    bound.asked(self->sub, next);
    return true;
}

/* These events are to be handed out once more. */
bool eb_lent_back(receiver_object *self, PyObject *events)
{
    if (!self->views) return true;
    for (Py_ssize_t i = 0; i < PyList_Size(events); i++) {
        uint64_t sequence = number_in(PyList_GetItem(events, i), SEQUENCE);
        if (sequence == 0 || !end(self, NULL, sequence, false)) return false;
    }
    return true;
}

/* _release(sequence): of that event, or of all with 0. */
PyObject *eb_receiver_release(PyObject *object, PyObject *given)
{
    receiver_object *self = (receiver_object *)object;
    uint64_t sequence = PyLong_AsUnsignedLongLong(given);
    if (PyErr_Occurred() || (self->views && !end(self, NULL, sequence, true))) return NULL;
    Py_RETURN_NONE;
}

PyObject *eb_receiver_ask(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (!eb_is_whole((receiver_object *)object) || !eb_lent_ask((receiver_object *)object)) return NULL;
    Py_RETURN_NONE;
}

void eb_lent_bind(unsigned long long asked)
{
    bound.asked = (int (*)(eb_subscription *, uint64_t))(uintptr_t)asked;
}

int eb_lent_ready(void)
{
    bound.whose = PyUnicode_InternFromString("_whose");
    bound.release = PyUnicode_InternFromString("release");
    return bound.whose != NULL && bound.release != NULL;
}
