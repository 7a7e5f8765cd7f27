"""The inputs that fuzzing the Python modules kept, once more and without a fuzzer; tests/test_c.py does that of C."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "fuzz"
TARGETS = sorted(HERE.glob("fuzz_*.py"))


@pytest.mark.parametrize("source", TARGETS, ids=lambda source: source.stem)
def test_no_input_that_a_fuzzer_kept_ends_badly(source: Path) -> None:
    """Every kind of pattern, policy and record that fuzzing has told apart is answered as its target says."""
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    corpus = sorted((HERE / "corpus" / source.stem.removeprefix("fuzz_")).iterdir())
    assert corpus
    for path in corpus:
        try:
            module.one_input(path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path} is a finding") from error
