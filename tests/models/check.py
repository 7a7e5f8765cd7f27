"""Verifies the models of the protocols with spin, and shows that each mutant of them is caught.

A model says itself what is to be checked: ``CHECK name -DBOUNDS...: the property`` in its opening comment. What stands
in ``#ifdef MUTANT_name`` is a defect that must be found; ``MUTANT name check: the defect`` says by which check, without
it any of them may. ``python tests/models/check.py`` prints the table.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = sorted(HERE.glob("*.pml"))
NEEDED = ("spin", "gcc")
DEADLINE = 300  # seconds until one verification counts as hanging
MEGABYTES = 1500  # that one verification may take
DEPTH = 20_000  # steps of the longest run; more is an error of the verification
JOBS = 2
# -O0 but for what hot.h names: to compile all of it with more takes longer than to look at the states without.
THOROUGH = ("gcc", "-O0", "-fwhole-program", "-include", str(HERE / "hot.h"))


class VerifierError(Exception):
    """The model was not verified to its end: not compiled, too deep, too large."""


@dataclass(frozen=True)
class Check:
    """One property of a model within its bounds."""

    model: Path
    name: str
    bounds: tuple[str, ...]
    text: str

    @property
    def label(self) -> str:
        """Unique among all checks."""
        return f"{self.model.stem}.{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What the verifier said: the error, "" for none, and how many states it took."""

    error: str
    states: int


def checks(model: Path) -> list[Check]:
    """The checks of a model, in the order in which it names them."""
    found = re.findall(r"^ \* CHECK (\w+)((?: -D\w+(?:=\d+)?)*): (.+)$", model.read_text(), re.MULTILINE)
    return [Check(model, name, tuple(bounds.split()), text) for name, bounds, text in found]


def mutants(model: Path) -> list[str]:
    """The names of a model's mutants, in the order of their first place."""
    return list(dict.fromkeys(re.findall(r"MUTANT_([a-z]\w*)", model.read_text())))


def described(model: Path) -> dict[str, tuple[str, str]]:
    """What the opening comment says of the mutants: for each name the check that finds it, and the defect."""
    found = re.findall(r"^ \* MUTANT (\w+) (\w+): (.+)$", model.read_text(), re.MULTILINE)
    return {name: (check, defect) for name, check, defect in found}


def missing() -> list[str]:
    """The programs that are needed and not installed."""
    return [program for program in NEEDED if shutil.which(program) is None]


def _run(into: str, *command: str | Path) -> str:
    own = {
        key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "ASAN_OPTIONS")
    }  # not the suite's
    done = subprocess.run(command, cwd=into, env=own, capture_output=True, text=True, timeout=DEADLINE, check=False)
    if done.returncode != 0:
        raise VerifierError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _quick() -> tuple[str, ...]:
    """The compiler for a search that ends at its first error: tcc, if it is there, takes a fortieth of gcc's time."""
    return ("tcc",) if shutil.which("tcc") else THOROUGH


def verify(check: Check, mutant: str | None = None) -> Outcome:
    """Looks at every state that the model can reach, until the first error.

    Raises:
        VerifierError: not every state was looked at, and no error was found among those that were.
    """
    defines = [*check.bounds, *([f"-DMUTANT_{mutant}"] if mutant else [])]
    with tempfile.TemporaryDirectory(prefix="eventbus-model-") as into:
        _run(into, "spin", "-a", *defines, check.model)
        compiler = _quick() if mutant else THOROUGH
        _run(into, *compiler, "-w", "-DSAFETY", "-DNOFAIR", f"-DMEMLIM={MEGABYTES}", "-o", "pan", "pan.c")
        said = _run(into, "./pan", f"-m{DEPTH}", "-w23", "-n")
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    if errors is None or states is None:
        raise VerifierError(said)
    if errors[1] != "0":
        found = re.search(r"^pan:\d+: (.+?) \(at depth \d+\)", said, re.MULTILINE)
        if found is None or "too small" in found[1]:
            raise VerifierError(said)
        return Outcome(found[1], int(states[1]))
    if "Search not completed" in said or "too small" in said or "MEMLIM" in said:
        raise VerifierError(said)
    return Outcome("", int(states[1]))


def caught(model: Path, mutant: str) -> tuple[Check, Outcome] | None:
    """The check that finds the mutant's defect: the one that the model names for it, else the first that does."""
    by = described(model).get(mutant, ("", ""))[0]
    for check in checks(model):
        if by in ("", check.name):
            outcome = verify(check, mutant)
            if outcome.error:
                return check, outcome
    return None


def print_check(check: Check, outcome: Outcome) -> bool:
    """One row of the table; whether it is good."""
    bounds = " ".join(bound.removeprefix("-D") for bound in check.bounds)
    print(f"{check.label:22} {outcome.states:>9} states  {outcome.error or 'holds'}  [{bounds}]\n    {check.text}")
    return not outcome.error


def print_mutant(model: Path, mutant: str, found: tuple[Check, Outcome] | None) -> bool:
    """One row of the table; whether it is good."""
    how = f"caught by {found[0].name}: {found[1].error}" if found else "NOT CAUGHT"
    print(f"{model.stem}, {described(model).get(mutant, ('', mutant))[1]}\n    {how}")
    return found is not None


def main() -> int:
    """Prints the table; 1 if a check fails or a mutant is not caught."""
    if absent := missing():
        print(f"{' and '.join(absent)} are needed: apt-get install spin gcc", file=sys.stderr)
        return 1
    every = [check for model in MODELS for check in checks(model)]
    pairs = [(model, mutant) for model in MODELS for mutant in mutants(model)]
    with ThreadPoolExecutor(JOBS) as pool:
        outcomes, finds = pool.map(verify, every), pool.map(lambda pair: caught(*pair), pairs)
        good = [print_check(check, outcome) for check, outcome in zip(every, outcomes, strict=True)]
        good += [print_mutant(*pair, found) for pair, found in zip(pairs, finds, strict=True)]
    print(f"{len(every)} properties, {len(pairs)} mutants, {good.count(False)} not as they should be")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
