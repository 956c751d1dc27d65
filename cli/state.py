"""The data folder: whose it is, who uses it now, and what `rookery status` reads.

```
DATA/.rookery          marker: everything in here is Rookery's; `--fresh` deletes nothing without it
DATA/lock              flock(2) held by the supervisor and every process it started; says whose it is
DATA/run/state.json    the supervisor's view, replaced at each change, removed by an orderly stop
DATA/run/*.sock        sockets, unless the path is too long for one
DATA/logs/NAME.log     output of a process; NAME.1.log is the one before
DATA/*.db, DATA/valkey the stores
```
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import select
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from cli.errors import DataError

_MARKER = ".rookery"
_MARKER_TEXT = "This folder is Rookery's. `rookery up --fresh` deletes what is in it.\n"
_VERSION = 1
_SOCKET_BYTES = 107  # sun_path of unix(7) is 108 bytes with its final NUL
_LONGEST_SOCKET = "/valkey-or-service.sock"
_TEMPORARY = "rookery-"
_LEFTOVERS_S = 10.0  # processes of a killed supervisor end within milliseconds; a rewrite of Valkey's file takes longer


class ProcessState(TypedDict):
    """One process, as the supervisor sees it."""

    state: str
    pid: int | None
    restarts: int
    since: float
    detail: str
    log: str
    probe: str
    target: str
    identity: str
    environment: dict[str, str]


class MeshState(TypedDict):
    """What `run/state.json` holds. Times are seconds since 1970; nothing in it is secret."""

    version: int
    pid: int
    started: int
    profile: str
    port: int
    url: str
    data: str
    sockets: str
    since: float
    ready: bool
    processes: dict[str, ProcessState]


@dataclass(frozen=True, slots=True)
class Holder:
    """The supervisor that holds a data folder."""

    pid: int
    started: int
    """Its start in clock ticks since boot (proc(5), stat, field 22): it tells it from a later process with its pid."""


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it has ended. 0 where there is no /proc."""
    if sys.platform != "linux":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return 0
        return 0
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def holder(root: Path) -> Holder | None:
    """Who holds the folder now; None when nobody does, or when its supervisor was killed."""
    try:
        words = (root / "lock").read_text().split()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    found = Holder(int(words[0]), int(words[1]))
    return found if start_ticks(found.pid) == found.started else None


def read_state(root: Path) -> MeshState | None:
    """The last state that a supervisor wrote; None when there is none. Raises DataError when it cannot be read."""
    try:
        text = (root / "run" / "state.json").read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        state = json.loads(text)
    except ValueError:
        raise DataError(f"{root}/run/state.json is damaged") from None
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise DataError(f"{root}/run/state.json was written by another version of Rookery")
    return cast(MeshState, state)


def running_state(root: Path) -> MeshState:
    """The state of the mesh that runs on the folder, ready. Raises DataError when there is none."""
    root = root.resolve()
    state, who = read_state(root), holder(root)
    if state is None or who is None or state["pid"] != who.pid:
        raise DataError(f"no mesh runs on {root}: `rookery up --data {root}` starts one")
    if not state["ready"]:
        raise DataError(f"the mesh on {root} is starting or stopping")
    return state


async def ended(who: Holder, deadline_s: float) -> bool:
    """Waits for a supervisor to end; False when it has not within the deadline."""
    try:
        descriptor = os.pidfd_open(who.pid) if sys.platform == "linux" else -1
    except ProcessLookupError:
        return True
    try:
        if start_ticks(who.pid) != who.started:
            return True
        if descriptor >= 0:  # readable once the process has ended: pidfd_open(2)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(await asyncio.to_thread(poll.poll, deadline_s * 1000))
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            if start_ticks(who.pid) is None:
                return True
            await asyncio.sleep(0.05)
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)


class DataFolder:
    """A claimed data folder: nobody else's supervisor can use it until `release`."""

    def __init__(self, root: Path, lock: int, holder: Holder) -> None:
        self.root = root
        self.holder = holder
        self.run = root / "run"
        self.logs = root / "logs"
        self.lock = lock
        """Descriptor of the lock. Children inherit it, so that the folder is free only when the last is gone."""
        self.sockets = self.run

    @classmethod
    async def claim(cls, root: Path, *, fresh: bool = False, waiting: Callable[[], None] = lambda: None) -> DataFolder:
        """Makes the folder if need be, locks it, and empties it when `fresh`.

        Args:
            root: the folder. It must be missing, empty, or marked as Rookery's.
            fresh: deletes all that is in it, once it is locked.
            waiting: called when processes of a killed supervisor are still ending, which is awaited for up to 10 s.

        Raises:
            DataError: the folder is somebody else's, in use, or unusable.
        """
        root = make(root)
        try:
            descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DataError(f"{root} cannot be used: {error.strerror}") from None
        try:
            await _lock(descriptor, root, waiting)
            me = Holder(os.getpid(), start_ticks(os.getpid()) or 0)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{me.pid} {me.started}\n".encode(), 0)
            folder = cls(root, descriptor, me)
            folder._clear(fresh)
        except BaseException:
            os.close(descriptor)
            raise
        return folder

    def write(self, state: MeshState) -> None:
        """Replaces state.json in one step, so that a reader sees the old one or the new one."""
        temporary = self.run / "state.json.new"
        temporary.write_text(json.dumps(state, indent=1))
        temporary.replace(self.run / "state.json")

    def release(self) -> None:
        """Removes sockets and state, and unlocks. Data and logs stay."""
        if self.sockets != self.run:
            shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)
        os.ftruncate(self.lock, 0)
        os.close(self.lock)

    def _clear(self, fresh: bool) -> None:
        try:
            old = read_state(self.root)
        except DataError:
            old = None
        if old is not None:
            _remove_temporary(Path(old["sockets"]))
        for entry in list(self.root.iterdir()):
            if entry.name in (_MARKER, "lock") or not (fresh or entry.name == "run"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self.run.mkdir(mode=0o700)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self.sockets = self._socket_folder()

    def _socket_folder(self) -> Path:
        """`run`, or a private folder with a short name where `run` is too long or too odd for a socket's address."""
        path = os.fsencode(self.run) + _LONGEST_SOCKET.encode()
        if len(path) <= _SOCKET_BYTES and re.fullmatch(rb"[A-Za-z0-9._/-]+", path):
            return self.run
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir="/tmp"))  # TMPDIR may be long


def _check_path(root: Path) -> None:
    if re.search(r"[?#%\x00-\x1f\x7f]", str(root)):  # it becomes part of SQLite's URLs
        raise DataError(f"{str(root)!r} cannot be the data folder: its path has ?, #, % or a control character")


def make(root: Path) -> Path:
    """Makes and marks a data folder, unless it is one; returns its absolute path.

    Raises DataError when it is not empty and not marked as Rookery's, or cannot be made.
    """
    root = root.resolve()
    _check_path(root)
    marker = root / _MARKER
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not marker.is_file() or marker.is_symlink():
            if any(root.iterdir()):
                raise DataError(f"{root} is not empty and not Rookery's: choose another folder with --data")
            marker.write_text(_MARKER_TEXT)
    except OSError as error:
        raise DataError(f"{root} cannot be used: {error.strerror}") from None
    return root


async def _lock(descriptor: int, root: Path, waiting: Callable[[], None]) -> None:
    until = time.monotonic() + _LEFTOVERS_S
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return
        who = holder(root)
        if who is not None:
            raise DataError(f"{root} is in use by process {who.pid}: `rookery down --data {root}` stops it")
        if time.monotonic() > until:
            raise DataError(
                f"{root} is in use by processes of a supervisor that is gone: `fuser {root}/lock` names them"
            )
        if not told:
            waiting()
            told = True
        await asyncio.sleep(0.05)


def _remove_temporary(folder: Path) -> None:
    """Removes the socket folder of an earlier run, if it is one: a name of ours, our own, and not a link."""
    if folder.parent != Path("/tmp") or not folder.name.startswith(_TEMPORARY):  # noqa: S108 -- compared, not used
        return
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        shutil.rmtree(folder, ignore_errors=True)
