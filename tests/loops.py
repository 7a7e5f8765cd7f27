"""Event loops of each kind that there is, as tests run something in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import pytest

from harness import DEADLINE

NewLoop = Callable[[], asyncio.AbstractEventLoop]
KINDS = ["asyncio", "uvloop"]

if HAS_UVLOOP := find_spec("uvloop") is not None:
    import uvloop

    uvloop.new_event_loop().close()  # the first one opens a pipe that stays as long as the process


def maker(kind: str) -> NewLoop:
    """What makes event loops of that kind."""
    if kind == "asyncio":
        return asyncio.new_event_loop
    if not HAS_UVLOOP:
        pytest.skip("uvloop does not install here")
    return uvloop.new_event_loop


def run(new_loop: NewLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """What comes of it in an event loop of its own, which is closed then, whoever waits in it."""
    loop = new_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(main, DEADLINE))
    finally:
        loop.close()
