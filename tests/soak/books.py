"""The ledgers of a round, put together: sends, subscriptions and memberships, each with the bus it belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from soak.ledger import Entry, Kind, Why
from soak.roles import Actor, Subscriber

LETTER, ANSWER = "letter", "answer"
Origin = tuple[str, int, int]
"""("event", publisher, number), (LETTER, group, the original's sequence) or (ANSWER, 0, the request's identity)"""


@dataclass
class Send:
    """One send; ``outcome`` is True when it returned, False when it raised, None when it was cut short.

    Of what is sent later ``at`` is when it is due, and ``numbered`` its number on the bus, 0 if nobody knows;
    ``cancels`` are the answers to those who cancelled it, None for one that did not live to hear it.
    """

    bus: int
    publisher: int
    first: int
    last: int
    together: bool
    at: int
    outcome: bool | None = None
    numbered: int = 0
    cancels: list[bool | None] = field(default_factory=list)


class Cancel(NamedTuple):
    """One try to cancel what is sent later, by its publisher and number, and the answer."""

    bus: int
    publisher: int
    number: int
    answer: bool | None


class Blame(NamedTuple):
    """A send that found no room, from its beginning to its end, and whom it was told that this is because of: a
    subscription, or a group; 0 for none, and the events that it had."""

    bus: int
    publisher: int
    since: int
    at: int
    who: int
    backlog: int
    group: int


class Got(NamedTuple):
    """One event as somebody got it."""

    sequence: int
    origin: Origin
    deliveries: int
    at: int
    time: int


@dataclass
class Receiver:
    """One subscription or membership."""

    who: int
    bus: int
    killed: bool
    joined_at: int = 0
    got: list[Got] = field(default_factory=list)
    drained: bool = False
    ended: bool = False
    settled: list[int] = field(default_factory=list)  # when all it had got was surely taken, or acknowledged


@dataclass
class Subscription(Receiver):
    """One subscription.

    Attributes:
        start: the sequence that was asked for, else 0.
        sent_before, sent_after: how many events there were just before and just after it joined.
    """

    plan: Subscriber = field(default_factory=lambda: Subscriber(0))
    start: int = 0
    sent_before: int = 0
    sent_after: int | None = None
    lost: int | None = None
    removed_at: int | None = None  # the group that it was all members of

    def __str__(self) -> str:
        plan = self.plan
        state = "killed" if self.killed else "drained" if self.drained else "left"
        return f"subscription {self.who} ({plan.system}, {plan.kind}, {plan.overflow}, {plan.start}, {state})"


@dataclass
class Membership(Receiver):
    """One membership of a group."""

    group: int = 0
    acked: set[Got] = field(default_factory=set)
    asked: set[Got] = field(default_factory=set)  # and the answer may have come too late to be written down
    rejected: set[Got] = field(default_factory=set)
    hand: dict[int, Got] = field(default_factory=dict)  # what it got last, by sequence
    giving: dict[tuple[int, int], tuple[Got, int]] = field(default_factory=dict)  # by sequence and deliveries
    due: dict[Got, int] = field(default_factory=dict)  # what was given back, and when it may be delivered again
    alive_at: int = 0  # when its process wrote its last word
    interrupted: int = 0  # how often a signal handler raised in it


@dataclass
class Grouping:
    """When a group was made: how many events there were before and after, and by when."""

    before: int
    after: int | None = None
    at: int = 0


class Books:
    """All ledgers of a round."""

    def __init__(self, actors: dict[int, Actor], entries: dict[int, list[Entry]], killed: set[int]) -> None:
        self.sends: list[Send] = []
        self.subscriptions: list[Subscription] = []
        self.members: list[Membership] = []
        self.blames: list[Blame] = []
        self.cancels: list[Cancel] = []
        self.groupings: dict[tuple[int, int], Grouping] = {}
        self.ends: dict[int, int] = {}
        self._figures: Counter[str] = Counter()
        self._buses: dict[int, None] = {}
        for number, actor in actors.items():
            self._read(actor, entries.get(number, []), number in killed)

    def buses(self) -> list[int]:
        """The identities of all buses that somebody wrote of."""
        return list(self._buses)

    def figures(self) -> Counter[str]:
        """What was counted."""
        return self._figures

    def _read(self, actor: Actor, entries: list[Entry], killed: bool) -> None:
        going: dict[int, Send] = {}
        receivers: dict[int, Subscription | Membership] = {}
        for one in entries:
            kind = Kind(one.kind)
            if kind in _COUNTED:
                self._figures[_COUNTED[kind]] += 1
            if kind == Kind.WILL:
                going[one.who] = Send(one.c, one.who, one.a, one.b, bool(one.flag), one.at)
                self.sends.append(going[one.who])
                self._buses[one.c] = None
            elif kind == Kind.BLAMED:
                self.blames.append(Blame(one.c, one.who, going[one.who].at, one.at, one.a, one.b, one.other))
            elif kind in (Kind.SENT, Kind.NOT_SENT):
                self._settle(going.pop(one.who), one)
            elif kind in _PLANS:
                self._plan(going, one)
            elif kind in (Kind.JOINING, Kind.JOINED):
                self._join(actor, receivers, one, killed)
            elif one.who in receivers and kind not in (Kind.GROUPING, Kind.GROUPED):
                self._follow(receivers[one.who], one)
            elif kind in (Kind.GROUPING, Kind.GROUPED):
                self._group(one)
            elif kind == Kind.SHUTDOWN:
                self.ends[one.c] = one.b
                self._figures["bytes committed"] += one.a
                self._buses[one.c] = None
        for member in receivers.values():
            if isinstance(member, Membership):
                member.alive_at = entries[-1].at
        opened = sum(one.kind == Kind.OPENED for one in entries)
        self._figures["re-openings"] += max(0, opened - 1)

    def _settle(self, send: Send, one: Entry) -> None:
        send.outcome = one.kind == Kind.SENT
        events = send.last - send.first + 1
        name = "events sent" if send.outcome else f"refused, {Why(one.flag).name.lower().replace('_', ' ')}"
        self._figures[name] += events
        self._figures["sends of several"] += send.together and send.outcome

    def _plan(self, going: dict[int, Send], one: Entry) -> None:
        if one.kind == Kind.PUTTING:
            going[one.who] = Send(one.c, one.who, one.a, one.a, False, one.at + one.b)
            self.sends.append(going[one.who])
            self._buses[one.c] = None
        elif one.kind == Kind.CANCELLING:
            self.cancels.append(Cancel(one.c, one.other, one.a, None))
        elif one.kind == Kind.CANCELLED:
            self.cancels[-1] = self.cancels[-1]._replace(answer=bool(one.flag))
            self._figures["cancelled" if one.flag else "cancelled too late"] += 1
        else:
            send = going.pop(one.who)
            send.outcome, send.numbered = one.kind == Kind.PUT, one.b if one.kind == Kind.PUT else 0
            self._figures["scheduled" if send.outcome else f"not scheduled, {Why(one.flag).name.lower()}"] += 1

    def _join(self, actor: Actor, receivers: dict[int, Subscription | Membership], one: Entry, killed: bool) -> None:
        self._buses[one.c] = None
        if one.other:
            member = receivers.get(one.who)
            if not isinstance(member, Membership):
                member = Membership(one.who, one.c, killed, group=one.other)
                self.members.append(member)
            member.joined_at = one.at
            receivers[one.who] = member
        elif one.kind == Kind.JOINING:
            plan = actor if isinstance(actor, Subscriber) else Subscriber(actor.number)
            made = Subscription(one.who, one.c, killed, plan=plan, start=one.b, sent_before=one.a)
            self.subscriptions.append(made)
            receivers[one.who] = made
        else:
            joined = receivers[one.who]
            assert isinstance(joined, Subscription)
            joined.sent_after, joined.joined_at = one.a, one.at
            self._figures["subscriptions"] += 1

    def _follow(self, receiver: Subscription | Membership, one: Entry) -> None:
        if one.kind in _ORIGINS:
            origin: Origin = (_ORIGINS[Kind(one.kind)], one.other, one.b)
            got = Got(one.a, origin, one.deliveries, one.at, one.c)
            receiver.got.append(got)
            if isinstance(receiver, Membership):
                receiver.hand[one.a] = got
            self._figures["deliveries"] += 1
        elif one.kind == Kind.ENDED:
            receiver.ended, receiver.drained = True, bool(one.flag)
            receiver.settled.append(one.at)
        elif one.kind == Kind.STILL:
            receiver.settled.append(one.at)
        elif one.kind == Kind.REMOVED and isinstance(receiver, Subscription):
            receiver.removed_at = one.at
            self._figures["groups removed"] += 1
        elif one.kind == Kind.VIEWED:
            self._figures["looks of members" if isinstance(receiver, Membership) else "looks of subscribers"] += one.a
        elif one.kind == Kind.LOST and isinstance(receiver, Subscription):
            receiver.lost = one.a
            self._figures["lost"] += one.a
        elif isinstance(receiver, Membership):
            self._settle_in_hand(receiver, one)

    def _settle_in_hand(self, member: Membership, one: Entry) -> None:
        if one.kind == Kind.ACKED:
            member.acked.add(member.hand[one.a])
            self._figures["acknowledged one by one"] += one.flag
        elif one.kind == Kind.ASKING:
            member.asked.add(member.hand[one.a])
        elif one.kind == Kind.REJECTING:
            got = member.hand[one.a]
            member.rejected.add(got)
            member.giving[one.a, got.deliveries] = got, one.at + one.b
            self._figures["rejected"] += 1
            self._figures["rejected for later"] += one.b > 0
        elif one.kind == Kind.RETURNED:  # perhaps it has come again by now
            got, due = member.giving.pop((one.a, one.deliveries))
            member.due[got] = due
        elif one.kind == Kind.HELD:
            self._figures["long jobs"] += 1
            self._figures["long jobs that outlasted a ring"] += one.b > one.c
        elif one.kind == Kind.PARKED:
            self._figures["held events seen parked"] += 1
        elif one.kind == Kind.INTERRUPTED:
            member.interrupted += 1

    def _group(self, one: Entry) -> None:
        """A group begins after the earliest that anybody began to make it, before the earliest that had made it."""
        key = (one.who, one.c)
        known = self.groupings.setdefault(key, Grouping(one.a))
        if one.kind == Kind.GROUPING:
            known.before = min(known.before, one.a)
        elif known.after is None or one.at < known.at:
            known.after, known.at = one.a, one.at


_ORIGINS = {Kind.GOT: "event", Kind.LETTER: LETTER, Kind.ANSWER: ANSWER}
_PLANS = {Kind.PUTTING, Kind.PUT, Kind.NOT_PUT, Kind.CANCELLING, Kind.CANCELLED}
_COUNTED = {
    Kind.HELPED: "helpers forked in C",
    Kind.INTERRUPTED: "calls interrupted",
    Kind.ANSWER: "answers heard",
    Kind.STILL: "times that a bystander stood still",
    Kind.REFUSED: "buses refused for space",
    Kind.LOOKED: "stats read",
    Kind.DISTURBED: "no slot left",
}
