"""The matrix: for each moment what the others see, who comes to it and how, and why nobody else does."""

from __future__ import annotations

from dataclasses import replace

from matrix.closing import Handing, LastOut, Leaving, LeavingWithJobs, Removing
from matrix.forking import Forking
from matrix.groups import Burying, Changing, Contending, Dissolving, Making, Withdrawing
from matrix.looks import LOOKS, with_looks
from matrix.manual import ByHand
from matrix.opening import Opening, Repairing
from matrix.paging import Paging
from matrix.receiving import Deciding, Freeing, Joining, Receiving
from matrix.row import Row, row, who_sends
from matrix.scene import Hold, Role
from matrix.scheduling import Keeping, PuttingOff
from matrix.sending import Closing, Queueing, Sending, Waiting
from matrix.sleeps import SLEEPS
from matrix.turns import TakingTurns
from matrix.working import MakingRoom, PassingOn, Returning, Watching, Working

DOOR, ROSTER, PUBLISH, GROUP, GATE = Hold.DOOR, Hold.ROSTER, Hold.PUBLISH, Hold.GROUP, Hold.GATE
NOTHING_SENT = "nothing; the next owner takes the lock over"
LOCK_PASSES = "nothing; the next takes the lock over"
WHOLE = "the whole event"
PLACE = "its place among those who wait for room, for a tenth of a second"
FREE_SLOT = "nothing; its slot is taken or reaped by the next"
AGAIN = "its jobs come again, as if it had not claimed them"
COUNTED = "its jobs come again, those that were handed out with one delivery more"
START_OVER = "nothing; the next to open it starts over"
A_BRIDGE = "a bridge, which notes how far it has come"
REPAIRED_AGAIN = "nothing; the next to open it repairs it again"

_locked = Sending(hold=PUBLISH)
_visible = Sending(hold=PUBLISH, sent=True)
_mourning = Sending(hold=PUBLISH, owner_dead=True, again=False)
_noting = Sending(hold=PUBLISH, noted=True)
_lapping = Sending(hold=PUBLISH, lapped=True, full=True)
_moving = Sending(hold=PUBLISH, lapped=True, full=True, bystanders=True, again=False)
_counting = _visible, Sending(hold=PUBLISH, owner_dead=True)
_unwoken = Sending(sent=True, sleepers=True, unwoken=True)
_unrung = replace(_unwoken, dozing=True)
_reaping = Waiting(ROSTER, freed=True)
_closing = Closing(PUBLISH, closed=False)
_closing_after_a_death = Closing(PUBLISH, closed=False, owner_dead=True)
_unscheduled = Sending(hold=PUBLISH, later=True)
_scheduled = Sending(hold=PUBLISH, later=True, kept=True)
_fired = Sending(hold=PUBLISH, later=True, sent=True)
_late = Sending(later=True, sent=True)
_working = Working(hold=GROUP | GATE), Working(hold=GROUP | GATE, prefetch=3)
_working_once = tuple(Working(hold=GROUP | GATE, prefetch=one, again=False) for one in (1, 3))
_free = Working(), Working(prefetch=3)
_reading = Working(), Working(prefetch=3, marked=2), ByHand(marked=2)
_handed_out = Working(marked=1), Working(prefetch=3, marked=1), ByHand(marked=1, again=False)
_burying = Working(hold=GROUP | GATE, other="claim_held", aged=True, again=False)
_paging = Working(hold=GROUP | GATE, again=False), Paging()
_making = Making(ROSTER)
_inheriting = Making(ROSTER, left=True, again=True)
_placing = Making(PUBLISH | ROSTER)
_opening = Opening()
_joining_bus = Opening(used=True)


def _parking(sees: str, again: bool = True) -> Row:
    """A row of somebody who parks what a member has in hand, who lives on or dies."""
    scenes = tuple(
        Sending(hold=PUBLISH, full=True, parked=True, orphaned=orphaned, again=again) for orphaned in (False, True)
    )
    return row(sees, "whoever sends", publisher=scenes, subscriber=scenes, member=scenes)


# Rows of more than one moment.
_keeps = "whoever sleeps until something is due"
_keeping = row("the event, sent by who looks next", _keeps, subscriber=Keeping(), member=Keeping(), patient=True)
_told = row(
    "nothing; whoever waits looks by itself",
    "whoever makes room, frees a slot or unlocks a group",
    publisher=Waiting(told=True, freed=True, again=False),
    subscriber=(Joining(place=True, told=True, again=False), Freeing()),
    member=(Joining(told=True, again=False), Contending()),
    closer=(Leaving(GATE, told=True), Closing(told=True)),
    patient=True,
)
_vacated = row(
    "a free slot",
    "whoever leaves or reaps",
    publisher=_reaping,
    subscriber=(Joining(), _reaping),
    member=(Joining(), _reaping),
    closer=Leaving(GATE),
)
_slot_taken = row(FREE_SLOT, "whoever joins", subscriber=Joining(ROSTER), member=(Joining(ROSTER), _making))
_read = row("nothing", "a subscriber that reads for itself", subscriber=Receiving())
_group_placed = row("no group; its slot is reaped", "whoever makes a group", member=_placing)
_taken_over = row(
    LOCK_PASSES,
    "a member after a dead one, or who repairs",
    member=Working(hold=GROUP | GATE, other="claim_held", again=False),
    opener=Repairing(again=False),
)
_claim_begun = row("nothing: the claim is nobody's", "a member", member=_working)
_claimed = row(AGAIN, "a member", member=_working)
_given_back = row(
    COUNTED + ", at once",
    "a member, or who repairs",
    member=(*_free, _burying, ByHand()),
    opener=Repairing(again=False),
    closer=LeavingWithJobs(),
)
_page_back = row("nothing; the page is given back by the next", "a member", member=Paging(back=True))
_watch_changed = row(
    "nothing; another member looks by itself", "a member beside a working one", member=Watching(), patient=True
)
_made = row(START_OVER, "whoever makes a bus", opener=_opening)
_repaired = row(REPAIRED_AGAIN, "whoever repairs", opener=Repairing(again=False))

ROWS = {
    # --- send ---
    "lock_taken": who_sends(NOTHING_SENT, _locked, closer=_closing),
    "publish_locked": who_sends(NOTHING_SENT, _locked, closer=_closing),
    "lock_woken": row(
        "nothing; the lock stays with its owner",
        "whoever waits for the publish lock",
        publisher=Queueing(),
        subscriber=Queueing(),
        member=Queueing(),
    ),
    "repair_taken": who_sends(
        "nothing; the next owner repairs as if nobody had begun", _mourning, closer=_closing_after_a_death
    ),
    "repair_mended": who_sends(
        "nothing; the next owner finds nothing left to repair", _mourning, closer=_closing_after_a_death
    ),
    "bystander_group": who_sends(NOTHING_SENT, _moving),
    "bystander_gate": who_sends(NOTHING_SENT, _moving),
    "bystander_moved": who_sends(NOTHING_SENT, _moving),
    "parked_copied": _parking("nothing; no claim names the copy"),
    "parked_moved": _parking("the event of a claim, parked; the next owner computes the gate anew"),
    "parked_gate": _parking("the room that the claim held", again=False),
    "publish_gated": who_sends(NOTHING_SENT, _lapping),
    "oldest_moved": who_sends("fewer old events, which nobody needed", _lapping),
    "publish_claimed": who_sends(NOTHING_SENT, _locked),
    "note_named": row("a name without a note", A_BRIDGE, publisher=Sending(hold=PUBLISH, noted=True, again=False)),
    "note_written": row("the note before, if there was one", A_BRIDGE, publisher=_noting),
    "note_numbered": row("the note before: the next owner takes this one back", A_BRIDGE, publisher=_noting),
    "publish_header": who_sends(NOTHING_SENT, _locked),
    "publish_copied": who_sends(NOTHING_SENT, _locked, Burying(1, PUBLISH), bridge=(_noting,)),
    "publish_committed": who_sends(WHOLE, _visible, Burying(2, PUBLISH), bridge=(replace(_noting, sent=True),)),
    "event_counted": row(
        "exact counts: the next owner counts what lacks",
        "whoever sends, or repairs after one who did",
        publisher=_counting,
        subscriber=_counting,
        member=_counting,
        opener=Repairing(),
        closer=_closing_after_a_death,
    ),
    "publish_counted": who_sends(WHOLE, _visible),
    "lock_released": who_sends(
        WHOLE + "; whoever waits for the lock looks by itself", Sending(sent=True), closer=Closing(), patient=True
    ),
    "publish_unlocked": who_sends(WHOLE + "; sleepers are woken by the next", Sending(sent=True), Burying(2)),
    "wake_lowered": who_sends(
        WHOLE + "; the sleeper looks by itself",
        _unwoken,
        bridge=_unrung,
        closer=(Closing(), Closing(dozing=True)),
        patient=True,
    ),
    "semaphore_raised": row(
        "the same",
        "whoever wakes somebody",
        publisher=_unwoken,
        subscriber=_unwoken,
        member=(_unwoken, Returning(), Returning(dozing=True)),
        closer=(Closing(), Handing()),
        patient=True,
    ),
    "wake_posted": who_sends(
        WHOLE + "; a loop looks by itself", Sending(sent=True, sleepers=True), _unrung, closer=Closing(), patient=True
    ),
    "topic_written": who_sends("nothing; its place in the table is used by the next", Sending(hold=PUBLISH, new=True)),
    "topic_shown": who_sends("a topic without events", Sending(hold=PUBLISH, new=True)),
    "shutdown_stored": row(
        "a closed bus; who sleeps looks by itself",
        "whoever shuts the bus down",
        closer=Closing(PUBLISH),
        patient=True,
    ),
    "shutdown_unlocked": row("the same", "whoever shuts the bus down", closer=Closing(), patient=True),
    # --- send later ---
    "schedule_copied": who_sends("nothing; no entry names the copy", _unscheduled),
    "schedule_written": who_sends("nothing; the entry is used by the next", _unscheduled),
    "schedule_used": who_sends("the same", _unscheduled),
    "schedule_numbered": who_sends("the same; the number is nobody's", _unscheduled),
    "schedule_look": who_sends("the same; somebody looks without need", _unscheduled),
    "schedule_stored": who_sends("the event, to be sent later", _scheduled),
    "schedule_unlocked": who_sends("the same; a sleeper looks by itself", _late),
    "schedule_intended": who_sends("the event, to be sent by the next", _scheduled),
    "schedule_committed": who_sends(WHOLE + "; the next owner takes its entry away", _fired),
    "schedule_freed": who_sends(WHOLE, _fired),
    "schedule_settled": who_sends(WHOLE, _fired),
    "schedule_overdue": who_sends("the event, to be sent by the next who finds room", PuttingOff()),
    "schedule_put_off": who_sends("the same", PuttingOff()),
    "schedule_told": who_sends(WHOLE + "; sleepers are woken by the next", _late),
    # --- wait for room, tell that there is some ---
    "turn_counted": who_sends(NOTHING_SENT, TakingTurns()),
    "turn_taken": who_sends(PLACE, TakingTurns()),
    "turn_left": who_sends(WHOLE, TakingTurns(sent=True)),
    "space_wanted": who_sends("nothing", Waiting()),
    "event_flagged": row(
        "nothing; somebody is told once without need",
        "whoever waits for room, or for a group's lock",
        publisher=Waiting(),
        subscriber=Waiting(),
        member=(Waiting(), Contending(waits=True)),
    ),
    "event_lowered": _told,
    "event_raised": replace(_told, sees="the same"),
    # --- slots ---
    "roster_locked": row(
        "nothing; the kernel gives the lock back",
        "whoever joins, makes or removes a group, or reaps",
        publisher=_reaping,
        subscriber=(Joining(ROSTER), _reaping),
        member=(Joining(ROSTER), Making(ROSTER, again=False)),
    ),
    "reap_found": who_sends("nothing; the next reaps", Waiting(ROSTER)),
    "slot_vacated": _vacated,
    "slot_freed": _vacated,
    "reap_freed": who_sends("a free slot", _reaping),
    "roster_unlocked": row(
        FREE_SLOT,
        "whoever joined, made or removed a group, or reaped",
        publisher=Waiting(),
        subscriber=(Joining(place=True), Waiting()),
        member=(Joining(), Waiting()),
    ),
    "slot_left": row("a free slot", "whoever leaves", subscriber=Joining(), member=Joining(), closer=Leaving(GATE)),
    "slot_locked": _slot_taken,
    "slot_claimed": _slot_taken,
    "slot_counted": _slot_taken,
    "slot_cursor": row(FREE_SLOT, "whoever joins", subscriber=Joining(ROSTER), member=(Joining(ROSTER), _placing)),
    "slot_open": row(
        FREE_SLOT, "whoever joins", subscriber=Joining(ROSTER, place=True), member=(Joining(ROSTER), _placing)
    ),
    "slot_settled": row(
        FREE_SLOT,
        "whoever joins while others send",
        subscriber=Joining(ROSTER, place=True, moved=True),
        member=Joining(ROSTER, moved=True),
    ),
    "slot_placed": row(FREE_SLOT, "whoever joins", subscriber=Joining(ROSTER, place=True), member=Joining(ROSTER)),
    # --- receive ---
    "topic_decided": row("nothing", "whoever receives", subscriber=Deciding(), member=Deciding()),
    "receive_read": _read,
    "receive_copied": _read,
    "receive_counted": _read,
    "receive_advanced": _read,
    **LOOKS,
    # --- sleep, and doze in event loops ---
    **SLEEPS,
    # --- make a group ---
    "group_written": row("no group; the next makes it", "whoever makes a group", member=_making),
    "group_slot": _group_placed,
    "group_gated": _group_placed,
    "group_cursor": _group_placed,
    "group_placed": row("no group; its slot is reaped", "whoever makes a group", member=Making(ROSTER | GATE)),
    "group_opened": row("the whole group", "whoever makes a group", member=Making(ROSTER | GATE, opened=True)),
    # --- change it, remove it ---
    "group_changed": row("the group as it was changed", "whoever changes a group", member=Changing()),
    "group_removed": row(
        "no group; whoever waits for room reaps its slot; its members look by themselves",
        "whoever removes a group",
        member=Dissolving(ROSTER | GATE),
        patient=True,
    ),
    "gate_withdrawn": row(
        "no group, and the room that it held; its members look by themselves",
        "whoever removes a group, or waits for room after one who did",
        publisher=Withdrawing(),
        member=Dissolving(ROSTER),
        patient=True,
    ),
    "members_woken": row("the same", "whoever removes a group", member=Dissolving(ROSTER)),
    "page_emptied": row("no group; the next maker empties the page", "whoever makes a group", member=_inheriting),
    "page_dropped": row("no group, and a page that is nobody's", "whoever makes a group", member=_inheriting),
    # --- work ---
    "group_locked": row(LOCK_PASSES, "a member", member=_working),
    "group_taken_over": replace(_taken_over, sees=LOCK_PASSES + " and mends"),
    "group_mended": _taken_over,
    "group_unlocked": row(AGAIN, "a member", member=_free),
    "bury_stamped": row("nothing", "a member", member=_working_once),
    "asleep_cleared": row("nothing", "a member", member=Working(hold=GROUP | GATE, other="asleep", again=False)),
    "cursor_skipped": row(
        "nothing", "a member", member=Working(hold=GROUP | GATE, unheard=True, again=False), patient=True
    ),
    "page_unlisted": _page_back,
    "page_given_back": replace(_page_back, sees="a page that is nobody's"),
    "page_taken": row("a page that the next owner of the lock lists", "a member", member=_paging),
    "page_listed": row("a page of the group's without claims", "a member", member=_paging),
    "claim_written": _claim_begun,
    "claim_used": _claim_begun,
    "claim_held": _claimed,
    "claim_cursor": _claimed,
    "claim_gated": _claimed,
    "claim_adopted": _claimed,
    "claim_deliveries": _claimed,
    "claim_counted": _claimed,
    "waiter_passed": row(AGAIN, "a member beside a sleeping one", member=PassingOn(), patient=True),
    "claim_copied": row(COUNTED, "a member", member=_reading),
    "claim_handed_out": row(COUNTED + ", as the first that it has read", "a member", member=_handed_out),
    "claim_finished": row(
        "the job is done",
        "a member",
        member=(*_free, Burying(1), ByHand(whole=True)),
        closer=(LeavingWithJobs(), LeavingWithJobs(prefetch=1)),
    ),
    "room_made": row("the jobs are done, and room", "a member that publishers wait for", member=MakingRoom()),
    "claim_due": _given_back,
    "claim_returned": replace(
        _given_back,
        sees="the job is taken by the next, once it is due",
        cells=_given_back.cells | {Role.MEMBER: (*_free, _burying, ByHand(whole=True), ByHand(whole=True, delay=0.5))},
    ),
    "dead_counted": row("the dead letter, once", "a member", member=Burying(1)),
    "watch_set": _watch_changed,
    "watch_cleared": _watch_changed,
    "keeper_set": _keeping,
    "keeper_cleared": _keeping,
    # --- open ---
    "roster_made": row(START_OVER, "whoever makes a bus", opener=Opening(Hold.NOTHING)),
    "door_entered": row(
        "nothing; the kernel opens the door",
        "whoever opens or leaves",
        opener=(_opening, _joining_bus, Opening(abandoned=True)),
        closer=(Leaving(DOOR), LastOut()),
    ),
    "looked_up_again": row("nothing", "whoever opens", opener=(_opening, _joining_bus)),
    "stray_ring_unlinked": row(
        START_OVER,
        "whoever finds a ring alone, or removes a bus by its name",
        opener=Opening(headless=True),
        closer=Removing(),
    ),
    "ring_made": _made,
    "ring_sized": _made,
    "roster_sized": _made,
    "attached": row("nothing", "whoever opens", opener=(_opening, _joining_bus)),
    "publisher_entered": row("nothing", "whoever opens and may send", opener=(_opening, _joining_bus)),
    "ring_mode_set": _made,
    "roster_mode_set": _made,
    "format_ring_sized": _made,
    "format_locked": _made,
    "format_written": row(START_OVER, "whoever makes a bus", opener=Opening(again=True)),
    "format_ring_signed": _made,
    "format_roster_signed": row("a bus that nobody is on", "whoever makes a bus", opener=_opening),
    "persist_stored": row(
        "a bus that stays",
        "whoever opens with persist=True",
        opener=(Opening(persist=True), Opening(used=True, persist=True)),
    ),
    "door_left": row(
        "one less on the bus",
        "whoever opens or leaves",
        opener=(Opening(Hold.NOTHING), Opening(Hold.NOTHING, used=True)),
        closer=(Leaving(), LastOut(Hold.NOTHING)),
    ),
    # --- fork ---
    "child_attached": row("nothing", "whoever forks", publisher=Forking(), subscriber=Forking(), member=Forking()),
    # --- repair what is to stay ---
    "alone_counted": _repaired,
    "alone_returned": _repaired,
    "alone_forgotten": _repaired,
    "alone_group": _repaired,
    "alone_locked": _repaired,
    "alone_slot": row(REPAIRED_AGAIN, "whoever repairs", opener=Repairing()),
    "alone_waiters": _repaired,
    "alone_used": _repaired,
    "alone_gated": _repaired,
    "alone_reopened": _repaired,
    # --- leave ---
    "sending_stopped": row("nothing", "whoever leaves", closer=(Leaving(), LastOut(Hold.NOTHING))),
    "ring_unlinked": row(
        "half a bus; the next to open it starts over",
        "the last one out, and whoever replaces what was left",
        opener=Opening(abandoned=True),
        closer=(LastOut(), LastOut(persist=True)),
    ),
    "roster_unlinked": row(
        "no bus",
        "the last one out, and whoever replaces what was left",
        opener=Opening(Hold.NOTHING, abandoned=True),
        closer=LastOut(Hold.NOTHING),
    ),
    "publisher_left": row("nothing", "whoever leaves", closer=(Leaving(DOOR), LastOut(Hold.NOTHING))),
    "detached": row("one less on the bus", "whoever leaves", closer=(Leaving(DOOR), LastOut(Hold.NOTHING))),
}
ROWS = with_looks(ROWS)
