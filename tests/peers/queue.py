"""CPython's own tests of `multiprocessing.Queue` and `JoinableQueue`, over ours."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from peers.suites import Suite

# As each of CPython's own files does that runs these tests with one way to start a process.
_TESTS = """\
from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), {method!r})
"""


def _arrange(method: str, source: Path) -> Mapping[str, str]:
    (source / f"test_{method}.py").write_text(_TESTS.format(method=method))
    return {}


def _suite(method: str) -> Suite:
    return Suite(
        name=f"queues, {method}",
        distribution="",
        version=platform.python_version(),
        select=(f"test_{method}.py::WithProcessesTestQueue",),
        plugin="queue",
        arrange=partial(_arrange, method),
        reasons={
            "*::test_queue_feeder_*": (
                "It asserts a feeder thread: `put` pickles by itself, and what cannot be pickled raises there."
            ),
        },
    )


SUITES = tuple(map(_suite, ("fork", "spawn", "forkserver")))
