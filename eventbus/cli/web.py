"""``demo --web``: a chat, served by several workers of a prefork server, which talk over one bus."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

import eventbus
from eventbus.cli import demo
from eventbus.cli.hosts import last_word, launch
from eventbus.errors import EventBusError, UnavailableError

LIBRARIES = ("starlette", "uvicorn", "websockets")
CAPACITY = 1 << 20  # bytes; what was said before that many are gone

TERMINATED = 143  # as a shell says it of a command that SIGTERM ended

_PATIENCE = 60.0  # seconds for the server to begin
_LEAVING = 10.0  # seconds for the workers to end
_ADDRESS = re.compile(r"running on (http://127\.0\.0\.1:(\d+))")


def run(workers: int, console: Console) -> None:
    """Serves the chat until Ctrl-C or SIGTERM.

    Raises:
        SystemExit: it was told to end by SIGTERM; 143.
        UnavailableError: there is not all that it needs, or the server did not start.
        EventBusError: the server ended by itself.
    """
    if not all(map(find_spec, LIBRARIES)):
        raise UnavailableError("the demo of web servers needs libraries: pip install 'eventbus[web]'")
    with (
        _ended_by_sigterm(),
        TemporaryDirectory(prefix="eventbus-demo-") as folder,
        eventbus.open(demo.new_name(), capacity=CAPACITY) as bus,
    ):
        log = Path(folder, "server.log")
        with server(bus, workers, log) as process:
            console.print(f"{address_of(process, log)} is served by {workers} workers: open it in two windows")
            console.print(
                f"kill -9 the worker that a window names, or kill -HUP {process.pid} to restart all; Ctrl-C ends it"
            )
            process.wait()
        raise EventBusError(f"the server ended: {last_word(log)}")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what is in it as Ctrl-C does. A second one changes nothing: the end has its own limit of time."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def server(bus: eventbus.Bus, workers: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server on a port of the loopback that was free; none of its processes is left afterwards."""
    command = [sys.executable, "-m", "uvicorn", "eventbus.integrations.chat:app", "--no-access-log"]
    options = ["--host", "127.0.0.1", "--port", "0", "--workers", str(workers), "--timeout-graceful-shutdown", "2"]
    process = launch([*command, *options], log, signal.SIGTERM, EVENTBUS_NAME=bus.name)
    try:
        yield process
    finally:
        bus.shutdown()  # which ends what every page hears
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LEAVING)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def address_of(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens, once it does."""
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        found = _ADDRESS.search(log.read_text(errors="replace"))
        if found and _answers(int(found[2])):  # it tells its port before its first worker listens there
            return found[1]
        time.sleep(0.02)
    raise UnavailableError(f"the server did not start within {_PATIENCE:g} s: {last_word(log)}")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
