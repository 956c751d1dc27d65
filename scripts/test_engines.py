"""`make test-engines`: tests on real engines, part after part, so that a small machine suffices.

    python scripts/test_engines.py [PART...]      # all parts, or those that are named

A part is an engine, with the files of tests/engines that begin with its name; then `several`, the other files there,
which need several; then `mesh`, tests of the whole mesh on the cluster profile, test_mesh_* among them. Before a part
its engines are installed; the tests start what they use, and after it all that run are stopped, whatever happened. A
test that is skipped counts as a failure. At the end comes a table of what each part took.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # started as a file

from cli.cluster import SERVED_BY  # noqa: E402
from scripts.engines.base import EngineError  # noqa: E402
from scripts.engines.catalogue import ENGINES  # noqa: E402
from scripts.engines.control import MARKER, Control  # noqa: E402

FOLDER = ROOT / ".engines"
TESTS = ROOT / "tests"
MESH_TESTS = (
    "e2e/test_home_timelines.py",
    "e2e/test_relations.py",
    "e2e/test_engagement.py",
    "e2e/test_exports.py",
    "e2e/test_visibility_fuzz.py",
)
"""Of the whole mesh: timelines against the tables, and who sees what against a model."""
_MESH_BATCHES = "6"  # of 200 steps, where the embedded profile has 25


@dataclass
class Part:
    """Tests that need the same engines."""

    name: str
    """As on the command line."""
    engines: tuple[str, ...]
    """What they use."""
    arguments: tuple[str, ...]
    """For pytest."""
    environment: dict[str, str] = field(default_factory=dict)
    """Besides what this process has."""
    installing_s: float = 0.0
    """What downloading and building took, seconds."""
    testing_s: float = 0.0
    """What the tests took, the engines' starts included; seconds."""
    failure: str = ""
    """In a few words."""


def parts(tests: Path = TESTS) -> list[Part]:
    """All of them, in their order. Each file of tests/engines is in one of them."""
    files = sorted(path.name for path in (tests / "engines").glob("test_*.py"))
    found = []
    for name in ENGINES:
        mine = [file for file in files if file.startswith(f"test_{name}_") or file == f"test_{name}.py"]
        files = [file for file in files if file not in mine]
        if mine:
            many = min(len(mine), int(os.environ.get("TEST_WORKERS", "2")))
            workers = ("-n", str(many), "--dist", "loadfile") if many > 1 else ()
            found.append(Part(name, (name,), (*workers, *(f"tests/engines/{file}" for file in mine))))
    mesh = [file for file in files if file.startswith("test_mesh_")]
    files = [file for file in files if file not in mesh]
    if files:
        # One after the other: two that start clusters of three keep each other from coming up in time.
        found.append(Part("several", (), tuple(f"tests/engines/{file}" for file in files)))
    whole = tuple(name for name in ENGINES if name in SERVED_BY.values())
    tests_of_it = (*(f"tests/{file}" for file in MESH_TESTS), *(f"tests/engines/{file}" for file in mesh))
    found.append(Part("mesh", whole, ("--engines", "cluster", *tests_of_it), {"FUZZ_BATCHES": _MESH_BATCHES}))
    return found


def run(part: Part) -> None:
    """Installs what a part needs, runs its tests, and stops all engines of this checkout."""
    print(f"\n=== {part.name}", flush=True)
    since = time.monotonic()
    try:
        for name in part.engines:
            Control(ENGINES[name], FOLDER).install()
        part.installing_s, since = time.monotonic() - since, time.monotonic()
        pytest = (sys.executable, "-m", "pytest", "--nothing-skipped", "--durations", "5", *part.arguments)
        status = subprocess.run(pytest, cwd=ROOT, env={**os.environ, **part.environment}, check=False).returncode
        part.failure = f"pytest ended with status {status}" if status else ""
        part.testing_s = time.monotonic() - since
    except EngineError as error:
        print(f"rookery: {error}", flush=True)
        part.failure = str(error).partition("\n")[0]
    finally:
        stop()


def stop() -> None:
    """Stops all engines of this checkout, also those that a test had for itself; one that does not end keeps none."""
    for marker in FOLDER.rglob(MARKER):
        for engine in reversed([*ENGINES.values()]):
            try:
                Control(engine, marker.parent).down()
            except EngineError as error:
                print(f"rookery: {engine.name}: {error}", flush=True)


def table(done: Sequence[Part]) -> str:
    """What each part took, and whether it passed."""
    lines = [f"{'part':<14}{'install':>10}{'tests':>10}  outcome"]
    for part in done:
        outcome = part.failure or "passed"
        lines.append(f"{part.name:<14}{part.installing_s:>8.0f} s{part.testing_s:>8.0f} s  {outcome}")
    total = sum(part.installing_s + part.testing_s for part in done)
    return "\n".join([*lines, f"{total / 60:.1f} minutes in all"])


def main(names: Sequence[str]) -> int:
    """Runs parts; 0 if all passed, 2 for a part that there is not."""
    every = parts()
    if unknown := sorted({*names} - {part.name for part in every}):
        print(f"there is no part {', '.join(unknown)}: {', '.join(part.name for part in every)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: engines are stopped
    chosen = [part for part in every if not names or part.name in names]
    done: list[Part] = []
    try:
        for part in chosen:
            done.append(part)
            run(part)
    except KeyboardInterrupt:
        done[-1].failure = "interrupted"
    print(f"\n{table(done)}", flush=True)
    return 1 if any(part.failure for part in done) else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
