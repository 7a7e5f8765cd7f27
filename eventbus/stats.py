"""One snapshot of a bus."""

from __future__ import annotations

from dataclasses import dataclass

from eventbus import _ring


@dataclass(frozen=True)
class SubscriberStats:
    """One live subscription: ``backlog`` counts sequences up to the committed position, heard or not."""

    name: str
    pid: int
    backlog: int
    lost: int
    system: str
    kind: str
    overflow: str
    sleeping: bool


@dataclass(frozen=True)
class BusStats:
    """A bus at one moment. Sizes and positions in bytes; ``topics`` counts the events by (system, kind)."""

    name: str
    capacity: int
    used: int
    committed: int
    sent: int
    attached: int
    max_subscribers: int
    closed: bool
    persist: bool
    subscribers: tuple[SubscriberStats, ...]
    topics: dict[tuple[str, str], int]
    untabled: int  # events whose topic found the table full


def read_stats(name: str, handle: _ring.BusHandle) -> BusStats:
    """What the bus looks like now."""
    seen = handle.stats()
    return BusStats(
        name=name,
        capacity=seen.capacity,
        used=seen.used,
        committed=seen.committed,
        sent=seen.sent,
        attached=_ring.attached(handle.roster_fd) + 1,
        max_subscribers=seen.max_subscribers,
        closed=seen.closed,
        persist=seen.persist,
        subscribers=tuple(_subscriber_stats(one) for one in handle.occupants()),
        topics={handle.topic_names(topic): handle.topic_count(topic) for topic in range(seen.topics)},
        untabled=seen.inline_sent,
    )


def _subscriber_stats(one: _ring.Occupant) -> SubscriberStats:
    return SubscriberStats(
        name=one.name,
        pid=one.pid,
        backlog=one.backlog,
        lost=one.lost,
        system=one.system,
        kind=one.kind,
        overflow="block" if one.blocking else "drop",
        sleeping=one.sleeping,
    )
