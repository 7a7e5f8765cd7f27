"""One repetition from bus to bus: a burst, and what each part of the way spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from benchmarks.crew import Crew
from benchmarks.handshake import lead
from benchmarks.load import SYSTEM, JsonLoad
from benchmarks.loops.measure import send, take
from benchmarks.peer import Peer, Topology

if TYPE_CHECKING:
    from benchmarks.bridge.medium import Carried

_WARM_UP_EVENTS = 2_000
_FEWEST_EVENTS = 500


def burst(peer: Peer, events: int, seconds: float) -> dict[str, float]:
    """Measure how fast events come from one bus to the other that are sent at full speed.

    Args:
        peer: what carries them.
        events: how many.
        seconds: for how long at most: whom all of them would take longer, at the rate of the warm-up, gets fewer.

    Returns:
        The rate from the first send to the last arrival; CPU microseconds an event of each part.
    """
    load = JsonLoad()
    with peer.connect(Topology(1, (SYSTEM,), load.size)) as medium, Crew() as crew:
        crew.start(f"{peer.name} listener", take, medium, load)
        crew.start(f"{peer.name} publisher", send, medium, load)
        lead(crew)
        warm_up = min(_WARM_UP_EVENTS, events)
        spent, _ = _round(crew, cast("Carried", medium), warm_up)
        events = min(events, max(int(warm_up / spent * seconds), _FEWEST_EVENTS))
        spent, parts = _round(crew, cast("Carried", medium), events)
        crew.results()
    figures = {f"{part} µs": seconds / events * 1e6 for part, seconds in parts.items()}
    return {"events/s": events / spent, **figures, "events": events}


def _round(crew: Crew, medium: Carried, events: int) -> tuple[float, dict[str, float]]:
    """Return the seconds from the first send to the last arrival, and the CPU seconds of each part in them."""
    crew.meet("ready", events)
    before = medium.seconds_of_parts()
    last, first = crew.meet("complete")
    parts = {part: seconds - before[part] for part, seconds in medium.seconds_of_parts().items()}
    crew.gather("spent")
    return (last - first) / 1e9, parts
