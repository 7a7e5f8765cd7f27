"""The soak's judge of what is sent later: once, when it is due and not before, and never after it was cancelled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from soak.ledger import Kind
from soak.message import PLANNED, is_planned
from soak.roles import SESSIONS, Planner
from test_soak_verdict import FINISHER, FIRST, Story, send_well

PLANNER = 11
PLANS = PLANNER * SESSIONS + PLANNED


class Planning(Story):
    """A round told by hand, with one that has events sent later beside the others."""

    def __init__(self) -> None:
        super().__init__()
        self.actors[PLANNER], self.books[PLANNER] = Planner(PLANNER), []
        self.sequence = 10

    def schedule(self, number: int, *, after: int = 0, given: int = 0, outcome: Kind | None = Kind.PUT) -> None:
        """Of this number, due so many entries later; without an outcome its planner was killed in it."""
        self.tell(PLANNER, Kind.PUTTING, number, after, who=PLANS)
        if outcome:
            self.tell(PLANNER, outcome, number, given or 100 + number, who=PLANS, flag=outcome == Kind.NOT_PUT)

    def cancel(self, number: int, answer: bool | None, of: int = PLANS) -> None:
        """Somebody cancels it; without an answer it was killed in it."""
        self.tell(PLANNER, Kind.CANCELLING, number, 100 + number, who=PLANS, other=of)
        if answer is not None:
            self.tell(PLANNER, Kind.CANCELLED, number, 100 + number, who=PLANS, other=of, flag=answer)

    def come(self, *numbers: int) -> None:
        """These come to everybody, in this order."""
        for number in numbers:
            self.sequence += 1
            for actor in (*self.listening, FIRST):
                self.tell(actor, Kind.GOT, self.sequence, number, other=PLANS)
            self.tell(FIRST, Kind.ACKED, self.sequence)


def planning() -> Planning:
    """Ten events have passed, none of which was sent later."""
    story = Planning()
    send_well(story)
    story.arrive(*range(1, 11))
    for sequence in range(1, 11):
        story.handle(FIRST, sequence)
    return story


def test_whose_events_are_sent_later() -> None:
    """Those of one publisher of an actor, and of no other."""
    assert is_planned(PLANS)
    assert not any(is_planned(PLANNER * SESSIONS + number) for number in range(SESSIONS) if number != PLANNED)


def as_it_should_be(story: Planning) -> None:
    """Another order than that of the numbers, one cancelled in time, one too late."""
    story.schedule(1, after=7)
    story.schedule(2, after=1)
    story.schedule(3, after=1)
    story.schedule(4, outcome=Kind.NOT_PUT)
    story.cancel(3, True)
    story.come(2, 1)
    story.cancel(2, False)


def unknown_and_sent(story: Planning) -> None:
    story.schedule(1, outcome=None)
    story.come(1)


def unknown_and_not_sent(story: Planning) -> None:
    story.schedule(1, outcome=None)


def perhaps_cancelled(story: Planning) -> None:
    story.schedule(1)
    story.cancel(1, None)


def perhaps_cancelled_and_sent(story: Planning) -> None:
    story.schedule(1)
    story.cancel(1, None)
    story.come(1)


def cancelled_by_another(story: Planning) -> None:
    """Who scheduled it died before it knew."""
    story.schedule(1, outcome=None)
    story.cancel(1, True)


@pytest.mark.parametrize(
    "course",
    [
        as_it_should_be,
        unknown_and_sent,
        unknown_and_not_sent,
        perhaps_cancelled,
        perhaps_cancelled_and_sent,
        cancelled_by_another,
    ],
)
def test_what_may_be(course: Callable[[Planning], None]) -> None:
    """Sent once or cancelled; either where somebody died in the middle."""
    story = planning()
    course(story)
    story.end(story.sequence)
    assert story.violations() == ""


def lost(story: Planning) -> None:
    story.schedule(1)


def twice(story: Planning) -> None:
    story.schedule(1)
    story.come(1, 1)


def unknown_and_twice(story: Planning) -> None:
    story.schedule(1, outcome=None)
    story.come(1, 1)


def too_early(story: Planning) -> None:
    story.schedule(1, after=1000)
    story.come(1)


def unknown_and_too_early(story: Planning) -> None:
    story.schedule(1, after=1000, outcome=None)
    story.come(1)


def refused_and_sent(story: Planning) -> None:
    story.schedule(1, outcome=Kind.NOT_PUT)
    story.come(1)


def cancelled_and_sent(story: Planning) -> None:
    story.schedule(1)
    story.cancel(1, True)
    story.come(1)


def sent_and_cancelled(story: Planning) -> None:
    story.schedule(1)
    story.come(1)
    story.cancel(1, True)


def cancelled_twice(story: Planning) -> None:
    story.schedule(1)
    story.cancel(1, True)
    story.cancel(1, True)


def too_late_and_lost(story: Planning) -> None:
    """It was scheduled, as somebody saw its number, and it was not cancelled."""
    story.schedule(1, outcome=None)
    story.cancel(1, False)


def one_number_for_two(story: Planning) -> None:
    story.schedule(1, given=5)
    story.schedule(2, given=5)
    story.come(1, 2)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lost, "did not get 1 events that were sent after it joined"),
        (twice, "stands at the sequences 11 and 12"),
        (unknown_and_twice, "stands at the sequences 11 and 12"),
        (too_early, "0.000001 s before it was due"),
        (unknown_and_too_early, "s before it was due"),
        (refused_and_sent, "arrived though its send failed"),
        (cancelled_and_sent, "though it was cancelled"),
        (sent_and_cancelled, "though it was cancelled"),
        (cancelled_twice, "was cancelled 2 times"),
        (too_late_and_lost, "did not get 1 events that were sent after it joined"),
        (one_number_for_two, "gave the number 5 to 2 events"),
    ],
)
def test_harm_to_what_is_sent_later_is_told(harm: Callable[[Planning], None], told: str) -> None:
    """Lost, doubled, early, or sent and cancelled."""
    story = planning()
    harm(story)
    story.end(story.sequence)
    assert told in story.violations()


def test_what_was_sent_in_order_stays_in_order() -> None:
    """That what is sent later may overtake holds for nothing else."""
    story = planning()
    for actor in story.listening:
        story.got(actor, 11, 12)
        story.got(actor, 12, 11)
    story.send(11, 12)
    story.end(12)
    assert "comes after number 12" in story.violations()


def test_of_a_bus_that_did_not_end_nothing_is_owed() -> None:
    """What is scheduled on a bus that all were killed on is not missed."""
    story = planning()
    story.schedule(1)
    story.killed |= {actor for actor in story.actors if actor != FINISHER}
    assert story.violations() == ""
