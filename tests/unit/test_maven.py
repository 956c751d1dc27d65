"""What engines are made of is downloaded whole, is what was pinned, or is not there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.engines import maven
from scripts.engines.base import EngineError

FILES = {"a/one/1/one-1.jar": b"one", "b/two/2/two-2.jar": b"two" * 50_000}
PINNED = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A repository with those files; the paths that it was asked for."""
    paths: list[str] = []

    class Repository(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            content = FILES.get(self.path.removeprefix("/maven2/"))
            self.send_response(404 if content is None else 200)
            self.send_header("content-length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Repository)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ROOKERY_MAVEN_URL", f"http://127.0.0.1:{server.server_port}/maven2/")
    monkeypatch.setattr(maven.time, "sleep", lambda seconds: None)
    yield paths
    server.shutdown()
    server.server_close()


def test_files_are_there_once_and_are_not_asked_for_again(asked: list[str], tmp_path: Path) -> None:
    maven.download(PINNED, tmp_path / "jars", what="it")
    maven.download(PINNED, tmp_path / "jars", what="it")
    there = {path.name: path.read_bytes() for path in (tmp_path / "jars").iterdir()}
    assert there == {"one-1.jar": FILES["a/one/1/one-1.jar"], "two-2.jar": FILES["b/two/2/two-2.jar"]}
    assert len(asked) == 2


def test_other_contents_than_pinned_are_refused(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"two-2\.jar: its content is not what was pinned"):
        maven.download({**PINNED, "b/two/2/two-2.jar": "0" * 64}, tmp_path / "jars", what="it")
    assert not (tmp_path / "jars").exists()


def test_what_came_before_it_broke_off_is_not_asked_for_again(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"it cannot be downloaded: c/none\.jar: HTTP 404"):
        maven.download({**PINNED, "c/none.jar": "0" * 64}, tmp_path / "jars", what="it")
    asked.clear()
    maven.download(PINNED, tmp_path / "jars", what="it")
    assert asked == []
    assert {path.name for path in (tmp_path / "jars").iterdir()} == {"one-1.jar", "two-2.jar"}


def test_each_recipe_names_every_file_once() -> None:
    recipes = [path.parent for path in Path(maven.__file__).parent.glob(f"*/{maven.PINS}")]
    assert recipes
    for recipe in recipes:
        names = [path.rpartition("/")[2] for path in maven.pins(recipe)]
        assert len(names) == len(set(names)), f"{recipe.name}: files of one name, of which one would be lost"
