"""Two buses with a server between them, and who carries events from the first to the second."""

from __future__ import annotations

import sys
from abc import abstractmethod
from contextlib import ExitStack
from types import TracebackType

from benchmarks.bridge.relay import __name__ as _RELAY
from benchmarks.loops.bus import BlockingBusListener
from benchmarks.peer import Medium, Topology
from benchmarks.peers.bus import BusPublisher, new_name, remove
from benchmarks.servers import Server, Started, program

_SERVER = program("nats-server")
_READY = "server is ready"
_LISTENS = "Listening for client connections on "
_CONFIGURATION = """
listen: "127.0.0.1:-1"
jetstream {{ store_dir: "{store}" }}
"""


class Carried(Medium):
    """The publisher is on the one bus, the listener on the other.

    Attributes:
        round_trip: seconds of it between both ends and the server.
    """

    def __init__(self, topology: Topology, round_trip: float = 0.0) -> None:
        super().__init__(topology)
        self.round_trip = round_trip

    def open(self, leftovers: ExitStack) -> None:
        self._names = (new_name(), new_name())
        for name in self._names:
            leftovers.callback(remove, name)
        configuration = self.files / "nats.conf"
        configuration.write_text(_CONFIGURATION.format(store=self.files / "store"))
        server = Server([_SERVER, "--config", str(configuration)], _READY, leftovers)
        port = next(line for line in server.said if _LISTENS in line).rpartition(":")[2].strip()
        self._parts: dict[str, Started] = {"server": server}
        if self.round_trip:
            delay = [sys.executable, "-m", "benchmarks.bridge.proxy", port, str(self.round_trip / 2)]
            port = Server(delay, "ready", leftovers).said[-1].split()[1]
        self._said = said = leftovers.enter_context((self.files / "said").open("w+"))
        exporter, importer = self.ends(*self._names, f"nats://127.0.0.1:{port}")
        self._parts["importer"] = Started([sys.executable, "-m", *importer], leftovers, said)
        self._parts["exporter"] = Started([sys.executable, "-m", *exporter], leftovers, said)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._said.seek(0)
            print(self._said.read(), file=sys.stderr)
        super().__exit__(kind, error, trace)

    @abstractmethod
    def ends(self, sent: str, heard: str, url: str) -> tuple[list[str], list[str]]:
        """Return module and arguments of what exports from one bus, and of what imports into the other."""

    def seconds_of_parts(self) -> dict[str, float]:
        """Return the CPU seconds so far of the server and of both ends; the network costs none."""
        return {name: part.cpu_seconds() for name, part in self._parts.items()}

    def server_seconds(self) -> float:
        return sum(self.seconds_of_parts().values())

    def publisher(self, _index: int, /) -> BusPublisher:
        return BusPublisher(self._names[0], self.topology, None)

    def listener(self) -> BlockingBusListener:
        """Connect the listening end, in its worker."""
        return BlockingBusListener(self._names[1])


class BridgeMedium(Carried):
    """The subject."""

    def ends(self, sent: str, heard: str, url: str) -> tuple[list[str], list[str]]:
        system, *_ = self.topology.systems
        exporter = ["eventbus", "bridge", sent, "--nats", url, "--origin", "h1", "--export", system]
        return exporter, ["eventbus", "bridge", heard, "--nats", url, "--origin", "h2", "--import", system]


class RelayMedium(Carried):
    """Thirty lines by hand."""

    over = ""

    def ends(self, sent: str, heard: str, url: str) -> tuple[list[str], list[str]]:
        return [_RELAY, f"export{self.over}", sent, url], [_RELAY, f"import{self.over}", heard, url]


class CoreRelayMedium(RelayMedium):
    """The same without JetStream."""

    over = "-core"


connect = BridgeMedium
connect_relay = RelayMedium
connect_core = CoreRelayMedium
