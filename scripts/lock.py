"""Pins pyproject.toml's dependencies with hashes: requirements/run.txt for `make run`, dev.txt for what tests add.

usage: python scripts/lock.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"


def compile_pins(out: Path, *extra: str) -> dict[str, list[str]]:
    """Resolves and gives the lines of each pinned package: no remarks, and no options, which say where it came from."""
    tool = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    subprocess.run([*tool, "--strip-extras", *extra, "--output-file", str(out), "pyproject.toml"], cwd=ROOT, check=True)
    packages: dict[str, list[str]] = {}
    for line in out.read_text().splitlines():
        if line and not line.startswith("--") and not line.lstrip().startswith("#"):
            if not line[0].isspace():
                lines = packages.setdefault(line.split("==")[0], [])
            lines.append(line)
    return packages


def write(path: Path, packages: dict[str, list[str]]) -> None:
    """Writes pins in the order of names."""
    path.write_text("".join(f"{line}\n" for name in sorted(packages) for line in packages[name]))


def main() -> None:
    """Writes both files; the second has only what the first has not."""
    REQUIREMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = compile_pins(Path(scratch) / "run.txt")
        every = compile_pins(Path(scratch) / "all.txt", "--extra", "dev")
    if different := [name for name in run if run[name] != every.get(name)]:
        raise SystemExit(f"the two sets pin different versions of {different}")
    write(REQUIREMENTS / "run.txt", run)
    write(REQUIREMENTS / "dev.txt", {name: lines for name, lines in every.items() if name not in run})


if __name__ == "__main__":
    main()
