"""What is to be sent later, as the core keeps it: put down, cancelled, listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from eventbus.core.attachment import Attachment
from eventbus.core.native import decode_names, ffi, lib, until_done
from eventbus.event import split


class Scheduled(NamedTuple):
    """One event that is to be sent later."""

    number: int
    system: str
    kind: str
    path: str | None  # None of one that cannot be read
    due: float  # seconds until then
    bytes: int  # of its record


def schedule(handle: Attachment, row: Any, blob: bytes, due: int, deadline: int) -> int:
    """Its number, from 1 on, or a status; ``row`` is one eb_outgoing, ``due`` nanoseconds on the monotonic clock."""
    event = ffi.from_buffer("eb_outgoing[]", row)
    return until_done(lambda: int(lib.eb_schedule(handle.pointer, event, blob, len(blob), due, deadline)))


def schedule_limit(handle: Attachment) -> int:
    """The largest record that can be sent later, in bytes."""
    return int(lib.eb_schedule_limit(handle.pointer))


def cancel(handle: Attachment, number: int, deadline: int) -> int:
    """1 when it is never sent now, 0 when there is none of that number, or a status."""
    return until_done(lambda: int(lib.eb_cancel(handle.pointer, number, deadline)))


def scheduled(handle: Attachment) -> Iterator[Scheduled]:
    """All of them, in no order."""
    out, entry = ffi.new("eb_scheduled_info *"), -1
    while (entry := lib.eb_scheduled_read(handle.pointer, entry + 1, out)) >= 0:
        names = decode_names(ffi.buffer(out.names), out.system_length, out.kind_length)
        text = bytes(ffi.buffer(out.path, out.path_length))
        path = split(text)[0] if out.is_text else text.decode(errors="replace")
        yield Scheduled(out.number, *names, path or None, out.due_ns / 1e9, out.bytes)
