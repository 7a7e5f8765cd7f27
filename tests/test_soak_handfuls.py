"""The soak's judge of members that finish each event by itself, and of publishers that wait for what is held."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventbus import Bus, ClosedError, EventBusError, FullError, Subscription, UnavailableError
from harness import take
from soak import insisting
from soak.insisting import insist
from soak.ledger import Kind, Ledger, faults
from soak.plan import draw
from soak.roles import Juggler
from test_soak_verdict import FIRST, SECOND, Story, well

LATER = 1000  # nanoseconds, each of which is a word of the story


def handful() -> Story:
    """Two members that finish each by itself; all but the last two are done, in another order than they came in."""
    story = well()
    for actor in (FIRST, SECOND):
        story.actors[actor] = Juggler(actor, group=1, prefetch=8, style="many")
    story.arrive(*range(1, 11))
    for sequence in range(1, 9):
        story.got(FIRST, sequence)
    for sequence in (3, 8, 1, 2, 7, 6, 4, 5):
        acknowledge(story, FIRST, sequence)
    return story


def acknowledge(story: Story, actor: int, sequence: int) -> None:
    """By itself."""
    story.tell(actor, Kind.ASKING, sequence)
    story.tell(actor, Kind.ACKED, sequence, flag=1)


def give_back(story: Story, actor: int, sequence: int, deliveries: int = 1, delay: int = 0) -> None:
    """An event is given back, and the member goes on."""
    story.tell(actor, Kind.REJECTING, sequence, delay, deliveries=deliveries)
    story.tell(actor, Kind.RETURNED, sequence, deliveries=deliveries)


def last_two(story: Story) -> None:
    """They come together."""
    story.got(FIRST, 9)
    story.got(FIRST, 10)


def as_asked(story: Story) -> None:
    last_two(story)
    story.tell(FIRST, Kind.HELD, 9, 1 << 17, c=1 << 16)
    give_back(story, FIRST, 10, delay=LATER)
    acknowledge(story, FIRST, 9)
    story.now += LATER
    story.got(SECOND, 10, deliveries=2)
    acknowledge(story, SECOND, 10)


def at_once(story: Story) -> None:
    """It comes again to the same one, before that one has said that it was given back."""
    last_two(story)
    story.tell(FIRST, Kind.REJECTING, 10)
    story.got(FIRST, 10, deliveries=2)
    story.tell(FIRST, Kind.RETURNED, 10)
    acknowledge(story, FIRST, 10)
    acknowledge(story, FIRST, 9)


def died_while_it_gave_back(story: Story) -> None:
    """So its delay may be forgotten; what else it had in hand comes again too."""
    last_two(story)
    story.tell(FIRST, Kind.REJECTING, 10, LATER)
    story.killed.add(FIRST)
    for sequence in (10, 9):
        story.handle(SECOND, sequence, deliveries=2)


def told_in_time(story: Story) -> None:
    last_two(story)
    acknowledge(story, FIRST, 9)
    give_back(story, FIRST, 10)
    story.got(SECOND, 10, deliveries=2)
    give_back(story, SECOND, 10, deliveries=2, delay=LATER)
    story.now += LATER
    tell_of_it(story)


def tell_of_it(story: Story) -> None:
    """A letter tells of the last event; whoever hears letters handles it."""
    for actor in story.listening:
        story.tell(actor, Kind.LETTER, 11, 10, other=1)
    story.tell(SECOND, Kind.LETTER, 11, 10, other=1)
    acknowledge(story, SECOND, 11)


@pytest.mark.parametrize("course", [as_asked, at_once, died_while_it_gave_back, told_in_time])
def test_a_good_handful_passes(course: Callable[[Story], None]) -> None:
    """Acknowledged in any order, given back for later, forgotten with a death: nothing is wrong."""
    story = handful()
    course(story)
    story.end(11 if course is told_in_time else 10)
    assert story.violations() == ""


def before_its_delay_was_over(story: Story) -> None:
    last_two(story)
    acknowledge(story, FIRST, 9)
    give_back(story, FIRST, 10, delay=LATER)
    story.now += LATER - 3  # two words were told since, and the next one comes a word too early
    story.got(SECOND, 10, deliveries=2)
    acknowledge(story, SECOND, 10)


def early_after_a_death(story: Story) -> None:
    """Whoever gave it back for later may die: the delay stays."""
    last_two(story)
    acknowledge(story, FIRST, 9)
    give_back(story, FIRST, 10, delay=LATER)
    story.killed.add(FIRST)
    story.handle(SECOND, 10, deliveries=2)


def told_too_early(story: Story) -> None:
    last_two(story)
    acknowledge(story, FIRST, 9)
    give_back(story, FIRST, 10)
    story.got(SECOND, 10, deliveries=2)
    give_back(story, SECOND, 10, deliveries=2, delay=LATER)
    tell_of_it(story)


def robbed(story: Story) -> None:
    """The one that has it in hand dies, but only after it has come again."""
    last_two(story)
    story.handle(SECOND, 10, deliveries=2)
    acknowledge(story, FIRST, 9)
    story.killed.add(FIRST)


def again_after_it_alone_was_done(story: Story) -> None:
    last_two(story)
    acknowledge(story, FIRST, 10)
    story.killed.add(FIRST)
    for sequence in (10, 9):
        story.handle(SECOND, sequence, deliveries=2)


def another_was_given_back(story: Story) -> None:
    last_two(story)
    give_back(story, FIRST, 9)
    for sequence in (9, 10):
        story.handle(SECOND, sequence, deliveries=2)


def never_again(story: Story) -> None:
    last_two(story)
    acknowledge(story, FIRST, 9)
    give_back(story, FIRST, 10, delay=LATER)


def counted_with_the_first(story: Story) -> None:
    """Both were given back, and only the one that comes first is counted as delivered again."""
    last_two(story)
    for sequence in (9, 10):
        give_back(story, FIRST, sequence)
    for sequence, deliveries in ((9, 2), (10, 1)):
        story.got(SECOND, sequence, deliveries=deliveries)
        acknowledge(story, SECOND, sequence)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (before_its_delay_was_over, "came again 0.000000 s before member 4 had asked for it"),
        (early_after_a_death, "before member 4 had asked for it"),
        (told_too_early, "before member 5 had asked for it"),
        (robbed, "was taken from the hand of member 4, which lived"),
        (again_after_it_alone_was_done, "sequence 10, ('event', 1, 10), was delivered again after member 4 had"),
        (another_was_given_back, "sequence 10, ('event', 1, 10), was delivered again, and member 4 neither died"),
        (never_again, "sequence 10 was never handled: delivered 1 times, and no letter"),
        (counted_with_the_first, "sequence 10, ('event', 1, 10), was delivered with the counts [1, 1]"),
    ],
)
def test_harm_to_a_handful_is_told(harm: Callable[[Story], None], told: str) -> None:
    """What comes too early, out of a living hand, after it was done, or not at all is a violation."""
    story = handful()
    harm(story)
    story.end(11 if harm is told_too_early else 10)
    assert told in story.violations()


# --- who waits for what is held ---


class Held:
    """A bus with one event in hand, and the error of a send that was refused because of it."""

    def __init__(self, bus: Bus, directory: Path) -> None:
        self.bus, self.ledger, self.directory = bus, Ledger(directory, 1), directory
        bus.group("g", "work")
        self.member = bus.subscribe("work", group="g", ack="manual", prefetch=4)
        bus.send("work", "one", "/held")
        self.event = take(self.member)
        self.others: list[Subscription] = []
        self.sends = 0

    def refuse(self) -> None:
        """A send that finds no room."""
        self.sends += 1
        raise FullError("full", sequence=self.event.sequence, group="g")

    def accept(self) -> None:
        """A send that finds some."""
        self.sends += 1

    def insist(self, send: Callable[[], object], size: int = 100) -> bool:
        """By this send."""
        error = FullError("full", sequence=self.event.sequence or None, group="g")
        return insist(self.ledger, self.bus, error, size, send)

    def faults(self) -> list[str]:
        """What was found wrong."""
        return faults(self.directory, 1)


@pytest.fixture
def held(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Where it is soon enough that somebody has waited for too long."""
    monkeypatch.setattr(insisting, "STUCK", 0.02)
    made = Held(bus, tmp_path)
    yield made
    os.close(made.ledger._fd)


def test_a_publisher_that_waits_for_what_could_be_parked_is_told(held: Held) -> None:
    """Refused again and again because of one small event in hand, with nothing else there: a violation."""
    assert not held.insist(held.refuse)
    assert held.sends > 0
    assert "because of what is held, and there was room to park it" in "".join(held.faults())


@pytest.mark.parametrize("error", [ClosedError, UnavailableError])
def test_who_insists_may_be_kept_from_it(held: Held, error: type[EventBusError]) -> None:
    """By another thread that leaves the bus, or by one that has its lock and is stopped: nothing is wrong."""

    def refuse() -> None:
        raise error("not now")

    assert not held.insist(refuse)
    assert held.faults() == []


def test_who_insists_may_be_heard(held: Held) -> None:
    """What was in the way is parked by then: sent, and nothing is wrong."""
    assert held.insist(held.accept)
    assert held.sends == 1
    assert held.faults() == []


def something_to_receive(held: Held) -> dict[str, int]:
    held.others.append(held.bus.subscribe("other"))
    held.bus.send("other", "one", "/late")
    return {}


def work_to_take(held: Held) -> dict[str, int]:
    held.bus.send("work", "one", "/next")
    return {}


def large(held: Held) -> dict[str, int]:
    return {"size": 1 << 12}


def of_no_event(held: Held) -> dict[str, int]:
    held.event = held.event._replace(sequence=0)
    return {}


def much_in_hand(held: Held) -> dict[str, int]:
    held.bus.send("work", "one", "/large", b"x" * (1 << 13))
    take(held.member)
    return {}


@pytest.mark.parametrize("reason", [something_to_receive, work_to_take, large, of_no_event, much_in_hand])
def test_who_is_refused_for_a_reason_does_not_insist(held: Held, reason: Callable[[Held], dict[str, int]]) -> None:
    """Others have not received all, or what is in hand may find no room in the parking: as it should be."""
    assert not held.insist(held.refuse, **reason(held))
    assert held.sends == 0
    assert held.faults() == []


def test_jugglers_are_drawn() -> None:
    """Of each sort: finishing apart or not, with long jobs, with much given back, on a ring that is soon full."""
    plans = [draw(1, number, shortest=1, longest=2, root=False, clocks=False, storms=True) for number in range(1, 60)]
    drawn = [(plan, one) for plan in plans for one in plan.actors if isinstance(one, Juggler)]
    assert {one.apart for _, one in drawn} == {False, True}
    assert {one.style for _, one in drawn} == {"next", "many", "await"}
    assert any(one.long for _, one in drawn)
    assert any(one.reject for _, one in drawn)
    assert len({one.prefetch for _, one in drawn}) > 10
    assert all(plan.traffic.capacity <= 1 << 18 for plan, _ in drawn)
