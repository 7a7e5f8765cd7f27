/* Where an event came from, and its headers: the texts of a record's extension, into a str and the type that Python has for
 * headers. */
#include "fast.h"

#include <string.h>

static PyTypeObject *headers_type;
static eb_extension none; /* of an event that has neither */

eb_extension eb_no_extension(void)
{
    return none;
}

/* The text up to the next mark; *at is NULL once there is no other. */
static PyObject *next_text(const char **at, const char *end)
{
    const char *mark = memchr(*at, EB_EXTENSION_MARK, (size_t)(end - *at));
    PyObject *text = PyUnicode_DecodeUTF8(*at, (mark == NULL ? end : mark) - *at, NULL);
    *at = mark == NULL ? NULL : mark + 1;
    return text;
}

/* Past the type's own way, which refuses it. */
static bool add_header(PyObject *headers, const char **at, const char *end)
{
    PyObject *name = next_text(at, end), *value = NULL;
    if (name != NULL && *at == NULL) PyErr_SetString(PyExc_ValueError, "a header without a value");
    if (name != NULL && *at != NULL) value = next_text(at, end);
    bool added = value != NULL && PyDict_SetItem(headers, name, value) == 0;
    Py_XDECREF(name);
    Py_XDECREF(value);
    return added;
}

/* A hexadecimal number up to `end`, of at most `digits`; false when it is none. */
static bool read_number(const char *at, const char *end, int digits, uint64_t *number)
{
    if (at == end || end - at > digits) return false;
    for (*number = 0; at < end; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : -1;
        if (digit < 0) return false;
        *number = *number << 4 | (uint64_t)digit;
    }
    return true;
}

/* The origin; behind EB_SENT_MARK the time and the pid with which it was sent there, with a blank in between. */
static PyObject *read_origin(const char **at, const char *end, eb_extension *read)
{
    const char *from = *at, *mark = memchr(from, EB_EXTENSION_MARK, (size_t)(end - from));
    const char *stop = mark == NULL ? end : mark, *sent = memchr(from, EB_SENT_MARK, (size_t)(stop - from));
    if (sent == NULL) return next_text(at, end);
    const char *blank = memchr(sent, ' ', (size_t)(stop - sent));
    uint64_t sender = 0;
    bool whole = blank != NULL && read_number(sent + 1, blank, 16, &read->time);
    if (!whole || !read_number(blank + 1, stop, 8, &sender)) {
        PyErr_SetString(PyExc_ValueError, "an origin without the time and the sender that it begins");
        return NULL;
    }
    read->sender = (uint32_t)sender;
    *at = mark == NULL ? NULL : mark + 1;
    return PyUnicode_DecodeUTF8(from, sent - from, NULL);
}

eb_extension eb_extension_read(const char *bytes, uint32_t length)
{
    eb_extension read = none;
    if (length == 0) {
        Py_INCREF(read.headers);
        Py_INCREF(read.origin);
        return read;
    }
    const char *at = bytes, *end = bytes + length;
    read.origin = read_origin(&at, end, &read);
    read.headers = read.origin == NULL ? NULL : PyObject_CallFunctionObjArgs((PyObject *)headers_type, NULL);
    while (read.headers != NULL && at != NULL)
        if (!add_header(read.headers, &at, end)) Py_CLEAR(read.headers);
    if (read.headers == NULL) Py_CLEAR(read.origin);
    return read;
}

bool eb_headers_bind(PyTypeObject *headers)
{
    Py_INCREF(headers);
    headers_type = headers;
    none.headers = PyObject_CallFunctionObjArgs((PyObject *)headers, NULL);
    none.origin = PyUnicode_InternFromString("");
    return none.headers != NULL && none.origin != NULL;
}
