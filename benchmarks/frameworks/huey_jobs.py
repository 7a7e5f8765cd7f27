"""The job in Huey: taken off the queue before it runs, which is its only way; no result kept."""

from __future__ import annotations

from collections.abc import Callable

from huey import RedisHuey

from benchmarks.frameworks import place

run = place.job()
huey = RedisHuey("jobs", results=False, url=f"unix://{place.redis()}")


@huey.task()
def job(number: int, held: bool) -> None:
    run(number, held)


def sender() -> Callable[[int, bool], object]:
    """Return what sends a job."""
    send: Callable[[int, bool], object] = job
    return send
