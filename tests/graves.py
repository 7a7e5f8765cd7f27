"""Dead letters, as the tests of ``requeue`` make and count them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import eventbus
from eventbus import Bus, Event, Subscription
from eventbus.cli import app as cli
from eventbus.cli import tail
from eventbus.cli.graveyard import MARK
from eventbus.member import Member
from harness import take
from jobs import join


def bury(member: Subscription, count: int) -> list[Event]:
    """The next events of a member's group die; which they were."""
    assert isinstance(member, Member)
    died = []
    for _ in range(count):
        died.append(take(member))
        member.bury(died[-1])
    return died


def die(bus: Bus, *data: Any, **headers: str) -> list[Event]:
    """Sends an event with each of the data, and lets it die in the group ``g``."""
    with join(bus) as member:
        bus.send_many([("jobs", "job.new", f"/{number}", one, headers) for number, one in enumerate(data)])
        return bury(member, len(data))


def letters(bus: Bus) -> list[dict[str, Any]]:
    """Those that the ring has kept, as a recording has them."""
    with bus.subscribe("eventbus.dead", overflow="drop", start="oldest") as grave:
        return [json.loads(tail.as_json(event)) for event in grave.receive_many(256, 0)]


def record(file: Path, events: Iterable[dict[str, Any]]) -> str:
    """Writes a recording; its name."""
    file.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return str(file)


def of_another_life(name: str, *data: Any, **headers: str) -> list[dict[str, Any]]:
    """The letters of a bus that has had the name before."""
    with eventbus.open(name, capacity=1 << 20) as bus:
        die(bus, *data, **headers)
        return letters(bus)


def requeue(bus: Bus, *options: str) -> int:
    """Runs the command here; its exit code."""
    return cli.run(["requeue", bus.name, *options])


def again(sub: Subscription) -> list[Any]:
    """The data of what came again, and nothing else has come."""
    events = sub.receive_many(256, 0)
    assert all(MARK in event.headers for event in events)
    return [event.data for event in events]
