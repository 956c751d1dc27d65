"""Engines are started, found again, killed and stopped: by toys that listen, as real ones do."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.engines.base import LOOPBACK, Engine, EngineError, Place, Program, listens, run
from scripts.engines.control import MARKER, Control

LISTEN = """
import pathlib, signal, socket, sys, time
pathlib.Path(sys.argv[2]).touch()
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if len(sys.argv) > 3:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server.listen()
while True:
    server.accept()
"""


class Toy(Engine):
    """Nodes that listen."""

    name = "toy"
    summary = "a toy"
    start_s = 10.0

    def __init__(self, *more: str, source: str = LISTEN) -> None:
        self.more = more
        self.source = source
        self.installed = self.settled = 0

    def nodes(self, asked: int) -> int:
        return asked

    def install(self, cache: Path) -> None:
        assert cache.is_dir()
        self.installed += 1

    def start(self, place: Place) -> Sequence[Program]:
        return [
            Program(
                f"toy-{n}",
                (sys.executable, "-c", self.source, str(place.port(f"{n}")), str(place.node(n) / "data"), *self.more),
                stop_s=0.3 if self.more else 10.0,
            )
            for n in range(1, place.nodes + 1)
        ]

    def ready(self, place: Place) -> str | None:
        silent = [n for n in range(1, place.nodes + 1) if not listens(place.port(f"{n}"))]
        return f"{silent} do not listen" if silent else None

    def settle(self, place: Place) -> None:
        self.settled += 1

    def urls(self, place: Place) -> Mapping[str, str]:
        return {"ROOKERY_TOY_URL": f"toy://{place.secret('password')}@{LOOPBACK}:{place.port('1')}"}


@pytest.fixture
def started() -> Iterator[list[Control]]:
    """What a test started, stopped after it."""
    controls: list[Control] = []
    yield controls
    for control in controls:
        control.down()


def control(started: list[Control], folder: Path, engine: Engine) -> Control:
    started.append(Control(engine, folder / "engines", cache=folder / "cache"))
    return started[-1]


def test_what_was_started_is_found_by_later_calls_and_not_started_again(tmp_path: Path, started: list[Control]) -> None:
    toy = Toy()
    first = control(started, tmp_path, toy)
    assert first.why_not() == "not running"
    assert first.up(2)
    pids, urls = first.pids(), first.urls()
    later = Control(toy, tmp_path / "engines", cache=tmp_path / "cache")
    assert not later.up(2)
    assert later.why_not() is None
    assert (later.pids(), later.urls(), toy.settled) == (pids, urls, 1)
    assert later.down()
    assert not later.down()
    assert first.why_not() == "not running"


def test_one_that_was_killed_is_started_again_alone_with_its_port_and_data(
    tmp_path: Path, started: list[Control]
) -> None:
    engine = control(started, tmp_path, Toy())
    engine.up(2)
    before, urls = engine.pids(), engine.urls()
    engine.kill("toy-1")
    assert engine.why_not() == "toy-1 ended"
    with pytest.raises(EngineError, match="toy-1 does not run"):
        engine.kill("toy-1")
    assert engine.up(2)
    after = engine.pids()
    assert after["toy-2"] == before["toy-2"]
    assert after["toy-1"] != before["toy-1"]
    assert engine.urls() == urls
    assert (engine.folder / "1" / "data").exists()


def test_data_outlives_a_stop_and_not_a_fresh_start(tmp_path: Path, started: list[Control]) -> None:
    engine = control(started, tmp_path, Toy())
    engine.up()
    kept = engine.folder / "1" / "kept"
    kept.touch()
    engine.down()
    engine.up()
    assert kept.exists()
    with pytest.raises(EngineError, match="set up with 1 nodes"):
        engine.up(3)
    engine.up(3, fresh=True)
    assert not kept.exists()
    assert len(engine.pids()) == 3


def test_one_that_does_not_come_up_says_why_and_leaves_nothing(tmp_path: Path, started: list[Control]) -> None:
    engine = control(started, tmp_path, Toy(source="raise SystemExit('no such luck')"))
    with pytest.raises(EngineError, match=r"toy-1 ended before it was ready[\s\S]*no such luck"):
        engine.up()
    slow = Toy(source="import time; time.sleep(60)")
    slow.start_s = 0.3
    engine = control(started, tmp_path, slow)
    with pytest.raises(EngineError, match="is not ready after"):
        engine.up()
    assert engine.pids() == {}


def test_one_that_does_not_stop_in_order_is_killed(tmp_path: Path, started: list[Control]) -> None:
    engine = control(started, tmp_path, Toy("stubborn"))
    engine.up()
    assert engine.down()
    assert engine.pids() == {}


def test_a_process_with_the_id_of_one_that_ended_is_not_touched(tmp_path: Path, started: list[Control]) -> None:
    engine = control(started, tmp_path, Toy())
    engine.up()
    state = engine.folder / "state.json"
    written = state.read_text()
    engine.down()
    # This process has that id now: its start is another.
    state.write_text(written.replace(str(next(iter(_pids(written)))), str(os.getpid())))
    assert engine.why_not() == "not running"
    assert not engine.down()


def _pids(state: str) -> list[int]:
    return [kept["pid"] for kept in json.loads(state).values()]


def test_secrets_are_for_this_account_only(tmp_path: Path, started: list[Control]) -> None:
    engine = control(started, tmp_path, Toy())
    engine.up()
    place = engine.place()
    assert len(place.secret("password")) == 32
    assert place.secret("password") != place.secret("another")
    for name in ("secrets.json", "state.json"):
        assert (engine.folder / name).stat().st_mode & 0o077 == 0


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "mine").touch()
    with pytest.raises(EngineError, match="was not made by this command"):
        Control(Toy(), tmp_path / "engines", cache=tmp_path / "cache").up(fresh=True)
    assert not (tmp_path / "engines" / MARKER).exists()


def test_several_processes_may_be_the_first_to_need_the_folder(tmp_path: Path, started: list[Control]) -> None:
    for number in range(3):
        engines = [control(started, tmp_path / str(number), Toy()) for _ in range(4)]
        with ThreadPoolExecutor() as threads:
            assert sum(threads.map(Control.up, engines)) == 1
        assert [path.name for path in (tmp_path / str(number)).glob("engines*")] == ["engines"]


def test_ports_are_those_that_nobody_has(tmp_path: Path) -> None:
    place = Place("toy", tmp_path, tmp_path, 1)
    ports = {place.port(str(n)) for n in range(20)}
    assert len(ports) == 20
    assert ports == {Place("toy", tmp_path, tmp_path, 1).port(str(n)) for n in range(20)}
    with socket.create_server((LOOPBACK, place.port("0"))):
        assert listens(place.port("0"))


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(EngineError, match=r"asking: .* ended with status 3\n  because"):
        run([sys.executable, "-c", "import sys; sys.exit(print('because', file=sys.stderr) or 3)"], what="asking")
    with pytest.raises(EngineError, match="asking: there is no program nonesuch"):
        run(["nonesuch"], what="asking")
