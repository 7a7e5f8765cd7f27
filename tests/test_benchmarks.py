"""The benchmarks: the harness fails loudly, losses are noticed, and every scenario runs with eventbus alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed with the library

from benchmarks import results  # noqa: E402  after the path is in place
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.cores import Costs, bound  # noqa: E402
from benchmarks.crew import Control, Crew, CrewError  # noqa: E402
from benchmarks.goals import GOALS, Goal, judge  # noqa: E402
from benchmarks.growth import STEP, stepped  # noqa: E402
from benchmarks.load import SYSTEM, BytesLoad, EmptyLoad, JsonLoad, Load, OrderError, Share  # noqa: E402
from benchmarks.peer import Peer, Topology  # noqa: E402
from benchmarks.peers import peers  # noqa: E402
from benchmarks.report import Figure, Report, Row, document, histogram_of, percentiles_of  # noqa: E402
from benchmarks.scenarios import FRAMEWORKS, SCENARIOS, entrants  # noqa: E402
from benchmarks.session import Session, Settings  # noqa: E402
from benchmarks.tables import table_of, table_of_goals  # noqa: E402
from benchmarks.throughput import Case  # noqa: E402
from benchmarks.workers import check_once  # noqa: E402

EVENTS = 256
OTHERS = {"zmq": ("pubsub", "pushpull"), "faster_fifo": ("fifo",), "iceoryx2": ("iceoryx",)}


def _copies(load: Load, numbers: list[int], publisher: int = 0) -> Iterator[Any]:
    return (dict(data) if isinstance(data, dict) else data for data in load.events(publisher, numbers))


# --- what a subscriber must notice ---


@pytest.mark.parametrize("load", [JsonLoad(), JsonLoad(1024), BytesLoad(64)], ids=["json", "filled", "bytes"])
@pytest.mark.parametrize("numbers", [[0, 1, 3], [0, 1, 1], [0, 2, 1], [1, 2, 3], [0, 1]], ids=str)
def test_a_wrong_stream_is_noticed(load: Load, numbers: list[int]) -> None:
    """A lost, doubled, late or missing event is an error of the run, never a better figure."""
    with pytest.raises(OrderError):
        load.check(_copies(load, numbers), Share(0, 1, 3), 1)


@pytest.mark.parametrize("load", [JsonLoad(), BytesLoad(64), EmptyLoad()], ids=["json", "bytes", "empty"])
def test_the_right_stream_is_accepted(load: Load) -> None:
    """Exactly the share is taken, also past the number at which raw events begin to come round again."""
    received = _copies(load, [*range(40)])
    load.check(received, Share(0, 1, 39), 1)
    assert len(list(received)) == 1


def test_several_publishers_are_checked_each() -> None:
    """Interleaved streams are accepted in any interleaving and refused when one of them has a gap."""
    load = JsonLoad()
    first, second = [[*_copies(load, [0, 1], publisher)] for publisher in (0, 1)]
    load.check(iter([first[0], second[0], second[1], first[1]]), Share(0, 1, 2), 2)
    with pytest.raises(OrderError):
        load.check(iter([first[0], second[1], second[0], first[1]]), Share(0, 1, 2), 2)


def test_data_where_none_was_sent_is_noticed() -> None:
    """An event without data that arrives with some is an error."""
    with pytest.raises(OrderError):
        EmptyLoad().check(iter([b"", b"x"]), Share(0, 1, 2), 1)


def test_shared_events_are_handled_exactly_once() -> None:
    """Workers may share events out in any way; one that none or two of them handled is an error of the run."""
    check_once([[0, 2], [], [1]], 3)
    for numbers in ([[0], [2]], [[0, 2], [1, 2]], [[0, 1], [1]], [[1, 2], [3]]):
        with pytest.raises(OrderError, match="3 events were sent"):
            check_once(numbers, 3)


@pytest.mark.parametrize("size", [200, 1024, 65536])
def test_loads_have_their_size(size: int) -> None:
    """A load is as large as was asked for."""
    assert JsonLoad(size).size == size
    assert len(next(BytesLoad(size).events(0, [0]))) == size


# --- who hears what ---


def test_shares_of_single_systems() -> None:
    """With a system each, subscribers share the events out; with one system, each hears all."""
    apart, together = Topology(1, ("a", "b"), 100), Topology(1, ("a", "a"), 100)
    assert [apart.share(index, 10) for index in (0, 1)] == [Share(0, 2, 5), Share(1, 2, 5)]
    assert [together.share(index, 10) for index in (0, 1)] == [Share(0, 1, 10)] * 2


def test_shares_of_patterns() -> None:
    """A pattern hears every topic, and the handshake goes through a single one of them."""
    topology = Topology(1, ("a.*", "a.*"), 100, sent=("a.0", "a.1", "a.2"))
    assert topology.marked == ("a.0",)
    assert topology.listeners("a.2") == [0, 1]
    assert topology.share(1, 9) == Share(0, 1, 9)


@pytest.mark.parametrize(("publishers", "systems"), [(1, ("a",)), (4, ("a",)), (1, ("a", "b", "c")), (3, ("a", "a"))])
def test_events_divide_evenly(publishers: int, systems: tuple[str, ...]) -> None:
    """Every publisher sends the same number of events to every topic, whatever was asked for."""
    case = Case("case", JsonLoad(), publishers, systems)
    for asked in (1, 200, 1001):
        events = case.whole(asked)
        assert events > 0
        assert events % (publishers * len(case.topology().topics)) == 0


# --- the workers ---


def _fails(_control: Control) -> None:
    raise LookupError("the reason")


def _exits(_control: Control) -> None:
    os._exit(7)


def _waits(control: Control) -> None:
    control.answer()


def _run(deadline: float = 60, **bodies: Callable[[Control], None]) -> None:
    with Crew(deadline) as crew:
        for title, body in bodies.items():
            crew.start(title, body)
        crew.results()


def test_a_failure_ends_the_run_with_its_traceback() -> None:
    """A worker's exception is shown with its traceback, and who waits beside it is ended."""
    with pytest.raises(CrewError, match=r"(?s)broken .*_fails.*LookupError: the reason"):
        _run(patient=_waits, broken=_fails)


def test_a_death_ends_the_run() -> None:
    """A worker that dies without a word is named with its exit code."""
    with pytest.raises(CrewError, match=r"mortal .* exit code 7"):
        _run(mortal=_exits)


def test_a_stuck_worker_ends_the_run() -> None:
    """A worker that never gets to its next stage is named when the deadline has passed, and ended."""
    with pytest.raises(CrewError, match=r"after 0\.2 s .* stuck"):
        _run(0.2, stuck=_waits)


# --- peers ---


def _alone(name: str) -> list[Peer]:
    return [peer for peer in entrants(name) if peer.name == "eventbus"]


def test_absent_peers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, every peer is still known, those that need a library with the reason why they are absent."""
    for library, modules in {**OTHERS, "redis": ("redis_pubsub", "redis_streams", "redis_server")}.items():
        monkeypatch.setitem(sys.modules, library, None)
        for module in modules:
            monkeypatch.delitem(sys.modules, f"benchmarks.peers.{module}", raising=False)
    absent = {peer.name for peer in peers() if peer.missing}
    present = {peer.name for peer in peers() if not peer.missing}
    assert present == {"eventbus", "SEQPACKET", "mp.Queue"}
    assert {"zmq PUB/SUB", "zmq PUSH/PULL", "faster-fifo", "iceoryx2", "redis pub/sub", "redis streams"} <= absent


def test_a_packet_has_a_largest_size() -> None:
    """SEQPACKET refuses what the kernel would, with a reason, and serves the rest."""
    refuses = next(peer.refuses for peer in peers() if peer.name == "SEQPACKET")
    assert refuses(Topology(1, (SYSTEM,), 100)) is None
    assert "at most" in (refuses(Topology(1, (SYSTEM,), 2**24)) or "")


# --- figures ---


def _row(peer: str, *values: float, case: str = "1 → 1", name: str = "events/s") -> Row:
    return Row(case, peer, {name: Figure(values)})


def _verdict(*rows: Row, goal: Goal) -> tuple[str | None, str]:
    (found,) = [one for one in judge([Report(goal.report, "", list(rows))]) if one.goal == goal]
    return found.against, found.said


def test_goals_take_the_best_of_the_peers() -> None:
    """A goal is judged against the fastest variant, by the median of the ratios of each repetition."""
    goal = GOALS[0]
    slow, fast = _row("zmq PUB/SUB", 1, 1, 1), _row("zmq PUB/SUB, 1 frame", 2, 4, 8)
    assert _verdict(_row("eventbus", 6, 12, 1), slow, fast, goal=goal) == ("zmq PUB/SUB, 1 frame", "met")
    assert _verdict(_row("eventbus", 5, 11, 99), slow, fast, goal=goal) == ("zmq PUB/SUB, 1 frame", "missed")


def test_less_can_be_better() -> None:
    """CPU is judged against the peer that uses least of it."""
    goal = GOALS[1]
    rows = [_row(peer, value, name="CPU s/M") for peer, value in (("zmq PUB/SUB", 3), ("zmq PUB/SUB, 1 frame", 9))]
    assert _verdict(_row("eventbus", 1, name="CPU s/M"), *rows, goal=goal) == ("zmq PUB/SUB", "met")
    assert _verdict(_row("eventbus", 2, name="CPU s/M"), *rows, goal=goal) == ("zmq PUB/SUB", "missed")


def test_a_goal_without_figures_is_not_met() -> None:
    """Where the peer or eventbus was not measured, the goal says so."""
    assert {verdict.said for verdict in judge([])} == {"not measured"}
    assert _verdict(_row("eventbus", 9), goal=GOALS[0]) == (None, "not measured")


def test_every_goal_has_a_row() -> None:
    """The table of goals shows them all, met or not."""
    table = table_of_goals(judge([]))
    assert [line[0] for line in table.lines] == [goal.scenario for goal in GOALS]
    assert all(len(line) == len(table.head) for line in table.lines)


def test_growth_compares_with_the_place_before() -> None:
    """Each place on an axis shows how its CPU compares with the place before it; the first has none to compare with."""
    rows = [("a", _row("x", 2, case="1", name="CPU s/M")), ("a", _row("x", 3, case="2", name="CPU s/M"))]
    first, second, other = stepped([*rows, ("b", _row("x", 9, case="3", name="CPU s/M"))])
    assert second.figures[STEP].values == (1.5,)
    assert STEP not in first.figures
    assert STEP not in other.figures


def test_percentiles() -> None:
    """Percentiles are in microseconds and exact to three digits."""
    found = percentiles_of(histogram_of(range(1000, 1_001_000, 1000)))
    assert found["p50 µs"] == pytest.approx(500, rel=0.002)
    assert found["p99 µs"] == pytest.approx(990, rel=0.002)


def test_a_table_says_who_is_missing_and_why() -> None:
    """An absent peer, and one that cannot serve a case, have a row each and a note with the reason."""
    rows = [_row("a", 1, 3), Row("1 → 1", "b", absent="not here"), Row("1 → 1", "c", refused="too large")]
    table = table_of(Report("name", "note", rows))
    assert table.lines == [["1 → 1", "a", "2 (1..3)"], ["1 → 1", "b", "absent"], ["1 → 1", "c", "-"]]
    assert table.notes == ("absent: b (not here)", "-: c: too large")


def test_results_without_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib a run is still written, and what is missing is said."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "benchmarks.pictures", raising=False)
    report = Report("fanout", "a|b", [_row("eventbus", 1)])
    facts = {"processor": "x", "cpus": 1, "memory_mib": 1, "load": 0, "kernel": "k", "scheduler": [], "libc": "l"}
    machine = facts | {"python": "p", "versions": {"orjson": "1"}, "commit": "c", "time": "t"}
    missing = results.write(document(machine, {}, [report]), [table_of(report)], tmp_path)
    assert missing is not None
    assert "install the extra 'bench'" in missing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.md"]
    assert "| 1 → 1 | eventbus | 1 |" in (tmp_path / "results.md").read_text()


def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown benchmark and a number that is not positive end with a usage error that names them."""
    for arguments, named in ((["nothing"], "nothing"), (["codec", "--events", "0"], "0 is not a positive number")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert named in capsys.readouterr().err


def test_more_cpus_than_there_are_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A run is kept to CPUs that there are."""
    many = len(os.sched_getaffinity(0)) + 1
    assert main(["codec", "--cpus", str(many)]) == 1
    assert f"--cpus {many} is more than the {many - 1} CPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ends", "cpus", "rate", "by"),
    [
        ((1, 1), 64, 1e9 / 300, "a subscriber"),
        ((1, 1), 1, 1e9 / 500, "CPUs"),
        ((4, 0), 64, 1e9 / 250, "turns at the lock"),
        ((1, 0), 64, 1e9 / 200, "the publisher"),
        ((2, 8), 2, 2e9 / (260 + 2400), "CPUs"),
    ],
)
def test_what_bounds_a_bus(ends: tuple[int, int], cpus: int, rate: float, by: str) -> None:
    """The least of what publishers, the lock, subscribers and CPUs let through."""
    found = bound(Costs(send=200, turn=250, beside=260, delivery=300), *ends, cpus)
    assert found.by == by
    assert found.rate == pytest.approx(rate)


# --- every scenario ---


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.release] * (name in FRAMEWORKS)) for name in SCENARIOS]
)
def test_scenario(name: str) -> None:
    """The scenario runs with eventbus alone, every event checked by its subscribers, and has a figure in each row."""
    steps: list[tuple[int, int]] = []
    settings = Settings(repetitions=1, events=EVENTS, seconds=0.05, quick=True, spread=False)
    session = Session(_alone(name), settings, lambda _, done, total: steps.append((done, total)))
    report = SCENARIOS[name](session)
    assert report.rows
    for row in report.rows:
        assert row.refused or row.figures
    assert steps
    assert all(0 <= done < total for done, total in steps)
