"""Queues in the place of multiprocessing's: whoever is killed, nobody freezes, and nothing is lost that nobody got."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus.integrations.queue import JoinableQueue, Queue

FORK = multiprocessing.get_context("fork")
WAIT = 60.0


@pytest.fixture
def items(name: str) -> Iterator[Queue[Any]]:
    """A queue of its own."""
    with closing(Queue[Any](name=name, capacity=256 * 1024)) as made:
        yield made


def _run(body: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=body, args=arguments)
    process.start()
    return process


# --- one after the other ---


def test_items_come_in_their_order(items: Queue[Any]) -> None:
    """Whatever pickles arrives as it was, first in, first out, one by one and several at once."""
    given = [1, "two", b"three", None, {"four": [5, 6]}, (7.0, True), ValueError]
    for item in given[:3]:
        items.put(item)
    items.put_many(given[3:])
    assert items.qsize() == len(given)
    assert not items.empty()
    assert [items.get() for _ in range(2)] == given[:2]
    assert items.get_many(100) == given[2:]
    assert items.empty()


def test_none_in_time(items: Queue[Any]) -> None:
    """An empty queue says so, at once or when the time is up."""
    for get in (
        items.get_nowait,
        lambda: items.get(timeout=0.01),
        lambda: items.get(False),
        lambda: items.get(True, -1),
    ):
        with pytest.raises(queue.Empty):
            get()
    with pytest.raises(queue.Empty):
        items.get_many(5, 0)


def test_no_more_than_maxsize(name: str) -> None:
    """A full queue takes nothing until something is taken from it, and says so in time."""
    with closing(Queue[int](2, name=name)) as items:
        assert items.maxsize == 2
        items.put(1)
        assert not items.full()
        items.put(2, timeout=1)
        assert items.full()
        for put in (
            items.put_nowait,
            lambda item: items.put(item, timeout=0.01),
            lambda item: items.put_many([item], False),
        ):
            with pytest.raises(queue.Full):
                put(3)
        with pytest.raises(queue.Full):
            items.put_many([1, 2, 3])
        later = threading.Thread(target=items.put, args=(3,))
        later.start()
        assert [items.get(timeout=WAIT) for _ in range(3)] == [1, 2, 3]
        later.join()


def test_no_more_than_there_is_room_for(items: Queue[Any]) -> None:
    """Without a maxsize the capacity is the bound; what could never fit names it."""
    put = partial(items.put, bytes(30_000), timeout=0)
    with pytest.raises(queue.Full):
        all(put() is None for _ in range(100))
    assert len(items.get_many(1)[0]) == 30_000
    with pytest.raises(ValueError, match=r"one item may take \d+ bytes, a quarter of its capacity.* capacity="):
        items.put(bytes(200_000))


def test_closed_here(items: Queue[Any]) -> None:
    """A closed queue refuses; its thread that never was is joined only then."""
    with pytest.raises(ValueError, match="is not closed"):
        items.join_thread()
    items.cancel_join_thread()
    items.close()
    items.close()
    items.join_thread()
    for call in (
        items.get,
        items.qsize,
        lambda: items.put(1),
        lambda: items.put_many([1]),
        lambda: pickle.dumps(items),
    ):
        with pytest.raises(ValueError, match="is closed"):
            call()


class _Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_what_cannot_be_unpickled_raises_once(items: Queue[Any]) -> None:
    """It raises what it raises for whoever gets it, is gone then, and takes no neighbour along."""
    items.put_many([1, _Unreadable(), 2])
    assert items.get_many(10) == [1]
    with pytest.raises(ValueError, match="invalid literal"):
        items.get_many(10)
    assert items.get_many(10) == [2]


def test_what_cannot_be_pickled_is_not_put(items: Queue[Any]) -> None:
    """The putter learns of it, and nothing is put, also of its neighbours."""
    with pytest.raises((AttributeError, pickle.PicklingError)):
        items.put(lambda: None)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        items.put_many([1, lambda: None])
    assert items.empty()


def test_threads_share_a_queue(items: Queue[Any]) -> None:
    """Each item goes to one of the threads that get."""
    got: list[int] = []

    def get() -> None:
        while (item := items.get(timeout=WAIT)) is not None:
            got.append(item)

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    items.put_many(range(200))
    items.put_many([None] * 4)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(200))


# --- other processes ---


MULTIPROCESSING = """
import multiprocessing, sys
from eventbus.integrations.queue import Queue

def double(source, to):
    while (item := source.get(timeout=60)) is not None:
        to.put(item * 2)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    back, there = Queue(name=f"{sys.argv[2]}-back"), Queue(name=sys.argv[2])
    process = context.Process(target=double, args=(there, back))
    process.start()
    there.put_many([1, 2, 3, None])
    there.close()
    print([back.get(timeout=60) for _ in range(3)])
    process.join()
    back.close()
    print(process.exitcode)
"""


@pytest.mark.release
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_goes_to_a_process(method: str, name: str, tmp_path: Path) -> None:
    """However processes are started, they have the queue; also when this one closes it before they have opened it."""
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    run = [sys.executable, str(program), method, name]
    done = subprocess.run(run, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.stdout, done.stderr) == ("[2, 4, 6]\n0\n", "")


def test_a_queue_that_is_gone(name: str) -> None:
    """A pickle of a queue that everybody has closed opens no other one."""
    gone = Queue[int](name=name)
    pickled = pickle.dumps(gone)
    gone.close()
    with pytest.raises(eventbus.ClosedError, match="is gone"):
        pickle.loads(pickled)


def _get_and_tell(items: Queue[int], told: Connection) -> None:
    while True:
        told.send(items.get())


def test_a_killed_getter_takes_only_what_it_had_got(items: Queue[Any]) -> None:
    """Killed at any moment, it freezes nobody; at most the one item is gone that it got and could not tell of."""
    number = 0
    for _ in range(12):
        ours, theirs = FORK.Pipe(False)
        getter = _run(_get_and_tell, items, theirs)
        theirs.close()
        items.put_many(range(number, number + 40))
        assert ours.poll(WAIT)
        os.kill(getter.pid or 0, signal.SIGKILL)
        getter.join()
        got = [*_told(ours), *_rest(items)]
        assert len(got) == len(set(got)) >= 39
        assert set(got) <= set(range(number, number + 40))
        number += 40


def _rest(items: Queue[int]) -> Iterator[int]:
    """All that is in the queue, and what a dead getter was being given, which comes on proof of its death."""
    with eventbus.open(items.name) as bus:
        while any(group.backlog + group.in_hand + group.returned for group in bus.stats().groups):
            yield items.get(timeout=WAIT)


def _told(line: Connection) -> list[int]:
    told = []
    with line:
        try:
            while True:
                told.append(line.recv())
        except EOFError:
            return told


def _put_and_tell(items: Queue[int], told: Connection) -> None:
    number = 0
    while True:
        items.put(number)
        told.send(number)
        number += 1


def test_a_killed_putter_leaves_whole_items(items: Queue[Any]) -> None:
    """Killed at any moment, it freezes nobody; what it had put is there, in its order, and at most one more."""
    for _ in range(12):
        ours, theirs = FORK.Pipe(False)
        putter = _run(_put_and_tell, items, theirs)
        theirs.close()
        assert items.get(timeout=WAIT) == 0
        os.kill(putter.pid or 0, signal.SIGKILL)
        putter.join()
        count = len(_told(ours))
        items.put(-1)
        got = list(iter(lambda: items.get(timeout=WAIT), -1))
        assert got == list(range(1, len(got) + 1))
        assert count <= len(got) + 1 <= count + 1


# --- what is done ---


@pytest.fixture
def jobs(name: str) -> Iterator[JoinableQueue[Any]]:
    """A queue whose items are done some time."""
    with closing(JoinableQueue[Any](name=name)) as made:
        yield made


def _get_and_wait(jobs: JoinableQueue[Any], told: Connection) -> None:
    told.send(jobs.get())
    signal.pause()


def test_join_waits_for_what_is_done(jobs: JoinableQueue[Any]) -> None:
    """It returns when each item is done, and one whose getter was killed is done by another."""
    ours, theirs = FORK.Pipe(False)
    getter = _run(_get_and_wait, jobs, theirs)
    theirs.close()
    jobs.put_many([1, 2])
    assert ours.recv() == 1
    joined = threading.Thread(target=jobs.join)
    joined.start()
    assert jobs.get(timeout=WAIT) == 2
    jobs.task_done()
    assert joined.is_alive()
    os.kill(getter.pid or 0, signal.SIGKILL)
    getter.join()
    ours.close()
    assert jobs.get(timeout=WAIT) == 1
    jobs.task_done()
    joined.join()
    with pytest.raises(ValueError, match="called too many times"):
        jobs.task_done()
