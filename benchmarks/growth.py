"""How the cost of eventbus grows: one axis after the other, from small to large, past the limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from benchmarks.load import SYSTEM, BytesLoad, EmptyLoad, JsonLoad
from benchmarks.peer import Peer
from benchmarks.report import Row
from benchmarks.throughput import Case

SUBJECT = "eventbus"
STEP = "CPU vs before"

_SUBSCRIBERS: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
_TOPICS: tuple[int, ...] = (1, 10, 100, 1_000, 4_000, 4_097, 5_000, 6_000)
_PUBLISHERS: tuple[int, ...] = (1, 2, 4, 8)
_SIZES = tuple(16 * 4**power for power in range(9))
_RINGS = tuple(2**16 * 4**power for power in range(6))


class Point(NamedTuple):
    """One place on an axis: what is measured there, and with which peer."""

    axis: str
    peer: Peer
    case: Case


def points(subject: Peer, quick: bool) -> Iterator[Point]:
    """Yield the places on every axis; ``subject`` is eventbus."""
    load, shown = JsonLoad(), slice(2 if quick else None)
    for count in _SUBSCRIBERS[shown]:
        yield Point("subscribers", subject, Case(_many(count, "subscriber"), load, 1, (SYSTEM,) * count))
    for count in _TOPICS[shown]:
        sent = tuple(f"{SYSTEM}.{number}" for number in range(count))
        yield Point("topics", subject, Case(_many(count, "topic"), load, 1, (f"{SYSTEM}.*",), sent))
    for count in _PUBLISHERS[shown]:
        yield Point("publishers", subject, Case(_many(count, "publisher"), load, count, (SYSTEM,)))
    yield Point("event size", subject, Case("0 B", EmptyLoad(), 1, (SYSTEM,)))
    for size in _SIZES[shown]:
        yield Point("event size", subject, Case(_bytes(size), BytesLoad(size), 1, (SYSTEM,)))
    for size in _RINGS[shown]:
        yield Point("ring size", ringed(subject, size), Case(f"ring {_bytes(size)}", load, 1, (SYSTEM,)))


def ringed(subject: Peer, capacity: int) -> Peer:
    """Return eventbus with a ring of ``capacity`` bytes."""
    return replace(subject, connect=partial(subject.connect, capacity=capacity))


def stepped(rows: Iterable[tuple[str, Row]]) -> list[Row]:
    """Add to each row how its CPU per delivery compares with the row before it on its axis, where there is one."""
    found: list[Row] = []
    last = ""
    for axis, row in rows:
        figures = dict(row.figures)
        if axis == last:
            figures[STEP] = row.figures["CPU s/M"].over(found[-1].figures["CPU s/M"])
        found.append(replace(row, case=axis, peer=row.case, figures=figures))
        last = axis
    return found


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''}"


def _bytes(size: int) -> str:
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"
