"""What commands write on standard error beside their output, and what they take from standard input."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import cast

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from eventbus.cli import tables


def say(message: str) -> None:
    """One line on standard error."""
    print(f"eventbus: {tables.printable(message)}", file=sys.stderr, flush=True)


def asked(question: str) -> bool:
    """Whether somebody at a terminal says yes; where there is none, nobody is asked."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print(f"eventbus: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def standard_input() -> BufferedReader:
    """Its bytes.

    Raises:
        OSError: it is closed.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return cast("BufferedReader", sys.stdin.buffer)


@contextmanager
def progress(unit: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar, if standard error is a terminal.

    Args:
        unit: of what is sent.
        total: how far it goes; None if nobody knows.

    Yields:
        What is told by how much it went on, and how many have been sent.
    """
    columns = (TextColumn("{task.fields[sent]} {task.description}"), BarColumn(), TimeElapsedColumn())
    console = tables.make_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(unit, total=total, sent=0)
        yield lambda step, sent: bar.update(task, advance=step, sent=sent)
