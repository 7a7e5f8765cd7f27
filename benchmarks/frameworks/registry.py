"""Which frameworks there are: two processes each, acknowledged late where that can be, set as their manuals advise."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

from benchmarks.peer import Medium, Peer, Topology
from benchmarks.peers import no_redis
from benchmarks.peers.bus import remove


@dataclass(frozen=True)
class Setting:
    """How the processes of one framework are run.

    Attributes:
        library: what must be installed.
        jobs: the module of this package that defines the job, and ``sender``, which sends one.
        command: what follows ``python -m``; ``{name}`` is the name of the repetition, ``{files}`` its directory.
        hands: how many jobs run at once.
        variables: environment variables that it is told by.
        late: whether a job is acknowledged when it is done, so that another process may have it if this one dies.
    """

    library: str
    jobs: str
    command: str
    hands: int = 2
    variables: Mapping[str, str] = field(default_factory=dict)
    late: bool = True

    @property
    def over_redis(self) -> bool:
        """Whether it is one of the others."""
        return self.jobs != "bus_jobs"


def _bus(prefetch: int) -> Setting:
    worker = "benchmarks.frameworks.bus_jobs:worker"
    return Setting("typer", "bus_jobs", f"eventbus work {{name}} {worker} --processes 2 --prefetch {prefetch}")


def _celery(prefetch: int) -> Setting:
    # What workers tell each other of themselves, of which a lone one has no use, is left out.
    quiet = "--without-gossip --without-mingle --without-heartbeat --loglevel WARNING"
    app = "celery --app benchmarks.frameworks.celery_jobs worker"
    return Setting("celery", "celery_jobs", f"{app} --concurrency 2 --prefetch-multiplier {prefetch} {quiet}")


def _rq(worker: str) -> Setting:
    # The class is named by way of the module of the job, so that this is loaded before any process is forked.
    command = "rq.cli worker-pool --num-workers 2 --url unix://{files}/redis --quiet"
    return Setting("rq", "rq_jobs", f"{command} --worker-class benchmarks.frameworks.rq_jobs.{worker}")


def _dramatiq(threads: int, **variables: str) -> Setting:
    command = f"dramatiq benchmarks.frameworks.dramatiq_jobs --processes 2 --threads {threads}"
    return Setting("dramatiq", "dramatiq_jobs", command, 2 * threads, variables)


def _huey() -> Setting:
    command = "huey.bin.huey_consumer benchmarks.frameworks.huey_jobs.huey --worker-type process --workers 2 --quiet"
    return Setting("huey", "huey_jobs", command, late=False)


SETTINGS = {
    "eventbus": _bus(64),
    "eventbus, prefetch 1": _bus(1),
    "Celery": _celery(64),
    "Celery, prefetch 1": _celery(1),
    "RQ": _rq("Worker"),
    "RQ, SimpleWorker": _rq("SimpleWorker"),
    "Dramatiq": _dramatiq(1, dramatiq_queue_prefetch="64"),
    "Dramatiq, 8 threads": _dramatiq(8),
    "Huey": _huey(),
}
"""How each is run, by the name that the tables show. The eight threads of Dramatiq are its default."""


class BusMedium(Medium):
    """A bus that has the name of the repetition: its processes are killed in the end, so it is removed by name."""

    def open(self, leftovers: ExitStack) -> None:
        leftovers.callback(remove, self.files.name)


def frameworks() -> list[Peer]:
    """Return every framework, and `Worker` with them; the absent ones with the reason."""
    return [_peer(name, setting) for name, setting in SETTINGS.items()]


def _peer(name: str, setting: Setting) -> Peer:
    missing = None if find_spec(setting.library) else f"No module named {setting.library!r}"
    if setting.over_redis:
        return Peer(name, missing or no_redis(), _over_redis)
    return Peer(name, missing, BusMedium)


def _over_redis(topology: Topology) -> Medium:
    medium: Medium = import_module("benchmarks.peers.redis_server").RedisMedium(topology)
    return medium
