"""Makes this checkout importable in its environment, and `rookery` its command. No build step, nothing downloaded."""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = """#!{python}
import sys

from cli.main import main

sys.exit(main())
"""


def main() -> None:
    """Writes a path file and the command."""
    site = Path(sysconfig.get_path("purelib"))
    (site / "rookery-checkout.pth").write_text(f"{ROOT}\n{ROOT / 'gen'}\n")
    command = Path(sysconfig.get_path("scripts")) / "rookery"
    command.write_text(COMMAND.format(python=sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
