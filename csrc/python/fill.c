/* What comes next is taken in hand, in the turn of whoever asks. What the core asks or refuses is settled in Python. */
#include "fast.h"

#include <limits.h>

static struct {
    int (*receive)(eb_subscription *sub, int limit, int64_t deadline);
    int (*ack)(eb_subscription *sub);
    PyObject *no, *brief; /* False; a deadline */
    /* names of methods */
    PyObject *acquire, *release, *await_turn, *live_handle, *settle, *refused, *retry_letters;
} bound;

/* --- the next batch --- */

/* Takes the batch that was read last in hand; its status, or INT_MIN with an error. What runs in between, a signal handler
 * or a destructor, may want to receive: meanwhile there is nothing. Or to close: then there is nothing afterwards. */
static int take_batch(receiver_object *self, PyObject *handle, hand_object *hand)
{
    eb_hand_busy(hand);
    bool taken = eb_unpack(self, handle, hand);
    int status = taken ? hand->batch->head.status : INT_MIN;
    if (taken) hand->number = hand->batch->head.number;
    hand->dropped = hand->dropped || !taken;
    eb_hand_idle(hand);
    if (taken || !PyErr_ExceptionMatches(PyExc_BufferError)) return status;
    PyErr_Clear(); /* views went, as another thread closed, or has done with events of it */
    if (self->ended) return EB_CLOSED;
    eb_give_batch_back(self);
    return EB_INTERRUPTED;
}

/* The status of what is in hand then, or why there is nothing; INT_MIN with an error. An exception of a signal handler may
 * have come after C had gone on: so a batch that was read and not taken is taken first, before eb_receive rewrites it.
 * Whoever asks for more is done with all that was handed out. */
static int read_batch(receiver_object *self, PyObject *handle, int64_t deadline)
{
    hand_object *hand = eb_hand_of(self);
    eb_batch_head *head = &hand->batch->head;
    eb_hand_drop(hand);
    if (eb_hand_left(hand) > 0 || hand->busy) return EB_INTERRUPTED; /* by a destructor of what was dropped */
    if (head->number == hand->number) {
        int status;
        head->done = head->handed;
        Py_BEGIN_ALLOW_THREADS;
        status = bound.receive(self->sub, self->limit, deadline);
        Py_END_ALLOW_THREADS;
        if (status <= 0 && status != EB_EXHAUSTED) return status;
    }
    if (head->status == EB_EXHAUSTED) return EB_EXHAUSTED; /* a member hands it out to nobody, and says so itself */
    return take_batch(self, handle, hand);
}

/* What comes next cannot be read: its error is raised, and it is passed over, in one step; a member's is buried. Where
 * Python raises something else, as of a signal handler, it comes next again. What the core has to say against a burial it
 * says when the next one is asked for. */
static int refuse(receiver_object *self, PyObject *handle, PyObject *unreadable)
{
    hand_object *hand = eb_hand_of(self);
    Py_INCREF(unreadable);
    eb_hand_busy(hand);
    eb_count_delivery(hand->batch, hand->batch->head.handed);
    PyObject *error = PyObject_CallMethodObjArgs((PyObject *)self, bound.refused, handle, unreadable, NULL);
    if (error != NULL) {
        uint64_t sequence = hand->batch->sequence[hand->batch->head.handed];
        eb_hand_out(hand->batch, 1);
        eb_bury_event(self->sub, sequence);
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    Py_XDECREF(error);
    eb_hand_idle(hand);
    Py_DECREF(unreadable);
    return -1;
}

/* --- the next events --- */

/* 1 when it is this thread's turn to receive, 0 when the time is up, -1 with an error. */
int eb_turn_await(receiver_object *self, PyObject *turn, PyObject *deadline)
{
    PyObject *taken = PyObject_CallMethodObjArgs(turn, bound.acquire, bound.no, NULL);
    if (taken == bound.no) {
        Py_DECREF(taken);
        taken = PyObject_CallMethodObjArgs((PyObject *)self, bound.await_turn, turn, deadline, NULL);
    }
    if (taken == NULL) return -1;
    int is_mine = PyObject_IsTrue(taken);
    Py_DECREF(taken);
    return is_mine;
}

/* False with an error, also with one that there was before. */
bool eb_turn_end(PyObject *turn)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyObject *released = PyObject_CallMethodObjArgs(turn, bound.release, NULL);
    if (released == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return false;
    }
    Py_DECREF(released);
    PyErr_Restore(type, error, traceback);
    return type == NULL;
}

/* What the core asks for or refuses. 1 to go on, 0 when the time is up or the end has come, -1 with an error. */
static int settle(receiver_object *self, PyObject *handle, int status)
{
    if (status == EB_NOTHING) return 0;
    PyObject *number = PyLong_FromLong(status);
    if (number == NULL) return -1;
    PyObject *settled = PyObject_CallMethodObjArgs((PyObject *)self, bound.settle, handle, number, NULL);
    Py_DECREF(number);
    if (settled == NULL) return -1;
    int go_on = PyObject_IsTrue(settled);
    Py_DECREF(settled);
    return go_on;
}

/* Of a member: what is handed out is done when the next event is asked for. The core counts it; what it has nothing to
 * say of is done too. It waits for nobody, so the GIL is kept. 1 to go on, 0 when the end has come, with its group; -1 with
 * an error. */
int eb_acknowledge(receiver_object *self, PyObject *handle)
{
    eb_batch_head *head = &eb_hand_of(self)->batch->head;
    if (self->manual || eb_hand_is_inherited(eb_hand_of(self))) return 1;
    while (head->done < head->handed) {
        uint32_t done = head->done;
        int status = bound.ack(self->sub);
        if (head->done == done) head->done++;
        int go_on = status == EB_OK || status == EB_NOTHING ? 1 : settle(self, handle, status);
        if (go_on <= 0) return go_on;
    }
    return 1;
}

/* With the next event in hand: of a member, those before it are done, and its letters that found no room before are sent
 * first. False where it is not to have it: it is to stop, or there is an error, as of a signal handler. That runs before the
 * event is taken, which so stays in hand. It may have taken what was next: the caller looks again. */
bool eb_asks_on(receiver_object *self)
{
    PyObject *handle = self->handle;
    if (self->ended || handle == NULL || handle == Py_None) return false;
    Py_INCREF(handle); /* `close` may drop it */
    bool owes = self->letters != NULL && PyObject_Size(self->letters) > 0;
    PyObject *sent = owes ? PyObject_CallMethodObjArgs((PyObject *)self, bound.retry_letters, NULL) : NULL;
    bool goes_on =
        (!owes || sent != NULL) && eb_acknowledge(self, handle) > 0 && PyErr_CheckSignals() == 0 && !self->ended;
    Py_XDECREF(sent);
    Py_DECREF(handle);
    return goes_on;
}

/* Closed or inherited: the latter is an error. 1 when it had yet to join, and has. */
static int no_handle(receiver_object *self)
{
    PyObject *handle = PyObject_CallMethodObjArgs((PyObject *)self, bound.live_handle, NULL);
    if (handle == NULL) return -1;
    int joined = handle != Py_None && handle == self->handle;
    Py_DECREF(handle);
    return joined;
}

/* 1 when there are events, 0 when the time is up or the end has come, -1 with an error. */
static int fill(receiver_object *self, int64_t deadline)
{
    while (!eb_hand_of(self)->busy) {
        int status = 1, go_on;
        if (self->handle == NULL || self->handle == Py_None) {
            int joined = no_handle(self);
            if (joined <= 0) return joined;
            continue;
        }
        bool ready = eb_hand_left(eb_hand_of(self)) > 0;
        if (!ready && self->ended) return 0;
        PyObject *handle = self->handle;
        Py_INCREF(handle); /* `close` may drop it while this thread is in Python */
        if (ready) {
            go_on = eb_acknowledge(self, handle);
            PyObject *unreadable = go_on > 0 ? eb_hand_unreadable(eb_hand_of(self)) : NULL;
            if (unreadable != NULL) go_on = refuse(self, handle, unreadable);
        } else {
            status = read_batch(self, handle, deadline);
            go_on = status > 0 ? 1 : status == INT_MIN ? -1 : settle(self, handle, status);
        }
        Py_DECREF(handle);
        if (go_on <= 0) return go_on;
        if (status > 0) return 1;
    }
    return 0;
}

int eb_fill(receiver_object *self, PyObject *until)
{
    long long deadline = PyLong_AsLongLong(until);
    if (PyErr_Occurred() || !eb_is_whole(self)) return -1;
    if (eb_hand_is_inherited(eb_hand_of(self))) return no_handle(self) < 0 ? -1 : 0;
    PyObject *turn = self->turn;
    Py_INCREF(turn);
    int filled = eb_turn_await(self, turn, until);
    if (filled > 0) {
        filled = fill(self, deadline);
        if (!eb_turn_end(turn) || PyErr_CheckSignals() != 0) filled = -1; /* what is in hand stays there */
    }
    Py_DECREF(turn);
    return filled;
}

int eb_poll(receiver_object *self)
{
    return eb_fill(self, bound.brief);
}

void eb_fill_bind(unsigned long long receive, unsigned long long ack)
{
    bound.receive = (int (*)(eb_subscription *, int, int64_t))(uintptr_t)receive;
    bound.ack = (int (*)(eb_subscription *))(uintptr_t)ack;
}

int eb_fill_ready(void)
{
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&bound.acquire, "acquire"},
        {&bound.release, "release"},
        {&bound.await_turn, "_await_turn"},
        {&bound.live_handle, "_live_handle"},
        {&bound.settle, "_settle"},
        {&bound.refused, "_refused"},
        {&bound.retry_letters, "_retry_letters"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*names[i].name = PyUnicode_InternFromString(names[i].text)) == NULL) return 0;
    bound.no = PyBool_FromLong(0);
    bound.brief = PyLong_FromLongLong(EB_BRIEF);
    return bound.brief != NULL;
}
