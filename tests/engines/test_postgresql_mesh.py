"""A mesh whose PostgreSQL is killed: it says so in time, and goes on by itself; what was answered is there."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import httpx
import pytest

from cli.profile import SERVICES
from cli.supervisor import running_mesh
from scripts.engines.control import Control
from scripts.engines.postgresql import PostgreSQL
from tests.called import watched
from tests.conftest import UNLIMITED
from tests.e2e.harness import register
from tests.stores.suites.outbox import eventually

IN_TIME_S = 10.0


@pytest.mark.usefixtures("postgresql")
async def test_a_mesh_whose_database_is_killed_loses_nothing_and_needs_no_restart(tmp_path: Path) -> None:
    server = Control(PostgreSQL(), tmp_path / "engines")
    await asyncio.to_thread(server.up)
    try:
        with tempfile.TemporaryDirectory(prefix="mesh-", dir="/tmp") as folder:
            async with running_mesh(Path(folder), env=server.urls() | UNLIMITED) as mesh, watched(mesh.url) as edge:
                alice = await register(edge)

                async def post(text: str) -> httpx.Response:
                    async with asyncio.timeout(IN_TIME_S):
                        return await alice.request("POST", "/2/tweets", json={"text": text})

                accepted = [(await post(f"before {n}")).json()["data"]["id"] for n in range(5)]
                posting = [asyncio.create_task(post(f"meanwhile {n}")) for n in range(30)]
                await asyncio.wait(posting, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.to_thread(server.kill, "postgresql-1")
                answers = [*await asyncio.gather(*posting), await post("without")]
                assert {answer.status_code for answer in answers} <= {201, 503}
                assert answers[-1].status_code == 503
                accepted += [answer.json()["data"]["id"] for answer in answers if answer.status_code == 201]

                await asyncio.to_thread(server.up)

                async def goes_on() -> bool:
                    answer = await post("after")
                    accepted.extend([answer.json()["data"]["id"]] if answer.status_code == 201 else [])
                    return answer.status_code == 201

                await eventually(goes_on, seconds=20.0)
                for tweet_id in accepted:
                    assert (await alice.request("GET", f"/2/tweets/{tweet_id}")).status_code == 200

                async def listed() -> bool:
                    answer = await alice.request("GET", f"/2/users/{alice.id}/timelines/reverse_chronological")
                    return {one["id"] for one in answer.json().get("data", [])} >= set(accepted[-10:])

                await eventually(listed, seconds=20.0)
                assert [mesh.restarts(name) for name in SERVICES] == [0] * len(SERVICES)
    finally:
        await asyncio.to_thread(server.down)
