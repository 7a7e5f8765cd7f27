"""Requests and their replies: how an event carries the address of whoever waits for an answer.

A request travels under its own kind with ``(request)`` behind it, which no pattern and no ``send`` can spell, and its
path has the identity of the request before it. So whether an event is a request is decided once per topic, like every
verdict, and costs other events nothing; subscribers see the kind and the path that were asked.

An identity begins with the inbox that the answer goes to, and is the whole path of the answer. Behind an ``@`` it has
the time until which the answer is waited for, in nanoseconds of the monotonic clock, as a hexadecimal number.
"""

from __future__ import annotations

from typing import Any, Protocol

from eventbus.errors import ClosedError, InvalidError, RemoteError, SegmentError, UnavailableError
from eventbus.event import NO_HEADERS, Event, Unreadable, check_path, decode, split

MARK = "(request)"
REPLY, FAILURE = "reply", "error"
REQUEST_TIMEOUT = 5.0

INBOXES = "eventbus.reply."
INBOX_LENGTH = 2  # as fast.h has it


class Answering(Protocol):
    """The bus that a request came by: of an identity, a kind (REPLY or FAILURE), and data."""

    def _answer(self, identity: str, kind: str, data: Any, patient: bool = True, /) -> bool: ...

    async def _aanswer(self, identity: str, kind: str, data: Any) -> bool: ...


class Request(Event):
    """An event that was sent with ``Bus.request``: somebody waits for ``reply``.

    Attributes:
        answered: whether it was replied to here.
    """

    answered = False
    _identity: str
    _bus: Answering

    @property
    def deadline(self) -> float | None:
        """Until when whoever asked waits for ``reply``, in seconds of ``time.monotonic()``; None if for ever."""
        until = deadline_of(self._identity)
        return None if until is None else until / 1e9

    def reply(self, data: Any = None) -> bool:
        """Answers; ``data`` is anything that ``Bus.send`` takes. Who gave up waiting does not hear it.

        Returns:
            True.

        Raises:
            EventBusError: as ``Bus.send``.
        """
        self.answered = self._bus._answer(self._identity, REPLY, data)
        return self.answered

    async def areply(self, data: Any = None) -> bool:
        """``reply`` in an event loop, which goes on while there is no room."""
        self.answered = await self._bus._aanswer(self._identity, REPLY, data)
        return self.answered

    def fail(self, kind: str, message: str, patient: bool = True) -> bool:
        """Answers with an error: a ``RemoteError`` is raised where the request was made."""
        self.answered = self._bus._answer(self._identity, FAILURE, {"type": kind, "message": message}, patient)
        return self.answered

    async def afail(self, kind: str, message: str) -> bool:
        """``fail`` in an event loop, which goes on while there is no room."""
        self.answered = await self._bus._aanswer(self._identity, FAILURE, {"type": kind, "message": message})
        return self.answered

    def _replace(self, **changes: Any) -> Request:
        changed = super()._replace(**changes)
        changed.__dict__.update(self.__dict__)
        return changed


def deadline_of(identity: str) -> int | None:
    """Until when the answer is waited for; None if for ever."""
    _, _, until = identity.partition("@")
    try:
        return int(until, 16) if until else None
    except ValueError:
        return None


def opened(event: Event, bus: Any) -> Event:
    """The event as it was asked, if it is one of a marked kind."""
    if not event.kind.endswith(MARK):
        return event
    identity, _, path = event.path.partition(" ") if isinstance(event.path, str) else ("", "", "")
    if not identity or not path:
        raise SegmentError(f"a request has the path {event.path!r}, which is none that was sent")
    request = Request._make(event._replace(kind=event.kind.removesuffix(MARK), path=path))
    request._identity, request._bus = identity, bus
    return request


def received(fields: tuple[Any, ...], bus: Any) -> Event | Unreadable:
    """The event that has these fields, as it was asked. With None as its path, all of its text stands for its data."""
    event = Event._make(fields)
    try:
        if bytes in map(type, fields[:3]):
            raise ValueError("a name or the path is not UTF-8")
        if event.headers is None:
            raise ValueError("its headers are not what was sent")
        if event.path is None:
            path, data = decode(event.data)
            event = event._replace(path=path, data=data)
        return opened(event, bus)
    except (ValueError, SegmentError) as error:
        return Unreadable(_known(event, bus), str(error))


def _known(event: Event, bus: Any) -> Event:
    path, data = split(event.data) if event.path is None else (event.path, event.data)
    system, kind, path = (
        name.decode(errors="replace") if isinstance(name, bytes) else name for name in (event.system, event.kind, path)
    )
    headers = NO_HEADERS if event.headers is None else event.headers
    known = event._replace(system=system, kind=kind, path=path or "?", data=data, headers=headers)
    try:
        return opened(known, bus)
    except SegmentError:
        return known


def reply_system(identity: str) -> str:
    """Where its answer is sent: one of 256 systems, so that requesters do not fill the topic table."""
    return INBOXES + identity[:INBOX_LENGTH]


def addressed(path: str, identity: str) -> str:
    """The path as it is sent."""
    check_path(path)
    addressed_path = f"{identity} {path}"
    check_path(addressed_path)
    return addressed_path


def marked(kind: str) -> str:
    """The kind as it is sent."""
    if len(kind.encode()) + len(MARK) > 255:
        raise InvalidError(f"kind {kind!r} is too long for a request: the limit is {255 - len(MARK)} bytes", kind=kind)
    return kind + MARK


def result_of(
    answer: Event | SegmentError | None,
    bus: str,
    system: str,
    kind: str,
    path: str,
    timeout: float | None,
    closed: bool,
) -> Any:
    """The data of an answer.

    Raises:
        RemoteError: the answer is an error.
        SegmentError: it cannot be read.
        UnavailableError, ClosedError: there is none.
    """
    asked = f"the request {system!r} {kind!r} {path!r}"
    if answer is None and closed:
        raise ClosedError(f"the bus {bus!r} was shut down before {asked} was answered")
    if answer is None:
        raise UnavailableError(
            f"nobody on the bus {bus!r} answered {asked} within {timeout} s: see that somebody who replies is "
            "subscribed, or give it a longer timeout",
            system=system,
            kind=kind,
            path=path,
            timeout=timeout,
        )
    if isinstance(answer, SegmentError):
        raise answer
    if answer.kind != FAILURE:
        return answer.data
    raise RemoteError(
        f"{asked} failed in process {answer.sender}: {answer.data['type']}: {answer.data['message']}",
        type=answer.data["type"],
        text=answer.data["message"],
        sender=answer.sender,
    )
