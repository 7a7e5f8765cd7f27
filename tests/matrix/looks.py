"""The rows of who looks at raw data where they lie, and what others do at their own moments while somebody looks."""

from __future__ import annotations

from dataclasses import replace

from matrix.row import Row, Scenario, row
from matrix.scene import Hold, Role
from matrix.viewing import Crowding, Ending, Looking, Showing

PUBLISH = Hold.PUBLISH
A_VIEWER = "a subscriber that looks at raw data where they lie"
_looking = row("nothing", A_VIEWER, subscriber=Looking())
_copying = row("nothing", A_VIEWER, subscriber=(Looking(), Crowding(), Ending(again=True), Ending(forks=True)))
_showing = Showing(hold=PUBLISH)
_shown = Showing(hold=PUBLISH, sent=True)
_unlocked = Showing(sent=True)
_mourning = replace(_showing, owner_dead=True, again=False)
_waiting = Showing(again=False)
_gone = (Ending(Hold.NOTHING),)
_crowding = Crowding(), Crowding(gives_back=True)
_making_room = Crowding(freed=True), Crowding(freed=True, gives_back=True)

LOOKS = {
    "window_mapped": _looking,
    "view_added": _looking,
    "view_lent": _looking,
    "view_asked": row("nothing", A_VIEWER, subscriber=(Looking(), Crowding())),
    "copy_filled": _copying,
    "copy_placed": _copying,
    "export_ended": row("nothing", A_VIEWER, subscriber=(Looking(), Crowding(gives_back=True), Ending())),
    "window_unmapped": _looking,
    "views_ended": row("nothing; its slot is reaped", A_VIEWER, subscriber=Ending()),
}
"""The moments that nobody else comes to."""

_viewers: dict[str, tuple[Scenario, ...]] = {
    "receive_read": (Looking(),),
    "receive_copied": (Looking(), *_crowding),
    "receive_counted": (Looking(), *_crowding),
    "receive_advanced": (Looking(), *_making_room),
    "event_lowered": _making_room,
    "event_raised": _making_room,
    "slot_vacated": _gone,
    "slot_freed": _gone,
    "slot_left": _gone,
    "child_attached": (Ending(forks=True),),
}
_publishers: dict[str, tuple[Scenario, ...]] = {
    "lock_taken": (_showing,),
    "publish_locked": (_showing,),
    "repair_taken": (_mourning,),
    "repair_mended": (_mourning,),
    "publish_gated": (replace(_showing, again=False),),
    "oldest_moved": (_showing,),
    "publish_claimed": (_showing,),
    "publish_header": (_showing,),
    "publish_copied": (_showing,),
    "publish_committed": (_shown,),
    "event_counted": (_shown,),
    "publish_counted": (_shown,),
    "lock_released": (_unlocked,),
    "publish_unlocked": (_unlocked,),
    "space_wanted": (_waiting,),
    "event_flagged": (_waiting,),
}


def with_looks(rows: dict[str, Row]) -> dict[str, Row]:
    """The rows, with what viewers do at moments that others come to as well, and publishers while somebody looks."""
    more = {Role.SUBSCRIBER: _viewers, Role.PUBLISHER: _publishers}
    return {
        point: replace(
            one, cells={role: cells + more.get(role, {}).get(point, ()) for role, cells in one.cells.items()}
        )
        for point, one in rows.items()
    }
