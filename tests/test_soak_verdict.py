"""The soak's judge, by ledgers made by hand: a round that went well passes, and every sort of harm is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from soak.ledger import Entry, Kind
from soak.message import Traffic, message, topic, wrong
from soak.plan import Round, draw
from soak.roles import Actor, Finisher, Group, Member, Publisher, Subscriber
from soak.verdict import judge

BUS = 77
PUBLISHER, WITNESS, DROPPING, FIRST, SECOND, FINISHER = range(1, 7)
TRAFFIC = Traffic("ab", 1 << 16, "few", "tiny", policy=False)
GROUP = Group(1, "**", None, max_deliveries=2, start="latest")


class Story:
    """A round told by hand: one publisher, a lossless and a dropping subscriber, a group of two."""

    def __init__(self) -> None:
        self.now = 0
        self.killed: set[int] = set()
        self.groups: tuple[Group, ...] = (GROUP,)
        self.listening = (WITNESS, DROPPING)
        self.actors: dict[int, Actor] = {
            PUBLISHER: Publisher(PUBLISHER),
            WITNESS: Subscriber(WITNESS),
            DROPPING: Subscriber(DROPPING, overflow="drop"),
            FIRST: Member(FIRST, group=1),
            SECOND: Member(SECOND, group=1),
            FINISHER: Finisher(FINISHER),
        }
        self.books: dict[int, list[Entry]] = {number: [] for number in self.actors}

    def tell(
        self,
        actor: int,
        kind: Kind,
        a: int = 0,
        b: int = 0,
        *,
        flag: int = 0,
        deliveries: int = 1,
        other: int = 0,
        c: int = BUS,
        who: int = 0,
    ) -> None:
        """The next entry."""
        self.now += 1
        self.books[actor].append(Entry(kind, flag, deliveries, who or actor, other, a, b, c, self.now))

    def send(self, first: int, last: int, outcome: Kind | None = Kind.SENT) -> None:
        """A send of these numbers; without an outcome its publisher was killed in it."""
        self.tell(PUBLISHER, Kind.WILL, first, last, flag=last > first)
        if outcome:
            self.tell(PUBLISHER, outcome, first, last, flag=outcome == Kind.NOT_SENT)

    def got(self, actor: int, sequence: int, number: int = 0, deliveries: int = 1) -> None:
        """The event with this number, by default that of the sequence, arrives."""
        self.tell(actor, Kind.GOT, sequence, number or sequence, other=PUBLISHER, deliveries=deliveries)

    def handle(self, actor: int, sequence: int, deliveries: int = 1) -> None:
        """A member gets the event and acknowledges it."""
        self.got(actor, sequence, deliveries=deliveries)
        self.tell(actor, Kind.ASKING, sequence)
        self.tell(actor, Kind.ACKED, sequence)

    def begin(self) -> None:
        """Everybody joins."""
        self.tell(FIRST, Kind.GROUPING, who=1)
        self.tell(FIRST, Kind.GROUPED, who=1)
        for actor in (WITNESS, DROPPING):
            self.tell(actor, Kind.JOINING)
            self.tell(actor, Kind.JOINED)
        for actor in (FIRST, SECOND):
            self.tell(actor, Kind.JOINING, other=1)
            self.tell(actor, Kind.JOINED, other=1)

    def arrive(self, *sequences: int, to: tuple[int, ...] = (WITNESS, DROPPING)) -> None:
        """These arrive as they were sent."""
        for actor in to:
            for sequence in sequences:
                self.got(actor, sequence)

    def end(self, sent: int, lost: int = 0) -> None:
        """The bus is shut down and drained."""
        self.tell(FINISHER, Kind.SHUTDOWN, 4096, sent)
        for actor in (WITNESS, DROPPING):
            self.tell(actor, Kind.LOST, lost if actor == DROPPING else 0)
        for actor in (WITNESS, DROPPING, FIRST, SECOND):
            if actor not in self.killed:
                self.tell(actor, Kind.ENDED, flag=1)

    def violations(self) -> str:
        """What the judge says."""
        plan = Round(1, 1.0, TRAFFIC, 64, False, False, self.groups, tuple(self.actors.values()), ())
        return "\n".join(judge(plan, self.actors, self.books, self.killed).violations)


def well() -> Story:
    """Ten events of four sends, all handled, told up to the end."""
    story = Story()
    send_well(story)
    return story


def send_well(story: Story) -> None:
    """Everybody joins, and ten events are sent."""
    story.begin()
    for first, last in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 8), (9, 9), (10, 10)):
        story.send(first, last)


def test_a_good_round_passes() -> None:
    """Everything arrived once and in order, and was handled once: nothing is wrong."""
    story = well()
    story.arrive(*range(1, 11))
    for sequence in range(1, 11):
        story.handle(FIRST if sequence % 2 else SECOND, sequence)
    story.end(10)
    assert story.violations() == ""


def lost(story: Story) -> None:
    story.arrive(*range(1, 11), to=(DROPPING,))
    story.arrive(1, 2, 4, 5, 6, 7, 8, 9, 10, to=(WITNESS,))


def lost_by_all(story: Story) -> None:
    for sequence in range(1, 10):
        number = sequence if sequence < 3 else sequence + 1
        for actor in (WITNESS, DROPPING):
            story.got(actor, sequence, number)


def lost_at_the_end(story: Story) -> None:
    story.arrive(*range(1, 11), to=(DROPPING,))
    story.arrive(*range(1, 10), to=(WITNESS,))


def duplicated(story: Story) -> None:
    story.arrive(*range(1, 11))
    story.books[WITNESS].insert(-1, story.books[WITNESS][-1])


def duplicated_in_the_ring(story: Story) -> None:
    story.arrive(*range(1, 11))
    for actor in (WITNESS, DROPPING):
        story.got(actor, 11, 10)


def reordered(story: Story) -> None:
    story.arrive(*range(1, 11))
    book = story.books[WITNESS]
    book[4], book[5] = book[5], book[4]


def reordered_in_the_ring(story: Story) -> None:
    for actor in (WITNESS, DROPPING):
        for sequence in range(1, 11):
            story.got(actor, sequence, {2: 3, 3: 2}.get(sequence, sequence))


def two_opinions(story: Story) -> None:
    story.arrive(*range(1, 11), to=(DROPPING,))
    for sequence in range(1, 11):
        story.got(WITNESS, sequence, {9: 10, 10: 9}.get(sequence, sequence))


def foreign(story: Story) -> None:
    story.arrive(*range(1, 11))
    for actor in (WITNESS, DROPPING):
        story.got(actor, 11, 99)


def refused_and_there(story: Story) -> None:
    story.send(11, 11, Kind.NOT_SENT)
    story.arrive(*range(1, 12))


def miscounted(story: Story) -> None:
    story.arrive(*range(1, 11), to=(WITNESS,))
    story.arrive(1, 2, 5, 6, 7, 8, 9, 10, to=(DROPPING,))


def before_it_joined(story: Story) -> None:
    book = story.books[WITNESS]
    book[:2] = [replace_a(book[0], 4), replace_a(book[1], 4)]
    story.arrive(*range(1, 11))


def removed_before(story: Story) -> None:
    """What the witness was all members of is removed before the last one is sent."""
    story.arrive(*range(1, 11))
    story.books[WITNESS].append(story.books[PUBLISHER][-4]._replace(kind=Kind.REMOVED, who=WITNESS))


def replace_a(entry: Entry, a: int) -> Entry:
    """The entry with another number."""
    return entry._replace(a=a)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lost, "did not get 1 events, [3]"),
        (lost_by_all, "did not get 1 events that were sent after it joined"),
        (lost_at_the_end, "did not get 1 events, [10]"),
        (duplicated, "got sequence 10 after 10"),
        (duplicated_in_the_ring, "stands at the sequences 10 and 11"),
        (reordered, "got sequence 3 after 4"),
        (reordered_in_the_ring, "comes after number 3"),
        (two_opinions, "sequence 9 is ('event', 1, 10) for one and ('event', 1, 9) for another"),
        (foreign, "was never sent on this bus"),
        (refused_and_there, "arrived though its send failed"),
        (miscounted, "counts 0 as lost"),
        (removed_before, "got sequence 10, ('event', 1, 10), which was sent after its group was removed"),
        (before_it_joined, "began at 5 and got [1, 2, 3, 4]"),
    ],
)
def test_harm_to_subscribers_is_told(harm: Callable[[Story], None], told: str) -> None:
    """A lost, doubled, reordered, foreign or miscounted event is a violation, and says which one."""
    story = well()
    harm(story)
    for sequence in range(1, 11):
        story.handle(FIRST, sequence)
    story.end(11 if harm in (foreign, duplicated_in_the_ring, refused_and_there) else 10)
    assert told in story.violations()


@pytest.mark.parametrize(("arrived", "whole"), [(4, True), (0, True), (1, False), (2, False), (3, False)])
def test_half_a_send_many_is_told(arrived: int, whole: bool) -> None:
    """Of a send_many that a kill cut short all events arrive or none: anything between is a violation."""
    story = well()
    story.send(11, 14, None)
    story.killed.add(PUBLISHER)
    story.arrive(*range(1, 11 + arrived))
    for sequence in range(1, 11 + arrived):
        story.handle(FIRST, sequence)
    story.end(10 + arrived)
    assert ("half a send_many" in story.violations()) is not whole
    assert (story.violations() == "") is whole


def test_a_send_many_with_a_hole_is_told() -> None:
    """Another event amid those that were sent together is a violation."""
    story = well()
    for actor in (WITNESS, DROPPING):
        for sequence in range(1, 11):
            story.got(actor, sequence, {8: 9, 9: 8}.get(sequence, sequence))
    story.end(10)
    assert "stands apart" in story.violations()


def never_handled(story: Story) -> None:
    """Nobody got the last one."""


def never_came(story: Story) -> None:
    """Nobody knows of these two, though their send returned."""
    story.send(11, 11)
    story.send(12, 12)


def left_in_hand(story: Story) -> None:
    story.got(FIRST, 10)


def again_after_it_was_done(story: Story) -> None:
    story.handle(FIRST, 10)
    story.handle(SECOND, 10, deliveries=2)


def again_for_no_reason(story: Story) -> None:
    story.got(FIRST, 10)
    story.handle(SECOND, 10, deliveries=2)


def again_uncounted(story: Story) -> None:
    story.got(FIRST, 10)
    story.tell(FIRST, Kind.REJECTING, 10)
    story.handle(SECOND, 10)


def once_too_often(story: Story) -> None:
    for deliveries in (1, 2):
        story.got(FIRST, 10, deliveries=deliveries)
        story.tell(FIRST, Kind.REJECTING, 10)
    story.handle(SECOND, 10, deliveries=3)


def given_up_unasked(story: Story) -> None:
    story.handle(FIRST, 10)
    story.tell(WITNESS, Kind.LETTER, 11, 10, other=1)


def no_letter(story: Story) -> None:
    for deliveries in (1, 2):
        story.got(FIRST, 10, deliveries=deliveries)
        story.tell(FIRST, Kind.REJECTING, 10)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (never_handled, "sequence 10 was never handled"),
        (never_came, "2 events that were sent never came to anybody: [(1, 11), (1, 12)]"),
        (left_in_hand, "is in nobody's hand"),
        (again_after_it_was_done, "was delivered again after member 4 had acknowledged it"),
        (again_for_no_reason, "member 4 neither died nor gave it back"),
        (again_uncounted, "with the counts [1, 1]"),
        (once_too_often, "was delivered 3 times"),
        (given_up_unasked, "was acknowledged, and a dead letter tells of it"),
        (no_letter, "sequence 10 was never handled: delivered 2 times, and no letter"),
    ],
)
def test_harm_to_groups_is_told(harm: Callable[[Story], None], told: str) -> None:
    """An event that a group forgot, or handled twice without a death or a rejection, is a violation."""
    story = well()
    story.arrive(*range(1, 11))
    for sequence in range(1, 10):
        story.handle(FIRST, sequence)
    harm(story)
    story.end(10)
    assert told in story.violations()


@pytest.mark.parametrize("asked", [False, True])
def test_a_death_with_an_event_in_hand(asked: bool) -> None:
    """A member that dies with an event in hand: it must come again, unless the member had begun to acknowledge it."""
    story = well()
    story.arrive(*range(1, 11))
    for sequence in range(1, 10):
        story.handle(SECOND, sequence)
    story.got(FIRST, 10)
    if asked:
        story.tell(FIRST, Kind.ASKING, 10)
    story.killed.add(FIRST)
    assert story.violations() == ""
    story.end(10)
    assert ("sequence 10 was never handled" in story.violations()) is not asked


def test_a_redelivery_after_a_death_is_right() -> None:
    """What a dead member had in hand may come again, counted once more."""
    story = well()
    story.arrive(*range(1, 11))
    for sequence in range(1, 10):
        story.handle(SECOND, sequence)
    story.got(FIRST, 10)
    story.killed.add(FIRST)
    story.handle(SECOND, 10, deliveries=2)
    story.end(10)
    assert story.violations() == ""


def test_torn_and_foreign_events_are_told() -> None:
    """An event of which any part is not what its publisher sent is told by whoever receives it."""
    for number in range(1, 400):
        sent = message(TRAFFIC, 64, number)
        if sent.over:
            continue
        other = next(one for one in (message(TRAFFIC, 65, n) for n in range(1, 99)) if one.data != sent.data)
        assert wrong(TRAFFIC, *sent[:5]) is None
        assert wrong(TRAFFIC, *sent[:3], other.data, sent.headers) is not None
        assert wrong(TRAFFIC, sent.system + "x", *sent[1:5]) is not None
        assert wrong(TRAFFIC, *sent[:2], f"/cd/64/{number}", *sent[3:5]) is not None
        assert wrong(TRAFFIC, *sent[:4], sent.headers | {"one": "more"}) is not None
        if len(sent.headers) > 1:
            assert wrong(TRAFFIC, *sent[:4], dict(reversed(sent.headers.items()))) is not None
        if sent.headers:
            assert wrong(TRAFFIC, *sent[:4], {}) is not None
        if isinstance(sent.data, bytes) and len(sent.data) > 1:
            assert wrong(TRAFFIC, *sent[:3], sent.data + b"a", sent.headers) is not None
            assert wrong(TRAFFIC, *sent[:3], sent.data[1:] + sent.data[:1], sent.headers) is not None
            assert wrong(TRAFFIC, *sent[:3], sent.data.decode(), sent.headers) is not None


def test_a_seed_replays_its_plan() -> None:
    """The plan of a round follows from the seed and the number; another number gives another plan."""
    seed = random.Random(3).getrandbits(31)
    drawn = [draw(seed, number, shortest=1, longest=2, root=True, clocks=True, storms=True) for number in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != replace(drawn[2], number=1)
    traffic = drawn[0].traffic
    assert topic(traffic, 64, 5) == message(traffic, 64, 5)[:2]
