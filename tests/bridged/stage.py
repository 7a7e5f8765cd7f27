"""The stage: a server, buses that this process sends on and listens to, and a bridge process for each of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import eventbus
from bridged.ledger import Ledger
from eventbus import Bus, Subscription, UnavailableError, _eventbus
from eventbus.bridge.names import DOWN, UP
from eventbus.bridge.names import SYSTEM as NEWS
from harness import DEADLINE, SHARED_MEMORY, sealed
from nats_server import NatsServer
from orphans import die_with_parent

TESTS = Path(__file__).resolve().parent.parent
BUILD = str(Path(_eventbus.__file__).parent.parent)
"""Of the core, which is the same for all."""

BATCH = 64
TOLD = 20.0  # seconds within which a bridge has told what it counted
ACK_TIMEOUT = 0.5


class Host:
    """One bus, and its bridge.

    Attributes:
        origin: how the bridge is called.
        bus: the bus, open.
        log: what the bridge says.
        up: whether the bridge says that it runs as it should.
        deaf: whether nobody takes what arrives on its bus.
        login: lines for its configuration that say who it is to the server.
    """

    def __init__(self, origin: str, name: str, directory: Path, terms: str, capacity: int) -> None:
        """Args: terms: for its configuration, keys before tables."""
        self.origin = origin
        self.name = name
        self.log = directory / f"{origin}.log"
        self._config = directory / f"{origin}.toml"
        self._terms = terms
        self._process: subprocess.Popen[bytes] | None = None
        self.up = self.deaf = False
        self.login = ""
        self.bus: Bus = eventbus.open(name, capacity=capacity)
        self.heard: Subscription = self.bus.subscribe("orders")
        self.news: Subscription = self.bus.subscribe(NEWS, overflow="drop")

    def start(self, url: str, plan: dict[str, Any] | None = None) -> None:
        """Start the bridge on a way to the server, to come to the moment of a plan."""
        assert self._process is None, f"the bridge {self.origin} runs already"
        self.up = False
        nats = f'\n[nats]\nservers = ["{url}"]\n{self.login}'
        head = f'bus = "{self.name}"\norigin = "{self.origin}"\nack_timeout = {ACK_TIMEOUT}\nwindow = {BATCH}\n'
        self._config.write_text(head + self._terms + nats)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridged.entry", json.dumps(plan) if plan else "", self._config],
                cwd=TESTS,
                stdout=log,
                stderr=log,
                env=os.environ | {"EVENTBUS_BUILD": BUILD},
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    @property
    def running(self) -> bool:
        """Whether the bridge has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether the bridge has ended, and nobody killed it."""
        return self._process is not None and self._process.poll() not in (None, -signal.SIGKILL)

    @property
    def still(self) -> bool:
        """Whether the kernel says that the bridge is stopped."""
        return self._process is not None and stands_still(self._process.pid)

    def strike(self, number: int) -> None:
        """Send the bridge a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGKILL) -> int:
        """End the bridge, unless it has ended; what it ended with."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self.strike(number)
        code = self._process.wait()
        self._process = None
        return code

    def close(self) -> None:
        """End the bridge and leave the bus."""
        self.end()
        for one in (self.heard, self.news, self.bus):
            one.close()
        for left in SHARED_MEMORY.glob(f"eventbus.{self.name}.*"):
            left.unlink(missing_ok=True)


class Stage:
    """All of it, and the ledger."""

    def __init__(self, server: NatsServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.ledger = Ledger()
        self.hosts: dict[str, Host] = {}
        self._held = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def host(self, number: int, terms: str, capacity: int = 1 << 22) -> Host:
        """A bus more."""
        origin = f"h{number}"
        name = f"test-{os.getpid()}-{self.server.port}-{origin}"
        host = self.hosts[origin] = Host(origin, name, self.directory, terms, capacity)
        self._held.callback(host.close)
        return host

    def send(self, host: Host, count: int) -> None:
        """So many events more on a bus; what arrives anywhere meanwhile is taken."""
        for _ in range(count):
            if not self.sent(host):
                self.until(lambda: self.sent(host), f"room in the ring of {host.origin}")
        self.pump()

    def sent(self, host: Host) -> bool:
        """One event more on a bus; False if its ring is full, or whoever stands still has the publish lock."""
        publisher, number = int(host.origin.removeprefix("h")), self.ledger.sent[host.origin]
        try:
            host.bus.send("orders", "made", f"/{number}", sealed(publisher, number), timeout=0)
        except UnavailableError:
            return False
        self.ledger.sent[host.origin] += 1
        return True

    def pump(self) -> None:
        """Take what arrived."""
        for origin, host in self.hosts.items():
            assert not host.failed, f"the bridge {origin} ended by itself\n{self.said()}"
            while not host.deaf and (events := host.heard.receive_many(256, 0)):
                for event in events:
                    if event.origin:
                        self.ledger.hear(origin, event)
            for event in host.news.receive_many(256, 0):
                host.up = {UP: True, DOWN: False}.get(event.kind, host.up)
                self.ledger.tell(origin, event)

    def until(self, condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
        """Take what arrives until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            self.pump()
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds} s for {what}\n{self.said()}")
            time.sleep(0.002)

    def pause(self, seconds: float) -> None:
        """Take what arrives for so long: how long somebody stands still is what is tried."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump()
            time.sleep(0.005)

    def ready(self, *hosts: Host) -> None:
        """Wait until the bridges run as they should."""
        for host in hosts:
            self.until(lambda: host.up, f"the bridge {host.origin} to run")  # noqa: B023

    def arrived(self, *pairs: tuple[str, str]) -> None:
        """Wait until the last event of each origin is on each bus that hears it."""
        for bus, origin in pairs:
            self.until(lambda: self.ledger.arrived(bus, origin), f"the last event of {origin} on {bus}")  # noqa: B023

    def judge(self, *pairs: tuple[str, str], doubles: int = 0) -> None:
        """Fails where anything is wrong; what is gone may be told a little later."""
        end = time.monotonic() + TOLD
        self.pump()
        while (found := self.ledger.violations([*pairs], doubles)) and time.monotonic() < end:
            self.pause(0.1)
        assert not found, "\n".join([*found, self.said()])

    def said(self) -> str:
        """The last words of all bridges."""
        logs = [(host.origin, host.log.read_text()[-1500:]) for host in self.hosts.values() if host.log.exists()]
        return "\n".join(f"--- {origin} said:\n{text}" for origin, text in logs)


def stands_still(pid: int) -> bool:
    """Whether the kernel says that a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def exporter(stage: Stage, terms: str = "", capacity: int = 1 << 22) -> Host:
    """The bus whose events go out."""
    return stage.host(1, f'{terms}[[export]]\nsystems = ["orders"]\n', capacity)


def importer(stage: Stage, capacity: int = 1 << 22) -> Host:
    """The bus to which they come."""
    return stage.host(2, '[[import]]\nsystems = ["orders"]\nstart = "oldest"\n', capacity)
