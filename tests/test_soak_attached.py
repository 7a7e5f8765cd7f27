"""The judge of who was attached to which bus: one name never means two at once, as far as anybody can know."""

from __future__ import annotations

import pytest

from soak.attached import judge_attached, spans
from soak.ledger import Entry, Kind

Told = tuple[Kind, int, int]  # what, of which bus, when


def book(*told: Told) -> list[Entry]:
    """A ledger of openings and leavings."""
    return [Entry(kind, 0, 0, 0, 0, 0, 0, bus, at) for kind, bus, at in told]


def judge(*books: list[Entry]) -> list[str]:
    """What is said of these processes."""
    return judge_attached(span for who, entries in enumerate(books) for span in spans(who, entries))


def test_one_after_the_other_is_right() -> None:
    """A bus that begins when the last one of another has begun to leave is no second one beside it."""
    first = book((Kind.OPENED, 7, 1), (Kind.LEAVING, 7, 5), (Kind.OPENED, 8, 6), (Kind.END, 0, 9))
    second = book((Kind.OPENED, 7, 2), (Kind.WILL, 7, 4), (Kind.LEAVING, 7, 5), (Kind.OPENED, 8, 7))
    assert judge(first, second) == []


@pytest.mark.parametrize("last", [Kind.LEAVING, Kind.END, Kind.WILL])
def test_two_at_once_are_told(last: Kind) -> None:
    """Whoever leaves, ends or dies later than another one has come to another bus: that is a violation."""
    told = judge(book((Kind.OPENED, 7, 1), (last, 7, 5)), book((Kind.OPENED, 8, 4), (Kind.LEAVING, 8, 9)))
    assert len(told) == 1
    assert "two segments at once" in told[0]


def test_what_cannot_be_known_is_not_told() -> None:
    """Of one that was killed nobody knows how long it was there after its last word."""
    assert judge(book((Kind.OPENED, 7, 1)), book((Kind.OPENED, 8, 2), (Kind.LEAVING, 8, 3))) == []


def test_one_that_stays_is_compared_with_all() -> None:
    """However many have come and gone since, one that is still there of another bus is found."""
    short = [book((Kind.OPENED, 7, at), (Kind.LEAVING, 7, at + 1)) for at in range(2, 50, 2)]
    assert judge(book((Kind.OPENED, 8, 1), (Kind.END, 0, 100)), *short) != []
    assert judge(book((Kind.OPENED, 7, 1), (Kind.END, 0, 100)), *short) == []
