"""The deployment drill: a short one, run as ``make drill`` runs the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drill.plan import EACH, OUTAGE, RESTARTS, TWENTY, draw
from harness import DEADLINE, SHARED_MEMORY

TESTS = Path(__file__).resolve().parent
JOBS = 3000


@pytest.mark.release
def test_a_short_drill() -> None:
    """Every job is done, none twice without a reason, and nothing is left, through each sort of restart."""
    command = [sys.executable, "-m", "drill", "--short", "--json", "--jobs", str(JOBS), "--rate", "250"]
    environment = {key: value for key, value in os.environ.items() if key != "EVENTBUS_BUILD"}
    process = subprocess.Popen(
        [*command, "--seed", str(os.getpid())], cwd=TESTS, env=environment, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=10 * DEADLINE)
    print(output)
    assert process.returncode == 0
    report = json.loads(output)
    assert report["violations"] == []
    assert report["jobs"] == report["jobs done"] == JOBS
    assert {what: report[what] for what in RESTARTS} == EACH
    assert report["times that the database was away"] == 1
    for what in ("ticks", "deaths", "repeats", "after a ConnectionError"):
        assert report[what] > 0
    assert list(SHARED_MEMORY.glob(f"*drill-{process.pid}.*")) == []


def test_the_plan_of_a_long_drill() -> None:
    """Twenty restarts of all sorts, and two outages that no job meets both of; a seed replays it."""
    plan = draw(1, 100_000, 800, 3)
    whats = [act.what for act in plan.acts]
    assert {what: whats.count(what) for what in RESTARTS} == TWENTY
    assert sum(TWENTY.values()) == 20
    first, second = (act.at for act in plan.acts if act.what == OUTAGE)
    assert second - first > plan.outage + 20
    assert plan == draw(1, 100_000, 800, 3) != draw(2, 100_000, 800, 3)
