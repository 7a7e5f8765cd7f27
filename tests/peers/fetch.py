"""Fetches what a suite needs: its source distribution, and an environment in which it and eventbus are installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

from peers.suites import Suite

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "peers"

_RUNNER = ("pytest", "pytest-timeout")


def source_of(suite: Suite) -> Path:
    """Return the directory of the unpacked source, fetched if it is not there."""
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / "pytest.ini").write_text("[pytest]\n")  # for a library without settings: this project's are not for it
    if not suite.distribution:
        home = PLACE / "python"
        home.mkdir(exist_ok=True)
        return home
    unpacked = PLACE / "sources" / f"{suite.distribution}-{suite.version}"
    if not unpacked.exists():
        kept = PLACE / "archives" / unpacked.name
        wanted = f"{suite.distribution}=={suite.version}"
        _pip(sys.executable, "download", "--no-deps", "--no-binary", suite.distribution, "--dest", str(kept), wanted)
        _unpack(next(kept.glob("*.tar.gz")), unpacked)
    return unpacked


def _unpack(archive: Path, to: Path) -> None:
    """Everything below the archive's one directory; half of it is never taken for all of it."""
    half = to.with_name(f"{to.name}.unpacking")
    with tarfile.open(archive) as opened:
        opened.extractall(half, filter="data")
    next(half.iterdir()).rename(to)
    half.rmdir()


def python_of(suite: Suite, source: Path) -> Path:
    """Return the interpreter of the suite's environment, made if it is not there or was made of other things."""
    home = PLACE / "environments" / (f"{suite.distribution}-{suite.version}" if suite.distribution else "python")
    python, ready = home / "bin" / "python", home / "installed"
    library = [str(source)] if suite.distribution else []
    wanted = [*library, *_RUNNER, *suite.requires, *_own_requirements()]
    if not ready.exists() or ready.read_text().splitlines() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        _pip(str(python), "install", *wanted)
        (next(home.glob("lib/python*/site-packages")) / "eventbus-checkout.pth").write_text(f"{_checkout()}\n")
        ready.write_text("\n".join(wanted))
    return python


def _checkout() -> Path:
    """Where the two packages of this checkout are found, as they are built, and nothing else of it."""
    beside = PLACE / "checkout"
    beside.mkdir(exist_ok=True)
    for package in (ROOT / "eventbus", ROOT / "tests" / "peers"):
        link = beside / package.name
        link.unlink(missing_ok=True)
        link.symlink_to(package)
    return beside


def _own_requirements() -> list[str]:
    return [wanted for wanted in metadata.requires("eventbus") or () if "extra ==" not in wanted]


def _pip(python: str, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)
