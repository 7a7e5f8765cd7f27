"""One name, one bus: who was surely attached to which one, and when; never to two at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from soak.ledger import Entry, Kind


class Span(NamedTuple):
    """From ``begin`` to ``end``, on the monotonic clock, somebody was attached for certain."""

    begin: int
    end: int
    bus: int
    who: int


def spans(who: int, entries: Iterable[Entry]) -> Iterator[Span]:
    """Of one process: from when opening returned until it began to close, or wrote its last word."""
    bus, begin, last = 0, 0, 0
    for one in entries:
        if one.kind == Kind.OPENED:
            bus, begin = one.c, one.at
        elif one.kind == Kind.LEAVING and bus:
            yield Span(begin, one.at, bus, who)
            bus = 0
        last = one.at
    if bus:
        yield Span(begin, last, bus, who)


def judge_attached(found: Iterable[Span]) -> list[str]:
    """What is wrong where two buses had the name at once."""
    latest: dict[int, Span] = {}  # the one that ends last, of each bus
    problems = []
    for span in sorted(found):
        for other in latest.values():
            if other.bus != span.bus and other.end > span.begin:
                seconds = (min(other.end, span.end) - span.begin) / 1e9
                problems.append(
                    f"two segments at once: for {seconds:.6f} s {other.who} was attached to bus {other.bus:x} and "
                    f"{span.who} to bus {span.bus:x}"
                )
        if span.bus not in latest or latest[span.bus].end < span.end:
            latest[span.bus] = span
    return problems
