"""Plays cases, several at a time, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable

from bridged.cases import Case, play
from matrix.run import play_all

AT_A_TIME = 4  # each is a server and two bridges, which wait half of the time


def run(cases: Iterable[Case]) -> dict[Case, str]:
    """What came of each: nothing, or why it failed."""
    return play_all(cases, play, AT_A_TIME)
