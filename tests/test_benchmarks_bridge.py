"""The benchmarks from bus to bus: who takes part, and what the delaying network in between does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed with the library

from benchmarks.bridge import measure  # noqa: E402  after the path is in place
from benchmarks.bridge.scenarios import CORE, RELAY, entrants  # noqa: E402
from benchmarks.loops.measure import oneway  # noqa: E402
from benchmarks.peer import Peer  # noqa: E402
from nats_proxy import Proxy  # noqa: E402
from nats_server import ABSENT, programs  # noqa: E402

EVENTS = 64


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Somebody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        yield listening
