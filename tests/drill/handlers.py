"""What the pool does: handlers of several sorts, each of which writes down what it begins and what it has done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

from drill.ledger import BEGUN, DONE, REFUSED, Book, name_of_mine
from drill.place import here
from eventbus import Event

TICK_TAKES = 0.05  # seconds
HANGS = 3600.0  # seconds; nobody waits for that

_place = here()
_book: Book | None = None


def connect() -> None:
    """Each process has a connection while it works, which is a file here."""
    global _book
    (_place.connections / str(os.getpid())).touch()
    _book = Book(_place.books, name_of_mine())


def disconnect() -> None:
    """Gives it back."""
    assert _book is not None
    _book.close()
    (_place.connections / str(os.getpid())).unlink()


@contextlib.contextmanager
def _job(handler: str, number: int, event: Event) -> Iterator[None]:
    assert _book is not None
    _book.write(BEGUN, handler, number, event.deliveries)
    yield
    _book.write(DONE, handler, number, event.deliveries)


@contextlib.contextmanager
def _job_with_database(handler: str, event: Event) -> Iterator[None]:
    number = event.data["number"]
    with _job(handler, number, event):
        if _place.away.exists():
            assert _book is not None
            _book.write(REFUSED, handler, number, event.deliveries)
            raise ConnectionError("the database is away")
        yield


def charge(event: Event) -> None:
    """Is done at once."""
    with _job_with_database("charge", event):
        pass


def resize(event: Event) -> None:
    """Takes as long as the job says."""
    with _job_with_database("resize", event):
        time.sleep(event.data["seconds"])


async def page(event: Event) -> None:
    """The same in an event loop."""
    with _job_with_database("page", event):
        await asyncio.sleep(event.data["seconds"])


def convert(event: Event) -> None:
    """Lets a program of its own do it."""
    with _job_with_database("convert", event):
        subprocess.run(["sleep", str(event.data["seconds"])], check=True)


def fetch(event: Event) -> None:
    """Hangs when it was told to; the pool ends it then."""
    with _job("fetch", event.data["number"], event), contextlib.suppress(FileNotFoundError):
        _place.hang.unlink()
        time.sleep(HANGS)


def weekly(event: Event) -> None:
    """Which not every release has, while its jobs are sent all the time."""
    with _job_with_database("weekly", event):
        pass


def seasonal(event: Event) -> None:
    """Which not every release has; its jobs are sent while one has."""
    with _job_with_database("seasonal", event):
        pass


def tick(event: Event) -> None:
    """Of the clock."""
    with _job("tick", round(event.data * 1000), event):
        time.sleep(TICK_TAKES)
