"""What C read in one crossing, into events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

from eventbus._reader import Beside, Head, SubscriptionHandle
from eventbus.errors import SegmentError
from eventbus.event import Event, decode
from eventbus.request import MARK, Answer, opened

_new_event = tuple.__new__  # what Event._make does, without a Python frame for each event

Unpacked = tuple[Iterator[object], Iterator[Event]]
"""Something that has as many items left as there are events left, and the events, made as they are asked for."""


class Unpacker:
    """Makes the events of one subscription."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._systems: dict[int, str] = {}
        self._kinds: dict[int, str] = {}
        self._asked: dict[int, str] = {}  # the marked kinds of requests, which are never in _kinds

    def learn(self, topic: int, system: str, kind: str) -> None:
        """The names of a topic that is heard."""
        kinds = self._asked if kind.endswith(MARK) else self._kinds
        self._systems[topic], kinds[topic] = system, kind

    def events(self, handle: SubscriptionHandle, fields: tuple[int, ...]) -> Unpacked:
        """The batch that was read last.

        Args:
            handle: whose batch it is; its buffer begins with the JSON array.
            fields: those of its ``Head``, in order.

        Raises:
            SegmentError: the ring does not hold what was sent; it names the sequences of the batch.
        """
        length, sequence, _, time, texts, _, topic, sender, _, _, deliveries, _, status = fields
        try:
            values = decode(handle.buffer[:length]) if texts else []
            if status == 1 and len(values) == 2 and topic in self._kinds:  # what a dialogue is made of
                path, data = values
                row = (self._systems[topic], self._kinds[topic], path, data, sequence, time, sender, deliveries)
                single = iter((_new_event(Event, row),))
                return single, single
            head = Head._make(fields)
            if len(values) != 2 * head.json_count:
                raise SegmentError(f"{len(values)} values came with {head.json_count} events")
            return self._several(handle, head, values)
        except SegmentError as error:
            head = Head._make(fields)
            raise SegmentError(
                f"the events {head.first_sequence} to {head.last_sequence} of {handle.bus.what} are not what was sent: "
                f"{error.message}",
                first=head.first_sequence,
                last=head.last_sequence,
            ) from error

    def _several(self, handle: SubscriptionHandle, head: Head, values: list[Any]) -> Unpacked:
        count, first, last = max(head.status, 1), head.first_sequence, head.last_sequence
        counter = iter(range(first, last + 1) if last - first == count - 1 else handle.sequences(count))
        topics = handle.topics(count) if head.many_topics else repeat(head.first_topic, count)
        senders = handle.senders(count) if head.many_senders else repeat(head.first_sender)
        deliveries = repeat(1) if head.deliveries == 1 else chain((head.deliveries,), repeat(1))
        beside = handle.beside(head.beside_count) if head.beside_count else []
        named = bool(beside) and any(row.names for row in beside)
        contents: tuple[Iterable[str], Iterable[Any]]
        if named or (beside and head.json_count):
            names, contents = self._merged(beside, topics, values)
        else:
            pairs = iter(values)  # of which zip takes a path and its data in turn
            names = self._names(head, topics)
            contents = _columns([row[2:] for row in beside]) if beside else (pairs, pairs)
        rows = zip(*names, *contents, counter, handle.times(count), senders, deliveries, strict=False)
        ready = map(_new_event, repeat(Event), rows)
        if not self._asked and not named:
            return counter, ready
        events = iter([opened(event, self._answer) for event in ready])
        return events, events

    def _names(self, head: Head, topics: Iterable[int]) -> tuple[Iterable[str], Iterable[str]]:
        """The columns of systems and kinds; a batch of one topic, which is the usual one, has no need of lists."""
        known = {**self._kinds, **self._asked} if self._asked else self._kinds
        if not head.many_topics:
            return repeat(self._systems[head.first_topic]), repeat(known[head.first_topic])
        systems = self._systems
        return [systems[topic] for topic in topics], [known[topic] for topic in topics]

    def _merged(
        self, beside: list[Beside], topics: Iterable[int], values: list[Any]
    ) -> tuple[tuple[Iterable[str], Iterable[str]], tuple[Iterable[str], Iterable[Any]]]:
        """The same, and those of paths and data, of a batch with raw data among text, or names of its own."""
        rows = {row.event: row for row in beside}
        known = {**self._kinds, **self._asked}
        decoded = iter(values)
        names: list[tuple[str, str]] = []
        contents: list[tuple[str, Any]] = []
        for index, topic in enumerate(topics):
            row = rows.get(index)
            if row is not None and row.names is not None:
                names.append(row.names)
            else:
                names.append((self._systems[topic], known[topic]))
            if row is not None and row.path:
                contents.append((row.path, row.data))
            else:
                contents.append((next(decoded, ""), next(decoded, None)))
        return _columns(names), _columns(contents)


def _columns(rows: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [first for first, _ in rows], [second for _, second in rows]
