"""The processes of a framework, started by its own command in a session of theirs: what they cost, and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from benchmarks.crew import CrewError
from benchmarks.frameworks.place import environment
from benchmarks.frameworks.registry import Setting

if TYPE_CHECKING:
    from typing import Self

_ROOT = Path(__file__).parents[2]
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_SAID_BYTES = 2000
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Fields of /proc/PID/stat after the name, which may hold anything: state, session, and the four sorts of CPU time.
_STATE, _SESSION, _TIMES = 0, 3, slice(11, 15)


class Pool:
    """Runs the command of a framework until it is closed."""

    def __init__(self, setting: Setting, files: Path) -> None:
        self._command = setting.command.format(name=files.name, files=files).split()
        self._variables = os.environ | setting.variables | environment(files)
        self._log = files / "log"
        self._started: list[subprocess.Popen[bytes]] = []

    def _start(self) -> None:
        with self._log.open("ab") as log, _undisturbed():
            process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=_ROOT,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._started.append(process)

    def check(self) -> None:
        """Raise `CrewError`, with the last that the command said, if it has ended."""
        status = self._started[-1].poll()
        if status is not None:
            raise CrewError(f"{' '.join(self._command)} ended with status {status}:\n{self.said()}")

    def said(self) -> str:
        """Return the last that the command said."""
        return self._log.read_bytes()[-_SAID_BYTES:].decode(errors="replace")

    def kill(self) -> None:
        """Kill all processes that the command has started last, and itself, at once."""
        os.killpg(self._started[-1].pid, signal.SIGKILL)
        self._started[-1].wait()

    def supervise(self) -> None:
        """Start the command again if it has ended: some give up when a process dies, and leave the rest to systemd."""
        if self._started[-1].poll() is not None:
            self._start()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far of all that live, and of their children that have ended, in ticks of 10 ms."""
        return sum(sum(map(int, fields[_TIMES])) for fields in self._alive().values()) * _TICK_SECONDS

    def _alive(self) -> dict[int, list[str]]:
        sessions = {str(process.pid) for process in self._started}
        return {pid: fields for pid, fields in _stats() if fields[_SESSION] in sessions and fields[_STATE] != "Z"}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # of a handler of signals, too
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        # What they still have in hand is nobody's any more. One may fork while we look.
        while alive := self._alive():
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let what would interrupt the block come after it: a process that was made amid it would be nobody's."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda one, _: came.append(one)) for number in _INTERRUPTING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for one in came:
        signal.raise_signal(one)


def _stats() -> Iterator[tuple[int, list[str]]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                yield int(entry), Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
