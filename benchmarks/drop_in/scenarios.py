"""The benchmarks of drop-ins by name; each module of this package that is listed here measures one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from benchmarks.drop_in import broadcast, celery, channels, queue
from benchmarks.peer import Peer
from benchmarks.report import Report
from benchmarks.session import Session


class DropIn(Protocol):
    """What a module of this package has: a benchmark is told of by the first line of its docstring."""

    SCENARIOS: dict[str, Callable[[Session], Report]]

    def entrants(self) -> list[Peer]:
        """Return everybody whom the module's benchmarks measure, the absent ones with the reason."""


_MODULES: tuple[DropIn, ...] = (broadcast, celery, channels, queue)

DROP_INS = {name: scenario for module in _MODULES for name, scenario in module.SCENARIOS.items()}


def entrants(name: str) -> list[Peer]:
    """Return everybody whom the benchmark of this name measures, the absent ones with the reason."""
    return next(module.entrants() for module in _MODULES if name in module.SCENARIOS)
