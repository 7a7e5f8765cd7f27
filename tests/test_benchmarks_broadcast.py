"""The benchmark of web servers: each peer carries a broadcast whole, and what a `kill -9` costs is counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("hdrh", reason="the extra [bench] is not installed")
pytest.importorskip("starlette", reason="the extra [web] is not installed")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the benchmarks are not installed with the library

from benchmarks.drop_in import broadcast
from benchmarks.peer import Peer

PRESENT = [peer for peer in broadcast.entrants() if peer.missing is None]

pytestmark = pytest.mark.release


@pytest.mark.parametrize("measure", [broadcast.in_workers, broadcast.in_pages])
@pytest.mark.parametrize("peer", PRESENT, ids=lambda peer: peer.name)
def test_each_event_reaches_each_of_the_others(peer: Peer, measure: broadcast.Measure) -> None:
    """Each other worker, or its page, has a time for each event."""
    times = measure(peer, 20, 1_000).nanoseconds
    assert len(times) == 20 * (broadcast.WORKERS - 1)
    assert min(times) > 0


def test_nothing_is_lost_with_a_worker() -> None:
    """The page of a worker that is killed gets all of the bus, each once, from another one."""
    ours = next(peer for peer in PRESENT if peer.name == "eventbus")
    found = broadcast.past_a_kill(ours, 200)
    assert (found["sent"], found["missed"], found["twice"]) == (200, 0, 0)
    assert found["gap ms"] > 0
