"""What a terminal gets, and nothing else does: colours, lines that fit, bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

_WIDEST = 10_000  # columns of what is no terminal, so that nothing is cut there


def make_console(*, stderr: bool = False) -> Console:
    """A console that wraps and colours on a terminal only, and leaves a closed pipe to the caller."""
    made = _Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else _Console(stderr=stderr, highlight=False, width=_WIDEST)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that rich is handling; its own way is to exit here


@contextmanager
def progress(unit: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar, if standard error is a terminal.

    Args:
        unit: of what is sent.
        total: how far it goes; None if nobody knows.

    Yields:
        What is told by how much it went on, and how many have been sent.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # takes as long to import as typer

    columns = (TextColumn("{task.fields[sent]} {task.description}"), BarColumn(), TimeElapsedColumn())
    console = make_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(unit, total=total, sent=0)
        yield lambda step, sent: bar.update(task, advance=step, sent=sent)
