"""``python -m peers PAGE [LIBRARY ...]``, in the directory of the tests: runs the suites of all libraries and writes
their page, or of some, and only says what came of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from peers.page import page
from peers.run import run
from peers.suites import LIBRARIES, Verdict, suites_of


def main(arguments: list[str] | None = None) -> int:
    """Runs, prints, writes; 1 when a test does not pass and nobody says why."""
    asked = _parser().parse_args(arguments)
    verdicts = []
    for library in asked.libraries or LIBRARIES:
        for suite in suites_of(library):
            verdicts.append(run(suite))
            _say(verdicts[-1])
    if not asked.libraries:
        asked.page.write_text(page(verdicts))
    return 1 if any(verdict.unexplained for verdict in verdicts) else 0


def _say(verdict: Verdict) -> None:
    suite = verdict.suite
    for outcome in verdict.unexplained:
        print(f"--- {outcome.test} {outcome.became}, for no reason that is known:\n{outcome.said}")
    for test in verdict.idle:
        print(f"--- {test}: no such test is left that does not pass; take its reason out of tests/peers")
    print(
        f"{suite.library} {suite.version}, {suite.name}: {verdict.passed} passed, {len(verdict.amiss)} not,"
        f" {len(verdict.unexplained)} of them for no reason that is known",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("page", type=Path, metavar="PAGE")
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=", ".join(LIBRARIES))
    return parser


if __name__ == "__main__":
    sys.exit(main())
