"""The page that shows what came of a run of the matrix."""

from __future__ import annotations

from collections.abc import Mapping

from matrix import scene
from matrix.moments import MOMENTS
from matrix.rows import ROWS
from matrix.run import Case, all_cases
from matrix.scene import Role, Way

HEAD = """\
# The kill matrix

Made by `make kill-matrix`, which plays every cell below; the suite plays them too, and checks this page word for word.

Each row is a moment between two stores that others can see, at which a process dies: a test point of the core (the
list is in `csrc/points.h`) or, where the name is in *italics*, the return of a call that opening or closing makes in
Python. Each cell is what the process is doing there and a way to die: by SIGKILL; or by SIGSTOP, which holds it there
while the others work, and then by SIGKILL. *ok*: no event was half visible, lost, or doubled beyond what the row says,
and nobody was held up for longer than is stated. *-*: it does not come there; only those in the last column but one do.

While a process is *stopped*, just what it has is refused to the others, with an error when their time is up: `send`
while it has the publish lock (`UnavailableError`, which names it), `subscribe` while it has the roster's lock, `open`
and `close` while it stands in the door, a member's `receive` while it has the group's lock, and room in the ring while
its place is the slowest (`FullError`, which names it), be it for what it has yet to read or for what it looks at where
it lies. All else goes on, and that is asserted too: a member that has events in hand and looks at none of them, and has
no lock, keeps nobody from sending for laps, since they are parked. What others look at meanwhile, and after its death,
stays what it was.

Once it is *dead*, the others are held up for at most:

| what | at most |
| --- | --- |
| its lock, for the next who wants it | at once |
| the room that its slot holds back | {room:.0f} ms, for a publisher that waits |
| its jobs, while another member sleeps that watches | {redelivery:.0f} ms |
| a sleeper whom it would have woken, or for whom it watched | {own_look:.0f} s: nobody sleeps longer without looking |

The tests allow {slack:.0f} s more for a loaded machine.

"""


def table(outcomes: Mapping[Case, str]) -> list[list[str]]:
    """The rows of the table as texts, the head first."""
    head = ["dies at", *(f"{role.value}, {way.value}" for role in Role for way in Way), "who comes there", "others see"]
    return [head] + [
        [
            point,
            *(_cell(point, role, way, outcomes) for role in Role for way in Way),
            ROWS[point].only,
            ROWS[point].sees,
        ]
        for point in ROWS
    ]


def _cell(point: str, role: Role, way: Way, outcomes: Mapping[Case, str]) -> str:
    played = [case for case in outcomes if (case.point, case.role, case.way) == (point, role, way)]
    if not played:
        return "-"
    return "FAILED" if any(outcomes[case] for case in played) else "ok"


def page(outcomes: Mapping[Case, str]) -> str:
    """The page in Markdown."""
    bounds = {
        "room": (scene.ROOM - scene.SLACK) * 1000,
        "redelivery": (scene.REDELIVERY - scene.SLACK) * 1000,
        "own_look": scene.OWN_LOOK - scene.SLACK,
        "slack": scene.SLACK,
    }
    head, *rows = table(outcomes)
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for point, *cells in rows:
        shown = f"*{point}*" if point in MOMENTS else f"`{point}`"
        lines.append("| " + " | ".join([shown, *cells]) + " |")
    count = f"{len(ROWS)} moments, {len(all_cases())} deaths.\n"
    return HEAD.format(**bounds) + "\n".join(lines) + "\n\n" + count


def printed(outcomes: Mapping[Case, str]) -> str:
    """The table for a terminal: one letter for each role, small for SIGKILL and large for SIGSTOP in the head."""
    head = ["dies at", *(f"{role.value} {way.name.lower()}" for role in Role for way in Way)]
    rows = [head, *(row[:-2] for row in table(outcomes)[1:])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
