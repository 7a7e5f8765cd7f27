"""Runs the fuzz targets of this directory: those in C with libFuzzer, those in Python with atheris.

    python tests/fuzz/drive.py [--minutes N] [--jobs N] [--keep] [TARGET ...]

A target begins with the inputs kept in ``corpus/`` and those that earlier runs left in ``build/fuzz``. An input that
ends it in another way than it should is a finding: it stays in ``build/fuzz/findings``, and the run fails. ``--keep``
makes the corpus anew, of the fewest inputs that reach all that was reached.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"
FINDINGS = BUILD / "findings"
CORE = sorted(path for path in (ROOT / "csrc").glob("*.c") if path.name != "_eventbus.c")
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-DEB_TEST_POINTS=1"]
SANITIZERS = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
SANDBOXED = ["mmap", "munmap", "mremap", "syscall", "clock_gettime", "nanosleep", "clock_nanosleep"]
SANDBOXED += ["pthread_mutex_clocklock"]
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=512"]
TARGETS = {path.stem.removeprefix("fuzz_"): path for path in sorted(HERE.glob("fuzz_*"))}


def main() -> int:
    """Builds, runs and reports; 1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at the same time")
    parser.add_argument("--keep", action="store_true", help="make the corpus anew")
    parser.add_argument("targets", nargs="*", default=[*TARGETS], help=", ".join(TARGETS))
    options = parser.parse_args()
    FINDINGS.mkdir(parents=True, exist_ok=True)
    runnable = {target: command for target in options.targets if (command := command_of(target))}
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = pool.map(lambda target: run(target, runnable[target], options.minutes), runnable)
        whole = all([*runs])
    if options.keep and whole:
        for target, command in runnable.items():
            keep(target, command)
    return 0 if whole else 1


def command_of(target: str) -> list[str]:
    """What runs the target; empty, with a sentence, where it cannot be run."""
    source = TARGETS[target]
    if source.suffix == ".py":
        if importlib.util.find_spec("atheris") is None:
            print(f"{target} is skipped: it needs atheris, which `pip install atheris` brings")
            return []
        return [sys.executable, __file__, "--atheris", target]
    if shutil.which("clang") is None:
        print(f"{target} is skipped: it needs clang, which Debian's package clang brings")
        return []
    program = BUILD / target
    renamed = [f"-D{name}=sandbox_{name}" for name in SANDBOXED]
    sources = [source, HERE / "sandbox.c", *CORE]
    subprocess.run(
        ["clang", *FLAGS, *SANITIZERS, *renamed, "-I", ROOT / "csrc", "-o", program, *sources], check=True, cwd=ROOT
    )
    return [str(program)]


def kept(target: str) -> Path:
    """The inputs that are replayed with every test run."""
    return HERE / "corpus" / target


def found(target: str) -> Path:
    """Those that runs on this machine added."""
    directory = BUILD / "corpus" / target
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def run(target: str, command: list[str], minutes: float) -> bool:
    """One target, for so long; whether it found nothing."""
    log = BUILD / f"{target}.log"
    words = HERE / f"{target}.dict"
    kept(target).mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={round(minutes * 60)}", f"-artifact_prefix={FINDINGS}/{target}-"]
    options += [f"-dict={words}"] if words.exists() else []
    with log.open("w") as output:
        begun = time.monotonic()
        done = subprocess.run(
            [*command, *LIMITS, *options, found(target), kept(target)], stdout=output, stderr=subprocess.STDOUT
        )
    lines = log.read_text(errors="replace").splitlines()
    took = time.monotonic() - begun
    last = next((line for line in reversed(lines) if line.startswith(("Done", "#"))), "nothing was run")
    print(f"{target}: {'no finding' if done.returncode == 0 else 'A FINDING'} in {took:.0f} s; {last}", flush=True)
    if done.returncode != 0:
        print("\n".join(lines[-40:]))
    return done.returncode == 0


def keep(target: str, command: list[str]) -> None:
    """The fewest inputs that reach all that was reached."""
    fewest = BUILD / "fewest" / target
    shutil.rmtree(fewest, ignore_errors=True)
    fewest.mkdir(parents=True)
    # Of the core what reaches other code; of Python, which has less, also what runs it another number of times.
    counters = f"-use_counters={int(TARGETS[target].suffix == '.py')}"
    subprocess.run(
        [*command, *LIMITS, "-merge=1", counters, fewest, kept(target), found(target)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if not any(fewest.iterdir()):
        raise SystemExit(f"{target}: nothing was merged, the corpus stays as it is")
    shutil.rmtree(kept(target))
    shutil.move(fewest, kept(target))
    print(f"{target}: {len([*kept(target).iterdir()])} inputs are kept")


def fuzz_with_atheris(target: str, options: list[str]) -> None:
    """The life of a process that ``command_of`` names."""
    import atheris

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["eventbus"]):
        module = importlib.import_module(f"fuzz_{target}")
    again = f"{sys.executable} {__file__} --atheris {target}"  # how a merge calls itself
    atheris.Setup([again, *options], module.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--atheris"]:
        fuzz_with_atheris(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
