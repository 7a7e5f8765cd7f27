"""Which build of the core the soak runs: the released one, or one from a directory of ``build``."""

from __future__ import annotations

import os
from pathlib import Path

from core import built, load


def choose_core() -> None:
    """Puts the build named by EVENTBUS_BUILD, if any, where ``eventbus`` will look for its compiled module."""
    if build := os.environ.get("EVENTBUS_BUILD"):
        load(built(Path(build).resolve()))
