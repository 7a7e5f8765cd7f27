"""Prometheus: the figures of buses for ``prometheus_client``, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventbus.errors import UnavailableError
from eventbus.observe import metrics
from eventbus.observe.metrics import METRICS, Metric

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise UnavailableError("metrics need a library: pip install 'eventbus[prometheus]'") from error

Family = CounterMetricFamily | GaugeMetricFamily


class BusCollector(Collector):
    """The figures of buses as they are when they are collected: ``REGISTRY.register(BusCollector())``.

    They stand in shared memory, so whichever process answers tells the same: under prefork one collector in each is
    right, and needs neither files nor a thread. Nobody attaches to a bus for it. Buses may come and go meanwhile.

    Args:
        names: of the buses; those of all on this host if None.

    Raises:
        InvalidError: a name that no bus can have.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._names = None if names is None else metrics.check_names(names)

    def describe(self) -> Iterator[Family]:
        """Each metric without figures: so a registry sees whether two have the same name."""
        return map(_family, METRICS)

    def collect(self) -> Iterator[Family]:
        """Each metric with its figures.

        Raises:
            OSError: there is no shared memory on this host.
        """
        families = {metric: _family(metric) for metric in METRICS}
        for (metric, labels), value in self._totals().items():
            families[metric].add_metric(labels, value)
        yield from families.values()

    def _totals(self) -> dict[tuple[Metric, tuple[str, ...]], float]:
        """One figure for each set of labels: a process may have two subscriptions of one name."""
        totals: dict[tuple[Metric, tuple[str, ...]], float] = {}
        for metric, labels, value in metrics.read(self._names):
            totals[metric, labels] = totals.get((metric, labels), 0) + value
        return totals


def _family(metric: Metric) -> Family:
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return made(metric.name, metric.help, labels=metric.labels)
