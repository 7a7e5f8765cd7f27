"""Notes: how far a bridge has come stands beside the events that it brought, and survives all that they do not."""

from __future__ import annotations

from typing import Any

import pytest

import eventbus
from eventbus import Bus, FullError, InvalidError, UnavailableError
from eventbus.core.native import lib
from harness import Fork, Line, arm, take


def bring(bus: Bus, number: int, name: str = "stream", count: int = 1) -> int:
    """Brings so many events and notes the number with them."""
    return bus._bring("far", [("a", "k", "/p", number)] * count, (name, b"%d" % number), timeout=0)


def test_the_last_one_of_a_name(bus: Bus) -> None:
    """Each name has the note that came last, be it with events, several of them, or none."""
    with bus.subscribe("**") as sub:
        assert bus._noted("stream") is None
        for number, count in enumerate((1, 3, 0, 0, 1)):
            assert bring(bus, number, count=count) == count
            assert bring(bus, 100 + number, "other", count) == count
            assert (bus._noted("stream"), bus._noted("other")) == (b"%d" % number, b"%d" % (100 + number))
        assert len(sub.receive_many(99, 0)) == bus.stats().sent == 10
    assert bus._noted("strea") is None


def test_it_outlives_its_events(bus: Bus) -> None:
    """However often the ring goes round, by whomever, what was noted last is there."""
    with bus.subscribe("none", overflow="drop"):
        bring(bus, 7)
        for number in range(2000):
            bus.send("a", "k", "/p", number)
        assert bus._noted("stream") == b"7"
        for number in range(2000):
            bring(bus, number)
            assert bus._noted("stream") == b"%d" % number


def test_what_is_not_sent_is_not_noted(name: str) -> None:
    """Events that find no room, or are none, leave the note as it was."""
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("**"):
        bring(bus, 1, count=2)
        with pytest.raises(FullError):
            bring(bus, 2, count=84)
        with pytest.raises(InvalidError):
            bus._bring("far", [("a", "k", "/p", object())], ("stream", b"3"))
        assert bus._noted("stream") == b"1"


@pytest.mark.parametrize("note", [("", b""), ("n" * 77, b""), ("n", b"x" * 65)])
def test_what_is_no_note(bus: Bus, note: tuple[str, bytes]) -> None:
    """Names and notes that are too long are an error, and nothing is sent; the longest are kept whole."""
    with pytest.raises(InvalidError, match="a note has a name of 1 to 76 bytes and at most 64"):
        bus._bring("far", [("a", "k", "/p", 1)], note)
    assert bus.stats().sent == 0
    longest = "n" * lib.EB_NOTE_NAME_LIMIT, bytes(lib.EB_NOTE_LIMIT)
    bus._bring("far", [], longest)
    assert bus._noted(longest[0]) == longest[1]


def test_more_names_than_there_is_room_for(bus: Bus) -> None:
    """Another name than those that fit is an error, nothing of it is sent, and the others go on."""
    for number in range(lib.EB_NOTES):
        bring(bus, number, f"stream{number}")
    with pytest.raises(UnavailableError, match="notes of 64 names"):
        bring(bus, 1, "another")
    assert bus._noted("another") is None
    assert bus.stats().sent == lib.EB_NOTES
    bring(bus, 99, "stream63")
    assert (bus._noted("stream0"), bus._noted("stream63")) == (b"0", b"99")


def test_a_subscriber_has_no_notes(bus: Bus) -> None:
    """Who may not write the ring is told so."""
    with eventbus.open(bus.name, role="subscriber") as reader:
        for call in (lambda: reader._noted("stream"), lambda: reader._bring("far", [], ("stream", b""))):
            with pytest.raises(InvalidError, match="role='subscriber'"):
                call()


def bring_and_die(line: Line, name: str, options: dict[str, Any]) -> None:
    """Brings an event, and dies in the middle of the next one."""
    bus = eventbus.open(name, **options)
    bring(bus, 1)
    line.say("brought")
    arm("note_numbered")
    bring(bus, 2)


def test_a_note_of_events_that_were_not_committed(bus: Bus, fork: Fork) -> None:
    """It never holds, also when others have committed more than that; and the next one does."""
    child = fork(bring_and_die, bus.name, {})
    child.hear()
    child.killed()
    for _ in range(3):
        bus.send("a", "k", "/p", "something else of some length")
        assert bus._noted("stream") == b"1"
    bring(bus, 3)
    assert bus._noted("stream") == b"3"


def test_a_bus_that_is_repaired(fork: Fork, name: str) -> None:
    """With a bus that outlives its last process its notes do, but for one of events that were not committed."""
    child = fork(bring_and_die, name, {"persist": True})
    child.hear()
    child.killed()
    with eventbus.open(name) as bus:
        for _ in range(3):
            assert bus._noted("stream") == b"1"
            bus.send("a", "k", "/p", "something else of some length")
    with eventbus.open(name) as bus, bus.subscribe("a", start="oldest") as sub:
        assert bus._noted("stream") == b"1"
        assert take(sub).origin == "far"
    eventbus.unlink(name)
