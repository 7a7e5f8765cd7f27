"""Event, and how data becomes bytes and bytes become data: the only user of orjson."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from eventbus.errors import InvalidError

PATH_LIMIT = 4096

dumps, loads = orjson.dumps, orjson.loads
OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class Event(NamedTuple):
    """One event as a subscriber gets it. Immutable.

    Attributes:
        system, kind: the topic that it was sent to.
        path: what it is about.
        data: what orjson decodes from what was sent, or the ``bytes`` that were sent.
        sequence: its number on this bus, from 1, without a gap.
        time: nanoseconds since the epoch, when it was sent.
        sender: the sender's pid, for people.
        deliveries: 1, more after a redelivery in a group.
    """

    system: str
    kind: str
    path: str
    data: Any
    sequence: int
    time: int
    sender: int
    deliveries: int = 1

    def __hash__(self) -> int:
        """That of its fields. From CPython 3.14 on a tuple keeps its own, which those that C makes here do not have."""
        return hash(tuple(self))

    def reply(self, data: Any = None) -> bool:
        """Answers a request.

        Raises:
            InvalidError: the event was sent with ``send``, so nobody waits for an answer.
        """
        raise InvalidError(f"the event {self.sequence} is no request: reply to what was sent with bus.request()")


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
