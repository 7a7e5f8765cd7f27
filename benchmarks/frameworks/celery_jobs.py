"""The job in Celery: acknowledged late, given back when its process is killed, no result kept."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from benchmarks.frameworks import place

run = place.job()
app = Celery("jobs", broker=f"redis+socket://{place.redis()}")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=True)


@app.task
def job(number: int, held: bool) -> None:
    run(number, held)


def sender() -> Callable[[int, bool], object]:
    """Return what sends a job."""
    send: Callable[[int, bool], object] = job.delay
    return send
