"""Archives of everything that is stored about a person, through the edge."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.stores import Stores
from cli.supervisor import Mesh
from mesh.db.sql import Tx
from mesh.objects import Objects
from services.user.exporter import now_ms, object_key
from tests.e2e.harness import Account, assert_problem, eventually, register

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def asked(account: Account) -> Any:
    """Asks for an archive; gives it as it is then."""
    answer = await account.request("POST", "/v1/exports", json={})
    assert answer.status_code in (200, 202), answer.text
    return answer.json()["data"]


async def ready(account: Account, export_id: str) -> Any:
    """Waits for an archive."""

    async def look() -> Any:
        export = (await account.get(f"/v1/exports/{export_id}"))["data"]
        assert export["status"] == "ready", export
        return export

    return await eventually(look, 30.0)


async def fetched(account: Account, export_id: str) -> dict[str, Any]:
    """The documents of an archive, by name without `.json`."""
    answer = await account.request("GET", f"/v1/exports/{export_id}/archive")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {Path(name).stem: json.loads(archive.read(name)) for name in archive.namelist()}


async def archive_of(account: Account) -> dict[str, Any]:
    """Everything that is stored about somebody."""
    export = await asked(account)
    await ready(account, export["id"])
    return await fetched(account, export["id"])


@pytest.mark.proves("POST /v1/exports", "GET /v1/exports", "GET /v1/exports/{id}", "GET /v1/exports/{id}/archive")
async def test_an_archive_has_everything_of_the_person(alice: Account, bob: Account) -> None:
    await alice.request("PATCH", "/v1/users/me", json={"description": "About Alice", "location": "Here"})
    others = await bob.tweet("of Bob")
    first = await alice.tweet("the first, #one with @nobody_of_that_name")
    answer = await alice.tweet("an answer", reply={"in_reply_to_tweet_id": str(others)})
    quote = await alice.tweet("a quote", quote_tweet_id=str(others))
    gone = await alice.tweet("deleted again")
    await alice.delete(gone)
    made = await alice.request("POST", f"/2/users/{alice.id}/retweets", json={"tweet_id": str(others)})
    retweet = int(made.json()["data"]["rest_id"])
    for kind in ("likes", "bookmarks"):
        await alice.request("POST", f"/2/users/{alice.id}/{kind}", json={"tweet_id": str(others)})
    await alice.follow(bob)
    await bob.follow(alice)

    export = await asked(alice)
    done = await ready(alice, export["id"])
    assert done["progress"] == 100
    assert done["size"] > 0
    assert done["created_at"] <= done["finished_at"] < done["expires_at"]
    assert [one["id"] for one in (await alice.get("/v1/exports"))["data"]] == [export["id"]]

    files = await fetched(alice, export["id"])
    assert files["profile"]["username"] == alice.username
    assert files["profile"]["email"] == alice.email
    assert files["profile"]["description"] == "About Alice"
    assert [int(tweet["id"]) for tweet in files["tweets"]] == sorted([first, answer, quote, retweet])
    assert files["tweets"][0]["entities"]["hashtags"][0]["tag"] == "one"
    for name, person in (("likes", "tweet_id"), ("bookmarks", "tweet_id")):
        assert [int(item[person]) for item in files[name]] == [others]
    assert [int(item["user_id"]) for item in files["following"]] == [bob.id]
    assert [int(item["user_id"]) for item in files["followers"]] == [bob.id]
    assert len(files["sessions"]) == 1
    assert files["manifest"]["items"] == {
        name: len(content) for name, content in files.items() if name not in ("profile", "manifest")
    }


async def test_an_archive_has_nothing_secret_and_nothing_of_others(alice: Account, bob: Account) -> None:
    secret = f"secret_{secrets.token_hex(8)}"
    mine = await alice.tweet("mine")
    await bob.tweet(f"@{alice.username} {secret}", reply={"in_reply_to_tweet_id": str(mine)})
    await bob.request("POST", f"/2/users/{bob.id}/likes", json={"tweet_id": str(mine)})
    text = json.dumps(await archive_of(alice))
    assert secret not in text
    assert "argon2" not in text.lower()
    assert alice.refresh_token.rsplit(".", 1)[-1] not in text
    assert str(bob.id) not in text


async def test_asking_again_gives_the_same_archive(alice: Account) -> None:
    first = await asked(alice)
    assert (await asked(alice))["id"] == first["id"]
    await ready(alice, first["id"])
    again = await alice.request("POST", "/v1/exports", json={})
    assert again.status_code == 200
    assert again.json()["data"]["id"] == first["id"]
    assert len((await alice.get("/v1/exports"))["data"]) == 1


@pytest.mark.parametrize("tail", ["", "/archive"])
async def test_anothers_archive_is_as_one_that_is_not_there(alice: Account, bob: Account, tail: str) -> None:
    export = await asked(alice)
    await ready(alice, export["id"])
    theirs = await bob.request("GET", f"/v1/exports/{export['id']}{tail}")
    unknown = await bob.request("GET", f"/v1/exports/1{tail}")
    assert_problem(theirs, 404)
    assert theirs.text.replace(export["id"], "1") == unknown.text
    assert theirs.headers["content-type"] == unknown.headers["content-type"]
    assert "data" not in await bob.get("/v1/exports")
    for path in (f"/v1/exports/{export['id']}{tail}", "/v1/exports"):
        assert (await bob.edge.get(path)).status_code == 401


@pytest.mark.parametrize("bad", ["0", "-1", "x", "99999999999999999999"])
async def test_an_id_that_is_none_is_refused(alice: Account, bad: str) -> None:
    for tail in ("", "/archive"):
        assert_problem(await alice.request("GET", f"/v1/exports/{bad}{tail}"), 400)


async def insert(stores: Stores, user_id: int, export_id: int, *, expires_ms: int, size: int) -> None:
    """A row of an archive that is ready."""

    async def unit(tx: Tx) -> None:
        await tx.execute(
            "INSERT INTO exports (id, user_id, status, progress, finished_ms, expires_ms, size)"
            " VALUES (:id, :user, 'ready', 100, :now, :expires, :size)",
            {"id": export_id, "user": user_id, "now": now_ms(), "expires": expires_ms, "size": size},
        )

    await stores.users.write(unit)


async def test_an_archive_larger_than_any_buffer_comes_whole(
    mesh: Mesh, engines: dict[str, str], stores: Stores, edge: httpx.AsyncClient
) -> None:
    carol = await register(edge)
    content = secrets.token_bytes(24 << 20)
    export_id = carol.id + 1
    await insert(stores, carol.id, export_id, expires_ms=now_ms() + 60_000, size=len(content))
    objects = Objects.open(engines.get("ROOKERY_OBJECTS_URL", f"file://{mesh.data}/objects"))
    await objects.put(object_key(export_id), content)
    answer = await carol.request("GET", f"/v1/exports/{export_id}/archive")
    assert answer.status_code == 200
    assert answer.content == content


async def test_an_archive_whose_time_is_over_is_not_there(mesh: Mesh, stores: Stores, edge: httpx.AsyncClient) -> None:
    carol = await register(edge)
    export_id = carol.id + 1
    await insert(stores, carol.id, export_id, expires_ms=now_ms() - 1, size=1)
    for tail in ("", "/archive"):
        assert_problem(await carol.request("GET", f"/v1/exports/{export_id}{tail}"), 404)
    assert "data" not in await carol.get("/v1/exports")
