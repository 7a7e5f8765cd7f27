"""Which build of the core the soak runs: the released one, or one from a directory of ``build``."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def choose_core() -> None:
    """Puts the build named by EVENTBUS_BUILD, if any, where ``eventbus`` will look for its compiled module."""
    build = os.environ.get("EVENTBUS_BUILD")
    if not build:
        return
    built = Path(build).resolve() / "eventbus" / "_eventbus.abi3.so"
    spec = importlib.util.spec_from_file_location("eventbus._eventbus", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["eventbus._eventbus"] = module
    spec.loader.exec_module(module)
