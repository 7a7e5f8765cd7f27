"""Bridges and servers that die or stand still while events flow: some of the bridge's matrix, and what judges it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from bridged.cases import Case, Fate, all_cases
from bridged.ledger import Ledger, Stream
from bridged.moments import MOMENTS
from bridged.page import page
from bridged.run import run
from bridged.scenes import SCENES
from harness import points
from nats_server import ABSENT, programs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bridge-matrix.md"
SHORT = [
    Case("mid-write", Fate.BRIDGE_KILLED),
    Case("acknowledged", Fate.SERVER_KILLED),
    Case("written", Fate.SERVER_STOPPED),
    Case("commit: copied", Fate.BRIDGE_KILLED),
    Case("consumer made", Fate.BRIDGE_KILLED),
    Case("restored unheard", None),
    Case("held back from the dead", None),
    Case("importing ring lapped", None),
]
"""What `make test` plays of it."""


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[Case, str]:
    """What came of the cases that this run of pytest has chosen, all played at once."""
    if not programs():
        pytest.skip(ABSENT)
    chosen = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    return run(case for case in chosen if isinstance(case, Case) and case in SHORT)


@pytest.mark.parametrize("case", SHORT, ids=str)
def test_all_arrives_whole_once_and_in_order(case: Case, outcomes: dict[Case, str]) -> None:
    """Whoever dies or stands still there, whatever becomes of the server, the network and the rings."""
    if outcomes[case]:
        pytest.fail(outcomes[case], pytrace=False)


def test_every_moment_is_one() -> None:
    """What a moment names is there in the rooms of the bridge, or is a test point of the core."""
    assert set(SHORT) < set(all_cases())
    for moment in MOMENTS.values():
        if moment.room == "core":
            assert moment.name in points()
            continue
        found = importlib.import_module(f"eventbus.bridge.{moment.room}")
        for part in moment.name.split("."):
            found = getattr(found, part)


def test_the_page_shows_the_cases_that_there_are() -> None:
    """docs/bridge-matrix.md has each moment and each scene, and every cell of it was as it should be."""
    text = PAGE.read_text()
    assert re.findall(r"^\| \*([^*]+)\* \|", text, re.MULTILINE) == [*MOMENTS, *SCENES]
    assert "FAILED" not in text
    assert text.splitlines()[4:] == page(dict.fromkeys(all_cases(), "")).splitlines()[4:]


# --- the ledger ---


def _judged(numbers: list[int], sent: int, told: int = 0, doubles: int = 0) -> list[str]:
    ledger = Ledger()
    ledger.sent["h1"] = sent
    ledger.told["h2"] = told
    stream = ledger.heard["h2", "h1"] = Stream()
    for number in numbers:
        stream.hear(number)
    return [one.partition(": ")[2] for one in ledger.violations([("h2", "h1")], doubles)]


def test_the_ledger_sees_what_is_wrong() -> None:
    """Events that are lost, late or doubled are violations; what is told, or may come twice, is not."""
    assert _judged([0, 1, 2], 3) == []
    assert _judged([0, 2], 4) == ["2 are lost, 0 were told; the first are [1]"]
    assert _judged([0, 2], 4, told=2) == []
    assert _judged([], 1) == ["1 are lost, 0 were told; the first are []"]
    assert _judged([0, 2, 1], 3) == ["1 came out of order"]
    assert _judged([0, 1, 0, 1], 2) == ["2 came twice"]
    assert _judged([0, 1, 0, 1], 2, doubles=2) == []
