/* What was read is handed out; and done with: buried, or given back. */
#include "fast.h"

static struct {
    int (*bury)(eb_subscription *sub, uint64_t sequence);
    int (*give_back)(eb_subscription *sub, int64_t delay_ns);
    int (*reject)(eb_subscription *sub, uint64_t sequence, int64_t delay_ns);
    PyObject *subscription; /* the name of an attribute */
} bound;

/* An address that a handle keeps as an int; NULL with an error. */
void *eb_address_in(PyObject *handle, PyObject *attribute)
{
    PyObject *number = PyObject_GetAttr(handle, attribute);
    if (number == NULL) return NULL;
    void *address = PyLong_AsVoidPtr(number);
    Py_DECREF(number);
    if (address == NULL && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a handle without an address");
    return address;
}

eb_subscription *eb_subscription_of(PyObject *handle)
{
    return eb_address_in(handle, bound.subscription);
}

hand_object *eb_hand_of(const receiver_object *self)
{
    return (hand_object *)self->ready;
}

/* Whether `_begin` has given it all it needs; false with an error. */
bool eb_is_whole(const receiver_object *self)
{
    bool listed = !self->views || self->lent != NULL;
    if (self->ready != NULL && self->names != NULL && self->turn != NULL && listed) return true;
    PyErr_SetString(PyExc_AttributeError,
                    "a Receiver needs _begin(handle), _names and _receiving, one with _views _lent");
    return false;
}

/* Of a member's, the core is told, so that a death counts what was handed out. */
void eb_count_delivery(eb_batch *batch, uint32_t index)
{
    if (batch->head.counts && batch->handed_out[index] != NULL)
        __atomic_store_n(batch->handed_out[index], (batch->deliveries[index] - 1) | 1u << 31, __ATOMIC_RELEASE);
}

/* The next `count` events of the batch. */
void eb_hand_out(eb_batch *batch, uint32_t count)
{
    uint32_t end = batch->head.handed + count;
    for (uint32_t i = batch->head.handed; batch->head.counts && i < end; i++)
        eb_count_delivery(batch, i);
    batch->head.handed = end;
}

void eb_bury_event(eb_subscription *sub, uint64_t sequence)
{
    bound.bury(sub, sequence);
}

/* The event of that sequence is done with, and counted as dead; in one step with its being taken, where it is handed out to
 * nobody. */
PyObject *eb_receiver_bury(PyObject *object, PyObject *given)
{
    receiver_object *self = (receiver_object *)object;
    PyObject *handle;
    unsigned long long sequence;
    if (!eb_is_whole(self) || !PyArg_ParseTuple(given, "OK", &handle, &sequence)) return NULL;
    eb_subscription *sub = eb_subscription_of(handle);
    if (sub == NULL) return NULL;
    int status = bound.bury(sub, sequence);
    const eb_batch *batch = eb_hand_of(self)->batch;
    if (batch->head.status == EB_EXHAUSTED && batch->sequence[0] == sequence)
        eb_hand_of(self)->number = batch->head.number;
    return PyLong_FromLong(status);
}

/* Of a batch that was handed out to nobody, the event of that sequence; with 0 all that is in hand, and what was fetched with
 * it: then nothing is in hand. */
PyObject *eb_receiver_give_back(PyObject *object, PyObject *given)
{
    receiver_object *self = (receiver_object *)object;
    PyObject *handle;
    long long delay;
    unsigned long long sequence;
    if (!eb_is_whole(self) || !PyArg_ParseTuple(given, "OLK", &handle, &delay, &sequence)) return NULL;
    eb_subscription *sub = eb_subscription_of(handle);
    if (sub == NULL) return NULL;
    eb_batch_head *head = &eb_hand_of(self)->batch->head;
    int status = sequence > 0 ? bound.reject(sub, sequence, delay) : bound.give_back(sub, delay);
    head->done = head->handed;
    eb_hand_of(self)->number = head->number;
    eb_hand_drop(eb_hand_of(self));
    return PyLong_FromLong(status);
}

/* Of a member whose batch cannot be taken, as another thread has done with an event of it meanwhile: the others come again. */
void eb_give_batch_back(receiver_object *self)
{
    hand_object *hand = eb_hand_of(self);
    eb_batch_head *head = &hand->batch->head;
    for (int i = 0; i < head->status; i++)
        bound.reject(self->sub, hand->batch->sequence[i], 0);
    head->handed = head->done = 0;
    hand->number = head->number;
}

void eb_finish_bind(unsigned long long bury, unsigned long long give_back, unsigned long long reject)
{
    bound.bury = (int (*)(eb_subscription *, uint64_t))(uintptr_t)bury;
    bound.give_back = (int (*)(eb_subscription *, int64_t))(uintptr_t)give_back;
    bound.reject = (int (*)(eb_subscription *, uint64_t, int64_t))(uintptr_t)reject;
}

int eb_finish_ready(void)
{
    bound.subscription = PyUnicode_InternFromString("address");
    return bound.subscription != NULL;
}
