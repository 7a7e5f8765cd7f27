"""Which dead letters there are, in a ring or in a recording, and which of them are to be sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from eventbus.cli import recording
from eventbus.cli.feed import parse
from eventbus.errors import EventBusError, InvalidError, SegmentError
from eventbus.event import Event
from eventbus.letters import DEAD_KIND, DEAD_SYSTEM, identity_of, original_of
from eventbus.subscription import Subscription

BATCH = 256
MARK = "eventbus-requeued"
"""The header of an event that was sent again: which one it was when it died."""

POSITION = 16
"""Bytes of what stands for a letter and all those before it."""


@dataclass
class Tally:
    """What became of what was found; ``warn`` is told what cannot be sent, and why."""

    warn: Callable[[str], None]
    sent: int = 0
    before: int = 0
    bad: int = 0
    unasked: int = 0
    others: int = 0

    def refuse(self, where: str, error: EventBusError) -> None:
        """Counts a letter that cannot be sent."""
        self.warn(f"{where}: {error.message}")
        self.bad += 1

    def summary(self, what: str) -> str:
        """One line: how many, ``what``, and what was skipped."""
        counts = {
            "already sent again": self.before,
            "cannot be sent": self.bad,
            "not asked for": self.unasked,
            "other events": self.others,
        }
        parts = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        return f"{self.sent} dead letters {what}, {sum(counts.values())} skipped{f': {parts}' if parts else ''}"


class Found(NamedTuple):
    """A dead letter as it was found: where, when it was sent in nanoseconds since the epoch, and its data."""

    where: str
    time: int
    letter: Any


@dataclass
class Dead:
    """An event that is to be sent again.

    Attributes:
        where: its letter was found, for people.
        groups: in which it died.
        position: stands for its letter and all those before it.
    """

    where: str
    event: Event
    groups: set[str]
    position: bytes

    def outgoing(self) -> tuple[Any, ...]:
        """The event as it is sent again."""
        event = self.event
        return event.system, event.kind, event.path, event.data, {**event.headers, MARK: identity_of(event)}


def kept(heard: Subscription, last: int, spoiled: Callable[[SegmentError], None]) -> Iterator[Event]:
    """What the ring has kept of what a subscription hears, up to the sequence ``last``.

    Args:
        spoiled: told of each event that cannot be read.
    """
    while True:
        try:
            events = heard.receive_many(BATCH, 0)
        except SegmentError as error:
            if "sequence" not in error.details:
                raise
            spoiled(error)
            continue
        for event in events:
            if event.sequence > last:
                return
            yield event
        if not events:
            return


def in_ring(heard: Subscription, last: int, tally: Tally) -> Iterator[Found]:
    """The dead letters that the ring has kept."""
    for event in kept(heard, last, lambda error: tally.refuse(_letter(error.details["sequence"]), error)):
        yield Found(_letter(event.sequence), event.time, event.data)
    if heard.lost:
        tally.warn(f"lost {heard.lost} events: the ring went on while dead letters were read")


def _letter(sequence: int) -> str:
    return f"dead letter {sequence}"


def in_recording(name: str, tally: Tally) -> Iterator[Found]:
    """The dead letters of a recording, as ``tail --json`` writes them; what is none of them is counted.

    What comes after the place where it is damaged is not there; that is told.
    """
    try:
        for number, line in recording.lines(name):
            where = f"line {number}"
            try:
                found = _recorded(where, parse(line))
            except InvalidError as error:
                tally.refuse(where, error)
                continue
            if found is None:
                tally.others += 1
            else:
                yield found
    except InvalidError as error:
        tally.refuse("the recording ends too early", error)


def _recorded(where: str, fields: Any) -> Found | None:
    """None for an event that is no dead letter."""
    if not isinstance(fields, dict) or not {"system", "kind"} <= fields.keys():
        raise InvalidError("it is no event")
    if (fields["system"], fields["kind"]) != (DEAD_SYSTEM, DEAD_KIND):
        return None
    time = fields.get("time")
    if not isinstance(time, int) or isinstance(time, bool):
        raise InvalidError(f"it has the time {time!r}")
    return Found(where, time, fields.get("data"))


def choose(found: Iterable[Found], group: str | None, since: int, tally: Tally) -> list[Dead]:
    """The events of those letters that are asked for, each once, in the order of their letters.

    Several letters of one event are those of several groups; sent again, it reaches all of them.

    Args:
        group: the one in which they died; None for any.
        since: nanoseconds since the epoch; letters before that are not asked for.
    """
    chosen: dict[str, Dead] = {}
    digest = hashlib.blake2b(digest_size=POSITION)
    for where, time, letter in found:
        of = letter.get("group") if isinstance(letter, dict) else None
        if time < since or (group is not None and of != group):
            tally.unasked += 1
            continue
        try:
            event = original_of(letter)
        except InvalidError as error:
            tally.refuse(where, error)
            continue
        identity = identity_of(event)
        if identity in chosen:
            chosen[identity].groups.add(letter["group"])
            tally.before += 1
            continue
        digest.update(identity.encode() + b"\n")
        chosen[identity] = Dead(where, event, {letter["group"]}, digest.digest())
    return [*chosen.values()]


def left(chosen: list[Dead], marks: set[str], position: bytes | None, tally: Tally) -> list[Dead]:
    """Those that were not sent again before.

    Args:
        marks: the identities of the dead whose next life the ring has kept.
        position: how far whoever sent a recording last has come; of no use unless it is the beginning of this one.
    """
    done = next((number for number, one in enumerate(chosen, 1) if one.position == position), 0)
    rest = [one for one in chosen[done:] if identity_of(one.event) not in marks]
    tally.before += len(chosen) - len(rest)
    return rest
