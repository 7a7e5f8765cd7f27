"""``python -m bridged.soak``: three buses, their bridges, networks and a server under random faults, and a ledger."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, permutations
from pathlib import Path

import pytest

from soak.core import choose_core

choose_core()

from bridged.stage import Host, Stage  # noqa: E402  after the core is chosen
from nats_proxy import Proxy  # noqa: E402
from nats_server import ABSENT, NatsServer, programs, version_of  # noqa: E402

HOSTS = 3
PAIRS = [(f"h{bus}", f"h{origin}") for bus, origin in permutations(range(1, HOSTS + 1), 2)]
TERMS = '[[export]]\nsystems = ["orders"]\n\n[[import]]\nsystems = ["orders"]\nstart = "oldest"\n'
LARGE, SMALL = 1 << 24, 1 << 18
"""Rings: one that holds a whole round, and one that is full or goes round amid it."""

LONGEST = 1.5  # seconds that anybody is dead, held back or stands still
LEAST = 50  # events of each bus, however slow the host is
FIGURES = ("events sent", "deliveries", "faults", "lost and told", "out of order", "doubled")


class Play:
    """One round: what is struck, and when it is mended."""

    def __init__(self, stage: Stage, seed: str, held: ExitStack) -> None:
        self.random = random.Random(seed)
        self.stage = stage
        self.capacity = self.random.choice([LARGE, LARGE, SMALL])
        self.rate = self.random.choice([1, 4, 16])  # events of a bus at each turn, at most
        self.faults: Counter[str] = Counter()
        self._mends: dict[object, tuple[float, Callable[[], None]]] = {}
        self._saved: Path | None = None
        self._ways: dict[Host, Proxy] = {}
        for number in range(1, HOSTS + 1):
            host = stage.host(number, TERMS, self.capacity)
            way = self._ways[host] = Proxy(stage.server.port)
            held.callback(way.close)
            host.start(way.url)

    def run(self, seconds: float) -> None:
        """Events and faults for so long, and until there were enough; then all is mended, and the last event of each
        bus arrives everywhere."""
        hosts = [*self._ways]
        self.stage.ready(*hosts)
        end = time.monotonic() + seconds
        strike = 0.0
        sent = self.stage.ledger.sent
        while (now := time.monotonic()) < end or min(sent[host.origin] for host in hosts) < LEAST:
            for host in hosts:
                for _ in range(self.random.randint(0, self.rate)):
                    self.stage.sent(host)
            self.stage.pump()
            self._mend(now)
            if now >= strike:
                self._strike(now)
                strike = now + self.random.uniform(0.05, 0.8)
            time.sleep(0.002)
        self._mend(float("inf"))
        for host in hosts:
            self.stage.send(host, 1)
        self.stage.arrived(*PAIRS)
        self.stage.judge(*PAIRS)
        for host in hosts:
            code = host.end(signal.SIGTERM)
            assert code == 0, f"{host.origin} ended with {code}\n{self.stage.said()}"

    # --- faults: each returns how it is mended ---

    def _strike(self, now: float) -> None:
        free = [one for one in (*self._ways, *self._ways.values(), self.stage.server) if one not in self._mends]
        if not free:
            return
        target = self.random.choice(free)
        name, fault = self.random.choice(self._faults(target))
        self.faults[name] += 1
        self._mends[target] = now + self.random.uniform(0.0, LONGEST), fault()

    def _mend(self, now: float) -> None:
        for target, (due, mend) in [*self._mends.items()]:
            if due <= now:
                del self._mends[target]
                mend()

    def _faults(self, target: object) -> list[tuple[str, Callable[[], Callable[[], None]]]]:
        if isinstance(target, Host):
            return [
                ("bridges killed", lambda: self._kill(target)),
                ("bridges ended", lambda: self._kill(target, signal.SIGTERM)),
                ("bridges stopped", lambda: self._stop(target)),
            ]
        if isinstance(target, Proxy):
            return [("bytes held back", lambda: self._hold(target)), ("connections cut", lambda: self._cut(target))]
        faults = [("servers killed", self._kill_server), ("servers stopped", self._stop_server)]
        if self.capacity == LARGE:  # a ring that holds all can be read again
            faults.append(("servers set back", self._set_back))
        return faults

    def _kill(self, host: Host, number: int = signal.SIGKILL) -> Callable[[], None]:
        code = host.end(number)
        # SIGTERM kills one that has not begun yet.
        assert code in (0, -signal.SIGKILL, -signal.SIGTERM), f"{host.origin} ended with {code}\n{self.stage.said()}"
        return lambda: host.start(self._ways[host].url)

    def _stop(self, host: Host) -> Callable[[], None]:
        host.strike(signal.SIGSTOP)
        return lambda: host.strike(signal.SIGCONT)

    def _hold(self, way: Proxy) -> Callable[[], None]:
        way.hold()
        return way.go

    def _cut(self, way: Proxy) -> Callable[[], None]:
        way.cut()
        return lambda: None

    def _kill_server(self) -> Callable[[], None]:
        self.stage.server.kill()
        return self.stage.server.start

    def _stop_server(self) -> Callable[[], None]:
        self.stage.server.stop()
        return self.stage.server.go_on

    def _set_back(self) -> Callable[[], None]:
        """To what it was when this was done last; the first time it is only kept."""
        server, saved = self.stage.server, self._saved
        server.kill()
        if saved is None:
            self._saved = self.stage.directory / "saved"
            shutil.copytree(server.store, self._saved)
            return server.start
        shutil.rmtree(server.store)
        shutil.copytree(saved, server.store)
        return server.start


def play(seed: int, number: int, seconds: float, total: Counter[str]) -> str:
    """One round; what was wrong, "" for nothing. The figures are added to the total."""
    servers = programs()
    directory = Path(tempfile.mkdtemp(prefix="eventbus-bridge-soak-"))
    program = servers[number % len(servers)]
    with ExitStack() as held:
        server = NatsServer(program, directory / "nats")
        held.callback(server.close)
        stage = held.enter_context(Stage(server, directory))
        wrong, begun = "", time.monotonic()
        round_ = Play(stage, f"{seed} {number}", held)
        try:
            round_.run(seconds)
        except (AssertionError, pytest.fail.Exception) as error:
            wrong = str(error)
        streams = stage.ledger.heard.values()
        lost = sum(len(stream.missing) for stream in streams)
        deliveries = sum(stream.last + 1 + stream.doubled for stream in streams) - lost
        late, doubled = (sum(getattr(stream, name) for stream in streams) for name in ("late", "doubled"))
        counts = (stage.ledger.sent.total(), deliveries, round_.faults.total(), lost, late, doubled)
        figures = dict(zip(FIGURES, counts, strict=True))
        total.update({"rounds": 1, **figures, **round_.faults})
        shown = ", ".join(f"{figure:,} {name}" for name, figure in figures.items())
        terms = f"nats-server {version_of(program)}, rings of {round_.capacity >> 10} KiB"
        print(f"round {number} ({time.monotonic() - begun:.1f} s; {terms}): {shown}", flush=True)
    shutil.rmtree(directory)
    return wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bridged.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to go on")
    parser.add_argument("--round", type=int, default=0, help="this round only")
    parser.add_argument("--seconds", type=float, default=15.0, help="of events and faults, each round")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    asked = parser.parse_args()
    if not programs():
        print(ABSENT)
        return 1
    for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell had SIGINT ignored
        signal.signal(ending, signal.default_int_handler)
    print(f"seed {asked.seed}")
    begun, total, failed = time.monotonic(), Counter[str](), list[int]()
    with contextlib.suppress(KeyboardInterrupt):
        for number in [asked.round] if asked.round else count(1):
            if time.monotonic() - begun > asked.minutes * 60:
                break
            if wrong := play(asked.seed, number, asked.seconds, total):
                failed.append(number)
                print(f"VIOLATED: seed {asked.seed} round {number}\n{wrong}", flush=True)
    _report(asked.seed, time.monotonic() - begun, total, failed)
    return 1 if failed else 0


def _report(seed: int, seconds: float, total: Counter[str], failed: list[int]) -> None:
    where = f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs"
    print(f"\nbridge-soak: seed {seed}, {seconds / 60:.1f} minutes, {where}")
    for name in ("rounds", *FIGURES, *sorted(set(total) - {"rounds", *FIGURES})):
        print(f"  {name:20} {total[name]:>12,}")
    print(f"  {'violations':20} {len(failed):>12,}" + (f"  in rounds {failed}" if failed else ""))


if __name__ == "__main__":
    sys.exit(main())
