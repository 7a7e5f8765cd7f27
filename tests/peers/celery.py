"""Celery's own integration tests, over our broker and our result backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from peers.suites import Suite

_PLUGIN = ("-p", "celery.contrib.pytest")
_OWN_PROCESS = "test_worker.py"
_OTHERS = (
    *("test_backend.py", "test_cache_backend.py", "test_database_backend.py", "test_redis_backend.py"),
    *("test_events_state_memory_leak.py", "test_mem_leak_in_exception_handling.py"),
    *("test_loader.py", "test_logfile_format.py", "test_upgrade.py"),
)
"""Files that ask neither our broker nor our backend: about other backends, memory without a broker, settings."""

_SELECT = (*_PLUGIN, "t/integration", *(f"--ignore=t/integration/{file}" for file in (*_OTHERS, _OWN_PROCESS)))

_SIDE = "It asks for a redis, to which its tasks tell what they did."
_ONLY = "It runs only where the result backend is redis, to which most of these tell what their tasks did."
_TOO = "Over redis it fails, too:"


def _arrange(_source: Path) -> Mapping[str, str]:
    url = f"eventbus://peers-celery-{os.getpid()}"
    return {"TEST_BROKER": url, "TEST_BACKEND": url}


def _suite(name: str, select: tuple[str, ...], reasons: Mapping[str, str]) -> Suite:
    return Suite(
        name=name,
        distribution="celery",
        version="5.7.0",
        select=select,
        requires=("cryptography", "django", "pydantic", "redis"),
        plugin="celery",
        arrange=_arrange,
        reasons=reasons,
        seconds=60,
    )


SUITES = (
    _suite(
        "integration",
        _SELECT,
        {
            "says *equires redis *": _ONLY,
            "says *equires Redis *": _ONLY,
            "*test_chord_header_id_duplicated_on_rabbitmq_msg_duplication*": _SIDE,
            "says *needs a plaintext TCP redis broker*": "It is about the sockets of redis.",
            "says *Broken test*": "Celery skips it for everybody.",
            "says *Randomly fails*": "Celery skips it for everybody.",
            "*test_security_task_done": "Celery expects it to fail for everybody.",
            "*test_error_propagates_from_chord": (
                "Over redis Celery expects it to fail (its issue 6437): nobody is told that the group will never begin."
            ),
            "*test_revoked_by_headers_complex_canvas": f"{_TOO} it sleeps for longer than it may take.",
            "*test_trace_log_arguments::*": f"{_TOO} it looks 10 ms after the result for lines of the log.",
            "*test_replaced_task_nesting_level_0": f"{_TOO} it clears what a handler notes once the task is sent.",
        },
    ),
    _suite(
        "integration, workers",
        (*_PLUGIN, f"t/integration/{_OWN_PROCESS}"),
        {
            "*test_concurrency_auto_sizes_prefork_pool": (
                "It starts a worker by a command line, in which nobody imports `eventbus.integrations.kombu`."
            )
        },
    ),
)
