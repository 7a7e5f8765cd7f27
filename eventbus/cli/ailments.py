"""What ``doctor`` looks at of buses: those that nobody uses, those that nobody can use, and who holds up the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eventbus.cli.host import Finding
from eventbus.cli.tables import holding
from eventbus.core.holders import SLOT_BYTE, locks
from eventbus.core.inspection import Inspection, inspect_bus
from eventbus.core.looking import looking
from eventbus.core.native import sweep_bells
from eventbus.core.segment import open_roster_file
from eventbus.core.stats import BusStats
from eventbus.errors import EventBusError

STOPPED = "Tt"  # states of a process that a signal or a debugger has stopped

_MENDS = {
    "abandoned": "'eventbus dump {name}' shows what it holds, 'eventbus gc {name}' removes it",
    "in the making": "let its maker go on (kill -CONT), or end it",
    "damaged": "remove it once nobody needs it: eventbus unlink {name}",
    "other version": "use the version that made it, or remove it once nobody needs it: eventbus unlink {name}",
    "not trusted": "have its owner make it anew with mode=0o600 or 0o660",
    "no permission": "look as its owner, or have the owner make it with mode=0o660",
}


def look_at_bus(name: str, asked: bool) -> Iterator[Finding]:
    """All that is wrong with a bus; ``asked``: it was asked for, so somebody needs to be let in."""
    about = inspect_bus(name)
    if about is None:
        return  # it went meanwhile
    if about.state in _MENDS and (asked or about.state != "no permission"):
        yield _unusable(about)
    yield from stopped(name)
    if about.stats is not None:
        yield from full(name, about.stats)


def _unusable(about: Inspection) -> Finding:
    why = {"abandoned": "everybody who was attached has died", "in the making": "its maker stands still"}
    reason = why.get(about.state) or about.reason.partition("; ")[0]
    problem = f"the bus {about.name!r} is {about.state}: {reason}"
    if about.state == "no permission":
        problem = f"uid {about.uid} lets this process not look at the bus {about.name!r}"
    return Finding(about.state.replace(" ", "-"), problem, _MENDS[about.state].format(name=about.name), about.name)


def stopped(name: str) -> Iterator[Finding]:
    """Processes that have locks of the bus and stand still, as after SIGSTOP or in a debugger."""
    held: dict[int, set[int]] = {}
    with suppress(OSError), open_roster_file(name) as file:  # where it cannot be opened, that is told as such
        held = {pid: those for pid, those in locks(file.fileno()).items() if _state(pid) in STOPPED}
    publisher = _publisher(name) if held else 0
    for pid, those in held.items():
        problem = f"process {pid} is stopped and {_what(those, pid == publisher)} of the bus {name!r}"
        yield Finding("stopped", problem, f"let it go on (kill -CONT {pid}), or end it (kill -9 {pid})", name)


def _publisher(name: str) -> int:
    """The pid of whoever is in the middle of sending; 0 for nobody, or where the bus cannot be looked at."""
    with suppress(OSError, EventBusError), looking(name) as seen:
        return seen.lock_holder() if seen.publishing else 0
    return 0


def _what(held: set[int], publishes: bool) -> str:
    """What a process has that stands still, the worst first."""
    if publishes:
        return "keeps the lock of whoever sends, so nobody else can,"
    if any(byte < SLOT_BYTE for byte in held):
        return "keeps the lock of whoever opens, leaves or subscribes, so nobody else can,"
    return "still a user"


def _state(pid: int) -> str:
    """One letter; nothing of a process that has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def full(name: str, stats: BusStats) -> Iterator[Finding]:
    """Who holds the ring, if it is full; and whether all slots are taken."""
    held = holding(stats)
    if held is not None and held.share >= 0.75:
        problem = f"the ring of the bus {name!r} is full, because {held.who}"
        yield Finding("full", problem, held.remedy, name)
    taken = len(stats.subscribers) + len(stats.groups)
    if taken >= stats.max_subscribers:
        problem = f"all {taken} subscriber slots of the bus {name!r} are taken"
        yield Finding("slots", problem, "close subscriptions, or make it anew with a larger max_subscribers", name)


def doorbells() -> Iterator[Finding]:
    """Files of event loops whose process is dead."""
    if left := sweep_bells(True):
        yield Finding("doorbells", f"{left} doorbells are left at which nobody answers", "remove them: eventbus gc")
