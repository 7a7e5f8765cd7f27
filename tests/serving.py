"""Whoever answers the requests of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventbus import Event, Request, Subscription
from harness import DEADLINE

Serve = Callable[[Request], object]


@contextmanager
def serving(sub: Subscription, serve: Serve) -> Iterator[list[Event]]:
    """Serves the requests of a subscription in a thread; what it heard, requests or not."""
    heard: list[Event] = []

    def work() -> None:
        for event in sub:
            heard.append(event)
            if isinstance(event, Request):
                serve(event)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield heard
    finally:
        sub.close()
        thread.join(DEADLINE)
    assert not thread.is_alive()
