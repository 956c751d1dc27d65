"""Starts, watches and stops engines. What runs is in `state.json` of each one's folder, so that later calls find it.

A process is known by its id and its start, as ids are given out again; nothing is ever stopped by name. Everything is
idempotent: `up` starts what does not run, `down` stops what does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.engines.base import Engine, EngineError, Place, Program, write_private

MARKER = ".rookery-engines"
_POLL_S = 0.05
_KILL_S = 10.0
_INHERITED = ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR")
_TAIL_LINES = 15


def cache_folder() -> Path:
    """Where downloads and builds are kept for all checkouts: `~/.cache/rookery-engines`, or under XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rookery-engines"


@dataclass(frozen=True, slots=True)
class Found:
    """A process that was started."""

    pid: int
    started: int
    """Clock ticks since boot (proc(5), stat, field 22): with it the id is that process's and no later one's."""

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that waits to be reaped does not."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # when it is a child of this process, nobody else reaps it
        return _look(self.pid) == self


def _look(pid: int) -> Found | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else Found(pid, int(fields[19]))


class Control:
    """One engine in one place.

    Args:
        engine: what.
        root: the folder of all engines; each has one of its own in it.
        cache: see `cache_folder`.
    """

    def __init__(self, engine: Engine, root: Path, *, cache: Path | None = None) -> None:
        self.engine = engine
        self._root = root.resolve()
        self._folder = self._root / engine.name
        self._cache = cache or cache_folder()

    def install(self) -> None:
        """Downloads and builds what is not there yet. Raises EngineError."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with _locked(self._cache / f"{self.engine.name}.lock"):
            self.engine.install(self._cache)

    def up(self, nodes: int = 1, *, fresh: bool = False) -> bool:
        """Installs and starts what does not run, and waits until it is ready; whether anything was started.

        Args:
            nodes: how many are asked for (`Engine.nodes` decides).
            fresh: stops it and deletes its data first.

        Raises:
            EngineError: it cannot be installed, or does not come up; what was started by this call is stopped.
        """
        nodes = self.engine.nodes(nodes)
        self.install()
        with self._alone():
            if fresh:
                self._down()
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(exist_ok=True)
            if (had := self._nodes()) not in (None, nodes):
                raise EngineError(f"it was set up with {had} nodes: start it afresh (--fresh) for {nodes}")
            place = self.place(nodes)
            self._keep_nodes(nodes)
            programs = self.engine.start(place)
            running = {name for name, found in self._processes().items() if found.alive}
            begun = [program for program in programs if program.name not in running]
            try:
                for program in begun:
                    self._spawn(program)
                self._await_ready(place)
                if begun:
                    self.engine.settle(place)
            except BaseException:
                for program in begun:
                    self._end(program.name, program.stop, program.stop_s)
                raise
        return bool(begun)

    def down(self) -> bool:
        """Stops it, and waits until it is gone; whether anything ran. Its data stays. Raises EngineError."""
        if not self._folder.is_dir():
            return False
        with self._alone():
            return self._down()

    def why_not(self) -> str | None:
        """None when it runs and is ready; otherwise why not."""
        processes = self._processes()
        if not processes:
            return "not running"
        if dead := [name for name, found in processes.items() if not found.alive]:
            return f"{', '.join(dead)} ended" if len(dead) < len(processes) else "not running"
        return self.engine.ready(self.place())

    def urls(self) -> Mapping[str, str]:
        """The variables that make Rookery use it. Raises EngineError when it was never started."""
        return self.engine.urls(self.place())

    def pids(self) -> dict[str, int]:
        """Of the processes that run, by the names of their programs."""
        return {name: found.pid for name, found in self._processes().items() if found.alive}

    def kill(self, name: str) -> None:
        """SIGKILL to one program, as a crash would be; returns when it is gone. `up` starts it again.

        Raises EngineError when it does not run.
        """
        with self._alone():
            found = self._processes().get(name)
            if found is None or not found.alive:
                raise EngineError(f"{name} does not run")
            _signal(found, signal.SIGKILL)
            _await_end(found, _KILL_S)

    def place(self, nodes: int | None = None) -> Place:
        """Where it lives. Raises EngineError when it was never started and no number of nodes is given."""
        nodes = nodes or self._nodes()
        if nodes is None:
            raise EngineError(f"{self.engine.name} was never started")
        return Place(self.engine.name, self._folder, self._cache, nodes)

    @property
    def folder(self) -> Path:
        """All that it keeps, logs too."""
        return self._folder

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One call at a time for each engine, of all processes."""
        make_folder(self._root)
        if not (self._root / MARKER).is_file():
            raise EngineError(f"{self._root} was not made by this command: choose another folder")
        with _locked(self._root / f"{self.engine.name}.lock"):
            yield

    def _down(self) -> bool:
        ran = False
        for name, kept in reversed(self._state().items()):
            found = Found(kept["pid"], kept["started"])
            if found.alive:
                ran = True
                self._end(name, signal.Signals(kept["stop"]), kept["stop_s"])
        (self._folder / "state.json").unlink(missing_ok=True)
        return ran

    def _end(self, name: str, how: signal.Signals, within_s: float) -> None:
        found = self._processes().get(name)
        if found is None or not found.alive:
            return
        _signal(found, how)
        if not _await_end(found, within_s):
            _signal(found, signal.SIGKILL)
            if not _await_end(found, _KILL_S):
                raise EngineError(f"{name}, process {found.pid}, does not end")

    def _spawn(self, program: Program) -> None:
        environment = {name: value for name, value in os.environ.items() if name in _INHERITED}
        log = self._folder / f"{program.name}.log"
        try:
            with log.open("ab") as out:
                process = subprocess.Popen(
                    program.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**environment, **program.environment},
                    cwd=self._folder,
                    start_new_session=True,  # a terminal's Ctrl-C is not for it
                    umask=0o077,
                )
        except OSError as error:
            raise EngineError(f"{program.name} cannot be started: {error.strerror}") from None
        process.returncode = 0  # it is not this object's to wait for: later calls find it by its id
        found = _look(process.pid)
        if found is None:
            raise EngineError(f"{program.name} ended at once{self._tail(program.name)}")
        state = self._state()
        state[program.name] = {
            "pid": found.pid,
            "started": found.started,
            "stop": int(program.stop),
            "stop_s": program.stop_s,
        }
        write_private(self._folder / "state.json", json.dumps(state, indent=1))

    def _await_ready(self, place: Place) -> None:
        until = time.monotonic() + self.engine.start_s
        while (why := self.engine.ready(place)) is not None:
            for name, found in self._processes().items():
                if not found.alive:
                    raise EngineError(f"{name} ended before it was ready{self._tail(name)}")
            if time.monotonic() > until:
                raise EngineError(f"{self.engine.name} is not ready after {self.engine.start_s:g} s: {why}")
            time.sleep(_POLL_S)  # nothing announces readiness, so it is asked for

    def _state(self) -> dict[str, dict[str, Any]]:
        path = self._folder / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _processes(self) -> dict[str, Found]:
        return {name: Found(kept["pid"], kept["started"]) for name, kept in self._state().items()}

    def _nodes(self) -> int | None:
        path = self._folder / "nodes"
        return int(path.read_text()) if path.exists() else None

    def _keep_nodes(self, nodes: int) -> None:
        (self._folder / "nodes").write_text(f"{nodes}\n")

    def _tail(self, name: str) -> str:
        log = self._folder / f"{name}.log"
        if not log.exists():
            return ""
        lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "".join(f"\n  {line[:300]}" for line in lines)


def chosen(names: Sequence[str], engines: Mapping[str, Engine], root: Path) -> list[Control]:
    """Those engines, or all. Raises EngineError for a name that there is not."""
    for name in names:
        if name not in engines:
            raise EngineError(f"there is no engine {name}: {', '.join(engines)}")
    return [Control(engines[name], root) for name in engines if not names or name in names]


def make_folder(root: Path) -> None:
    """The folder of all engines, with its marker in it from the first moment: several processes may need it at once."""
    if root.is_dir():
        return
    root.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{root.name}-", dir=root.parent))
    made.chmod(0o755)
    (made / MARKER).write_text("Engines of Rookery: everything in this folder may be deleted.\n")
    try:
        made.rename(root)
    except OSError:  # somebody else's is there
        shutil.rmtree(made)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _signal(found: Found, number: signal.Signals) -> None:
    if _look(found.pid) == found:
        with suppress(ProcessLookupError):
            os.kill(found.pid, number)


def _await_end(found: Found, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while found.alive:
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True
