"""``eventbus bridge`` as people use it: processes of their own, a real server, and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

import eventbus
from eventbus import Bus
from eventbus.bridge import config
from eventbus.bridge.config import Config
from eventbus.bridge.names import SYSTEM
from eventbus.bridge.status import bridges
from eventbus.cli import app as cli
from harness import DEADLINE
from nats_server import NatsServer
from orphans import die_with_parent

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "many-hosts.md").read_text()
URL = "nats://127.0.0.1:4222"
WITHOUT = "import sys; sys.modules[{!r}] = None; from eventbus.cli.app import run; sys.exit(run(sys.argv[1:]))"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def other(name: str) -> Iterator[Bus]:
    """The bus of another host."""
    with eventbus.open(f"{name}-2") as made:
        yield made


@pytest.fixture
def start(nats: NatsServer, bus: Bus, other: Bus) -> Iterator[Start]:
    """Starts a bridge with the server; it is gone after the test, and before the buses are."""
    with ExitStack() as running:

        def begin(bus: Bus, *arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "eventbus", "bridge", bus.name, "--nats", nats.url, *arguments]
            die = partial(die_with_parent, os.getpid())
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=die)
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield begin


def wait_for(bus: Bus, state: str) -> None:
    """Until a bridge of the bus says that it is in the state."""
    end = time.monotonic() + DEADLINE
    with bus.subscribe(SYSTEM, "status", start="oldest") as told:
        while True:
            event = told.receive(max(0.0, end - time.monotonic()))
            assert event is not None, f"no bridge was {state}: {bridges(bus.stats())}"
            if event.data["state"] == state:
                return


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error, once it has ended."""
    _, said = process.communicate(timeout=DEADLINE)
    return process.returncode, said


def test_from_bus_to_bus_and_back(start: Start, bus: Bus, other: Bus) -> None:
    """What is sent on one bus is heard on the other, each knows its bridge, and SIGTERM ends it with 0."""
    with bus.subscribe("users") as here, other.subscribe("orders.*") as there:
        first = start(other, "--origin", "h2", "--import", "orders.**", "--export", "users")
        wait_for(other, "running")
        second = start(bus, "--origin", "h1", "--export", "orders.**", "--export", "stock", "--import", "users")
        wait_for(bus, "running")
        bus.send("orders.eu", "created", "/1", {"total": 9}, headers={"trace": "t"})
        other.send("users", "joined", "/2", b"raw")
        outward, inward = there.receive(DEADLINE), here.receive(DEADLINE)
        assert outward is not None
        assert outward[:4] == ("orders.eu", "created", "/1", {"total": 9})
        assert (outward.origin, outward.headers, outward.sender) == ("h1", {"trace": "t"}, os.getpid())
        assert inward is not None
        assert (inward.data, inward.origin) == (b"raw", "h2")
        assert [(row["origin"], row["pid"]) for row in bridges(bus.stats())] == [("h1", second.pid)]
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
            code, said = ended(process)
            assert (code, "Traceback" in said) == (0, False)
        (row,) = bridges(bus.stats())
        assert (row["state"], row["exported"], row["imported"]) == ("stopped", 1, 1)


def test_another_bus_of_the_same_origin(start: Start, bus: Bus, other: Bus) -> None:
    """It is fenced off, says by whom, and ends with 3; told to take over, it does, and the first one is fenced."""
    first = start(bus, "--origin", "h1", "--export", "orders")
    wait_for(bus, "running")
    code, said = ended(start(other, "--origin", "h1", "--export", "orders"))
    assert code == 3
    assert bus.name in said
    assert "--take-over" in said
    wait_for(other, "fenced")
    second = start(other, "--origin", "h1", "--export", "orders", "--take-over")
    wait_for(other, "running")
    other.send("orders", "k", "/taken")
    bus.send("orders", "k", "/late")
    assert ended(first)[0] == 3
    wait_for(bus, "fenced")
    second.send_signal(signal.SIGINT)
    assert ended(second)[0] == 0


def test_another_bridge_of_the_same_bus(start: Start, bus: Bus) -> None:
    """A second one of an origin on one bus ends at once, and names the first."""
    first = start(bus, "--origin", "h1", "--export", "orders")
    wait_for(bus, "running")
    code, said = ended(start(bus, "--origin", "h1", "--export", "orders"))
    assert (code, str(first.pid) in said) == (1, True)
    assert first.poll() is None


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    code = cli.run(["bridge", *arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name a bus, or a file with --config"),
        (("--status",), "name a bus, or a file with --config"),
        (("shop",), "the command line, [nats]: 'servers' must have at least one, such as 'nats://127.0.0.1:4222'"),
        (("shop", "--nats", URL), "the command line: nothing would travel: name systems to export or to import"),
        (("shop", "--nats", URL, "--export", "a*"), "the command line, export 1: 'systems': pattern 'a*' is not valid"),
        (("shop", "--nats", URL, "--export", "a", "--ca", "/no"), "the command line, [nats]: 'ca' names '/no', which"),
        (("shop", "--nats", "nats://h1:pw@a", "--export", "a"), "a server has no name or password in it"),
        (("shop", "--config", "b.toml"), "with --config, all stands in 'b.toml': leave the bus and the other options"),
        (("--config", "b.toml", "--domain", "d"), "with --config, all stands in 'b.toml': leave"),
        (("--config", "/no/b.toml"), "No such file or directory: '/no/b.toml'"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    """Each is one sentence that says what to write, and the exit code 1."""
    code, said = run(capsys, *arguments)
    assert (code, len(said.splitlines())) == (1, 1)
    assert sentence in said


@pytest.mark.parametrize("library", ["nats", "nkeys"])
def test_without_the_extra(name: str, library: str) -> None:
    """One sentence says what to install; the other commands do without."""
    code = WITHOUT.format(library)
    for arguments, expected in (
        (("bridge", name, "--nats", URL, "--export", "a"), (1, "pip install 'eventbus[nats]'")),
        (("bridge", "--status", name), (1, f"there is no bus named {name!r}")),
        (("ls",), (0, "")),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=DEADLINE
        )
        assert (done.returncode, len(done.stderr.splitlines()) <= 1) == (expected[0], True)
        assert expected[1] in done.stderr


# --- the files of the guide ---


def toml(number: int) -> str:
    """One of the configurations that the guide shows."""
    found: list[str] = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return found[number]


def loaded(text: str, tmp_path: Path) -> Config:
    """What it says, with files that are there."""
    path, secret = tmp_path / "bridge.toml", tmp_path / "secret"
    secret.touch()
    path.write_text(re.sub(r'"/etc/eventbus/[^"]*"', f'"{secret}"', text))
    return config.load(path)


def test_the_file_of_the_guide(tmp_path: Path) -> None:
    """It is a good one, and says all that there is to say."""
    found = loaded(toml(0), tmp_path)
    assert (found.bus, found.capacity, found.persist, found.origin) == ("shop", 256 << 20, True, "h1")
    assert (found.window, found.ack_timeout, found.stream.max_bytes) == (config.WINDOW, config.ACK_TIMEOUT, 10 << 30)
    for key in (*config._KEYS, "servers", *config.FILES, "user", "max_age", "max_bytes", "replicas", "from", "start"):
        assert re.search(rf"\b{key} = ", toml(0)), key


def test_the_defaults_of_the_guide(tmp_path: Path) -> None:
    """What it shows where it says "if left out" holds."""
    least = loaded('bus = "shop"\n[nats]\nservers = ["nats://a"]\n[[import]]\nsystems = ["a"]\n', tmp_path)
    shown = loaded(toml(0), tmp_path)
    for key in ("domain", "when_full", "window", "ack_timeout", "relay"):
        assert getattr(least, key) == getattr(shown, key)
    assert (least.stream.max_age, least.stream.replicas) == (shown.stream.max_age, shown.stream.replicas)
