"""TweetService.CreateTweet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from rookery.api.v2.tweet_pb2 import Tweet, TweetEntities
from rookery.graph.v1.graph_mesh_pb2 import BatchGetRelationRequest
from rookery.tweet.v1.tweet_service_pb2 import CreateTweetRequest, CreateTweetResponse
from rookery.user.v1.user_mesh_pb2 import ResolveUsernamesRequest

from mesh.client import Destination
from mesh.context import current
from mesh.errors import DeadlineExceeded, InvalidArgument, Unavailable, Violation
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self, require_viewer
from services.tweet.domain import (
    StoredPoll,
    StoredTweet,
    checked_text,
    is_for,
    may_not_reply,
    needs_following,
    not_visible,
    poll_of,
    unlinked,
)
from services.tweet.gate import Gate
from services.tweet.language import Languages
from services.tweet.sight import Sight
from services.tweet.store.base import TweetStore
from services.tweet.tweets import Tweets
from views.text import entities

if TYPE_CHECKING:
    from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceAsyncStub
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

_log = structlog.get_logger(__name__)
_NOT_YET = frozenset({"media"})
_MENTIONS_S = 0.25  # of the 500 ms that a post may take; without it mentions go without ids


class CreateTweet:
    """Stores a tweet of the viewer."""

    def __init__(
        self,
        store: TweetStore,
        ids: LeasedIds,
        tweets: Tweets,
        sight: Sight,
        languages: Languages,
        gate: Gate,
        user: Destination[UserMeshServiceAsyncStub],
        graph: Destination[GraphMeshServiceAsyncStub],
    ) -> None:
        self._store = store
        self._ids = ids
        self._tweets = tweets
        self._sight = sight
        self._languages = languages
        self._gate = gate
        self._user = user
        self._graph = graph

    async def __call__(self, request: CreateTweetRequest) -> CreateTweetResponse:
        """Raises InvalidArgument for a text that cannot be a tweet, PermissionDenied for another's `user_id`, for what
        may not be answered or quoted, and for what must not be published."""
        for field, _ in request.ListFields():
            if field.name in _NOT_YET:
                raise InvalidArgument(
                    "One or more parameters to your request was invalid.",
                    violations=[Violation(field.name, "is not carried out by this server yet")],
                )
        viewer = require_self(request.user_id) if request.user_id else require_viewer()
        text = checked_text(request.text, request.content)
        if request.HasField("poll") and request.quote_tweet_id:
            problem = "must not come with quote_tweet_id"
            raise InvalidArgument(f"A poll {problem}.", violations=[Violation("poll", problem)])
        tweet = await self._store.by_request(viewer, request.request_id) if request.request_id else None
        if tweet is None:
            found = entities(text)
            draft = StoredTweet(
                id=await self._ids.next(),
                author_id=viewer,
                text=text,
                entities=(await self._with_ids(found)).SerializeToString(),
                lang=await self._languages.of(text, found),
                possibly_sensitive=request.possibly_sensitive,
                reply_settings=request.reply_settings or "everyone",
            )
            draft = await self._pointed(draft, request)
            poll: StoredPoll | None = None
            if request.HasField("poll"):
                asked = request.poll
                poll = poll_of(await self._ids.next(), draft.id, asked.options, asked.duration_minutes)
                draft = replace(draft, poll_id=poll.id)
            excluded = request.reply.exclude_reply_user_ids
            if excluded:
                draft = unlinked(draft, excluded)  # an erasure finds who is linked by the rows of `mentions`
            mentioned = is_for(draft, excluded)
            # The last thing: what is refused for another reason is not counted as a post of its author's.
            whole = "\n".join([text, *request.poll.options])
            passed = await self._gate.check(viewer, whole, found, answered=draft.in_reply_to_user_id)
            draft = replace(draft, visibility=passed.visibility)
            tweet = await self._store.create(draft, request.request_id, mentioned, poll, passed.review)
            await self._tweets.publish([tweet])
        current().response_metadata.append(("x-http-status", "201"))
        return CreateTweetResponse(data=Tweet(id=tweet.id, text=tweet.text, edit_history_tweet_ids=[tweet.id]))

    async def _pointed(self, draft: StoredTweet, request: CreateTweetRequest) -> StoredTweet:
        """The draft with what it answers and quotes, if it may."""
        answered, quoted = request.reply.in_reply_to_tweet_id, request.quote_tweet_id
        if not answered and not quoted:
            return draft
        if quoted:
            target = await self._sight.find(draft.author_id, quoted, to_repeat=True)
            if target is None:
                raise not_visible("quote")
            draft = replace(draft, quoted_id=target.id)
        if answered:
            parent = await self._sight.find(draft.author_id, answered)
            if parent is None:
                raise not_visible("reply to")
            # Whoever began the conversation and was erased limits nobody any more.
            for root in await self._store.by_ids([parent.conversation_id]):
                if needs_following(root, draft.author_id) and not await self._follows(root.author_id, draft.author_id):
                    raise may_not_reply()
            draft = replace(
                draft,
                conversation_id=parent.conversation_id,
                in_reply_to_tweet_id=parent.id,
                in_reply_to_user_id=parent.author_id,
            )
        return draft

    async def _follows(self, follower_id: int, followee_id: int) -> bool:
        request = BatchGetRelationRequest(follower_ids=[follower_id], followee_ids=[followee_id])
        return (await self._graph.call(self._graph.stub.BatchGetRelation, request)).following[0]

    async def _with_ids(self, found: TweetEntities) -> TweetEntities:
        if found.mentions:
            names = list(dict.fromkeys(mention.username for mention in found.mentions))[:100]
            try:
                resolved = await self._user.call(
                    self._user.stub.ResolveUsernames, ResolveUsernamesRequest(usernames=names), timeout_s=_MENTIONS_S
                )
            except (Unavailable, DeadlineExceeded) as error:
                _log.warning("mentions without ids", error=error.detail)
                return found
            ids = dict(zip(names, resolved.ids, strict=True))
            for mention in found.mentions:
                if ids.get(mention.username):
                    mention.id = ids[mention.username]
        return found
