"""What a home timeline shows, whichever way its tweets got there. A read equals today's facts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import httpx
import pytest

from cli.check import check_timelines
from cli.state import running_state
from cli.stores import Stores
from mesh.cache.store import CacheStore
from mesh.ids import rfc3339_of_id
from tests.conftest import CELEBRITY_FOLLOWERS
from tests.e2e.graph_rows import reach
from tests.e2e.harness import Account, eventually, home_members, register, register_many

if TYPE_CHECKING:
    from cli.supervisor import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]


async def test_a_tweet_reaches_those_who_follow_and_nobody_else(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    stranger = await register(edge)
    await alice.follow(bob)
    assert await alice.home() == []  # the list is warm now
    await stranger.home()
    tweet = await bob.tweet("hello")
    await alice.home_is([tweet])
    await bob.home_is([tweet])
    assert await stranger.home() == []


async def test_a_list_that_was_never_read_is_right_at_its_first_read(alice: Account, bob: Account) -> None:
    await alice.follow(bob)
    tweets = [await bob.tweet("one"), await alice.tweet("two"), await bob.tweet("three")]
    assert await alice.home() == tweets[::-1]


async def test_own_tweets_are_in(alice: Account) -> None:
    assert await alice.home() == []
    tweets = [await alice.tweet(text) for text in ("one", "two")]
    await alice.home_is(tweets[::-1])


async def test_a_follow_brings_what_was_written_before_it(alice: Account, bob: Account, settled: Settled) -> None:
    old = [await bob.tweet("one"), await bob.tweet("two")]
    own = await alice.tweet("mine")
    await alice.home_is([own])
    await settled()
    await alice.follow(bob)
    await alice.home_is([own, *old[::-1]])


async def test_an_unfollow_takes_it_away_with_the_next_read(alice: Account, bob: Account, settled: Settled) -> None:
    await alice.follow(bob)
    tweet = await bob.tweet("hello")
    await alice.home_is([tweet])
    await alice.unfollow(bob)
    assert await alice.home() == []
    await settled()
    assert await alice.home() == []
    await alice.follow(bob)
    await alice.home_is([tweet])


async def test_follow_and_unfollow_in_a_burst_end_at_the_truth(alice: Account, bob: Account, settled: Settled) -> None:
    tweet = await bob.tweet("hello")
    await alice.home()
    for _ in range(5):
        await alice.follow(bob)
        await alice.unfollow(bob)
    await settled()
    assert await alice.home() == []
    await alice.follow(bob)
    await settled()
    assert await alice.home() == [tweet]


async def test_a_deleted_tweet_is_gone_everywhere_with_the_next_read(
    alice: Account, bob: Account, cache: CacheStore, settled: Settled
) -> None:
    await alice.follow(bob)
    await alice.home()
    kept, deleted = await bob.tweet("kept"), await bob.tweet("deleted")
    await alice.home_is([deleted, kept])
    await bob.delete(deleted)
    assert await alice.home() == [kept]
    assert await bob.home() == [kept]
    assert await alice.pages(f"/2/users/{bob.id}/tweets") == [kept]
    found = await alice.get(f"/2/tweets/{deleted}")
    assert "data" not in found
    await settled()
    assert await _listed(cache, alice) == {kept}


async def test_a_page_goes_on_where_the_last_one_ended_whatever_is_written_meanwhile(
    alice: Account, bob: Account, settled: Settled
) -> None:
    await alice.follow(bob)
    old = await bob.tweets(25)
    await settled()
    path = f"/2/users/{alice.id}/timelines/reverse_chronological"
    page = await alice.get(path, max_results=10)
    got = [int(tweet["id"]) for tweet in page["data"]]
    await bob.tweet("new, above the first page")
    await settled()
    while "next_token" in page["meta"]:
        page = await alice.get(path, max_results=10, pagination_token=page["meta"]["next_token"])
        got += [int(tweet["id"]) for tweet in page["data"]]
    assert got == old


async def test_pages_lead_back_to_what_is_newer(alice: Account, bob: Account, settled: Settled) -> None:
    await alice.follow(bob)
    await alice.home()
    ids = await bob.tweets(10)
    await settled()
    path = f"/2/users/{alice.id}/timelines/reverse_chronological"
    first = await alice.get(path, max_results=4)
    assert "previous_token" not in first["meta"]
    second = await alice.get(path, max_results=4, pagination_token=first["meta"]["next_token"])
    third = await alice.get(path, max_results=4, pagination_token=second["meta"]["next_token"])
    assert [int(tweet["id"]) for tweet in third["data"]] == ids[8:]
    assert (await alice.get(path, max_results=4, pagination_token=third["meta"]["previous_token"]))["data"] == second[
        "data"
    ]
    newest = await bob.tweet("meanwhile")
    await settled()
    back = await alice.get(path, max_results=4, pagination_token=second["meta"]["previous_token"])
    assert back["data"] == first["data"]
    top = await alice.get(path, max_results=4, pagination_token=back["meta"]["previous_token"])
    assert [int(tweet["id"]) for tweet in top["data"]] == [newest]
    again = await alice.get(path, max_results=4, pagination_token=top["meta"]["next_token"])
    assert again["data"] == first["data"]


@pytest.mark.parametrize("warm", [False, True])
async def test_windows_of_ids_and_times(alice: Account, bob: Account, settled: Settled, warm: bool) -> None:
    await alice.follow(bob)
    if warm:
        await alice.home()
    ids = []
    for number in range(6):
        ids.append(await bob.tweet(f"number {number}"))
    ids.reverse()
    await settled()
    assert await alice.home(since_id=ids[2]) == ids[:2]
    assert await alice.home(until_id=ids[2]) == ids[3:]
    assert await alice.home(since_id=ids[4], until_id=ids[1]) == ids[2:4]
    assert await alice.home(start_time=rfc3339_of_id(ids[2])) == ids[:3]  # inclusive, as the X API has it
    assert await alice.home(end_time=rfc3339_of_id(ids[2])) == ids[3:]  # exclusive
    assert await alice.home(since_id=ids[0]) == []
    assert await alice.home(max_results=1, since_id=ids[5]) == ids[:5]
    own = await alice.pages(f"/2/users/{bob.id}/tweets", max_results=2, since_id=ids[4], until_id=ids[0])
    assert own == ids[1:4]


async def test_a_timeline_ends_after_800_tweets(alice: Account, bob: Account, settled: Settled) -> None:
    await alice.follow(bob)
    assert await alice.home() == []
    tweets = await bob.tweets(830, at_once=16)
    await settled()
    assert await alice.home() == tweets[:800]  # a warm list, trimmed while it was written
    assert await bob.home(max_results=37) == tweets[:800]  # rebuilt from the database
    for tweet in tweets[:40]:
        await bob.delete(tweet)
    await settled()
    assert await alice.home() == tweets[40:]  # what the list has lost is read from the database


@pytest.mark.parametrize("warm", [False, True])
async def test_replies_show_to_those_who_follow_both(
    edge: httpx.AsyncClient, alice: Account, bob: Account, settled: Settled, warm: bool
) -> None:
    carol, both, one = await register_many(edge, 3)
    for viewer in (both, one, carol):
        await viewer.follow(bob)
        if warm:
            assert await viewer.home() == []
    await both.follow(carol)
    root = await carol.tweet("a question")
    to_carol = await bob.tweet("to carol", reply={"in_reply_to_tweet_id": str(root)})
    plain = await bob.tweet("plain")
    to_self = await bob.tweet("to myself", reply={"in_reply_to_tweet_id": str(plain)})
    await settled()
    assert await both.home() == [to_self, plain, to_carol, root]
    assert await one.home() == [to_self, plain]
    assert await carol.home() == [to_self, plain, to_carol, root]
    assert await both.home(exclude="replies") == [plain, root]
    assert await alice.home() == []
    await one.follow(carol)  # today's facts count, not those of the time of writing
    await both.unfollow(carol)
    await settled()
    assert await one.home() == [to_self, plain, to_carol, root]
    assert await both.home() == [to_self, plain]


@pytest.mark.parametrize("warm", [False, True])
async def test_a_retweet_brings_a_tweet_and_goes_with_it(
    edge: httpx.AsyncClient, alice: Account, bob: Account, settled: Settled, warm: bool
) -> None:
    carol = await register(edge)
    await alice.follow(bob)
    if warm:
        assert await alice.home() == []
    original = await carol.tweet("worth repeating")
    answer = await bob.request("POST", f"/2/users/{bob.id}/retweets", json={"tweet_id": str(original)})
    retweet = int(answer.json()["data"]["rest_id"])
    await settled()
    assert await alice.home() == [retweet]
    assert await bob.home() == [retweet]
    assert await alice.home(exclude="retweets") == []
    await carol.delete(original)
    assert await alice.home() == []
    await settled()
    assert await alice.home() == await bob.home() == []


async def test_a_celebritys_tweet_writes_no_followers_list_and_shows_all_the_same(
    edge: httpx.AsyncClient, alice: Account, bob: Account, cache: CacheStore, stores: Stores, settled: Settled
) -> None:
    crowd = await register_many(edge, CELEBRITY_FOLLOWERS - 1)
    await alice.follow(bob)
    pushed = await bob.tweet("to a few")
    await alice.home_is([pushed])
    assert await _listed(cache, alice) == {pushed}
    await asyncio.gather(*(one.follow(bob) for one in crowd))
    await settled()
    assert await reach(stores, bob.id) == "pulled"
    pulled = await bob.tweet("to many")
    await settled()
    assert await alice.home() == [pulled, pushed]
    assert pulled not in await _listed(cache, alice)
    assert await crowd[0].home() == [pulled, pushed]  # a list that is filled only now
    assert await _listed(cache, crowd[0]) == set()
    await bob.delete(pulled)
    assert await alice.home() == [pushed]


async def test_crossing_the_line_up_and_down_loses_and_repeats_nothing(
    edge: httpx.AsyncClient, alice: Account, bob: Account, cache: CacheStore, stores: Stores, settled: Settled
) -> None:
    crowd = await register_many(edge, CELEBRITY_FOLLOWERS + 2)
    for one in (alice, *crowd[: CELEBRITY_FOLLOWERS - 2]):
        await one.follow(bob)
    written = [await bob.tweet("while pushed")]
    await settled()
    assert await reach(stores, bob.id) == "pushed"
    await alice.home_is(written)
    stop = asyncio.Event()

    async def watch() -> int:
        """Whatever is settled is there, once and in order, in every read, before, while and after it crosses."""
        reads = 0
        while not stop.is_set():
            settled_before = list(written)
            got = await alice.home()
            assert got == sorted(set(got), reverse=True)
            assert set(got) >= set(settled_before)
            reads += 1
        return reads

    watching = asyncio.create_task(watch())

    async def post(text: str) -> None:
        tweet = await bob.tweet(text)
        await settled()
        written.append(tweet)

    await asyncio.gather(post("while it crosses up"), *(one.follow(bob) for one in crowd))
    await settled()
    assert await reach(stores, bob.id) == "pulled"
    await post("while pulled")
    assert written[-1] not in await _listed(cache, alice)
    await asyncio.gather(post("while it crosses down"), *(one.unfollow(bob) for one in crowd))
    await settled()
    assert await reach(stores, bob.id) == "pushed"
    await post("while pushed again")
    stop.set()
    assert await watching > 5
    everything = sorted(written, reverse=True)
    assert await alice.home() == everything
    assert await _listed(cache, alice) == set(everything)


async def test_counts_converge(edge: httpx.AsyncClient, alice: Account, bob: Account, settled: Settled) -> None:
    carol = await register(edge)
    for one in (alice, carol):
        await one.follow(bob)
    await bob.follow(carol)
    tweets = await bob.tweets(5)
    await bob.delete(tweets[0])
    await carol.unfollow(bob)
    await alice.follow(bob)  # again: nothing changes
    await bob.delete(tweets[0])  # again: nothing changes

    async def look() -> None:
        found = await alice.get("/2/users", ids=f"{alice.id},{bob.id},{carol.id}", user__fields="public_metrics")
        counts = {
            int(user["id"]): tuple(
                user["public_metrics"][name]
                for name in ("followers_count", "following_count", "tweet_count", "post_count")
            )
            for user in found["data"]
        }
        assert counts == {alice.id: (0, 1, 0, 0), bob.id: (1, 1, 4, 4), carol.id: (1, 0, 0, 0)}

    await eventually(look)
    await settled()
    await look()


async def test_after_all_of_this_every_timeline_equals_the_tables(
    mesh: Mesh, engines: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the tests before left behind, those of other modules too."""
    for name, url in engines.items():  # as an operator does: passwords are written down nowhere
        monkeypatch.setenv(name, url)
    outcome = await check_timelines(running_state(mesh.data), sample=300)
    assert not outcome.differences, outcome.differences[:3]


async def _listed(cache: CacheStore, viewer: Account) -> set[int]:
    return set(await home_members(cache, viewer.id))
