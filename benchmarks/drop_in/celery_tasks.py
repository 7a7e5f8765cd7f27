"""Tasks in Celery that only note in the ledger that they ran, over the broker that the harness tells of."""

from __future__ import annotations

import os

from celery import Celery

import eventbus.integrations.kombu  # noqa: F401
from benchmarks.frameworks import place

URL = "EVENTBUS_BENCHMARK_URL"

run = place.job()
app = Celery("tasks", broker=os.environ[URL], backend=os.environ[URL])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)


@app.task(ignore_result=True)
def note(number: int, held: bool = False) -> None:
    run(number, held)


@app.task
def answer(number: int) -> int:
    run(number, False)
    return number
