"""``python -m matrix PAGE``, in the directory of the tests: plays the whole matrix, prints it and writes its page."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import conftest  # noqa: F401  the core with its test points, before anything else imports eventbus
from matrix.page import page, printed
from matrix.run import all_cases, run


def main(to: Path) -> int:
    """Plays, prints, writes; 1 when a cell failed."""
    begun = time.monotonic()
    outcomes = run(all_cases())
    failed = {case: why for case, why in outcomes.items() if why}
    for case, why in failed.items():
        print(f"--- {case}\n{why}")
    print(printed(outcomes))
    print(f"{len(outcomes)} deaths in {time.monotonic() - begun:.0f} s, {len(failed)} not as they should be")
    to.write_text(page(outcomes))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
