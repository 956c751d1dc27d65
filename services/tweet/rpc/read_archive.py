"""TweetArchiveMeshService.ReadArchive."""

from __future__ import annotations

import json

from google.protobuf.json_format import MessageToDict
from rookery.tweet.v1 import tweet_archive_mesh_pb2 as archive
from rookery.tweet.v1.tweet_archive_mesh_pb2 import ReadArchiveRequest, ReadArchiveResponse

from mesh.ids import rfc3339_of_id
from services.tweet.domain import Mark, StoredPoll, StoredTweet, resource
from services.tweet.store.base import By, PollStore, TweetStore
from services.tweet.store.erasure import Remains

_MARKS = {
    archive.ARCHIVE_SECTION_LIKES: (Mark.LIKE, "liked_at"),
    archive.ARCHIVE_SECTION_BOOKMARKS: (Mark.BOOKMARK, "bookmarked_at"),
}
_OTHER_VOCABULARY = ("edit_history_post_ids", "referenced_posts")


class ReadArchive:
    """One page of what this store has of a person."""

    def __init__(self, store: TweetStore, polls: PollStore, remains: Remains) -> None:
        self._store = store
        self._polls = polls
        self._remains = remains

    async def __call__(self, request: ReadArchiveRequest) -> ReadArchiveResponse:
        """An empty page for somebody of whom there is nothing."""
        after = max(request.after, 1)  # before every id: pages that begin there come from the oldest on
        if request.section == archive.ARCHIVE_SECTION_TWEETS:
            entries = await self._store.page(
                By.AUTHOR, request.user_id, before=0, after=after, ascending=True, limit=request.page_size
            )
            places = [entry.tweet_id for entry in entries]
            tweets = {tweet.id: tweet for tweet in await self._store.by_ids(places)}
            shown = [tweets[i] for i in places if i in tweets and not tweets[i].deleted]
            polls = await self._polls.by_ids([tweet.poll_id for tweet in shown if tweet.poll_id])
            items = [_tweet(tweet, {poll.id: poll for poll in polls}.get(tweet.poll_id)) for tweet in shown]
        elif request.section == archive.ARCHIVE_SECTION_POLL_VOTES:
            votes = await self._remains.votes(request.user_id, after=after, limit=request.page_size)
            places = [vote.poll_id for vote in votes]
            items = [{"poll_id": str(vote.poll_id), "position": vote.position} for vote in votes]
        else:
            mark, time = _MARKS[request.section]
            marks = await self._store.marked_tweets(
                mark, request.user_id, before=0, after=after, limit=request.page_size
            )
            places = [one.mark_id for one in marks]
            items = [{"tweet_id": str(one.other_id), time: rfc3339_of_id(one.mark_id)} for one in marks]
        return ReadArchiveResponse(
            items=[json.dumps(item, ensure_ascii=False).encode() for item in items],
            next_after=places[-1] if len(places) == request.page_size else 0,
        )


def _tweet(tweet: StoredTweet, poll: StoredPoll | None) -> dict[str, object]:
    """A tweet as the REST face shows it to its author, in one vocabulary, with its poll."""
    shown: dict[str, object] = MessageToDict(resource(tweet), preserving_proto_field_name=True)
    for name in _OTHER_VOCABULARY:
        shown.pop(name, None)
    metrics = shown.get("public_metrics")
    if isinstance(metrics, dict):
        metrics.pop("repost_count", None)
    if poll is not None:
        shown["poll"] = {
            "id": str(poll.id),
            "duration_minutes": poll.duration_minutes,
            "options": [{"position": one.position, "label": one.label, "votes": one.votes} for one in poll.choices],
        }
    return shown
