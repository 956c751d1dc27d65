"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def data_option(command: _Command) -> _Command:
    """`--data DIR`."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".rookery"),
        show_default="./.rookery",
        metavar="DIR",
        help="Data folder.",
    )(command)


def profile_option(command: _Command) -> _Command:
    """`--profile NAME`."""
    from cli.profile import PROFILES

    return click.option(
        "--profile", type=click.Choice(sorted(PROFILES)), default="embedded", show_default=True, help="What to run."
    )(command)
