"""Programs of a medium's own: started, waited for until they say that they are ready, ended by their handles."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from typing import IO

from benchmarks.crew import CrewError, cpu_seconds_of

_SYSTEM_PROGRAMS = "/usr/sbin"
"""Where Debian has some servers, and not every user looks."""


def program(name: str) -> str:
    """Return the path of a server.

    Raises:
        ImportError: it is not on this machine, so its peer is absent.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), _SYSTEM_PROGRAMS]))
    if found is None:
        raise ImportError(f"no {name} on this machine: install Debian's package of that name")
    return found


class Started:
    """A program that runs until ``leftovers`` are closed."""

    def __init__(self, command: list[str], leftovers: ExitStack, said: IO[str] | int) -> None:
        """Start it; ``said`` is where its output and its errors go."""
        self._process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)
        leftovers.callback(self._end)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that it has used so far."""
        return cpu_seconds_of(self._process.pid)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Server(Started):
    """A server that runs until ``leftovers`` are closed.

    Attributes:
        said: its lines up to the one with which it was ready.
    """

    def __init__(self, command: list[str], ready: str, leftovers: ExitStack) -> None:
        """Start it and wait for a line that has ``ready`` in it, in whatever case.

        Raises:
            CrewError: it ended before.
        """
        super().__init__(command, leftovers, subprocess.PIPE)
        self.said: list[str] = []
        for line in self._process.stdout or ():
            self.said.append(line)
            if ready in line.lower():
                return
        raise CrewError(f"{command[0]} did not start: {''.join(self.said[-3:])}")
