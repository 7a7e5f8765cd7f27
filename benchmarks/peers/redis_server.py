"""A redis-server of its own for each medium: on a unix socket, without persistence."""

from __future__ import annotations

from contextlib import ExitStack

from redis import Redis

from benchmarks.peer import Medium, Publisher, Topology, encoder
from benchmarks.servers import Server, program

_PROGRAM = program("redis-server")
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
        command = [_PROGRAM, *_OPTIONS, "--dir", str(self.files), "--unixsocket", self.socket]
        self._server = Server(command, _READY, leftovers)

    def server_seconds(self) -> float:
        return self._server.cpu_seconds()

    def client(self) -> Redis:
        """Connect to the server, in a worker."""
        return Redis(unix_socket_path=self.socket, protocol=2)

    @property
    def socket(self) -> str:
        """Where the server listens."""
        return f"{self.files}/redis"
