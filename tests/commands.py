"""The command line as people run it: each command in a process of its own, over the release build."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 60  # a deadline that fails; nothing here takes a tenth of it
EVENTBUS = [sys.executable, "-m", "eventbus"]


def command(
    *arguments: str, stdin: str = "", stdout: int = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EVENTBUS, *arguments],
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        env={**os.environ, **variables},
    )


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*EVENTBUS, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], stdin: str | None = None) -> tuple[int, str, str]:
    """Exit code, what was left of standard output, and standard error."""
    out, errors = process.communicate(stdin, timeout=SECONDS)
    return process.returncode, out, errors
