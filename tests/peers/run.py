"""Runs one suite over ours, and reads what became of each test."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from peers.fetch import PLACE, python_of, source_of
from peers.ours.telling import TO
from peers.suites import Outcome, Suite, Verdict


def run(suite: Suite) -> Verdict:
    """Fetch, arrange and run a suite. What pytest prints goes to a file beside its outcomes."""
    source = source_of(suite)
    python = python_of(suite, source)
    told = PLACE / (re.sub(r"\W+", "-", f"{suite.library} {suite.name}") + ".outcomes")
    told.write_text("")
    path = f"{python.parent}:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, TO: str(told), **suite.arrange(source)}
    plugins = ["-p", "peers.ours.telling", *(["-p", f"peers.ours.{suite.plugin}"] if suite.plugin else ())]
    command = [python, "-m", "pytest", *plugins, f"--rootdir={source}", f"--timeout={suite.seconds}", *suite.select]
    with told.with_suffix(".log").open("w") as printed:
        subprocess.run(command, cwd=source, env=environment, stdout=printed, stderr=subprocess.STDOUT, check=False)
    outcomes = outcomes_of(told)
    if not outcomes:
        raise RuntimeError(f"no test of {suite.library}, {suite.name}, ran: {told.with_suffix('.log')} says why")
    return Verdict(suite, outcomes)


def outcomes_of(told: Path) -> tuple[Outcome, ...]:
    """Return what the lines say last of each test, but that what failed once has failed."""
    last: dict[str, Outcome] = {}
    for line in told.read_text().splitlines():
        outcome = Outcome(**json.loads(line))
        before = last.get(outcome.test)
        if before is None or before.became == "unfinished" or outcome.became == "failed":
            last[outcome.test] = outcome
    return tuple(last.values())
