"""The pool as its operator has it: ``eventbus work`` with one release or another, its processes, and what it logs."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from drill.place import Place
from drill.plan import TICK, TIMEOUT
from orphans import children, die_with_parent

GROUP = "drill"
_SAID = re.compile(r"^[-0-9]+ [:,0-9]+ \d+ (?P<level>WARNING|ERROR|CRITICAL) (?P<text>.*)$")
_EXPECTED = (
    re.compile(r"process \d+ of \S+ was killed by SIGKILL\b"),
    re.compile(
        r"\S+ hung for more than \S+ s on (event \d+|its last event): process \d+ is killed, "
        r"and the event delivered again$"
    ),
    re.compile(r"\S+ failed on .*: ConnectionError: the database is away; data: "),
    re.compile(r"no handler serves the group "),
)
_KILLED = re.compile(r"process (\d+) of \S+ was killed by SIGKILL\b")
_HUNG = re.compile(r"hung for more than \S+ s on (?:event \d+|its last event): process (\d+) is killed")
_NOISE = re.compile(r"Exception ignored|Warning: |Fatal Python error")


class Master:
    """One run of ``eventbus work``."""

    def __init__(self, place: Place, bus: str, number: int, handlers: tuple[str, ...], processes: int) -> None:
        """Starts it, with a release that has these handlers.

        Args:
            number: of the run; its log has it in its name.
        """
        self.handlers = handlers
        self.log = place.directory / f"{number}.log"
        (place.directory / "release.py").write_text(release(handlers))
        command = [sys.executable, "-m", "eventbus", "work", bus, "release:worker", "--processes", str(processes)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--group", GROUP],
                cwd=place.directory,
                env={**place.environment(), "PYTHONDONTWRITEBYTECODE": "1"},  # there may be another within a second
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Of the master."""
        return self.process.pid

    def tell(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def ended(self) -> bool:
        """Whether it has."""
        return self.process.poll() is not None

    def children(self) -> set[int]:
        """The pids of its processes."""
        return children(self.pid)

    def logs(self, text: str) -> bool:
        """Whether it has logged that."""
        return text in self.log.read_text(errors="replace")


def release(handlers: tuple[str, ...]) -> str:
    """The module that is deployed."""
    lines = [
        "import eventbus",
        "from drill import handlers",
        "",
        "worker = eventbus.Worker()",
        "worker.on_start(handlers.connect)",
        "worker.on_stop(handlers.disconnect)",
        f"worker.every({TICK})(handlers.tick)",
    ]
    for name in handlers:
        timeout = f", timeout={TIMEOUT}" if name == "fetch" else ""
        lines.append(f'worker.on("jobs.{name}"{timeout})(handlers.{name})')
    return "\n".join([*lines, ""])


def group_of(handler: str) -> str:
    """The name of its group."""
    return f"{GROUP}.{handler}"


class Leaving:
    """Processes that have to go, known by descriptors and so by no number that may be another's by then."""

    def __init__(self, why: str, pids: Iterable[int], within: float) -> None:
        """Args: ``within``, how many seconds it may take from now on."""
        self.why = why
        self.since = time.monotonic()
        self.within = within
        self._left: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._left[pid] = os.pidfd_open(pid)

    def left(self) -> list[int]:
        """The pids of those that are still there."""
        for pid, fd in list(self._left.items()):
            if select.select([fd], [], [], 0)[0]:
                os.close(fd)
                del self._left[pid]
        return list(self._left)

    def close(self) -> None:
        """Gives the descriptors back."""
        for fd in self._left.values():
            os.close(fd)
        self._left = {}


def kill(pid: int, parents: Iterable[int]) -> bool:
    """Kills a process that is a child of one of these; False if it is none any more."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            if any(pid in children(parent) for parent in parents):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                return True
        finally:
            os.close(fd)
    return False


def killed(log: Path) -> Iterator[tuple[int, bool]]:
    """The processes that were killed as a log says: pid, and whether for that it hung."""
    text = log.read_text(errors="replace")
    yield from ((int(pid), True) for pid in _HUNG.findall(text))
    yield from ((int(pid), False) for pid in _KILLED.findall(text))


def unexpected(log: Path) -> list[str]:
    """What no drill should make a pool log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        said = _SAID.match(line)
        if (said and not any(one.match(said["text"]) for one in _EXPECTED)) or _NOISE.search(line):
            found.append(line[:300])
    return found
