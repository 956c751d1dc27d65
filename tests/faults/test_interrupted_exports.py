"""An archive is made although the process that makes it is killed, in memory that does not grow with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from cli.state import running_state
from cli.stores import Stores, open_stores
from cli.supervisor import Mesh
from mesh.db.sql import Tx
from tests.called import watched
from tests.e2e.harness import Account, eventually, register
from tests.e2e.test_exports import asked, fetched, ready

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(110)]

TWEETS = 30_000
"""Enough to be interrupted in the middle, and to be seen in memory if they were all there at once: 20 MB of JSON."""
MOST_KB = 10_000
"""By which the process may grow meanwhile."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with watched(mesh.url) as client:
        yield client


async def prolific(people: httpx.AsyncClient, stores: Stores) -> Account:
    """Somebody with many tweets, which are put where they would have ended."""
    account = await register(people)

    async def write(tx: Tx) -> None:
        await tx.execute(
            "INSERT INTO tweets (id, author_id, text, lang, possibly_sensitive, reply_settings, conversation_id)"
            " VALUES (:id, :author, :text, 'en', FALSE, 'everyone', :id)",
            [
                {"id": account.id + n, "author": account.id, "text": f"{n} of many, " + "x" * 200}
                for n in range(1, TWEETS + 1)
            ],
        )

    await stores.tweets.write(write)
    return account


async def progress(stores: Stores, export_id: str) -> tuple[str, int]:
    """Status and claim of an export."""

    async def read(tx: Tx) -> tuple[str, int]:
        query = "SELECT status, lease_ms FROM exports WHERE id = :id"
        row = (await tx.execute(query, {"id": int(export_id)})).one()
        return row.status, row.lease_ms

    return await stores.users.read(read)


def peak_kb(pid: int) -> int:
    """The most memory that a process has had."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1])


async def test_an_archive_is_made_after_kill_9_of_its_maker(mesh: Mesh, people: httpx.AsyncClient) -> None:
    async with open_stores(running_state(mesh.data), {}) as stores:
        account = await prolific(people, stores)
        export = await asked(account)

        async def claimed() -> None:
            status, lease_ms = await progress(stores, export["id"])
            assert status == "waiting"
            assert lease_ms > 0

        await eventually(claimed)
        await mesh.kill("user")
        await mesh.wait_ready("user")
        assert (await progress(stores, export["id"]))[0] == "waiting", "it was done before the kill"
        before = peak_kb(mesh.pid("user"))

        async def done() -> None:
            assert (await progress(stores, export["id"]))[0] == "ready"

        await eventually(done, 80.0)
        grown = peak_kb(mesh.pid("user")) - before
        print(f"report: the peak of memory grew by {grown} kB")
        assert grown < MOST_KB
    files = await fetched(account, export["id"])
    assert [int(tweet["id"]) for tweet in files["tweets"]] == [account.id + n for n in range(1, TWEETS + 1)]
    left = [path for path in (mesh.data / "objects").rglob("*") if path.is_file()]
    assert [path.name for path in left] == [f"{export['id']}.zip"]


async def test_who_downloads_and_does_not_read_keeps_nobody_waiting(mesh: Mesh, people: httpx.AsyncClient) -> None:
    """What the edge holds for them must not fill the connection to the service, which all requests share."""
    account, other = await register(people), await register(people)
    export = await asked(account)
    await ready(account, export["id"])
    [archive] = (mesh.data / "objects").rglob(f"{export['id']}.zip")
    os.truncate(archive, 512 << 20)
    async with AsyncExitStack() as open_ones:
        for _ in range(8):
            stream = people.stream(
                "GET", f"/v1/exports/{export['id']}/archive", headers={"authorization": f"Bearer {account.token}"}
            )
            assert (await open_ones.enter_async_context(stream)).status_code == 200
        await asyncio.sleep(1.0)  # as long as the service can send
        for _ in range(20):
            assert (await asyncio.wait_for(other.get("/2/users/me"), 5.0))["data"]["id"] == str(other.id)
