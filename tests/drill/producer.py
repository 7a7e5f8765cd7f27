"""``python -m drill.producer``: sends the numbered jobs of a drill, steadily, whoever is there to do them."""

from __future__ import annotations

import argparse
import random
import time

import eventbus
from drill.ledger import PRODUCER, SENT, Book
from drill.place import here
from drill.words import ENOUGH, ORDERS, SEASON
from eventbus import Bus, Event, Subscription
from eventbus.request import Request

SHARES = {"charge": 0.55, "resize": 0.16, "page": 0.14, "convert": 0.005, "fetch": 0.05, "weekly": 0.05}
LENGTHS = (0.0, 0.001, 0.005, 0.02)  # seconds
PADDING = "x" * 60


class Producer:
    """It sends jobs, and does as it is told between two of them."""

    def __init__(self, bus: Bus, orders: Subscription, seed: int) -> None:
        self._bus = bus
        self._orders = orders
        self._book = Book(here().books, PRODUCER)
        self._dice = random.Random(seed)
        self._season = False

    def send(self, jobs: int, rate: float) -> None:
        """Sends so many, so many a second; what a full ring made late is made up for."""
        begin = time.monotonic()
        for number in range(jobs):
            due = begin + number / rate
            self._obey(due)
            self._send(number)

    def _send(self, number: int) -> None:
        handler = self._draw()
        job = {"number": number, "seconds": self._dice.choice(LENGTHS), "text": PADDING}
        at = time.monotonic_ns()
        self._bus.send(f"jobs.{handler}", "job", f"/jobs/{number}", job, timeout=None)
        self._book.write(SENT, handler, number, at=at)

    def _draw(self) -> str:
        (drawn,) = self._dice.choices([*SHARES, "seasonal"], [*SHARES.values(), 1 - sum(SHARES.values())])
        return "charge" if drawn == "seasonal" and not self._season else drawn

    def _obey(self, until: float) -> None:
        """What it is told until then."""
        while (order := self._orders.receive(max(0.0, until - time.monotonic()))) is not None:
            self._do(order)

    def wait(self) -> None:
        """All is sent; does as it is told until nothing more will come."""
        for order in self._orders:
            if self._do(order) == ENOUGH:
                return

    def _do(self, order: Event) -> str:
        assert isinstance(order, Request)
        if order.kind == SEASON:
            self._season = order.data
        order.reply()
        return order.kind


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="drill.producer", description=__doc__)
    parser.add_argument("bus")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    told = parser.parse_args()
    with eventbus.open(told.bus) as bus, bus.subscribe(ORDERS) as orders:
        producer = Producer(bus, orders, told.seed)
        producer.send(told.jobs, told.rate)
        producer.wait()


main()
