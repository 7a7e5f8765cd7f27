"""Gaps: for how long nothing was done while there was something to do, and what befell the pool before."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from drill.plan import OUTAGE, RESTARTS
from drill.story import Story

BEFORE = "nothing yet"
AS_ALWAYS = ("charge", "resize", "page")
"""Handlers that have something to do all the time, and in every release."""


def longest_gaps(story: Story, done: dict[tuple[str, int], int]) -> dict[str, float]:
    """Seconds, the longest of all handlers, by what befell the pool last.

    Args:
        done: when each job was done for the first time, in nanoseconds.
    """
    restarts = sorted((at, what) for what, at in story.acts if what in RESTARTS)
    longest: dict[str, float] = {}
    for handler in AS_ALWAYS:
        sent = [one.at for one in story.sent if one.handler == handler]
        ends = [at for (of, _), at in done.items() if of == handler]
        for begin, end in _gaps(sent, ends):
            away = any(begin < back and end > went for went, back in story.outages)
            place = bisect.bisect(restarts, (end, "")) - 1
            why = OUTAGE if away else restarts[place][1] if place >= 0 else BEFORE
            longest[why] = max(longest.get(why, 0.0), (end - begin) / 1e9)
    return longest


def _gaps(sent: Iterable[int], done: Iterable[int]) -> list[tuple[int, int]]:
    """From one job that was done, or the first one that there was, to the next that was done."""
    found = []
    there, since = 0, 0
    for at, more in sorted([(at, 1) for at in sent] + [(at, -1) for at in done]):
        if more < 0:
            found.append((since, at))
        if more < 0 or there == 0:
            since = at
        there += more
    return found
