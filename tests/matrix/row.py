"""What a row of the matrix is: a moment, what the others see, and who comes to it and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from matrix.scene import Role, Scene


class Scenario(Protocol):
    """Leads a process to the moment, has it die there, and looks at the others."""

    @property
    def again(self) -> bool:
        """Whether it comes to the moment at least twice."""

    def __call__(self, scene: Scene) -> None:
        """Plays it; raises what is not as it should be."""


Scenarios = Scenario | tuple[Scenario, ...]


@dataclass(frozen=True)
class Row:
    """One moment.

    Attributes:
        sees: what the others see of somebody who dies there.
        only: who comes there, which is why the rest does not.
        cells: by role, the scenarios that lead there.
        patient: whether somebody sleeps for seconds in them.
    """

    sees: str
    only: str
    cells: dict[Role, tuple[Scenario, ...]]
    patient: bool


def row(
    sees: str,
    only: str,
    *,
    publisher: Scenarios = (),
    subscriber: Scenarios = (),
    member: Scenarios = (),
    opener: Scenarios = (),
    closer: Scenarios = (),
    patient: bool = False,
) -> Row:
    """A row; roles that are left out do not come there."""
    given = zip(Role, (publisher, subscriber, member, opener, closer), strict=True)
    cells = {role: one if isinstance(one, tuple) else (one,) for role, one in given if one != ()}
    return Row(sees, only, cells, patient)


def who_sends(
    sees: str, what: Scenario, *also: Scenario, bridge: Scenarios = (), closer: Scenarios = (), patient: bool = False
) -> Row:
    """A row of what everybody does who sends; ``also`` what a member does beside it, as one that sends a dead letter,
    ``bridge`` a publisher, as one that notes."""
    only = "whoever sends" if closer == () else "whoever sends or shuts the bus down"
    member, publisher = (what, *also), (what, *(bridge if isinstance(bridge, tuple) else (bridge,)))
    return row(sees, only, publisher=publisher, subscriber=what, member=member, closer=closer, patient=patient)
