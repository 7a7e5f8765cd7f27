"""``eventbus record``: what is heard goes into a file, exactly, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

import eventbus
import jobs
from commands import SECONDS, command, ended, running
from eventbus import Bus
from eventbus.cli import recording
from eventbus.cli.record import NAME
from harness import until

pytestmark = pytest.mark.release


@contextmanager
def record(bus: Bus, file: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A recorder that has subscribed."""
    with running("record", bus.name, str(file), *options) as process:
        until(lambda: any(one.name == NAME for one in bus.stats().subscribers), "the recorder to subscribe")
        yield process


def written(file: Path) -> list[Any]:
    return [json.loads(line) for _, line in recording.lines(str(file))]


def sequences(file: Path) -> list[int]:
    return [line["sequence"] for line in written(file)]


def send(bus: Bus, count: int) -> None:
    bus.send_many([("orders", "order.created", f"/{number}", {"number": number}) for number in range(count)])


def send_hundreds(bus: Bus) -> None:
    """A thousand, ten at a time: as many as fit into a small ring."""
    for _ in range(100):
        send(bus, 10)


def end(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Its exit code, and what it said."""
    code, out, errors = ended(process)
    assert out == ""
    return code, errors.splitlines()


def checksum(total: int, events: Iterable[Sequence[Any]]) -> int:
    """Of system, kind, path and data; of those before them it was ``total``."""
    for event in events:
        total = zlib.crc32(repr(event[:4]).encode(), total)
    return total


def test_two_hundred_thousand_events_and_back(name: str, tmp_path: Path) -> None:
    """What was recorded by a lossless recorder and is replayed has the checksum of what was sent."""
    file, count, expected, total = tmp_path / "recording.jsonl", 200_000, 0, 0
    with eventbus.open(name, send_timeout=SECONDS) as bus:
        with record(bus, file, "--lossless", "--count", str(count)) as process:
            for begin in range(0, count, 1000):
                numbers = range(begin, begin + 1000)
                sent = [(f"orders.{n % 3}", "order.created", f"/{n}", {"a": n, "b": n / 7}) for n in numbers]
                expected = checksum(expected, sent)
                bus.send_many(sent)
            assert end(process) == (0, [f"eventbus: {count} events were recorded"])
        replay = ["replay", str(file), name, "--speed", "max", "--wait", "1", "--timeout", str(SECONDS)]
        with running(*replay) as process, bus.subscribe("**") as heard:
            left = count
            while left:
                events = heard.receive_many(256, SECONDS)
                assert events
                left -= len(events)
                total = checksum(total, events)
            assert end(process) == (0, [f"eventbus: {count} events were sent"])
    assert total == expected


def test_every_field(name: str, tmp_path: Path) -> None:
    """The lines are those of ``tail --json``: raw bytes as base64, headers if there are any."""
    file = tmp_path / "recording.jsonl"
    with eventbus.open(name) as bus, record(bus, file, "--count", "2") as process:
        bus.send("orders", "order.created", "/1", {"name": "Zoë"}, headers={"trace": "1"})
        bus.send("orders", "order.scanned", "/1", b"\x00\xff")
        assert end(process) == (0, ["eventbus: 2 events were recorded"])
        shown = command("tail", name, "--oldest", "--count", "2", "--json")
    assert file.read_text() == shown.stdout
    assert [line.get("data", line.get("base64")) for line in written(file)] == [{"name": "Zoë"}, "AP8="]


def test_patterns_choose(name: str, tmp_path: Path) -> None:
    """PATTERN and --kind, and --oldest for what was there before; the end of the bus is the end."""
    file = tmp_path / "recording.jsonl"
    with eventbus.open(name) as bus:
        bus.send("orders.eu", "order.created", "/1")
        bus.send("orders.eu", "order.paid", "/2")
        with record(bus, file, "orders.*", "--kind", "*.created", "--oldest") as process:
            bus.send("users", "user.created", "/3")
            bus.send("orders", "order.created", "/4")
            bus.shutdown()
            assert end(process) == (0, ["eventbus: 2 events were recorded"])
    assert [line["path"] for line in written(file)] == ["/1", "/4"]


@pytest.mark.parametrize(("kind", "number"), [("jsonl", signal.SIGTERM), ("jsonl.zst", signal.SIGINT)])
def test_stopped_cleanly(name: str, tmp_path: Path, kind: str, number: int) -> None:
    """Ctrl-C and SIGTERM end it with all that it has heard in the file, with exit code 0."""
    file = tmp_path / f"recording.{kind}"
    with eventbus.open(name) as bus, record(bus, file) as process:
        send(bus, 300)
        until(lambda: bus.stats().subscribers[0].backlog == 0, "the recorder to take what was sent")
        process.send_signal(number)
        code, said = end(process)
        assert bus.stats().subscribers == ()
    heard = sequences(file)
    assert (code, said) == (0, [f"eventbus: {len(heard)} events were recorded"])
    assert heard == [*range(1, len(heard) + 1)]


def test_another_one_goes_on(name: str, tmp_path: Path) -> None:
    """Behind what is there, with what was sent while nobody recorded, nothing twice."""
    file = tmp_path / "recording.jsonl.gz"
    with eventbus.open(name) as bus:
        for count in (100, 50, 150):
            before = bus.stats().sent
            send(bus, 20)  # before the first one there is nobody to hear it
            options = ["--count", str(count)] if before else ["--oldest", "--count", str(count)]
            with record(bus, file, *options) as process:
                send(bus, count - 20)
                assert end(process) == (0, [f"eventbus: {count} events were recorded"])
        assert sequences(file) == [*range(1, bus.stats().sent + 1)]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.zst"])
def test_killed_in_the_middle(name: str, tmp_path: Path, kind: str) -> None:
    """What a killed recorder has written is there up to the last whole line, and the next one goes on there."""
    file = tmp_path / f"recording.{kind}"
    with eventbus.open(name) as bus:
        with record(bus, file) as process:
            send(bus, 1000)
            until(lambda: file.stat().st_size > 0, "something to be written")
            send(bus, 1000)
            process.kill()
            process.wait(SECONDS)
        with record(bus, file) as process:
            send(bus, 1000)
            bus.shutdown()
            code, said = end(process)
    heard = sequences(file)
    assert heard == [*range(1, 3001)]
    assert (code, len(said)) == (0, 1)


def stopped(bus: Bus, process: subprocess.Popen[str], act: Callable[[], object]) -> None:
    """Something happens while the recorder stands still."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    act()
    os.kill(process.pid, signal.SIGCONT)


def test_what_it_lost_is_said(name: str, tmp_path: Path) -> None:
    """Without --lossless it holds nobody up, and counts exactly what is not in the file."""
    file = tmp_path / "recording.jsonl"
    with eventbus.open(name, capacity=4096, send_timeout=0) as bus, record(bus, file) as process:
        stopped(bus, process, lambda: send_hundreds(bus))
        bus.shutdown()
        code, said = end(process)
    heard = sequences(file)
    lost = 1000 - len(heard)
    assert heard == [*range(lost + 1, 1001)]
    assert (code, lost > 0) == (0, True)
    assert said == [
        f"eventbus: lost {lost} events",
        f"eventbus: lost {lost} events in all",
        f"eventbus: {1000 - lost} events were recorded",
    ]


def test_lossless_holds_publishers_up(name: str, tmp_path: Path) -> None:
    """They wait for it, and are told for whom; nothing is lost."""
    file = tmp_path / "recording.jsonl"

    def fill() -> None:
        error, _ = jobs.fill(bus)
        assert error.details["name"] == NAME

    with eventbus.open(name, capacity=4096, send_timeout=0) as bus, record(bus, file, "--lossless") as process:
        stopped(bus, process, fill)
        bus.shutdown()
        assert end(process) == (0, [f"eventbus: {bus.stats().sent} events were recorded"])
        assert sequences(file) == [*range(1, bus.stats().sent + 1)]


def test_what_the_ring_lost_between_two_recorders_is_said(name: str, tmp_path: Path) -> None:
    """The file says where it ended, so the gap is counted exactly."""
    file = tmp_path / "recording.jsonl"
    with eventbus.open(name, capacity=4096) as bus:
        with record(bus, file, "--count", "10") as process:
            send(bus, 10)
            end(process)
        send_hundreds(bus)
        with record(bus, file) as process:
            bus.shutdown()
            code, said = end(process)
    heard = sequences(file)
    lost = heard[10] - 11
    assert heard == [*range(1, 11), *range(lost + 11, 1011)]
    assert (code, said[0], lost > 0) == (0, f"eventbus: lost {lost} events", True)


def test_another_bus_of_the_name(name: str, tmp_path: Path) -> None:
    """Its sequences mean something else: it is told, and all that is kept of the new one follows."""
    file = tmp_path / "recording.jsonl"
    for bus_number in range(3):
        with eventbus.open(name) as bus:
            send(bus, 5 if bus_number == 1 else 10)  # fewer than there were, and more
            with record(bus, file, "--oldest") as process:
                bus.shutdown()
                code, said = end(process)
        last = {0: None, 1: 10, 2: 5}[bus_number]
        other = (
            f"eventbus: {str(file)!r} ends with event {last} of another bus: the oldest event kept of this one is next"
        )
        assert (code, said[:-1]) == (0, [other] if last else [])
    assert sequences(file) == [*range(1, 11), *range(1, 6), *range(1, 11)]


def test_what_cannot_be_read_is_told(name: str, tmp_path: Path) -> None:
    """Its neighbours are recorded."""
    file = tmp_path / "recording.jsonl"
    with eventbus.open(name) as bus, record(bus, file) as process:
        bus.send_many([("a", "b", "/1", 1), ("a", "b", "/2", orjson.Fragment(b"{")), ("a", "b", "/3", 3)])
        bus.shutdown()
        code, said = end(process)
    assert sequences(file) == [1, 3]
    assert (code, said[1:]) == (0, ["eventbus: 2 events were recorded"])
    assert said[0].startswith("eventbus: the event 2 'a' 'b' '/2' of the bus ")


def test_a_disk_that_is_full(name: str) -> None:
    """It is an error of one line, beside how many were recorded."""
    with eventbus.open(name) as bus, record(bus, Path("/dev/full")) as process:
        send(bus, 1)
        assert end(process) == (1, ["eventbus: 0 events were recorded", "eventbus: No space left on device"])
