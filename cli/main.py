"""The `rookery` command. Sub-commands are imported when they run, so that `--help` and completion start at once."""

from __future__ import annotations

import importlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click

from mesh.startup import importing


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a sub-command is, and its line in `--help`."""

    attribute: str
    """`module:name` of a click command."""
    summary: str
    """A few words."""


_COMMANDS = {
    "up": _Entry("cli.up:up", "Start everything and watch over it."),
    "status": _Entry("cli.status:status", "Show each process and ask it how it is."),
    "down": _Entry("cli.down:down", "Stop what `up` started."),
    "logs": _Entry("cli.logs:logs", "Print a process's log."),
    "migrate": _Entry("cli.migrate:migrate", "Bring the stores' schemas up to date."),
    "seed": _Entry("cli.seed:seed", "Fill a mesh that runs with accounts, follows and tweets."),
    "check": _Entry("cli.check:check", "Compare what the mesh answers with its tables."),
    "limits": _Entry("cli.limits:limits", "Check a file of rate limits."),
    "move": _Entry("cli.move:move", "Copy a store to another one, perhaps of another kind."),
    "keys": _Entry("cli.keys:keys", "Certificates of the services, for mutual TLS inside."),
    "roles": _Entry("cli.roles:roles", "Give people a role, or take it away."),
    "engines": _Entry("cli.engines:engines", "Real stores from packages, for the cluster profile's tests."),
    "bench": _Entry("cli.bench:bench", "Measure CPU per request, next to the floor."),
}


class _Lazy(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.attribute.partition(":")
        with importing():
            command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.attribute} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])


def _version() -> str:
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    version: str = tomllib.loads(project.read_text())["project"]["version"]
    return version


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="rookery")
def main() -> None:
    """Rookery: a Twitter-class backend as a mesh of services, on this machine."""


if __name__ == "__main__":
    main(prog_name="rookery")
