"""The drill's judge, by stories made by hand: one that went well passes, and every sort of harm is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drill.ledger import BEGUN, DONE, REFUSED, SENT, Entry
from drill.plan import HANGUP, KILL_PROCESSES, OUTAGE
from drill.story import BY_OPERATOR, Story
from drill.verdict import judge

FIRST, SECOND, KILLED, LATER = "11.1", "12.1", "13.1", "14.1"
"""The books of four processes, of which the third is killed."""


class Told(Story):
    """A story told by hand, in which each line comes a millisecond after the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.books = {name: [] for name in (FIRST, SECOND, KILLED, LATER)}
        self.deaths = {13: BY_OPERATOR}

    def tell(self, book: str, word: str, number: int, delivery: int = 1, handler: str = "charge") -> None:
        """A line of a process's book."""
        self.now += 1_000_000
        self.books[book].append(Entry(word, handler, number, delivery, self.now))

    def send(self, number: int, handler: str = "charge") -> None:
        """A line of the producer's."""
        self.now += 1_000_000
        self.sent.append(Entry(SENT, handler, number, 0, self.now))

    def handle(self, book: str, number: int, delivery: int = 1, handler: str = "charge") -> None:
        """A job that is begun and done."""
        self.tell(book, BEGUN, number, delivery, handler)
        self.tell(book, DONE, number, delivery, handler)

    def violations(self) -> str:
        """What the judge says."""
        return "\n".join(judge(self).violations)


def well() -> Told:
    """Three jobs that were done, one of them by the process that was killed later, and two ticks."""
    story = Told()
    for number, book in ((1, FIRST), (2, SECOND), (3, KILLED)):
        story.send(number)
        story.handle(book, number)
    story.handle(FIRST, 500, handler="tick")
    story.handle(SECOND, 1000, handler="tick")
    return story


def test_a_good_drill_passes() -> None:
    """Everything was done once."""
    story = well()
    verdict = judge(story)
    assert verdict.violations == []
    assert (verdict.figures["jobs done"], verdict.figures["deaths"], verdict.figures["repeats"]) == (3, 1, 0)


def cut_short(story: Told) -> None:
    story.send(4)
    story.tell(KILLED, BEGUN, 4)
    story.handle(LATER, 4, 2)


def not_acknowledged(story: Told) -> None:
    story.handle(LATER, 3, 2)


def refused(story: Told) -> None:
    story.send(4)
    for delivery in (1, 2, 3):
        story.tell(FIRST, BEGUN, 4, delivery)
        story.tell(FIRST, REFUSED, 4, delivery)
    story.handle(LATER, 4, 4)


def unseen(story: Told) -> None:
    story.send(4)
    story.handle(LATER, 4, 2)


@pytest.mark.parametrize(
    ("reason", "counted"),
    [
        (cut_short, {"cut short by a death": 1}),
        (not_acknowledged, {"done, but not acknowledged before a death": 1}),
        (refused, {"after a ConnectionError": 3}),
        (unseen, {"deliveries to somebody who died before he began": 1, "repeats": 0}),
    ],
)
def test_repeats_with_a_reason(reason: Callable[[Told], None], counted: dict[str, int]) -> None:
    """A death repeats what the process had in hand, a refusal what was refused: both are right, and counted."""
    story = well()
    reason(story)
    verdict = judge(story)
    assert verdict.violations == []
    figures = {name.strip(): figure for name, figure in verdict.figures.items()}
    assert {what: figures[what] for what in counted} == counted


def lost(story: Told) -> None:
    story.send(4)


def begun_only(story: Told) -> None:
    story.send(4)
    story.tell(KILLED, BEGUN, 4)


def refused_only(story: Told) -> None:
    story.send(4)
    story.tell(FIRST, BEGUN, 4)
    story.tell(FIRST, REFUSED, 4)


def repeated(story: Told) -> None:
    story.handle(LATER, 1, 2)


def repeated_before_the_death(story: Told) -> None:
    story.send(4)
    story.handle(KILLED, 4)
    story.handle(LATER, 3, 2)


def two_for_one_death(story: Told) -> None:
    for number in (4, 5):
        story.send(number)
        story.handle(LATER, number, 2)


def one_death_twice(story: Told) -> None:
    story.handle(LATER, 3, 2)
    story.send(4)
    story.handle(LATER, 4, 2)


def same_delivery(story: Told) -> None:
    story.handle(LATER, 3, 1)


def given_up(story: Told) -> None:
    story.send(4)
    story.tell(SECOND, BEGUN, 4)
    story.handle(SECOND, 5)
    story.handle(LATER, 4, 2)
    story.send(5)


def left_in_the_middle(story: Told) -> None:
    story.send(4)
    story.handle(LATER, 4)
    story.handle(LATER, 4, 2)
    story.tell(SECOND, BEGUN, 4, 3)


def never_sent(story: Told) -> None:
    story.handle(LATER, 4)


def two_ticks(story: Told) -> None:
    story.tell(FIRST, BEGUN, 1500, handler="tick")
    story.handle(SECOND, 2000, handler="tick")
    story.tell(FIRST, DONE, 1500, handler="tick")


def letter(story: Told) -> None:
    story.letters.append("drill.charge: /jobs/4")


def left_behind(story: Told) -> None:
    story.left.append("process 99")


def logged(story: Told) -> None:
    story.logged.append("ERROR it cannot go on")


def faulty(story: Told) -> None:
    story.faults.append("the producer ended with 1")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lost, "was not done: charge 4"),
        (begun_only, "was not done: charge 4"),
        (refused_only, "was not done: charge 4"),
        (repeated, "was repeated without a death: charge 1, delivery 2"),
        (repeated_before_the_death, "was repeated without a death: charge 3, delivery 2"),
        (two_for_one_death, "2 deliveries were never begun, and 1 deaths may be why"),
        (one_death_twice, "1 deliveries were never begun, and 0 deaths may be why"),
        (same_delivery, "was delivered twice as the same delivery: charge 3, delivery 1"),
        (given_up, "was repeated without a death: charge 4, delivery 2"),
        (left_in_the_middle, "charge 4 was begun and not ended by process 12, which lived"),
        (never_sent, "was handled, and never sent: charge 4"),
        (two_ticks, "two ticks were handled at once: 1500 and 2000"),
        (letter, "there is a dead letter: drill.charge: /jobs/4"),
        (left_behind, "was left behind: process 99"),
        (logged, "the pool should not have logged: ERROR it cannot go on"),
        (faulty, "the producer ended with 1"),
    ],
)
def test_harm_is_told(harm: Callable[[Told], None], told: str) -> None:
    """What was lost, repeated without a reason, buried or left behind is a violation."""
    story = well()
    harm(story)
    assert told in story.violations()


def test_many_of_a_sort() -> None:
    """A few of each sort are told, and how many there are besides."""
    story = well()
    for number in range(10, 20):
        story.send(number)
    assert story.violations().count("was not done") == 5
    assert "and 5 more of the sort" in story.violations()


def test_gaps() -> None:
    """A gap is from one job that was done to the next, while there was one; it is put down to what was before."""
    story = Told()
    story.send(1)
    story.handle(FIRST, 1)
    story.now += 10**9  # in which there is nothing to do
    story.acts.append((HANGUP, story.now))
    story.send(2)
    story.now += 2 * 10**8
    story.send(3)
    story.handle(FIRST, 2)
    story.now += 10**8
    story.handle(FIRST, 3)
    story.acts += [(KILL_PROCESSES, story.now), (OUTAGE, story.now)]
    story.send(4)
    story.outages.append((story.now, story.now + 3 * 10**8))
    story.now += 4 * 10**8
    story.handle(SECOND, 4)
    story.send(5)
    story.handle(SECOND, 5)
    gaps = {why: round(gap, 3) for why, gap in judge(story).gaps.items()}
    assert gaps == {"nothing yet": 0.002, HANGUP: 0.203, OUTAGE: 0.402, KILL_PROCESSES: 0.002}
