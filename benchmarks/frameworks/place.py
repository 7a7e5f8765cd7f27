"""Where the processes of one repetition meet: a directory, of which the harness tells them by the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.frameworks.ledger import Ledger

_FILES = "EVENTBUS_BENCHMARK_FILES"


def environment(files: Path) -> dict[str, str]:
    """Return the variables that tell a process of the directory, and of the bus that is called as it is."""
    return {_FILES: str(files), "EVENTBUS_NAME": files.name}


def redis() -> str:
    """Return the socket of the harness's own redis-server."""
    return f"{os.environ[_FILES]}/redis"


def job() -> Callable[[int, bool], None]:
    """Return what every job does; see `Ledger.job`."""
    return Ledger(Path(os.environ[_FILES])).job()
