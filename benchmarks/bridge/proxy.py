"""A network between a bridge and its server: `python -m benchmarks.bridge.proxy PORT SECONDS` delays what passes.

It takes commands by its standard input, a line each, and says "done" to each:

- ``hold``: what comes by the connections of now is kept back, also when their client has gone; others pass.
- ``go``: what was held goes on its way.
- ``cut``: the connections of now end, and what is under way by them is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field

_CHUNK = 1 << 18
_UNDER_WAY = 1 << 10
"""Chunks of one direction that may be under way before its sender has to wait."""


class Connection:
    """Both directions between one client and the server."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free = asyncio.Event()
        self._free.set()
        self._pumps: list[asyncio.Task[None]] = []

    async def run(self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int) -> None:
        """Carry bytes until both sides have ended."""
        try:
            server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            client[1].close()
            return
        for (reader, _), (_, writer) in ((client, server), (server, client)):
            self._pumps += self._pump(reader, writer)
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for _, writer in (client, server):
            writer.close()

    def hold(self) -> None:
        """Let nothing out any more."""
        self._free.clear()

    def go(self) -> None:
        """Let out what was held."""
        self._free.set()

    def cut(self) -> None:
        """End at once."""
        for pump in self._pumps:
            pump.cancel()

    def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[asyncio.Task[None]]:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
        return [asyncio.create_task(step) for step in (self._take(reader, under_way), self._give(writer, under_way))]

    async def _take(self, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        now = asyncio.get_running_loop().time
        data = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except ConnectionError:
                data = b""  # what it sent before is under way all the same
            await under_way.put((now() + self._seconds, data))

    async def _give(self, writer: asyncio.StreamWriter, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await under_way.get()
            if due > now():
                await asyncio.sleep(due - now())
            await self._free.wait()
            if not data:
                break
            # Nobody may be there any more: the rest goes nowhere, as it would in a network.
            with contextlib.suppress(ConnectionError):
                if not writer.is_closing():
                    writer.write(data)
                    await writer.drain()
        with contextlib.suppress(OSError):
            if not writer.is_closing():
                writer.write_eof()


@dataclass
class Proxy:
    """All connections to one server.

    Attributes:
        port: of the server.
        seconds: that bytes are under way, in each direction.
    """

    port: int
    seconds: float
    connections: set[Connection] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a new client's bytes."""
        connection = Connection(self.seconds)
        self.connections.add(connection)
        try:
            await connection.run((reader, writer), self.port)
        finally:
            self.connections.discard(connection)

    async def serve(self) -> None:
        """Say where it listens, and obey until the end of the commands."""
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0, limit=_CHUNK)
        print("ready", server.sockets[0].getsockname()[1], flush=True)
        commands = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        async for line in commands:
            for connection in tuple(self.connections):
                {b"hold": connection.hold, b"go": connection.go, b"cut": connection.cut}[line.strip()]()
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(Proxy(int(sys.argv[1]), float(sys.argv[2])).serve())
