"""The events a benchmark sends, and the check that a subscriber heard every one of them in order."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import orjson

SYSTEM = "orders"
KIND = "order.created"
PATH = "/orders/123"

PROBE = -1
SETTLED = -2


class OrderError(AssertionError):
    """A subscriber heard another event than the one that was due."""


class Share(NamedTuple):
    """The numbers of each publisher that one subscriber hears: ``events`` of them, from ``first``, ``step`` apart."""

    first: int
    step: int
    events: int

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.events * self.step, self.step)

    @property
    def before(self) -> int:
        """The number that would come before the first."""
        return self.first - self.step

    def check_complete(self, last: int) -> None:
        """Raise `OrderError` if the stream ended at ``last``, before the whole share had come."""
        if last != self.before + self.events * self.step:
            raise OrderError(f"the stream ended after event {last}: look for a peer that closes too early")


class Load(ABC):
    """One kind of event: how it is made, told apart and checked.

    An event bears the index of its publisher and a number; PROBE and SETTLED are numbers of the handshake.
    """

    raw = False
    size: int

    @abstractmethod
    def events(self, publisher: int, numbers: Iterable[int]) -> Iterator[Any]:
        """Yield what may be the same object again, with the next number in it: encode it before asking for more."""

    def borne(self, number: int) -> int:
        """Return what event ``number`` says that its number is."""
        return number

    @abstractmethod
    def mark(self, data: Any) -> tuple[int, int]:
        """Return publisher and number of a received event."""

    @abstractmethod
    def check_one(self, received: Iterator[Any], share: Share) -> None:
        """Take the share of the only publisher from ``received``.

        Raises:
            OrderError: an event is missing, double or out of order.
        """

    def check(self, received: Iterator[Any], share: Share, publishers: int) -> None:
        """Take the share of every publisher from ``received``, interleaved as they come; raises as `check_one`."""
        if publishers == 1:
            self.check_one(received, share)
            return
        due = [share.first] * publishers
        for _ in range(share.events * publishers):
            data = next(received)
            publisher, number = self.mark(data)
            if number != self.borne(due[publisher]):
                raise wrong(due[publisher], number)
            due[publisher] = number + share.step


class JsonLoad(Load):
    """An order as JSON: about 100 bytes with its names, or filled up to ``size`` with a note."""

    def __init__(self, size: int = 0) -> None:
        self._fields: dict[str, Any] = {"order": 123, "total": 99.99, "publisher": 0, "number": 0, "sent": 0}
        bare = len(self._text())
        if size > bare:
            self._fields["note"] = ""
            self._fields["note"] = "n" * (size - len(self._text()))
        self.size = len(self._text())

    def _text(self) -> bytes:
        return orjson.dumps((SYSTEM, KIND, PATH, self._fields))

    def events(self, publisher: int, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        data = self._fields | {"publisher": publisher}
        for number in numbers:
            data["number"] = number
            yield data

    def mark(self, data: Any) -> tuple[int, int]:
        return data["publisher"], data["number"]

    def check_one(self, received: Iterator[Any], share: Share) -> None:
        due = share.before
        for due, data in zip(share.numbers, received, strict=False):
            if data["number"] != due:
                raise wrong(due, data["number"])
        share.check_complete(due)


class BytesLoad(Load):
    """Raw bytes of one size, no JSON on either side.

    Publisher and number stand in the first sixteen. The numbers come round again, because the same few objects are sent
    again and again: to make one for each event would cost every peer as much as a copy into its own memory.
    """

    raw = True
    _mark = struct.Struct("<qq")
    _round = 16

    def __init__(self, size: int) -> None:
        self.size = max(size, self._mark.size)

    def events(self, publisher: int, numbers: Iterable[int]) -> Iterator[bytes]:
        filler = bytes(self.size - self._mark.size)
        kept = {number: self._mark.pack(publisher, number) + filler for number in (PROBE, SETTLED, *range(self._round))}
        return (kept[self.borne(number)] for number in numbers)

    def borne(self, number: int) -> int:
        return number if number < 0 else number % self._round

    def mark(self, data: Any) -> tuple[int, int]:
        publisher, number = self._mark.unpack_from(data)
        return publisher, number

    def check_one(self, received: Iterator[Any], share: Share) -> None:
        due = share.before
        for due, data in zip(share.numbers, received, strict=False):
            if self._mark.unpack_from(data)[1] != self.borne(due) or len(data) != self.size:
                raise wrong(due, self._mark.unpack_from(data)[1])
        share.check_complete(due)


class EmptyLoad(BytesLoad):
    """No data at all: only the marks of the handshake have bytes, so only the number of events is checked."""

    def __init__(self) -> None:
        super().__init__(0)

    def events(self, publisher: int, numbers: Iterable[int]) -> Iterator[bytes]:
        for number in numbers:
            yield b"" if number >= 0 else self._mark.pack(publisher, number)

    def check_one(self, received: Iterator[Any], share: Share) -> None:
        if any(map(len, islice(received, share.events))):
            raise OrderError("an event without data came with some: look for a mix-up in this peer")


def wrong(due: int, number: int) -> OrderError:
    return OrderError(f"event {due} was due and event {number} came: look for a loss or a reordering in this peer")
