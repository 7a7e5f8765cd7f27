"""The doorbell of a process: one descriptor and one file for each bus, which go with their owner; and fileno."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import stat
import sys

import pytest
from eventbus._eventbus import lib

import eventbus
from eventbus import Bus, ClosedError, Subscription
from harness import DEADLINE, Fork, Line, arm, take, until
from loops import bells, next_of, run, waiting


def sockets() -> int:
    """How many this process has open."""
    links = (os.path.join("/proc/self/fd", entry) for entry in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))


def test_one_socket_for_all_subscriptions(bus: Bus) -> None:
    """However many wait; its file stands beside the segments, for those who may send, and goes with the bus."""

    async def main() -> None:
        subs = [bus.subscribe("a") for _ in range(20)]
        before = sockets()
        tasks = [await waiting(next_of(sub)) for sub in subs]
        assert sockets() == before  # the one that others are rung with
        (file,) = bells(bus)
        assert stat.S_ISSOCK(file.stat().st_mode)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        await bus.asend("a", "b", "/c", 1)
        assert [(await task).data for task in tasks] == [1] * 20
        for sub in subs:
            await sub.aclose()

    run(main())
    (file,) = bells(bus)
    bus.close()
    assert not file.exists()


def test_nobody_waits_in_a_loop(bus: Bus) -> None:
    """Then there is no file."""
    with bus.subscribe("a") as sub:
        bus.send("a", "b", "/c")
        take(sub)
        assert bells(bus) == []


@pytest.mark.parametrize("ends", ["reaped", "last out", "swept", "unlinked"])
def test_the_file_of_one_that_was_killed(bus: Bus, fork: Fork, ends: str) -> None:
    """It goes with the reaping of its slot, with the last one out, with the sweep, and when the bus is unlinked."""

    def wait(line: Line) -> None:
        async def main() -> None:
            async with bus.subscribe("a", name="to be killed") as sub:
                task = await waiting(next_of(sub))
                line.say()
                await task

        run(main())

    other = fork(wait)
    other.hear()
    (file,) = bells(bus)
    assert lib.eb_bells_sweep(1) == 0 or file.exists()
    other.kill()
    assert file.exists()
    if ends == "reaped":
        for _ in range(100):  # more than the ring holds, until the dead one is found, who holds it back
            bus.send("a", "b", "/c", b"x" * 1000)
    elif ends == "last out":
        bus.close()
    elif ends == "swept":
        assert lib.eb_bells_sweep(1) >= 1
        lib.eb_bells_sweep(0)
    else:
        eventbus.unlink(bus.name)
    assert not file.exists()


def test_a_repaired_bus_has_no_files_of_the_dead(name: str, fork: Fork) -> None:
    """One that persists is taken over without them."""

    def wait(line: Line) -> None:
        async def main() -> None:
            async with eventbus.open(name, capacity=65536, persist=True) as bus, bus.subscribe("a") as sub:
                task = await waiting(next_of(sub))
                line.say([str(path) for path in bells(bus)])
                await task

        run(main())

    other = fork(wait)
    (path,) = other.hear()
    other.kill()
    assert os.path.exists(path)
    with eventbus.open(name, persist=True):
        assert not os.path.exists(path)
    eventbus.unlink(name)


def test_killed_before_anybody_could_know_it(bus: Bus, fork: Fork) -> None:
    """A file that no slot names goes with the last one out."""

    def wait(line: Line) -> None:
        arm("bell_bound")
        run(next_of(bus.subscribe("a")))

    other = fork(wait)
    other.killed()
    (file,) = bells(bus)
    bus.close()
    assert not file.exists()


def test_collected_without_being_closed(name: str) -> None:
    """A bus that nobody refers to leaves the loop that watched for it, which goes on; its descriptors are closed."""

    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        await wait_and_forget()
        with pytest.warns(ResourceWarning, match="unclosed bus"):
            gc.collect()
        await asyncio.sleep(0.01)
        assert set(os.listdir("/proc/self/fd")) == before

    async def wait_and_forget() -> None:
        bus = eventbus.open(name, capacity=65536)
        sub = bus.subscribe("a")
        assert await sub.areceive(0.01) is None
        bus.send("a", "b", "/c", 1)
        assert (await next_of(sub)).data == 1
        bus.__dict__["itself"] = bus  # so that it is collected, and not freed at once

    run(main())


def readable(sub: Subscription, seconds: float = DEADLINE) -> bool:
    """Whether its descriptor is, within so long."""
    return bool(select.select([sub.fileno()], [], [], seconds)[0])


@pytest.mark.parametrize("group", [None, "g"])
def test_a_descriptor_of_its_own(bus: Bus, group: str | None) -> None:
    """It can be read once there is something, and not before; what is there already is said at once."""
    with bus.subscribe("a", group=group) as sub, bus.subscribe("a") as other:
        assert sub.fileno() == sub.fileno() != other.fileno()
        for number in range(3):
            assert sub.arm()
            assert not readable(sub, 0)
            bus.send("a", "b", "/c", number)
            assert readable(sub)
            event = sub.receive(0)
            assert event is not None
            assert event.data == number
        bus.send("a", "b", "/c", 3)
        assert not sub.arm()
        assert take(sub).data == 3
        assert other.arm() is False
    with pytest.raises(ClosedError):
        sub.fileno()


def test_a_descriptor_tells_the_end(bus: Bus) -> None:
    """Of the bus; and what is due, for which one that watches by itself looks in time."""
    with bus.subscribe("a") as sub:
        bus.send_later("a", "b", "/c", 1, delay=0.05)
        while (event := sub.receive(0)) is None:
            if sub.arm():
                assert readable(sub)
        assert event.data == 1
        assert sub.arm()
        bus.shutdown()
        assert readable(sub)
        assert sub.receive(0) is None
        assert sub.closed


def test_a_member_watched_by_itself_hears_what_the_dead_had(bus: Bus, fork: Fork) -> None:
    """It looks from time to time whether the others live: its descriptor says when."""

    def hold(line: Line) -> None:
        with bus.subscribe("a", group="g") as member:
            line.say(take(member).data)
            line.hear()

    bus.group("g", "a")
    other = fork(hold)
    bus.send("a", "b", "/c", 1)
    assert other.hear() == 1
    with bus.subscribe("a", group="g") as sub:
        while sub.receive(0) is not None:
            pass
        while not sub.arm():
            assert sub.receive(0) is None
        other.kill()
        while (event := sub.receive(0)) is None:
            if sub.arm():
                assert readable(sub)
        assert (event.data, event.deliveries) == (1, 2)


def test_a_child_closes_what_its_parent_watches(bus: Bus, fork: Fork) -> None:
    """Neither the doorbell nor a descriptor of its own outlives the parent in a child."""

    async def main() -> None:
        async with bus.subscribe("a") as sub, bus.subscribe("a") as apart:
            assert apart.arm()
            task = await waiting(next_of(sub))
            files = bells(bus)
            here = sockets()
            assert fork(lambda _: sockets()).result() == here - 1  # two doorbells; and its line
            await bus.asend("a", "b", "/c", 1)
            assert (await task).data == 1
            assert readable(apart)
            assert bells(bus) == files

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs task groups, of Python 3.11")
def test_in_a_task_group(bus: Bus) -> None:
    """An error of one task cancels those that wait, which take nothing along."""

    async def wait_and_fail(sub: Subscription) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(next_of(sub))
            await asyncio.sleep(0)
            bus.send("a", "b", "/c", 1)
            raise ValueError("mine")

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            with pytest.raises(ExceptionGroup):  # noqa: F821  of 3.11
                await wait_and_fail(sub)
            assert (await next_of(sub)).data == 1

    run(main())


def test_woken_while_it_is_killed(bus: Bus, fork: Fork) -> None:
    """A publisher that dies before it rings holds up nobody whom others tell."""

    def send(line: Line) -> None:
        arm("wake_lowered")
        bus.send("a", "b", "/c", 1)

    async def main() -> None:
        async with bus.subscribe("a") as sub:
            task = await waiting(next_of(sub))
            fork(send).killed()
            async with bus.subscribe("a"):
                until(lambda: bus.stats().sent == 1, "the event of the dead")
                assert (await task).data == 1

    run(main())
