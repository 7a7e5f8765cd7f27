"""Which build of the core is tested: ``eventbus`` takes the compiled module that is there before its first import."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def built(build: Path) -> Path:
    """The compiled module in a directory of ``build``."""
    return build / "eventbus" / "_eventbus.abi3.so"


def load(module: Path) -> None:
    """Puts the compiled modules of a build where ``eventbus`` will look for them."""
    for name in ("_eventbus", "_fast"):
        spec = importlib.util.spec_from_file_location(f"eventbus.{name}", module.with_name(f"{name}.abi3.so"))
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = loaded
        spec.loader.exec_module(loaded)
