"""What commands write on standard error beside their output, and what they take from standard input."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import cast


def say(message: str) -> None:
    """One line on standard error."""
    print(f"eventbus: {printable(message)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with escapes for what would break the line, move the cursor or command the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _step, _sent: None
        return
    from eventbus.cli.console import bar  # takes as long to import as typer

    with bar(unit, total) as advance:
        yield advance
