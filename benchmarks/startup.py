"""How long it takes until a process can do anything: the import, a bus, a command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

IMPORT, NEW, THERE, COMMAND = "import eventbus", "open, a new bus", "open, one that is there", "command eventbus ls"

_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""What modules are compiled to is kept, as it is after an installation."""

_IMPORT = """
import time
begun = time.perf_counter()
import eventbus
print(time.perf_counter() - begun)
"""
_OPEN = """
import sys, time
import eventbus
begun = time.perf_counter()
bus = eventbus.open(sys.argv[1])
print(time.perf_counter() - begun)
"""


def run() -> dict[str, float]:
    """Return milliseconds of wall time by what is begun, each in a process of its own."""
    name = f"benchmark-startup-{os.getpid()}"
    _timed(_IMPORT)
    times = {IMPORT: _timed(_IMPORT), NEW: _timed(_OPEN, name)}
    from eventbus import open as open_bus
    from eventbus import unlink

    try:
        with open_bus(name):
            times[THERE] = _timed(_OPEN, name)
            _command()
            times[COMMAND] = _command()
    finally:
        with suppress(FileNotFoundError):
            unlink(name)
    return times


def _timed(program: str, *arguments: str) -> float:
    """Return the milliseconds that a program of Python prints as seconds."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return float(done.stdout) * 1e3


def _command() -> float:
    """Return the milliseconds from before the start of `eventbus ls` to after its end."""
    begun = time.perf_counter()
    arguments = [sys.executable, "-m", "eventbus", "ls"]
    # With a pipe: a wait with a timeout looks ever more rarely whether the process has ended (subprocess.py).
    subprocess.run(arguments, env=_ENVIRONMENT, stdout=subprocess.PIPE, check=True, timeout=60)
    return (time.perf_counter() - begun) * 1e3
