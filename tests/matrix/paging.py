"""Victims that have more in hand than a page of claims holds."""

from __future__ import annotations

from dataclasses import dataclass

from eventbus._eventbus import ffi, lib

import eventbus
from eventbus.core.reader import BATCH_LIMIT
from eventbus.member import Member
from harness import Line, sealed
from matrix.scene import ROOM, SURVIVOR, Aim, Hold, Scene, Survivors, await_go, join

PAGE: int = lib.EB_PAGE_CLAIMS
FEW = PAGE - 4  # jobs that leave room on the group's first page
PAGES = 3
MANY = (PAGES - 1) * PAGE + 2  # jobs that need three pages
RINGS = 4  # how much larger the ring is that holds them


def join_by_hand(bus: eventbus.Bus, prefetch: int, group: str = "g") -> Member:
    """A member that finishes each event by itself, of the group ``g`` or of one that hears what has its name."""
    if group == "g":
        return join(bus, prefetch, ack="manual")
    member = bus.subscribe(group, group=group, prefetch=prefetch, ack="manual")
    assert isinstance(member, Member)
    return member


def take(member: eventbus.Subscription, count: int) -> list[eventbus.Event]:
    """So many events, which must come."""
    events: list[eventbus.Event] = []
    while len(events) < count:
        events += member.receive_many(count - len(events), ROOM)
    return events


def take_many(line: Line, name: str, aim: Aim, back: bool) -> None:
    """Is handed many jobs; claims more than a page holds once it is told to go on, or gives pages ``back`` then."""
    member = join_by_hand(eventbus.open(name), BATCH_LIMIT)
    await_go(line)
    events = take(member, MANY if back else FEW)
    await_go(line)
    if back:
        for event in events:
            member.ack(event)
    aim.take()
    while True:
        member.receive(0)


def pages_of(bus: eventbus.Bus, name: str) -> set[int]:
    """The numbers of the pages on which the group has claims."""
    handle, out, claim, seen = bus._open_handle(), ffi.new("eb_claim_info *"), -1, set[int]()
    group = next(group.number for group in handle.groups() if group.name == name)
    while (claim := lib.eb_claim_read(handle.pointer, group, claim + 1, out)) >= 0:
        seen.add(claim // PAGE)
    return seen


def check_pages(survivors: Survivors) -> None:
    """A member has many in hand, again and again, on as few pages as can be: none was lost."""
    with join_by_hand(survivors.bus, BATCH_LIMIT) as member:
        for _ in range(2):
            for number in range(1, MANY + 1):
                survivors.bus.send("jobs", "job", "/job", sealed(SURVIVOR, number), timeout=ROOM)
                survivors.drain(jobs=False)
            events = take(member, MANY)
            assert [event.deliveries for event in events] == [1] * MANY
            assert pages_of(survivors.bus, "g") == set(range(PAGES))
            for event in events:
                member.ack(event)
            assert pages_of(survivors.bus, "g") == set()


@dataclass(frozen=True)
class Paging:
    """A member with more in hand than a page holds: those that it was handed, and those that it only claimed.

    Attributes:
        back: it gives pages back.
        again: it comes to its point for the third page, too.
    """

    back: bool = False
    again: bool = True

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = Survivors(scene.name, group=True, rings=RINGS)
        victim = scene.victim(take_many, self.back)
        first = MANY if self.back else FEW
        survivors.send_jobs(first)
        victim.say("go")
        assert victim.hear()
        survivors.drain(jobs=False)
        if not self.back:
            survivors.send_jobs(MANY - FEW, FEW + 1)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.GROUP | Hold.GATE, pid))
        survivors.finish_jobs()
        jobs = [] if self.back else [(number, 1 + (number <= FEW)) for number in range(1, MANY + 1)]
        assert sorted(survivors.jobs) == jobs
        survivors.drain()
        check_pages(survivors)
        survivors.drain()
        survivors.end()
