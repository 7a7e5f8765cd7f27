"""Messages: an event as headers and payload at NATS, and back, with nothing believed that comes from there. Pure.

The payload is the JSON text, or the bytes as they are. All else stands in headers, percent-encoded where it must be:

=======================  =========================================================================
``Eb``                   epoch, sequence, time, sender, ``j`` for JSON or ``b`` for bytes, run, hops
``Eb-Path``              the path
``Eb-H-`` and a name     one of the event's own headers
=======================  =========================================================================

Hops are the origins that the event passed, the exporting one last, with commas in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from eventbus.bridge import subjects
from eventbus.errors import InvalidError
from eventbus.event import NO_HEADERS, OPTIONS, Brought, Event, check_path, dumps, extension, loads

MAIN, PATH, OWN = "Eb", "Eb-Path", "Eb-H-"
LAST: Final = "Nats-Expected-Last-Sequence"  # what a server is told of the message before, which it leaves in place
HOPS_LIMIT: Final = 8
HOP: Final = "/"  # between the names that an event's origin has once it was relayed

_PLAIN: Final = re.compile(r"[!-$&-~]+\Z")  # printable ASCII without blanks and '%': written as it is
_MAIN: Final = re.compile(
    r"([0-9a-f]{32}) ([0-9]{1,19}) ([0-9]{1,19}) ([0-9]{1,10}) ([jb]) ([0-9]{1,19}) ([A-Za-z0-9_,-]+)\Z"
)
_PIDS: Final = 1 << 32


class Stamp(NamedTuple):
    """Who sends: the epoch and the run of a bridge, and what hops its own events have."""

    epoch: str
    run: int
    origin: str


class Place(NamedTuple):
    """Where in the life of its origin a message stands."""

    epoch: str
    run: int
    sequence: int

    def covers(self, other: Place) -> bool:
        """Whether whoever is here has passed the other. A bus that was made anew has another epoch, and a later run."""
        return other.sequence <= self.sequence if other.epoch == self.epoch else other.run < self.run


class Message(NamedTuple):
    """What a message says.

    Attributes:
        place: of the bus and the bridge that exported it.
        hops: the origins that it passed, the one whose stream it is last.
        event: what is to be sent here.
    """

    place: Place
    hops: tuple[str, ...]
    event: Brought

    @property
    def origin(self) -> str:
        """What the event has as its origin here."""
        return HOP.join(self.hops)


def headers_of(event: Event, stamp: Stamp) -> dict[str, str]:
    """The headers of a message."""
    form = "b" if type(event.data) is bytes else "j"
    hops = f"{event.origin.replace(HOP, ',')},{stamp.origin}" if event.origin else stamp.origin
    path = event.path
    found = {
        MAIN: f"{stamp.epoch} {event.sequence} {event.time} {event.sender} {form} {stamp.run} {hops}",
        PATH: path if _PLAIN.match(path) else quote(path, safe=""),
    }
    if event.headers:
        found.update((OWN + quote(name, safe=""), quote(value, safe=" /:;,=")) for name, value in event.headers.items())
    return found


def payload_of(event: Event) -> bytes:
    """The payload of a message."""
    return event.data if type(event.data) is bytes else dumps(event.data, None, OPTIONS)


def place_of(headers: Mapping[str, str] | None) -> Place:
    """Where a message stands.

    Raises:
        InvalidError: no bridge wrote it.
    """
    epoch, sequence, _, _, _, run, _ = _main(headers)
    return Place(epoch, int(run), int(sequence))


def read(subject: str, headers: Mapping[str, str] | None, payload: bytes) -> Message:
    """What a message says.

    Raises:
        InvalidError: no bridge wrote it, or what it says cannot be an event; ``details["reason"]`` is one of few words.
    """
    epoch, sequence, time, sender, form, run, passed = _main(headers)
    assert headers is not None
    hops = tuple(passed.split(","))
    _, origin, system, kind = _topic(subject)
    if hops[-1] != origin or len(hops) > HOPS_LIMIT:
        raise _rejected("hops", f"its hops are {passed!r}, and its subject is {origin}'s")
    path = _decoded(headers.get(PATH, ""), "path")
    own = NO_HEADERS
    if len(headers) - (LAST in headers) > 2:
        own = {
            _decoded(name[len(OWN) :], "a header's name"): _decoded(value, "a header")
            for name, value in headers.items()
            if name.startswith(OWN)
        }
        _check(extension, own)
    _check(check_path, path)
    data = payload if form == "b" else _data(payload)
    event = Brought(system, kind, path, data, own, int(time), int(sender) % _PIDS)
    return Message(Place(epoch, int(run), int(sequence)), hops, event)


def _main(headers: Mapping[str, str] | None) -> tuple[str, ...]:
    found = _MAIN.match(headers.get(MAIN, "") if headers else "")
    if found is None:
        raise _rejected("foreign", "it has no header 'Eb' as a bridge writes it")
    return found.groups()


def _topic(subject: str) -> subjects.Topic:
    try:
        return subjects.parsed(subject)
    except InvalidError as error:
        raise _rejected("subject", error.message) from error


def _decoded(text: str, what: str) -> str:
    if "%" not in text:
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise _rejected("encoding", f"{what} is not UTF-8") from error


def _check(check: object, value: object) -> None:
    try:
        check(value)  # type: ignore[operator]
    except InvalidError as error:
        raise _rejected("event", error.message) from error


def _data(payload: bytes) -> object:
    try:
        return loads(payload)
    except ValueError as error:
        raise _rejected("json", f"its payload is no JSON: {error}") from error


def _rejected(reason: str, why: str) -> InvalidError:
    return InvalidError(why, reason=reason)
