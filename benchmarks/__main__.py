"""The command line: `python -m benchmarks NAME`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from benchmarks import results
from benchmarks.bridge.scenarios import BRIDGES
from benchmarks.crew import CrewError, keep_to
from benchmarks.drop_in.scenarios import DROP_INS
from benchmarks.goals import PEERS as GOAL_PEERS
from benchmarks.goals import SCENARIOS as GOAL_SCENARIOS
from benchmarks.goals import Verdict, judge
from benchmarks.loops.scenarios import LOOPS
from benchmarks.machine import described, facts
from benchmarks.peer import Peer
from benchmarks.report import Report, document, write_json
from benchmarks.scenarios import FRAMEWORKS, SCENARIOS, entrants
from benchmarks.session import Session, Settings
from benchmarks.tables import table_of, table_of_goals
from benchmarks.terminal import progress, show

_OTHERS = {
    "goals": "what the goals of the project need, and the goals with what was reached",
    "drop-in": "what stands in for a part of another library, beside that part: " + ", ".join(DROP_INS),
    "all": "each of these and the goals; writes results.json, results.md and the pictures",
    "pictures": "draw the pictures again from results.json",
}
_SEVERAL = {
    "all": tuple(SCENARIOS),
    "goals": GOAL_SCENARIOS,
    "workers": ("workers", *FRAMEWORKS),
    "async": tuple(name for name in LOOPS if name.startswith("async")),
    "bridge": tuple(BRIDGES),
    "drop-in": tuple(DROP_INS),
    "requests": tuple(name for name in LOOPS if name.startswith("requests")),
}
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_TOGETHER = "\n".join(f"  {name:11} {what}" for name, what in _OTHERS.items())


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; returns the exit code."""
    asked = _parser().parse_args(arguments)
    # `timeout` and a closing terminal end the run the way Ctrl-C does: with its workers and files removed.
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        _run(asked)
    except CrewError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _run(asked: argparse.Namespace) -> None:
    if asked.name == "pictures":
        _complain(results.redraw(asked.results))
        return
    if asked.cpus:
        keep_to(asked.cpus)
    machine = facts()
    print("\n".join(described(machine)))
    settings = _settings(asked)
    reports = _measured(asked, settings)
    tables = [table_of(report) for report in reports]
    run = document(machine, vars(settings), reports)
    verdicts = _judged(asked.name, reports)
    if verdicts:
        tables.insert(0, table_of_goals(verdicts))
        show(tables[0])
        run["goals"] = [verdict.as_dict() for verdict in verdicts]
    if asked.json:
        write_json(asked.json, run)
    if asked.name == "all":
        _complain(results.write(run, tables, asked.results))


def _judged(name: str, reports: list[Report]) -> list[Verdict]:
    """Return every goal where all are asked for, else those of the benchmarks that were run."""
    run = {report.name for report in reports}
    return [verdict for verdict in judge(reports) if name in ("all", "goals") or verdict.goal.report in run]


def _measured(asked: argparse.Namespace, settings: Settings) -> list[Report]:
    names = _SEVERAL.get(asked.name, (asked.name,))
    reports = []
    for place, name in enumerate(names):
        with progress(f"{place + 1} of {len(names)}") as told:
            reports.append(SCENARIOS[name](Session(_chosen(name, asked), settings, told)))
        show(table_of(reports[-1]))
    return reports


def _chosen(name: str, asked: argparse.Namespace) -> list[Peer]:
    wanted = asked.peer or (GOAL_PEERS if asked.name == "goals" else _names())
    return [peer for peer in entrants(name) if peer.name in wanted]


def _names() -> list[str]:
    return list(dict.fromkeys(peer.name for name in SCENARIOS for peer in entrants(name)))


def _complain(missing: str | None) -> None:
    if missing:
        print(f"benchmarks: {missing}", file=sys.stderr)


def _settings(asked: argparse.Namespace) -> Settings:
    repetitions = asked.repetitions or (1 if asked.quick else 3)
    return Settings(repetitions, asked.events, 0.1 if asked.quick else 0.25, asked.quick, asked.spread)


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:11} {scenario.__doc__}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure eventbus beside what people use today, in real processes and in turns.",
        epilog=f"benchmarks:\n{lines}\n{_TOGETHER}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*SCENARIOS, *_OTHERS], metavar="NAME", help="which benchmark, or all")
    parser.add_argument("--quick", action="store_true", help="one short repetition of the first cases")
    parser.add_argument("--repetitions", type=_positive, metavar="N", help="how often each peer is measured (3)")
    parser.add_argument("--events", type=_positive, metavar="N", help="events per repetition (what fills 0.25 s)")
    parser.add_argument(
        "--peer",
        action="append",
        choices=_names(),
        metavar="PEER",
        help="measure only this peer; may be repeated",
    )
    parser.add_argument("--spread", action="store_true", help="keep each process on one CPU, in turn")
    parser.add_argument("--cpus", type=_positive, metavar="N", help="run on N of the CPUs only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--results", type=Path, default=results.DIRECTORY, metavar="DIR", help="where 'all' writes")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number: give at least 1")
    return number


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Once is enough, and `timeout` sends it twice: a second one amid the removal would leave processes behind.
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
