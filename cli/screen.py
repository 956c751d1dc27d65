"""What `rookery up` shows: a table that lives until all is ready, where there is a terminal, and lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.supervisor import Report

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_COLOURS = {"ready": "green", "restarting": "red", "warning": "yellow", "stopped": "bright_black"}


class Screen:
    """Output that never fails: a terminal that is gone must not keep a supervisor from stopping its processes."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._rows: dict[str, Report] = {}
        self._gone = False

    @contextmanager
    def live(self) -> Iterator[None]:
        """Inside, reports change rows of a table, if standard output is a terminal."""
        if not sys.stdout.isatty():
            yield
            return
        from rich.live import Live

        self._rows = {}
        with Live(self._table(), auto_refresh=False) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def report(self, report: Report) -> None:
        """Shows a change."""
        if self._live is None:
            detail = _words(report)
            name, state = f"{report.name:<11}", click.style(f"{report.state:<11}", fg=_COLOURS.get(report.state))
            self.say(f"{name}{state} {detail}".rstrip())
            return
        self._rows[report.name] = report
        try:
            self._live.update(self._table(), refresh=True)
        except OSError:
            self._hang_up()

    def say(self, text: str, *, error: bool = False) -> None:
        """Prints a line."""
        if self._gone:
            return
        try:
            click.echo(text, err=error)
        except OSError:
            self._hang_up()

    def _table(self) -> Table:
        from rich.table import Table

        table = Table("process", "state", "", box=None, pad_edge=False, header_style="bright_black")
        for row in self._rows.values():
            table.add_row(row.name, row.state, _words(row), style=_COLOURS.get(row.state))
        return table

    def _hang_up(self) -> None:
        self._gone = True
        self._live = None
        nowhere = os.open(os.devnull, os.O_WRONLY)  # so that Python's own flush at exit finds something to write to
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _words(report: Report) -> str:
    took = f"{report.took_s:.2f} s" if report.took_s is not None else ""
    pid = f"pid {report.pid}" if report.pid is not None else ""
    return "  ".join(filter(None, (report.detail, took, pid)))
