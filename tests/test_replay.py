"""``eventbus replay``: what was recorded is sent again, with its distances in time."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard

import eventbus
from commands import EVENTBUS, SECONDS, command, ended, running
from eventbus import Bus, Subscription
from eventbus.cli import app as cli
from eventbus.cli import replay as room
from eventbus.cli.recording import Recorded
from eventbus.cli.replay import Clock, Sending
from harness import take

Capture = pytest.CaptureFixture[str]


def line(number: int, time: int | None = 0, **fields: Any) -> str:
    event = {"system": "orders", "kind": "order.created", "path": f"/{number}", "data": number, "sequence": number}
    return json.dumps({**event, "time": time, "sender": 1, "deliveries": 1, **fields}) + "\n"


def recorded(file: Path, times: list[int]) -> str:
    file.write_text("".join(line(number, time) for number, time in enumerate(times)))
    return str(file)


def numbers(heard: Subscription) -> list[Any]:
    return [event.data for event in heard.receive_many(100_000, 0)]


@pytest.fixture
def heard(bus: Bus) -> Subscription:
    """What was sent again."""
    return bus.subscribe("**")


class Time:
    """A clock that goes on when somebody sleeps, and by what each look at it takes."""

    def __init__(self, look: int) -> None:
        self.now = 10**12
        self.look = look

    def monotonic_ns(self) -> int:
        self.now += self.look
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


class Watched(Sending):
    """Notes when each event was sent."""

    def __init__(self, bus: Bus, speed: float, clock: Time) -> None:
        super().__init__(bus, speed)
        self.clock = clock
        self.at: list[int] = []

    def _send(self, batch: list[Any]) -> None:
        super()._send(batch)
        self.at += [self.clock.now] * len(batch)


STEPS = [0, 0, 1000, 999_000, 1_000_000, 5_000_000, 10**9, 3600 * 10**9]


@pytest.mark.parametrize("speed", [1.0, 2.0, 0.5, 1000.0])
@pytest.mark.parametrize("look", [0, 100])
def test_distances(
    bus: Bus, heard: Subscription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: float, look: int
) -> None:
    """Each event is sent when its time has come and not before, and late by no more than looking at the clock takes, or
    what reads it."""
    clock = Time(look)
    monkeypatch.setattr(room, "time", clock)
    times = [10**18 + sum(STEPS[:number]) for number in range(len(STEPS) + 1)]
    sending = Watched(bus, speed, clock)
    sending.run(recorded(tmp_path / "file", times))
    begin = sending.at[0]
    late = [at - begin - (time - times[0]) / speed for at, time in zip(sending.at, times, strict=True)]
    assert numbers(heard) == [*range(len(times))]
    assert min(late) >= -3 * look - 1
    assert max(late) <= 3 * look * len(times) + 1


def test_a_clock_that_was_set_back(
    bus: Bus, heard: Subscription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded after that follows at once, in its order."""
    clock = Time(1)
    monkeypatch.setattr(room, "time", clock)
    Sending(bus, 1.0).run(recorded(tmp_path / "file", [5 * 10**9, 6 * 10**9, 10**9, 6 * 10**9, 7 * 10**9]))
    assert numbers(heard) == [0, 1, 2, 3, 4]
    assert clock.now - 10**12 == pytest.approx(2 * 10**9, abs=10**6)


def test_what_is_late_goes_together(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than can be sent one by one in time is sent in batches, and does not fall behind for ever."""
    clock = Time(1000)
    monkeypatch.setattr(room, "time", clock)
    batches: list[int] = []
    send = Sending._send

    def slow(self: Sending, batch: list[Any]) -> None:
        send(self, batch)
        batches.append(len(batch))
        clock.now += 200_000

    monkeypatch.setattr(Sending, "_send", slow)
    Sending(bus, 1.0).run(recorded(tmp_path / "file", [number * 20_000 for number in range(2000)]))
    assert sum(batches) == 2000
    assert max(batches) > 10
    assert clock.now - 10**12 < 2000 * 20_000 + 2_000_000


def test_due_is_never_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances are those from the first event."""
    monkeypatch.setattr(room, "time", Time(0))
    clock = Clock(50, 2.0)

    def due(time: int) -> int:
        return clock.due((1, Recorded("a", "b", "/", None, {}, 1, time)))

    assert [due(time) - due(50) for time in (50, 60, 10)] == [0, 5, 0]


# --- the command ---


def replay(file: Path | str, bus: Bus, *options: str) -> int:
    return cli.run(["replay", str(file), bus.name, "--speed", "max", *options])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_what_is_sent(bus: Bus, heard: Subscription, tmp_path: Path, pack: Any, capsys: Capture) -> None:
    """System, kind, path, data and headers are as they were, raw bytes too; the rest is new. Compressed or not."""
    file = tmp_path / "file"
    raw = line(2, base64=base64.b64encode(b"\x00\xff").decode(), headers={"trace": "1"})
    file.write_bytes(pack((line(1, sequence=77) + "\n" + raw.replace('"data": 2, ', "")).encode()))
    assert replay(file, bus) == 0
    first, second = take(heard), take(heard)
    assert first[:4] == ("orders", "order.created", "/1", 1)
    assert second[:4] == ("orders", "order.created", "/2", b"\x00\xff")
    assert (dict(second.headers), second.sender) == ({"trace": "1"}, os.getpid())
    assert [first.sequence, second.sequence] == [1, 2]
    assert capsys.readouterr() == ("", "eventbus: 2 events were sent\n")


BAD = [
    ("{", "the data is not JSON"),
    ("[1]", "it is no event"),
    ("{}", "it is no event: its system is None"),
    (line(2, system=7), "it is no event: its system is 7"),
    (line(2, time=None), "it is no event: its time is None"),
    (line(2, base64="?"), "its base64 is none"),
    (line(2, base64=7), "its base64 is none"),
    (line(2, system="orders.*"), "system"),
    (line(2, headers=[1]), "it is no event: its headers are [1]"),
    (line(2, path="x" * 5000), "path has 5000 bytes"),
]


@pytest.mark.parametrize("speed", ["max", "1"])
@pytest.mark.parametrize(("bad", "why"), BAD)
def test_a_bad_line_is_named(
    bus: Bus, heard: Subscription, tmp_path: Path, bad: str, why: str, speed: str, capsys: Capture
) -> None:
    """Those before it are sent and none after it."""
    file = tmp_path / "file"
    file.write_text(line(0) + line(1) + bad.rstrip() + "\n" + line(3))
    assert replay(file, bus, "--speed", speed) == 1
    assert numbers(heard) == [0, 1]
    errors = capsys.readouterr().err
    assert errors.startswith("eventbus: line 3: ")
    assert why in errors
    assert errors.endswith(" (2 events were sent)\n")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_what_is_cut_off(bus: Bus, heard: Subscription, tmp_path: Path, pack: Any, capsys: Capture) -> None:
    """Of what a killed recorder left, all whole parts are sent, and it is told that there was more."""
    file = tmp_path / "file"
    file.write_bytes(pack((line(0) + line(1)).encode()) + pack(line(2).encode())[:-4])
    assert replay(file, bus) == 1
    assert numbers(heard)[:2] == [0, 1]
    assert "cannot be decompressed after line" in capsys.readouterr().err


def test_a_batch_that_is_larger_than_the_ring(bus: Bus, tmp_path: Path) -> None:
    """It goes one by one."""
    file = tmp_path / "file"
    file.write_text("".join(line(number, data="x" * 10_000) for number in range(50)))
    with bus.subscribe("**", overflow="drop") as watching:
        assert replay(file, bus) == 0
        assert watching.receive_many(100, 0)[-1].path == "/49"
    assert bus.stats().sent == 50


def test_a_slow_subscriber_is_waited_for(name: str, tmp_path: Path) -> None:
    """Publishers wait for it as always: all arrives, in order, through a ring that holds a fraction of it."""
    file = recorded(tmp_path / "file", [0] * 500)
    with (
        eventbus.open(name, capacity=4096) as bus,
        running("replay", file, name, "--speed", "max", "--timeout", str(SECONDS), "--wait", "1") as process,
        bus.subscribe("orders") as slow,
    ):
        assert [take(slow).data for _ in range(500)] == [*range(500)]
        assert ended(process) == (0, "", "eventbus: 500 events were sent\n")


def test_a_subscriber_that_stands_still_is_named(bus: Bus, tmp_path: Path, capsys: Capture) -> None:
    """After --timeout, with the number of events that were sent."""
    file = recorded(tmp_path / "file", [0] * 5000)
    with bus.subscribe("orders", name="slow") as slow:
        assert replay(file, bus, "--timeout", "0") == 1
        sent = bus.stats().sent
        assert numbers(slow) == [*range(sent)]
    errors = capsys.readouterr().err
    assert "subscriber 'slow' of process" in errors
    assert errors.endswith(f" ({sent} events were sent)\n")


def test_on_and_on(bus: Bus, tmp_path: Path) -> None:
    """--loop begins again until Ctrl-C, which is told with a number."""
    file = recorded(tmp_path / "file", [0] * 3)
    with running("replay", file, bus.name, "--loop", "--wait", "1") as process, bus.subscribe("orders") as heard:
        assert [take(heard).data for _ in range(9)] == [0, 1, 2] * 3
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            heard.receive_many(256, 0.01)
        code, _, errors = ended(process)
    assert code == 130
    assert errors.startswith("eventbus: at least ")


def test_a_line_is_sent_before_the_next_one_is_written(bus: Bus, heard: Subscription) -> None:
    """From a pipe, what is there is sent when it is due, without waiting for more of it."""
    with running("replay", "-", bus.name) as process:
        assert process.stdin is not None
        for number in range(3):
            process.stdin.write(line(number))
            process.stdin.flush()
            assert take(heard).data == number
        assert ended(process) == (0, "", "eventbus: 3 events were sent\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{file}", "{name}", "--speed", "fast"], 2, "'fast' is neither 'max' nor a number"),
        (["{file}", "{name}", "--speed", "0"], 2, "'0' is neither"),
        (["{file}", "{name}", "--speed", "nan"], 2, "'nan' is neither"),
        (["-", "{name}", "--loop"], 2, "standard input can be read once only"),
        (["{file}", "{name}", "--loop"], 1, "has no events"),
        (["{file}.none", "{name}"], 1, "No such file or directory"),
    ],
)
def test_what_cannot_be_done(
    name: str, tmp_path: Path, arguments: list[str], code: int, says: str, capsys: Capture
) -> None:
    """One line, and no bus is left."""
    file = tmp_path / "file"
    file.touch()
    assert cli.run(["replay", *(one.format(file=file, name=name) for one in arguments)]) == code
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1


@pytest.mark.release
def test_a_bar_is_for_terminals(name: str, tmp_path: Path) -> None:
    """On a terminal there is a bar with the number of events, elsewhere there is none."""
    file = recorded(tmp_path / "file", [0] * 2000)
    here, there = pty.openpty()
    try:
        arguments = [*EVENTBUS, "replay", file, name, "--speed", "max"]
        subprocess.run(arguments, stderr=there, env={**os.environ, "TERM": "xterm"}, timeout=SECONDS, check=True)
        shown = os.read(here, 65536).decode()
    finally:
        os.close(here)
        os.close(there)
    assert "events" in shown.partition("eventbus: ")[0]
    assert shown.endswith("eventbus: 2000 events were sent\r\n")
    assert command("replay", file, name, "--speed", "max").stderr == "eventbus: 2000 events were sent\n"
