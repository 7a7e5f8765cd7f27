"""Several who wait in one process have one doorbell: it is rung once the last of their flags is down."""

from __future__ import annotations

import asyncio
import signal

import eventbus
from eventbus import Bus, loop
from eventbus.core.reader import SubscriptionHandle
from harness import Fork, Line, arm


def wait_twice(line: Line, name: str) -> object:
    """A member that hears nothing, and a subscription, in a loop that never looks by itself: says who lies down."""
    arm_one = SubscriptionHandle.arm

    def say_armed(handle: SubscriptionHandle, apart: bool = False) -> int | None:
        until = arm_one(handle, apart)
        if until is not None:
            line.say()
        return until

    async def wait() -> object:
        async with eventbus.open(name) as bus, bus.subscribe("jobs", group="g") as member, bus.subscribe("go") as go:
            other = asyncio.create_task(member.areceive())
            event = await go.areceive()
            other.cancel()
            return None if event is None else event.data

    SubscriptionHandle.arm = say_armed  # type: ignore[assignment,method-assign]
    loop.Doorbell._look = lambda *_: None  # type: ignore[method-assign]
    return asyncio.run(wait())


def send_in_two(line: Line, name: str) -> None:
    """Sends, and is stopped when it has rung for the first time."""
    with eventbus.open(name) as bus:
        line.hear()
        arm("bell_rung", signal.SIGSTOP)
        bus.send("go", "on", "/", 1)


def test_one_who_looks_between_two_flags(fork: Fork, bus: Bus) -> None:
    """A process that has looked when the first flag is down is rung again for the second."""
    bus.group("g", "jobs")
    waiter, sender = fork(wait_twice, bus.name), fork(send_in_two, bus.name)
    waiter.hear()
    waiter.hear()
    sender.say()
    sender.wait_stopped()
    waiter.hear()
    sender.go_on()
    assert waiter.result() == 1
    sender.result()
