"""Valkey Clusters of tests' own, in place of the one Valkey that a module of `tests/stores` has."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.engines.control import Control
from scripts.engines.valkey import Valkey

MASTERS = 3


class OwnCluster:
    """Three masters that a test may kill and start again, all together.

    Args:
        folder: their files.
    """

    def __init__(self, folder: Path) -> None:
        self.control = Control(Valkey(MASTERS, replicas=0), folder / "engines")
        self.start()

    @property
    def url(self) -> str:
        """As services get it."""
        return self.control.urls()["ROOKERY_CACHE_URL"]

    def start(self) -> None:
        """Returns when they serve."""
        self.control.up()

    def kill(self) -> None:
        """SIGKILL, at the same time."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.control.kill, self.control.pids()))

    def stop(self) -> None:
        """At the end."""
        self.control.down()


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnCluster]:
    """A cluster for the module's tests."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        cluster = OwnCluster(Path(folder))
        yield cluster
        cluster.stop()


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[Callable[[bool], OwnCluster]]:
    """Starts a cluster that the test may kill; it is always durable."""
    clusters: list[OwnCluster] = []

    def start(durable: bool) -> OwnCluster:
        del durable
        clusters.append(OwnCluster(tmp_path / str(len(clusters))))
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.stop()
