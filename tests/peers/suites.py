"""What a library's suite is: where it comes from, how ours gets into it, and what need not pass, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    "celery",
    "channels_redis",
    "kombu",
    "queue",
    "socketio",
)
"""The modules of this package that have ``SUITES``."""


def nothing_else(_source: Path) -> Mapping[str, str]:
    """For a suite that needs nothing but its plugin."""
    return {}


@dataclass(frozen=True)
class Suite:
    """Some tests of a library, as pytest runs them over ours.

    Attributes:
        name: what it tests, as the page has it; ours in a few words is part of it.
        distribution: whose source distribution holds the tests; ``""`` if they come with Python.
        version: which one; of Python's own, that of the interpreter.
        select: pytest's arguments: files relative to the source, ``-k``, ``-m``, ``--deselect`` ...
        requires: what pip installs beside the library, pytest and what eventbus needs.
        plugin: the module of `peers.ours` that puts ours in the place of theirs, loaded by pytest before their tests.
        arrange: given the directory of the unpacked source, in which pytest runs, before each run: writes files that
            the suite needs, and returns environment variables for it.
        reasons: why tests do not pass: a sentence by test id, in which ``*`` stands for anything. A test that is
            skipped does not pass either; ``says `` and more in place of an id is for all that say so as they are.
        seconds: how long one test may take.
    """

    name: str
    distribution: str
    version: str
    select: tuple[str, ...]
    requires: tuple[str, ...] = ()
    plugin: str = ""
    arrange: Callable[[Path], Mapping[str, str]] = nothing_else
    reasons: Mapping[str, str] = field(default_factory=dict)
    seconds: int = 60

    @property
    def library(self) -> str:
        """Whose tests they are, as the page has it."""
        return self.distribution or "CPython"


@dataclass(frozen=True)
class Outcome:
    """What became of one test: ``passed``, ``failed``, ``skipped`` or ``unfinished``, and what it said."""

    test: str
    became: str
    said: str = ""


@dataclass(frozen=True)
class Verdict:
    """A suite's outcomes, held against its reasons."""

    suite: Suite
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(outcome.became == "passed" for outcome in self.outcomes)

    @property
    def amiss(self) -> list[Outcome]:
        """Those that did not pass."""
        return [outcome for outcome in self.outcomes if outcome.became != "passed"]

    @property
    def unexplained(self) -> list[Outcome]:
        """Those that did not pass and have no reason."""
        return [outcome for outcome in self.amiss if not any(_fits(of, outcome) for of in self.suite.reasons)]

    def explained(self, test: str) -> list[Outcome]:
        """Those that did not pass for the reason of ``test``; the first reason that fits is the one."""
        first = {outcome: next((of for of in self.suite.reasons if _fits(of, outcome)), None) for outcome in self.amiss}
        return [outcome for outcome, reason in first.items() if reason == test]

    @property
    def idle(self) -> list[str]:
        """Reasons of which no test is left that did not pass."""
        return [test for test in self.suite.reasons if not self.explained(test)]


def _fits(pattern: str, outcome: Outcome) -> bool:
    text = f"says {outcome.said}" if pattern.startswith("says ") and outcome.became == "skipped" else outcome.test
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def suites_of(library: str) -> tuple[Suite, ...]:
    """Return the suites of a module of this package."""
    found: tuple[Suite, ...] = import_module(f"peers.{library}").SUITES
    return found
