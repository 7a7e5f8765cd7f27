"""The benchmarks from bus to bus: who takes part, and what the network in between does."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed with the library

from benchmarks.bridge import measure  # noqa: E402  after the path is in place
from benchmarks.bridge.scenarios import BRIDGES, CORE, RELAY, entrants  # noqa: E402
from benchmarks.goals import GOALS, judge  # noqa: E402
from benchmarks.loops.measure import oneway  # noqa: E402
from benchmarks.peer import Peer  # noqa: E402
from benchmarks.report import Figure, Report, Row  # noqa: E402
from harness import patiently  # noqa: E402
from nats_proxy import Proxy  # noqa: E402
from nats_server import ABSENT  # noqa: E402

EVENTS = 64
AWAY = 0.02
FREE = (None, None)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Somebody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        yield listening


def _through(proxy: Proxy, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection through the network."""
    client = socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), timeout=60)
    arrived, _ = server.accept()
    arrived.settimeout(60)
    return client, arrived


# --- the network ---


def test_what_is_held_back_comes_later_also_of_the_dead(server: socket.socket) -> None:
    """Bytes that are held arrive once they are let go, whole and before the end; a new connection is not held."""
    with closing(Proxy(server.getsockname()[1])) as proxy:
        old, late = _through(proxy, server)
        with closing(late):
            old.sendall(b"before ")
            assert late.recv(99) == b"before "
            proxy.hold()
            old.sendall(b"the old bytes")
            old.close()
            new, arrived = _through(proxy, server)
            with closing(new), closing(arrived):
                new.sendall(b"new")
                assert arrived.recv(99) == b"new"
                late.setblocking(False)
                with pytest.raises(BlockingIOError):
                    late.recv(99)
                late.settimeout(60)
                proxy.go()
                with late.makefile("rb") as held:
                    assert held.read() == b"the old bytes"


def test_what_is_cut_is_lost(server: socket.socket) -> None:
    """Both sides of a connection that is cut see its end, and nothing of what was held."""
    with closing(Proxy(server.getsockname()[1])) as proxy:
        client, arrived = _through(proxy, server)
        with closing(client), closing(arrived):
            client.sendall(b"a")
            assert arrived.recv(9) == b"a"
            proxy.hold()
            client.sendall(b"lost")
            proxy.cut()
            assert client.recv(9) == arrived.recv(9) == b""


def test_nothing_is_faster_than_the_network(server: socket.socket) -> None:
    """Each direction takes its time."""
    with closing(Proxy(server.getsockname()[1], AWAY)) as proxy:
        client, arrived = _through(proxy, server)
        with closing(client), closing(arrived):
            begun = time.monotonic()
            client.sendall(b"there")
            assert arrived.recv(99) == b"there"
            arrived.sendall(b"back")
            assert client.recv(99) == b"back"
            assert time.monotonic() - begun >= 2 * AWAY


# --- who takes part ---


@pytest.mark.release
@pytest.mark.parametrize("peer", entrants(), ids=lambda peer: peer.name)
def test_each_that_is_installed_carries_events(peer: Peer) -> None:
    """A burst arrives whole and in order, and what each part spent on it is known."""
    if peer.missing:
        pytest.skip(ABSENT)

    def attempt(seconds: float) -> bool:
        events = round(EVENTS * seconds)
        found = measure.burst(peer, events, seconds)
        assert found.pop("events") == events
        return all(figure > 0 for figure in found.values())

    patiently(attempt, 1)  # CPU time is told in ticks of 10 ms, and few events may take none


@pytest.mark.release
def test_what_is_far_away_takes_its_time() -> None:
    """With a network in between, no event is faster than its round trip: half of it each, out and in."""
    peer = next(one for one in entrants() if one.name == "eventbus")
    if peer.missing:
        pytest.skip(ABSENT)
    far = Peer(peer.name, None, partial(peer.connect, round_trip=AWAY))
    assert min(oneway(far, 2, 4, 100, FREE).nanoseconds) >= AWAY * 1e9


def test_everybody_is_known_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is not there, the peers are listed with the reason."""
    monkeypatch.setitem(sys.modules, "nats", None)
    for module in ("medium", "relay"):
        monkeypatch.delitem(sys.modules, f"benchmarks.bridge.{module}", raising=False)
    assert {peer.name for peer in entrants() if peer.missing} == {"eventbus", RELAY, CORE}


def test_goals_of_the_bridge_are_judged() -> None:
    """Each goal is met at its bound and missed below it."""
    goals = [goal for goal in GOALS if goal.report in BRIDGES]
    assert goals

    def said(ours: float) -> list[str]:
        rows = [Row(goal.case, "eventbus", {goal.figure: Figure((ours,))}) for goal in goals]
        rows += [Row(goal.case, peer, {goal.figure: Figure((25_000,))}) for goal in goals for peer in goal.against]
        verdicts = judge([Report("bridge", "", rows)])
        return [verdict.said for verdict in verdicts if verdict.goal in goals]

    assert said(50_000) == ["met", "met"]
    assert said(46_000) == ["met", "missed"]
    assert said(44_000) == ["missed", "missed"]
