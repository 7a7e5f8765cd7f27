"""What a group owes: each event handled once, again only after a death or a rejection, and letters of the hopeless."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from soak.books import ANSWER, LETTER, Got, Grouping, Membership, Origin
from soak.roles import Group

if TYPE_CHECKING:
    from soak.verdict import World

Handling = list[tuple[Got, Membership]]


def judge_group(world: World, group: Group) -> tuple[list[str], Counter[str]]:
    """What is wrong with what a group's members got, and what of it is to be counted."""
    members = [one for one in world.members if one.group == group.number]
    return _Case(world, group, members).judge()


class _Case:
    """One group on one bus."""

    def __init__(self, world: World, group: Group, members: list[Membership]) -> None:
        self._world = world
        self._group = group
        self._made = world.groupings.get(group.number, Grouping(0))
        self._deaths = sum(member.killed and not member.ended for member in members)
        self._interrupted = sum(member.interrupted for member in members)  # each perhaps between sending and noting it
        self._handlings: defaultdict[int, Handling] = defaultdict(list)
        for member in members:
            for got in member.got:
                self._handlings[got.sequence].append((got, member))
        self._told_at: dict[int, int] = {}  # when the first letter of a sequence came to anybody
        for receiver in (*world.subscriptions, *world.members):
            for got in receiver.got:
                if got.origin[:2] == (LETTER, group.number):
                    original = got.origin[2]
                    self._told_at[original] = min(got.at, self._told_at.get(original, got.at))
        for handling in self._handlings.values():
            handling.sort(key=lambda one: one[0].at)
        letters = [one for one in world.places.values() if one[0] == LETTER and one[1] == group.number]
        self._letters = Counter(original for _, _, original in letters)
        self._witnesses = [
            sub.sent_after
            for sub in world.subscriptions
            if sub.drained
            and sub.sent_after is not None
            and (sub.plan.overflow, sub.plan.start) == ("block", "latest")
            and world.heard(sub.plan.system, sub.plan.kind, (LETTER, 0, 0))
        ]
        self.figures: Counter[str] = Counter()
        self.found: list[str] = []

    def judge(self) -> tuple[list[str], Counter[str]]:
        """Every event in turn."""
        for sequence, handling in self._handlings.items():
            self._judge_handling(sequence, handling)
        for sequence, count in self._letters.items():
            self._judge_letter(sequence, count)
        if self._world.end is not None:
            self._judge_all_handled()
        return self.found, self.figures

    def _judge_handling(self, sequence: int, handling: Handling) -> None:
        origin = handling[0][0].origin
        what = f"sequence {sequence}, {origin},"
        if not self._hears(origin):
            self.found.append(f"{what} was delivered, and it does not hear it")
        if self._group.start == "latest" and sequence <= self._made.before:
            self.found.append(f"{what} was delivered, and the group began after {self._made.before}")
        for got, member in handling[:-1]:
            if got in member.acked:
                self.found.append(f"{what} was delivered again after member {member.who} had acknowledged it")
            elif got not in member.rejected and not member.killed:
                self.found.append(f"{what} was delivered again, and member {member.who} neither died nor gave it back")
        self._judge_delays(what, handling)
        self._judge_counts(what, [got.deliveries for got, _ in handling])
        got, last = handling[-1]
        if last.ended and got not in last.acked and got not in last.rejected:
            self.found.append(f"{what} is in nobody's hand: member {last.who} has left and not acknowledged it")

    def _judge_delays(self, what: str, handling: Handling) -> None:
        """What was given back for later comes later, and what somebody has in hand not while that one lives."""
        sequence, following = handling[0][0].sequence, [got.at for got, _ in handling[1:]]
        for (got, member), again in zip(handling, [*following, self._told_at.get(sequence)], strict=True):
            if again is None:
                continue
            if again < (due := member.due.get(got, 0)):
                early = (due - again) / 1e9
                self.found.append(f"{what} came again {early:.6f} s before member {member.who} had asked for it")
            elif got not in member.rejected and got not in member.acked and member.killed and again < member.alive_at:
                self.found.append(f"{what} was taken from the hand of member {member.who}, which lived")

    def _judge_counts(self, what: str, counts: list[int]) -> None:
        self.figures["redeliveries"] += sum(count > 1 for count in counts)
        if max(counts) > self._group.max_deliveries:
            self.found.append(f"{what} was delivered {max(counts)} times")
        if len(counts) > self._group.max_deliveries:
            self.found.append(f"{what} was delivered {len(counts)} times, counted as {counts}")
        if counts != sorted(set(counts)):
            self.found.append(f"{what} was delivered with the counts {counts}")
        if counts[-1] - len(counts) > self._deaths:
            self.found.append(f"{what} has the counts {counts} after {self._deaths} deaths")

    def _judge_letter(self, sequence: int, count: int) -> None:
        self.figures["dead letters"] += count
        if count > 1 + self._deaths + self._interrupted:
            self.found.append(
                f"{count} dead letters tell of sequence {sequence}, {self._deaths} members died, "
                f"and {self._interrupted} calls were interrupted"
            )
        if any(got in member.acked for got, member in self._handlings.get(sequence, [])):
            self.found.append(f"sequence {sequence} was acknowledged, and a dead letter tells of it")

    def _judge_all_handled(self) -> None:
        if self._made.after is None:
            return
        for sequence in self._world.between(self._made.after + 1, self._world.end or 0):
            origin = self._world.places[sequence]
            if self._hears(origin):
                self._judge_handled(sequence, origin[0] in (LETTER, ANSWER))
        known = set(self._world.places.values())
        sent = [one for one, send in self._world.sends.items() if send.outcome and send.at > self._made.at]
        missing = [one for one in sent if ("event", *one) not in known and self._hears(("event", *one))]
        if len(missing) > self._deaths:  # each may have taken one with it that it could not write down any more
            self.found.append(f"{len(missing)} events that were sent never came to anybody: {missing[:5]}")

    def _hears(self, origin: Origin) -> bool:
        return self._world.heard(self._group.system, self._group.kind, origin)

    def _judge_handled(self, sequence: int, is_letter: bool) -> None:
        """Acknowledged, or told of by a letter. A member that dies may take the last deliveries of an event with it
        unseen, and the letter that it had no room for: each of these takes a death."""
        handling = self._handlings.get(sequence, [])
        if self._letters[sequence] or any(got in member.acked for got, member in handling):
            return
        if any(got in member.asked and member.killed for got, member in handling):
            self.figures["perhaps acknowledged"] += 1
            return
        seen = max((got.deliveries for got, _ in handling), default=0)
        unseen = self._group.max_deliveries - seen
        if all(after > sequence for after in self._witnesses) and self._deaths >= unseen:
            self.figures["perhaps told of by a letter that nobody heard"] += 1
        elif is_letter and self._deaths >= unseen:
            self.figures["letters that nobody could handle"] += 1
        elif self._deaths > unseen:
            self.figures["letters lost with their sender"] += 1
        else:
            self.found.append(f"sequence {sequence} was never handled: delivered {len(handling)} times, and no letter")
