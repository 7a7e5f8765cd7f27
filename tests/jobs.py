"""Jobs for a group and its members, as the tests of groups send and take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventbus import Bus, Event, FullError, Subscription
from eventbus.member import Member
from harness import take


def join(bus: Bus, prefetch: int = 1, **options: Any) -> Member:
    """A member of the group ``g``, which hears ``jobs.**``."""
    member = bus.subscribe("jobs.**", group="g", prefetch=prefetch, **options)
    assert isinstance(member, Member)
    return member


def send(bus: Bus, count: int, first: int = 0) -> None:
    """Sends numbered jobs, all at once."""
    bus.send_many([("jobs", "job.new", f"/{number}", number) for number in range(first, first + count)])


def numbers(sub: Subscription, timeout: float = 0) -> list[int]:
    """What it gets until nothing comes."""
    taken = []
    while (event := sub.receive(timeout)) is not None:
        taken.append(event.data)
    return taken


def holders(bus: Bus) -> list[tuple[int, int]]:
    """Events and deliveries of what members of the only group hold."""
    return [(one.events, one.deliveries) for one in bus.stats().groups[0].members if one.events]


def fill(bus: Bus, after_each: Callable[[], object] = lambda: None) -> tuple[FullError, int]:
    """Sends until the ring is full: the error, and how many events that took."""
    sent = 0
    while True:
        try:
            bus.send("jobs", "job", "/", "x" * 100, timeout=0)
        except FullError as error:
            return error, sent
        sent += 1
        after_each()


def bury_without_room(own: Bus, bus: Bus) -> tuple[Member, int]:
    """A member of ``own`` with a dead letter for which there is no room, and how many of ``bus`` fill the ring."""
    own.group("g", "jobs.**", max_deliveries=1)
    member = join(own)
    send(bus, 1)
    event = member.receive(0)
    assert event is not None
    _, sent = fill(bus)
    member.bury(event)
    return member, sent


def manual(bus: Bus, prefetch: int = 16) -> Member:
    """A member of the group ``g`` that says for itself what is done."""
    return join(bus, prefetch, ack="manual")


def has(sub: Subscription, count: int) -> list[Event]:
    """The next events, one by one."""
    return [take(sub) for _ in range(count)]


def again(event: Event | None) -> tuple[object, int]:
    """Its number, and how often it was delivered."""
    assert event is not None
    return event.data, event.deliveries
