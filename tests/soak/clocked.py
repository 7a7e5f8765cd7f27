"""An actor as a program of its own: ``python -m soak.clocked FILE``, started under a clock that jumps."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from soak.core import choose_core

choose_core()

from soak.actors import Stage, live  # noqa: E402  after the core is chosen
from soak.guests import perform  # noqa: E402

path = Path(sys.argv[1])
plan, name, actor = pickle.loads(path.read_bytes())
live(Stage(plan, name, path.parent), actor, perform)
