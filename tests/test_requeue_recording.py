"""``requeue --from``: dead letters of recordings, also of those that are longer than the ring, or damaged."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus import Bus, Subscription
from eventbus.cli import app as cli
from eventbus.cli import requeue as command
from graves import again, die, letters, of_another_life, record, requeue
from jobs import join

Capture = pytest.CaptureFixture[str]
SENT = "eventbus: {} dead letters were sent again, {} skipped{}\n"


@pytest.fixture
def recorded(name: str) -> list[dict[str, Any]]:
    """The letters of a hundred jobs of a bus that had the name before, in which ``g`` was the group."""
    return of_another_life(name, *range(100))


@pytest.fixture
def bus(recorded: object, name: str) -> Iterator[Bus]:
    """The bus that has the name since."""
    with eventbus.open(name, capacity=64 * 1024) as opened:
        opened.group("g", "jobs.**")
        yield opened


@pytest.fixture
def heard(bus: Bus) -> Subscription:
    """What comes to the system in which events died."""
    return bus.subscribe("jobs", overflow="drop")


@pytest.fixture
def file(tmp_path: Path, recorded: list[dict[str, Any]]) -> Path:
    """The recording."""
    return Path(record(tmp_path / "dead.jsonl", recorded))


def zstandard(text: bytes) -> bytes:
    """The text, compressed."""
    compressed: bytes = pytest.importorskip("zstandard").compress(text)
    return compressed


@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstandard])
@pytest.mark.parametrize("name_of_it", ["dead", "-"])
def test_as_it_is_or_compressed(
    bus: Bus,
    heard: Subscription,
    file: Path,
    packed: Callable[[bytes], bytes],
    name_of_it: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """Whatever it is called, by name or as standard input: all of it is sent to the bus of today, once."""
    file.write_bytes(packed(file.read_bytes()))
    for _ in range(2):
        with file.open() as source:
            monkeypatch.setattr(sys, "stdin", source)
            assert requeue(bus, "--from", "-" if name_of_it == "-" else str(file)) == 0
    assert again(heard) == list(range(100))
    assert capsys.readouterr().err == SENT.format(100, 0, "") + SENT.format(0, 100, ": 100 already sent again")


def test_as_tail_writes_it(bus: Bus, name: str, tmp_path: Path, capsys: Capture) -> None:
    """What ``tail --json`` wrote of all there is comes back: what is no dead letter is counted, empty lines are not."""
    die(bus, {"a": 1}, b"\xff", trace="7")
    assert cli.run(["tail", name, "--json", "--oldest", "--timeout", "0"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 4
    (tmp_path / "all").write_text("\n\n" + text + "\n")
    with bus.subscribe("jobs", overflow="drop") as heard:
        assert requeue(bus, "--from", str(tmp_path / "all")) == 0
        assert again(heard) == [{"a": 1}, b"\xff"]
    assert capsys.readouterr().err == SENT.format(2, 2, ": 2 other events")


def test_what_the_ring_sent_again_the_recording_does_not(bus: Bus, tmp_path: Path, capsys: Capture) -> None:
    """And the other way round: a letter is the same wherever it is found."""
    die(bus, 0, 1)
    first = record(tmp_path / "first", letters(bus)[:1])
    both = record(tmp_path / "both", letters(bus))
    with bus.subscribe("jobs", overflow="drop") as heard:
        assert requeue(bus, "--from", first) == requeue(bus) == requeue(bus, "--from", both) == 0
        assert again(heard) == [0, 1]
    assert capsys.readouterr().err == (
        SENT.format(1, 0, "")
        + SENT.format(1, 1, ": 1 already sent again")
        + SENT.format(0, 2, ": 2 already sent again")
    )


def test_letters_of_a_bus_that_was_made_anew(bus: Bus, heard: Subscription, file: Path) -> None:
    """The same sequences on another bus of the name are other events."""
    die(bus, "a", "b")
    assert requeue(bus) == 0
    heard.receive_many(99, 0)
    assert requeue(bus, "--from", str(file)) == 0
    assert again(heard) == list(range(100))


def test_a_recording_that_has_grown(bus: Bus, heard: Subscription, recorded: list[dict[str, Any]], file: Path) -> None:
    """Of a file that is written on and on, only what is new is sent, however long the ring has lost the rest."""
    record(file, recorded[:60])
    assert requeue(bus, "--from", str(file)) == 0
    assert again(heard) == list(range(60))
    go_round(bus)
    record(file, recorded)
    heard.receive_many(256, 0)
    assert requeue(bus, "--dry-run", "--from", str(file)) == requeue(bus, "--from", str(file)) == 0
    assert again(heard) == list(range(60, 100))


def test_another_recording_is_sent_whole(
    bus: Bus, heard: Subscription, recorded: list[dict[str, Any]], tmp_path: Path
) -> None:
    """How far one has come says nothing of one that begins otherwise, though it goes on the same."""
    assert requeue(bus, "--from", record(tmp_path / "one", recorded[:60])) == 0
    go_round(bus)
    with bus.subscribe("jobs", overflow="drop") as anew:
        assert requeue(bus, "--from", record(tmp_path / "other", recorded[1:])) == 0
        assert again(anew) == list(range(1, 100))


def go_round(bus: Bus) -> None:
    """The ring loses all that was in it."""
    bus.remove_group("g")
    for _ in range(bus.stats().capacity // 1000):
        bus.send("users", "user.new", "/", "x" * 1000)


def test_of_a_group_and_since(
    bus: Bus, heard: Subscription, recorded: list[dict[str, Any]], tmp_path: Path, capsys: Capture
) -> None:
    """--group and --since choose among the letters by what they say and by when they were sent."""
    for number, line in enumerate(recorded):
        line["time"] = (1_795_701_600 + number) * 10**9
        line["data"]["group"] = "gh"[number % 2]
    file = record(tmp_path / "file", recorded)
    options = ["--from", file, "--group", "h", "--since", "2026-11-26T14:01:30Z"]
    assert requeue(bus, *options) == 0
    assert again(heard) == [91, 93, 95, 97, 99]
    assert capsys.readouterr().err.endswith(SENT.format(5, 95, ": 95 not asked for"))


BAD_LINES = [
    ("{", "line 2: the data is not JSON"),
    ('{"system": "eventbus.dead", "kind": "exhaus', "line 2: the data is not JSON"),
    ("NaN", "line 2: the data is not JSON"),
    ("[" * 100_000, "line 2: the data is not JSON"),
    ("7", "line 2: it is no event"),
    ("{}", "line 2: it is no event"),
    ('{"system": "eventbus.dead", "kind": "exhausted"}', "line 2: it has the time None"),
    ('{"system": "eventbus.dead", "kind": "exhausted", "time": 1}', "line 2: it is no letter"),
    ('{"system": "eventbus.dead", "kind": "exhausted", "time": 1, "base64": ""}', "line 2: it is no letter"),
]


@pytest.mark.parametrize(("line", "why"), BAD_LINES)
def test_a_bad_line(bus: Bus, heard: Subscription, file: Path, line: str, why: str, capsys: Capture) -> None:
    """It is told with its number, the others are sent, and the exit code says that there was one."""
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([first, line, *others]))
    assert requeue(bus, "--from", str(file)) == 1
    assert again(heard) == list(range(100))
    said, last = capsys.readouterr().err.splitlines()
    assert said.startswith(f"eventbus: {why}")
    assert last + "\n" == SENT.format(100, 1, ": 1 cannot be sent")


@pytest.mark.parametrize(("begin", "end"), [(0, -20), (0, -8), (30, 200)])
def test_damaged_gzip(bus: Bus, heard: Subscription, file: Path, begin: int, end: int, capsys: Capture) -> None:
    """What its recorder did not finish, or a disk spoiled, is told; what could be read of it is sent."""
    packed = bytearray(gzip.compress(file.read_bytes()))
    file.write_bytes(packed[:end] if begin == 0 else packed[:begin] + bytes(end) + packed[begin + end :])
    assert requeue(bus, "--from", str(file)) == 1
    *said, last = capsys.readouterr().err.splitlines()
    assert any("cannot be decompressed after line" in line for line in said)
    came = again(heard)
    assert came == list(range(len(came)))
    assert last.startswith(f"eventbus: {len(came)} dead letters were sent again, ")


def test_zstandard_that_is_not_installed(
    bus: Bus, heard: Subscription, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The error says what to install, or how to do without."""
    file.write_bytes(zstandard(file.read_bytes()))
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    assert requeue(bus, "--from", str(file)) == 1
    assert capsys.readouterr().err == (
        "eventbus: it takes zstandard to read it: pip install 'eventbus[zstandard]', or decompress it: zstd -dc\n"
    )


@pytest.mark.parametrize("what", ["none", "a directory", "nothing"])
def test_no_recording(bus: Bus, tmp_path: Path, what: str, capsys: Capture) -> None:
    """A file that is not there, or none, is one line; an empty one has no letters."""
    (tmp_path / "a directory").mkdir()
    (tmp_path / "nothing").touch()
    assert requeue(bus, "--from", str(tmp_path / what)) == (what != "nothing")
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert what in errors or errors == SENT.format(0, 0, "")


def test_no_standard_input(bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Where it is closed, that is one line."""
    monkeypatch.setattr(sys, "stdin", None)
    assert requeue(bus, "--from", "-") == 1
    assert capsys.readouterr().err == "eventbus: standard input is closed\n"


def test_a_full_ring(
    bus: Bus, heard: Subscription, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """It is waited for; then the error says who fills it and how many were sent, and the next time sends the rest."""
    monkeypatch.setattr(command, "BATCH", 7)
    bus.remove_group("g")
    with bus.subscribe("jobs", name="slow") as slow:
        bus.send("jobs", "job", "/", "x" * 15_000)
        for _ in range(3):
            bus.send("jobs", "job", "/", "x" * 14_000)
        assert requeue(bus, "--from", str(file), "--timeout", "0") == 1
        line = capsys.readouterr().err.splitlines()[-1]
        sent = len(slow.receive_many(256, 0)) - 4
        assert 0 < sent < 100
        assert "subscriber 'slow'" in line
        assert line.endswith(f" ({sent} dead letters were sent again)")
        assert requeue(bus, "--from", str(file)) == 0
        assert again(slow) == list(range(sent, 100))


def test_what_does_not_fit_together_goes_by_itself(name: str, recorded: list[dict[str, Any]], tmp_path: Path) -> None:
    """A batch that is larger than the ring is sent one by one, and what is too large even so is told."""
    recorded[50]["data"]["data"] = "x" * 2000
    file = record(tmp_path / "dead", recorded)
    with eventbus.open(name, capacity=4096) as bus, bus.subscribe("jobs", overflow="drop") as heard:
        bus.group("g", "users")
        assert requeue(bus, "--from", file) == 1
        came = again(heard)
        assert came == list(range(100))[-len(came) :]
        assert heard.lost + len(came) == bus.stats().sent == 99


def test_what_could_not_be_sent_may_be_later(
    bus: Bus, heard: Subscription, recorded: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far a recording was sent ends before what the policy forbade: once it is allowed it is sent."""
    recorded[30]["data"]["system"] = "users"
    file = record(tmp_path / "dead", recorded)
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\neffect = "deny"\nactions = ["events.send"]\nresources = ["users"]\n')
    monkeypatch.setenv("EVENTBUS_POLICY", str(policy))
    with bus.subscribe("users", overflow="drop") as users:
        assert requeue(bus, "--from", file) == 1
        assert again(heard) == [number for number in range(100) if number != 30]
        policy.write_text("")
        assert requeue(bus, "--from", file) == 0
        assert (again(users), again(heard)) == ([30], [])


def test_read_from_a_pipe(bus: Bus, heard: Subscription, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of which the end has not been written yet are waited for."""
    reading, writing = os.pipe()
    text = file.read_bytes()

    def write() -> None:
        with open(writing, "wb", buffering=0) as end:
            for begin in range(0, len(text), 1000):
                end.write(text[begin : begin + 1000])

    thread = threading.Thread(target=write)
    thread.start()
    with io.TextIOWrapper(open(reading, "rb")) as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert requeue(bus, "--from", "-") == 0
    thread.join()
    assert again(heard) == list(range(100))


def test_who_is_at_it_is_alone(bus: Bus, heard: Subscription, file: Path, capsys: Capture) -> None:
    """A second one at the same time would send the same, and is refused until the first has gone."""
    with bus.subscribe("**", overflow="drop", name=command.NAME):
        assert requeue(bus, "--from", str(file)) == 1
        assert capsys.readouterr().err.startswith(f"eventbus: process {os.getpid()} sends dead letters of the bus ")
    with join(bus):
        assert requeue(bus, "--from", str(file)) == 0
    assert again(heard) == list(range(100))
    assert json.loads(file.read_text().splitlines()[0])["data"]["data"] == 0
