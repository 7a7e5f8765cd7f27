"""What the soak says of looks that did not stay what they were, and who of a plan looks."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventbus import Event
from soak.ledger import Kind, Ledger, faults, read
from soak.plan import draw
from soak.roles import Juggler, Member
from soak.viewers import Album

ME = 7


class Scrapbook:
    """An album whose looks are at memory that others may write to."""

    def __init__(self, directory: Path, most: int) -> None:
        self._directory = directory
        self.ledger = Ledger(directory, ME)
        part: Any = SimpleNamespace(ledger=self.ledger, dice=random.Random(1))
        self.album = Album(part, ME, True, most)
        self.memory = bytearray(b"x" * 5000)

    def look(self, sequence: int) -> Event:
        """At all of it; the event as it is worked on."""
        event = Event("a", "k", "/p", memoryview(self.memory), sequence, 1, 1)
        return self.album.looked([event])[0]

    def faults(self) -> list[str]:
        """What was told so far."""
        return faults(self._directory, ME)

    def looks(self) -> list[int]:
        """What the ledger has of them."""
        return [one.a for one in read(self._directory, ME) if one.kind == Kind.VIEWED]


@pytest.fixture
def most() -> int:
    return 0


@pytest.fixture
def book(tmp_path: Path, most: int) -> Iterator[Scrapbook]:
    made = Scrapbook(tmp_path, most)
    yield made
    os.close(made.ledger._fd)


def test_a_look_that_stays_the_same_is_none_to_tell_of(book: Scrapbook) -> None:
    """Its bytes go on as if there had been no view."""
    assert book.look(1).data == b"x" * 5000
    book.album.over([1, 2])
    assert book.faults() == []
    assert book.looks() == [1]


def test_a_look_that_changed_is_told_at_its_end(book: Scrapbook) -> None:
    """And once."""
    book.look(1)
    book.memory[4000] = 0
    book.album.over([1])
    book.album.over([1])
    assert len(book.faults()) == 1
    assert "looked at of sequence 1 has changed" in book.faults()[0]


@pytest.mark.parametrize("most", [1000])
def test_what_was_kept_and_changed_is_told_at_the_end(book: Scrapbook) -> None:
    """After its event as well as before."""
    for sequence in range(1, 20):
        book.look(sequence)
        book.album.over([sequence])
    book.memory[4000] = 0
    book.album.close()
    assert book.faults()
    assert all("kept" in fault for fault in book.faults())


def test_members_of_all_sorts_look() -> None:
    """With automatic and manual acknowledgement, keeping nothing or much; some rounds have much to look at."""
    plans = [draw(1, number, shortest=1, longest=2, root=False, clocks=False, storms=True) for number in range(1, 60)]
    members = [one for plan in plans for one in plan.actors if isinstance(one, Member)]
    for sort in (True, False):
        views = {one.view for one in members if isinstance(one, Juggler) is sort}
        assert {None, 0} < views
    assert any(plan.traffic.sizes == "raw" for plan in plans)
