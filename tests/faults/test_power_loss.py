"""Acknowledged means durable: what was written and not synced is dropped, and nothing that was accepted is missing."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cli.profile import PROJECT, Embedded, Place, ProcessSpec
from cli.supervisor import Mesh, running_mesh
from mesh.db.sql import Database
from tests.conftest import UNLIMITED
from tests.faults.conftest import QUICK
from tests.faults.crowd import Crowd
from tests.faults.oracle import converge
from tests.faults.unsynced import lose_power

pytestmark = [pytest.mark.xdist_group("faults-power"), pytest.mark.timeout(110)]

STORES = {"user": "user.db", "graph": "graph.db", "tweet": "tweet.db"}
_BUS_LOSS_S = 1.5  # appendfsync everysec: a second, and some for the writing itself


async def test_connections_sync_every_commit(tmp_path: Path) -> None:
    """What SQLite itself says, asked on the connections that the adapter reads and writes on."""
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    try:
        assert await database.write(lambda tx: tx.scalar("PRAGMA synchronous")) == 2  # FULL
        assert await database.write(lambda tx: tx.scalar("PRAGMA journal_mode")) == "wal"
        assert await database.read(lambda tx: tx.scalar("PRAGMA journal_mode")) == "wal"
    finally:
        await database.close()


async def _commit_and_lose_power(tmp_path: Path, how: str) -> tuple[set[int], set[int]]:
    """Numbers that were acknowledged, and numbers that are there after the loss."""
    database, copies = tmp_path / "kept.db", tmp_path / "durable"
    with closing(sqlite3.connect(database)) as made:
        made.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY)")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.unsynced", str(copies), "tests.faults.commits", str(database), how),
        stdout=asyncio.subprocess.PIPE,
        cwd=PROJECT,
    )
    told: list[bytes] = []
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while len(told) < 1500:  # enough for WAL to be checkpointed and begun anew (every 1,000 pages)
                line = await process.stdout.readline()
                assert line, "it ended too soon"
                told.append(line)
    finally:
        process.kill()
        rest, _ = await process.communicate()
    told += [line for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    lose_power(database, copies)
    with closing(sqlite3.connect(database)) as left:
        assert left.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        there = {row[0] for row in left.execute("SELECT number FROM kept")}
    return {int(line) for line in told}, there


@pytest.mark.parametrize("how", ["adapter", "FULL"])
async def test_what_was_acknowledged_survives(tmp_path: Path, how: str) -> None:
    told, there = await _commit_and_lose_power(tmp_path, how)
    assert told <= there, f"{len(told - there)} of {len(told)} acknowledged rows are gone"


@pytest.mark.parametrize("how", ["NORMAL", "OFF"])
async def test_the_method_shows_a_commit_that_was_not_synced(tmp_path: Path, how: str) -> None:
    """The control: with a weaker setting the same loss takes acknowledged rows. If it did not, the tests above would
    prove nothing."""
    told, there = await _commit_and_lose_power(tmp_path, how)
    assert told - there, "nothing was lost: the method does not drop what was not synced"


class _OnUnsyncedFiles:
    """The embedded profile, with the three services that keep a store run by tests/faults/unsynced.py."""

    def __init__(self, copies: Path) -> None:
        self._copies = copies
        self._embedded = Embedded()
        self.name = self._embedded.name
        self.migrations = self._embedded.migrations

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """See cli.profile.Profile."""
        return [
            replace(
                spec,
                command=(
                    *(sys.executable, "-m", "tests.faults.unsynced"),
                    *(str(self._copies / spec.name), f"services.{spec.name}"),
                ),
            )
            if spec.name in STORES
            else spec
            for spec in self._embedded.processes(place)
        ]


async def test_everything_loses_power_under_load(tmp_path: Path) -> None:
    """All processes die at once. Stores keep what was synced; Valkey's log ends a second and a half before."""
    copies = tmp_path / "durable"
    async with running_mesh(tmp_path / "data", env=UNLIMITED, profile=_OnUnsyncedFiles(copies), patience=QUICK) as mesh:
        crowd = Crowd(mesh.url)
        try:
            await crowd.gather()
            began = time.monotonic()
            async with crowd.load():
                await crowd.posted(30)
                trouble, lost = await _lose_power(mesh, copies)
                back = time.monotonic()
                await crowd.posted(30)
            settled = await converge(mesh, crowd)
            print(crowd.record.report(f"power loss, away {back - trouble:.1f} s", began, trouble, back))
            print(f"report: power loss: unsynced bytes dropped {lost}; all as it must be {settled:.1f} s after")
            assert not crowd.record.given_up and not crowd.record.refused
            assert lost["valkey"] > 0, "the bus lost nothing: the test is too kind"
        finally:
            await crowd.close()


async def _lose_power(mesh: Mesh, copies: Path) -> tuple[float, dict[str, int]]:
    names = [name for name in mesh.names if name != "envoy"]
    log = _newest_log(mesh.data)
    size_before = log.stat().st_size
    await asyncio.sleep(_BUS_LOSS_S)  # what Valkey writes from here on is lost
    trouble = time.monotonic()
    await asyncio.gather(*(mesh.kill(name, restart=False) for name in (*names, "envoy")))
    lost = {}
    for service, file in STORES.items():
        lost[service] = await asyncio.to_thread(lose_power, mesh.data / file, copies / service)
        await asyncio.to_thread(shutil.rmtree, copies / service)
    assert _newest_log(mesh.data) == log
    lost["valkey"] = log.stat().st_size - size_before
    with log.open("rb+") as cut:
        cut.truncate(size_before)
    for name in (*names, "envoy"):
        await mesh.start(name)
    for name in (*names, "envoy"):
        await mesh.wait_ready(name)
    return trouble, lost


def _newest_log(data: Path) -> Path:
    """The append-only file that Valkey writes to."""
    return max((data / "valkey").glob("appendonlydir/*.incr.aof"), key=lambda file: file.stat().st_mtime)
