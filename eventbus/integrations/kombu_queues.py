"""Where a kombu channel takes messages from: a queue that is kept for all is a group, a passing one a subscription."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote
from zlib import crc32

from eventbus import Bus, Event, InvalidError, SegmentError, Subscription

IN_HAND = 256  # that one member of a group may have
_BUCKETS = 1024  # passing queues have names by the thousand, and the table of topics ends
_LABEL = 63  # bytes of a group's name

_log = logging.getLogger("eventbus.kombu")


def segment(text: str) -> str:
    """Any text as one segment of a system."""
    return quote(text, safe="").replace(".", "%2E") or "%"


def words(text: str) -> str:
    """A routing key as segments."""
    return ".".join(map(segment, text.split(".")))


def system_of(queue: str, priority: int) -> str:
    """The system of what waits in a queue."""
    return f"kombu.queue.{segment(queue)}.{priority}"


def address_of(queue: str) -> str:
    """The system in which a passing queue hears what is sent to it by name; others hear the same one."""
    return f"kombu.direct.{crc32(queue.encode()) % _BUCKETS}"


def route_of(exchange: str, key: str) -> str:
    """The system in which passing queues hear what is sent to an exchange."""
    return f"kombu.exchange.{segment(exchange)}.{words(key)}"


def heard_from(exchange: str, how: str, key: str) -> str:
    """The pattern of a binding."""
    if how == "fanout":
        return f"kombu.exchange.{segment(exchange)}.**"
    if how == "topic":
        signs = {"*": "*", "#": "**"}
        key = ".".join(signs.get(word) or segment(word) for word in key.split("."))
        return f"kombu.exchange.{segment(exchange)}.{key}"
    return route_of(exchange, key)


def group_of(queue: str, priority: int) -> str:
    """The group that keeps what waits in a queue; of a long name a part, and what tells it apart."""
    name = f"{queue}!{priority}" if priority else queue
    if len(name.encode()) <= _LABEL:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name.encode()[: _LABEL - 17].decode(errors='ignore')}~{digest}"


class Finishing(Protocol):
    """What is left to do with a message that was taken."""

    def ack(self) -> None:
        """It is done."""

    def requeue(self) -> None:
        """It is to come again."""


class Taken(NamedTuple):
    """A message in hand."""

    event: Event
    finishing: Finishing


class Source(Protocol):
    """What messages are taken from, one at a time."""

    def take(self) -> Taken | None:
        """The next message; None if there is none now."""

    def arm(self) -> bool:
        """Whether one of ``watched`` becomes readable with the next message; False when ``take`` is to be called."""

    def watched(self) -> Iterator[Subscription]:
        """What has the descriptors."""

    def close(self) -> None:
        """Gives back what is in hand."""


class _Hand:
    """A member of a group and what it has in hand. Any thread may finish a message."""

    def __init__(self, member: Subscription) -> None:
        self.member = member
        self.sequences: set[int] = set()

    def take(self) -> Event | None:
        self.member.claim_at_most(len(self.sequences) + 1)  # type: ignore[attr-defined]  # no more: others wait, too
        event = self.member.receive(0)
        if event is not None:
            self.sequences.add(event.sequence)
        return event


class _Held(NamedTuple):
    hand: _Hand
    event: Event

    def ack(self) -> None:
        self.hand.member.ack(self.event)
        self.hand.sequences.discard(self.event.sequence)

    def requeue(self) -> None:
        self.hand.member.reject(self.event)
        self.hand.sequences.discard(self.event.sequence)


class Kept:
    """What one channel takes from a queue that is kept for all: as a member of its groups, the highest priority first.

    A member may have 256 messages in hand; where more are, as tasks that wait for their time in a worker, further
    members join.
    """

    def __init__(self, bus: Bus, queue: str, priorities: list[int]) -> None:
        self._bus = bus
        self._queue = queue
        self._hands: list[tuple[int, list[_Hand]]] = [(priority, []) for priority in priorities]
        for priority, hands in self._hands:
            self._join(priority, hands)

    def _join(self, priority: int, hands: list[_Hand]) -> _Hand:
        group = group_of(self._queue, priority)
        system = system_of(self._queue, priority)
        hands.append(_Hand(self._bus.subscribe(system, group=group, ack="manual", prefetch=IN_HAND)))
        return hands[-1]

    def take(self) -> Taken | None:
        for priority, hands in self._hands:
            free = next((hand for hand in hands if len(hand.sequences) < IN_HAND), None) or self._join(priority, hands)
            try:
                event = free.take()
            except SegmentError as error:
                if "sequence" not in error.details:
                    raise
                _log.error("a message of the queue %r is a dead letter: %s", self._queue, error.message)
                return self.take()
            if event is not None:
                return Taken(event, _Held(free, event))
            if free.member.closed:
                raise ConnectionResetError(f"the queue {self._queue!r} was deleted, or its bus shut down")
        return None

    def arm(self) -> bool:
        return all(member.arm() for member in self.watched())

    def watched(self) -> Iterator[Subscription]:
        for _, hands in self._hands:
            for hand in hands:
                if len(hand.sequences) < IN_HAND:
                    yield hand.member
                    break

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand."""
        return not any(hand.sequences for _, hands in self._hands for hand in hands)

    def close(self) -> None:
        for _, hands in self._hands:
            for hand in hands:
                hand.member.close()


class Passing:
    """A queue of one process, which goes with it: what is sent to it by name, and what its bindings hear.

    It holds nobody up. What is not taken before the ring has gone round is lost, counted, and told to the log.
    """

    def __init__(self, bus: Bus, name: str, seconds: float | None = None) -> None:
        self._bus = bus
        self._name = name
        self._seconds = seconds
        self._patterns = [address_of(name)]
        self._left: deque[Event] = deque()  # of the subscription before the last binding, and what is to come again
        self._after = 0
        self._lost = 0
        self._subscription = self._subscribe()

    def _subscribe(self) -> Subscription:
        return self._bus.subscribe(
            self._patterns, overflow="drop", name=self._name.encode()[:60].decode("ascii", "replace")
        )

    def bind(self, pattern: str) -> None:
        """Hears that from now on, too."""
        if pattern not in self._patterns:
            self._patterns.append(pattern)
            self._exchange()

    def unbind(self, pattern: str) -> None:
        """Hears that no more."""
        if pattern in self._patterns:
            self._patterns.remove(pattern)
            self._exchange()

    def _exchange(self) -> None:
        """Begins to hear by the new patterns before it ends to by the old ones."""
        before, self._subscription = self._subscription, self._subscribe()
        while events := before.receive_many(IN_HAND, 0):
            self._left.extend(event for event in events if event.sequence > self._after)
        if self._left:
            self._after = max(self._after, self._left[-1].sequence)
        before.close()

    def take(self) -> Taken | None:
        while (event := self._left.popleft() if self._left else self._next()) is not None:
            if self._is_for_it(event):
                return Taken(event, _Passed(self, event))
        return None

    def _next(self) -> Event | None:
        event = self._subscription.receive(0)
        while event is not None and event.sequence <= self._after:
            event = self._subscription.receive(0)
        if event is None and self._subscription.closed:
            raise ConnectionResetError(f"the bus of the queue {self._name!r} was shut down")
        if self._subscription.lost > self._lost:
            lost, self._lost = self._subscription.lost - self._lost, self._subscription.lost
            _log.warning("the queue %r was not read for a whole ring: up to %d messages are lost", self._name, lost)
        return event

    def _is_for_it(self, event: Event) -> bool:
        if event.system == self._patterns[0] and event.path != f"/{self._name}":
            return False
        return self._seconds is None or time.time() - event.time / 1e9 < self._seconds

    def again(self, event: Event) -> None:
        """It comes again, before all others."""
        self._left.appendleft(event._replace(deliveries=event.deliveries + 1))

    def arm(self) -> bool:
        return not self._left and self._subscription.arm()

    def watched(self) -> Iterator[Subscription]:
        yield self._subscription

    @property
    def size(self) -> int:
        """How many messages wait."""
        return len(self._left) + self._subscription.backlog

    def purge(self) -> int:
        """Drops what waits, and says how many messages that were."""
        count = 0
        while self.take() is not None:
            count += 1
        return count

    def close(self) -> None:
        self._subscription.close()


class _Passed(NamedTuple):
    queue: Passing
    event: Event

    def ack(self) -> None:
        pass

    def requeue(self) -> None:
        self.queue.again(self.event)


def keep(bus: Bus, queue: str, priority: int, max_deliveries: int) -> None:
    """Makes the group of a queue: from now on nothing that is sent to it is lost."""
    bus.group(group_of(queue, priority), system_of(queue, priority), max_deliveries=max_deliveries)


def forget(bus: Bus, queue: str, priorities: list[int]) -> None:
    """Removes the groups of a queue with what waits in them; somebody else may have been faster."""
    for priority in priorities:
        try:
            bus.remove_group(group_of(queue, priority))
        except InvalidError:
            _log.debug("the queue %r was deleted by somebody else", queue)


def waiting(bus: Bus, queue: str, priorities: list[int]) -> int:
    """How many messages nobody has taken, or somebody has given back."""
    names = {group_of(queue, priority) for priority in priorities}
    return sum(group.backlog + group.returned for group in bus.stats().groups if group.name in names)


def purged(bus: Bus, queue: str, priorities: list[int]) -> int:
    """Takes what nobody has in hand, and says how many messages that were."""
    count = 0
    for priority in priorities:
        options: dict[str, Any] = {"group": group_of(queue, priority), "ack": "auto", "prefetch": IN_HAND}
        with bus.subscribe(system_of(queue, priority), **options) as member:
            while events := member.receive_many(IN_HAND, 0):
                count += len(events)
    return count
