"""Shows how far the phases of a long work are: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_S = 5.0  # between lines where there is no terminal


class Phases:
    """Shows them.

    Args:
        width: of the column with the phases' names.
    """

    def __init__(self, width: int = 9) -> None:
        self._width = width
        self._bars: Progress | None = None

    @contextmanager
    def live(self) -> Iterator[None]:
        """Inside, phases are shown."""
        if not sys.stdout.isatty():
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        name = TextColumn(f"{{task.description:<{self._width}}}")
        with Progress(name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None

    @contextmanager
    def phase(self, name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Gives a function that is told how many more are done.

        Args:
            name: what begins.
            total: of how many; None when nobody knows.
            done: how many of them were done before.
        """
        if self._bars is not None:
            bars, task = self._bars, self._bars.add_task(name, total=total, completed=done)
            yield lambda count: _advance(bars, task, count)
            return
        started = said = time.monotonic()
        of = "" if total is None else f" of {total:,}"

        def advance(count: int) -> None:
            nonlocal done, said
            done += count
            if time.monotonic() - said >= _LINE_S:
                said = time.monotonic()
                click.echo(f"{name:<{self._width}} {done:,}{of}")

        yield advance
        click.echo(f"{name:<{self._width}} {done:,}{of} in {time.monotonic() - started:.1f} s")


def _advance(bars: Progress, task: TaskID, count: int) -> None:
    bars.advance(task, count)
