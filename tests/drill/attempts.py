"""The books of a pool put together: how often each job was begun, by whom, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from drill.ledger import BEGUN, Entry, pid_of

Job = tuple[str, int]
"""A handler, and the number of what it handles."""


@dataclass
class Attempt:
    """One time that a job was begun.

    Attributes:
        ended: the word for how, None if it was not.
        last: of the process.
    """

    handler: str
    number: int
    delivery: int
    book: str
    begun_at: int
    ended: str | None = None
    ended_at: int | None = None
    last: bool = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return pid_of(self.book)


def attempts_of(books: dict[str, list[Entry]]) -> dict[Job, list[Attempt]]:
    """All of each job, in the order of their deliveries."""
    found: dict[Job, list[Attempt]] = defaultdict(list)
    for name, entries in books.items():
        for one in _of_process(name, entries):
            found[one.handler, one.number].append(one)
    for attempts in found.values():
        attempts.sort(key=lambda one: (one.delivery, one.begun_at))
    return found


def _of_process(name: str, entries: Iterable[Entry]) -> list[Attempt]:
    """A process does one thing at a time."""
    made: list[Attempt] = []
    for one in entries:
        if one.word == BEGUN:
            made.append(Attempt(one.handler, one.number, one.delivery, name, one.at))
        else:
            made[-1].ended, made[-1].ended_at = one.word, one.at
    if made:
        made[-1].last = True
    return made
