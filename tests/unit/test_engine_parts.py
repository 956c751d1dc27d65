"""`make test-engines` runs every file of tests/engines once, on the engine whose name it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import test_engines
from scripts.engines.base import EngineError
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import MARKER


def test_every_file_is_in_one_part_with_its_engine() -> None:
    parts = test_engines.parts()
    files = [argument for part in parts for argument in part.arguments if argument.startswith("tests/engines/")]
    assert sorted(files) == sorted(f"tests/engines/{path.name}" for path in Path("tests/engines").glob("test_*.py"))
    for part in parts:
        if part.name in ENGINES:
            assert part.engines == (part.name,)
            assert all("/test_" not in one or f"/test_{part.name}" in one for one in part.arguments)


def test_files_of_the_whole_mesh_exist() -> None:
    assert all((test_engines.TESTS / name).is_file() for name in test_engines.MESH_TESTS)


def test_engines_are_stopped_after_a_part_that_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken:
        def __init__(self, engine: object, folder: Path) -> None: ...

        def install(self) -> None:
            raise EngineError("no Java\n  more of it")

        def down(self) -> bool:
            stopped.append(True)
            return True

    stopped: list[bool] = []
    for folder in (tmp_path, tmp_path / "kafka" / "apart"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    monkeypatch.setattr(test_engines, "FOLDER", tmp_path)
    monkeypatch.setattr(test_engines, "Control", Broken)
    part = test_engines.Part("kafka", ("kafka",), ())
    test_engines.run(part)
    assert part.failure == "no Java"
    assert len(stopped) == 2 * len(ENGINES)
    assert "no Java" in test_engines.table([part])
