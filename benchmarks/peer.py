"""The face that eventbus and every peer show to the harness."""

from __future__ import annotations

import operator
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.load import KIND, PATH, SYSTEM, Share

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class Topology:
    """Who talks to whom.

    Attributes:
        publishers: how many publishers there are.
        systems: the system that each subscriber hears, in the order of the subscribers.
        size: bytes of an encoded event.
        raw: whether the data is bytes, to be carried without JSON.
        sent: the systems that events are sent to, where every subscriber's system is a pattern that hears them all.
        prefetch: how many events one of the workers who share a system's events may fetch at once.
        manual: whether such a worker acknowledges each event by itself, where the peer can tell that apart.
    """

    publishers: int
    systems: tuple[str, ...]
    size: int
    raw: bool = False
    sent: tuple[str, ...] = ()
    prefetch: int = 1
    manual: bool = False

    @property
    def topics(self) -> tuple[str, ...]:
        """Each system that events are sent to, once."""
        return self.sent or tuple(dict.fromkeys(self.systems))

    @property
    def marked(self) -> tuple[str, ...]:
        """Systems of which every subscriber hears exactly one: where the handshake goes."""
        return self.sent[:1] or self.topics

    def listeners(self, system: str) -> list[int]:
        """Return the indexes of the subscribers that hear ``system``."""
        return [index for index, heard in enumerate(self.systems) if self.sent or heard == system]

    def share(self, subscriber: int, events: int) -> Share:
        """Return what one subscriber hears of ``events`` that each publisher sends round robin to the topics."""
        if self.sent:
            return Share(0, 1, events)
        topics = self.topics
        return Share(topics.index(self.systems[subscriber]), len(topics), events // len(topics))


class Endpoint:
    """One end of a medium, made and used in one worker process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what this end holds. Called when every event has been received."""


class Publisher(Endpoint):
    """The sending end."""

    send: Callable[[str, str, str, Any], object]
    """Send ``(system, kind, path, data)``; ``data`` may change once the call has returned, if it is no ``bytes``."""

    def wait_for_subscribers(self) -> None:
        """Return once all subscribers are connected, where the peer can tell; the handshake proves it for all peers."""

    def send_all(self, events: Iterable[Any]) -> None:
        """Send the data of each event to SYSTEM, one right after the other."""
        send = self.send
        for data in events:
            send(SYSTEM, KIND, PATH, data)

    def send_paced(self, events: Iterable[dict[str, Any]], every: float) -> None:
        """Send an event to SYSTEM each ``every`` nanoseconds, with the time in it from before it is sent."""
        send, now = self.send, time.monotonic_ns
        for data in paced(events, every):
            data["sent"] = now()
            send(SYSTEM, KIND, PATH, data)


def paced(events: Iterable[Any], every: float) -> Iterator[Any]:
    """Yield each event when its time has come, ``every`` nanoseconds after the one before it."""
    # Sleeping between events leaves the CPU to others, as a real publisher does; spinning would keep it warm.
    now = time.monotonic_ns
    start = now()
    for number, data in enumerate(events):
        early = start + number * every - now()
        if early > 0:
            time.sleep(early / 1e9)
        yield data


class Subscriber(Endpoint, ABC):
    """The receiving end."""

    @abstractmethod
    def received(self) -> Iterator[Any]:
        """Yield the data of each event heard, for ever."""


class Medium:
    """One connected set of publishers and subscribers: made in the harness, inherited by its forked workers.

    Attributes:
        files: a directory of its own, removed with the medium.
        round: bytes that it takes until it comes back to memory that it has used; 0 where it does at once. Memory that
            is used for the first time is given by the kernel page by page, which is no part of what is measured.
    """

    round = 0

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._leftovers = ExitStack()

    def __enter__(self) -> Self:
        with self._leftovers:
            directory = tempfile.TemporaryDirectory(prefix="eventbus-bench-")
            self.files = Path(self._leftovers.enter_context(directory))
            self.open(self._leftovers)
            self._leftovers = self._leftovers.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leftovers.close()

    def open(self, leftovers: ExitStack) -> None:
        """Make what must exist before the workers do, and leave with ``leftovers`` how each thing is removed."""

    def server_seconds(self) -> float:
        """Return the CPU seconds used so far by processes that are not workers."""
        return 0.0

    def publisher(self, index: int, /) -> Publisher:
        """Connect publisher ``index``, in its worker."""
        raise NotImplementedError

    def subscriber(self, index: int, /) -> Subscriber:
        """Connect subscriber ``index``, in its worker."""
        raise NotImplementedError


def serves_all(_topology: Topology) -> str | None:
    """The answer of a peer that can serve every topology."""
    return None


@dataclass(frozen=True)
class Peer:
    """One way to carry events.

    Attributes:
        name: as shown in the tables.
        missing: why it cannot be measured here, or ``None``.
        connect: makes its medium for a topology.
        refuses: says why it cannot serve a topology, or ``None``.
    """

    name: str
    missing: str | None
    connect: Callable[..., Medium]
    refuses: Callable[[Topology], str | None] = serves_all


def encoder(raw: bool) -> Callable[[tuple[str, str, str, Any]], Any]:
    """Return what turns ``(system, kind, path, data)`` into the one body that a peer carries."""
    return operator.itemgetter(3) if raw else orjson.dumps


def decoded(bodies: Iterable[Any], raw: bool) -> Iterator[Any]:
    """Turn bodies back into the data of their events."""
    if raw:
        return iter(bodies)
    loads = orjson.loads
    return (loads(body)[3] for body in bodies)
