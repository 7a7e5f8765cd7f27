"""The job in RQ: tried once more if the process that runs it dies, no result kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from redis import Redis
from rq import Queue, Retry
from rq import SimpleWorker as SimpleWorker  # the command names both of them by this module
from rq import Worker as Worker

from benchmarks.frameworks import place

run = place.job()


def job(number: int, held: bool) -> None:
    run(number, held)


def sender() -> Callable[[int, bool], object]:
    """Return what sends a job."""
    queue = Queue(connection=Redis(unix_socket_path=place.redis()))
    return partial(queue.enqueue, job, result_ttl=0, retry=Retry(max=1))
