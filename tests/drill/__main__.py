"""``python -m drill``: plays one drill, and reports."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from drill.plan import Plan, draw
from drill.stage import play
from drill.verdict import Verdict, judge


def main() -> int:
    """The command line; the exit status is 1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="drill", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=800.0, help="jobs a second")
    parser.add_argument("--processes", type=int, default=3, help="of each handler")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--short", action="store_true", help="each sort of restart once, not twenty in all")
    parser.add_argument("--keep", action="store_true", help="keep books and logs")
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    told = parser.parse_args()
    plan = draw(told.seed, told.jobs, told.rate, told.processes, short=told.short)
    directory = Path(tempfile.mkdtemp(prefix="eventbus-drill-"))
    begin = time.monotonic()
    try:
        story = play(plan, f"drill-{os.getpid()}", directory)
    except KeyboardInterrupt:
        shutil.rmtree(directory)
        print("interrupted: nothing is judged")
        return 130
    verdict = judge(story)
    verdict.figures["seconds"] = round(time.monotonic() - begin, 1)
    report = as_json(plan, verdict) if told.json else as_table(plan, verdict)
    print(report, flush=True)
    if verdict.violations:
        print(f"VIOLATED: seed {plan.seed}; books and logs stay in {directory}")
        print("\n".join(f"  {one}" for one in verdict.violations))
        return 1
    if told.keep:
        print(f"books and logs stay in {directory}")
    else:
        shutil.rmtree(directory)
    return 0


def as_json(plan: Plan, verdict: Verdict) -> str:
    """One line."""
    figures = {name.strip(): figure for name, figure in verdict.figures.items()}
    return json.dumps({"seed": plan.seed, **figures, "gaps": verdict.gaps, "violations": verdict.violations})


def as_table(plan: Plan, verdict: Verdict) -> str:
    """For people."""
    lines = [
        f"drill: seed {plan.seed}, {plan.rate:g} jobs/s, {plan.processes} processes for each handler, "
        f"Python {sys.version.split()[0]}, kernel {os.uname().release}, {os.cpu_count()} CPUs, "
        f"a load of {os.getloadavg()[1]:.1f}"
    ]
    lines += [f"  {name:70} {figure:>12,}" for name, figure in verdict.figures.items()]
    lines.append("longest time that a handler did nothing with jobs waiting, by what befell the pool before, s")
    lines += [f"  {name:70} {gap:>12.3f}" for name, gap in sorted(verdict.gaps.items())]
    return "\n".join(lines)


sys.exit(main())
