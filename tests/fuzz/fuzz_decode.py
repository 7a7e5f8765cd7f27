"""Records whose bytes are not what was sent: an event or a SegmentError, never another exception."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import eventbus
from eventbus import Bus, Event, SegmentError
from eventbus.core.native import INLINE, lib
from eventbus.request import MARK

CAPACITY = 16 * 1024
MOST = 64  # records of one input
KINDS = ("created", "paid" + MARK)
Receive = Callable[[], Sequence[Event | None]]
_numbers = count()


def one_input(data: bytes) -> None:
    """Records that are sent past all checks and then received."""
    with eventbus.open(f"test-{os.getpid()}-fuzz{next(_numbers)}", capacity=CAPACITY) as bus:
        receive_all(bus, data[1:])


def receive_all(bus: Bus, data: bytes) -> None:
    """By a group, whose member buries what it cannot read; then, with its letters, one at a time and many at once."""
    bus.group("all", "**", max_deliveries=1)
    with bus.subscribe("**") as single, bus.subscribe("**") as many, bus.subscribe("**", group="all") as member:
        readable = min([send(bus, *record) for record in records(data)], default=True)
        drain(lambda: [member.receive(0)], readable)
        drain(lambda: [single.receive(0)], readable)
        drain(lambda: many.receive_many(MOST, 0), readable)
        try:
            assert many.backlog == 0
        except SegmentError as error:
            assert str(error)


def drain(receive: Receive, readable: bool) -> None:
    """Events and errors to the end. Only the name of a topic that cannot be read is an error for good."""
    for _ in range(4 * MOST):
        try:
            events = receive()
        except SegmentError as error:
            assert str(error)
            continue
        if events in ([], [None]):
            return
        assert all(isinstance(event, Event) for event in events)
    assert not readable, "there is no end of errors"


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """A form and a length, then so many bytes, again and again."""
    for _ in range(MOST):
        if len(data) < 2:
            return
        form, length = data[0], data[1]
        yield form, data[2 : 2 + length]
        data = data[2 + length :]


def send(bus: Bus, form: int, body: bytes) -> bool:
    """As C takes it, whatever the bytes: a text, raw data with a path or an extension, names or a topic of its own.

    Whether the names can be read.
    """
    handle = bus._open_handle()
    text, names = b"[" + body.replace(b"\0", b"0") + b"]", (body + b"ab")[: 2 + form // 16]
    route = handle.route(handle.topic(b"orders", KINDS[form // 8 % 2].encode(), 0), b"", b"")
    if form % 8 < 4:
        lib.eb_send(route, text)
    elif form % 8 == 5:
        path, row = body[:1] or b"/", (handle.topic(b"orders", b"paid", 0), 0, 0, len(body), 1, len(text))
        handle.send_batch(struct.pack("=6I", *row), 1, body + path + text, 0)
    elif form % 8 == 4:
        path = body[: 1 + form // 16] or b"/"
        lib.eb_send_raw(route, path, len(path), body, len(body))
    elif form % 8 == 6:
        handle.send_batch(struct.pack("=6I", INLINE, 1, len(names) - 1, 0, 0, len(text)), 1, names + text, 0)
    else:
        lib.eb_send(handle.route(handle.topic(names[:1], names[1:], 0), b"", b""), b'["/p",1]')
    return form % 8 < 6 or (utf8(names[:1]) and utf8(names[1:]))


def utf8(text: bytes) -> bool:
    """Whether it is text."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
