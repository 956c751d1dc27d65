"""Hydrators and standings for services that do not own what they show: misses are asked of the owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rookery.graph.v1.graph_mesh_pb2 import GetStandingRequest
from rookery.tweet.v1.tweet_mesh_pb2 import BatchGetPollsRequest, BatchGetTweetsRequest
from rookery.user.v1.user_mesh_pb2 import BatchGetUsersRequest

from mesh.cache.records import Records
from mesh.cache.store import CacheStore
from mesh.client import Destination
from views.hydrate import Hydrator
from views.record import POLL_PREFIX, TWEET_PREFIX, USER_PREFIX
from views.standings import Related, Standings

if TYPE_CHECKING:
    from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceAsyncStub
    from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceAsyncStub
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub


def remote_tweets(store: CacheStore, tweet: Destination[TweetMeshServiceAsyncStub]) -> Hydrator:
    """Tweets, from the read model and `tweet`."""

    async def fetch(ids: Sequence[int]) -> Sequence[bytes]:
        return (await tweet.call(tweet.stub.BatchGetTweets, BatchGetTweetsRequest(ids=ids))).records

    return Hydrator(Records(store, TWEET_PREFIX), fetch)


def remote_polls(store: CacheStore, tweet: Destination[TweetMeshServiceAsyncStub]) -> Hydrator:
    """Polls, from the read model and `tweet`."""

    async def fetch(ids: Sequence[int]) -> Sequence[bytes]:
        return (await tweet.call(tweet.stub.BatchGetPolls, BatchGetPollsRequest(ids=ids))).records

    return Hydrator(Records(store, POLL_PREFIX), fetch)


def remote_users(store: CacheStore, user: Destination[UserMeshServiceAsyncStub]) -> Hydrator:
    """People, from the read model and `user`."""

    async def fetch(ids: Sequence[int]) -> Sequence[bytes]:
        return (await user.call(user.stub.BatchGetUsers, BatchGetUsersRequest(ids=ids))).records

    return Hydrator(Records(store, USER_PREFIX), fetch)


def remote_standings(store: CacheStore, users: Hydrator, graph: Destination[GraphMeshServiceAsyncStub]) -> Standings:
    """How viewers stand to people, from the read model and `graph`."""

    async def ask(viewer_id: int, people: Sequence[int], loaded: bool) -> Related:
        request = GetStandingRequest(viewer_id=viewer_id, user_ids=people, loaded=loaded)
        return await graph.call(graph.stub.GetStanding, request)

    return Standings(store, users, ask)
