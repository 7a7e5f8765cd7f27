"""What a worker's log says of an event that failed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Event, Subscription, Worker
from eventbus.workers.failures import DATA_BYTES, shortened
from harness import DEADLINE, Fork, Line, take, until
from pools import running

EXTRAS = {"handler", "system", "kind", "path", "sequence", "delivery", "duration", "data"}


class Lines(logging.Handler):
    """Each record as a line of JSON, with what is beside its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Appends it."""
        extras = {name: getattr(record, name) for name in EXTRAS if hasattr(record, name)}
        line = {"level": record.levelname, "text": record.getMessage(), "traced": record.exc_info is not None}
        with self._file.open("a") as file:
            file.write(json.dumps(line | extras) + "\n")


def run_logged(line: Line, worker: Worker, options: dict[str, Any], file: Path) -> None:
    """A worker whose log is structured."""
    logger = logging.getLogger("eventbus.worker")
    logger.addHandler(Lines(file))
    logger.setLevel(logging.INFO)
    line.say()
    worker.run(**options)


def records(file: Path) -> list[dict[str, Any]]:
    """Those that tell of events."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if "sequence" in line]


def test_one_line_for_each_failure(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It says which event, which delivery, whose, for how long, with what data; the traceback comes once."""
    worker = Worker(bus, max_deliveries=3, retry_delay=0)
    grave = bus.subscribe("eventbus.dead")

    @worker.on("jobs")
    def charge(event: Event) -> None:
        raise ValueError("no such\ncustomer")

    parent = fork(run_logged, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "charge.card", "/7", {"customer": 7})
    take(grave)
    bus.shutdown()
    parent.result()
    told = records(log)
    assert [line["delivery"] for line in told] == [1, 2, 3]
    assert [line["traced"] for line in told] == [True, False, False]
    for line in told:
        assert {name: line[name] for name in EXTRAS - {"delivery", "duration", "sequence"}} == {
            "handler": "charge",
            "system": "jobs",
            "kind": "charge.card",
            "path": "/7",
            "data": "{'customer': 7}",
        }
        assert 0 <= line["duration"] < DEADLINE
        text = (
            f"charge failed on jobs charge.card /7 (event {line['sequence']}), delivery {line['delivery']} of 3, after"
        )
        assert line["text"].startswith(text)
        assert line["text"].endswith("s: ValueError: no such customer; data: {'customer': 7}")


@pytest.mark.parametrize("what", ["Retry", "Discard", "SystemExit", "CancelledError"])
def test_what_else_is_raised(fork: Fork, bus: Bus, done: Subscription, log: Path, what: str) -> None:
    """What a handler says of an event needs no traceback, what merely came out of it does."""
    worker = Worker(bus, max_deliveries=2)

    @worker.on("jobs")
    async def judge(event: Event) -> None:
        import asyncio

        if event.deliveries == 1:
            known = {"Retry": eventbus.Retry(0.0), "Discard": eventbus.Discard("too late"), "SystemExit": SystemExit(3)}
            raise known.get(what, asyncio.CancelledError())
        bus.send("done", "job", "/")

    parent = fork(run_logged, worker, {}, log)
    parent.hear()
    until(lambda: bus.stats().groups, "the group")
    bus.send("jobs", "job", "/")
    until(lambda: records(log), "the line")
    bus.shutdown()
    parent.kill(15)
    parent.result()
    line = records(log)[0]
    assert line["traced"] == (what in ("SystemExit", "CancelledError"))
    said = {"Retry": "to be tried again in 0.0 s", "Discard": "too late", "SystemExit": "SystemExit: 3"}
    assert said.get(what, "CancelledError") in line["text"]


@pytest.mark.parametrize(
    "data",
    [
        "x" * 5000,
        b"\0" * 50_000,
        {"key": "ä" * 3000},
        list(range(100_000)),
        {str(number): number for number in range(10_000)},
        "many\nlines\n" * 500,
        [[[[[[[[[["deep"]]]]]]]]]],
    ],
    ids=lambda data: type(data).__name__,
)
def test_data_are_cut(data: object) -> None:
    """In a log there is one line of them, of at most so many bytes."""
    text = shortened(data)
    assert len(text.encode()) <= DATA_BYTES
    assert "\n" not in text


def test_data_that_are_short_are_whole() -> None:
    """As Python writes them."""
    for data in (None, 0, "text", {"a": [1, 2.5, None]}, b"raw"):
        assert shortened(data) == repr(data)


def test_a_process_that_outgrows_its_memory(fork: Fork, bus: Bus, done: Subscription, log: Path) -> None:
    """It leaves after the event, another takes its place at once, and no event is repeated or lost."""
    import os

    worker = Worker(bus, prefetch=8)
    hoard: list[bytes] = []

    @worker.on("jobs")
    def leak(event: Event) -> None:
        hoard.append(os.urandom(event.data))
        bus.send("done", "job", "/", [os.getpid(), event.deliveries])

    with running(fork, worker, log, max_memory=own() + (64 << 20)):
        until(lambda: bus.stats().groups, "the group")
        for size in (1, 1, 96 << 20, 1, 1):
            bus.send("jobs", "job", "/", size)
        came = [take(done).data for _ in range(5)]
    pids = [pid for pid, _ in came]
    assert [deliveries for _, deliveries in came] == [1] * 5
    assert len(set(pids[:3])) == 1
    assert len(set(pids[3:])) == 1
    assert pids[2] != pids[3]
    assert "bytes of its own, more than" in log.read_text()
    assert "next in" not in log.read_text()


def own() -> int:
    """What a process that is forked here has to begin with."""
    from eventbus.workers.handling import own_memory

    return own_memory()
