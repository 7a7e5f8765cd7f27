"""What an installed eventbus must do at least, of two processes; run with each Python that a release is for."""

from __future__ import annotations

import os
import sys

import eventbus

MANY = 1000


def answer(name: str) -> None:
    """The other process: it sums up what it hears, and says so; and it answers one request."""
    with eventbus.open(name) as bus, bus.subscribe("numbers") as numbers, bus.subscribe("asked") as asked:
        bus.send("ready", "said", "/ready")
        total = sum(numbers.receive(timeout=60).data["number"] for _ in range(MANY))
        bus.send("sums", "said", "/sum", {"total": total})
        asked.receive(timeout=60).reply("here")


def main() -> None:
    """Sends, receives, asks, and waits in vain.

    Raises:
        AssertionError: something else came than what was sent.
    """
    name = f"smoke-{os.getpid()}"
    with eventbus.open(name, capacity=1 << 20) as bus, bus.subscribe("sums") as sums, bus.subscribe("ready") as ready:
        child = os.fork()
        if child == 0:
            try:
                answer(name)
            finally:
                os._exit(sys.exc_info()[0] is not None)
        assert ready.receive(timeout=60).path == "/ready"
        for number in range(MANY):
            bus.send("numbers", "said", "/number", {"number": number})
        assert sums.receive(timeout=60).data == {"total": sum(range(MANY))}
        assert bus.request("asked", "asked", "/where", timeout=60) == "here"
        assert os.waitpid(child, 0)[1] == 0
        try:
            bus.request("nobody", "asked", "/where", timeout=0.01)
        except eventbus.EventBusError:
            pass
        else:
            raise AssertionError("nobody answered")
    print(f"eventbus works with Python {sys.version.split()[0]} on {os.uname().machine}, from {eventbus.__file__}")


if __name__ == "__main__":
    main()
