"""Celery's own integration tests, over our broker and our result backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from peers.suites import Suite

_OTHERS = tuple(f"test_{of}_backend.py" for of in ("cache", "database", "redis")) + ("test_backend.py",)
"""Files about backends of other kinds, memcached, SQL, redis and Azure, that never ask ours."""


def _arrange(_source: Path) -> Mapping[str, str]:
    url = f"eventbus://peers-celery-{os.getpid()}"
    return {"TEST_BROKER": url, "TEST_BACKEND": url}


SUITES = (
    Suite(
        name="integration",
        distribution="celery",
        version="5.7.0",
        select=("-p", "celery.contrib.pytest", "t/integration", *(f"--ignore=t/integration/{file}" for file in _OTHERS)),
        requires=("cryptography", "django", "pydantic", "pytest-rerunfailures", "redis"),
        plugin="celery",
        arrange=_arrange,
        seconds=60,
    ),
)
