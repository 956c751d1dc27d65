"""Fifty requests about the same two people or the same tweet at once: they end in a state that some order explains.

Whatever wins, everything that tells of it agrees: lists from both ends, counts, and what shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Account, eventually, register

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]

AT_ONCE = 50
Call = tuple[Account, str, str, dict[str, Any]]
"""Who, method, path, body."""


async def _race(calls: Sequence[Call], allowed: frozenset[int] = frozenset({200})) -> list[int]:
    """Sends fifty requests at once, the calls over and over; gives the statuses."""

    async def send(call: Call) -> int:
        who, method, path, body = call
        answer = await who.request(method, path, **({"json": body} if body else {}))
        assert answer.status_code in allowed, f"{method} {path}: {answer.status_code} {answer.text}"
        return int(answer.status_code)

    return list(await asyncio.gather(*(send(calls[number % len(calls)]) for number in range(AT_ONCE))))


def _doing(who: Account, what: str, member: str, target: int) -> Call:
    return who, "POST", f"/2/users/{who.id}/{what}", {member: str(target)}


def _undoing(who: Account, what: str, target: int) -> Call:
    return who, "DELETE", f"/2/users/{who.id}/{what}/{target}", {}


async def _metrics(reader: Account, path: str) -> dict[str, int]:
    kind = "tweet" if "tweets" in path else "user"
    params = {f"{kind}__fields": "public_metrics"}
    counts: dict[str, int] = (await reader.get(path, **params))["data"]["public_metrics"]
    return counts


async def _ids(reader: Account, path: str) -> list[int]:
    return await reader.pages(path)


async def _relations(one: Account, other: Account) -> tuple[bool, bool, bool]:
    """(one follows other, other follows one, one blocks other), from both ends where there are two."""
    following = other.id in await _ids(one, f"/2/users/{one.id}/following")
    followed = other.id in await _ids(one, f"/2/users/{one.id}/followers")
    assert following == (one.id in await _ids(other, f"/2/users/{other.id}/followers"))
    assert followed == (one.id in await _ids(other, f"/2/users/{other.id}/following"))
    return following, followed, other.id in await _ids(one, f"/2/users/{one.id}/blocking")


async def _counts_follow(people: Sequence[Account], wanted: dict[int, tuple[int, int]]) -> None:
    """Waits until follow counts are these: (following, followers) by person, as each sees their own."""

    async def look() -> None:
        for person in people:
            counts = await _metrics(person, "/2/users/me")
            assert (counts["following_count"], counts["followers_count"]) == wanted[person.id]

    await eventually(look)


async def test_likes_and_unlikes_of_one_tweet(alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("contested")
    await _race([_doing(bob, "likes", "tweet_id", tweet), _undoing(bob, "likes", tweet)])
    likers = await _ids(alice, f"/2/tweets/{tweet}/liking_users")
    assert likers in ([], [bob.id])
    assert await _ids(alice, f"/2/users/{bob.id}/liked_tweets") == ([tweet] if likers else [])

    async def look() -> None:
        assert (await _metrics(alice, f"/2/tweets/{tweet}"))["like_count"] == len(likers)
        assert (await _metrics(bob, "/2/users/me"))["like_count"] == len(likers)

    await eventually(look)


async def test_bookmarks_of_one_tweet(alice: Account, bob: Account) -> None:
    tweet = await alice.tweet("contested")
    await _race([_doing(bob, "bookmarks", "tweet_id", tweet), _undoing(bob, "bookmarks", tweet)])
    kept = await _ids(bob, f"/2/users/{bob.id}/bookmarks")
    assert kept in ([], [tweet])

    async def look() -> None:
        assert (await _metrics(alice, f"/2/tweets/{tweet}"))["bookmark_count"] == len(kept)

    await eventually(look)


async def test_retweets_of_one_tweet(alice: Account, bob: Account, settled: Settled) -> None:
    tweet = await alice.tweet("contested")
    await _race([_doing(bob, "retweets", "tweet_id", tweet), _undoing(bob, "retweets", tweet)])
    retweets = await _ids(alice, f"/2/tweets/{tweet}/retweets")
    assert len(retweets) <= 1
    assert await _ids(alice, f"/2/users/{bob.id}/tweets") == retweets
    assert await _ids(alice, f"/2/tweets/{tweet}/retweeted_by") == ([bob.id] if retweets else [])
    await settled()
    assert await bob.home() == retweets

    async def look() -> None:
        assert (await _metrics(alice, f"/2/tweets/{tweet}"))["retweet_count"] == len(retweets)
        assert (await _metrics(bob, "/2/users/me"))["tweet_count"] == len(retweets)

    await eventually(look)


async def test_likes_and_retweets_while_the_tweet_is_deleted(alice: Account, bob: Account, settled: Settled) -> None:
    tweet = await alice.tweet("contested")
    calls: list[Call] = [
        _doing(bob, "likes", "tweet_id", tweet),
        _doing(bob, "retweets", "tweet_id", tweet),
        (alice, "DELETE", f"/2/tweets/{tweet}", {}),
    ]
    statuses = await _race(calls, frozenset({200, 404}))
    assert 200 in statuses
    await settled()

    async def look() -> None:
        assert await _ids(bob, f"/2/users/{bob.id}/liked_tweets") == []
        assert await bob.home() == await _ids(alice, f"/2/users/{bob.id}/tweets") == []
        counts = await _metrics(bob, "/2/users/me")
        assert (counts["tweet_count"], counts["like_count"]) == (0, 0)

    await eventually(look)


async def test_follows_and_unfollows_of_one_pair(alice: Account, bob: Account, settled: Settled) -> None:
    tweet = await bob.tweet("for followers")
    await _race([_doing(alice, "following", "target_user_id", bob.id), _undoing(alice, "following", bob.id)])
    following, followed, _ = await _relations(alice, bob)
    assert not followed
    await _counts_follow([alice, bob], {alice.id: (following, 0), bob.id: (0, following)})
    await settled()
    assert await alice.home() == ([tweet] if following else [])


async def test_requests_acceptances_and_withdrawals_of_one_pair(alice: Account, bob: Account, settled: Settled) -> None:
    answer = await bob.request("PATCH", "/v1/users/me", json={"protected": True})
    assert answer.status_code == 200
    tweet = await bob.tweet("for followers")
    calls: list[Call] = [
        _doing(alice, "following", "target_user_id", bob.id),
        (bob, "POST", f"/v1/follow_requests/{alice.id}/accept", {}),
        _undoing(alice, "following", bob.id),
        (bob, "POST", f"/v1/follow_requests/{alice.id}/decline", {}),
        _doing(alice, "following", "target_user_id", bob.id),
    ]
    await _race(calls, frozenset({200, 404}))
    await settled()
    # Somebody who does not follow sees no list of a protected person: what bob sees counts.
    following = await _ids(bob, f"/2/users/{bob.id}/followers") == [alice.id]
    asking = await _ids(bob, "/v1/follow_requests") == [alice.id]
    assert asking == (await _ids(alice, "/v1/follow_requests/sent") == [bob.id])
    assert not (following and asking)
    assert (await _ids(alice, f"/2/users/{alice.id}/following") == [bob.id]) == following
    await _counts_follow([alice, bob], {alice.id: (following, 0), bob.id: (0, following)})
    assert ("data" in await alice.get(f"/2/tweets/{tweet}")) == following
    assert await alice.home() == ([tweet] if following else [])


@pytest.mark.parametrize("both", [False, True], ids=["one blocks", "both block"])
async def test_blocks_against_follows_of_one_pair(alice: Account, bob: Account, settled: Settled, both: bool) -> None:
    """No order of them leaves a follow across a block, nor a count without its row."""
    tweet = await bob.tweet("hello")
    calls = [
        _doing(alice, "following", "target_user_id", bob.id),
        _doing(bob, "following", "target_user_id", alice.id),
        _doing(alice, "blocking", "target_user_id", bob.id),
        _undoing(alice, "following", bob.id),
        _undoing(alice, "blocking", bob.id),
    ]
    if both:
        calls += [_doing(bob, "blocking", "target_user_id", alice.id), _undoing(bob, "blocking", alice.id)]
    await _race(calls, frozenset({200, 403}))
    blocks = bob.id in await _ids(alice, f"/2/users/{alice.id}/blocking")
    blocked = alice.id in await _ids(bob, f"/2/users/{bob.id}/blocking")
    following = await _ids(alice, f"/2/users/{alice.id}/following") == [bob.id]
    followed = await _ids(bob, f"/2/users/{bob.id}/following") == [alice.id]
    apart = blocks or blocked
    assert not (apart and (following or followed))
    if not apart:
        assert await _relations(alice, bob) == (following, followed, False)
    await _counts_follow([alice, bob], {alice.id: (following, followed), bob.id: (followed, following)})
    assert ("data" in await alice.get(f"/2/tweets/{tweet}")) != apart
    await settled()
    assert await alice.home() == ([tweet] if following else [])


async def test_a_block_that_comes_last_wins(alice: Account, bob: Account) -> None:
    """Follows that began before it and are still under way cut nothing of it."""
    for _ in range(5):
        racing = asyncio.gather(
            *(
                who.request("POST", f"/2/users/{who.id}/following", json={"target_user_id": str(whom.id)})
                for who, whom in ((alice, bob), (bob, alice)) * 10
            )
        )
        answer = await alice.request("POST", f"/2/users/{alice.id}/blocking", json={"target_user_id": str(bob.id)})
        assert answer.status_code == 200
        assert {one.status_code for one in await racing} <= {200, 403}
        assert await _ids(alice, f"/2/users/{alice.id}/following") == []
        assert await _ids(alice, f"/2/users/{alice.id}/followers") == []
        assert await _ids(alice, f"/2/users/{alice.id}/blocking") == [bob.id]
        answer = await alice.request("DELETE", f"/2/users/{alice.id}/blocking/{bob.id}")
        assert answer.status_code == 200
    await _counts_follow([alice, bob], {alice.id: (0, 0), bob.id: (0, 0)})


async def test_mutes_of_one_pair(alice: Account, bob: Account, settled: Settled) -> None:
    tweet = await bob.tweet("hello")
    await alice.follow(bob)
    await _race([_doing(alice, "muting", "target_user_id", bob.id), _undoing(alice, "muting", bob.id)])
    muted = await _ids(alice, f"/2/users/{alice.id}/muting")
    assert muted in ([], [bob.id])
    await settled()
    assert await alice.home() == ([] if muted else [tweet])
    assert await _relations(alice, bob) == (True, False, False)


async def test_protecting_while_others_follow(edge: httpx.AsyncClient, alice: Account, bob: Account) -> None:
    """Each follow is a follow or a request, and what the follower sees of it is the same."""
    people = [alice, *[await register(edge) for _ in range(9)]]
    tweet = await bob.tweet("hello")

    async def switch() -> None:
        for on in (True, False, True):
            answer = await bob.request("PATCH", "/v1/users/me", json={"protected": on})
            assert answer.status_code == 200

    await asyncio.gather(switch(), *(one.follow(bob) for one in people))
    followers = set(await _ids(bob, f"/2/users/{bob.id}/followers"))
    asking = set(await _ids(bob, "/v1/follow_requests"))
    assert followers | asking == {one.id for one in people}
    assert not followers & asking
    for one in people:
        assert ("data" in await one.get(f"/2/tweets/{tweet}")) == (one.id in followers)
    await _counts_follow([bob], {bob.id: (0, len(followers))})


async def test_members_of_one_list(alice: Account, bob: Account) -> None:
    answer = await alice.request("POST", "/2/lists", json={"name": "contested"})
    made = answer.json()["data"]["id"]
    path = f"/2/lists/{made}/members"
    calls: list[Call] = [
        (alice, "POST", path, {"user_id": str(bob.id)}),
        (alice, "DELETE", f"{path}/{bob.id}", {}),
        _doing(alice, "blocking", "target_user_id", bob.id),
        _undoing(alice, "blocking", bob.id),
    ]
    await _race(calls, frozenset({200, 403}))
    members = await _ids(alice, path)
    found = await alice.get(f"/2/lists/{made}", list__fields="member_count")
    if await _ids(alice, f"/2/users/{alice.id}/blocking"):
        assert members == []
    assert found["data"]["member_count"] == len(members) <= 1
