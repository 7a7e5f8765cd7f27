"""The benchmarks of event loops: what goes wrong is noticed, servers end with their medium, and each peer works."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed with the library

from benchmarks.__main__ import main  # noqa: E402  after the path is in place
from benchmarks.crew import CrewError  # noqa: E402
from benchmarks.goals import GOALS, Goal, judge  # noqa: E402
from benchmarks.load import JsonLoad, OrderError  # noqa: E402
from benchmarks.loops import crowd, measure, requests  # noqa: E402
from benchmarks.loops.ends import Ask, BlockingListener, LoopAsker, LoopListener  # noqa: E402
from benchmarks.loops.registry import BLOCKING, HALF, NOBODY, OTHERS, PINGPONG, asking, crowds, streaming  # noqa: E402
from benchmarks.loops.scenarios import LOOPS  # noqa: E402
from benchmarks.peer import Peer  # noqa: E402
from benchmarks.report import Figure, Report, Row  # noqa: E402
from benchmarks.servers import Server, program  # noqa: E402

EVENTS = 256
FREE = (None, None)
MODULES = {"zmq.asyncio": "zeromq", "nats": "nats_py", "redis.asyncio": "redis_py", "uvloop": "bus_uvloop"}


def _present(found: list[Peer]) -> list[Peer]:
    return [peer for peer in found if not peer.missing]


def _name(peer: Peer) -> str:
    return peer.name


# --- what a listener and an asker must notice ---


class _Waiting(LoopListener):
    """Hears what it was made with."""

    data_of = staticmethod(lambda data: data)

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = numbers
        super().__init__(asyncio.new_event_loop())

    async def enter(self) -> None:
        self.messages = self._all()

    async def _all(self) -> AsyncIterator[Any]:
        for number in self._numbers:
            yield {"number": number, "sent": 0}


class _Blocking(BlockingListener):
    data_of = staticmethod(lambda data: data)

    def __init__(self, numbers: list[int]) -> None:
        self.messages: Iterator[Any] = iter([{"number": number, "sent": 0} for number in numbers])


@pytest.mark.parametrize("listening", [_Waiting, _Blocking])
@pytest.mark.parametrize("numbers", [[0, 1, 3], [0, 1, 1], [0, 2, 1], [1, 2, 3]], ids=str)
def test_a_wrong_stream_is_noticed(listening: Callable[[list[int]], _Waiting | _Blocking], numbers: list[int]) -> None:
    """A lost, doubled or late event is an error of the run, in a burst and one by one."""
    with listening(numbers) as listener, pytest.raises(OrderError):
        listener.check(3)
    with listening(numbers) as listener, pytest.raises(OrderError):
        listener.arrivals(3)


@pytest.mark.parametrize("listening", [_Waiting, _Blocking])
def test_exactly_so_many_are_taken(listening: Callable[[list[int]], _Waiting | _Blocking]) -> None:
    """What comes after the events of one round is left for the next."""
    with listening([7, 0, 1, 0, 1, 2, 8]) as listener:
        marks = listener.one_by_one()
        assert next(marks)["number"] == 7
        listener.check(2)
        assert len(listener.arrivals(3)) == 3
        assert next(marks)["number"] == 8


class _Asking(LoopAsker):
    """Is answered at once; the answer to one request says that it is to another."""

    def __init__(self, wrong: int = -1) -> None:
        self._wrong = wrong
        self.asked: list[int] = []
        super().__init__(asyncio.new_event_loop())

    async def line(self) -> Ask:
        async def ask(data: Any) -> Any:
            self.asked.append(data["number"])
            await asyncio.sleep(0)
            return {"number": -7 if data["number"] == self._wrong else data["number"]}

        return ask


def test_a_wrong_answer_is_noticed() -> None:
    """The answer to another request is an error of the run, one at a time and many at once."""
    with _Asking(wrong=3) as asker, pytest.raises(OrderError, match="event 3 was due and event -7 came"):
        asker.trips(JsonLoad(), 5)
    with _Asking(wrong=3) as asker, pytest.raises(OrderError, match="event 3 was due and event -7 came"):
        asker.together(JsonLoad(), 5, 2)


def test_all_tasks_ask_at_once_and_each_request_once() -> None:
    """Each task has as many requests under way as one, and together they ask all."""
    with _Asking() as asker:
        asker.together(JsonLoad(), 10, 4)
        assert asker.asked[:4] == [0, 1, 2, 3]
        assert sorted(asker.asked) == list(range(10))


# --- servers ---


def test_a_server_ends_with_its_medium() -> None:
    """What a server said until it was ready is known, and no process of it is left."""
    script = "import os, signal; print(os.getpid(), flush=True); print('Ready', flush=True); signal.pause()"
    with ExitStack() as leftovers:
        server = Server([sys.executable, "-c", script], "ready", leftovers)
        child, ready = server.said
        watched = os.pidfd_open(int(child))
        assert ready == "Ready\n"
        assert server.cpu_seconds() > 0
    assert select.select([watched], [], [], 10)[0] == [watched]
    os.close(watched)


def test_a_server_that_does_not_start_is_an_error() -> None:
    """What it said last is shown."""
    with ExitStack() as leftovers, pytest.raises(CrewError, match="did not start: no such option"):
        Server([sys.executable, "-c", "print('no such option')"], "ready", leftovers)


# --- who takes part ---


def test_an_absent_server_is_named_with_its_package() -> None:
    """A server that is not here makes its peer absent, with what to install."""
    with pytest.raises(ImportError, match="no nats-server-of-nobody on this machine: install Debian's package"):
        program("nats-server-of-nobody")


def test_absent_peers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra every peer is still known, with the reason why it is absent; the bus and asyncio are there."""
    for library, module in MODULES.items():
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"benchmarks.loops.{module}", raising=False)
    assert {peer.name for peer in _present(streaming())} == {"eventbus", BLOCKING, "asyncio streams"}
    assert {peer.name for peer in _present(asking())} == {"eventbus", BLOCKING, HALF, PINGPONG, "asyncio streams"}
    assert {peer.name for peer in _present(crowds())} == {"eventbus", NOBODY}
    assert {*OTHERS, "eventbus, uvloop"} < {peer.name for peer in streaming()}
    assert {*OTHERS, "eventbus, uvloop"} < {peer.name for peer in asking()}


@pytest.mark.release
@pytest.mark.parametrize("peer", _present(streaming()), ids=_name)
def test_each_stream_that_is_installed_works(peer: Peer) -> None:
    """A short burst and a few paced events arrive whole and in order."""
    found = measure.burst(peer, EVENTS, 1, spread=False)
    assert found["events"] <= EVENTS
    assert all(figure > 0 for figure in found.values())
    timing = measure.oneway(peer, 2, 20, 1_000, FREE)
    assert len(timing.nanoseconds) == 20
    assert min(timing.nanoseconds) > 0


@pytest.mark.release
@pytest.mark.parametrize("peer", _present(asking()), ids=_name)
def test_each_that_answers_and_is_installed_works(peer: Peer) -> None:
    """Requests are answered one by one and, where there is more than a ping-pong, many at once."""
    assert _positive(requests.one_by_one(peer, 2, 20, FREE).nanoseconds, 20)
    if peer.name != PINGPONG:
        found = requests.together(peer, EVENTS, 1, spread=False)
        assert found["requests"] == EVENTS
        assert all(figure > 0 for figure in found.values())


@pytest.mark.release
@pytest.mark.parametrize("peer", _present(crowds()), ids=_name)
def test_a_crowd_hears_all_while_sends_are_timed(peer: Peer) -> None:
    """Every subscription of a crowd takes each event, and every send has its time."""
    assert _positive(crowd.sends(peer, 3, (2, 20), 1_000, FREE).nanoseconds, 20)


@pytest.mark.release
def test_an_idle_crowd_has_its_descriptors_counted() -> None:
    """Each subscription has a descriptor for its slot, and what wakes them is as many for few as for many."""
    ours = next(peer for peer in crowds() if peer.name == "eventbus")
    few, many = crowd.idle(ours, 3, 0.01), crowd.idle(ours, 13, 0.01)
    assert many["descriptors"] - few["descriptors"] == 10
    assert few["sockets"] == many["sockets"] > 0


def _positive(nanoseconds: array[int], count: int) -> bool:
    return len(nanoseconds) == count and min(nanoseconds) > 0


# --- figures ---


@pytest.mark.parametrize("goal", [goal for goal in GOALS if goal.report in LOOPS and goal.against], ids=str)
def test_goals_of_loops_are_judged(goal: Goal) -> None:
    """Each goal is met at its bound and missed beyond it, against the best of those whom it names."""

    def said(reached: float) -> list[str]:
        rows = [Row(goal.case, peer, {goal.figure: Figure((100.0,))}) for peer in goal.against]
        rows.append(Row(goal.case, goal.subject, {goal.figure: Figure((100.0 * reached,))}))
        return [verdict.said for verdict in judge([Report(goal.report, "", rows)]) if verdict.goal == goal]

    assert said(goal.bound) == ["met"]
    assert said(goal.bound * (0.9 if goal.more else 1.1)) == ["missed"]


@pytest.mark.release
def test_a_benchmark_shows_its_goals(capfd: pytest.CaptureFixture[str]) -> None:
    """`python -m benchmarks async` shows all of its parts, and the goals of these alone with what came of them."""
    assert main(["async", "--quick", "--peer", BLOCKING, "--peer", "asyncio streams"]) == 0
    said = capfd.readouterr().out
    assert all(f"{name}: " in said for name in LOOPS if name.startswith("async"))
    assert "at least 0.8 times" in said
    assert "2.5 times" not in said
