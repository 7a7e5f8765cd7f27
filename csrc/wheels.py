"""Builds the wheels that a release has, each for one kind of Linux, with zig's compiler; run by ``make wheels``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

GLIBC = (2, 30)  # of the symbols; auditwheel has no tag for it, and the next one is that of 2.31
MACHINES = ("x86_64", "aarch64")


class Target(NamedTuple):
    """One wheel: what zig calls its system, and what pip does."""

    triple: str
    platform: str

    @property
    def compiler(self) -> str:
        """The value of ``CC``."""
        return f"{sys.executable} -m ziglang cc -target {self.triple}"


def targets() -> list[Target]:
    """For each machine, one for glibc and one for musl."""
    glibc = ".".join(map(str, GLIBC))
    manylinux = [Target(f"{machine}-linux-gnu.{glibc}", f"manylinux_2_31_{machine}") for machine in MACHINES]
    return manylinux + [Target(f"{machine}-linux-musl", f"musllinux_1_2_{machine}") for machine in MACHINES]


def environment(target: Target) -> dict[str, str]:
    """What setuptools is told: the headers of Python are those of this machine, alike wherever words have 64 bits."""
    return {"CC": target.compiler, "LDSHARED": f"{target.compiler} -shared", "CFLAGS": "", "LDFLAGS": ""}


def build(target: Target, out: Path) -> Path:
    """Builds one wheel into a folder.

    Raises:
        CalledProcessError: it cannot be built.
    """
    temp = Path("build/wheels") / target.triple
    run = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(temp)]
    run += ["bdist_wheel", "--plat-name", target.platform, "--dist-dir", str(out)]
    before = set(out.glob("*.whl"))
    subprocess.run(run, env={**os.environ, **environment(target)}, check=True)
    made = next(iter(set(out.glob("*.whl")) - before), None)
    return made or next(out.glob(f"*{target.platform}.whl"))


def check(wheel: Path, platform: str) -> None:
    """Has auditwheel say which Linux it is for, which must be the promised one, and abi3audit look at its symbols.

    Raises:
        CalledProcessError: auditwheel cannot read it, or abi3audit refuses it.
        SystemExit: it is for another Linux than its name says.
    """
    programs = Path(sys.executable).parent
    run: list[str | Path] = [programs / "auditwheel", "show", "--json", wheel]
    # zig links musl as libc.so, which each musl takes for itself; auditwheel only knows the name that Alpine has, and
    # libc.so may be of glibc here. So its word on the symbols counts.
    musl = platform.startswith("musllinux")
    if musl:
        run += ["--ldpaths", "build/wheels"]
    shown = subprocess.run(run, stdout=subprocess.PIPE, check=True)
    tag = json.loads(shown.stdout)["sym_tag" if musl else "overall_tag"]
    if tag != platform:
        raise SystemExit(f"{wheel} is for {platform} by its name and for {tag} by what auditwheel sees in it")
    subprocess.run([programs / "abi3audit", "--strict", wheel], check=True)


if __name__ == "__main__":
    folder = Path("dist/wheels")
    folder.mkdir(parents=True, exist_ok=True)
    for each in targets():
        check(build(each, folder), each.platform)
