"""Python's own pools of processes, which start their workers themselves and bring every result back: rates only."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import orjson

from benchmarks.crew import DEADLINE_SECONDS
from benchmarks.load import KIND, PATH, SYSTEM, JsonLoad
from benchmarks.peer import Medium, Peer, Topology, encoder

Handle = Callable[[Iterable[bytes], int], Iterable[int]]
"""Hands bodies out to the workers in chunks of a size; yields the number that each worker found in each."""


@contextmanager
def _pool(workers: int) -> Iterator[Handle]:
    with multiprocessing.get_context("fork").Pool(workers, _begin) as pool:
        yield lambda bodies, chunk: pool.imap_unordered(_number, bodies, chunk)
        # Its threads have ended before the harness forks again.
        pool.close()
        pool.join()


@contextmanager
def _executor(workers: int) -> Iterator[Handle]:
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin) as executor:
        yield lambda bodies, chunk: executor.map(_number, bodies, timeout=DEADLINE_SECONDS, chunksize=chunk)


def _none(_topology: Topology) -> Medium:
    raise LookupError("a pool has no publisher and no subscriber: call pools.run")


_KINDS: dict[str, Callable[[int], AbstractContextManager[Handle]]] = {
    "Pool.imap_unordered": _pool,
    "ProcessPoolExecutor": _executor,
}
POOLS = [Peer(name, None, _none) for name in _KINDS]


def run(
    peer: Peer, load: JsonLoad, workers: int, chunk: int, warm_up: int, amount: Callable[[float], int]
) -> tuple[int, list[int], float]:
    """Run one repetition.

    Args:
        peer: one of POOLS.
        load: what each job is.
        workers: how many processes handle jobs.
        chunk: how many jobs are handed out at once.
        warm_up: jobs before the measured ones.
        amount: says how many jobs to measure, by the rate of the warm-up.

    Returns:
        How many jobs there were, the number in each that was handled, and the seconds from the first job to the last
        result.
    """
    with _KINDS[peer.name](workers) as handle:
        _, warming = _timed(handle, load, chunk, warm_up)
        jobs = amount(warm_up / warming)
        numbers, seconds = _timed(handle, load, chunk, jobs)
    return jobs, numbers, seconds


def _timed(handle: Handle, load: JsonLoad, chunk: int, jobs: int) -> tuple[list[int], float]:
    encode = encoder(raw=False)
    start = time.monotonic_ns()
    numbers = list(handle((encode((SYSTEM, KIND, PATH, data)) for data in load.events(0, range(jobs))), chunk))
    return numbers, (time.monotonic_ns() - start) / 1e9


def _begin() -> None:
    # As in a crew: the harness alone answers Ctrl-C, and what it has set for SIGTERM is not for its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _number(body: bytes) -> int:
    number: int = orjson.loads(body)[3]["number"]
    return number
