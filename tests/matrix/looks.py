"""The rows of who looks at raw data where they lie, and what others do at their own moments while somebody looks."""

from __future__ import annotations

from dataclasses import replace

from matrix.relenting import Reaping, Relenting, Why
from matrix.row import Row, Scenario, row
from matrix.scene import Hold, Role
from matrix.sharing import Disbanding, Parting, Resting, Sharing, SharingByHand, TooLate
from matrix.viewing import Crowding, Ending, Looking, Showing

PUBLISH, NOTHING = Hold.PUBLISH, Hold.NOTHING
A_VIEWER = "who looks at raw data where they lie"
A_MEMBER = "a member that looks at raw data where they lie"
AGAIN = "its jobs come again, those that were handed out with one delivery more"
SEEN = f"nothing; of a member, {AGAIN}"
_ended = Looking(), Crowding(gives_back=True), Ending()
_copied = Looking(), Crowding(), Ending(again=True), Ending(forks=True)
_copied_of_a_member = (
    *(
        Sharing(keeps=True),
        SharingByHand(),
        Resting(),
        Resting(dozing=True),
        Parting(),
        Parting(forks=True),
        Parting(kept=True),
    ),
    *(Relenting(Why.ASK), Relenting(Why.SLEEP)),
)
_over = tuple(Relenting(why, freed=True, done=why is not Why.DONE) for why in Why)
_told = tuple(Relenting(why, freed=True) for why in Why)
_showing = Showing(hold=PUBLISH)
_shown = Showing(hold=PUBLISH, sent=True)
_unlocked = Showing(sent=True)
_mourning = replace(_showing, owner_dead=True, again=False)
_waiting = Showing(again=False)
_gone = (Ending(Hold.NOTHING),)
_crowding = Crowding(), Crowding(gives_back=True)
_making_room = Crowding(freed=True), Crowding(freed=True, gives_back=True)

LOOKS = {
    "window_mapped": row(SEEN, A_VIEWER, subscriber=Looking(), member=Sharing(NOTHING)),
    "look_moved": row(
        AGAIN, A_MEMBER, member=(Sharing(NOTHING), Sharing(keeps=True, late=True), SharingByHand(again=False))
    ),
    "look_gated": row(AGAIN, A_MEMBER, member=(Sharing(), TooLate())),
    "view_added": row(
        SEEN, A_VIEWER, subscriber=Looking(), member=(Sharing(), Sharing(prefetch=3, marked=2), TooLate())
    ),
    "look_over": row(
        AGAIN,
        A_MEMBER,
        member=(
            Sharing(NOTHING, again=False),
            SharingByHand(NOTHING, again=False),
            Resting(NOTHING),
            Resting(NOTHING, dozing=True),
            TooLate(),
            *_over,
        ),
    ),
    "view_lent": row(
        SEEN, A_VIEWER, subscriber=Looking(), member=(Sharing(marked=1), Sharing(prefetch=3, marked=1), TooLate(True))
    ),
    "view_asked": row(
        "nothing", "a subscriber that looks at raw data where they lie", subscriber=(Looking(), Crowding())
    ),
    "copy_filled": row(SEEN, A_VIEWER, subscriber=_copied, member=_copied_of_a_member),
    "copy_placed": row(SEEN, A_VIEWER, subscriber=_copied, member=_copied_of_a_member),
    "export_ended": row(SEEN, A_VIEWER, subscriber=_ended, member=(Sharing(again=False), Relenting(Why.LET_GO))),
    "window_unmapped": row(SEEN, A_VIEWER, subscriber=Looking(), member=Sharing(keeps=True, again=False)),
    "views_ended": row(
        "the same; its slot is reaped", A_VIEWER, subscriber=Ending(), member=(Parting(NOTHING), Parting(kept=True))
    ),
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

_shared = replace(_showing, shared=True)
_parking = replace(_shared, parked=True)
_beside_members: dict[str, tuple[Scenario, ...]] = {
    "repair_taken": (replace(_mourning, shared=True),),
    "repair_mended": (replace(_mourning, shared=True),),
    "reap_found": (Reaping(freed=False),),
    "slot_vacated": (Reaping(),),
    "slot_freed": (Reaping(),),
    "reap_freed": (Reaping(),),
    "roster_unlocked": (Reaping(NOTHING),),
    "bystander_group": (replace(_shared, again=False),),
    "bystander_gate": (replace(_shared, again=False),),
    "bystander_moved": (replace(_shared, again=False),),
    "parked_copied": (_parking,),
    "parked_moved": (_parking,),
    "parked_gate": (replace(_parking, again=False),),
    "publish_gated": (replace(_shared, again=False),),
    "oldest_moved": (_shared,),
    "publish_claimed": (_shared,),
    "publish_copied": (_shared,),
    "publish_committed": (replace(_shown, shared=True),),
    "publish_unlocked": (replace(_unlocked, shared=True),),
    "space_wanted": (replace(_waiting, shared=True),),
    "event_flagged": (replace(_waiting, shared=True),),
}
_parted = Parting(NOTHING), Parting(NOTHING, kept=True)
_removing = (Disbanding(),)
_members: dict[str, tuple[Scenario, ...]] = {
    "event_lowered": _told,
    "event_raised": _told,
    "slot_vacated": _parted,
    "slot_freed": _parted,
    "slot_left": _parted,
    "group_removed": _removing,
    "gate_withdrawn": _removing,
    "members_woken": _removing,
    "claim_copied": (Sharing(), Sharing(prefetch=3, marked=2), TooLate()),
    "claim_handed_out": (Sharing(marked=1), Sharing(prefetch=3, marked=1), TooLate(True)),
    "claim_finished": (
        *(Sharing(NOTHING), Sharing(keeps=True), SharingByHand(whole=True)),
        Relenting(Why.DONE, freed=True),
    ),
    "room_made": (Relenting(Why.DONE, freed=True), Relenting(Why.LET_GO, freed=True)),
    "claim_due": (Sharing(NOTHING), Sharing(keeps=True)),
    "claim_returned": (Sharing(NOTHING), Sharing(keeps=True)),
    "child_attached": (Parting(NOTHING, forks=True, kept=True),),
}


def with_looks(rows: dict[str, Row]) -> dict[str, Row]:
    """The rows, with what viewers do at moments that others come to as well, and publishers while somebody looks."""
    more = (
        (Role.SUBSCRIBER, _viewers),
        (Role.MEMBER, _members),
        (Role.PUBLISHER, _publishers),
        (Role.PUBLISHER, _beside_members),
    )
    for role, scenes in more:
        for point, also in scenes.items():
            one = rows[point]
            rows[point] = replace(one, cells=one.cells | {role: one.cells[role] + also})
    return rows
