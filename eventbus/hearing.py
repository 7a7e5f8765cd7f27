"""Hearing: what a subscription is to hear, by its patterns and by what the policy leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus import patterns
from eventbus.patterns import PatternSet, Wanted

if TYPE_CHECKING:
    from eventbus.policy import Guard


class Hearing:
    """Called with a system and a kind, it tells whether they are heard."""

    __slots__ = ("guard", "kind", "system")

    def __init__(self, system: PatternSet, kind: PatternSet, guard: Guard | None) -> None:
        self.system = system
        self.kind = kind
        self.guard = guard

    def check_allowed(self) -> None:
        """Raises PolicyDeniedError unless the policy allows the whole of every pattern."""
        if self.guard is not None:
            for pattern in self.system.patterns:
                self.guard.check_subscribe(pattern)

    def __call__(self, system: str, kind: str) -> bool:
        matches = self.system.matches(system) and self.kind.matches(kind)
        return matches and (self.guard is None or self.guard.may_hear(system))


def hearing(system: Wanted, kind: Wanted | None, guard: Guard | None) -> Hearing:
    """Compiles what is wanted; no kind is every kind."""
    systems = patterns.compile_any(system, "system")
    return Hearing(systems, patterns.compile_any("**" if kind is None else kind, "kind"), guard)
