/* Raw data that were handed out as memoryviews: whoever asks for the next event has done with what it was given before, so
 * that is released. Who else has an array made of it keeps it; the core sees to it that its bytes stay. */
#include "fast.h"

static struct {
    int (*lend)(eb_subscription *sub, uint64_t next);
    int (*asked)(eb_subscription *sub, uint64_t next);
    PyObject *whose, *release; /* the names of methods */
} bound;

enum { REFERENCE = 0, OWNER, NUMBER, LOAN_LENGTH }; /* of what the list has of each, one after the other */

/* Its sequence; 0 with an error. */
static uint64_t number_of(PyObject *event)
{
    return event == NULL ? 0 : ((fields_object *)event)->sequence;
}

/* What the list has to have of an event; false with an error. */
static bool add(receiver_object *self, PyObject *loan, PyObject *event, PyObject **whose)
{
    fields_object *fields = (fields_object *)event;
    if (event == NULL || !PyMemoryView_Check(fields->data)) return event != NULL;
    if (*whose == NULL) *whose = PyObject_CallMethodObjArgs((PyObject *)self, bound.whose, NULL);
    PyObject *reference = *whose == NULL ? NULL : PyWeakref_NewRef(fields->data, NULL);
    PyObject *sequence = reference == NULL ? NULL : PyLong_FromUnsignedLongLong(fields->sequence);
    bool added = sequence != NULL && PyList_Append(loan, reference) == 0 && PyList_Append(loan, *whose) == 0 &&
                 PyList_Append(loan, sequence) == 0;
    Py_XDECREF(reference);
    Py_XDECREF(sequence);
    return added;
}

/* What the list has to have of these events, or of one, which are to be lent to who asks, if that is known; NULL with an error.
 * To make it may run anything: whoever does looks afterwards whether they still are the next. */
PyObject *eb_loan_of(receiver_object *self, PyObject *events, PyObject *whose)
{
    PyObject *loan = PyList_New(0);
    bool several = PyList_Check(events), whole = loan != NULL;
    Py_ssize_t count = several ? PyList_Size(events) : 1;
    Py_XINCREF(whose);
    for (Py_ssize_t i = 0; whole && i < count; i++)
        whole = add(self, loan, several ? PyList_GetItem(events, i) : events, &whose);
    Py_XDECREF(whose);
    if (!whole) Py_CLEAR(loan);
    return loan;
}

/* Its events, of which `last` is the last, are lent; no code of others runs in it. False with an error, or without one where
 * another thread has closed: then they are not, and are to be handed out to nobody. */
bool eb_lend(receiver_object *self, PyObject *loan, PyObject *last)
{
    uint64_t sequence = number_of(last), next = sequence >= self->next ? sequence + 1 : self->next;
    Py_ssize_t end = PyList_Size(self->lent), length = PyList_Size(loan);
    if (sequence == 0 || PyList_SetSlice(self->lent, end, end, loan) != 0) return false;
    if (bound.lend(self->sub, next) == EB_OK) {
        self->next = next;
        return true;
    }
    PyList_SetSlice(self->lent, end, end + length, NULL);
    return false;
}

/* Of a memoryview that something else looks at, too, nothing comes: it stays. */
static void release(PyObject *view)
{
    PyObject *released = PyObject_CallMethodObjArgs(view, bound.release, NULL);
    if (released == NULL) PyErr_Clear();
    Py_XDECREF(released);
}

static bool is_of(PyObject *number, uint64_t sequence)
{
    return (uint64_t)PyLong_AsUnsignedLongLong(number) == sequence;
}

/* An entry; false with an error. */
static bool copy(PyObject *to, PyObject *from, Py_ssize_t at)
{
    for (Py_ssize_t i = at; i < at + LOAN_LENGTH; i++)
        if (PyList_Append(to, PyList_GetItem(from, i)) != 0) return false;
    return true;
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
    for (Py_ssize_t i = 0; done && i < PyList_Size(entries); i += LOAN_LENGTH) {
        PyObject *view = PyObject_CallNoArgs(PyList_GetItem(entries, i + REFERENCE));
        bool its = whose != NULL ? PyList_GetItem(entries, i + OWNER) == whose
                                 : sequence == 0 || is_of(PyList_GetItem(entries, i + NUMBER), sequence);
        done = view != NULL && (view == Py_None || (its ? PyList_Append(ended, view) == 0 : copy(rest, entries, i)));
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
    uint64_t next = first == NULL ? self->next : number_of(first);
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
        uint64_t sequence = number_of(PyList_GetItem(events, i));
        if (sequence == 0 || !end(self, NULL, sequence, false)) return false;
    }
    return true;
}

/* --- of a hand --- */

/* Who asks has done with what it looked at; false with an error. */
bool eb_hand_asks(hand_object *hand, PyObject **whose)
{
    return hand->of == NULL || eb_hand_is_inherited(hand) || eb_lent_ask(hand->of, whose);
}

bool eb_hand_looks(const hand_object *hand)
{
    return hand->of != NULL && hand->of->views;
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
