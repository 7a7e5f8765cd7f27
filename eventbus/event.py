"""Event, and how data becomes bytes and bytes become data: the only user of orjson."""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, SupportsIndex, TypeVar

import orjson

from eventbus._fast import Fields
from eventbus.errors import InvalidError

PATH_LIMIT = 4096
HEADERS_LIMIT = 4096

dumps, loads = orjson.dumps, orjson.loads
OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class Headers(dict[str, str]):
    """The headers of an event: a dict that nobody can change. ``dict(headers)`` is one that can be."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the headers of an event cannot be changed: dict(event.headers) can")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Headers], tuple[dict[str, str]]]:
        return Headers, (dict(self),)


NO_HEADERS: Mapping[str, str] = Headers()


Self = TypeVar("Self", bound="Event")


class Event(Fields):
    """One event as a subscriber gets it. Immutable.

    It is the sequence of its fields, in their order: it unpacks, compares, pickles and is hashed as their tuple.

    Attributes:
        system, kind: the topic that it was sent to.
        path: what it is about.
        data: what orjson decodes from what was sent, or the ``bytes`` that were sent; of a subscription with
            ``view=True`` a read-only ``memoryview`` of these, which pickles and copies of the event have as bytes.
        sequence: its number on this bus, from 1, without a gap.
        time: nanoseconds since the epoch, when it was sent.
        sender: the sender's pid, for people.
        deliveries: 1, more after a redelivery in a group.
        headers: what was sent as such, names and values in their order; nobody can change it.
        origin: "" for what was sent on this bus, else the name of the bus that a bridge brought it from.
    """

    __slots__ = ()
    __match_args__ = ("system", "kind", "path", "data", "sequence", "time", "sender", "deliveries", "headers", "origin")
    _fields = __match_args__
    _field_defaults: Mapping[str, Any] = {"deliveries": 1, "headers": NO_HEADERS, "origin": ""}

    def __new__(
        cls: type[Self],
        system: str,
        kind: str,
        path: str,
        data: Any,
        sequence: int,
        time: int,
        sender: int,
        deliveries: int = 1,
        headers: Mapping[str, str] = NO_HEADERS,
        origin: str = "",
    ) -> Self:
        return super().__new__(cls, system, kind, path, data, sequence, time, sender, deliveries, headers, origin)

    @classmethod
    def _make(cls: type[Self], fields: Iterable[Any]) -> Self:
        return Fields.__new__(cls, *fields)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def _replace(self: Self, **changes: Any) -> Self:
        changed = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise TypeError(f"an event has no such fields: {', '.join(changes)}")
        return changed

    __replace__ = _replace

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def __add__(self, other: Sequence[Any]) -> tuple[Any, ...]:
        return (*self, *other) if isinstance(other, (tuple, Event)) else NotImplemented

    def __radd__(self, other: Sequence[Any]) -> tuple[Any, ...]:
        return (*other, *self) if isinstance(other, tuple) else NotImplemented

    def count(self, value: Any) -> int:
        """How many of its fields equal this."""
        return tuple(self).count(value)

    def index(self, value: Any, start: int = 0, stop: int = sys.maxsize) -> int:
        """Which of its fields is the first that equals this; ValueError if none does."""
        return tuple(self).index(value, start, stop)

    def __getnewargs__(self) -> tuple[Any, ...]:
        data = bytes(self.data) if isinstance(self.data, memoryview) else self.data
        return (*self[:3], data, *self[4:])

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...] | str:
        return super().__reduce_ex__(max(2, operator.index(protocol)))  # the first one that asks for arguments

    @property
    def deadline(self) -> float | None:
        """Until when whoever asked waits for ``reply``, in seconds of ``time.monotonic()``; None where nobody does."""
        return None

    def reply(self, data: Any = None) -> bool:
        """Answers a request.

        Raises:
            InvalidError: the event was sent with ``send``, so nobody waits for an answer.
        """
        raise InvalidError(f"the event {self.sequence} is no request: reply to what was sent with bus.request()")

    async def areply(self, data: Any = None) -> bool:
        """``reply`` in an event loop."""
        return self.reply(data)


Sequence.register(Event)


class Brought(NamedTuple):
    """One event of another bus, as a bridge sends it here.

    Attributes:
        system, kind, path, data, headers: what was sent there.
        time, sender: when, and by whom.
    """

    system: str
    kind: str
    path: str
    data: Any
    headers: Mapping[str, str]
    time: int
    sender: int


class Unreadable(NamedTuple):
    """A record that is no event.

    Attributes:
        event: what is known of it; the data are its bytes as they are.
        why: what is wrong with it.
    """

    event: Event
    why: str


def check_path(path: object) -> bytes:
    """The path as UTF-8.

    Raises:
        InvalidError: it is not a str, or does not have 1 to 4096 bytes.
    """
    if not isinstance(path, str):
        raise InvalidError(f"path must be a str, not {type(path).__name__}", path=path)
    if not path:
        raise InvalidError("path must not be empty", path=path)
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"path cannot be encoded as UTF-8: {error}", path=path) from error
    if len(encoded) > PATH_LIMIT:
        size = len(encoded)
        raise InvalidError(f"path has {size} bytes, the limit is {PATH_LIMIT}", size=size, limit=PATH_LIMIT)
    return encoded


def are_headers(headers: object) -> bool:
    """Whether it can be at first sight."""
    return headers is None or isinstance(headers, Mapping)


def check_headers(headers: Any) -> None:
    """Raises InvalidError unless it is a mapping, or None."""
    if not are_headers(headers):
        raise InvalidError(f"headers must be a mapping of str to str, not {type(headers).__name__}", headers=headers)


def extension(headers: Mapping[Any, Any] | None, origin: str = "") -> bytes:
    """What a record carries beside path and data, as ``eventbus.h`` has it; nothing for neither headers nor origin.

    Raises:
        InvalidError: a name or a value is no str, or they are too long.
    """
    texts = [] if headers is None else _header_texts(headers)
    return b"\xff".join((origin.encode(), *texts)) if origin or texts else b""


def _header_texts(headers: Mapping[Any, Any]) -> list[bytes]:
    texts: list[bytes] = []
    for name, value in headers.items():
        if not isinstance(name, str) or not name:
            raise InvalidError(f"the name of a header must be a str of at least one character, not {name!r}", name=name)
        if not isinstance(value, str):
            raise InvalidError(f"the header {name!r} must be a str, not {type(value).__name__}", name=name, value=value)
        try:
            texts += name.encode(), value.encode()
        except UnicodeEncodeError as error:
            raise InvalidError(f"the header {name!r} cannot be encoded as UTF-8: {error}", name=name) from error
    size = sum(map(len, texts))
    if size > HEADERS_LIMIT:
        raise InvalidError(
            f"the headers have {size} bytes, the limit is {HEADERS_LIMIT}: send what is longer as data",
            size=size,
            limit=HEADERS_LIMIT,
        )
    return texts


def encode(path: str, data: Any) -> bytes:
    """The JSON text ``[path,data]``, what a record's body is made of.

    Raises:
        InvalidError: orjson cannot encode the data.
    """
    try:
        return dumps((path, data), None, OPTIONS)
    except TypeError as error:
        name = type(data).__name__
        raise InvalidError(
            f"data of type {name} cannot be encoded as JSON: {error}; send what orjson encodes, or bytes", type=name
        ) from error


def decode(text: bytes) -> tuple[str, Any]:
    """Path and data of the text of one event, which has lost its brackets.

    Raises:
        ValueError: it is not the text of one event.
        MemoryError: there is not enough to say so.
    """
    try:
        values = loads(b"[%b]" % text)
    except orjson.JSONDecodeError as error:
        # Of the bracket, which stands at 0, orjson complains only if the text is not UTF-8, or it had no memory for it.
        if error.pos == 0 and _is_utf8(text):
            raise MemoryError(error.msg) from None
        raise ValueError(f"its text is no JSON, {error}; an orjson.Fragment is sent as it is") from error
    if len(values) != 2 or not isinstance(values[0], str):
        raise ValueError("its text is not a path and data; an orjson.Fragment is sent as it is")
    return values[0], values[1]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


_PATH = re.compile(rb'("(?:[^"\\]|\\.)*"),', re.DOTALL)


def split(text: bytes) -> tuple[str, bytes]:
    """The path at the beginning of a text that cannot be decoded, and what follows it; "" if there is none."""
    found = _PATH.match(text, 0, 6 * PATH_LIMIT + 3)  # each byte of a path may be escaped
    try:
        return (loads(found[1]), text[found.end() :]) if found else ("", text)
    except orjson.JSONDecodeError:
        return "", text
