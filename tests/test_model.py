"""A reference bus of some thirty lines, driven with the real one by generated operations."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import eventbus
from eventbus import FullError, InvalidError, Subscription

CAPACITY = 4096
PATH = "/p"

Record = tuple[str, str]  # system and data
Start = Literal["latest", "oldest"] | int


def size_of(record: Record) -> int:
    """Bytes in the ring: a header of four words, and the JSON without its outer brackets, rounded up to a word."""
    return 32 + -(-(len(orjson.dumps((PATH, record[1]))) - 2) // 8) * 8


@dataclass
class Reader:
    """What a subscription has to be: sequences from ``next`` on are unread, those in ``ready`` are read ahead."""

    system: str | None
    blocking: bool
    start: int
    next: int
    joined: int
    lost: int = 0
    ready: list[int] = field(default_factory=list)


class Reference:
    """The bus as a list: ``records[n]`` is the event n + 1, those from sequence ``oldest`` on are kept."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.oldest = 1
        self.readers: list[Reader] = []

    def used(self, first: int) -> int:
        return sum(size_of(record) for record in self.records[first - 1 :])

    def send(self, records: list[Record]) -> str:
        need = sum(map(size_of, records)) + 8
        if need > CAPACITY or any(size_of(record) > CAPACITY // 4 for record in records):
            return "invalid"
        if any(one.blocking and self.used(self.held(one)) + need > CAPACITY for one in self.readers):
            return "full"
        while self.used(self.oldest) + need > CAPACITY:
            self.oldest += 1
        self.records += records
        return "sent"

    def held(self, reader: Reader) -> int:
        """The first event that it hears and has yet to read, of those that are kept for it."""
        first, end = max(reader.next, reader.joined), len(self.records) + 1
        return next((number for number in range(first, end) if self.hears(reader, number)), end)

    def hears(self, reader: Reader, number: int) -> bool:
        return reader.system in (None, self.records[number - 1][0])

    def subscribe(self, system: str | None, blocking: bool, start: Start) -> Reader:
        joined = len(self.records) + 1
        first = start if isinstance(start, int) else 1 if start == "oldest" else joined
        reader = Reader(system, blocking, first, joined if start == "latest" else self.oldest, joined)
        reader.lost = max(0, self.oldest - first) if isinstance(start, int) else 0
        self.readers.append(reader)
        return reader

    def waiting(self, reader: Reader) -> list[int]:
        first = max(reader.next, self.oldest, reader.start)
        numbers = range(first, len(self.records) + 1)
        return [number for number in numbers if self.hears(reader, number)]

    def receive(self, reader: Reader, limit: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < limit:
            if not reader.ready:  # reads all there is ahead, and learns what it has lost
                gone = min(self.oldest, reader.joined) if reader.blocking else self.oldest
                reader.lost += max(0, gone - max(reader.next, reader.start))
                reader.ready, reader.next = self.waiting(reader), len(self.records) + 1
            if not reader.ready:
                break
            taken.append(reader.ready.pop(0))
        return taken


systems = st.sampled_from(["a", "b"])
records = st.tuples(systems, st.integers(0, 1100).map(lambda size: "x" * size))
small = st.tuples(systems, st.integers(0, 300).map(lambda size: "x" * size))
starts = st.one_of(st.sampled_from(["latest", "oldest"]), st.integers(1, 60))


class Model(RuleBasedStateMachine):
    """The same operations on both, and what each call returns."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = eventbus.open(f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}", capacity=CAPACITY, max_subscribers=6)
        self.reference = Reference()
        self.subscriptions: list[Subscription] = []

    def teardown(self) -> None:
        """The last one out."""
        self.bus.close()

    def outcome(self, call: Any) -> str:
        """What came of a send, in the reference's words."""
        try:
            call()
        except FullError:
            return "full"
        except InvalidError:
            return "invalid"
        return "sent"

    @rule(record=records)
    def send(self, record: Record) -> None:
        """One event of any size."""
        outcome = self.outcome(lambda: self.bus.send(record[0], "kind", PATH, record[1], timeout=0))
        assert outcome == self.reference.send([record])

    @rule(batch=st.lists(small, min_size=1, max_size=12))
    def send_many(self, batch: list[Record]) -> None:
        """Several at once."""
        events = [(system, "kind", PATH, data) for system, data in batch]
        outcome = self.outcome(lambda: self.bus.send_many(events, timeout=0))
        assert outcome == self.reference.send(batch)

    @precondition(lambda self: len(self.subscriptions) < 6)
    @rule(system=st.sampled_from(["a", "b", None]), overflow=st.sampled_from(["block", "drop"]), start=starts)
    def subscribe(self, system: str | None, overflow: Literal["block", "drop"], start: Start) -> None:
        """One more subscription, unless it were to start after the next event."""
        if isinstance(start, int) and start > len(self.reference.records) + 1:
            with pytest.raises(InvalidError, match="at most one past the last"):
                self.bus.subscribe(system or "**", overflow=overflow, start=start)
            return
        self.subscriptions.append(self.bus.subscribe(system or "**", overflow=overflow, start=start))
        self.reference.subscribe(system, overflow == "block", start)

    @precondition(lambda self: self.subscriptions)
    @rule(which=st.integers(0, 5), limit=st.sampled_from([1, 1, 3, 1000]))
    def receive(self, which: int, limit: int) -> None:
        """What one of them gets, event by event."""
        which %= len(self.subscriptions)
        events = self.subscriptions[which].receive_many(limit, timeout=0)
        expected = self.reference.receive(self.reference.readers[which], limit)
        assert [event.sequence for event in events] == expected
        assert [(event.system, event.data) for event in events] == [self.reference.records[n - 1] for n in expected]

    @precondition(lambda self: self.subscriptions)
    @rule(which=st.integers(0, 5))
    def close(self, which: int) -> None:
        """One leaves."""
        which %= len(self.subscriptions)
        self.subscriptions.pop(which).close()
        self.reference.readers.pop(which)

    @invariant()
    def counts_are_the_same(self) -> None:
        """Figures after every operation."""
        stats, reference = self.bus.stats(), self.reference
        assert (stats.sent, stats.used) == (len(reference.records), reference.used(reference.oldest))
        for subscription, reader in zip(self.subscriptions, reference.readers, strict=True):
            assert subscription.lost == reader.lost
            assert subscription.backlog == len(reader.ready) + len(reference.waiting(reader))


TestModel = Model.TestCase
TestModel.__doc__ = "Whatever is done in whatever order, the bus does what a list would do."
TestModel.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow],
)
