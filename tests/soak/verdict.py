"""What must have arrived: the judge, who knows the ledgers and the plan and nothing of the bus."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from dataclasses import dataclass, field

from soak.attached import judge_attached, spans
from soak.blamed import judge_blamed
from soak.books import ANSWER, LETTER, Books, Origin, Send, Subscription
from soak.grouped import judge_group
from soak.ledger import Entry
from soak.message import DEAD_KIND, DEAD_SYSTEM, DENIED, answer_topic, is_planned, matches, topic
from soak.plan import Round
from soak.planned import judge_planned, settle_planned
from soak.roles import Actor

SHOWN = 5  # of violations of one sort


@dataclass
class Verdict:
    """What the ledgers say.

    Attributes:
        figures: events sent, deliveries and so on, for the report.
        violations: one sentence each.
    """

    figures: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class World:
    """One bus, from its making to its end, as all who heard it know it together."""

    def __init__(self, plan: Round, books: Books, bus: int) -> None:
        self.plan = plan
        self.bus = bus
        self.sends: dict[tuple[int, int], Send] = {}
        for send in books.sends:
            if send.bus == bus:
                self.sends.update({(send.publisher, number): send for number in range(send.first, send.last + 1)})
        for cancel in books.cancels:
            if cancel.bus == bus and (of := self.sends.get((cancel.publisher, cancel.number))):
                of.cancels.append(cancel.answer)
        settle_planned(self.sends.values())
        self.subscriptions = [one for one in books.subscriptions if one.bus == bus]
        self.members = [one for one in books.members if one.bus == bus]
        self.groupings = {group: when for (group, its), when in books.groupings.items() if its == bus}
        self.blames = [one for one in books.blames if one.bus == bus]
        self.end = books.ends.get(bus)  # how many events it had when it was shut down
        self.places: dict[int, Origin] = {}
        self.conflicts: list[str] = []
        for receiver in (*self.subscriptions, *self.members):
            for got in receiver.got:
                known = self.places.setdefault(got.sequence, got.origin)
                if known != got.origin:
                    self.conflicts.append(f"sequence {got.sequence} is {known} for one and {got.origin} for another")
        self.order = sorted(self.places)
        self._topics: dict[Origin, tuple[str, str]] = {}

    def topic(self, origin: Origin) -> tuple[str, str]:
        """System and kind."""
        found = self._topics.get(origin)
        if found is None:
            own = {LETTER: (DEAD_SYSTEM, DEAD_KIND), ANSWER: answer_topic(origin[2])}
            found = own.get(origin[0]) or topic(self.plan.traffic, origin[1], origin[2])
            self._topics[origin] = found
        return found

    def heard(self, system: str, kind: str | None, origin: Origin) -> bool:
        """Whether a subscriber of these patterns hears the event."""
        names = self.topic(origin)
        allowed = not (self.plan.traffic.policy and names[0] == DENIED)
        return allowed and matches(system, names[0]) and matches(kind, names[1])

    def between(self, first: int, last: int) -> list[int]:
        """The sequences known from first to last, both included."""
        return self.order[bisect.bisect_left(self.order, first) : bisect.bisect_right(self.order, last)]


def judge(plan: Round, actors: dict[int, Actor], entries: dict[int, list[Entry]], killed: set[int]) -> Verdict:
    """Judges a round by its ledgers; ``killed`` are those who did not end by themselves."""
    books = Books(actors, entries, killed)
    verdict = Verdict(books.figures())
    verdict.violations += judge_attached(span for number in actors for span in spans(number, entries[number]))
    for bus in books.buses():
        world = World(plan, books, bus)
        found = [*world.conflicts, *_judge_sends(world), *judge_planned(world)]
        for sub in world.subscriptions:
            found += [f"{sub}: {problem}" for problem in _judge_subscription(world, sub)]
        for group in plan.groups:
            problems, figures = judge_group(world, group)
            found += [f"{group.name}: {problem}" for problem in problems]
            verdict.figures.update(figures)
        problems, figures = judge_blamed(world)
        verdict.figures.update(figures)
        verdict.violations += _shorten([*found, *problems])
        _count_uncertain(world, verdict.figures)
    return verdict


def _shorten(found: list[str]) -> list[str]:
    return found if len(found) <= SHOWN * 4 else [*found[: SHOWN * 4], f"and {len(found) - SHOWN * 4} more"]


def _count_uncertain(world: World, figures: Counter[str]) -> None:
    arrived = set(world.places.values())
    for (publisher, number), send in world.sends.items():
        if send.outcome is None:
            figures["cut short, arrived" if ("event", publisher, number) in arrived else "cut short, not seen"] += 1


# --- what was sent ---


def _judge_sends(world: World) -> list[str]:
    found: list[str] = []
    seen: dict[Origin, int] = {}
    latest: dict[int, tuple[int, int]] = {}
    for sequence in world.order:
        origin = world.places[sequence]
        if origin[0] in (LETTER, ANSWER):
            continue
        _, publisher, number = origin
        if origin in seen:
            found.append(f"event {origin} stands at the sequences {seen[origin]} and {sequence}")
        seen[origin] = sequence
        before = latest.get(publisher, (0, 0))
        if number <= before[1] and not is_planned(publisher):
            found.append(f"event {origin} at sequence {sequence} comes after number {before[1]} at {before[0]}")
        latest[publisher] = sequence, number
        send = world.sends.get((publisher, number))
        if send is None:
            found.append(f"event {origin} at sequence {sequence} was never sent on this bus")
        elif send.outcome is False:
            found.append(f"event {origin} at sequence {sequence} arrived though its send failed")
    if world.end is not None and world.order and world.order[-1] > world.end:
        found.append(f"sequence {world.order[-1]} came from a bus that had sent {world.end} events")
    return found + _judge_batches(world, seen)


def _judge_batches(world: World, seen: dict[Origin, int]) -> list[str]:
    """What was sent together stands together, and is there as a whole or not at all."""
    found = []
    for send in {id(send): send for send in world.sends.values() if send.together}.values():
        places = {number: seen.get(("event", send.publisher, number)) for number in range(send.first, send.last + 1)}
        starts = {place - number for number, place in places.items() if place is not None}
        if len(starts) > 1:
            found.append(f"what publisher {send.publisher} sent together, {send.first} to {send.last}, stands apart")
        elif starts:
            start = starts.pop()
            for number in (number for number, place in places.items() if place is None):
                sequence = start + number
                other = world.places.get(sequence)
                if other is not None or (world.end is not None and sequence > world.end):
                    found.append(
                        f"half a send_many: publisher {send.publisher} sent {send.first} to {send.last} together, and "
                        f"at {sequence}, where {number} must be, is {other or 'the end'}"
                    )
                    break
    return found


# --- subscribers ---


def _judge_subscription(world: World, sub: Subscription) -> list[str]:
    plan = sub.plan
    sequences = [got.sequence for got in sub.got]
    found = [
        f"got sequence {one.sequence}, {one.origin}, which it does not hear"
        for one in sub.got
        if not world.heard(plan.system, plan.kind, one.origin)
    ]
    if plan.threads > 1:
        sequences.sort()
    for before, after in itertools.pairwise(sequences):
        if after <= before:
            found.append(f"got sequence {after} after {before}")
    redelivered = [got.sequence for got in sub.got if got.deliveries != 1]
    if redelivered:
        found.append(f"got redeliveries outside of a group: {redelivered[:SHOWN]}")
    lowest = sub.start if sub.start else sub.sent_before + 1 if plan.start == "latest" else 1
    late = [one for one in sub.got if _was_sent_after(world, sub.removed_at, one.origin)]
    if late:
        found.append(f"got sequence {late[0].sequence}, {late[0].origin}, which was sent after its group was removed")
    early = [sequence for sequence in sequences if sequence < lowest]
    if early:
        found.append(f"began at {lowest} and got {early[:SHOWN]}")
    if found or sub.sent_after is None:
        return found
    return found + _judge_missing(world, sub, sub.sent_after, sequences) + _judge_lost(world, sub, sequences)


def _was_sent_after(world: World, at: int | None, origin: Origin) -> bool:
    send = world.sends.get(origin[1:]) if origin[0] not in (LETTER, ANSWER) else None
    return at is not None and send is not None and send.at > at


def _judge_missing(world: World, sub: Subscription, joined: int, sequences: list[int]) -> list[str]:
    """Whatever anybody knows of, between its first event and its last, it must have; a lossless one at least."""
    if sub.killed and sub.plan.threads > 1:
        return []  # one of its threads may have taken what it could not write down any more
    first, last = sequences[0] if sequences else joined + 1, sequences[-1] if sequences else 0
    if sub.drained and world.order:
        last = max(last, world.order[-1])
    got = set(sequences)
    begin = max(sub.start, 1) if sub.start else min(first, joined + 1)
    missing = [
        sequence
        for sequence in world.between(begin, last)
        if sequence not in got and world.heard(sub.plan.system, sub.plan.kind, world.places[sequence])
    ]
    if sub.plan.overflow == "drop":
        return _judge_dropped(sub, missing)
    found = []
    held = [sequence for sequence in missing if sequence > joined]
    if held:
        found.append(f"did not get {len(held)} events, {held[:SHOWN]}, {world.places[held[0]]} first")
    lapped = [sequence for sequence in missing if sequence <= joined]
    if lapped and sub.lost is not None and (sub.plan.start == "latest" or sub.lost < len(lapped)):
        found.append(f"joined at {joined}, did not get {len(lapped)} events before that, and counts {sub.lost} as lost")
    return found + (_judge_surely_sent(world, sub) if sub.drained else [])


def _judge_dropped(sub: Subscription, missing: list[int]) -> list[str]:
    if sub.lost is None or not sub.drained or len(missing) <= sub.lost:
        return []
    return [f"did not get {len(missing)} events, {missing[:SHOWN]}, and counts {sub.lost} as lost"]


def _judge_surely_sent(world: World, sub: Subscription) -> list[str]:
    """What was sent after it had joined, by a send that returned, it has got; whoever else heard it or not."""
    if sub.plan.start == "future":
        return []
    got = {one.origin for one in sub.got}
    lost: list[Origin] = [
        ("event", publisher, number)
        for (publisher, number), send in world.sends.items()
        if send.outcome and send.at > sub.joined_at and ("event", publisher, number) not in got
    ]
    lost = [origin for origin in lost if world.heard(sub.plan.system, sub.plan.kind, origin)]
    return [f"did not get {len(lost)} events that were sent after it joined: {lost[:SHOWN]}"] if lost else []


def _judge_lost(world: World, sub: Subscription, sequences: list[int]) -> list[str]:
    """The count of what was lost is exact: for who hears everything it is the number of sequences it has not got."""
    if sub.lost and sub.plan.overflow == "block" and sub.plan.start == "latest":
        return [f"is lossless and counts {sub.lost} as lost"]
    if sub.lost is None or not sub.drained or world.end is None or sub.plan.overflow + sub.plan.start == "blocklatest":
        return []
    if (sub.plan.system, sub.plan.kind) != ("**", None) or sub.sent_after is None:
        return []
    first = sequences[0] if sequences else world.end + 1
    gaps = world.end + 1 - first - len(sequences)
    if sub.start:
        least = most = gaps + max(0, first - sub.start)
    elif sub.plan.start == "latest":
        least, most = gaps + max(0, first - 1 - sub.sent_after), gaps + first - 1 - sub.sent_before
    else:
        least, most = gaps, gaps + first - 1
    if not least <= sub.lost <= most:
        return [f"counts {sub.lost} as lost, and it is {least} to {most}"]
    return []
