"""The facts of the machine that a figure depends on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("eventbus", "orjson", "pyzmq", "faster-fifo", "iceoryx2", "redis"),
    *("celery", "rq", "dramatiq", "huey"),
    *("nats-py", "uvloop"),
)


def facts() -> dict[str, Any]:
    """Return what to know about this machine, for the head of the table and the JSON."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "scheduler": [word for word in Path("/proc/cmdline").read_text().split() if word.startswith("sched_")],
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def described(facts: dict[str, Any]) -> list[str]:
    """Return the facts as lines for people."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    return [
        f"{facts['processor']}, {facts['cpus']} CPUs, {facts['memory_mib']} MiB, load {facts['load']}",
        " ".join(["Linux", facts["kernel"], *facts["scheduler"]]) + f", {facts['libc']}, {facts['python']}",
        f"{versions}; commit {facts['commit']}, {facts['time']}",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
