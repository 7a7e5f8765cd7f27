"""The job in Dramatiq: acknowledged late, as always there, with the middleware that it brings."""

from __future__ import annotations

from collections.abc import Callable

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.frameworks import place

run = place.job()
dramatiq.set_broker(RedisBroker(unix_socket_path=place.redis()))


@dramatiq.actor
def job(number: int, held: bool) -> None:
    run(number, held)


def sender() -> Callable[[int, bool], object]:
    """Return what sends a job."""
    send: Callable[[int, bool], object] = job.send
    return send
