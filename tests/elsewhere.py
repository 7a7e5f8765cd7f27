"""The programs in tests/c on other kinds of Linux: compiled by zig for each that a wheel is for, and run. Of another
machine by qemu, where that is installed. Run by ``make elsewhere``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "csrc"))

from wheels import Target, targets  # noqa: E402  its folder can be found by now

CORE = sorted(path for path in (ROOT / "csrc").glob("*.c") if path.name != "_eventbus.c")
PROGRAMS = sorted((ROOT / "tests" / "c").glob("test_*.c"))
FLAGS = ["-std=gnu11", "-g1", "-pthread", "-DEB_TEST_POINTS=1", f"-I{ROOT / 'csrc'}"]
DEADLINE = 240  # seconds
NOT_EMULATED = {
    "test_attachment": "qemu does not wipe what MADV_WIPEONFORK asks it to, so no child of C is known as one"
}


def run_on(target: Target) -> bool:
    """Compiles and runs all for one target; whether each says that all is so."""
    machine = target.triple.split("-")[0]
    emulator = [] if machine == platform.machine() else [f"qemu-{machine}-static"]
    if emulator and not shutil.which(emulator[0]):
        print(f"skipped: {target.triple} needs {emulator[0]}, which Debian's package qemu-user-static brings")
        return True
    into = ROOT / "build" / "elsewhere" / target.triple
    into.mkdir(parents=True, exist_ok=True)
    objects = [into / f"{source.stem}.o" for source in CORE]
    for source, made in zip(CORE, objects, strict=True):
        subprocess.run([*target.compiler.split(), *FLAGS, "-O1", "-c", "-o", made, source], check=True)
    failed = [one.stem for one in PROGRAMS if not _run(target, emulator, one, into / one.stem, objects)]
    return not failed


def _run(target: Target, emulator: list[str], source: Path, to: Path, objects: list[Path]) -> bool:
    name = f"{target.triple} {source.stem}"
    if emulator and (why := NOT_EMULATED.get(source.stem)):
        print(f"{name}: skipped: {why}")
        return True
    static = ["-static"] if "musl" in target.triple else []
    subprocess.run([*target.compiler.split(), *FLAGS, *static, "-O0", "-o", to, source, *objects], check=True)
    with (to.parent / f"{source.stem}.out").open("w+") as said:
        status = subprocess.run([*emulator, to], stdout=said, stderr=said, timeout=DEADLINE, check=False).returncode
        said.seek(0)
        print(f"{name}: {said.read().strip().rpartition(chr(10))[2]}, ended with {status}", flush=True)
    return status == 0


if __name__ == "__main__":
    os.chdir(ROOT)
    failed = [target.triple for target in targets() if "musl" in target.triple and not run_on(target)]
    sys.exit(bool(failed))
