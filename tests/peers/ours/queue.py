"""CPython's tests of queues, with the queues of `eventbus.integrations` in the place of multiprocessing's."""

from __future__ import annotations

import importlib.util
import multiprocessing
import multiprocessing.context
import multiprocessing.queues

import pytest

from eventbus.integrations import queue

if importlib.util.find_spec("test._test_multiprocessing") is None:
    raise pytest.UsageError("this Python came without its own tests: install Debian's package libpython3-testsuite")


class Queue(queue.Queue[object]):
    """Made as multiprocessing's own classes are, with the context that starts processes."""

    def __init__(self, maxsize: int = 0, *, ctx: object = None) -> None:
        super().__init__(maxsize)


class JoinableQueue(queue.JoinableQueue[object]):
    """Likewise."""

    def __init__(self, maxsize: int = 0, *, ctx: object = None) -> None:
        super().__init__(maxsize)


for module in (multiprocessing, multiprocessing.queues):
    for ours in (Queue, JoinableQueue):
        setattr(module, ours.__name__, ours)
