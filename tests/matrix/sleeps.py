"""The rows of who sleeps, in a call or in an event loop: who rings there, and where the files of bells come and go."""

from __future__ import annotations

from matrix.closing import LastOut, Leaving, Removing
from matrix.opening import Opening
from matrix.receiving import Joining, Sleeping
from matrix.row import row
from matrix.scene import Hold
from matrix.sending import Closing, Sending
from matrix.working import Returning
from matrix.working import Sleeping as MemberSleeping

DOOR = Hold.DOOR
_rung = Sending(sent=True, sleepers=True, dozing=True)
_asleep, _asleep_too = (Sleeping(), Sleeping(dozing=True)), (MemberSleeping(), MemberSleeping(dozing=True))
_dozing, _dozing_too = Sleeping(dozing=True, again=False), MemberSleeping(dozing=True, again=False)

SLEEPS = {
    "waiter_raised": row(
        "nothing; one needless wake-up, or ring", "whoever sleeps", subscriber=_asleep, member=_asleep_too, patient=True
    ),
    "semaphore_taken": row(
        "nothing; of a group, another member looks by itself",
        "whoever sleeps",
        subscriber=Sleeping(),
        member=MemberSleeping(),
        patient=True,
    ),
    "waiter_woken": row("the same", "whoever sleeps", subscriber=_asleep, member=_asleep_too, patient=True),
    "asleep_set": row("nothing", "a member", member=_asleep_too, patient=True),
    "bell_rung": row(
        "the whole event; a loop that was not rung looks by itself",
        "whoever wakes somebody who waits in an event loop",
        publisher=_rung,
        subscriber=_rung,
        member=(_rung, Returning(dozing=True)),
        closer=Closing(dozing=True),
        patient=True,
    ),
    "doorbell_stored": row("nothing", "whoever waits in an event loop", subscriber=_dozing, member=_dozing_too),
    "mute_stored": row(
        "a bus on which whoever waits in an event loop has a thread that sleeps",
        "whoever opens and may make no socket",
        opener=(Opening(mute=True), Opening(used=True, mute=True)),
    ),
    "bell_bound": row(
        "a file that nobody answers at; the last one out removes it",
        "whoever waits in an event loop for the first time",
        subscriber=(_dozing, Joining(place=True, watched=True)),
        member=(_dozing_too, Joining(watched=True)),
    ),
    "bell_taken_down": row(
        "nothing",
        "whoever leaves, and has waited in an event loop",
        subscriber=Joining(watched=True),
        member=Joining(watched=True),
        closer=(Leaving(DOOR, dozed=True), LastOut(Hold.NOTHING, dozed=True)),
    ),
    "bells_unlinked": row(
        "a bus that nobody is on",
        "the last one out, whoever replaces what was left, or removes a bus by its name",
        opener=Opening(abandoned=True),
        closer=(LastOut(), LastOut(dozed=True), LastOut(persist=True), Removing(whole=True)),
    ),
}
