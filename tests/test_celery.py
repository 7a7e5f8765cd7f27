"""Celery over a bus: a worker of its own processes, results, and what becomes of a task whose process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus

celery = pytest.importorskip("celery", reason="celery is not installed: pip install 'eventbus[celery]'")

import kombu.pools  # noqa: E402
from celery.result import ResultSet  # noqa: E402

import eventbus.integrations.kombu  # noqa: E402
from eventbus.integrations import celery_logs as logs  # noqa: E402

SECONDS = 60  # a deadline that fails
TASKS = """\
import os
import signal
from celery import Celery
import eventbus.integrations.kombu

app = Celery("tasks", broker=f"eventbus://{os.environ['BUS']}", backend=f"eventbus://{os.environ['BUS']}")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)

@app.task
def add(a, b):
    return a + b

@app.task(bind=True)
def third(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.01)
    return self.request.retries

@app.task(bind=True)
def fatal(self, parent):
    if not self.request.delivery_info.get("redelivered"):
        os.kill(os.getppid() if parent else os.getpid(), signal.SIGKILL)
        signal.pause()
    return "done"

@app.task
def total(numbers):
    return sum(numbers)

@app.task
def flat(numbers):
    return numbers
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-l", "WARNING"]
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def end(worker: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The tasks, in this process; the worker's module is in the working directory."""
    name = f"celery-{os.getpid()}"
    monkeypatch.setenv("BUS", name)
    (tmp_path / "tasks.py").write_text(TASKS)
    names: dict[str, Any] = {"__name__": "tasks"}
    exec(TASKS, names)
    yield names
    kombu.pools.reset()  # they are the process's, not the app's
    names["app"].pool.force_close_all()
    names["app"].backend.bus().close()
    names["app"].close()
    for one in (name, f"{name}.replies"):
        with contextlib.suppress(FileNotFoundError):
            eventbus.unlink(one)


def test_a_worker(app: Any, tmp_path: Path) -> None:
    """Tasks sent before the worker is there, retries, groups, chords, control, and the death of a pool's process."""
    early = app["add"].delay(1, 2)
    worker = start(tmp_path)
    try:
        assert early.get(timeout=SECONDS) == 3
        assert app["add"].apply_async((2, 2), countdown=0.1).get(timeout=SECONDS) == 4
        assert app["third"].delay().get(timeout=SECONDS) == 2
        many = celery.group(app["add"].s(number, 1) for number in range(20))()
        assert many.get(timeout=SECONDS) == [*range(1, 21)]
        read_for_another(app)
        joined = celery.chord((app["add"].s(number, 0) for number in range(10)), app["total"].s())()
        assert joined.get(timeout=SECONDS) == 45
        inner = celery.chain(app["add"].si(0, 2), celery.group(app["add"].si(0, 3), app["add"].si(0, 4)))
        nested = celery.chord([app["add"].si(0, 1), inner], app["flat"].s())()
        assert nested.get(timeout=SECONDS) == [1, [3, 4]]
        failed = celery.chord([app["add"].si(0, 1), app["add"].si(0, None)], app["total"].s())()
        assert "TypeError" in str(failed.get(timeout=SECONDS, propagate=False))
        assert len(app["app"].control.ping(timeout=SECONDS, limit=1)) == 1
        assert app["fatal"].delay(False).get(timeout=SECONDS) == "done"
    finally:
        end(worker)


def read_for_another(app: Any) -> None:
    """What was read when somebody asked for another result, or before anybody waited, reaches who waits for it."""
    one, heard = app["add"].delay(1, 0), list[Any]()
    one.then(heard.append)
    while app["app"].AsyncResult(one.id).state != "SUCCESS":
        time.sleep(0.001)
    app["app"].backend.result_consumer.drain_events(timeout=SECONDS)
    assert heard == [one]
    other = app["add"].delay(2, 0)
    assert other.get(timeout=SECONDS) == 2
    late = ResultSet([app["app"].AsyncResult(result.id) for result in (one, other)])
    assert late.get(timeout=SECONDS) == [1, 2]


def test_who_ends_a_chord() -> None:
    """The last of as many as there are; one that ran twice counts once, and none does before their number is told."""
    chord = logs.Chord()
    for task, index in ("b", 1), ("a", 0), ("b", 1), ("c", None):
        chord.take(logs.ENDED, logs.ended(task, index, f"of {task}"))
        assert not chord.is_over_with(task)
    chord.take(logs.SIZE, 2)
    chord.take(logs.MORE, 1)
    assert [chord.is_over_with(task) for task in "abc"] == [False, False, True]
    assert chord.values() == [("a", b"of a"), ("b", b"of b"), ("c", b"of c")]


def test_chords_that_do_not_end(name: str) -> None:
    """The oldest ones are forgotten before they take more than the ring does; what is over is gone."""
    value = "x" * 10_000
    with eventbus.open(name, capacity=65536) as bus:
        chords = logs.Chords(bus)
        for number in range(10):
            bus.send(logs.CHORDS, logs.ENDED, f"/{number}", logs.ended("a", 0, value))
            chords.read()
        assert 1 < len(chords.values) < 7
        assert "/9" in chords.values
        bus.send(logs.CHORDS, logs.OVER, "/9", None)
        chords.read()
        assert "/9" not in chords.values
        chords.close()


def test_a_worker_is_killed(app: Any, tmp_path: Path) -> None:
    """The task that it had in hand is done by the next one."""
    result = app["fatal"].delay(True)
    first = start(tmp_path)
    first.wait(timeout=SECONDS)
    end(first)
    second = start(tmp_path)
    try:
        assert result.get(timeout=SECONDS) == "done"
    finally:
        end(second)
