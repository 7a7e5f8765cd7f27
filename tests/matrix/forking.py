"""Victims that fork: what they do for a child before there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import eventbus
from harness import Line
from matrix.scene import CAPACITY, SLOTS, Aim, Hold, Role, Scene, await_go, join


def fork_a_child(line: Line, name: str, aim: Aim, member: bool) -> None:
    """Forks a child that ends at once, with a subscription open, or as a member."""
    bus = eventbus.open(name, capacity=CAPACITY, max_subscribers=SLOTS)
    sub = join(bus) if member else bus.subscribe("**", overflow="drop")
    await_go(line)
    aim.take()
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    sub.close()


@dataclass(frozen=True)
class Forking:
    """A victim that forks while others work."""

    again: bool = False

    def __call__(self, scene: Scene) -> None:
        """Plays it."""
        survivors = scene.survivors()
        victim = scene.victim(fork_a_child, scene.role is Role.MEMBER)
        victim.say("go")
        scene.strike(victim, lambda pid: survivors.meanwhile(Hold.NOTHING, pid))
        survivors.drain()
        survivors.end()
