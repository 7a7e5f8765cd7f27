"""The cases: who dies or stands still at which moment, and what the ledger says then; each raises what is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from bridged.moments import MOMENTS
from bridged.scenes import SCENES
from bridged.stage import BATCH, Host, Stage, exporter, importer, stands_still
from harness import Line
from nats_server import NatsServer, programs

HELD = 1.2  # seconds that somebody stands still: longer than anybody waits for an answer or a sign of life
ROUNDS = 12  # of events until whoever is to die must have come to the moment


class Fate(Enum):
    """What becomes of whom at a moment."""

    BRIDGE_KILLED = "bridge killed"
    BRIDGE_STOPPED = "bridge stopped"
    SERVER_KILLED = "server killed"
    SERVER_STOPPED = "server stopped"


class Case(NamedTuple):
    """A moment and a fate, or a scene of its own."""

    name: str
    fate: Fate | None

    def __str__(self) -> str:
        return f"{self.name}-{self.fate.value}" if self.fate else self.name


def all_cases() -> list[Case]:
    """Every case there is. The server dies from outside: what the core does amid a commit is nothing to it."""
    at_moments = [
        Case(name, fate)
        for name, moment in MOMENTS.items()
        for fate in Fate
        if moment.room != "core" or fate in (Fate.BRIDGE_KILLED, Fate.BRIDGE_STOPPED)
    ]
    return [*(Case(name, None) for name in SCENES), *at_moments]


def play(_: Line, case: Case) -> None:
    """One case from beginning to end, in this process."""
    os.setpgid(0, 0)
    directory = Path(tempfile.mkdtemp(prefix="eventbus-bridged-"))
    server = NatsServer(programs()[crc32(str(case).encode()) % len(programs())], directory / "nats")
    try:
        with Stage(server, directory) as stage:
            if case.fate is None:
                SCENES[case.name].play(stage)
            else:
                at_moment(stage, case.name, case.fate)
    finally:
        server.close()
        shutil.rmtree(directory)


def at_moment(stage: Stage, name: str, fate: Fate) -> None:
    """Somebody comes to the moment while events flow, meets the fate, and all that was sent arrives all the same."""
    moment = MOMENTS[name]
    one, other = exporter(stage), importer(stage)
    victim, witness = (one, other) if moment.who == "exporter" else (other, one)
    number = signal.SIGKILL if fate in (Fate.BRIDGE_KILLED, Fate.SERVER_KILLED) else signal.SIGSTOP
    pid = 0 if fate in (Fate.BRIDGE_KILLED, Fate.BRIDGE_STOPPED) else stage.server.pid
    plan = {"moment": name, "number": number, "pid": pid, "passes": 1 if moment.first else 3}
    witness.start(stage.server.url)
    if moment.first:  # at its second start there is something to find
        victim.start(stage.server.url)
        stage.ready(one, other)
        stage.send(one, 3 * BATCH)
        stage.arrived((other.origin, one.origin))
        victim.end()
        stage.send(one, BATCH)
        victim.start(stage.server.url, plan)
    else:
        victim.start(stage.server.url, plan)
        stage.ready(one, other)
    for _ in range(ROUNDS):
        stage.send(one, BATCH)
        stage.pause(0.02)
        if _struck(stage, victim, fate):
            break
    stage.until(lambda: _struck(stage, victim, fate), f"{victim.origin} to come to {name!r}")
    stage.send(one, 2 * BATCH)
    _mend(stage, victim, fate)
    stage.send(one, 2 * BATCH)
    stage.arrived((other.origin, one.origin))
    stage.judge((other.origin, one.origin))
    for host in (one, other):
        assert host.end(signal.SIGTERM) == 0, f"{host.origin} did not end well\n{stage.said()}"


def _struck(stage: Stage, victim: Host, fate: Fate) -> bool:
    return {
        Fate.BRIDGE_KILLED: lambda: not victim.running,
        Fate.BRIDGE_STOPPED: lambda: victim.still,
        Fate.SERVER_KILLED: lambda: stage.server.dead,
        Fate.SERVER_STOPPED: lambda: stands_still(stage.server.pid),
    }[fate]()


def _mend(stage: Stage, victim: Host, fate: Fate) -> None:
    if fate is Fate.BRIDGE_KILLED:
        assert victim.end() == -signal.SIGKILL, f"{victim.origin} ended by itself\n{stage.said()}"
        victim.start(stage.server.url)
    elif fate is Fate.SERVER_KILLED:
        stage.server.restart()
    else:
        stage.pause(HELD)
        if fate is Fate.BRIDGE_STOPPED:
            victim.strike(signal.SIGCONT)
        else:
            stage.server.go_on()
