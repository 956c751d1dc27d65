"""A home timeline is the same whether its list is missing, being filled, filled, trimmed, or out of reach.

Lists are in a real Valkey; `graph` and `tweet` are real gRPC servers that answer from memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from rookery.graph.v1 import graph_mesh_pb2, graph_mesh_pb2_grpc
from rookery.tweet.v1 import tweet_mesh_pb2, tweet_mesh_pb2_grpc

from mesh.cache.open import open_cache
from mesh.cache.store import CacheStore
from mesh.client import Destination
from services.timeline.sources import Sources
from tests.stores.conftest import Valkey
from views.entry import Entry
from views.lists import LIMIT, author_lists, home_lists

VIEWER = 1
AUTHOR = 2
PULLED = 3
NEWEST = LIMIT + 400
"""The viewer's timeline has the tweets 1 to NEWEST: more than a list holds."""


def author_of(tweet_id: int) -> int:
    return PULLED if tweet_id % 10 == 0 else AUTHOR if tweet_id % 2 else VIEWER


class Graph(graph_mesh_pb2_grpc.GraphMeshServiceServicer):
    """Answers as `graph`."""

    async def GetFollowing(self, request: object, context: object) -> graph_mesh_pb2.GetFollowingResponse:
        return graph_mesh_pb2.GetFollowingResponse(
            followee_ids=[AUTHOR, PULLED], pulled_ids=[PULLED], unpushed_ids=[PULLED]
        )

    async def MarkActive(self, request: object, context: object) -> graph_mesh_pb2.MarkActiveResponse:
        return graph_mesh_pb2.MarkActiveResponse()


class Tweets(tweet_mesh_pb2_grpc.TweetMeshServiceServicer):
    """Answers as `tweet`."""

    async def ListRecentTweets(
        self, request: tweet_mesh_pb2.ListRecentTweetsRequest, context: object
    ) -> tweet_mesh_pb2.ListRecentTweetsResponse:
        top = min(NEWEST, request.before_id - 1) if request.before_id else NEWEST
        ids = [i for i in range(top, request.after_id, -1) if author_of(i) in request.author_ids]
        entries = [Entry(i, author_of(i)).pack() for i in ids[: request.limit]]
        return tweet_mesh_pb2.ListRecentTweetsResponse(entries=b"".join(entries))


@asynccontextmanager
async def sources(folder: Path, cache_url: str) -> AsyncIterator[tuple[Sources, CacheStore]]:
    server = grpc.aio.server()
    graph_mesh_pb2_grpc.add_GraphMeshServiceServicer_to_server(Graph(), server)  # type: ignore[abstract]  # the rest is UNIMPLEMENTED
    tweet_mesh_pb2_grpc.add_TweetMeshServiceServicer_to_server(Tweets(), server)  # type: ignore[abstract]
    server.add_insecure_port(f"unix://{folder}/s")
    await server.start()
    graph = Destination("graph", f"unix://{folder}/s", graph_mesh_pb2_grpc.GraphMeshServiceStub)
    tweet = Destination("tweet", f"unix://{folder}/s", tweet_mesh_pb2_grpc.TweetMeshServiceStub)
    cache = open_cache(cache_url)
    try:
        yield Sources(cache, home_lists(cache), author_lists(cache), graph, tweet), cache
    finally:
        await cache.close()
        await graph.close()
        await tweet.close()
        await server.stop(0)


# before, after: the top, within the list, around its end, below it, and bounds on both sides.
BOUNDS = [
    (0, 0),
    (500, 0),
    (NEWEST - LIMIT + 5, 0),
    (100, 0),
    (100, 90),
    (500, 490),
    (0, NEWEST - 3),
    (200, 100),
    (1, 0),
    (2, 0),
]


def truth(before: int, after: int) -> list[int]:
    return list(range(min(NEWEST, before - 1) if before else NEWEST, after, -1))


async def check(reader: Sources, before: int, after: int, count: int) -> None:
    part = await reader.read(VIEWER, before=before, after=after, count=count)
    expected = truth(before, after)
    assert [entry.tweet_id for entry in part.entries] == expected[:count]
    if part.exhausted:
        assert len(expected) <= count


@pytest.mark.parametrize(("before", "after"), BOUNDS)
async def test_the_first_read_which_fills_the_list_gives_what_later_ones_give(
    tmp_path: Path, valkey: Valkey, before: int, after: int
) -> None:
    async with sources(tmp_path, valkey.url) as (reader, cache):
        await cache.client.flushdb()
        for count in (20, 20, 60):  # the list is missing, then filled
            await check(reader, before, after, count)


@pytest.mark.parametrize(("before", "after"), BOUNDS)
async def test_a_list_that_another_fills_is_left_alone(tmp_path: Path, valkey: Valkey, before: int, after: int) -> None:
    async with sources(tmp_path, valkey.url) as (reader, cache):
        await cache.client.flushdb()
        home = home_lists(cache)
        token = await home.begin(VIEWER)
        assert token is not None
        await home.add([VIEWER], Entry(NEWEST, VIEWER).pack())
        await check(reader, before, after, 20)


@pytest.mark.parametrize(("before", "after"), BOUNDS)
async def test_without_the_cache_the_database_answers(tmp_path: Path, before: int, after: int) -> None:
    async with sources(tmp_path, f"unix://{tmp_path}/nobody") as (reader, _):
        await check(reader, before, after, 20)


async def test_pages_from_the_top_to_the_end_have_every_tweet_once(tmp_path: Path, valkey: Valkey) -> None:
    async with sources(tmp_path, valkey.url) as (reader, cache):
        await cache.client.flushdb()
        seen: list[int] = []
        before = 0
        while True:
            part = await reader.read(VIEWER, before=before, after=0, count=70)
            seen += [entry.tweet_id for entry in part.entries]
            if part.exhausted or not part.entries:
                break
            before = seen[-1]
        assert seen == truth(0, 0)
