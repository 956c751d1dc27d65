"""What must not be told apart, and what must not come back (hostile.md, 2 and 12)."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from mesh.cache.store import CacheStore
from tests.e2e.harness import VARYING, Account, assert_problem, register
from views.lists import home_lists
from views.record import TWEET_PREFIX

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _without(answer: httpx.Response, tweet_id: int) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Everything that an answer says, but for the id and the moment."""
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in VARYING)
    return answer.status_code, answer.content.replace(str(tweet_id).encode(), b"ID"), headers


async def test_a_deleted_tweet_looks_as_one_that_never_was(alice: Account, bob: Account) -> None:
    deleted = await bob.tweet("gone")
    never = deleted ^ 0xFFF  # another sequence number of the same millisecond: as many digits, and nobody's
    await alice.get(f"/2/tweets/{deleted}")  # it was seen, and is in caches
    await bob.delete(deleted)
    for method, path in (
        ("GET", "/2/tweets/{0}"),
        ("GET", "/2/tweets/{0}?tweet.fields=author_id,created_at&expansions=author_id&user.fields=name"),
        ("GET", "/2/tweets?ids={0}"),
        ("GET", "/2/tweets/{0}?post.fields=author_id"),
        ("DELETE", "/2/tweets/{0}"),
    ):
        answers = [
            _without(await alice.request(method, path.format(tweet_id)), tweet_id) for tweet_id in (deleted, never)
        ]
        assert answers[0] == answers[1], path


async def test_a_deleted_tweet_comes_back_from_no_cache(alice: Account, bob: Account, cache: CacheStore) -> None:
    await alice.follow(bob)
    await alice.home()
    kept, doomed = await bob.tweet("kept"), await bob.tweet("doomed")
    await alice.home_is([doomed, kept])
    record = f"{TWEET_PREFIX}{doomed}"
    assert await cache.client.exists(record, home_lists(cache).key(alice.id)) == 2
    stop = asyncio.Event()

    async def reader() -> None:
        """Loads the record again and again, as slow readers of an old state would, while it is deleted."""
        while not stop.is_set():
            await cache.client.delete(record)
            await alice.get(f"/2/tweets/{doomed}")

    readers = [asyncio.create_task(reader()) for _ in range(4)]
    await asyncio.sleep(0)
    await bob.delete(doomed)
    stop.set()
    await asyncio.gather(*readers)
    assert "data" not in await alice.get(f"/2/tweets/{doomed}")
    await cache.client.delete(record)
    assert "data" not in await alice.get(f"/2/tweets/{doomed}")
    assert await alice.home() == [kept]
    await cache.client.delete(home_lists(cache).key(alice.id))
    assert await alice.home() == [kept]


async def test_one_persons_actions_show_in_nobody_elses_name(edge: httpx.AsyncClient, alice: Account) -> None:
    """Many people at once, through the same connections: nobody ever gets another's answer."""
    people = [alice, *[await register(edge) for _ in range(5)]]

    async def act(person: Account) -> None:
        for number in range(10):
            assert (await person.get("/2/users/me"))["data"]["id"] == str(person.id)
            tweet = await person.tweet(f"{person.username} {number}")
            found = await person.get(f"/2/tweets/{tweet}", tweet__fields="author_id")
            assert found["data"]["author_id"] == str(person.id)

    await asyncio.gather(*(act(person) for person in people))
    for person in people:
        assert len(await person.pages(f"/2/users/{person.id}/tweets")) == 10


@pytest.mark.parametrize(
    ("path", "most", "default"),
    [
        ("/2/users/{id}/tweets", 100, 10),
        ("/2/users/{id}/timelines/reverse_chronological", 100, 100),
        ("/2/users/{id}/followers", 1000, 100),
        ("/2/users/{id}/following", 1000, 100),
    ],
)
async def test_pages_are_capped(alice: Account, path: str, most: int, default: int) -> None:
    path = path.format(id=alice.id)
    await alice.get(path, max_results=most)
    for wrong in (0, most + 1, 2**31 - 1, 2**31, -1):
        assert_problem(await alice.request("GET", path, params={"max_results": wrong}), 400)
    if default == 10:
        await alice.tweets(default + 1)
        assert len((await alice.get(path))["data"]) == default
