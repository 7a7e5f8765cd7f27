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
class MemberStats:
    """What a member of a group holds: ``held`` seconds since it was handed the first of its ``events``."""

    name: str
    pid: int
    events: int
    deliveries: int
    held: float


@dataclass(frozen=True)
class GroupStats:
    """One group: ``backlog`` counts the sequences that no member has claimed, ``returned`` the claims given back."""

    name: str
    system: str
    kind: str
    max_deliveries: int
    backlog: int
    redelivered: int
    dead: int
    returned: int
    members: tuple[MemberStats, ...]


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
    groups: tuple[GroupStats, ...]
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
        groups=tuple(_group_stats(handle, group) for group in handle.groups()),
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


def _group_stats(handle: _ring.BusHandle, group: _ring.Group) -> GroupStats:
    members = []
    for claim in group.claims:
        holder = None if claim.slot is None else handle.occupant(claim.slot)
        if holder is not None:
            members.append(MemberStats(holder.name, holder.pid, claim.events, claim.deliveries, claim.held))
    return GroupStats(
        name=group.name,
        system=group.system,
        kind=group.kind,
        max_deliveries=group.max_deliveries,
        backlog=group.backlog,
        redelivered=group.redelivered,
        dead=group.dead,
        returned=sum(claim.slot is None for claim in group.claims),
        members=tuple(members),
    )
