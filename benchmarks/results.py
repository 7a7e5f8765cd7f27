"""The directory that holds one whole run: results.json, results.md and the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.machine import described
from benchmarks.markdown import page
from benchmarks.report import write_json
from benchmarks.tables import Table

DIRECTORY = Path(__file__).parent / "results"


def write(run: dict[str, Any], tables: list[Table], directory: Path = DIRECTORY) -> str | None:
    """Write everything.

    Args:
        run: as `report.document` makes it.
        tables: what results.md shows.
        directory: where; made if it is not there.

    Returns:
        Why there are no pictures, or ``None``.
    """
    directory.mkdir(exist_ok=True)
    write_json(directory / "results.json", run)
    pictures, missing = _draw(run, directory)
    (directory / "results.md").write_text(page(described(run["machine"]), tables, pictures), encoding="utf-8")
    return missing


def redraw(directory: Path = DIRECTORY) -> str | None:
    """Draw the pictures of a run that was written before; returns why not, or ``None``."""
    return _draw(json.loads((directory / "results.json").read_text(encoding="utf-8")), directory)[1]


def _draw(run: dict[str, Any], directory: Path) -> tuple[list[str], str | None]:
    try:
        from benchmarks.pictures import draw
    except ImportError as error:
        return [], f"no pictures: {error}; install the extra 'bench'"
    return draw(run, directory), None
