"""A redis-server of its own for each medium: on a unix socket, without persistence, ended by its process handle."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack

from redis import Redis

from benchmarks.crew import CrewError, cpu_seconds_of
from benchmarks.peer import Medium, Publisher, Topology, encoder

_PROGRAM = shutil.which("redis-server")
if _PROGRAM is None:
    raise ImportError("no redis-server on this machine: install Debian's package of that name")

_READY = "ready to accept connections"
# Without the limit on what may wait for a subscriber, pub/sub loses nothing.
_OPTIONS = ("--port", "0", "--save", "", "--appendonly", "no", "--client-output-buffer-limit", "pubsub 0 0 0")


class RedisPublisher(Publisher):
    """Sends one command per event and waits for the answer, as its users do."""

    def __init__(self, topology: Topology, client: Redis) -> None:
        self._client = client
        self._encode = encoder(topology.raw)

    def close(self) -> None:
        self._client.close()


class RedisMedium(Medium):
    def open(self, leftovers: ExitStack) -> None:
        command = [_PROGRAM or "", *_OPTIONS, "--dir", str(self.files), "--unixsocket", self._socket]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        leftovers.callback(_end, self._server)
        _wait_until_ready(self._server)

    def server_seconds(self) -> float:
        return cpu_seconds_of(self._server.pid)

    def client(self) -> Redis:
        """Connect to the server, in a worker."""
        return Redis(unix_socket_path=self._socket, protocol=2)

    @property
    def _socket(self) -> str:
        return f"{self.files}/redis"


def _wait_until_ready(server: subprocess.Popen[str]) -> None:
    said = []
    for line in server.stdout or ():
        if _READY in line.lower():
            return
        said.append(line)
    raise CrewError(f"redis-server did not start: {''.join(said[-3:])}")


def _end(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.communicate()
