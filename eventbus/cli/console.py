"""What a terminal gets, and nothing else does: colours, lines that fit, bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

_WIDEST = 10_000  # columns of what is no terminal, so that nothing is cut there


def make_console(*, stderr: bool = False) -> Console:
    """A console that wraps and colours on a terminal only, and leaves a closed pipe to the caller."""
    made = _Console(stderr=stderr, highlight=False, emoji=False)
    return made if made.is_terminal else _Console(stderr=stderr, highlight=False, emoji=False, width=_WIDEST)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that rich is handling; its own way is to exit here


@contextmanager
def bar(unit: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; as ``streams.progress``."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # as long as all of typer

    columns = (TextColumn("{task.fields[sent]} {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as shown:
        task = shown.add_task(unit, total=total, sent=0)
        yield lambda step, sent: shown.update(task, advance=step, sent=sent)
