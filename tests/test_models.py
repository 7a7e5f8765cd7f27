"""The models in tests/models: each property holds, each mutant is caught, and they name what the code has."""

from __future__ import annotations

import importlib.util
import re
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"

_spec = importlib.util.spec_from_file_location("eventbus_models", HERE / "models" / "check.py")
assert _spec is not None
assert _spec.loader is not None
check = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = check
_spec.loader.exec_module(check)

CHECKS = [one for model in check.MODELS for one in check.checks(model)]
MUTANTS = [(model, name) for model in check.MODELS for name in check.mutants(model)]
FEWEST_MUTANTS = 2

# Labels of layout.h whose order no model looks at, and why that is enough.
NOT_MODELLED = {
    "topic": "an entry is written under the publish lock, before the one store that shows it; nothing is ever changed",
}

needs_spin = pytest.mark.skipif(
    bool(check.missing()), reason="the models are checked with spin: apt-get install spin (Debian package `spin`)"
)


def labels_of_the_code() -> set[str]:
    """The labels that the essay in layout.h explains."""
    return set(re.findall(r"^ \*   \[(\w+)\]", (CSRC / "layout.h").read_text(), re.MULTILINE))


def points_of_the_code() -> set[str]:
    """The names of the test points."""
    return set(re.findall(r"POINT\((\w+)\)", (CSRC / "points.h").read_text())) - {"EB_POINT_NAME"}


def without_mutants(model: Path) -> str:
    """The model as it is checked: what only a mutant has does not count as named."""
    kept, skipping = [], 0
    for line in model.read_text().splitlines():
        if line.startswith("#ifdef MUTANT_"):
            skipping = 1
        elif line.startswith(("#else", "#endif")):
            skipping = 0
        elif not skipping:
            kept.append(line)
    return "\n".join(kept)


@pytest.fixture(scope="module")
def verified(request: pytest.FixtureRequest) -> dict[object, Any]:
    """What the verifier says of the properties and mutants that this run tests, two at a time."""
    asked = [
        item.callspec.params
        for item in request.session.items
        if item.path == Path(__file__) and hasattr(item, "callspec")
    ]
    jobs: dict[object, Future[Any]] = {}
    with ThreadPoolExecutor(check.JOBS) as pool:
        for params in asked:
            if "one" in params:
                jobs[params["one"]] = pool.submit(check.verify, params["one"])
            elif "mutant" in params:
                jobs[params["model"], params["mutant"]] = pool.submit(check.caught, params["model"], params["mutant"])
    return {asked: job.exception() or job.result() for asked, job in jobs.items()}


@needs_spin
@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.label)
def test_a_property_holds_in_every_state(one: Any, verified: dict[object, Any]) -> None:
    """Within its bounds, no run of the model, whatever its order, breaks the property."""
    assert verified[one] == check.Outcome("", verified[one].states), one.text


@needs_spin
@pytest.mark.parametrize(("model", "mutant"), MUTANTS, ids=lambda value: getattr(value, "stem", value))
def test_a_mutant_is_caught(model: Path, mutant: str, verified: dict[object, Any]) -> None:
    """A model with this defect is refused: the property would notice the same defect in the code."""
    found = verified[model, mutant]
    assert found is not None
    assert found[1].error


@needs_spin
def test_a_search_that_is_cut_short_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the verifier does not reach every state, the verification is an error and not a success."""
    deep = tmp_path / "deep.pml"
    deep.write_text(
        "/*\n * CHECK depth: it ends\n */\nactive proctype p() { byte i; do :: i < 200 -> i++ :: else -> break od }\n"
    )
    (one,) = check.checks(deep)
    assert check.verify(one).error == ""
    monkeypatch.setattr(check, "DEPTH", 50)
    with pytest.raises(check.VerifierError):
        check.verify(one)


@pytest.mark.parametrize("model", check.MODELS, ids=lambda model: model.stem)
def test_each_model_has_checks_and_mutants(model: Path) -> None:
    """A model says what it proves, and has mutants enough to show that it can fail."""
    assert check.checks(model)
    assert len(check.mutants(model)) >= FEWEST_MUTANTS
    assert set(check.described(model)) == set(check.mutants(model))
    assert {by for by, _ in check.described(model).values()} <= {one.name for one in check.checks(model)}


def test_each_label_is_modelled_or_explained() -> None:
    """Every label of the code is at the steps of a model or has a reason not to be; no model names one that is not."""
    comments = [text for model in check.MODELS for text in re.findall(r"/\*.*?\*/", without_mutants(model), re.DOTALL)]
    used = {label for text in comments for label in re.findall(r"\[(\w+)\]", text)}
    assert used | set(NOT_MODELLED) == labels_of_the_code()
    assert used.isdisjoint(NOT_MODELLED)


@pytest.mark.parametrize("model", check.MODELS, ids=lambda model: model.stem)
def test_the_points_of_a_model_are_the_codes(model: Path) -> None:
    """What a model calls a step is the name of the test point that the code passes there."""
    text = without_mutants(model)
    named = set(re.findall(r"\b(?:STEP|CALM|MOMENT)\((\w+),", text)) - {"_", "point"}
    assert named
    assert named <= points_of_the_code()
