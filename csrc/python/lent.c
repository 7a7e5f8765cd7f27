/* Raw data that were handed out as memoryviews: whoever asks for the next event has done with what it was given before, so
 * that is released. Who else has an array made of it keeps it; the core sees to it that its bytes stay. */
#include "fast.h"

static struct {
    int (*lend)(eb_subscription *sub, uint64_t next);
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

/* An entry of the list for each of these events that looks at something; false with an error. */
static bool list(receiver_object *self, PyObject *events, PyObject **whose)
{
    Py_ssize_t count = PyList_Size(events);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *event = PyList_GetItem(events, i), *data = event == NULL ? NULL : PyTuple_GetItem(event, DATA);
        if (data == NULL) return false;
        if (!PyMemoryView_Check(data)) continue;
        if (*whose == NULL) *whose = PyObject_CallMethodObjArgs((PyObject *)self, bound.whose, NULL);
        PyObject *reference = *whose == NULL ? NULL : PyWeakref_NewRef(data, NULL), *entry = NULL;
        if (reference != NULL) entry = PyTuple_Pack(3, reference, *whose, PyTuple_GetItem(event, SEQUENCE));
        bool listed = entry != NULL && PyList_Append(self->lent, entry) == 0;
        Py_XDECREF(entry);
        Py_XDECREF(reference);
        if (!listed) return false;
    }
    return count >= 0;
}

/* What these events look at, of which there is at least one, is lent to who asked, if that is known. False with an error, or without one where
 * another thread has closed: then it is not, and they are not to be handed out. */
static bool lend(receiver_object *self, PyObject *events, PyObject *whose)
{
    PyObject *type, *error, *traceback;
    Py_XINCREF(whose);
    Py_ssize_t before = PyList_Size(self->lent), count = PyList_Size(events);
    uint64_t sequence = number_in(PyList_GetItem(events, count - 1), SEQUENCE);
    bool lent = before >= 0 && sequence != 0 && list(self, events, &whose);
    uint64_t next = sequence >= self->next ? sequence + 1 : self->next;
    lent = lent && bound.lend(self->sub, next) == EB_OK;
    if (lent) self->next = next;
    PyErr_Fetch(&type, &error, &traceback);
    if (!lent && before >= 0 && PyList_SetSlice(self->lent, before, PyList_Size(self->lent), NULL) != 0) PyErr_Clear();
    Py_XDECREF(whose);
    PyErr_Restore(type, error, traceback);
    return lent;
}

static bool lend_one(receiver_object *self, PyObject *event, PyObject *whose)
{
    PyObject *events = PyList_New(1);
    if (events == NULL) return false;
    Py_INCREF(event);
    bool lent = PyList_SetItem(events, 0, event) == 0 && lend(self, events, whose);
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
 * yet to be handed out. `to` gets who asks, where that was found out. */
bool eb_lent_ask(receiver_object *self, PyObject **to)
{
    if (!self->views || self->manual) return true;
    if (PyList_Size(self->lent) == 0 && self->next == self->told) return true;
    PyObject *whose = PyObject_CallMethodObjArgs((PyObject *)self, bound.whose, NULL);
    if (whose == NULL) return false;
    *to = whose;
    if (!end(self, whose, 0, true)) return false;
    PyObject *front = eb_hand_of(self)->front;
    PyObject *first = front == NULL ? NULL : PyList_GetItem(front, eb_hand_of(self)->taken);
    uint64_t next = first == NULL ? self->next : number_in(first, SEQUENCE);
    if (PyErr_Occurred()) return false;
    bound.asked(self->sub, next);
    self->told = next;
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

/* --- of a hand --- */

/* What an event, or a list of them, looks at is lent. Meanwhile nobody gets any; false with an error, or where it was all
 * dropped by then. */
bool eb_hand_lend(hand_object *hand, PyObject *events, bool one, PyObject *whose)
{
    if (hand->of == NULL || !hand->of->views) return true;
    eb_hand_busy(hand);
    bool lent = one ? lend_one(hand->of, events, whose) : lend(hand->of, events, whose), dropped = hand->dropped != 0;
    if (!lent && !PyErr_Occurred()) hand->dropped = 1;
    eb_hand_idle(hand);
    return lent && !dropped;
}

/* The next so many are somebody else's: what they look at ends with that one, not with the batch. */
void eb_hand_forget(hand_object *hand, Py_ssize_t count)
{
    bool views = hand->of != NULL && hand->of->views;
    for (Py_ssize_t i = 0; views && hand->made != NULL && i < count; i++) {
        Py_INCREF(Py_None);
        PyList_SetItem(hand->made, (Py_ssize_t)hand->batch->head.handed + i, Py_None);
    }
}

/* With an error, which stays: they were lent and are handed out to nobody. */
void eb_hand_take_back(hand_object *hand, PyObject *events)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (!eb_lent_back(hand->of, events)) PyErr_Clear();
    PyErr_Restore(type, error, traceback);
}

/* --- of a receiver --- */

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
    PyObject *whose = NULL;
    bool asked = eb_is_whole((receiver_object *)object) && eb_lent_ask((receiver_object *)object, &whose);
    Py_XDECREF(whose);
    if (!asked) return NULL;
    Py_RETURN_NONE;
}

void eb_lent_bind(unsigned long long lend, unsigned long long asked)
{
    bound.lend = (int (*)(eb_subscription *, uint64_t))(uintptr_t)lend;
    bound.asked = (int (*)(eb_subscription *, uint64_t))(uintptr_t)asked;
}

int eb_lent_ready(void)
{
    bound.whose = PyUnicode_InternFromString("_whose");
    bound.release = PyUnicode_InternFromString("release");
    return bound.whose != NULL && bound.release != NULL;
}
