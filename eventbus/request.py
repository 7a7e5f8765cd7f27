"""Requests and their replies: how an event carries the address of whoever waits for an answer.

A request travels under its own kind with ``(request)`` behind it, which no pattern and no ``send`` can spell, and its
path has the identity of the request before it. So whether an event is a request is decided once per topic, like every
verdict, and costs other events nothing; subscribers see the kind and the path that were asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from eventbus.errors import ClosedError, InvalidError, RemoteError, SegmentError, UnavailableError
from eventbus.event import Event, check_path

MARK = "(request)"
REPLY, FAILURE = "reply", "error"
REQUEST_TIMEOUT = 5.0

Answer = Callable[[str, str, Any], bool]  # of an identity, a kind (REPLY or FAILURE) and data


class Request(Event):
    """An event that was sent with ``Bus.request``: somebody waits for ``reply``.

    Attributes:
        answered: whether it was replied to here.
    """

    answered = False
    _identity: str
    _answer: Answer

    def reply(self, data: Any = None) -> bool:
        """Answers; ``data`` is anything that ``Bus.send`` takes. Who gave up waiting does not hear it.

        Returns:
            True.

        Raises:
            As ``Bus.send``.
        """
        self.answered = self._answer(self._identity, REPLY, data)
        return self.answered

    def fail(self, kind: str, message: str) -> bool:
        """Answers with an error: a ``RemoteError`` is raised where the request was made."""
        self.answered = self._answer(self._identity, FAILURE, {"type": kind, "message": message})
        return self.answered

    def _replace(self, **changes: Any) -> Request:
        changed = super()._replace(**changes)
        changed.__dict__.update(self.__dict__)
        return changed


def opened(event: Event, answer: Answer) -> Event:
    """The event as it was asked, if it is one of a marked kind."""
    if not event.kind.endswith(MARK):
        return event
    identity, _, path = event.path.partition(" ") if isinstance(event.path, str) else ("", "", "")
    if not path:
        raise SegmentError(f"a request has the path {event.path!r}, which is none that was sent")
    request = Request._make(event._replace(kind=event.kind.removesuffix(MARK), path=path))
    request._identity, request._answer = identity, answer
    return request


def new_identity() -> str:
    """Of one request: 128 random bits."""
    return os.urandom(16).hex()


def reply_system(identity: str) -> str:
    """Where its answer is sent: one of sixteen systems, so that requesters do not fill the topic table."""
    return f"eventbus.reply.{identity[0]}"


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


def unanswered(bus: str, system: str, kind: str, path: str, timeout: float | None, closed: bool) -> Exception:
    """What is raised when no answer came."""
    asked = f"the request {system!r} {kind!r} {path!r}"
    if closed:
        return ClosedError(f"the bus {bus!r} was shut down before {asked} was answered")
    return UnavailableError(
        f"nobody on the bus {bus!r} answered {asked} within {timeout} s: see that somebody who replies is subscribed, "
        "or give it a longer timeout",
        system=system,
        kind=kind,
        path=path,
        timeout=timeout,
    )


def result_of(answer: Event, system: str, kind: str, path: str) -> Any:
    """The data of an answer.

    Raises:
        RemoteError: the answer is an error.
    """
    if answer.kind != FAILURE:
        return answer.data
    raise RemoteError(
        f"the request {system!r} {kind!r} {path!r} failed in process {answer.sender}: "
        f"{answer.data['type']}: {answer.data['message']}",
        type=answer.data["type"],
        text=answer.data["message"],
        sender=answer.sender,
    )
