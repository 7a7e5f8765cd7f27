"""One snapshot of a bus."""

from __future__ import annotations

from dataclasses import dataclass

from eventbus.core.attachment import Attachment, Claim, Group, Occupant
from eventbus.core.figures import NOTHING, Received
from eventbus.core.keeping import kept, viewed
from eventbus.core.schedule import scheduled


@dataclass(frozen=True)
class SubscriberStats:
    """One live subscription: ``backlog`` counts the events that it hears and has yet to receive; ``kept`` are the bytes
    of the ring from its place on, which are let go when they are needed and there is nothing in them that it hears;
    ``viewed`` are those of them that it has received with ``view=True`` and not done with.

    A member of a group has no backlog of its own: ``group`` says where to look. ``received`` is what came to it so far.
    """

    name: str
    pid: int
    backlog: int
    lost: int
    system: str
    kind: str
    overflow: str
    sleeping: bool
    group: str | None = None
    kept: int = 0
    received: Received = NOTHING
    viewed: int = 0


@dataclass(frozen=True)
class MemberStats:
    """A member of a group, and what it has in hand: how many ``events``, and of the oldest of them how often it was
    delivered and for how many seconds it has been ``held``; all 0 if it idles."""

    name: str
    pid: int
    events: int
    deliveries: int
    held: float
    exclusive: bool = False


@dataclass(frozen=True)
class GroupStats:
    """One group.

    Attributes:
        backlog: the events that it hears and that no member has claimed.
        in_hand: the events that members have in hand, and
        oldest: for how many seconds that one of them has been which was taken first; 0 if there is none.
        returned: the events that were given back, or that dead members had in hand.
        parked: bytes of what members have in hand for so long that it has left the ring.
        kept: bytes of the ring from the first event that it has not done with.
    """

    name: str
    system: str
    kind: str
    max_deliveries: int
    backlog: int
    redelivered: int
    dead: int
    returned: int
    parked: int
    members: tuple[MemberStats, ...]
    kept: int = 0
    in_hand: int = 0
    oldest: float = 0.0


@dataclass(frozen=True)
class ScheduledStats:
    """One event that is to be sent later.

    Attributes:
        path: None if it cannot be read.
        due: in so many seconds, negative when it is late.
        bytes: of its record.
    """

    number: int
    system: str
    kind: str
    path: str | None
    due: float
    bytes: int


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
    scheduled: tuple[ScheduledStats, ...]  # the next one first
    topics: dict[tuple[str, str], int]
    untabled: int  # events whose topic found the table full
    identity: str  # 32 hexadecimal digits, drawn when the bus was made
    removed: bool  # its name was removed, or means another bus by now


def read_stats(name: str, handle: Attachment, attached: int | None = None) -> BusStats:
    """What the bus looks like now; ``attached`` if the asker knows better than that it is one of those."""
    seen = handle.stats()
    occupants, groups = tuple(handle.occupants()), tuple(handle.groups())
    names = {group.number: group.name for group in groups}
    return BusStats(
        name=name,
        capacity=seen.capacity,
        used=seen.used,
        committed=seen.committed,
        sent=seen.sent,
        attached=handle.others + 1 if attached is None else attached,
        max_subscribers=seen.max_subscribers,
        closed=seen.closed,
        persist=seen.persist,
        subscribers=tuple(_subscriber_stats(one, handle, names) for one in occupants),
        groups=tuple(_group_stats(group, handle.waiting(group), kept(handle, group), occupants) for group in groups),
        scheduled=tuple(ScheduledStats(*one) for one in sorted(scheduled(handle), key=lambda one: one.due)),
        topics={handle.topic_names(topic): handle.topic_count(topic) for topic in range(seen.topics)},
        untabled=seen.inline_sent,
        identity=handle.identity,
        removed=not handle.named,
    )


def _subscriber_stats(one: Occupant, handle: Attachment, groups: dict[int, str]) -> SubscriberStats:
    return SubscriberStats(
        name=one.name,
        pid=one.pid,
        backlog=handle.waiting(one),
        lost=one.lost,
        system=one.system,
        kind=one.kind,
        overflow="drop" if not one.blocking and one.group is None else "block",
        sleeping=one.sleeping,
        group=None if one.group is None else groups.get(one.group),
        kept=kept(handle, one),
        received=one.received,
        viewed=viewed(handle, one),
    )


def _group_stats(group: Group, backlog: int, kept: int, occupants: tuple[Occupant, ...]) -> GroupStats:
    mine = [one for one in occupants if one.group == group.number]
    held: dict[int | None, list[Claim]] = {one.slot: [] for one in mine}
    for claim in sorted(group.claims, key=lambda claim: claim.sequence):
        held.setdefault(claim.slot if claim.slot in held else None, []).append(claim)
    members = [_member_stats(one, held[one.slot]) for one in mine]
    return GroupStats(
        name=group.name,
        system=group.system,
        kind=group.kind,
        max_deliveries=group.max_deliveries,
        backlog=backlog,
        redelivered=group.redelivered,
        dead=group.dead,
        returned=len(held.get(None, ())),
        parked=sum(claim.bytes for claim in group.claims if claim.parked),
        members=tuple(members),
        kept=kept,
        in_hand=sum(one.events for one in members),
        oldest=max((one.held for one in members), default=0.0),
    )


def _member_stats(one: Occupant, claims: list[Claim]) -> MemberStats:
    deliveries, held = (claims[0].deliveries, claims[0].held) if claims else (0, 0.0)
    return MemberStats(one.name, one.pid, len(claims), deliveries, held, one.exclusive)
