"""The benchmark of Celery: each peer has its round trips, and over the bus nothing is lost with a worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("hdrh", reason="the extra [bench] is not installed")
pytest.importorskip("celery", reason="celery is not installed: pip install 'eventbus[celery]'")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the benchmarks are not installed with the library

from benchmarks.drop_in import celery
from benchmarks.peer import Peer

PRESENT = [peer for peer in celery.entrants() if peer.missing is None]

pytestmark = pytest.mark.release


@pytest.mark.parametrize("peer", PRESENT, ids=lambda peer: peer.name)
def test_each_trip_has_its_time(peer: Peer) -> None:
    """As many as were asked for."""
    times = celery.trip(peer, 10).nanoseconds
    assert len(times) == 10
    assert min(times) > 0


def test_nothing_is_lost_with_a_worker() -> None:
    """All tasks are done to the end, also those in hand of who was killed."""
    ours = next(peer for peer in PRESENT if peer.name == "eventbus")
    found = celery.killed(ours, 40)
    assert (found["tasks"], found["lost"]) == (40, 0)
    assert found["s after"] > 0
