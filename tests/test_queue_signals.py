"""Queues amid signals whose handlers raise: no item is lost, nor done twice."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from eventbus import Event
from eventbus.integrations.queue import JoinableQueue, Queue

WAIT = 60.0


class _Interrupting:
    times = 0

    def __setstate__(self, _: object) -> None:
        if _Interrupting.times:
            _Interrupting.times -= 1
            raise KeyboardInterrupt

    def __getstate__(self) -> dict[str, int]:
        return {"any": 1}


def test_a_signal_amid_reading_loses_nothing(name: str) -> None:
    """What a handler raises while an item is unpickled reaches the caller, and the item comes again."""
    with closing(Queue[Any](name=name)) as items:
        items.put_many([_Interrupting(), 2])
        _Interrupting.times = 1
        with pytest.raises(KeyboardInterrupt):
            items.get()
        assert isinstance(items.get(timeout=WAIT), _Interrupting)
        assert items.get(timeout=WAIT) == 2


@contextmanager
def _interrupted_after(patch: pytest.MonkeyPatch, items: JoinableQueue[Any], what: str) -> Iterator[None]:
    """As if a signal came whenever the member had done this, and its caller nothing more: its handler raises."""
    member = items._ends().member
    done = getattr(member, what)

    def interrupted(event: Event) -> None:
        done(event)
        raise KeyboardInterrupt

    with patch.context() as patched:
        patched.setattr(member, what, interrupted)
        yield


def test_a_signal_after_an_item_was_done(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was interrupted calls it again, and it is done once."""
    with closing(JoinableQueue[int](name=name)) as items:
        items.put_many([1, 2])
        assert items.get_many(2) == [1, 2]
        with _interrupted_after(monkeypatch, items, "ack"), pytest.raises(KeyboardInterrupt):
            items.task_done()
        items.task_done()
        items.task_done()
        items.join()
        with pytest.raises(ValueError, match="too many times"):
            items.task_done()


def test_a_signal_after_an_item_was_given_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one who gets has it."""
    with closing(JoinableQueue[Any](name=name)) as items:
        items.put(_Interrupting())
        _Interrupting.times = 1
        with pytest.raises(KeyboardInterrupt):
            items.get()
        with _interrupted_after(monkeypatch, items, "reject"), pytest.raises(KeyboardInterrupt):
            items.get()
        assert isinstance(items.get(timeout=WAIT), _Interrupting)
        items.task_done()
        items.join()


class _Storm(Exception):
    """Raised by the handler of a signal."""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="until 3.11 a handler may raise as a function returns")
@pytest.mark.parametrize("maxsize", [0, 4000])
@pytest.mark.parametrize(("kind", "count"), [(Queue, 4000), (JoinableQueue, 250)])
def test_a_storm_of_signals_loses_nothing(name: str, kind: type[Queue[Any]], count: int, maxsize: int) -> None:
    """A handler that raises wherever Python lets it: each item is got once, in order."""
    got, interrupted = [0] * 0, 0
    with closing(kind(maxsize, name=name)) as items, _at_alarm(_storm):
        items.put_many(range(count))
        assert items.qsize() == count  # from now on this process has its end of it
        while len(got) < count:
            try:
                signal.setitimer(signal.ITIMER_REAL, 20e-6 * (1 + interrupted % 100))
                while len(got) < count:
                    item = items.get()
                    got += [item]  # no call, in which a signal could be seen
                signal.setitimer(signal.ITIMER_REAL, 0)
            except _Storm:
                interrupted += 1
        assert sorted(got) == list(range(count))
        assert interrupted > 0
        assert items.empty()


@contextmanager
def _at_alarm(handler: Callable[..., None]) -> Iterator[None]:
    before, hook = signal.signal(signal.SIGALRM, handler), sys.unraisablehook

    def in_a_destructor(unraisable: Any) -> None:
        """What the handler raises as a generator or a collected object ends goes nowhere; all else is told as ever."""
        if not isinstance(unraisable.exc_value, _Storm):
            hook(unraisable)

    sys.unraisablehook = in_a_destructor
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # what else was raised ends with it armed
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = hook


def _storm(*_: object) -> None:
    raise _Storm
