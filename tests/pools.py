"""A worker with its processes, as the tests of workers run it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventbus import Worker
from harness import Child, Fork, Line


def run_worker(line: Line, worker: Worker, options: dict[str, Any], log: Path) -> None:
    """Runs the worker in a process of its own, as a program does, with what it logs in a file."""
    logging.basicConfig(filename=log, level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    line.say(os.getpid())
    worker.run(**options)


@contextmanager
def running(fork: Fork, worker: Worker, log: Path, **options: Any) -> Iterator[Child]:
    """The worker's parent, until it is stopped here by SIGTERM."""
    parent = fork(run_worker, worker, options, log)
    parent.hear()
    yield parent
    parent.kill(signal.SIGTERM)
    parent.result()
