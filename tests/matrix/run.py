"""Plays cells of the matrix, several at a time, each in a process of its own."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Hashable, Iterable
from multiprocessing import connection
from typing import NamedTuple, TypeVar

from harness import DEADLINE, SHARED_MEMORY, Child, Line
from matrix.rows import ROWS
from matrix.scene import Role, Scene, Way

AnyCase = TypeVar("AnyCase", bound=Hashable)

AT_A_TIME = 16  # most of them wait most of the time


class Case(NamedTuple):
    """One way to die at one point in one role, in one of the scenarios that lead there."""

    point: str
    role: Role
    variant: int
    way: Way

    def __str__(self) -> str:
        return f"{self.point}-{self.role.value}-{self.variant}-{self.way.name.lower()}"


def all_cases() -> list[Case]:
    """Every case there is; those that wait longest come first."""
    cases = [
        Case(point, role, variant, way)
        for point, row in ROWS.items()
        for role, scenarios in row.cells.items()
        for variant in range(len(scenarios))
        for way in Way
    ]
    return sorted(cases, key=lambda case: not ROWS[case.point].patient)


def play(_: Line, case: Case) -> None:
    """One case from beginning to end, in this process: raises what is not as it should be."""
    os.setpgid(0, 0)
    scenario = ROWS[case.point].cells[case.role][case.variant]
    passes = 2 if case.way is Way.STOP and scenario.again else 1
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    scene = Scene(name, case.point, case.role, case.way, passes)
    try:
        scenario(scene)
        left = sorted(path.name for path in SHARED_MEMORY.glob(f"eventbus.{name}.*"))
        assert not left, f"segments are left: {left}"
    finally:
        scene.release()
        _remove(name)


def _remove(name: str) -> None:
    for path in SHARED_MEMORY.glob(f"eventbus.{name}.*"):
        path.unlink(missing_ok=True)


def run(cases: Iterable[Case]) -> dict[Case, str]:
    """What came of each: nothing, or why it failed."""
    return play_all(cases, play, AT_A_TIME)


def play_all(cases: Iterable[AnyCase], play: Callable[[Line, AnyCase], None], at_a_time: int) -> dict[AnyCase, str]:
    """What came of each, of which so many are played at a time."""
    waiting, running, outcomes = list(cases), dict[Child, tuple[AnyCase, float]](), dict[AnyCase, str]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            case = waiting.pop(0)
            running[Child(play, case)] = case, time.monotonic() + 3 * DEADLINE
        connection.wait([child.fileno() for child in running], 1.0)
        for child, (case, deadline) in list(running.items()):
            late = time.monotonic() > deadline
            if late:
                where = child.where()
                os.killpg(child.pid, signal.SIGKILL)
                _remove(f"test-{child.pid}-*")
            if late or (how := child.last_word()) is not None:
                outcomes[case] = f"it hangs:\n{where}" if late else how or ""
                child.release()
                del running[child]
    return outcomes
