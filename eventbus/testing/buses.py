"""Buses of tests: each under a name of its own, and what a test has left of one."""

from __future__ import annotations

import contextlib
import os
import uuid

from eventbus.bus import Bus
from eventbus.core.holders import holders
from eventbus.core.inspection import inspect_bus
from eventbus.core.segment import unlink
from eventbus.request import INBOXES

CAPACITY = 1024 * 1024


def new_name() -> str:
    """A name that no bus has."""
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def remove(name: str) -> None:
    """Removes the bus of the name, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        unlink(name)


def opened(name: str) -> Bus:
    """The bus of a test."""
    return Bus(name, capacity=CAPACITY)


def close(bus: Bus) -> list[str]:
    """Closes and removes the bus; what is left of it that should not be, in a sentence each."""
    left = _subscriptions(bus) + _processes(bus) if bus.usable else []
    bus.close()
    if not left and (there := inspect_bus(bus.name)) is not None:
        left.append(f"the bus {bus.name!r} is left, {there.state}: was it opened with persist=True, or never closed?")
    remove(bus.name)
    return left


def _subscriptions(bus: Bus) -> list[str]:
    """But that of requests, which is the bus's own."""
    return [
        f"the subscription {one.name!r} of process {one.pid} to {one.system!r} was left open: close it"
        for one in bus.stats().subscribers
        if not one.system.startswith(INBOXES)
    ]


def _processes(bus: Bus) -> list[str]:
    attached = bus.stats().attached
    if attached == 1:
        return []
    pids = [pid for pid in holders(bus._open_handle().roster_fd) if pid != os.getpid()]
    if not pids:
        return [f"this process has the bus {bus.name!r} open {attached} times: close what the test opened"]
    who = " and ".join(map(str, pids))
    return [f"process {who} was left with the bus {bus.name!r} open: end it, and wait for its end"]
