"""Makes ``eventbus://`` known to Celery, as broker and as result backend. Here is one worker: whoever asks all of them,
as after each test whether they are idle, has every answer with the first, and need not wait for a second."""

from __future__ import annotations

import contextlib
import os

from celery.app.backends import BACKEND_ALIASES
from celery.app.control import Inspect

import eventbus
import eventbus.integrations.kombu

BACKEND_ALIASES["eventbus"] = "eventbus.integrations.celery:Backend"

_made = Inspect.__init__


def _asks_one(self: Inspect, *arguments: object, **options: object) -> None:
    _made(self, *arguments, **options)
    self.limit = self.limit or 1


Inspect.__init__ = _asks_one


def pytest_unconfigure() -> None:
    """The buses stay when all processes end."""
    name = os.environ["TEST_BROKER"].partition("://")[2]
    for one in (name, f"{name}.replies"):
        with contextlib.suppress(FileNotFoundError):
            eventbus.unlink(one)
