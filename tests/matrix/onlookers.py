"""Raw data that tell themselves apart, and survivors who look at them where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import eventbus
from eventbus import Event, FullError
from harness import SHARED_MEMORY, take, unsealed
from matrix.scene import ROOM, SHORT, SURVIVOR, Hold, Survivors

RINGS = 3  # the smallest ring of this many that takes an event which is looked at, and keeps one of them beside others
PIXELS = 4096  # bytes of raw data that are looked at sooner than copied
SOME, PICTURES = 4, 6  # fewer and more than the ring holds
KEPT = 1  # where the part of a picture begins that is kept


def picture(publisher: int, number: int) -> bytes:
    """Raw data that show by themselves whether they are whole: no two are the same, nor any two parts of one."""
    parts = (b"%d:%04d;%d;" % (publisher, number, part) for part in range(PIXELS // 8))
    return b"".join(parts)[:PIXELS]


def named(event: Event | None) -> tuple[int, int]:
    """Publisher and number of a picture, which must be whole."""
    assert event is not None, "no event came"
    publisher, number = (int(part) for part in bytes(event.data[:6]).split(b":"))
    assert event.data == picture(publisher, number)
    return publisher, number


def show(bus: eventbus.Bus, publisher: int, number: int, timeout: float | None = ROOM, system: str = "raw") -> None:
    """Sends a picture; as a job for the group where ``system`` is "jobs"."""
    assert bus.send(system, "picture", "/x", picture(publisher, number), timeout=timeout)


def left_of(name: str) -> list[str]:
    """What this process has open of the bus, or mapped to look at only."""
    mapped = [one for one in Path("/proc/self/maps").read_text().splitlines() if " r--s " in one]
    opened = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [one for one in (*mapped, *opened) if f"{SHARED_MEMORY}/eventbus.{name}." in one]


class Album:
    """Parts of pictures that are kept, as an array would keep them: each has to stay what it was."""

    def __init__(self) -> None:
        self._parts: list[tuple[bytes, memoryview]] = []

    def keep(self, event: Event) -> None:
        """Keeps all but the first bytes."""
        assert isinstance(event.data, memoryview)
        self._parts.append((bytes(event.data[KEPT:]), event.data[KEPT:]))

    def check(self) -> None:
        """All are what they were."""
        assert all(was == part for was, part in self._parts)

    def close(self) -> None:
        """Nothing is kept any more."""
        self._parts.clear()


class Onlookers(Survivors):
    """Survivors of whom the lossless one looks at pictures, and keeps a part of each: some in the ring, some copied.

    With a ``group`` so does its member, whose jobs the pictures are then.
    """

    def __init__(self, name: str, *, group: bool = False) -> None:
        super().__init__(name, rings=RINGS, group=group, view=True)
        self.album = Album()
        self.in_hand: tuple[Event, int] | None = None
        self.shown = 0

    def opened(self, event: Event) -> tuple[int, int]:
        """Of a picture as of other events."""
        if event.kind != "picture":
            return unsealed(event)
        if isinstance(event.data, memoryview):
            self.album.keep(event)
        return named(event)

    def work(self, timeout: float) -> bool:
        """Looks at one picture of the group's, if one comes in time; that ends what the member has in hand."""
        if self.member is None:
            return False
        self.check()
        self.in_hand = None
        event = self.member.receive(timeout)
        if event is not None:
            self.jobs.append((self.opened(event)[1], event.deliveries))
        return event is not None

    def send_jobs(self, count: int, first: int = 1) -> None:
        """Sends pictures as jobs, numbered from ``first``."""
        for number in range(first, first + count):
            show(self.bus, SURVIVOR, number, system="jobs")

    def show(self) -> None:
        """Sends the next picture."""
        show(self.bus, SURVIVOR, self.shown, system="raw" if self.member is None else "jobs")
        self.shown += 1

    def go_round(self) -> None:
        """A ring goes by that is looked at, and one picture more, which is in hand: the member's, if there is one."""
        for _ in range(PICTURES):
            self.show()
            self.drain()
        self.take_one()

    def take_one(self) -> None:
        """One picture more, which is in hand."""
        self.show()
        if self.member is None:
            self.in_hand = take(self.blocking), self.shown - 1
            self.sequence += 1
        else:
            self.drain(jobs=False)
            self.in_hand = take(self.member), self.shown - 1
            self.jobs.append((self.shown - 1, 1))
        self.check()

    def check(self) -> None:
        """What they look at is what it was."""
        if self.in_hand is not None:
            assert named(self.in_hand[0]) == (SURVIVOR, self.in_hand[1])
        self.album.check()

    def drain(self, jobs: bool = True) -> None:
        """Asks for more, which ends what is in hand; that of the member only where it does ``jobs``."""
        self.check()
        if self.member is None:
            self.in_hand = None
        super().drain(jobs)
        self.check()

    def crowd(self) -> None:
        """The ring fills up, but for what is in hand."""
        full = None
        while full is None:
            full = self.refused()
        assert full.details["pid"] == os.getpid()
        self.check()

    def refused(self) -> FullError | None:
        """Sends an event; why it could not."""
        try:
            self.send(timeout=SHORT)
        except FullError as error:
            return error
        return None

    def meanwhile_held(self, pid: int) -> None:
        """While a viewer stands still: publishers wait for what it looks at, all else goes on."""
        self.meanwhile(Hold.GATE, pid)
        full = self.fill(Hold.GATE)
        assert full is not None, "what is looked at was overwritten"
        assert full.details["pid"] == pid
        self.check()

    def end(self) -> None:
        """The bus goes on and ends, and nothing of it is left once nothing is kept."""
        self.drain()
        self.go_round()
        self.crowd()
        self.drain()
        super().end()
        self.check()
        self.album.close()
        left = left_of(self.bus.name)
        assert not left, f"it has not let go of {left}"
