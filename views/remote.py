"""Hydrators for services that do not own what they show: misses are asked of the owner by its BatchGet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rookery.tweet.v1.tweet_mesh_pb2 import BatchGetTweetsRequest
from rookery.user.v1.user_mesh_pb2 import BatchGetUsersRequest

from mesh.cache.records import Records
from mesh.cache.store import CacheStore
from mesh.client import Destination
from views.hydrate import Hydrator
from views.record import TWEET_PREFIX, USER_PREFIX

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceAsyncStub
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub


def remote_tweets(store: CacheStore, tweet: Destination[TweetMeshServiceAsyncStub]) -> Hydrator:
    """Tweets, from the read model and `tweet`."""

    async def fetch(ids: Sequence[int]) -> Sequence[bytes]:
        return (await tweet.call(tweet.stub.BatchGetTweets, BatchGetTweetsRequest(ids=ids))).records

    return Hydrator(Records(store, TWEET_PREFIX), fetch)


def remote_users(store: CacheStore, user: Destination[UserMeshServiceAsyncStub]) -> Hydrator:
    """People, from the read model and `user`."""

    async def fetch(ids: Sequence[int]) -> Sequence[bytes]:
        return (await user.call(user.stub.BatchGetUsers, BatchGetUsersRequest(ids=ids))).records

    return Hydrator(Records(store, USER_PREFIX), fetch)
