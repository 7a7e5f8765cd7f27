"""The subject in uvloop's event loop."""

from __future__ import annotations

from functools import partial

import uvloop

from benchmarks.loops.bus import LoopMedium

connect = partial(LoopMedium, new_loop=uvloop.new_event_loop)
