"""The benchmark of frameworks: what ran is counted, no process and no CPU of theirs is overlooked, and each works."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed with the library

from benchmarks.crew import CrewError  # noqa: E402  after the path is in place
from benchmarks.frameworks import measure  # noqa: E402
from benchmarks.frameworks.ledger import Ledger  # noqa: E402
from benchmarks.frameworks.pool import Pool  # noqa: E402
from benchmarks.frameworks.registry import SETTINGS, Setting, frameworks  # noqa: E402
from benchmarks.goals import GOALS, Goal, judge  # noqa: E402
from benchmarks.load import OrderError  # noqa: E402
from benchmarks.peer import Peer  # noqa: E402
from benchmarks.report import Figure, Report, Row  # noqa: E402
from benchmarks.scenarios import FRAMEWORKS, SCENARIOS  # noqa: E402
from benchmarks.session import Session, Settings  # noqa: E402

OVER_REDIS = ("celery", "rq", "dramatiq", "huey")
BURNT_SECONDS = 0.2
TWO_TICKS = 2 / os.sysconf("SC_CLK_TCK")
FAMILY = f"""
import os, signal, sys, time
if os.fork() == 0:
    while time.process_time() < {BURNT_SECONDS}:
        pass
    os._exit(0)
os.wait()
if os.fork() == 0:
    os.setpgrp()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("child", os.getpid(), flush=True)
signal.pause()
"""
"""A program with a child that burns CPU and ends, and one in a process group of its own that bears SIGTERM."""


@pytest.fixture(scope="module")
def eventbus() -> Peer:
    return next(peer for peer in frameworks() if peer.name == "eventbus")


# --- what ran ---


def test_the_ledger_tells_what_is_missing_and_what_ran_twice(tmp_path: Path) -> None:
    """What one process notes another one reads: which jobs have not run, how often others did, when the last."""
    ours, run = Ledger(tmp_path), Ledger(tmp_path).job()
    for number in (0, 1, 3, 3):
        run(number, False)
    assert ours.missing(range(5)) == range(2, 5)
    run(2, False)
    assert not ours.missing(range(4))
    assert [ours.runs(range(number, number + 1)) for number in range(5)] == [1, 1, 1, 2, 0]
    assert ours.runs(range(5)) == 5
    assert ours.last(range(4)) == ours.moment(2) > ours.moment(3) > ours.moment(0) > 0


def test_a_held_job_waits_the_first_time_only(tmp_path: Path) -> None:
    """A job that is held tells its process, waits for the release, and does not wait when it runs again."""
    ledger = Ledger(tmp_path)
    run = ledger.job()
    child = os.fork()
    if child == 0:
        run(0, True)
        os._exit(3)
    while ledger.missing(range(1)):
        time.sleep(0.001)
    assert ledger.pid(0) == child
    run(0, True)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    ledger.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


@pytest.mark.release
def test_a_job_that_ran_twice_ends_the_run(eventbus: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repetition without a death is an error, never a better rate."""
    runs = Ledger.runs
    monkeypatch.setattr(Ledger, "runs", lambda ledger, numbers: runs(ledger, numbers) + 1)
    with pytest.raises(OrderError, match="20 jobs ran 21 times"):
        measure.rate(eventbus, 20, 0)


# --- processes ---


def test_a_command_that_ends_is_an_error(tmp_path: Path) -> None:
    """Where the processes of a framework are gone, nobody waits for its jobs, and what they said is shown."""
    said = r"(?s)nothing_of_this_name ended with status 1:.*No module named"
    with (
        Pool(Setting("", "", "benchmarks.nothing_of_this_name"), tmp_path) as pool,
        pytest.raises(CrewError, match=said),
    ):
        _check_for_ever(pool)


def test_who_gives_up_is_started_again(tmp_path: Path) -> None:
    """Where a framework counts on a supervisor, it has one."""
    (tmp_path / "ends.py").write_text("print('started', flush=True)")
    with Pool(_program("ends", tmp_path), tmp_path) as pool:
        while pool.said().count("started") < 3:
            pool.supervise()
            time.sleep(0.001)


def _check_for_ever(pool: Pool) -> None:
    while True:
        pool.check()
        time.sleep(0.001)


def test_an_interrupt_amid_the_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the command is being started ends what was started."""
    made: list[int] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        made.append(os.pidfd_open(process.pid))
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    (tmp_path / "waits.py").write_text("import signal; signal.pause()")
    with pytest.raises(KeyboardInterrupt), Pool(_program("waits", tmp_path), tmp_path):
        pytest.fail("it went on")
    assert select.select(made, [], [], 10)[0] == made
    os.close(made[0])


def _program(name: str, directory: Path) -> Setting:
    return Setting("", "", name, variables={"PYTHONPATH": str(directory)})


def test_all_processes_are_counted_and_ended(tmp_path: Path) -> None:
    """The CPU of a child that has ended counts, and none survives, whatever it does with signals and groups."""
    (tmp_path / "family.py").write_text(FAMILY)
    with Pool(_program("family", tmp_path), tmp_path) as pool:
        while not pool.said().endswith("\n"):
            pool.check()
            time.sleep(0.001)
        spent = pool.cpu_seconds()
        watched = os.pidfd_open(int(pool.said().split()[1]))
    assert spent >= BURNT_SECONDS - TWO_TICKS
    assert select.select([watched], [], [], 10)[0] == [watched]
    os.close(watched)


# --- who takes part ---


def test_absent_frameworks_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra or without a redis-server every framework is still known, with the reason why it is absent."""
    monkeypatch.setitem(sys.modules, "benchmarks.peers.redis_server", None)
    for library in OVER_REDIS:
        monkeypatch.setitem(sys.modules, library, None)
    reasons = {peer.name: peer.missing for peer in frameworks()}
    assert list(reasons) == list(SETTINGS)
    assert [name for name, reason in reasons.items() if reason is None] == ["eventbus", "eventbus, prefetch 1"]
    assert reasons["Celery"] == "No module named 'celery'"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "benchmarks.peers.redis_server", None)
    assert all(peer.missing for peer in frameworks() if SETTINGS[peer.name].over_redis)


@pytest.mark.release
@pytest.mark.parametrize("framework", [peer for peer in frameworks() if not peer.missing], ids=lambda peer: peer.name)
def test_each_that_is_installed_works(framework: Peer) -> None:
    """A few jobs are handled once each, as they come and after all have been sent."""
    found = measure.rate(framework, 20, 0)
    assert found["jobs"] == 20
    assert all(figure > 0 for figure in found.values())


# --- figures ---


def test_a_job_that_does_not_come_again_has_no_figure(eventbus: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a killed job was waited for in vain, the row says for how long."""
    settings = Settings(repetitions=2, events=None, seconds=0, quick=True, spread=False)
    for longest, refused in ((7.0, None), (inf, "not again within 30 s")):
        found = {"again ms": 5.0, "longest ms": longest}
        monkeypatch.setattr(measure, "redeliveries", lambda *_, found=found: found)
        (row,) = SCENARIOS["jobs-killed"](Session([eventbus], settings, lambda *_: None)).rows
        assert row.refused == refused
        assert bool(row.figures) == (refused is None)


@pytest.mark.parametrize("goal", [goal for goal in GOALS if goal.report in FRAMEWORKS], ids=str)
def test_the_best_of_the_frameworks_is_what_counts(goal: Goal) -> None:
    """Each goal takes the best of those over redis, or of those that acknowledge late, and no other `Worker`."""
    good, bad = (1000.0, 1.0) if goal.more else (1.0, 1000.0)
    best = "Huey" if "Huey" in goal.against else "Dramatiq"

    def judged(reached: float) -> list[tuple[str | None, str]]:
        values = {"eventbus": reached, "eventbus, prefetch 1": good * good, "Celery": bad, "Dramatiq": bad, best: good}
        rows = [Row(goal.case, peer, {goal.figure: Figure((value,))}) for peer, value in values.items()]
        found = judge([Report(goal.report, "", rows)])
        return [(verdict.against, verdict.said) for verdict in found if verdict.goal == goal]

    assert judged(good * goal.bound) == [(best, "met")]
    assert judged(good * goal.bound * (0.9 if goal.more else 1.1)) == [(best, "missed")]
