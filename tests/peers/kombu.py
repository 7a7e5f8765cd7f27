"""kombu's own tests of transports, over ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peers.suites import Suite

# As each transport's own file in kombu takes over these tests; what is dead is a bus whose memory is damaged.
_TESTS = """\
import contextlib
import os
from pathlib import Path

import kombu
import pytest

import eventbus
import eventbus.integrations.kombu

from . import common

LIVE = f"peers-kombu-{os.getpid()}"
DEAD = f"{LIVE}-dead"


@pytest.fixture
def connection():
    yield kombu.Connection(f"eventbus://{LIVE}")
    for name in (LIVE, f"{LIVE}.replies"):
        with contextlib.suppress(FileNotFoundError):
            eventbus.unlink(name)


@pytest.fixture
def invalid_connection():
    files = [Path(f"/dev/shm/eventbus.{DEAD}.{part}") for part in ("ring", "roster")]
    for file in files:
        file.write_bytes(b"x" * 16384)
    yield kombu.Connection(f"eventbus://{DEAD}")
    for file in files:
        file.unlink()


@pytest.fixture
def failover_connection(connection, invalid_connection):
    return kombu.Connection([f"eventbus://{DEAD}", f"eventbus://{LIVE}"])


"""
_CLASSES = (
    "BasicFunctionality",
    "BaseExchangeTypes",
    "BaseTimeToLive",
    "BasePriority",
    "BaseFailover",
    "BaseMessage",
    "BaseEventLoop",
)


def _arrange(source: Path) -> Mapping[str, str]:
    classes = "\n\n".join(f"class test_{name}(common.{name}):\n    pass" for name in _CLASSES)
    (source / "t" / "integration" / "test_eventbus.py").write_text(f"{_TESTS}{classes}\n")
    return {}


SUITES = (
    Suite(
        name="transport",
        distribution="kombu",
        version="5.7.0",
        select=("t/integration/test_eventbus.py",),
        arrange=_arrange,
        reasons={
            "*test_failover_switches_to_alternate_url": "It tells the two brokers apart by their ports; a bus has none."
        },
    ),
)
