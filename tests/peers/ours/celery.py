"""Makes ``eventbus://`` known to Celery, as broker and as result backend. Here is one worker: whoever asks all of them,
as after each test whether they are idle, has every answer with the first, and need not wait for a second."""

from __future__ import annotations

from celery.app.backends import BACKEND_ALIASES
from celery.app.control import Inspect

import eventbus.integrations.kombu  # noqa: F401

BACKEND_ALIASES["eventbus"] = "eventbus.integrations.celery:Backend"

_made = Inspect.__init__


def _asks_one(self: Inspect, *arguments: object, **options: object) -> None:
    _made(self, *arguments, **options)
    self.limit = self.limit or 1


Inspect.__init__ = _asks_one
