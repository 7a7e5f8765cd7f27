"""What is sent later: once, when it is due and not before, and never after it was cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from soak.books import Send
from soak.message import is_planned

if TYPE_CHECKING:
    from soak.verdict import World


def settle_planned(sends: Iterable[Send]) -> None:
    """What was cancelled is not sent. Of what somebody cancelled who did not live to hear the answer, nobody knows.
    What was cancelled too late was sent, though its publisher may have died before it knew the number."""
    for send in sends:
        if True in send.cancels:
            send.outcome = False
        elif None in send.cancels:
            send.outcome = None
        elif False in send.cancels:
            send.outcome = True


def judge_planned(world: World) -> list[str]:
    """Numbers that the bus gave twice, events that were cancelled twice, and those that came too early; that none is
    lost and none comes twice is judged as of all that is sent."""
    planned = {key: send for key, send in world.sends.items() if is_planned(key[0])}
    given = Counter(send.numbered for send in planned.values() if send.numbered)
    found = [f"the bus gave the number {number} to {count} events" for number, count in given.items() if count > 1]
    for key, its in planned.items():
        if its.cancels.count(True) > 1:
            found.append(f"event {key} was cancelled {its.cancels.count(True)} times")
    for receiver in (*world.subscriptions, *world.members):
        for got in receiver.got:
            send = planned.get(got.origin[1:]) if got.origin[0] == "event" else None
            if send is None:
                continue
            if True in send.cancels:
                found.append(f"event {got.origin} came to {receiver.who} though it was cancelled")
            elif got.at < send.at:
                early = (send.at - got.at) / 1e9
                found.append(f"event {got.origin} came to {receiver.who} {early:.6f} s before it was due")
    return found
