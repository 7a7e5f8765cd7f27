"""Celery over a bus: a worker of its own processes, results, and what becomes of a task whose process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventbus

celery = pytest.importorskip("celery", reason="celery is not installed: pip install 'eventbus[celery]'")

import kombu.pools  # noqa: E402

import eventbus.integrations.kombu  # noqa: E402

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
        joined = celery.chord((app["add"].s(number, 0) for number in range(10)), app["total"].s())()
        assert joined.get(timeout=SECONDS) == 45
        assert len(app["app"].control.ping(timeout=SECONDS, limit=1)) == 1
        assert app["fatal"].delay(False).get(timeout=SECONDS) == "done"
    finally:
        end(worker)


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
