"""Prometheus: the figures of buses for ``prometheus_client``, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from eventbus.core.figures import ENDS, Delays
from eventbus.errors import UnavailableError
from eventbus.observe import metrics
from eventbus.observe.metrics import METRICS, Metric

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise UnavailableError("metrics need a library: pip install 'eventbus[prometheus]'") from error

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Value = float | Delays

_FAMILIES: dict[str, Callable[..., Family]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_EVERY = 4  # of the buckets of delays one is shown: each is four times as long as the one before


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
            _add(families[metric], labels, value)
        yield from families.values()

    def _totals(self) -> dict[tuple[Metric, tuple[str, ...]], Value]:
        """One figure for each set of labels: a process may have two subscriptions of one name."""
        totals: dict[tuple[Metric, tuple[str, ...]], Value] = {}
        for metric, labels, value in metrics.read(self._names):
            there = totals.get((metric, labels))
            totals[metric, labels] = value if there is None else _sum(there, value)
        return totals


def _family(metric: Metric) -> Family:
    return _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, Delays):
        assert isinstance(other, Delays)
        return one.plus(other)
    assert not isinstance(other, Delays)
    return one + other


def _add(family: Family, labels: tuple[str, ...], value: Value) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, Delays)
        family.add_metric(labels, _buckets(value), value.total)
    else:
        assert not isinstance(value, Delays)
        family.add_metric(labels, value)


def _buckets(delays: Delays) -> list[tuple[str, float]]:
    """As Prometheus has them: how many took so long at most."""
    up_to = list(accumulate(delays.counts))
    pairs = zip(ENDS[::_EVERY], up_to[::_EVERY], strict=False)
    return [*((repr(end), count) for end, count in pairs), ("+Inf", up_to[-1])]
