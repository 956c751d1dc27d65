"""`rookery move`, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from cli.errors import OperatorError
from cli.move import run
from cli.profile import PROJECT
from cli.state import DataFolder
from mesh.db.migrations import UNFINISHED, migrate
from mesh.db.sql import Database, Tx
from mesh.objects import Objects
from mesh.transfer.objects import OBJECTS, ObjectTransfer

from .suites.objects import read
from .suites.transfer import all_of
from .test_transfer import OPENERS, SERVICES, address, filled

MANY = 20_000


async def start(*arguments: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Starts the command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
    environment["PYTHONPATH"] = os.pathsep.join((str(PROJECT), str(PROJECT / "gen")))
    environment["PYTHONUNBUFFERED"] = "1"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "move", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment | dict(env or {}),
    )


async def move(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs the command: its exit status and what it printed."""
    process = await start(*arguments, env=env)
    async with asyncio.timeout(100):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Of a source, which is there, and of a target, which is not."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source", tmp_path / "target"


def likes_copied(folder: Path) -> int:
    """How many likes a copy that is under way has noted."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/tweet.db?mode=ro", uri=True)) as db:
            [(text,)] = db.execute(f"SELECT progress FROM {UNFINISHED}").fetchall()
    except (sqlite3.Error, ValueError):
        return 0
    progress = json.loads(text)
    return int(progress["copied"]) if progress["kind"] == "likes" else 0


@pytest.mark.parametrize("port", SERVICES)
async def test_a_port_is_known_by_its_source_and_moves_into_a_new_data_folder(port: str, tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    async with filled(port, source):
        pass
    status, output = await move("--from", address(port, source), "--to", address(port, target))
    assert status == 0, output
    assert f"{port}: source and target are the same" in output
    assert "Warning" not in output
    assert (target / ".rookery").is_file(), "`rookery up --data` takes it"
    before = await OPENERS[port](address(port, source), target=False)
    wanted = await all_of(before)  # the source keeps everything
    await before.close()
    store = await OPENERS[port](address(port, target), target=False)
    assert await all_of(store) == wanted
    await store.close()
    kind = f"{'copy ' + store.kinds[0].name:<24}"
    assert f"{kind} {len(wanted[store.kinds[0].name])} of" in output, "lines, not a bar, where there is no terminal"


async def test_a_move_that_is_killed_goes_on(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    urls = ("--from", address("tweets", source), "--to", address("tweets", target))
    await migrate(address("tweets", source), PROJECT / "services" / "tweet" / "schema" / "sql")
    db = await Database.open(address("tweets", source), deadline=60)

    async def unit(tx: Tx) -> None:
        likes = [{"user": n % 97, "tweet": n, "mark": 3 * n} for n in range(MANY)]
        await tx.execute("INSERT INTO likes VALUES (:user, :tweet, :mark)", likes)

    await db.write(unit)
    await db.close()
    copied = 0
    for _ in range(3):
        process = await start(*urls)
        async with asyncio.timeout(60):
            while (seen := likes_copied(target)) <= copied:  # noqa: ASYNC110 -- nothing tells
                await asyncio.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        copied = max(seen, likes_copied(target))
    assert copied < MANY, "nothing was left to be done"
    status, output = await move(*urls)
    assert status == 0, output
    assert f"{MANY:,} of {MANY:,} in" in output
    assert f"{2 * MANY:,} of {2 * MANY:,} in" in output
    assert "tweets: source and target are the same" in output
    status, output = await move(*urls)
    assert status == 1
    assert "the target has data of its own: there are likes" in output


async def test_objects_move_too(tmp_path: Path) -> None:
    source = Objects.open(f"file://{tmp_path}/source")
    chance = random.Random(1)
    contents = {f"exports/{n}.zip": chance.randbytes(chance.randrange(300_000)) for n in range(40)} | {"empty": b""}
    for key, content in contents.items():
        await source.put(key, content)
    (tmp_path / "source" / "exports" / "x.zip#1").write_bytes(b"what a writer that died left")
    urls = ("--from", f"file://{tmp_path}/source", "--to", f"file://{tmp_path}/target")
    target = Objects.open(f"file://{tmp_path}/target")
    await ObjectTransfer(target).save(f'{{"origin": "file://{tmp_path}/source"}}')  # a copy that was killed
    await target.put("exports/3.zip", contents["exports/3.zip"])
    await target.put("exports/4.zip", bytes(len(contents["exports/4.zip"])))
    status, output = await move(*urls)
    assert status == 1
    assert "objects exports/4.zip: differs in sha256" in output
    assert "--again begins anew" in output
    status, output = await move(*urls, "--again")
    assert status == 0, output
    assert "objects: source and target are the same (41 of 41 records" in output
    assert {key: await read(target, key) for key in contents} == contents
    assert len((await ObjectTransfer(target).read(OBJECTS, "", 1_000)).records) == 16, "a page is no more"
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["empty", "exports"]
    assert len(list((tmp_path / "target" / "exports").iterdir())) == 40
    status, output = await move(*urls)
    assert status == 1
    assert "the target has data of its own: there are objects" in output


async def test_nothing_moves_while_a_mesh_runs_on_the_data_folder(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    folder = await DataFolder.claim(source)
    await migrate(address("users", source), PROJECT / "services" / "user" / "schema" / "sql")
    urls = ("--from", address("users", source), "--to", address("users", target))
    status, output = await move(*urls)
    assert status == 1
    assert f"rookery: {source} is in use by process {os.getpid()}: `rookery down --data {source}` stops it" in output
    folder.release()
    status, output = await move(*urls)
    assert status == 0, output
    assert not (source / "run").exists()


async def test_urls_by_environment_are_not_on_the_command_line(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    await migrate(address("users", source), PROJECT / "services" / "user" / "schema" / "sql")
    env = {"ROOKERY_MOVE_FROM": address("users", source), "ROOKERY_MOVE_TO": address("users", target)}
    status, output = await move(env=env)
    assert status == 0, output


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("{0}/user.db", "{0}/user.db", "source and target are the same store"),
        ("{0}/nothing.db", "{0}/a/user.db", "the source is not there"),
        ("{0}/other.db", "{0}/a/user.db", "the source is no store of Rookery's"),
        ("{0}/user.db", "file:///a", "the target cannot keep users: use sqlite, postgresql"),
        ("mysql://a/b", "{0}/a/user.db", "there are no stores at URLs that begin with mysql:"),
        ("file://{0}/objects", "{0}/a/user.db", "the target cannot keep objects: use file:///folder or s3:"),
        ("{0}/user.db", "{0}/tweet.db", "the target: "),
        ("{0}/user.db", "postgresql+asyncpg://a:secret@127.0.0.1:1/b", "the target: does not answer"),
    ],
)
async def test_what_makes_no_sense_is_refused(tmp_path: Path, source: str, target: str, said: str) -> None:
    for name in ("user", "tweet"):
        await migrate(f"sqlite+aiosqlite:///{tmp_path}/{name}.db", PROJECT / "services" / name / "schema" / "sql")
    other = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    await other.close()
    urls = [f"sqlite+aiosqlite:///{one}" if one.startswith("{") else one for one in (source, target)]
    with pytest.raises(OperatorError) as refused:
        await run(urls[0].format(tmp_path), urls[1].format(tmp_path))
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
