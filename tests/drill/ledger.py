"""What each process writes down outside of the bus. Written by write(2): a SIGKILL takes none of it back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

SENT, BEGUN, DONE, REFUSED = "sent", "begun", "done", "refused"
"""A job was sent; a handler has begun it, has done it, was refused by the database."""
PRODUCER = "producer"


class Entry(NamedTuple):
    """One line.

    Attributes:
        number: of the job; of a tick, its time in milliseconds.
        delivery: which one of its event's it was; 0 of one that was sent.
        at: nanoseconds on the monotonic clock, which all processes of a host share; of one that was sent, before that.
    """

    word: str
    handler: str
    number: int
    delivery: int
    at: int


class Book:
    """One process's own file."""

    def __init__(self, directory: Path, name: str) -> None:
        self._fd = os.open(directory / f"{name}.book", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, word: str, handler: str, number: int, delivery: int = 0, at: int | None = None) -> None:
        """There when this returns, whole or not at all: nobody sees half of anything that short."""
        when = time.monotonic_ns() if at is None else at
        os.write(self._fd, f"{word} {handler} {number} {delivery} {when}\n".encode())

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)


def name_of_mine() -> str:
    """Of the book of this process, whoever has its pid next."""
    return f"{os.getpid()}.{time.monotonic_ns()}"


def pid_of(name: str) -> int:
    """Of the process whose book has this name."""
    return int(name.partition(".")[0])


def read(directory: Path) -> dict[str, list[Entry]]:
    """All books by their names, each in order."""
    return {path.stem: [_entry(line) for line in path.read_text().splitlines()] for path in directory.glob("*.book")}


def _entry(line: str) -> Entry:
    word, handler, number, delivery, at = line.split()
    return Entry(word, handler, int(number), int(delivery), int(at))
