"""The command line: `python -m benchmarks NAME`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from benchmarks.crew import CrewError
from benchmarks.machine import facts
from benchmarks.peers import peers
from benchmarks.report import write_json
from benchmarks.scenarios import SCENARIOS
from benchmarks.session import Session, Settings
from benchmarks.terminal import progress, show, show_machine


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; returns the exit code."""
    asked = _parser().parse_args(arguments)
    # `timeout` and a closing terminal end the run the way Ctrl-C does: with its workers and files removed.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        _run(asked)
    except CrewError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(asked: argparse.Namespace) -> None:
    machine = facts()
    show_machine(machine)
    settings = _settings(asked)
    measured = [peer for peer in peers() if not asked.peer or peer.name in asked.peer]
    reports = []
    for name in SCENARIOS if asked.name == "all" else [asked.name]:
        with progress() as told:
            reports.append(SCENARIOS[name](Session(measured, settings, told)))
        show(reports[-1])
    if asked.json:
        write_json(asked.json, machine, vars(settings), reports)


def _settings(asked: argparse.Namespace) -> Settings:
    repetitions = asked.repetitions or (1 if asked.quick else 3)
    return Settings(repetitions, asked.events, 0.2 if asked.quick else 1.0, asked.quick, asked.spread)


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:11} {scenario.__doc__}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure eventbus beside what people use today, in real processes and in turns.",
        epilog=f"benchmarks:\n{lines}\n  all         each of these",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*SCENARIOS, "all"], metavar="NAME", help="which benchmark, or all")
    parser.add_argument("--quick", action="store_true", help="one short repetition of the first cases")
    parser.add_argument("--repetitions", type=_positive, metavar="N", help="how often each peer is measured (3)")
    parser.add_argument("--events", type=_positive, metavar="N", help="events per repetition (what fills a second)")
    parser.add_argument(
        "--peer",
        action="append",
        choices=[peer.name for peer in peers()],
        metavar="PEER",
        help="measure only this peer; may be repeated",
    )
    parser.add_argument("--spread", action="store_true", help="keep each process on one CPU, in turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number: give at least 1")
    return number


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
