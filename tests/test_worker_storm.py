"""A storm over workers with many events under way: killed, replaced, failing; each event is handled to its end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus, Event, Worker
from eventbus.workers import post
from harness import DEADLINE, Fork, Line, until
from jobs import holders
from pools import run_worker

EVENTS = 4000
AT_ONCE = 32
KILLS, HANGUPS = 12, 4


class Ledger:
    """What was done, written line by line in one step each, whoever dies meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, event: Event) -> None:
        """Of a handler: that it began, or came to its end, with the process and the delivery."""
        os.write(self._fd, f"{what} {event.data} {event.deliveries} {os.getpid()}\n".encode())

    def read(self) -> list[tuple[str, int, int, int]]:
        """All that was noted: what, the number, the delivery, the pid."""
        rows = [line.split() for line in self._path.read_text().splitlines()]
        return [(what, int(number), int(delivery), int(pid)) for what, number, delivery, pid in rows]

    def has(self, count: int) -> bool:
        """Whether so many have come to their end."""
        return sum(what == "ended" for what, _, _, _ in self.read()) >= count

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)


def stormy(bus: Bus, ledger: Ledger) -> Worker:
    """A worker whose handler waits a little, fails now and then, or is cancelled."""
    worker = Worker(bus, concurrency=AT_ONCE, retry_delay=0.001, max_deliveries=1000)

    @worker.on("jobs")
    async def work(event: Event) -> None:
        chance = random.Random(event.data * 1000 + event.deliveries)
        ledger.note("begun", event)
        await asyncio.sleep(chance.uniform(0, 0.004))
        if chance.random() < 0.1:
            raise chance.choice([ZeroDivisionError(), eventbus.Retry(0.002), asyncio.CancelledError(), SystemExit(1)])
        ledger.note("ended", event)

    return worker


def run_without_pauses(line: Line, worker: Worker, log: Path) -> None:
    """A worker that starts a process again at once, however many die."""
    post.FIRST_DELAY = post.LONGEST_DELAY = 0.01
    run_worker(line, worker, {"processes": 2}, log)


def send_all(line: Line, bus: Bus) -> None:
    """Sends numbered jobs, as fast as there is room for them."""
    for number in range(EVENTS):
        bus.send("jobs", "job", "/", number, timeout=DEADLINE)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Of one storm."""
    return Ledger(tmp_path / "ledger")


def check(rows: list[tuple[str, int, int, int]], killed: set[int]) -> None:
    """Each came to its end; and again after that only where its process was killed before it could say so."""
    ended: dict[int, list[tuple[int, int]]] = {}
    begun: Counter[tuple[int, int]] = Counter()
    for what, number, delivery, pid in rows:
        if what == "ended":
            ended.setdefault(number, []).append((delivery, pid))
        else:
            begun[number, delivery] += 1
    assert set(ended) == set(range(EVENTS))
    assert set(begun.values()) == {1}, "an event was handed out twice as the same delivery"
    for number, ends in ended.items():
        *before, (last, _) = sorted(ends)
        assert {pid for _, pid in before} <= killed, f"event {number} was acknowledged, and came again"
        assert max(delivery for one, delivery in begun if one == number) == last


def test_a_storm(fork: Fork, bus: Bus, ledger: Ledger, log: Path) -> None:
    """Processes are killed, and replaced on SIGHUP, with 32 events under way each, which fail now and then."""
    worker = stormy(bus, ledger)
    generator = random.Random(13)
    parent = fork(run_without_pauses, worker, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    sender = fork(send_all, bus)
    killed: set[int] = set()
    blows = [*(signal.SIGKILL for _ in range(KILLS)), *(signal.SIGHUP for _ in range(HANGUPS))]
    generator.shuffle(blows)
    for number, blow in enumerate(blows):
        done = (number + 1) * EVENTS // (len(blows) + 2)
        until(partial(ledger.has, done), f"{done} events")
        if blow == signal.SIGHUP:
            parent.kill(blow)
            continue
        pid = generator.choice(pids(bus))
        killed.add(pid)
        with suppress(ProcessLookupError):  # it has left by itself
            os.kill(pid, blow)
    sender.result()
    until(lambda: is_done(bus), "all to be acknowledged")
    parent.kill(signal.SIGTERM)
    parent.result()
    ledger.close()
    check(ledger.read(), killed)
    assert bus.stats().groups[0].dead == 0


def pids(bus: Bus) -> list[int]:
    """Those of the processes that there are, once there are any."""
    found: list[int] = []

    def look() -> list[int]:
        found[:] = [one.pid for one in bus.stats().groups[0].members]
        return found

    until(look, "a process")
    return found


def is_done(bus: Bus) -> bool:
    """Whether nothing waits, is in hand or was given back."""
    (group,) = bus.stats().groups
    return (group.backlog, group.returned, holders(bus)) == (0, 0, [])
