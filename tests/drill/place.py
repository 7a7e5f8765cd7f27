"""The place: the files by which the processes of a drill know of each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_VARIABLE = "EVENTBUS_DRILL"


class Place(NamedTuple):
    """A directory and what lies in it."""

    directory: Path

    @property
    def books(self) -> Path:
        """Where each process has its ledger."""
        return self.directory / "books"

    @property
    def connections(self) -> Path:
        """Where each process of the pool has a file, its pid the name, from its start to its end."""
        return self.directory / "connections"

    @property
    def away(self) -> Path:
        """A file that is there while the database is not."""
        return self.directory / "database-is-away"

    @property
    def hang(self) -> Path:
        """A file; the handler that removes it hangs."""
        return self.directory / "hang"

    def make(self) -> None:
        """Makes what is there from the beginning."""
        self.books.mkdir()
        self.connections.mkdir()

    def environment(self) -> dict[str, str]:
        """That of a process which is to find it by ``here``."""
        paths = os.pathsep.join([str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, _VARIABLE: str(self.directory), "PYTHONPATH": paths.rstrip(os.pathsep)}


def here() -> Place:
    """The one of this process."""
    return Place(Path(os.environ[_VARIABLE]))
