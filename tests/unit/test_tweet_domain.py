"""Rules about tweets: texts, references, who may answer, retweets, and the two vocabularies of the resource."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from rookery.api.v2.tweet_pb2 import MentionEntity, TweetEntities

from mesh.cache.records import TOMBSTONE, is_tombstone
from mesh.errors import InvalidArgument, PermissionDenied
from mesh.ids import EPOCH_MS, id_of_ms
from services.tweet.domain import (
    ERASED,
    ReplySettings,
    StoredTweet,
    Visibility,
    checked_text,
    is_for,
    mentioned_ids,
    needs_following,
    poll_of,
    poll_record,
    record,
    relinked,
    resource,
    retweet_of,
)
from views.entry import Entry
from views.record import POLL, TWEET, author_of, end_of, entry_of, is_limited, is_there

ADA, BOB, CAROL = 7, 8, 9
ID = id_of_ms(EPOCH_MS + 1_500)


def mentions(*ids: int) -> bytes:
    return TweetEntities(mentions=[MentionEntity(username=f"u{i}", id=i or None) for i in ids]).SerializeToString()


def tweet(**members: object) -> StoredTweet:
    return replace(StoredTweet(id=ID, author_id=ADA, text="hello", conversation_id=ID), **members)  # type: ignore[arg-type]


def test_a_text_is_taken_from_either_member_without_the_space_around_it() -> None:
    assert checked_text(" hello\n", "") == "hello"
    assert checked_text("", "from content") == "from content"
    assert checked_text("text", "content") == "text"


@pytest.mark.parametrize("text", ["", "   ", "a" * 281, "\ufeff"])
def test_a_text_that_cannot_be_one_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        checked_text(text, "")
    assert raised.value.reason == "INVALID_TEXT"
    assert [violation.field for violation in raised.value.violations] == ["text"]


def test_the_entry_says_what_rules_need() -> None:
    made = tweet(in_reply_to_user_id=BOB, retweeted_id=5)
    assert made.entry == Entry(tweet_id=ID, author_id=ADA, in_reply_to_user_id=BOB, retweeted_id=5)


def test_references_are_those_that_are_there_by_xs_names() -> None:
    assert tweet().references == []
    made = tweet(in_reply_to_tweet_id=1, quoted_id=2)
    assert dict(made.references) == {"replied_to": 1, "quoted": 2}
    assert tweet(retweeted_id=3).references == [("retweeted", 3)]


def test_only_mentions_of_somebody_count() -> None:
    assert mentioned_ids(tweet(entities=mentions(BOB, 0, CAROL))) == {BOB, CAROL}
    assert mentioned_ids(tweet()) == set()


# --- who may answer

FREE, ASK, NO = "free", "only who is followed", "nobody"


@pytest.mark.parametrize(
    ("setting", "viewer", "expected"),
    [
        (ReplySettings.EVERYONE, CAROL, FREE),
        (ReplySettings.MENTIONED, ADA, FREE),  # its author
        (ReplySettings.MENTIONED, BOB, FREE),  # mentioned
        (ReplySettings.MENTIONED, CAROL, NO),
        (ReplySettings.FOLLOWING, ADA, FREE),
        (ReplySettings.FOLLOWING, BOB, FREE),
        (ReplySettings.FOLLOWING, CAROL, ASK),
        ("somethingNew", CAROL, NO),  # what is not known is closed, not open
        ("somethingNew", ADA, FREE),
    ],
)
def test_who_may_answer(setting: str, viewer: int, expected: str) -> None:
    root = tweet(reply_settings=setting, entities=mentions(BOB))
    if expected == NO:
        with pytest.raises(PermissionDenied) as raised:
            needs_following(root, viewer)
        assert raised.value.reason == "REPLIES_LIMITED"
    else:
        assert needs_following(root, viewer) is (expected == ASK)


def test_settings_have_the_names_of_the_api() -> None:
    assert sorted(ReplySettings) == ["everyone", "following", "mentionedUsers"]


# --- retweets


def test_a_retweet_names_its_original_and_begins_its_own_conversation() -> None:
    original = tweet(lang="de", possibly_sensitive=True, like_count=5, entities=mentions(BOB), quoted_id=3)
    made = retweet_of(original, tweet_id=ID + 1, author_id=BOB, username="ada")
    assert (made.id, made.author_id, made.conversation_id, made.retweeted_id) == (ID + 1, BOB, ID + 1, ID)
    assert made.text == "RT @ada: hello"
    assert (made.lang, made.possibly_sensitive) == ("de", True)
    assert (made.like_count, made.in_reply_to_user_id, made.quoted_id) == (0, 0, 0)
    assert made.references == [("retweeted", ID)]


def test_the_retweet_of_the_longest_text_still_has_a_record() -> None:
    longest = tweet(text="https://example.com/" + "é" * 2_000)
    made = retweet_of(longest, tweet_id=ID + 1, author_id=BOB, username="a" * 15)
    assert TWEET.parse(record(made)).text.endswith("é")


# --- the resource


def test_every_count_has_its_own_member_in_both_vocabularies() -> None:
    metrics = resource(
        tweet(retweet_count=1, reply_count=2, like_count=3, quote_count=4, bookmark_count=5)
    ).public_metrics
    assert (metrics.retweet_count, metrics.repost_count) == (1, 1)
    assert (metrics.reply_count, metrics.like_count, metrics.quote_count, metrics.bookmark_count) == (2, 3, 4, 5)
    assert {field.name for field in type(metrics).DESCRIPTOR.fields} == {
        field.name for field, _ in resource(tweet()).public_metrics.ListFields()
    }  # 0 is told, not left out


def test_what_is_not_there_is_left_out() -> None:
    made = resource(tweet())
    assert not made.HasField("in_reply_to_user_id")
    assert not made.HasField("entities")
    assert not made.referenced_tweets
    assert made.created_at == "2024-01-01T00:00:01.500Z"
    assert (made.possibly_sensitive, made.HasField("possibly_sensitive")) == (False, True)


def test_both_vocabularies_say_the_same() -> None:
    made = resource(tweet(in_reply_to_tweet_id=1, in_reply_to_user_id=BOB, quoted_id=2, entities=mentions(BOB)))
    assert list(made.referenced_tweets) == list(made.referenced_posts)
    assert {(one.type, one.id) for one in made.referenced_tweets} == {("replied_to", 1), ("quoted", 2)}
    assert list(made.edit_history_tweet_ids) == list(made.edit_history_post_ids) == [ID]
    assert made.in_reply_to_user_id == BOB
    assert made.entities.mentions[0].id == BOB


def test_a_record_is_its_authors_and_has_the_rows_version() -> None:
    made = record(tweet(version=12))
    assert author_of(made) == ADA and entry_of(made) == tweet().entry
    assert int.from_bytes(made[:8], "big") == 12
    assert TWEET.parse(made) == resource(tweet(version=12))


def test_a_deleted_tweet_is_a_tombstone_with_nothing_of_it_left() -> None:
    made = record(tweet(text="secret", deleted=True))
    assert is_tombstone(made)
    assert not is_there(made)
    assert b"secret" not in made


def test_a_removed_tweet_has_a_version_alone_so_that_a_later_one_can_bring_it_back() -> None:
    made = record(tweet(text="secret", visibility=Visibility.REMOVED, version=3))
    assert made == (3).to_bytes(8, "big")
    assert not is_there(made) and made != TOMBSTONE
    assert is_limited(record(tweet(visibility=Visibility.LIMITED))) and not is_limited(record(tweet()))


def test_a_row_needs_no_more_than_id_author_and_text() -> None:
    required = [field.name for field in fields(StoredTweet) if field.default is field.default_factory]
    assert required == ["id", "author_id", "text"]


def test_a_tweet_is_for_those_whom_it_names_and_answers() -> None:
    named = tweet(entities=mentions(BOB, 77), in_reply_to_user_id=78)
    assert is_for(named, ()) == {BOB, 77, 78} - {named.author_id}
    assert is_for(named, [78, 99]) == {BOB, 77} - {named.author_id}
    assert is_for(named, [BOB, 77, 78]) == set()
    assert is_for(replace(named, entities=mentions(named.author_id), in_reply_to_user_id=named.author_id), ()) == set()
    assert is_for(tweet(), ()) == set()


def test_a_poll_begins_with_its_tweet_and_ends_after_its_duration() -> None:
    poll = poll_of(5, id_of_ms(EPOCH_MS + 60_000), [" yes ", "no"], 10)
    assert [(one.position, one.label, one.votes) for one in poll.choices] == [(1, "yes", 0), (2, "no", 0)]
    assert poll.end_ms == EPOCH_MS + 660_000
    record = poll_record(replace(poll, version=7))
    assert record[:8] == (7).to_bytes(8, "big")
    assert end_of(record) == poll.end_ms
    shown = POLL.parse(record)
    assert (shown.id, shown.duration_minutes, shown.end_datetime) == (5, 10, "2024-01-01T00:11:00.000Z")
    assert [(one.position, one.label, one.votes) for one in shown.options] == [(1, "yes", 0), (2, "no", 0)]
    with pytest.raises(InvalidArgument, match="blank"):
        poll_of(5, 6, ["yes", "   "], 10)


def test_a_tweet_does_not_say_any_more_that_it_answers_or_mentions_somebody_who_was_erased() -> None:
    named = tweet(entities=mentions(BOB, CAROL), in_reply_to_tweet_id=1, in_reply_to_user_id=BOB)
    left = relinked(named, BOB)
    assert mentioned_ids(left) == {CAROL}
    assert left.in_reply_to_user_id == ERASED
    assert (left.text, left.in_reply_to_tweet_id) == (named.text, 1)
    shown = resource(left)
    assert not shown.HasField("in_reply_to_user_id")
    assert [one.username for one in shown.entities.mentions] == [
        one.username for one in TweetEntities.FromString(named.entities).mentions
    ]
    assert relinked(named, 12345) == named
