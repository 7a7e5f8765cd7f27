"""The send flow: names into topics, data into bytes, one crossing, and what went wrong."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from eventbus import _fast, patterns
from eventbus.core import native
from eventbus.core.attachment import Attachment, Route
from eventbus.core.full import full
from eventbus.core.holders import holders
from eventbus.core.native import deadline_after
from eventbus.core.schedule import cancel, schedule, schedule_limit, scheduled
from eventbus.delays import due_after
from eventbus.errors import ClosedError, FullError, InvalidError, UnavailableError
from eventbus.event import OPTIONS, are_headers, check_headers, check_path, dumps, encode, extension

if TYPE_CHECKING:
    from eventbus.loop import Turns
    from eventbus.policy import Guard

_fast.bind_send(
    native.address_of("eb_send"), native.address_of("eb_send_raw"), native.address_of("eb_send_parts"), dumps, OPTIONS
)

NAMES_KEPT = 65_536  # names past a full topic table that a process remembers, so that strangers cannot fill its memory

_DEFAULT: Final[Any] = type("Default", (), {"__repr__": lambda _: "send_timeout"})()  # the bus's own


class Sender(_fast.Sender):
    """The sending half of a bus. ``send`` is in C and comes here where a topic is new, or something is wrong."""

    def __init__(self, name: str, guard: Guard | None, send_timeout: float | None) -> None:
        self._name = name
        self._send_timeout = send_timeout
        self._guard = guard
        self._routes: dict[str, dict[str, Route]] = {}  # of topics that are allowed by the policy
        self._untabled = 0  # how many of them are not in the table
        self._handle: Attachment | None = None  # once it is open, and as long
        self._turns: Turns | None = None  # of those who send from an event loop

    @property
    def name(self) -> str:
        """The bus's name."""
        return self._name

    def _send_slow(
        self, system: str, kind: str, path: str, data: Any, headers: Any, timeout: float | None = _DEFAULT
    ) -> bool:
        """``send`` with all checks, names and patience."""
        check_headers(headers)
        self._publish([(system, kind, path, data, headers)], timeout)
        return True

    def send_many(self, events: Iterable[tuple[Any, ...]], *, timeout: float | None = _DEFAULT) -> int:
        """Publishes several events at once: all become visible together, or none does.

        Args:
            events: ``(system, kind, path)``, ``(system, kind, path, data)`` or ``(system, kind, path, data, headers)``
                each.
            timeout: as in ``send``.

        Returns:
            The number of events sent.

        Raises:
            EventBusError: as ``send``; an InvalidError also when the events do not fit into the ring together.
        """
        return self._publish(events, timeout)

    async def asend(
        self,
        system: str,
        kind: str,
        path: str,
        data: Any = None,
        *,
        timeout: float | None = _DEFAULT,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """``send`` in an event loop, which goes on while there is no room. Cancelled meanwhile, it has sent nothing."""
        if timeout is not _DEFAULT:
            deadline_after(timeout)
        waits = headers is not None or (self._turns is not None and self._turns.taken)
        if waits or not self._send_now(system, kind, path, data):
            check_headers(headers)
            await self._apublish([(system, kind, path, data, headers)], timeout)
        return True

    async def asend_many(self, events: Iterable[tuple[Any, ...]], *, timeout: float | None = _DEFAULT) -> int:
        """``send_many`` in an event loop, which goes on while there is no room. Cancelled meanwhile, it sent none."""
        return await self._apublish(list(events), timeout)

    def send_later(
        self,
        system: str,
        kind: str,
        path: str,
        data: Any = None,
        *,
        delay: float | None = None,
        at: float | datetime | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Publishes one event when it is due, once, whatever becomes of this process: it is kept by the bus.

        Then the first to send or to wait on the bus, of those opened with ``role="member"``, sends it.

        Args:
            system, kind, path, data, headers: as in ``send``; they are checked and encoded now.
            delay: seconds from now.
            at: seconds since 1970, or a datetime (a naive one means local time); what is past is due at once. Either
                this or ``delay``. It is a span from now on: clocks that are set later do not move it.

        Returns:
            Its number on this bus, for ``cancel``.

        Raises:
            FullError: as much is scheduled as there is room for.
            EventBusError: as ``send``.
        """
        check_headers(headers)
        due, deadline = due_after(delay, at), deadline_after(self._send_timeout)
        row, blob = self._outgoing((system, kind, path, data, headers), "", deadline)
        handle = self._open_handle()
        self._check_writable(handle)
        large = max(row) > 0xFFFFFFFF  # more than 32 bits can say
        number = native.TOO_LARGE if large else schedule(handle, array("I", row), blob, due, deadline)
        if number in (native.FULL, native.TOO_LARGE):
            raise _no_room_for_later(self._name, handle, number, len(blob))
        return number if number >= 0 else self._refuse(handle, number)

    def cancel(self, number: int) -> bool:
        """Cancels what ``send_later`` gave this number to.

        Returns:
            True when it was still to be sent, and never will be; False when it was sent, or cancelled, or never was.

        Raises:
            InvalidError: it is no number, or the bus was opened with ``role="subscriber"``.
            ClosedError: the bus is closed here.
        """
        if not isinstance(number, int) or isinstance(number, bool):
            raise InvalidError(f"a number that send_later returned is an int, not {number!r}", number=number)
        handle = self._open_handle()
        self._check_writable(handle)
        if not 0 < number < 1 << 63:
            return False
        status = cancel(handle, number, deadline_after(self._send_timeout))
        return status > 0 if status >= 0 else self._refuse(handle, status)

    def _outgoing(self, event: tuple[Any, ...], origin: str, deadline: int) -> tuple[tuple[int, ...], bytes]:
        """The eb_outgoing of one event, and its bytes."""
        system, kind, path, data, headers = _parts(event)
        topic = self._topic(system, kind, path, deadline)
        extended = b"" if headers is None and not origin else extension(headers, origin)
        return row_of(topic, system, kind, path, data, extended)

    def _topic(self, system: str, kind: str, path: str, deadline: int) -> int:
        topic = self._find_topic(system, kind, path, deadline)
        return topic if topic >= 0 else self._refuse(self._open_handle(), topic)

    def _find_topic(self, system: str, kind: str, path: str, deadline: int) -> int:
        """Checks the names, asks the policy, then finds the topic's number, remembered from then on; or a status."""
        handle = self._open_handle()
        _check_names(system, kind, path)
        known = self._routes.get(system, {}).get(kind)
        if known is not None:
            return known.topic
        self._allow_send(handle, system)
        topic = handle.topic(system.encode(), kind.encode(), deadline)
        if topic < 0:
            return topic
        names = (b"", b"")
        if topic == native.INLINE:
            if self._untabled == NAMES_KEPT:
                return topic
            self._untabled += 1
            names = (system.encode(), kind.encode())
        self._routes.setdefault(system, {})[kind] = handle.route(topic, *names)
        return topic

    def _allow(self, system: str, kind: str, path: str) -> None:
        """Raises unless an event may be sent there."""
        handle = self._open_handle()
        _check_names(system, kind, path)
        self._allow_send(handle, system)

    def _check_writable(self, handle: Attachment) -> None:
        if not handle.writable:
            raise InvalidError(f"the bus {self._name!r} was opened with role='subscriber', which cannot send")

    def _allow_send(self, handle: Attachment, system: str) -> None:
        self._check_writable(handle)
        if self._guard is not None:
            self._guard.check_send(system)

    def _publish(
        self,
        events: Iterable[tuple[Any, ...]],
        timeout: float | None,
        origin: str = "",
        note: tuple[str, bytes] | None = None,
    ) -> int:
        """Sends them all with the patience that was asked for, or says what went wrong; how many there were."""
        seconds = self._send_timeout if timeout is _DEFAULT else timeout
        deadline = deadline_after(seconds)
        self._open_handle()
        if note:
            return self._publish_noted(events, seconds, deadline, origin, note)
        parcel = self._parcel(events, origin, deadline)
        if parcel.count:
            handle = self._open_handle()
            self._check_writable(handle)
            status = native.until_done(partial(parcel.send, native.address(handle.pointer), deadline))
            if status < 0:
                self._refuse(handle, status, seconds, parcel.bytes)
        return parcel.count

    def _publish_noted(
        self,
        events: Iterable[tuple[Any, ...]],
        seconds: float | None,
        deadline: int,
        origin: str,
        note: tuple[str, bytes],
    ) -> int:
        rows, count, blob = self._encoded(events, origin, deadline)
        handle = self._open_handle()
        self._check_writable(handle)
        status = handle.send_batch(rows, count, blob, deadline, (note[0].encode(), note[1]))
        if status < 0:
            self._refuse(handle, status, seconds, len(blob))
        return count

    def _encoded(self, events: Iterable[tuple[Any, ...]], origin: str, deadline: int) -> tuple[array[int], int, bytes]:
        """The rows of what is sent together, how many, and their bytes."""
        rows, parts = array("I"), []
        for event in events:
            row, bytes_ = self._outgoing(event, origin, deadline)
            parts.append(bytes_)
            try:
                rows.extend(row)
            except OverflowError:  # more than 32 bits can say
                self._too_large(len(bytes_))
        return rows, len(parts), b"".join(parts)

    async def _apublish(self, events: list[tuple[Any, ...]], timeout: float | None) -> int:
        """``_publish``, whose tries wait for nothing: what it waits for in between, it waits for in the event loop."""
        from eventbus.loop import through  # takes longer to import than all of eventbus

        seconds = self._send_timeout if timeout is _DEFAULT else timeout
        deadline = deadline_after(seconds)
        self._open_handle()
        for event in events:
            system, kind, path, *_ = _parts(event)
            topic = await through(partial(self._find_topic, system, kind, path, native.BRIEF), deadline)
            if topic < 0:
                self._refuse(self._open_handle(), topic)
        rows, count, blob = self._encoded(events, "", native.BRIEF)
        if count:
            handle = self._open_handle()
            self._check_writable(handle)
            status = await self._try(handle, rows, count, blob, deadline)
            if status < 0:
                self._refuse(handle, status, seconds, len(blob))
        return count

    async def _try(
        self,
        handle: Attachment,
        rows: array[int],
        count: int,
        blob: bytes,
        deadline: int,
        note: tuple[bytes, bytes] | None = None,
    ) -> int:
        """Until they are sent, one after the other of those who try in this loop; the sequence of the first, or a
        status."""
        from eventbus.loop import Turns, through  # takes longer to import than all of eventbus

        self._turns = self._turns or Turns()
        async with self._turns.mine():
            return await through(partial(handle.try_send, rows, count, blob, True, note), deadline)

    def _refuse(self, handle: Attachment, status: int, seconds: float | None = None, size: int = 0) -> NoReturn:
        if status == native.FULL:
            raise full(self._name, handle, seconds)
        if status == native.TOO_LARGE:
            limit = handle.event_limit
            raise InvalidError(
                f"{size} bytes are too many for the bus {self._name!r}: one event may take {limit} bytes, a quarter of "
                "the ring, and what is sent together must fit into the ring; open it with a larger capacity",
                size=size,
                limit=limit,
            )
        if status == native.TABLE_FULL:
            raise UnavailableError(f"the bus {self._name!r} has notes of {native.NOTES} names, and room for no more")
        if status == native.BUSY:
            pid = handle.lock_holder()
            raise UnavailableError(
                f"process {pid} keeps the publish lock of the bus {self._name!r}, it may be stopped; try again", pid=pid
            )
        handle.refuse(status)

    def _too_large(self, size: int) -> NoReturn:
        self._refuse(self._open_handle(), native.TOO_LARGE, size=size)

    def _forget(self) -> None:
        """From here on every call finds the bus closed; a sender that is in C still holds the pointer."""
        self._routes = {}
        self._handle = None

    def _live_handle(self) -> Attachment:
        handle = self._open_handle()
        handle.check()
        if handle.closed:
            others = [pid for pid in holders(handle.roster_fd) if pid != os.getpid()]
            still = f"; process {' and '.join(map(str, others))} still has it open" if others else ""
            raise ClosedError(
                f"the bus {self._name!r} was shut down{still}: the next to open it makes a new one once all have closed"
                " it; or end them, or remove its name with eventbus.unlink()",
                pids=others,
            )
        return handle

    def _opened_late(self) -> Attachment | None:
        """Of a bus that had yet to be opened; None of one that is closed."""
        return None

    def _open_handle(self) -> Attachment:
        handle = self._handle or self._opened_late()
        if handle is None:
            raise ClosedError(f"the bus {self._name!r} is closed; open it again with eventbus.open()")
        return handle


def _parts(event: Any) -> tuple[Any, Any, Any, Any, Any]:
    """System, kind, path, data and headers of what is to be sent."""
    size = len(event) if isinstance(event, (tuple, list)) else 0
    if not 3 <= size <= 5 or (size == 5 and not are_headers(event[4])):
        form = "(system, kind, path), (system, kind, path, data) or (system, kind, path, data, headers)"
        raise InvalidError(f"each event must be {form}, with headers a mapping of str to str", event=event)
    system, kind, path, data, headers = (*event, None, None)[:5]
    return system, kind, path, data, headers


def _no_room_for_later(name: str, handle: Attachment, status: int, size: int) -> InvalidError | FullError:
    if status == native.TOO_LARGE:
        limit = schedule_limit(handle)
        return InvalidError(
            f"{size} bytes are too many to be sent later on the bus {name!r}: such an event may take {limit} bytes; "
            "open it with a larger capacity",
            size=size,
            limit=limit,
        )
    there = [one.bytes for one in scheduled(handle)]
    return FullError(
        f"the bus {name!r} has {len(there)} events scheduled, of {sum(there)} bytes, and no room for more: wait until "
        "some are sent, cancel some, or open it with a larger capacity",
        scheduled=len(there),
        bytes=sum(there),
    )


def _check_names(system: str, kind: str, path: str) -> None:
    patterns.check_name(system, "system")
    patterns.check_name(kind, "kind")
    check_path(path)


def row_of(topic: int, system: str, kind: str, path: str, data: Any, extended: bytes) -> tuple[tuple[int, ...], bytes]:
    names = (system.encode(), kind.encode()) if topic == native.INLINE else (b"", b"")
    if isinstance(data, (bytes, bytearray, memoryview)):
        raw_path, body = path.encode(), bytes(data)
    else:
        raw_path, body = b"", encode(path, data)
    if topic != native.INLINE and not extended and not raw_path:
        return (topic, 0, 0, 0, 0, len(body)), body
    parts = (*names, extended, raw_path, body)
    return (topic, *map(len, parts)), b"".join(parts)
