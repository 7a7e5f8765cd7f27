"""Makes ``eventbus://`` known to Celery, as broker and as result backend."""

from __future__ import annotations

import contextlib
import os

from celery.app.backends import BACKEND_ALIASES

import eventbus
import eventbus.integrations.kombu

BACKEND_ALIASES["eventbus"] = "eventbus.integrations.celery:Backend"


def pytest_unconfigure() -> None:
    """The buses stay when all processes end."""
    name = os.environ["TEST_BROKER"].partition("://")[2]
    for one in (name, f"{name}.replies"):
        with contextlib.suppress(FileNotFoundError):
            eventbus.unlink(one)
