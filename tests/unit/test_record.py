"""Read-model records: any cut of one is exactly the resource with just those members."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rookery.api.v2.tweet_pb2 import Tweet
from rookery.api.v2.user_pb2 import User

from mesh.cache.records import TOMBSTONE
from views.entry import SIZE, Entry, unpack, unpack_all
from views.record import (
    TWEET,
    USER,
    Layout,
    author_of,
    authors_of,
    entry_of,
    is_limited,
    is_there,
    person_facts,
    tweet_facts,
)
from views.visibility import State, state_of

LAYOUTS: list[Layout[Any]] = [TWEET, USER]
IDS = st.integers(0, 2**63 - 1)
COUNTS = st.integers(0, 2**32 - 1)
TEXTS = st.text(max_size=40)


def message(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a message: each member there or not, empty and zero values too."""
    members: dict[str, st.SearchStrategy[Any]] = {}
    for field in cls.DESCRIPTOR.fields:
        if field.message_type is not None:
            single = message(field.message_type._concrete_class)
        else:
            single = {
                field.TYPE_INT64: IDS,
                field.TYPE_INT32: st.integers(0, 2**31 - 1),
                field.TYPE_UINT32: COUNTS,
                field.TYPE_STRING: TEXTS,
                field.TYPE_BOOL: st.booleans(),
            }[field.type]
        members[field.name] = st.lists(single, max_size=3) if field.is_repeated else single
    return st.fixed_dictionaries({}, optional=members).map(lambda given: cls(**given))


TWEETS, USERS = message(Tweet), message(User)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["tweet", "user"])
def test_every_member_of_the_resource_has_a_slot(layout: Layout[Any]) -> None:
    """One without would be lost from every answer, silently."""
    names = {field.name for field in layout.message.DESCRIPTOR.fields}
    in_default = {"id", "text"} if layout is TWEET else {"id", "name", "username"}
    assert set(layout.slots) - {"default", "post_public_metrics"} == names - in_default


@given(tweet=TWEETS, version=st.integers(0, 2**53 - 2), entry=st.builds(Entry, *(IDS for _ in Entry._fields)))
def test_a_tweets_record_gives_back_all_of_it(tweet: Tweet, version: int, entry: Entry) -> None:
    tweet.public_metrics.SetInParent()  # two slots share it, and each is written
    record = TWEET.encode(tweet, version=version, facts=tweet_facts(entry))
    assert TWEET.parse(record) == tweet
    assert author_of(record) == entry.author_id and entry_of(record) == entry
    assert int.from_bytes(record[:8], "big") == version
    assert is_there(record)


@given(user=USERS)
def test_a_persons_record_gives_back_all_of_it(user: User) -> None:
    assert USER.parse(USER.encode(user, version=1, facts=b"\0")) == user


@pytest.mark.parametrize("protected", [True, False])
def test_a_persons_record_tells_who_is_protected(protected: bool) -> None:
    record = USER.encode(User(id=1), version=1, facts=person_facts(protected=protected))
    assert state_of(record) is (State.PROTECTED if protected else State.PUBLIC)


def test_the_authors_of_records_come_once_each_in_their_order() -> None:
    records = [
        TWEET.encode(Tweet(id=i), version=1, facts=tweet_facts(Entry(i, author))) for i, author in enumerate([7, 9, 7])
    ]
    assert authors_of(records) == [7, 9]


def test_a_record_says_whether_its_tweet_is_limited() -> None:
    for limited in (True, False):
        made = TWEET.encode(Tweet(id=1), version=1, facts=tweet_facts(Entry(1, 7), limited=limited))
        assert is_limited(made) is limited and entry_of(made) == Entry(1, 7)


def test_facts_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="facts"):
        TWEET.encode(Tweet(id=1), version=1, facts=b"short")


@given(user=USERS, data=st.data())
def test_any_cut_is_the_resource_with_those_members_alone(user: User, data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(USER.slots)), min_size=1))
    expected = User()
    for name in names:
        for member in ("id", "name", "username") if name == "default" else (name,):
            if user.HasField(member):
                _copy(user, expected, member)
    record = USER.encode(user, version=1, facts=b"\0")
    assert User.FromString(USER.cutter(USER.ranges(names))(record)) == expected


@given(tweet=TWEETS, names=st.sets(st.sampled_from(sorted(set(TWEET.slots) - {"public_metrics"})), min_size=1))
def test_a_cut_tweet_has_the_members_asked_for_and_no_other(tweet: Tweet, names: set[str]) -> None:
    cut = Tweet.FromString(TWEET.cutter(TWEET.ranges(names))(TWEET.encode(tweet, version=1, facts=bytes(SIZE + 1))))
    expected = Tweet()
    for name in names - {"post_public_metrics"}:
        for member in ("id", "text") if name == "default" else (name,):
            _copy(tweet, expected, member)
    if "post_public_metrics" in names:
        expected.public_metrics.CopyFrom(tweet.public_metrics)
        expected.public_metrics.ClearField("retweet_count")
    assert cut == expected


def _copy(source: Any, target: Any, member: str) -> None:
    field = source.DESCRIPTOR.fields_by_name[member]
    if field.is_repeated:
        getattr(target, member).extend(getattr(source, member))
    elif source.HasField(member):
        if field.message_type is not None:
            getattr(target, member).CopyFrom(getattr(source, member))
        else:
            setattr(target, member, getattr(source, member))


def test_each_vocabulary_has_its_own_name_for_reposts_and_never_both() -> None:
    tweet = Tweet(id=1)
    tweet.public_metrics.retweet_count = tweet.public_metrics.repost_count = 3
    tweet.public_metrics.like_count = 0
    record = TWEET.encode(tweet, version=1, facts=bytes(SIZE + 1))
    of_tweets = Tweet.FromString(TWEET.cutter(TWEET.ranges(["public_metrics"]))(record)).public_metrics
    of_posts = Tweet.FromString(TWEET.cutter(TWEET.ranges(["post_public_metrics"]))(record)).public_metrics
    assert (of_tweets.HasField("retweet_count"), of_tweets.HasField("repost_count")) == (True, False)
    assert (of_posts.HasField("retweet_count"), of_posts.HasField("repost_count")) == (False, True)
    assert of_tweets.HasField("like_count")  # 0 is printed, not left out


def test_neighbouring_slots_are_cut_as_one() -> None:
    names = list(TWEET.slots)
    assert TWEET.ranges(names) == ((0, len(names)),)
    assert TWEET.ranges([names[2], names[0], names[1], names[4], names[2]]) == ((0, 3), (4, 5))
    assert TWEET.ranges([]) == ()
    record = TWEET.encode(Tweet(id=1), version=1, facts=bytes(SIZE + 1))
    assert TWEET.cutter(())(record) == b""


def test_a_record_that_its_offsets_cannot_describe_is_refused() -> None:
    fits = Tweet(text="x" * 65_000)
    assert TWEET.parse(TWEET.encode(fits, version=1, facts=bytes(SIZE + 1))).text == fits.text
    with pytest.raises(ValueError, match="65535"):
        TWEET.encode(Tweet(text="x" * 65_536), version=1, facts=bytes(SIZE + 1))


@pytest.mark.parametrize(("record", "there"), [(None, False), (b"", False), (TOMBSTONE, False)])
def test_what_is_unknown_or_deleted_is_not_there(record: bytes | None, there: bool) -> None:
    assert is_there(record) is there


# --- entries of lists

ENTRIES = st.builds(Entry, *(IDS for _ in Entry._fields))


@given(st.lists(ENTRIES, max_size=20))
def test_entries_survive_packing_and_sort_by_tweet_as_bytes(entries: list[Entry]) -> None:
    packed = [entry.pack() for entry in entries]
    assert {len(member) for member in packed} <= {SIZE}
    assert [unpack(member) for member in packed] == entries
    assert list(unpack_all(b"".join(packed))) == entries
    assert [unpack(member) for member in sorted(packed)] == sorted(entries)


def test_an_entry_begins_with_tweet_and_author_which_the_lists_sort_and_remove_by() -> None:
    packed = Entry(tweet_id=2**62 + 1, author_id=7, in_reply_to_user_id=9).pack()
    assert (packed[:8], packed[8:16]) == ((2**62 + 1).to_bytes(8, "big"), (7).to_bytes(8, "big"))


@pytest.mark.parametrize("size", [0, SIZE - 8, SIZE - 1, SIZE + 1])
def test_bytes_of_another_length_are_no_entry(size: int) -> None:
    with pytest.raises(Exception, match=str(SIZE)):
        unpack(bytes(size))
