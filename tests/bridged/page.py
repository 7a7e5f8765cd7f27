"""The page that shows what came of a run of the bridge's matrix."""

from __future__ import annotations

from collections.abc import Mapping

from bridged.cases import HELD, Case, Fate
from bridged.moments import MOMENTS
from bridged.scenes import SCENES
from nats_server import programs, version_of

HEAD = """\
# The bridge's kill matrix

Made by `make bridge-matrix`, which plays every cell below, each with one of the nats-servers that it found
({servers}). The suite plays some of them.

Two buses, a server, a bridge that exports from the one and a bridge that imports into the other; events flow, and
somebody comes to a moment. There the bridge or the server dies by SIGKILL, or stands still for {held:g} s, longer than
anybody waits for an answer. More events are sent; who died is started again; more events are sent. A ledger outside of
both buses has what was sent and what arrived: *ok* says that all arrived whole, once, in the order in which they were
sent. *-*: what the core does amid a commit is nothing to the server.

"""

BETWEEN = """
What else may happen to servers, streams, networks and rings, while both bridges are at work:

"""


def page(outcomes: Mapping[Case, str]) -> str:
    """The page in Markdown."""
    servers = " and ".join(map(version_of, programs()))
    lines = [HEAD.format(held=HELD, servers=servers) + _row("moment", "what is done", *(fate.value for fate in Fate))]
    lines.append(_row(*["---"] * (2 + len(Fate))))
    for name, moment in MOMENTS.items():
        says = f"{moment.who}: {moment.says}"
        lines.append(_row(f"*{name}*", says, *(_cell(outcomes, Case(name, fate)) for fate in Fate)))
    lines.append(BETWEEN + _row("scene", "what happens", "what becomes of the events", "played"))
    lines.append(_row(*["---"] * 4))
    for name, scene in SCENES.items():
        told = " ".join((scene.play.__doc__ or "").split())
        lines.append(_row(f"*{name}*", told, scene.says, _cell(outcomes, Case(name, None))))
    return "\n".join(lines) + f"\n\n{len(outcomes)} cases.\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(outcomes: Mapping[Case, str], case: Case) -> str:
    return "-" if case not in outcomes else "FAILED" if outcomes[case] else "ok"
