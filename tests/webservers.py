"""The web servers of a test, each with two workers, and pages that hear by server-sent events."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from harness import DEADLINE, until
from nats_server import keep_port

APP = "eventbus.integrations.chat:app"
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "--graceful-timeout", "60", APP, "-k"]
GRANIAN = ["granian", "--interface", "asgi", "--workers", "2"]
FREE = "a free port"  # for a server that does not tell which one it was given
SERVERS = {
    "uvicorn": ["uvicorn", "--port", "0", "--workers", "2", "--timeout-worker-healthcheck", "60", APP],
    "gunicorn": [*GUNICORN, "uvicorn_worker.UvicornWorker"],
    "gunicorn-preload": [*GUNICORN, "uvicorn_worker.UvicornWorker", "--preload"],
    "granian": [*GRANIAN, "--respawn-failed-workers", "--workers-kill-timeout", "10", "--port", FREE, APP],
}
STARTED = re.compile(r"Started worker-|Application startup complete")
ADDRESS = re.compile(r"(?:running on|Listening at:) http://127\.0\.0\.1:(\d+)")


class Page:
    """A page that hears by server-sent events, and comes again when its connection ends, as browsers do."""

    def __init__(self, port: int, name: str, at_once: int = 1) -> None:
        """Opens so many connections when it connects first, and hears by the one that is answered first: where each
        worker has a socket of its own (granian), one of many meets a worker that answers, though another one is
        stopped."""
        self._port, self._name, self._at_once, self.last = port, name, at_once, ""
        self._connection: HTTPConnection | None = None
        self._lines: Iterator[bytes] = iter(())

    def next(self, kind: str) -> Any:
        """The next event of that kind, which must come."""
        for _ in range(1000):
            for line in self._lines:
                if line.startswith(b"id: "):
                    self.last = line[4:].decode().strip()
                elif line.startswith(b"event: lost"):
                    pytest.fail("something was lost")
                elif line.startswith(b"data: ") and (event := json.loads(line[6:]))["kind"] == kind:
                    return event
            self._connect()
        pytest.fail(f"{self._name} heard nothing of {kind}")

    def close(self) -> None:
        """Goes away."""
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        self.close()
        with ExitStack() as held, suppress(ConnectionError, HTTPException):  # of a worker that has just gone
            asked = {}
            for _ in range(self._at_once):
                connection = self._asked()
                held.callback(connection.close)
                asked[connection.sock] = connection
            self._at_once = 1
            answered, _, _ = select.select(asked, [], [], DEADLINE)
            assert answered, "nobody answers"
            self._connection = asked.pop(answered[0])
            answer = self._connection.getresponse()
            assert answer.status == 200
            self._lines = _until_the_end(answer)
            held.pop_all()
            for connection in asked.values():
                connection.close()

    def _asked(self) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        headers = {"Last-Event-ID": self.last} if self.last else {}
        connection.request("GET", f"/events?name={self._name}", headers=headers)
        return connection


def _until_the_end(answer: Any) -> Iterator[bytes]:
    with suppress(ConnectionError, HTTPException):
        while line := answer.readline():
            yield line


def say(port: int, text: str) -> None:
    """Says something, by whichever worker answers; again where that one dies."""
    body = json.dumps({"key": text, "name": "Eve", "text": text}).encode()
    for _ in range(100):
        with suppress(OSError, HTTPException), urlopen(Request(f"http://127.0.0.1:{port}/say", body), timeout=DEADLINE):
            return
    pytest.fail("nobody answers")


def answers(port: int) -> bool:
    """Whether somebody listens there: a server may tell its port before its first worker does."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_for_starts(log: Path, count: int) -> None:
    """Waits until so many workers have started. One that is told to end while it starts may miss it (granian)."""
    until(lambda: len(STARTED.findall(log.read_text())) >= count, f"{count} workers to have started")


def living(group: int) -> list[int]:
    """The processes of a group that run; a dead one that nobody waits for is none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


@contextmanager
def serving(command: list[str], bus: str, log: Path) -> Iterator[tuple[int, int]]:
    """The port and the pid of a server; it ends by SIGTERM, and leaves no process."""
    if find_spec(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: pip install 'eventbus[dev]'")
    with keep_port() as kept, log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *(str(kept.getsockname()[1]) if word == FREE else word for word in command)],
            stdout=said,
            stderr=said,
            env={**os.environ, "EVENTBUS_NAME": bus},
            start_new_session=True,
        )
        try:
            yield _port(process, log), process.pid
            process.terminate()
            assert process.wait(DEADLINE) in (0, -signal.SIGTERM), log.read_text()
            until(lambda: not living(process.pid), "all processes of the server to end")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until(lambda: ADDRESS.search(log.read_text()) or process.poll() is not None, "the server to tell its port")
    found = ADDRESS.search(log.read_text())
    assert found is not None, log.read_text()
    until(lambda: answers(int(found[1])), "a worker to listen")
    return int(found[1])
