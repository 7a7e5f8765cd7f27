"""Dashboard: the metrics as a dashboard for Grafana. ``python -m eventbus.observe.dashboard`` writes its JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from eventbus.observe import metrics
from eventbus.observe.metrics import Metric

WIDTH, HEIGHT = 12, 8  # of a panel; Grafana's grid has 24 columns

SOURCE = {"type": "prometheus", "uid": "${source}"}


class Panel(NamedTuple):
    """One graph.

    Attributes:
        lines: expressions, and what each line of theirs is called.
        unit: as Grafana knows it.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    unit: str = "short"


def now(metric: Metric) -> str:
    """What it is, of the buses that are chosen."""
    return f'{metric.name}{{bus=~"$bus"}}'


def rate(metric: Metric) -> str:
    """How much it grows in a second."""
    return f"rate({now(metric)}[$__rate_interval])"


def quantile(share: float, metric: Metric) -> str:
    """What so large a share of its events took at most."""
    return (
        f"histogram_quantile({share}, sum by (le, bus, subscriber, pid) "
        f'(rate({metric.name}_bucket{{bus=~"$bus"}}[$__rate_interval])))'
    )


OF_BUS, OF_SUBSCRIBER, OF_GROUP = "{{bus}}", "{{bus}} {{subscriber}} {{pid}}", "{{bus}} {{group}}"

PANELS = (
    Panel(
        "Events sent",
        ((f"sum by (bus, system, kind) ({rate(metrics.SENT)})", "{{bus}} {{system}} {{kind}}"),),
        "eps",
    ),
    Panel("Buses, by state", ((now(metrics.STATE), "{{bus}} {{state}}"),)),
    Panel("Events received", ((rate(metrics.RECEIVED), OF_SUBSCRIBER),), "eps"),
    Panel("Bytes received", ((rate(metrics.BYTES), OF_SUBSCRIBER),), "Bps"),
    Panel(
        "Delay of delivery",
        tuple((quantile(share, metrics.DELIVERY), f"{OF_SUBSCRIBER} p{share * 100:g}") for share in (0.5, 0.99)),
        "s",
    ),
    Panel("Backlog of subscribers", ((now(metrics.BACKLOG), OF_SUBSCRIBER),)),
    Panel("Lost to lapping", ((rate(metrics.LOST), OF_SUBSCRIBER),), "eps"),
    Panel(
        "Wake-ups, and events passed over",
        ((rate(metrics.WAKES), f"{OF_SUBSCRIBER} wake-ups"), (rate(metrics.SKIPPED), f"{OF_SUBSCRIBER} passed")),
        "ops",
    ),
    Panel("Backlog of groups", ((now(metrics.GROUP_BACKLOG), OF_GROUP),)),
    Panel(
        "In hand of members",
        ((now(metrics.IN_HAND), f"{OF_GROUP} in hand"), (now(metrics.RETURNED), f"{OF_GROUP} to be had again")),
    ),
    Panel("Oldest event in hand", ((now(metrics.OLDEST), OF_GROUP),), "s"),
    Panel(
        "Delivered again, and dead",
        ((rate(metrics.REDELIVERED), f"{OF_GROUP} again"), (rate(metrics.DEAD), f"{OF_GROUP} dead")),
        "eps",
    ),
    Panel("Members", ((now(metrics.MEMBERS), OF_GROUP),)),
    Panel("How often a bus is open", ((now(metrics.ATTACHED), OF_BUS),)),
    Panel(
        "Rings",
        ((now(metrics.USED), f"{OF_BUS} used"), (now(metrics.CAPACITY), f"{OF_BUS} capacity")),
        "bytes",
    ),
)


def dashboard() -> dict[str, Any]:
    """What Grafana imports: a choice of the source and of buses, and a panel for each of ``PANELS``."""
    return {
        "uid": "eventbus",
        "title": "eventbus",
        "tags": ["eventbus"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_choice_of_source(), _choice_of_bus()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _choice_of_source() -> dict[str, Any]:
    return {"type": "datasource", "name": "source", "label": "Source", "query": "prometheus"}


def _choice_of_bus() -> dict[str, Any]:
    return {
        "type": "query",
        "name": "bus",
        "label": "Bus",
        "datasource": SOURCE,
        "query": f"label_values({metrics.STATE.name}, bus)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 24 // WIDTH)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [_line(letter, *line) for letter, line in zip("ABCDEF", panel.lines, strict=False)],
    }


def _line(letter: str, expression: str, legend: str) -> dict[str, Any]:
    return {"refId": letter, "datasource": SOURCE, "expr": expression, "legendFormat": legend}


def text() -> str:
    """The JSON of it, as it stands in ``docs/grafana.json``."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
