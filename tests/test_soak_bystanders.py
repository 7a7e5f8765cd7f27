"""The soak's judge of bystanders: they hear all that is whispered, and no send is refused because they stand still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from soak.ledger import Kind
from soak.message import WHISPERED, topic
from soak.roles import SESSIONS, Bystander, Caretaker, Group, Whisperer
from test_soak_verdict import FIRST, PUBLISHER, TRAFFIC, Story, send_well

WHISPERER, STANDING, CARING = 11, 12, 13
WHISPERS = WHISPERER * SESSIONS + WHISPERED
QUIET = Group(2, "quiet.**", None, max_deliveries=10, start="latest")


class Quiet(Story):
    """A round told by hand, with a bystander and a quiet group beside the others."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = (*self.groups, QUIET)
        added = (Whisperer(WHISPERER), Bystander(STANDING, system="quiet.**"), Caretaker(CARING, group=QUIET.number))
        for actor in added:
            self.actors[actor.number], self.books[actor.number] = actor, []
        self.sequence = 10

    def begin(self) -> None:
        """Everybody joins, and stands still; whoever cares for the group has left it again."""
        super().begin()
        self.tell(CARING, Kind.GROUPING, who=QUIET.number)
        self.tell(CARING, Kind.GROUPED, who=QUIET.number)
        self.tell(STANDING, Kind.JOINING)
        self.tell(STANDING, Kind.JOINED)
        self.stand_still()

    def stand_still(self) -> None:
        """From now on."""
        self.tell(STANDING, Kind.STILL)

    def whisper(self, number: int) -> None:
        """An event for those who stand still."""
        self.tell(WHISPERER, Kind.WILL, number, number, who=WHISPERS)
        self.tell(WHISPERER, Kind.SENT, number, number, who=WHISPERS)

    def hear(self, number: int) -> None:
        """Everybody hears the event, but the member of the quiet group."""
        self.sequence = 10 + number
        for actor in (*self.listening, STANDING):
            self.tell(actor, Kind.GOT, self.sequence, number, other=WHISPERS)
        self.tell(FIRST, Kind.GOT, self.sequence, number, other=WHISPERS)
        self.tell(FIRST, Kind.ACKED, self.sequence)

    def care(self, number: int) -> None:
        """A member comes to the quiet group, handles the event, and leaves."""
        who = CARING * SESSIONS + number
        self.tell(CARING, Kind.JOINING, other=QUIET.number, who=who)
        self.tell(CARING, Kind.JOINED, other=QUIET.number, who=who)
        self.tell(CARING, Kind.GOT, 10 + number, number, other=WHISPERS, who=who)
        self.tell(CARING, Kind.ACKED, 10 + number, who=who)
        self.tell(CARING, Kind.ENDED, who=who)

    def refuse(self, who: int = 0, group: int = 0) -> None:
        """A send that finds no room; because of whom, it is told."""
        self.tell(PUBLISHER, Kind.WILL, 99, 99)
        self.tell(PUBLISHER, Kind.BLAMED, who, 1, other=group)
        self.tell(PUBLISHER, Kind.NOT_SENT, 99, 99, flag=1)

    def finish(self, lost: int = 0) -> None:
        """All that came before is handled, and the bus is shut down."""
        self.end(self.sequence)
        self.tell(STANDING, Kind.LOST, lost)
        self.tell(STANDING, Kind.ENDED, flag=1)


def quiet() -> Quiet:
    """Ten events have passed, of which the bystander and the quiet group hear nothing."""
    story = Quiet()
    send_well(story)
    story.arrive(*range(1, 11))
    for sequence in range(1, 11):
        story.handle(FIRST, sequence)
    return story


def test_the_whispered_is_quiet() -> None:
    """What is whispered goes to quiet systems, and nothing else does."""
    assert all(topic(TRAFFIC, WHISPERS, number)[0].startswith("quiet.") for number in range(1, 100))
    assert not any(topic(TRAFFIC, WHISPERS + 1, number)[0].startswith("quiet") for number in range(1, 100))


def heard_in_time(story: Quiet) -> None:
    story.refuse()
    story.whisper(1)
    story.refuse(STANDING)
    story.hear(1)
    story.refuse(STANDING)
    story.stand_still()
    story.refuse(0, QUIET.number)
    story.care(1)
    story.whisper(2)
    story.hear(2)
    story.refuse(0, QUIET.number)
    story.care(2)


def whispered_amid_a_send(story: Quiet) -> None:
    story.tell(PUBLISHER, Kind.WILL, 99, 99)
    story.whisper(1)
    story.hear(1)
    story.stand_still()
    story.tell(PUBLISHER, Kind.BLAMED, STANDING, 1)
    story.tell(PUBLISHER, Kind.NOT_SENT, 99, 99, flag=1)
    story.care(1)


@pytest.mark.parametrize("course", [heard_in_time, whispered_amid_a_send])
def test_who_has_something_to_hear_may_be_named(course: Callable[[Quiet], None]) -> None:
    """From when it is whispered until it is surely taken, by the group until it is surely acknowledged."""
    story = quiet()
    course(story)
    story.finish()
    assert story.violations() == ""


def named_for_nothing(story: Quiet) -> None:
    story.refuse(STANDING)


def named_after_it_was_taken(story: Quiet) -> None:
    story.whisper(1)
    story.hear(1)
    story.care(1)
    story.stand_still()
    story.refuse(STANDING)


def group_named_for_nothing(story: Quiet) -> None:
    story.refuse(0, QUIET.number)


def group_named_after_it_was_handled(story: Quiet) -> None:
    story.whisper(1)
    story.hear(1)
    story.care(1)
    story.refuse(0, QUIET.number)


def named_for_what_was_not_sent(story: Quiet) -> None:
    story.tell(WHISPERER, Kind.WILL, 1, 1, who=WHISPERS)
    story.tell(WHISPERER, Kind.NOT_SENT, 1, 1, who=WHISPERS, flag=1)
    story.refuse(STANDING)


def not_heard(story: Quiet) -> None:
    story.whisper(1)
    story.whisper(2)
    for actor in story.listening:
        story.tell(actor, Kind.GOT, 11, 1, other=WHISPERS)
    story.hear(2)
    story.care(2)


def not_handled(story: Quiet) -> None:
    story.whisper(1)
    story.hear(1)


def counted_as_lost(story: Quiet) -> None:
    story.tell(STANDING, Kind.LOST, 3)
    story.tell(STANDING, Kind.ENDED)
    story.actors[STANDING] = replace(story.actors[STANDING], reopen=3)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (named_for_nothing, "was refused after 0.000 s because of bystander 12 and its 1 events"),
        (named_after_it_was_taken, "because of bystander 12"),
        (group_named_for_nothing, "because of group g2"),
        (group_named_after_it_was_handled, "because of group g2"),
        (named_for_what_was_not_sent, "because of bystander 12"),
        (not_heard, "subscription 12 (quiet.**, None, block, latest, drained): did not get 1 events"),
        (not_handled, "g2: sequence 11 was never handled"),
    ],
)
def test_harm_of_bystanders_is_told(harm: Callable[[Quiet], None], told: str) -> None:
    """A send that is refused because of who has nothing to hear, and what is not heard when it is there at last."""
    story = quiet()
    harm(story)
    story.finish()
    assert told in story.violations()


def test_what_it_counts_as_lost_is_told() -> None:
    """A bystander that leaves before the end has lost nothing, as one that stays."""
    story = quiet()
    counted_as_lost(story)
    story.end(10)
    assert "is lossless and counts 3 as lost" in story.violations()
