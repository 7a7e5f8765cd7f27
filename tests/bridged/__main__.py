"""``python -m bridged PAGE``, in the directory of the tests: plays the bridge's whole matrix and writes its page."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import conftest  # noqa: F401  the core with its test points, before anything else imports eventbus
from bridged.cases import all_cases
from bridged.page import page
from bridged.run import run
from nats_server import ABSENT, programs


def main(to: Path) -> int:
    """Plays, prints, writes; 1 when a case failed."""
    if not programs():
        print(ABSENT)
        return 1
    begun = time.monotonic()
    outcomes = run(all_cases())
    failed = {case: why for case, why in outcomes.items() if why}
    for case, why in failed.items():
        print(f"--- {case}\n{why}")
    print(f"{len(outcomes)} cases in {time.monotonic() - begun:.0f} s, {len(failed)} not as they should be")
    to.write_text(page(outcomes))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
