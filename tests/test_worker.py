"""Workers: handlers in processes that are restarted when they die, and stopped without losing anything."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event, InvalidError, Request, Subscription, Worker
from eventbus.member import Member
from harness import DEADLINE, Fork, Line, arm, take, until
from pools import run_worker, running

ROOT = Path(__file__).resolve().parent.parent


def test_every_event_is_handled_once(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Handlers with patterns of their own each get what they hear, once, whatever the number of processes."""
    worker = Worker(bus.name, group="g")

    @worker.on("jobs.**", kind="job.*")
    def odd(event: Event) -> None:
        bus.send("done", "odd", event.path, event.data)

    @worker.on("jobs.eu")
    def even(event: Event) -> None:
        bus.send("done", "even", event.path, event.data)

    with running(fork, worker, log, processes=2):
        until(lambda: len(bus.stats().groups) == 2, "the groups")
        for number in range(100):
            bus.send("jobs.eu" if number % 2 == 0 else "jobs", "job.new" if number % 2 else "note", "/", number)
        came = [take(done) for _ in range(100)]
        assert sorted(event.data for event in came) == list(range(100))
        assert all((event.kind == "odd") == (event.data % 2 == 1) for event in came)
        assert {group.name for group in bus.stats().groups} == {"g.odd", "g.even"}


def test_an_exception_is_tried_again_and_then_dead(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A handler that raises gets the event again up to the limit; then it is sent as dead with the traceback."""
    grave = bus.subscribe("eventbus.dead")
    worker = Worker(bus, max_deliveries=3, retry_delay=0)

    @worker.on("jobs")
    def fragile(event: Event) -> None:
        bus.send("done", "tried", event.path, event.deliveries)
        if event.data == "bad" or (event.data == "shy" and event.deliveries == 1):
            raise ZeroDivisionError("on purpose")

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for data in ("bad", "shy", "good"):
            bus.send("jobs", "job", f"/{data}", data)
        tried = [take(done) for _ in range(6)]
        assert [(event.path, event.data) for event in tried] == [
            ("/bad", 1),
            ("/bad", 2),
            ("/bad", 3),
            ("/shy", 1),
            ("/shy", 2),
            ("/good", 1),
        ]
        letter = take(grave).data
        assert (letter["path"], letter["data"], letter["deliveries"]) == ("/bad", "bad", 3)
        assert "ZeroDivisionError: on purpose" in letter["traceback"]
        assert "in fragile" in letter["traceback"]
        assert bus.stats().groups[0].dead == 1
    assert "fragile failed on jobs job /bad" in log.read_text()


def test_replies(fork: Fork, bus: Bus, log: Path) -> None:
    """What a handler returns is the reply, unless it replied itself; what it raises is raised where it was asked."""
    worker = Worker(bus, max_deliveries=2, retry_delay=0)

    @worker.on("sums")
    def add(event: Event) -> Any:
        if event.kind == "early":
            event.reply("early")
        return sum(event.data)

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        assert bus.request("sums", "add", "/", [1, 2], timeout=DEADLINE) == 3
        assert bus.request("sums", "early", "/", [1, 2], timeout=DEADLINE) == "early"
        with pytest.raises(eventbus.RemoteError, match="TypeError") as caught:
            bus.request("sums", "add", "/", 5, timeout=DEADLINE)
        assert caught.value.details["type"] == "TypeError"


def test_async_handlers_share_a_loop(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """Coroutines run one after the other, in the same event loop."""
    worker = Worker(bus)
    loops = []

    @worker.on("jobs")
    async def gently(event: Event) -> None:
        import asyncio

        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        bus.send("done", "job", event.path, [event.data, len(set(loops))])

    with running(fork, worker, log):
        until(lambda: bus.stats().groups, "the group")
        for number in range(3):
            bus.send("jobs", "job", "/", number)
        assert [take(done).data for _ in range(3)] == [[0, 1], [1, 1], [2, 1]]


def test_a_killed_process_is_replaced(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process killed with an event in hand: the event is handled by another one, and its place is filled again."""
    worker = Worker(bus)

    @worker.on("jobs")
    def die_first(event: Event) -> None:
        bus.send("done", "job", "/", [os.getpid(), event.deliveries])
        if event.deliveries == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with running(fork, worker, log, processes=2):
        until(lambda: bus.stats().groups, "the group")
        for _ in range(3):
            bus.send("jobs", "job", "/")
            (first, one), (second, two) = take(done).data, take(done).data
            assert (one, two) == (1, 2)
            assert first != second
        until(lambda: len(bus.stats().subscribers) == 3, "two processes")
    text = log.read_text()
    assert "was killed by SIGKILL; next in 0.1 s" in text
    assert "before its first event" not in text


def test_dying_at_start_is_said(fork: Fork, name: str, log: Path) -> None:
    """Processes that die before their first event are said to, and restarted later and later."""
    with eventbus.open(name, max_subscribers=1) as bus:
        worker = Worker(bus)
        worker.on("jobs")(lambda _: None)
        with running(fork, worker, log):
            until(lambda: log.exists() and log.read_text().count("next in") >= 3, "three deaths")
    text = log.read_text()
    assert "all 1 subscriber slots" in text
    for delay in ("0.1", "0.2", "0.4"):
        assert f"ended with status 1, before its first event: see that it can start; next in {delay} s" in text


def test_max_events(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """A process leaves after its ``max_events`` and another takes its place at once, with nothing repeated."""
    worker = Worker(bus, prefetch=4)

    @worker.on("jobs")
    def leak(event: Event) -> None:
        bus.send("done", "job", "/", [event.data, os.getpid(), event.deliveries])

    with running(fork, worker, log, max_events=3):
        until(lambda: bus.stats().groups, "the group")
        for number in range(9):
            bus.send("jobs", "job", "/", number)
        came = [take(done).data for _ in range(9)]
    assert [number for number, _, _ in came] == list(range(9))
    assert {deliveries for _, _, deliveries in came} == {1}
    pids = [pid for _, pid, _ in came]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
    assert "next in" not in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish(fork: Fork, bus: Bus, done: Subscription, log: Path, number: int) -> None:
    """The first signal: the event in hand is finished and acknowledged, the next one is left for others."""
    worker = Worker(bus)
    told = bus.subscribe("go")

    @worker.on("jobs")
    def slow(event: Event) -> None:
        with bus.subscribe("go") as go:
            bus.send("done", "begun", "/", event.data)
            take(go)
        bus.send("done", "finished", "/", event.data)

    parent = fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    for job in range(2):
        bus.send("jobs", "job", "/", job)
    assert take(done).kind == "begun"
    parent.kill(number)
    until(lambda: "finishes its event" in log.read_text(), "the worker to hear the signal")
    bus.send("go", "on", "/")
    parent.result()
    assert take(done)[1] == "finished"
    assert done.receive(0) is None
    rest = bus.subscribe("jobs", group="workers.slow")
    assert [(event.data, event.deliveries) for event in rest.receive_many(9, 0)] == [(1, 1)]
    told.close()


def run_signalled(line: Line, bus: Bus, log: Path) -> None:
    """Runs a worker whose process is told to finish just when its slot is open."""
    bus.group("early", "jobs")
    arm("slot_open", signal.SIGTERM)
    worker = Worker(bus)
    worker.on("jobs", group="early")(lambda event: None)
    run_worker(line, worker, {}, log)


def test_told_to_finish_before_it_is_ready(fork: Fork, bus: Bus, log: Path) -> None:
    """A process that SIGTERM reaches as soon as it has joined leaves in order."""
    parent = fork(run_signalled, bus, log)
    parent.hear()
    until(lambda: "ended with status 0" in log.read_text() or "killed" in log.read_text(), "the end of a process")
    assert "killed" not in log.read_text()
    bus.shutdown()
    parent.result()


def test_a_second_signal_ends_at_once(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """The second signal: processes are killed, and what they had in hand is delivered again."""
    worker = Worker(bus)

    @worker.on("jobs")
    def stuck(event: Event) -> None:
        bus.send("done", "begun", "/", event.data)
        threading.Event().wait()

    parent = fork(run_worker, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/", 1)
    take(done)
    parent.kill(signal.SIGTERM)
    until(lambda: "finishes its event" in log.read_text(), "the worker to hear the signal")
    parent.kill(signal.SIGTERM)
    parent.wait()
    again = take(bus.subscribe("jobs", group="workers.stuck"))
    assert (again.data, again.deliveries) == (1, 2)


def test_processes_end_with_their_parent(fork: Fork, bus: Bus, log: Path) -> None:
    """A worker whose parent is killed leaves no process behind that works on."""
    worker = Worker(bus)
    worker.on("jobs")(lambda _: None)
    parent = fork(run_worker, worker, {"processes": 2}, log)
    parent.hear()
    until(lambda: len(bus.stats().subscribers) == 2, "two processes")
    parent.kill()
    until(lambda: bus.stats().attached == 1, "the processes to leave")


def test_the_end_of_the_bus_ends_the_worker(fork: Fork, bus: Bus, log: Path) -> None:
    """After a shutdown the processes drain what was sent, leave, and are not replaced."""
    worker = Worker(bus)
    handled = log.with_name("handled")

    @worker.on("jobs")
    def note(event: Event) -> None:
        with handled.open("a") as file:
            file.write(f"{event.data}\n")

    parent = fork(run_worker, worker, {"processes": 2}, log)
    parent.hear()
    until(lambda: len(bus.stats().subscribers) == 2, "two processes")
    for number in range(50):
        bus.send("jobs", "job", "/", number)
    bus.shutdown()
    parent.result()
    assert sorted(map(int, handled.read_text().split())) == list(range(50))


def test_bad_input(bus: Bus) -> None:
    """What cannot be run is refused before anything is forked."""
    worker = Worker()
    with pytest.raises(InvalidError, match="no handler"):
        worker.run(bus=bus)
    with pytest.raises(InvalidError):
        worker.on("jobs..")
    worker.on("jobs")(lambda _: None)
    with pytest.raises(InvalidError, match="name of its own"):
        worker.on("others")(lambda _: None)
    with pytest.raises(InvalidError, match="no bus"):
        worker.run()
    for options in ({"processes": 0}, {"processes": True}, {"max_events": 0}, {"prefetch": -1}, {"prefetch": 0}):
        with pytest.raises(InvalidError):
            worker.run(bus=bus, **options)
    bus.group("taken.<lambda>", "other")
    with pytest.raises(InvalidError, match="taken"):
        worker.run(bus=bus, group="taken")
    for delay in (-1, True, "1", float("nan")):
        with pytest.raises(InvalidError, match="retry_delay must be seconds"):
            Worker(retry_delay=delay)  # type: ignore[arg-type]
        with pytest.raises(InvalidError, match="retry_delay must be seconds"):
            worker.on("jobs", retry_delay=delay)  # type: ignore[arg-type]
        with pytest.raises(InvalidError, match="delay must be seconds"):
            eventbus.Retry(delay)  # type: ignore[arg-type]
    raised: list[BaseException] = []

    def run() -> None:
        try:
            worker.run(bus=bus)
        except InvalidError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    assert "main thread" in str(raised)
    raised.clear()


def test_members_and_requests_are_what_they_say() -> None:
    """The names that handlers are typed with stand where the documentation says."""
    assert issubclass(Request, Event)
    assert issubclass(Member, Subscription)


# --- the command line ---
