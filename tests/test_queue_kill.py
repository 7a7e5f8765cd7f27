"""Queues whose putters are killed in the middle of ``put_many``, and what is left of one when its users have gone."""

from __future__ import annotations

import random
import signal
from contextlib import closing
from typing import Any

import pytest

from eventbus.cli import app as cli
from eventbus.integrations.queue import JoinableQueue, Queue
from harness import DEADLINE, SHARED_MEMORY, Child, Fork, Line, arm

SIZE = 20  # items that are put at once
KINDS = pytest.mark.parametrize("kind", [Queue, JoinableQueue])
BOUNDS = pytest.mark.parametrize("maxsize", [0, 1000])


def files(name: str) -> list[str]:
    """What there is of a queue."""
    return [path.name for path in SHARED_MEMORY.iterdir() if name in path.name]


def rest(items: Queue[Any], last: Any) -> list[Any]:
    """All up to the last one."""
    return list(iter(lambda: items.get(timeout=DEADLINE), last))


def die_amid(_: Line, items: Queue[Any], point: str, passes: int) -> None:
    """Puts something, and dies at the point while it puts three more."""
    items.put_many(["before", "before"])
    arm(point, passes=passes)
    items.put_many([1, 2, 3])


@BOUNDS
@KINDS
@pytest.mark.parametrize(
    ("point", "passes", "whole"),
    [
        ("publish_claimed", 1, False),
        ("publish_header", 1, False),
        ("publish_header", 3, False),
        ("publish_copied", 1, False),
        ("publish_committed", 1, True),
        ("publish_unlocked", 1, True),
    ],
)
def test_killed_amid_put_many(
    name: str, fork: Fork, kind: type[Queue[Any]], maxsize: int, point: str, passes: int, whole: bool
) -> None:
    """All of the items are there or none, behind those before them and before those after, each once; the queue goes
    on for those who have it, and is gone with them."""
    with closing(kind(maxsize, name=name, capacity=1 << 18)) as items:
        fork(die_amid, items, point, passes).killed()
        items.put_many(["after", None])
        assert rest(items, None) == ["before", "before", *([1, 2, 3] if whole else []), "after"]
        assert items.empty()
        put = fork(put_some, items)
        put.result()
        assert rest(items, None) == [7, 8]
    assert files(name) == []


def put_some(_: Line, items: Queue[Any]) -> None:
    """Another putter, after the dead one."""
    items.put_many([7, 8, None])


def put_on(line: Line, items: Queue[Any]) -> None:
    """Puts batch after batch, and tells of each that was accepted."""
    batch = 0
    while True:
        items.put_many([(batch, number) for number in range(SIZE)])
        line.say(batch)
        batch += 1


@BOUNDS
def test_killed_at_any_moment(name: str, fork: Fork, maxsize: int) -> None:
    """What was accepted is there, whole, in its order, and nothing twice; at most one batch more, of which the putter
    had not told; and whoever gets meanwhile gets on."""
    generator = random.Random(16)
    with closing(Queue[Any](maxsize, name=name, capacity=1 << 18)) as items:
        for _ in range(8):
            putter = fork(put_on, items)
            got = [items.get(timeout=DEADLINE) for _ in range(generator.randrange(1, 10 * SIZE))]
            putter.kill()
            accepted = putter.said()
            items.put(None)
            got += rest(items, None)
            batches = len(got) // SIZE
            assert got == [(batch, number) for batch in range(batches) for number in range(SIZE)]
            assert accepted == list(range(len(accepted)))
            assert len(accepted) <= batches <= len(accepted) + 1
    assert files(name) == []


# --- what is left ---


def use(line: Line, name: str, kind: type[Queue[Any]]) -> None:
    """Puts, gets and has something in hand; then does as it is told."""
    items = kind(100, name=name, capacity=1 << 18)
    items.put_many(["a", "b", "c"])
    items.get(timeout=DEADLINE)
    line.say()
    if line.hear() == "close":
        items.close()


@pytest.fixture
def users(name: str, fork: Fork, request: pytest.FixtureRequest) -> list[Child]:
    """Three processes that use one queue."""
    started = [fork(use, name, request.param) for _ in range(3)]
    for one in started:
        one.hear()
    return started


@pytest.mark.parametrize("users", [Queue, JoinableQueue], indirect=True)
@pytest.mark.parametrize("how", ["close", "end", "kill one"])
def test_nothing_is_left(name: str, users: list[Child], how: str) -> None:
    """Whether they close it or just end, the last one takes it along, also when one of them was killed."""
    assert files(name)
    if how == "kill one":
        users.pop(0).kill()
    for one in users:
        one.say(how)
        one.result()
    assert files(name) == []


@pytest.mark.parametrize("users", [Queue, JoinableQueue], indirect=True)
def test_nothing_is_left_that_gc_does_not_remove(name: str, users: list[Child]) -> None:
    """When all were killed the queue lies about until somebody opens it anew, or tidies up."""
    for one in users:
        one.kill(signal.SIGKILL)
    assert files(name)
    assert cli.run(["gc", name]) == 0
    assert files(name) == []
    with closing(Queue[Any](name=name, capacity=1 << 18)) as items:
        assert items.empty()
    assert files(name) == []
