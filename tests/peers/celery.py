"""Celery's own integration tests, over our broker and our result backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from peers.suites import Suite

_OTHERS = ("test_backend.py", "test_cache_backend.py", "test_database_backend.py", "test_redis_backend.py")
"""Files about backends of other kinds, Azure, memcached, SQL and redis, that never ask ours."""

_SELECT = ("-p", "celery.contrib.pytest", "t/integration", *(f"--ignore=t/integration/{file}" for file in _OTHERS))


def _arrange(_source: Path) -> Mapping[str, str]:
    url = f"eventbus://peers-celery-{os.getpid()}"
    return {"TEST_BROKER": url, "TEST_BACKEND": url}


SUITES = (
    Suite(
        name="integration",
        distribution="celery",
        version="5.7.0",
        select=_SELECT,
        requires=("cryptography", "django", "pydantic", "redis"),
        plugin="celery",
        arrange=_arrange,
        seconds=60,
    ),
)
