"""Tweets on Cassandra."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from rookery.events.v1.tweet_events_pb2 import (
    TweetBookmarksChanged,
    TweetDeleted,
    TweetLiked,
    TweetUnliked,
)

from mesh.bus.base import Outgoing
from mesh.db.cassandra import Cassandra
from mesh.errors import NotFound
from mesh.outbox.relay import Outbox
from services.tweet.domain import (
    ENGAGEMENT_TOPIC,
    ERASED,
    TWEETS_TOPIC,
    Mark,
    Metric,
    Review,
    StoredPoll,
    StoredTweet,
    Visibility,
    created,
    visibility_changed,
)
from services.tweet.store.base import By, Marked
from services.tweet.store.cassandra.acts import Act, Change, Check, Done, Head
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.polls import CassandraPolls
from services.tweet.store.cassandra.rows import entry_of, lives, tweet_of, tweet_rows
from services.tweet.store.cassandra.windows import (
    BY_AUTHOR,
    MAX_ID,
    MENTIONS,
    by_relation,
    marks_by_tweet,
    marks_by_user,
    month_of,
    span_of,
    walk,
    week_of,
)
from services.tweet.store.cassandra.writes import Row
from views.entry import Entry

CONVERSATION = "conversation"
RELATIONS = {"replied_to": Metric.REPLIES, "quoted": Metric.QUOTES, "retweeted": Metric.RETWEETS}
"""A tweet's relations to others, by X's names, and what counts them there."""
METRICS = {Mark.LIKE: Metric.LIKES, Mark.BOOKMARK: Metric.BOOKMARKS}
_LISTS = {By.CONVERSATION: CONVERSATION, By.QUOTED: "quoted", By.RETWEETED: "retweeted"}
_SOME = 64  # authors whose tweets are read at once
_AT_ONCE = 16  # acts of different people that run side by side

_REQUEST = "SELECT tweet_id FROM requests WHERE author_id = ? AND request_id = ?"
_RETWEET = "SELECT tweet_id FROM retweets WHERE author_id = ? AND retweeted_id = ?"
_MARK = "SELECT mark_id FROM marks WHERE user_id = ? AND tweet_id = ? AND mark = ?"


def _is_reply(row: Any) -> bool:
    return bool(row.in_reply_to_tweet_id)


def _is_retweet(row: Any) -> bool:
    return bool(row.retweeted_id)


_EXCLUDED: dict[str, Callable[[Any], bool]] = {"replies": _is_reply, "retweets": _is_retweet}


def event(outbox: Outbox, topic: str, key: int, message: Message) -> Outgoing:
    """An event for the outbox."""
    return outbox.event(topic, str(key).encode(), message.DESCRIPTOR.full_name, message.SerializeToString())


class CassandraTweets:
    """services.tweet.store.base.TweetStore."""

    def __init__(self, db: Cassandra, journal: Journal, outbox: Outbox) -> None:
        self._db = db
        self.journal = journal
        """Where its changes are decided."""
        self._outbox = outbox
        self.polls = CassandraPolls(db, journal)
        """The polls of its tweets."""
        journal.looks_back = self.looks_back

    async def create(
        self,
        tweet: StoredTweet,
        request_id: str,
        mentioned: Collection[int] = (),
        poll: StoredPoll | None = None,
        review: Review | None = None,
    ) -> StoredTweet:
        """See TweetStore."""
        stored = replace(tweet, conversation_id=tweet.conversation_id or tweet.id)

        async def decide(head: Head, at: int) -> Act[StoredTweet] | Done[StoredTweet]:
            made, repeated = await asyncio.gather(
                self.by_request(tweet.author_id, request_id), self._retweet(tweet.author_id, tweet.retweeted_id)
            )
            if before := made or repeated:
                return Done(before)
            if tweet.retweeted_id and not await lives(self._db, tweet.retweeted_id):
                raise NotFound(f"Could not find tweet with tweet_id: [{tweet.retweeted_id}].")
            told = created(tweet, review)
            told.author_tweet_count, told.author_version = head.tweet_count + 1, head.version + 1
            return Act(
                stored,
                rows_of(stored, request_id, mentioned, poll),
                [event(self._outbox, TWEETS_TOPIC, tweet.author_id, told)],
                _counted(tweet, 1),
                tweets=1,
                check=Check("retweet", tweet.author_id, tweet.retweeted_id, tweet.id) if tweet.retweeted_id else None,
            )

        done, undone = await self.journal.do(tweet.author_id, decide)
        if undone:
            raise NotFound(f"Could not find tweet with tweet_id: [{tweet.retweeted_id}].")
        return done

    async def by_request(self, author_id: int, request_id: str) -> StoredTweet | None:
        """See TweetStore."""
        return await self._one(_REQUEST, author_id, request_id) if request_id else None

    async def retweet(self, author_id: int, original_id: int) -> StoredTweet | None:
        """See TweetStore."""
        if not original_id:
            return None
        await self.journal.settled(author_id)  # also what was begun and answered by a timeout
        return await self._retweet(author_id, original_id)

    async def _retweet(self, author_id: int, original_id: int) -> StoredTweet | None:
        return await self._one(_RETWEET, author_id, original_id) if original_id else None

    async def _one(self, select: str, *key: int | str) -> StoredTweet | None:
        rows = await self._db.rows(select, key)
        return next(iter(await self.by_ids([row.tweet_id for row in rows])), None)

    async def delete(self, tweet_id: int, author_id: int) -> StoredTweet | None:
        """See TweetStore."""

        async def decide(head: Head, at: int) -> Act[StoredTweet | None] | Done[StoredTweet | None]:
            found = await tweet_rows(self._db, [tweet_id])
            if not found:
                return Done(None)
            [row] = found
            tweet = tweet_of(row)
            if tweet.deleted or tweet.author_id != author_id:
                return Done(tweet)
            told = TweetDeleted(
                tweet_id=tweet_id,
                author_id=author_id,
                in_reply_to_user_id=tweet.in_reply_to_user_id,
                retweeted_tweet_id=tweet.retweeted_id,
                retweeted_author_id=tweet.retweeted_author_id,
                poll_id=tweet.poll_id,
                referenced_tweet_ids=[referenced for _, referenced in tweet.references],
                author_tweet_count=head.tweet_count - 1,
                author_version=head.version + 1,
            )
            left = replace(
                tweet,
                text="",
                entities=b"",
                deleted=True,
                version=tweet.version + 1,
                in_reply_to_user_id=0,
                retweeted_author_id=0,
            )
            rows: list[Row] = [("tweet-deleted", (row.changes + 1, tweet_id)), ("deleted", (author_id, tweet_id))]
            rows += [("by-author-gone", (author_id, month_of(tweet_id), tweet_id))]
            rows += [("by-relation-gone", place) for place in _relations(tweet)]
            rows += [("mention-gone", (user, week_of(tweet_id), tweet_id)) for user in row.named or ()]
            if tweet.retweeted_id:
                rows.append(("retweet-gone", (author_id, tweet.retweeted_id)))
            if tweet.poll_id:
                rows.append(("poll-deleted", (tweet.poll_id,)))
            return Act(left, rows, [event(self._outbox, TWEETS_TOPIC, author_id, told)], _counted(tweet, -1), tweets=-1)

        return (await self.journal.do(author_id, decide))[0]

    async def set_visibility(self, tweet_id: int, visibility: Visibility) -> StoredTweet | None:
        """See TweetStore."""
        found = await self.by_ids([tweet_id])
        if not found or found[0].deleted:
            return None

        async def decide(head: Head, at: int) -> Act[StoredTweet | None] | Done[StoredTweet | None]:
            rows = await tweet_rows(self._db, [tweet_id])
            if not rows or rows[0].deleted:
                return Done(None)
            [row] = rows
            tweet = tweet_of(row)
            if tweet.visibility is visibility:
                return Done(tweet)
            changed = replace(tweet, visibility=visibility, version=tweet.version + 1)
            return Act(
                changed,
                [("tweet-visibility", (int(visibility), row.changes + 1, tweet_id))],
                [event(self._outbox, TWEETS_TOPIC, tweet.author_id, visibility_changed(changed))],
            )

        return (await self.journal.do(found[0].author_id, decide))[0]

    async def by_ids(self, ids: Sequence[int]) -> list[StoredTweet]:
        """See TweetStore."""
        return [tweet_of(row) for row in await tweet_rows(self._db, ids)]

    async def page(
        self, by: By, value: int, *, before: int, after: int, ascending: bool, limit: int, exclude: Collection[str] = ()
    ) -> list[Entry]:
        """See TweetStore."""
        keep = _keep(exclude)
        listing = BY_AUTHOR if by is By.AUTHOR else by_relation(_LISTS[by])
        if by is not By.AUTHOR and not value:
            return []
        reading = walk(
            *(self._db, listing, value), before=before, after=after, ascending=ascending, limit=limit, keep=keep
        )
        if by is not By.CONVERSATION:
            return [entry_of(row, row.author_id) for row in await reading]
        rows, first = await asyncio.gather(reading, tweet_rows(self._db, [value]))
        found = [entry_of(row, row.author_id) for row in rows]
        for row in first:  # who began a conversation is in no list of it
            tweet = tweet_of(row)
            began = tweet.conversation_id == value and not tweet.deleted
            if began and after < value < (before or MAX_ID) and (keep is None or keep(tweet)):
                found.append(tweet.entry)
        found.sort(key=lambda entry: entry.tweet_id, reverse=not ascending)
        return found[:limit]

    async def mentions(
        self, user_id: int, *, before: int, after: int, ascending: bool, limit: int, exclude: Collection[str] = ()
    ) -> list[Entry]:
        """See TweetStore."""
        for name in exclude:
            _EXCLUDED[name]

        def keep(row: Any) -> bool:
            return bool(row.shown) and not ("replies" in exclude and _is_reply(row))

        rows = await walk(
            *(self._db, MENTIONS, user_id), before=before, after=after, ascending=ascending, limit=limit, keep=keep
        )
        return [Entry(row.tweet_id, row.author_id, row.in_reply_to_user_id, 0) for row in rows]

    async def recent(
        self, author_ids: Sequence[int], *, before: int, after: int, limit: int, oldest_first: bool = False
    ) -> list[Entry]:
        """See TweetStore."""
        authors = list(dict.fromkeys(author_ids))
        found: list[Entry] = []
        for start in range(0, len(authors), _SOME):
            pages = await asyncio.gather(
                *(
                    self.page(By.AUTHOR, author, before=before, after=after, ascending=oldest_first, limit=limit)
                    for author in authors[start : start + _SOME]
                )
            )
            found += [entry for page in pages for entry in page]
            found.sort(key=lambda entry: entry.tweet_id, reverse=not oldest_first)
            del found[limit:]
            if len(found) == limit:  # of the authors that follow, only what goes before the last of these matters
                before, after = (found[-1].tweet_id, after) if oldest_first else (before, found[-1].tweet_id)
        return found

    # --- marks

    async def mark(self, mark: Mark, user_id: int, tweet_id: int, mark_id: int) -> bool:
        """See TweetStore."""

        async def decide(head: Head, at: int) -> Act[bool] | Done[bool]:
            there, before = await asyncio.gather(
                lives(self._db, tweet_id), self._db.rows(_MARK, (user_id, tweet_id, mark.value))
            )
            if not there:
                raise NotFound(f"Could not find tweet with tweet_id: [{tweet_id}].")
            if before:
                return Done(False)
            return self._marking(mark, user_id, tweet_id, head, marked(mark, user_id, tweet_id, mark_id), 1)

        made, undone = await self.journal.do(user_id, decide)
        if undone:
            raise NotFound(f"Could not find tweet with tweet_id: [{tweet_id}].")
        return made

    async def unmark(self, mark: Mark, user_id: int, tweet_id: int) -> bool:
        """See TweetStore."""
        return await self._unmark(mark, user_id, tweet_id, counts=True)

    async def _unmark(self, mark: Mark, user_id: int, tweet_id: int, *, counts: bool) -> bool:
        async def decide(head: Head, at: int) -> Act[bool] | Done[bool]:
            before = await self._db.rows(_MARK, (user_id, tweet_id, mark.value))
            if not before:
                return Done(False)
            mark_id = before[0].mark_id
            act = self._marking(mark, user_id, tweet_id, head, _unmarked(mark, user_id, tweet_id, mark_id), -1)
            return act if counts else replace(act, changes=(), events=act.events if mark is Mark.LIKE else ())

        return (await self.journal.do(user_id, decide))[0]

    def _marking(
        self, mark: Mark, user_id: int, tweet_id: int, head: Head, rows: Sequence[Row], step: int
    ) -> Act[bool]:
        if mark is Mark.LIKE:
            kind = TweetLiked if step > 0 else TweetUnliked
            told: Message = kind(
                user_id=user_id, tweet_id=tweet_id, like_count=head.like_count + step, like_version=head.version + 1
            )
        else:
            told = TweetBookmarksChanged(tweet_id=tweet_id)
        return Act(
            True,
            rows,
            [event(self._outbox, ENGAGEMENT_TOPIC, tweet_id, told)],
            [(tweet_id, METRICS[mark].value, step)],
            likes=step if mark is Mark.LIKE else 0,
            # A deletion that came in between took away what it saw, and may not have seen this.
            check=Check(mark.value, user_id, tweet_id, 0) if step > 0 else None,
        )

    async def marked_tweets(self, mark: Mark, user_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """See TweetStore."""
        return await self._marks(marks_by_user(mark), user_id, before, after, limit)

    async def marking_users(self, mark: Mark, tweet_id: int, *, before: int, after: int, limit: int) -> list[Marked]:
        """See TweetStore."""
        return await self._marks(marks_by_tweet(mark), tweet_id, before, after, limit)

    async def _marks(self, listing: Any, owner: int, before: int, after: int, limit: int) -> list[Marked]:
        rows = await walk(
            *(self._db, listing, owner),
            before=0 if after else before,
            after=after,
            ascending=bool(after),
            limit=limit,
        )
        return [Marked(row.mark_id, row.other_id) for row in rows]

    # --- what hangs on a deleted tweet

    async def purge(self, tweet_id: int, limit: int) -> int:
        """See TweetStore."""
        found = await tweet_rows(self._db, [tweet_id])
        if not found or not found[0].deleted:
            return 0
        [row] = found
        done = 0
        for mark in Mark:
            if done < limit:
                page = await self.marking_users(mark, tweet_id, before=0, after=0, limit=limit - done)
                await _few(self._purge_mark(mark, one, tweet_id) for one in page)
                done += len(page)
        if done < limit and row.named:
            done += await self._purge_names(row.author_id, tweet_id, limit - done)
        if row.poll_id and done < limit:
            done += await self.polls.purge(row.poll_id, limit - done)
        return done

    async def _purge_mark(self, mark: Mark, one: Marked, tweet_id: int) -> None:
        if await self._unmark(mark, one.other_id, tweet_id, counts=False):
            return

        async def decide(head: Head, at: int) -> Act[None] | Done[None]:
            """The list has somebody who has no mark: then only the list is wrong."""
            if await self._db.rows(_MARK, (one.other_id, tweet_id, mark.value)):
                return Done(None)
            return Act(None, _unmarked(mark, one.other_id, tweet_id, one.mark_id))

        await self.journal.do(one.other_id, decide)

    async def _purge_names(self, author_id: int, tweet_id: int, limit: int) -> int:
        async def decide(head: Head, at: int) -> Act[int] | Done[int]:
            named = [name for row in await tweet_rows(self._db, [tweet_id]) for name in row.named or ()]
            if not named:
                return Done(0)
            gone, left = named[:limit], frozenset(named[limit:])
            rows: list[Row] = [("mention-gone", (user, week_of(tweet_id), tweet_id)) for user in gone]
            return Act(len(gone), [*rows, ("tweet-named", (left, tweet_id))])

        return (await self.journal.do(author_id, decide))[0]

    async def looks_back(self, check: Check) -> bool:
        """Undoes what was done to a tweet that is gone; whether it was undone. See Journal."""
        if await lives(self._db, check.tweet_id):
            return False
        if check.kind == "retweet":
            await self.delete(check.undone, check.journal)
        elif check.kind == "vote":
            await self.polls.unvote(check.undone, check.journal, counts=False)
        else:
            await self._unmark(Mark(check.kind), check.journal, check.tweet_id, counts=True)
        return True


def _keep(exclude: Collection[str]) -> Callable[[Any], bool] | None:
    excluded = [_EXCLUDED[name] for name in exclude]
    return (lambda row: not any(out(row) for out in excluded)) if excluded else None


def _counted(tweet: StoredTweet, step: int) -> list[Change]:
    return [(tweet_id, RELATIONS[relation].value, step) for relation, tweet_id in tweet.references]


def relations_of(tweet: StoredTweet) -> list[tuple[int, str]]:
    """The lists of other tweets in which it is: whose, and which."""
    found = [(tweet_id, relation) for relation, tweet_id in tweet.references]
    if tweet.conversation_id != tweet.id:
        found.append((tweet.conversation_id, CONVERSATION))
    return found


def _relations(tweet: StoredTweet) -> list[tuple[int, str, int, int]]:
    return [(other_id, relation, span_of(other_id, tweet.id), tweet.id) for other_id, relation in relations_of(tweet)]


def marked(mark: Mark, user_id: int, tweet_id: int, mark_id: int) -> list[Row]:
    """The rows of a mark."""
    span, month = span_of(tweet_id, mark_id), month_of(mark_id)
    return [
        ("mark", (user_id, tweet_id, mark.value, mark_id)),
        ("mark-by-tweet", (tweet_id, mark.value, span, mark_id, user_id)),
        ("mark-by-user", (user_id, mark.value, month, mark_id, tweet_id)),
        ("window", (tweet_id, marks_by_tweet(mark).name, span)),
        ("person-window", (user_id, marks_by_user(mark).name, month)),
    ]


def _unmarked(mark: Mark, user_id: int, tweet_id: int, mark_id: int) -> list[Row]:
    return [
        ("mark-gone", (user_id, tweet_id, mark.value)),
        ("mark-by-tweet-gone", (tweet_id, mark.value, span_of(tweet_id, mark_id), mark_id, user_id)),
        ("mark-by-user-gone", (user_id, mark.value, month_of(mark_id), mark_id, tweet_id)),
    ]


def rows_of(tweet: StoredTweet, request_id: str, mentioned: Collection[int], poll: StoredPoll | None) -> list[Row]:
    """The rows of a tweet; `conversation_id` is given."""
    named = frozenset(mentioned) | {tweet.in_reply_to_user_id} - {0, ERASED}
    month, week = month_of(tweet.id), week_of(tweet.id)
    points = (tweet.in_reply_to_tweet_id, tweet.in_reply_to_user_id)
    repeats = (tweet.retweeted_id, tweet.retweeted_author_id)
    rows: list[Row] = [
        (
            "tweet",
            (
                *(tweet.id, tweet.author_id, tweet.text, tweet.entities, tweet.lang, tweet.possibly_sensitive),
                *(str(tweet.reply_settings), tweet.conversation_id, *points, tweet.quoted_id, *repeats),
                *(tweet.poll_id, request_id, named, False, 1),
            ),
        ),
        ("by-author", (tweet.author_id, month, tweet.id, *points, *repeats)),
        ("person-window", (tweet.author_id, BY_AUTHOR.name, month)),
    ]
    for place in _relations(tweet):
        rows.append(("by-relation", (*place, tweet.author_id, *points, *repeats)))
        rows.append(("window", place[:3]))
    for user_id in named:
        rows.append(("mention", (user_id, week, tweet.id, tweet.author_id, *points, user_id in mentioned)))
        rows.append(("person-window", (user_id, MENTIONS.name, week)))
    if tweet.visibility != Visibility.OPEN:
        rows.append(("tweet-visibility", (int(tweet.visibility), 1, tweet.id)))
    if request_id:
        rows.append(("request", (tweet.author_id, request_id, tweet.id)))
    if tweet.retweeted_id:
        rows.append(("retweet", (tweet.author_id, tweet.retweeted_id, tweet.id)))
    if poll is not None:
        labels = [choice.label for choice in poll.choices]
        rows.append(("poll", (poll.id, poll.tweet_id, poll.duration_minutes, poll.end_ms, labels, False)))
    return rows


async def _few(works: Iterable[Any]) -> None:
    """Runs them, some at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(work: Any) -> None:
        async with room:
            await work

    await asyncio.gather(*(one(work) for work in works))
