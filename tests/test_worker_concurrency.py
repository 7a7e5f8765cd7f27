"""Workers with ``async def`` handlers: several events at once in each process, each done with by itself."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, Request, Subscription, Worker
from harness import DEADLINE, Fork, take, until
from jobs import holders, send
from pools import Gates, begun, gated, running


def test_several_at_once(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """As many as may be are under way at once in a process; another one begins when one ends, whichever that is."""
    worker = Worker(bus, concurrency=4)
    gates = gated(bus, worker)
    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        send(bus, 7)
        assert begun(done, 4) == dict.fromkeys(range(4), 1)
        assert holders(bus) == [(4, 1)]
        for ends, begins in ((2, 4), (4, 5), (0, 6)):
            assert done.receive(0) is None
            gates.open(ends)
            assert take(done)[1:4] == ("ended", "/", ends)
            assert begun(done, 1) == {begins: 1}
        gates.open(*range(7))
        assert sorted(take(done).data for _ in range(4)) == [1, 3, 5, 6]
        until(lambda: holders(bus) == [], "all to be acknowledged")
    assert "ERROR" not in log.read_text()


def test_each_has_a_context_of_its_own(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """What a handler sets in its context is not there for the next event, and stays where it waits meanwhile."""
    worker = Worker(bus, concurrency=2)
    who = contextvars.ContextVar("who", default=-1)

    @worker.on("jobs")
    async def work(event: Event) -> None:
        found = who.get()
        who.set(event.data)
        await asyncio.sleep(0)
        await bus.asend("done", "job", "/", [event.data, found, who.get()])

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        send(bus, 6)
        assert sorted(take(done).data for _ in range(6)) == [[number, -1, number] for number in range(6)]


def test_a_function_that_returns_a_coroutine(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It is awaited in the loop of the process, one at a time, and answers like any other."""
    worker = Worker(bus)
    loops = []

    async def double(event: Event) -> Any:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return [2 * event.data, len(set(loops))]

    worker.on("jobs")(lambda event: double(event))
    with running(fork, worker, log):
        until(lambda: any(group.members for group in bus.stats().groups), "the process")
        assert [bus.request("jobs", "job", "/", n, timeout=DEADLINE) for n in (1, 2)] == [[2, 1], [4, 1]]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager from Python 3.12 on")
def test_eager_tasks(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Where a task runs as soon as it is made, those that wait for nothing are done at once."""
    worker = Worker(bus, concurrency=2)

    @worker.on_start
    async def eager() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]

    @worker.on("jobs")
    async def work(event: Event) -> None:
        if event.data % 2:
            await asyncio.sleep(0)
        bus.send("done", "job", "/", event.data)

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        send(bus, 20)
        assert sorted(take(done).data for _ in range(20)) == list(range(20))
        until(lambda: holders(bus) == [], "all to be acknowledged")
    assert "ERROR" not in log.read_text()


@pytest.mark.parametrize("by_clock", [False, True])
def test_a_task_lives_on(fork: Fork, bus: Bus, done: Subscription, log: Path, by_clock: bool) -> None:
    """What a handler starts in the loop goes on when it has returned, and no event is there to be handled."""
    worker = Worker(bus)
    gates = Gates(bus, worker)
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await gates.passed("later")
        await bus.asend("done", "later", "/")

    async def work() -> None:
        if not tasks:
            tasks.append(asyncio.create_task(later()))
            await bus.asend("done", "work", "/")

    @worker.on("jobs")
    async def one(event: Event) -> None:
        await work()

    if by_clock:
        worker.handlers.clear()
        worker.every(0.05)(work)
    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        bus.send("jobs", "job", "/")
        assert take(done).kind == "work"
        until(lambda: holders(bus) == [], "the event to be acknowledged")
        gates.open("later")
        assert take(done).kind == "later"
    assert "ERROR" not in log.read_text()


def test_one_runs_by_the_clock(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A handler with a schedule never overlaps itself, whatever the worker says; one that fails is tried again."""
    worker = Worker(bus, concurrency=8, retry_delay=0)
    under_way = []

    @worker.every(0.01)
    async def tick(event: Event) -> None:
        under_way.append(event)
        await asyncio.sleep(0.02)
        await bus.asend("done", "tick", "/", [event.data, event.deliveries, len(under_way)])
        under_way.clear()
        if event.deliveries == 1:
            raise ZeroDivisionError

    @worker.every(3600)
    def plain() -> None: ...

    with running(fork, worker, log, processes=2):
        came = [take(done).data for _ in range(6)]
    assert [deliveries for _, deliveries, _ in came] == [1, 2, 1, 2, 1, 2]
    assert {together for _, _, together in came} == {1}
    assert len({at for at, _, _ in came}) == 3


# --- what fails ---


def leave(event: Event) -> None:
    """Raises what the event says."""
    if event.data != "fine" and event.deliveries == 1:
        raise {
            "error": ZeroDivisionError("on purpose"),
            "exit": SystemExit(3),
            "cancel": asyncio.CancelledError(),
            "retry": eventbus.Retry(0),
            "discard": eventbus.Discard("of no use"),
        }[event.data]


@pytest.mark.parametrize("what", ["error", "exit", "cancel", "retry", "discard"])
def test_one_that_fails(fork: Fork, bus: Bus, done: Subscription, log: Path, what: str) -> None:
    """It alone is tried again, or dead; the others that are under way go on, in the same process."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus, concurrency=3, retry_delay=0)
    gates = Gates(bus, worker)

    @worker.on("jobs")
    async def work(event: Event) -> None:
        await bus.asend("done", "begun", "/", [event.path, event.deliveries, os.getpid()])
        await gates.passed(event.path)
        leave(event)
        await bus.asend("done", "ended", "/", [event.path, event.deliveries, os.getpid()])

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for path, data in (("/1", "fine"), ("/2", what), ("/3", "fine")):
            bus.send("jobs", "job", path, data)
        came = [take(done).data for _ in range(3)]
        gates.open("/2")
        if what == "discard":
            assert take(grave).data["reason"] == "of no use"
        else:
            came += [take(done).data, take(done).data]
            assert [one[:2] for one in came[3:]] == [["/2", 2], ["/2", 2]]
        gates.open("/1", "/3")
        came += [take(done).data, take(done).data]
        assert sorted(one[:2] for one in came[-2:]) == [["/1", 1], ["/3", 1]]
        assert len({pid for _, _, pid in came}) == 1
        until(lambda: holders(bus) == [], "all to be acknowledged")
    assert log.read_text().count("WARNING work") == 1


def test_one_that_cannot_be_read(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It is a dead letter, and the process goes on with what comes after it."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus, concurrency=4)

    @worker.on("jobs")
    async def work(event: Event) -> None:
        await bus.asend("done", "job", "/", [event.data, os.getpid()])

    bus.group("workers.work", "jobs")
    bus.send_many([("jobs", "job", "/", orjson.Fragment(b"no json") if n == 2 else n) for n in range(6)])
    with running(fork, worker, log):
        came = [take(done).data for _ in range(5)]
        assert "error" in take(grave).data
        until(lambda: holders(bus) == [], "all to be acknowledged")
    assert sorted(number for number, _ in came) == [0, 1, 3, 4, 5]
    assert len({pid for _, pid in came}) == 1
    assert "work: the event" in log.read_text()


# --- requests ---


def test_replies(fork: Fork, bus: Bus, log: Path) -> None:
    """Each request is answered by what its handler returns, whichever comes first; or by its failure, or by itself."""
    worker = Worker(bus, concurrency=4, max_deliveries=1)
    gates = Gates(bus, worker)

    @worker.on("sums")
    async def add(event: Event) -> Any:
        if event.kind == "early":
            assert isinstance(event, Request)
            await event.areply("early")
        await gates.passed(event.kind)
        return object() if event.kind == "odd" else sum(event.data)

    async def ask(kind: str, data: object, opened: str | None = None) -> Any:
        if opened is not None:
            gates.open(opened)
        return await bus.arequest("sums", kind, "/", data, timeout=DEADLINE)

    async def ask_all() -> None:
        first = asyncio.create_task(ask("first", [1, 2]))
        assert await ask("second", [3, 4], "second") == 7
        assert await ask("early", [5], None) == "early"
        with pytest.raises(eventbus.RemoteError, match="TypeError"):
            await ask("third", 5, "third")
        with pytest.raises(eventbus.RemoteError, match="InvalidError"):
            await ask("odd", [], "odd")
        gates.open("first", "early")
        assert await first == 3

    with running(fork, worker, log):
        until(lambda: any(group.members for group in bus.stats().groups), "the process")
        asyncio.run(ask_all())
        until(lambda: holders(bus) == [], "all to be acknowledged")
    assert "the reply to sums odd" in log.read_text()


# --- what is refused ---


class Callable_:
    """An object that is a handler."""

    async def __call__(self, event: Event) -> None: ...


def plain(event: Event) -> None:
    """One that is no ``async def``."""


async def gentle(event: Event, more: object = None) -> None:
    """One that is."""


def test_bad_input(bus: Bus) -> None:
    """Several at once are for an ``async def`` alone, and as many as a process may have in hand."""
    calls: tuple[Callable[..., object], ...] = (Worker, partial(Worker().on, "jobs"), partial(Worker().run, bus=bus))
    for number in (0, -1, True, "2", 257):
        for call in calls:
            with pytest.raises(InvalidError, match="concurrency must be"):
                call(concurrency=number)
    for seconds in (-1, True, "1", float("nan")):
        with pytest.raises(InvalidError, match="shutdown_timeout must be seconds"):
            Worker(shutdown_timeout=seconds)  # type: ignore[arg-type]
    for function in (plain, lambda event: gentle(event)):
        with pytest.raises(InvalidError, match="is no async def, so each process handles one event at a time"):
            Worker().on("jobs", concurrency=2)(function)
        worker = Worker(bus)
        worker.on("jobs")(function)
        with pytest.raises(InvalidError, match="is no async def"):
            worker.run(concurrency=2)
        with pytest.raises(InvalidError, match="is no async def"):
            worker.prepare(bus, concurrency=2)
    assert bus.stats().groups == ()
    worker = Worker(bus, concurrency=256)
    worker.on("jobs", concurrency=1)(plain)
    worker.every(3600)(repr)
    for function in (gentle, partial(gentle, more=1), partial(Callable_())):
        worker.on("jobs", group=f"g{len(worker.handlers)}")(function)
        worker.handlers[-1] = worker.handlers[-1]._replace(name=f"h{len(worker.handlers)}")
    worker.prepare(bus)
    assert len(bus.stats().groups) == 5
