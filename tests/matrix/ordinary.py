"""What each role does on an ordinary day, and which moments it comes to."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress

from eventbus._eventbus import lib

import eventbus
from eventbus import FullError
from harness import Fork, Line, points, sealed, take
from matrix.moments import record
from matrix.onlookers import PICTURES, RINGS, Album, show
from matrix.scene import CAPACITY, LAP, READY, ROOM, SHORT, SLOTS, SURVIVOR, Role, join, stay


def passed_by(activity: Callable[[], None]) -> set[str]:
    """The moments that this process comes to while it does this."""
    numbers = points()
    before = {name: lib.eb_test_passed(number) for name, number in numbers.items()}
    seen = record()
    activity()
    return {name for name, number in numbers.items() if lib.eb_test_passed(number) > before[name]} | set(seen)


def open_bus(name: str) -> eventbus.Bus:
    """A small bus."""
    return eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS)


def publish(_: Line, name: str) -> set[str]:
    """Sends single events and several, of known topics and new ones, for laps, into a full ring, raw and inline."""
    bus = open_bus(name)

    def activity() -> None:
        for number in range(LAP):
            bus.send("still", f"here{number % 3}", "/", sealed(SURVIVOR, number), timeout=ROOM)
        bus.send_many([("still", "here", "/", b"raw") for _ in range(3)], timeout=ROOM)
        with suppress(FullError):
            for number in range(LAP):
                bus.send("jobs", "job", "/", sealed(SURVIVOR, number), timeout=SHORT)
        bus.stats()

    return passed_by(activity)


def wait_in_loops(bus: eventbus.Bus, sub: eventbus.Subscription) -> None:
    """Waits in vain in an event loop, then for an event, and in one that watches the subscription by itself."""

    async def wait() -> None:
        assert await sub.areceive(SHORT) is None
        for system in ("still", "jobs"):
            asyncio.get_running_loop().call_soon(bus.send, system, "here", "/")
        assert await sub.areceive(ROOM) is not None

    asyncio.run(wait())
    assert sub.receive(0) is None
    assert sub.arm()
    assert not select.select([sub.fileno()], [], [], 0)[0]


def look(bus: eventbus.Bus, group: str | None = None) -> None:
    """Looks at raw data where they lie, also in a ``group``; keeps some until they are copied, lets go, leaves."""
    album = Album()
    with bus.subscribe("**", group=group, view=True) as sub:
        for number in range(PICTURES):
            show(bus, SURVIVOR, number)
            album.keep(take(sub))
        album.close()
        show(bus, SURVIVOR, 0)
        album.keep(take(sub))
    album.check()


def subscribe(_: Line, name: str) -> set[str]:
    """Subscribes in every way, receives, looks, waits in vain, counts its backlog, answers, leaves."""
    bus, large = open_bus(name), eventbus.open(f"{name}-large", capacity=RINGS * CAPACITY)

    def activity() -> None:
        for start in ("oldest", 1):
            with bus.subscribe("**", start=start, overflow="drop") as sub:
                sub.receive_many(LAP, 0)
        with bus.subscribe("still", spin=0) as sub:
            bus.send("still", "here", "/")
            bus.send("other", "here", "/")
            assert sub.backlog == 1
            assert sub.receive(ROOM) is not None
            assert sub.receive(SHORT) is None
            wait_in_loops(bus, sub)
        look(large)

    passed = passed_by(activity)
    large.close()
    return passed


def work(_: Line, name: str) -> set[str]:
    """Makes groups, joins, takes, gives back, acknowledges, buries, waits, looks, leaves."""
    bus, large = open_bus(name), eventbus.open(f"{name}-large", capacity=RINGS * CAPACITY)

    def activity() -> None:
        with bus.subscribe("jobs.**", group="g", spin=0) as first, join(bus, 3) as second:
            bus.send_many([("jobs", "job", "/", number) for number in range(6)])
            assert first.receive(ROOM) is not None
            first.reject()
            assert len(second.receive_many(3, ROOM)) > 0
            second.ack()
            while first.receive(SHORT) is not None:
                pass
            wait_in_loops(bus, second)
        bus.group("old", "still", start="oldest", max_deliveries=1)
        with bus.subscribe("still", group="old") as member:
            assert member.receive(0) is not None
            member.reject()
            assert member.receive(0) is not None
        look(large, group="g")

    passed = passed_by(activity)
    large.close()
    return passed


def open_and_join(_: Line, name: str) -> set[str]:
    """Makes a bus, joins one in use, and one that was left to stay."""
    buses = []

    def activity() -> None:
        buses.append(open_bus(name))
        buses.append(open_bus(f"{name}-persists"))
        buses.append(eventbus.open(f"{name}-persists", persist=True))

    passed = passed_by(activity)
    for bus in buses:
        bus.close()

    def again() -> None:
        buses.append(eventbus.open(f"{name}-persists"))

    passed |= passed_by(again)
    buses[-1].close()
    eventbus.unlink(f"{name}-persists")
    return passed


def close(_: Line, name: str) -> set[str]:
    """Leaves with subscriptions and jobs, shuts down, is the last one out, removes what stays."""
    bus, last, kept = open_bus(name), open_bus(f"{name}-last"), eventbus.open(f"{name}-kept", persist=True)
    subs = [bus.subscribe("**"), bus.subscribe("jobs.**", group="g", prefetch=3)]
    bus.send_many([("jobs", "job", "/", number) for number in range(6)])
    assert subs[1].receive(ROOM) is not None

    def activity() -> None:
        bus.close()
        last.shutdown()
        last.close()
        kept.close()
        eventbus.unlink(f"{name}-kept")

    return passed_by(activity)


ACTIVITIES = {
    Role.PUBLISHER: publish,
    Role.SUBSCRIBER: subscribe,
    Role.MEMBER: work,
    Role.OPENER: open_and_join,
    Role.CLOSER: close,
}


def play(fork: Fork, name: str, role: Role) -> set[str]:
    """The moments that a process in this role comes to, on a bus with somebody dead on it, and with others alive."""
    with open_bus(name) as bus, bus.subscribe("**", overflow="drop"):
        for number in range(LAP):
            bus.send("still", "here", "/", sealed(SURVIVOR, number))
        dead = fork(stay, name)
        assert dead.hear() == READY
        dead.kill()
        passed: set[str] = fork(ACTIVITIES[role], name).result()
        return passed
