"""Draws how an event travels, and who writes what: ``python docs/site/travel.py > docs/travel.svg``."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

WIDTH, HEIGHT = 1000, 700
CELL, STRIP, TOP = 62, 196, 232  # of a record; where the first one begins
FIRST, COMMITTED = 41, 50
CURSORS = {"billing": (43, 120), "web": (45, 380), "render": (49, 640)}  # the next to read, and where the slot is

STEPS = (
    "takes the publish lock",
    "copies the record behind what is committed",
    "stores committed",
    "wakes who sleeps and is not deaf to the topic",
)
NOTE = (
    "each reads the ring from its cursor up to committed, many at once; role=“subscriber” maps the ring read-only.",
    "A publisher that finds the ring full waits for the slowest cursor, the gate: here that of billing.",
)

STYLE = """
svg { --paper: #ffffff; --ink: #1f2933; --faint: #66727f; --line: #c4ccd4; --ring: #e3f1fb; --roster: #fdf0dc;
  --publisher: #0b6bb0; --subscriber: #b45309; font: 14px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #1d232b; --ink: #e6eaee; --faint: #a3aeb9; --line: #4b5663;
  --ring: #17303f; --roster: #392c18; --publisher: #6cb8ee; --subscriber: #f0a955; } }
text { fill: var(--ink); } .faint { fill: var(--faint); font-size: 12.5px; } .title { font-weight: 600; }
.publisher { stroke: var(--publisher); fill: none; } .subscriber { stroke: var(--subscriber); fill: none; }
text.publisher { fill: var(--publisher); stroke: none; } text.subscriber { fill: var(--subscriber); stroke: none; }
.step { font-weight: 700; } .reads { stroke: var(--faint); stroke-dasharray: 4 4; fill: none; }
.box { fill: var(--paper); stroke: var(--line); } .mono { font-family: ui-monospace, monospace; font-size: 12.5px; }
"""


def box(x: float, y: float, width: float, height: float, style: str = 'class="box"') -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" {style}/>'


def text(x: float, y: float, said: str, style: str = "", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(said)}</text>'


def arrow(path: str, who: str) -> str:
    """A line with a head at its end, in the colour of whoever does it."""
    return f'<path d="{path}" class="{who}" stroke-width="1.8" marker-end="url(#{who})"/>'


def at(sequence: int) -> int:
    """Where its record begins."""
    return STRIP + (sequence - FIRST) * CELL


def heads() -> Iterator[str]:
    """The heads of arrows."""
    for who, colour in (("publisher", "publisher"), ("subscriber", "subscriber"), ("reads", "faint")):
        yield (
            f'<marker id="{who}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="var(--{colour})"/></marker>'
        )


def publisher() -> Iterator[str]:
    """Who sends, and in which steps."""
    yield box(20, 20, 960, 96)
    yield text(36, 44, "a publisher", "title")
    yield text(36, 64, 'bus.send("orders", "order.created", "/orders/1", {…})', "mono")
    yield text(36, 84, "the data is JSON by now, the topic a number", "faint")
    yield text(36, 102, "killed before step 3, it leaves nothing; after it, the whole event", "faint")
    for number, said in enumerate(STEPS):
        yield text(506, 46 + 20 * number, f"{number + 1}", "publisher step")
        yield text(522, 46 + 20 * number, said)


def ring() -> Iterator[str]:
    """The segment that publishers write."""
    yield box(20, 146, 960, 168, 'fill="var(--ring)" stroke="var(--publisher)"')
    yield text(STRIP, 170, "/dev/shm/eventbus.shop.ring", "title mono")
    yield text(430, 170, "written by publishers only", "publisher")
    for y, said in ((196, "publish lock"), (232, "topic table"), (268, "oldest, sequence")):
        yield box(36, y, 136, 28)
        yield text(104, y + 19, said, "", "middle")
    for sequence in range(FIRST, COMMITTED + 2):
        written = sequence <= COMMITTED
        style = 'class="box"' if written else 'class="publisher" stroke-dasharray="4 3"'
        yield box(at(sequence), TOP, CELL - 4, 38, style)
        yield text(
            at(sequence) + CELL / 2 - 2, TOP + 24, str(sequence), "mono" if written else "publisher mono", "middle"
        )
    yield text(at(FIRST), TOP - 12, "oldest", "faint")
    end = at(COMMITTED + 1) - 2
    yield f'<path d="M{end} {TOP - 18}V{TOP + 46}" class="publisher" stroke-width="2.5"/>'
    yield text(end - 6, TOP - 12, "committed", "publisher", "end")
    yield arrow("M104 116V192", "publisher") + text(112, 138, "1", "publisher step")
    yield arrow(f"M{at(51) + 34} 116V{TOP - 4}", "publisher") + text(at(51) + 42, 138, "2", "publisher step")
    yield arrow(f"M{end - 20} 116V{TOP - 28}", "publisher") + text(end - 36, 138, "3", "publisher step")


def roster() -> Iterator[str]:
    """The segment that all write."""
    yield box(20, 378, 960, 158, 'fill="var(--roster)" stroke="var(--subscriber)"')
    yield text(136, 402, "/dev/shm/eventbus.shop.roster", "title mono")
    yield text(400, 402, "written by everybody attached", "subscriber")
    for name, wakes in (("billing", "flag and semaphore"), ("web", "flag and doorbell")):
        x = CURSORS[name][1]
        yield box(x - 84, 418, 236, 98)
        yield text(x - 70, 438, f"slot of {name}", "title")
        yield text(x - 70, 458, f"cursor {CURSORS[name][0]}", "subscriber")
        yield text(x - 70, 478, wakes) + text(x - 70, 500, "a kernel lock says that it lives", "faint")
    x = CURSORS["render"][1]
    yield box(x - 84, 418, 408, 98)
    yield text(x - 70, 438, "slot of the group render", "title")
    yield text(x - 70, 458, f"cursor {CURSORS['render'][0]}, shared", "subscriber")
    yield text(x - 70, 478, "group lock and semaphore")
    yield text(x - 70, 500, "a dead member's claim goes to the next", "faint")
    for row, said in enumerate(("claims", "47 in hand of a", "48 in hand of b")):
        yield text(x + 176, 438 + 20 * row, said, "title" if row == 0 else "subscriber")


def subscribers() -> Iterator[str]:
    """Who receives, and in which steps."""
    rows = (
        (36, 236, "a subscriber, asleep in C", "for event in sub:"),
        (296, 236, "an event loop", "async for event in sub:"),
        (556, 408, "members a and b of a group", 'subscribe("jobs", group="render")'),
    )
    for x, width, who, code in rows:
        yield box(x, 590, width, 60)
        yield text(x + 14, 614, who, "title") + text(x + 14, 636, code, "mono")
    for name, (_, x) in CURSORS.items():
        yield arrow(f"M{x + 20} 590V520", "subscriber") + text(x + 28, 568, "6", "subscriber step")
        yield text(x + 44, 568, "claims, moves the cursor, acknowledges" if name == "render" else "moves its cursor")
        yield arrow(f"M{x - 64} 516V586", "publisher") + text(x - 56, 568, "4", "publisher step")
    yield text(36, 676, "5", "subscriber step")
    yield text(52, 676, NOTE[0], "faint") + text(52, 692, NOTE[1], "faint")


def cursors() -> Iterator[str]:
    """Where each reads next."""
    for name, (sequence, x) in CURSORS.items():
        to = at(sequence) + CELL / 2 - 2
        yield arrow(f"M{x} 414C{x} 350 {to} 380 {to} {TOP + 44}", "subscriber")
        yield text(to + 8, TOP + 66, name, "subscriber")
    yield text(at(FIRST), TOP + 66, "5 reads", "faint")


def drawing() -> str:
    """The whole of it."""
    parts = (publisher, ring, roster, cursors, subscribers)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'aria-label="How an event travels, and who writes what">',
            f"<style>{STYLE}</style>",
            f"<defs>{''.join(heads())}</defs>",
            box(0, 0, WIDTH, HEIGHT, 'fill="var(--paper)"'),
            *(line for part in parts for line in part()),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    print(drawing(), end="")
