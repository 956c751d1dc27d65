"""What an engine is: how it is installed, what runs, when it is ready, and by which URLs Rookery reaches it.

An engine is stateless; all that it needs is in the `Place` that each call gets. It is started from the outside
(`control.py`), which keeps the process ids, waits for readiness and stops what it started.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
_PORTS = range(20_000, 32_000)  # below what Linux gives to outgoing connections (ip_local_port_range)
_TRIES = 1_000


class EngineError(Exception):
    """Something that whoever runs the command can act on. The message is written for people."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process of an engine."""

    name: str
    """Unique in its engine, such as `kafka-2`; it names the log."""
    command: tuple[str, ...]
    """Program and arguments. It stays in the foreground, and is the process that is stopped and killed."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What it gets besides PATH, HOME and LANG."""
    stop: signal.Signals = signal.SIGTERM
    """What ends it in order."""
    stop_s: float = 30.0
    """How long that may take before SIGKILL, seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one engine lives."""

    engine: str
    """Its name."""
    folder: Path
    """All that it keeps; deleted by `--fresh`. It outlives stops."""
    cache: Path
    """What was downloaded or built, shared by all checkouts of this account."""
    nodes: int
    """How many nodes it has."""

    def port(self, name: str) -> int:
        """A loopback port of the engine's own. Chosen once, and kept for as long as its folder."""
        ports: dict[str, int] = _kept(self.folder / "ports.json")
        if name not in ports:
            ports[name] = free_port(taken=ports.values())
            write_private(self.folder / "ports.json", json.dumps(ports, indent=1))
        return ports[name]

    def secret(self, name: str) -> str:
        """A random word of 32 letters and digits, made once, in a file of mode 0600; for no log and no message."""
        words: dict[str, str] = _kept(self.folder / "secrets.json")
        if name not in words:
            words[name] = secrets.token_hex(16)
            write_private(self.folder / "secrets.json", json.dumps(words, indent=1))
        return words[name]

    def node(self, number: int) -> Path:
        """The folder of a node's data, from 1; made if missing, for whoever starts it only."""
        found = self.folder / str(number)
        found.mkdir(mode=0o700, exist_ok=True)
        return found


def _kept(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


class Engine(ABC):
    """One kind of store."""

    name: str
    """As on the command line."""
    summary: str
    """A few words: version and where it comes from."""
    start_s: float = 60.0
    """How long all its nodes may take until they are ready, seconds."""

    def nodes(self, asked: int) -> int:
        """How many nodes it has when so many are asked for; engines that run alone say 1."""
        del asked
        return 1

    @abstractmethod
    def install(self, cache: Path) -> None:
        """Puts what it needs into `cache`, or finds it on the machine; quick when it is there already.

        Raises EngineError, which says what is missing and where it comes from.
        """

    @abstractmethod
    def start(self, place: Place) -> Sequence[Program]:
        """Writes the nodes' configuration, makes data folders that are new, and says what to run.

        The same place gives the same programs, so that one that was killed can be started again alone.
        Raises EngineError.
        """

    @abstractmethod
    def ready(self, place: Place) -> str | None:
        """None when all nodes serve and know each other; otherwise why not, in a few words. Asked again and again."""

    def settle(self, place: Place) -> None:  # noqa: B027 - most have nothing to do
        """What is done after each start, once it is ready: databases, buckets. Idempotent. Raises EngineError."""

    @abstractmethod
    def urls(self, place: Place) -> Mapping[str, str]:
        """The `ROOKERY_*` variables that make Rookery use it. They may hold passwords."""

    def apart(self, place: Place, name: str) -> Mapping[str, str]:
        """As `urls`, for empty stores of somebody's own, which are made now; by default there are none but all share.

        Args:
            place: where it runs.
            name: lower-case letters, digits and `_`.

        Raises EngineError.
        """
        del name
        return self.urls(place)

    def drop(self, place: Place, name: str) -> None:  # noqa: B027 - see `apart`
        """Deletes what `apart` made under this name. Raises EngineError."""


def free_port(taken: Collection[int] = ()) -> int:
    """A loopback port that nobody has now, of those that systems do not give to outgoing connections."""
    for _ in range(_TRIES):
        port = secrets.choice(_PORTS)
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise EngineError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


def listens(port: int, host: str = LOOPBACK) -> bool:
    """Whether anybody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def run(command: Sequence[str], *, what: str, **more: object) -> str:
    """Runs a program to its end and gives its output.

    Args:
        command: program and arguments.
        what: what it does, for the message of a failure.
        more: for subprocess.run: `cwd`, `env`, `input`, `timeout` (60 s by default).

    Raises:
        EngineError: it failed or took too long; the message ends with its last lines.
    """
    options: dict[str, Any] = {"timeout": 60.0, **more}
    try:
        done = subprocess.run([*command], capture_output=True, text=True, check=False, **options)
    except FileNotFoundError:
        raise EngineError(f"{what}: there is no program {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"{what}: not done within {options['timeout']:g} s") from None
    if done.returncode != 0:
        last = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise EngineError(f"{what}: {command[0]} ended with status {done.returncode}\n  {last}")
    return str(done.stdout)


def checked(path: Path, sha256: str) -> bool:
    """Whether a file is there and is the one that was pinned."""
    if not path.is_file():
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == sha256


def write_private(path: Path, text: str) -> None:
    """Writes a file that only this account reads, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)
