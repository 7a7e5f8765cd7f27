"""``python -m bridged.entry PLAN CONFIG``: a bridge by a configuration file, which comes to the moment of a plan.

The plan is JSON, empty for none: ``moment``, ``passes``, ``number`` of a signal, and ``pid`` of the process that gets
it there, 0 for this one.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
from typing import Any

from soak.core import choose_core

choose_core()

from bridged.moments import COMMIT, MOMENTS, install  # noqa: E402  after the core is chosen
from eventbus.bridge import config, process  # noqa: E402
from eventbus.core.native import ffi, lib  # noqa: E402

FASTER = {"consumer": {"HEARTBEAT": 0.3}, "flow": {"LONGEST_PAUSE": 0.2}, "imports": {"LOOK_SECONDS": 0.2}}
"""What is waited for in seconds, shorter: there are many cases."""


def hurry() -> None:
    """Makes the pauses shorter."""
    for room, terms in FASTER.items():
        module = importlib.import_module(f"eventbus.bridge.{room}")
        for name, seconds in terms.items():
            assert hasattr(module, name), f"eventbus.bridge.{room} has no {name}"
            setattr(module, name, seconds)


def arm(plan: dict[str, Any]) -> None:
    """From now on what the plan says happens at its moment."""
    moment = MOMENTS[plan["moment"]]
    if moment.room == "core":
        names = [ffi.string(lib.eb_test_point_name(i)).decode() for i in range(lib.eb_test_point_count())]
        install(COMMIT, plan["passes"], lambda: lib.eb_test_arm(names.index(moment.name), plan["number"], 1))
    else:
        install(moment, plan["passes"], lambda: os.kill(plan["pid"] or os.getpid(), plan["number"]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    hurry()
    if sys.argv[1]:
        arm(json.loads(sys.argv[1]))
    sys.exit(asyncio.run(process.serve(config.load(sys.argv[2]))))
