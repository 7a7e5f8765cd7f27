"""The judge of a drill, who knows its story and nothing of the bus."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from drill.attempts import Attempt, Job, attempts_of
from drill.gaps import longest_gaps
from drill.ledger import DONE, REFUSED, pid_of
from drill.plan import OUTAGE, RESTARTS
from drill.story import Story

SHOWN = 5  # of violations of one sort
TICK = "tick"


@dataclass
class Verdict:
    """What the books say.

    Attributes:
        figures: how many of what, or how many seconds.
        gaps: the longest time that a handler did nothing with jobs waiting, in seconds, by what befell the pool before.
        violations: one sentence each.
    """

    figures: dict[str, float] = field(default_factory=dict)
    gaps: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


class _Judge:
    def __init__(self, story: Story) -> None:
        self.story = story
        self.attempts = attempts_of(story.books)
        self.verdict = Verdict()
        self._explained: set[str] = set()  # the books whose last attempt a death cut short, or repeated
        self._repeats: Counter[str] = Counter()

    def judge(self) -> Verdict:
        """All of it."""
        self._judge_jobs()
        self._judge_repeats()
        self._judge_ticks()
        story = self.story
        self._violated("there is a dead letter", story.letters)
        self._violated("was left behind", story.left)
        self._violated("the pool should not have logged", story.logged)
        self._violated("", story.faults)
        self._count()
        return self.verdict

    def _violated(self, what: str, which: list[str]) -> None:
        more = f" (and {len(which) - SHOWN} more of the sort)" if len(which) > SHOWN else ""
        self.verdict.violations += [f"{what}: {one}{more}".removeprefix(": ") for one in which[:SHOWN]]

    def _judge_jobs(self) -> None:
        sent = {(one.handler, one.number) for one in self.story.sent}
        done = {job for job, all_of_it in self.attempts.items() if any(one.ended == DONE for one in all_of_it)}
        self._violated("was not done", [_name(job) for job in sorted(sent - done)])
        jobs = {job for job in self.attempts if job[0] != TICK}
        self._violated("was handled, and never sent", [_name(job) for job in sorted(jobs - sent)])

    def _judge_repeats(self) -> None:
        unseen, double, without = 0, [], []
        for job, all_of_it in self.attempts.items():
            unseen += all_of_it[0].delivery - 1
            for one, following in pairwise(all_of_it):
                unseen += following.delivery - one.delivery - 1
                if following.delivery == one.delivery:
                    double.append(f"{_name(job)}, delivery {one.delivery}")
                elif not self._explain(one, again=True):
                    without.append(f"{_name(job)}, delivery {following.delivery}")
            if all_of_it[-1].ended is None and not self._explain(all_of_it[-1], again=False):
                without.append(f"{_name(job)} was begun and not ended by process {all_of_it[-1].pid}, which lived")
        self._violated("was delivered twice as the same delivery", double)
        self._violated("was repeated without a death", without)
        self._judge_unseen(unseen)

    def _explain(self, one: Attempt, again: bool) -> bool:
        """Whether there is a reason why the job was begun again, or not ended."""
        if one.ended == REFUSED:
            self._repeats["after a ConnectionError"] += again
            return True
        if one.pid not in self.story.deaths or not one.last or one.book in self._explained:
            return False
        self._explained.add(one.book)
        how = "cut short by a death" if one.ended is None else "done, but not acknowledged before a death"
        self._repeats[how] += again
        return True

    def _judge_unseen(self, unseen: int) -> None:
        """A process may die between having an event and writing that down: each death explains one such delivery."""
        spare = {name for name in self.story.books if pid_of(name) in self.story.deaths} - self._explained
        if unseen > len(spare):
            self._violated("", [f"{unseen} deliveries were never begun, and {len(spare)} deaths may be why"])
        self.verdict.figures["deliveries to somebody who died before he began"] = unseen

    def _judge_ticks(self) -> None:
        """Whoever was killed in the middle of one had not begun the next."""
        ticks = sorted(
            (one for (handler, _), all_of_it in self.attempts.items() if handler == TICK for one in all_of_it),
            key=lambda one: one.begun_at,
        )
        both = [
            f"{one.number} and {following.number}"
            for one, following in pairwise(ticks)
            if one.ended_at is not None and one.ended_at > following.begun_at
        ]
        self._violated("two ticks were handled at once", both)
        gaps = [following.begun_at - one.begun_at for one, following in pairwise(ticks)]
        self.verdict.figures["ticks"] = len({one.number for one in ticks})
        self.verdict.figures["longest time between two ticks, s"] = round(max(gaps, default=0) / 1e9, 3)

    def _count(self) -> None:
        story, figures = self.story, self.verdict.figures
        done = {
            job: min(ends)
            for job, all_of_it in self.attempts.items()
            if (ends := [one.ended_at for one in all_of_it if one.ended == DONE and one.ended_at is not None])
        }
        figures["jobs"] = len(story.sent)
        figures["jobs done"] = sum(job[0] != TICK for job in done)
        figures["processes"] = len(story.books)
        acts = Counter(what for what, _ in story.acts)
        figures["restarts"] = sum(acts[what] for what in RESTARTS)
        figures |= {f"  {what}": acts[what] for what in RESTARTS}
        figures["times that the database was away"] = acts[OUTAGE]
        dead = Counter(story.deaths[pid] for pid in map(pid_of, story.books) if pid in story.deaths)
        figures["deaths"] = sum(dead.values())
        figures |= {f"  {how}": count for how, count in sorted(dead.items())}
        figures["repeats"] = sum(self._repeats.values())
        figures |= {f"  {how}": count for how, count in sorted(self._repeats.items())}
        deliveries = [one.delivery for all_of_it in self.attempts.values() for one in all_of_it]
        figures["most deliveries of a job"] = max(deliveries, default=0)
        figures["dead letters"] = len(story.letters)
        for why in sorted({why for why, _ in story.farewells}):
            longest = max(seconds for of, seconds in story.farewells if of == why)
            figures[f"longest until all had gone after {why}, s"] = round(longest, 3)
        self.verdict.gaps = longest_gaps(story, done)


def judge(story: Story) -> Verdict:
    """Whether all that was promised was kept."""
    return _Judge(story).judge()


def _name(job: Job) -> str:
    return f"{job[0]} {job[1]}"
