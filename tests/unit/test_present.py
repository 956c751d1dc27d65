"""Answers written by hand parse as the contracts' messages, with each included resource once and each gap explained."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from rookery.api.v2.envelope_pb2 import Fields, Meta
from rookery.api.v2.poll_pb2 import Poll, PollOption
from rookery.api.v2.tweet_pb2 import MentionEntity, ReferencedTweet, Tweet, TweetAttachments
from rookery.api.v2.user_pb2 import User
from rookery.graph.v1.graph_mesh_pb2 import GetStandingResponse
from rookery.tweet.v1.tweet_service_pb2 import ListTweetsByIdResponse
from rookery.user.v1.user_service_pb2 import ListUsersByIdResponse

from mesh.cache.open import open_cache
from mesh.cache.records import TOMBSTONE, Records
from mesh.cache.store import CacheStore
from tests.unit.test_plan import Asked
from views.entry import Entry
from views.hydrate import Hydrator
from views.plan import tweets_plan, users_plan
from views.present import not_found, present_tweets, present_users, wire
from views.record import POLL, TWEET, USER, person_facts, poll_facts, tweet_facts
from views.shown import Views
from views.standings import Standings
from views.visibility import Surface

ADA, BOB, CAROL = 7, 8, 9
VIEWER = 70


def tweet(tweet_id: int, author_id: int = ADA, **members: object) -> bytes:
    made = Tweet(id=tweet_id, text=f"tweet {tweet_id}", author_id=author_id, **members)  # type: ignore[arg-type]
    return TWEET.encode(made, version=1, facts=tweet_facts(Entry(tweet_id, author_id)))


def user(user_id: int, **members: object) -> bytes:
    made = User(id=user_id, name=f"name {user_id}", username=f"user{user_id}", **members)  # type: ignore[arg-type]
    return USER.encode(made, version=1, facts=person_facts(protected=False))


class World:
    """All that there is, and who asked for what. There is no cache, so that owners answer for everything."""

    def __init__(self, store: CacheStore) -> None:
        self.tweets: dict[int, bytes] = {}
        self.polls: dict[int, bytes] = {}
        self.users = {person: user(person) for person in (ADA, BOB, CAROL)}
        self.read: list[tuple[str, int]] = []
        self.related = GetStandingResponse()
        users = Hydrator(Records(store, "u:"), self._reader("user", self.users))
        self.views = Views(
            tweets=Hydrator(Records(store, "t:"), self._reader("tweet", self.tweets)),
            users=users,
            polls=Hydrator(Records(store, "p:"), self._reader("poll", self.polls)),
            standings=Standings(store, users, self._ask),
        )

    async def _ask(self, viewer_id: int, people: Sequence[int], loaded: bool) -> GetStandingResponse:
        assert viewer_id == VIEWER
        return self.related

    def _reader(self, kind: str, found: dict[int, bytes]):  # type: ignore[no-untyped-def]
        async def fetch(ids: Sequence[int]) -> list[bytes]:
            self.read += [(kind, i) for i in ids]
            return [found.get(i, b"") for i in ids]

        return fetch

    async def tweets_page(
        self, records: Sequence[bytes], expansions: str = "", **more: object
    ) -> ListTweetsByIdResponse:
        plan = tweets_plan(Asked(expansions=expansions))
        raw = await present_tweets(plan, self.views, records, Surface.TWEET, VIEWER, **more)  # type: ignore[arg-type]
        return ListTweetsByIdResponse.FromString(raw)

    async def users_page(self, records: Sequence[bytes], expansions: str = "") -> ListUsersByIdResponse:
        plan = users_plan(Asked(expansions=expansions))
        return ListUsersByIdResponse.FromString(await present_users(plan, self.views, records, VIEWER))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = open_cache(f"unix://{tmp_path}/none")
    yield World(store)
    await store.close()


async def test_a_page_without_expansions_reads_nothing_more(world: World) -> None:
    meta = Meta(result_count=2, next_token="next")
    answer = await world.tweets_page([tweet(2), tweet(1)], meta=meta, errors=[not_found("tweet", "ids", "3")])
    assert [found.id for found in answer.data] == [2, 1]
    assert answer.data[0].text == "tweet 2"
    assert not answer.HasField("includes")
    assert answer.errors[0].detail == "Could not find tweet with ids: [3]."
    assert (answer.errors[0].resource_type, answer.errors[0].value) == ("tweet", "3")
    assert world.read == []


async def test_an_empty_page_is_an_empty_message(world: World) -> None:
    assert await world.tweets_page([]) == ListTweetsByIdResponse()
    assert await world.tweets_page([], "author_id,referenced_tweets.id") == ListTweetsByIdResponse()


async def test_authors_are_included_once_in_the_order_they_appear(world: World) -> None:
    answer = await world.tweets_page([tweet(4, BOB), tweet(3), tweet(2, BOB), tweet(1)], "author_id")
    assert [person.id for person in answer.includes.users] == [BOB, ADA]
    assert [found.author_id for found in answer.data] == [BOB, ADA, BOB, ADA]
    assert sorted(world.read) == [("user", ADA), ("user", BOB)]


async def test_authors_at_hand_are_not_read_again_and_only_authors_are_shown(world: World) -> None:
    at_hand: dict[int, bytes | None] = {ADA: user(ADA), CAROL: user(CAROL)}
    answer = await world.tweets_page([tweet(2), tweet(1, BOB)], "author_id", people=at_hand)
    assert [person.id for person in answer.includes.users] == [ADA, BOB]
    assert world.read == [("user", BOB)]
    assert at_hand.keys() == {ADA, CAROL}  # the caller's own, unchanged


async def test_a_person_who_is_gone_is_left_out(world: World) -> None:
    world.users[BOB] = TOMBSTONE
    del world.users[CAROL]
    answer = await world.tweets_page([tweet(3), tweet(2, BOB), tweet(1, CAROL)], "author_id")
    assert [person.id for person in answer.includes.users] == [ADA]
    assert len(answer.data) == 3


async def test_referenced_tweets_are_included_with_their_authors_and_the_gone_ones_explained(world: World) -> None:
    world.tweets |= {10: tweet(10, BOB), 11: TOMBSTONE}
    refers = [ReferencedTweet(type="quoted", id=10)]
    page = [
        tweet(4, referenced_tweets=refers),
        tweet(3, referenced_tweets=[*refers, ReferencedTweet(type="replied_to", id=11)]),
        tweet(2, referenced_tweets=[ReferencedTweet(type="replied_to", id=12)]),
        tweet(1, referenced_tweets=[ReferencedTweet(type="replied_to", id=4)]),  # on the page already
    ]
    answer = await world.tweets_page(page, "author_id,referenced_tweets.id,referenced_tweets.id.author_id")
    assert [found.id for found in answer.includes.tweets] == [10]
    assert not answer.includes.posts
    assert [person.id for person in answer.includes.users] == [ADA, BOB]
    assert [(problem.parameter, problem.value) for problem in answer.errors] == [
        ("referenced_tweets.id", "11"),
        ("referenced_tweets.id", "12"),
    ]
    assert len(set(world.read)) == len(world.read)


@pytest.mark.parametrize("why", ["blocked", "protected", "gone"])
async def test_a_referenced_tweet_that_is_hidden_is_explained_as_one_that_is_not_there(world: World, why: str) -> None:
    world.tweets[10] = tweet(10, BOB)
    if why == "blocked":
        world.related.blocked_ids.append(BOB)
    elif why == "protected":
        world.users[BOB] = USER.encode(User(id=BOB), version=1, facts=person_facts(protected=True))
    else:
        world.users[BOB] = (5).to_bytes(8, "big")
    page = [tweet(1, referenced_tweets=[ReferencedTweet(type="quoted", id=10)])]
    hidden = await world.tweets_page(page, "referenced_tweets.id,referenced_tweets.id.author_id")
    assert [found.id for found in hidden.data] == [1]
    assert not hidden.HasField("includes")
    del world.tweets[10]
    assert hidden == await world.tweets_page(page, "referenced_tweets.id,referenced_tweets.id.author_id")


async def test_a_pinned_tweet_that_is_hidden_is_explained_as_one_that_is_not_there(world: World) -> None:
    world.tweets[10] = tweet(10, BOB)
    people = [user(BOB, pinned_tweet_id=10)]
    assert (await world.users_page(people, "pinned_tweet_id")).includes.tweets
    world.related.blocked_ids.append(BOB)
    hidden = await world.users_page(people, "pinned_tweet_id")
    assert not hidden.HasField("includes")
    assert [(problem.parameter, problem.value) for problem in hidden.errors] == [("pinned_tweet_id", "10")]


async def test_authors_of_referenced_tweets_come_only_when_asked_for(world: World) -> None:
    world.tweets[10] = tweet(10, BOB)
    page = [tweet(1, referenced_tweets=[ReferencedTweet(type="quoted", id=10)])]
    answer = await world.tweets_page(page, "referenced_tweets.id")
    assert not answer.includes.users
    assert [found.id for found in answer.includes.tweets] == [10]


async def test_in_the_vocabulary_of_posts_they_are_posts(world: World) -> None:
    world.tweets[10] = tweet(10, BOB)
    answer = await world.tweets_page(
        [
            tweet(
                1,
                referenced_tweets=[ReferencedTweet(type="quoted", id=10)],
                referenced_posts=[ReferencedTweet(type="quoted", id=10)],
            )
        ],
        "referenced_posts",
    )
    assert [found.id for found in answer.includes.posts] == [10]
    assert not answer.includes.tweets
    assert answer.data[0].referenced_posts
    assert not answer.data[0].referenced_tweets


async def test_people_mentioned_and_answered_are_included_when_asked_for(world: World) -> None:
    made = Tweet(id=1, text="t", author_id=ADA, in_reply_to_user_id=BOB)
    made.entities.mentions.extend([MentionEntity(username="carol", id=CAROL), MentionEntity(username="nobody")])
    page = [TWEET.encode(made, version=1, facts=tweet_facts(Entry(made.id, ADA)))]
    both = await world.tweets_page(page, "in_reply_to_user_id,entities.mentions.username")
    assert [person.id for person in both.includes.users] == [BOB, CAROL]
    one = await world.tweets_page(page, "entities.mentions.username")
    assert [person.id for person in one.includes.users] == [CAROL]


async def test_pinned_tweets_are_included_once_and_the_gone_ones_explained(world: World) -> None:
    world.tweets |= {10: tweet(10), 11: TOMBSTONE}
    people = [user(ADA, pinned_tweet_id=10), user(BOB, pinned_tweet_id=11), user(CAROL), user(6, pinned_tweet_id=10)]
    answer = await world.users_page(people, "pinned_tweet_id")
    assert [person.id for person in answer.data] == [ADA, BOB, CAROL, 6]
    assert [found.id for found in answer.includes.tweets] == [10]
    assert [(problem.parameter, problem.value) for problem in answer.errors] == [("pinned_tweet_id", "11")]
    world.read.clear()
    assert not (await world.users_page(people)).HasField("includes")
    assert world.read == []


@pytest.mark.parametrize("size", [0, 1, 127, 128, 2_047, 2_048, 16_383, 16_384, 70_000])
def test_lengths_are_written_as_protobuf_reads_them(size: int) -> None:
    assert Fields.FromString(wire(1, b"x" * size)).fields == "x" * size


async def test_a_long_resource_is_written_whole(world: World) -> None:
    long = Tweet(id=1, text="é" * 4_000, author_id=ADA)
    answer = await world.tweets_page([TWEET.encode(long, version=1, facts=tweet_facts(Entry(long.id, ADA))), tweet(2)])
    assert [len(found.text) for found in answer.data] == [4_000, len("tweet 2")]


async def test_polls_are_included_once_and_those_that_are_gone_left_out(world: World) -> None:
    made = Poll(id=70, options=[PollOption(position=1, label="yes", votes=3)])
    world.polls[70] = POLL.encode(made, version=1, facts=poll_facts(end_ms=0))
    asking = [tweet(n, attachments=TweetAttachments(poll_ids=[i])) for n, i in ((3, 70), (2, 71), (1, 70))]
    answer = await world.tweets_page(asking, "attachments.poll_ids")
    assert list(answer.includes.polls) == [made]
    assert [list(one.attachments.poll_ids) for one in answer.data] == [[70], [71], [70]]
    assert sorted(world.read) == [("poll", 70), ("poll", 71)]
    assert not answer.errors
    world.read.clear()
    assert not (await world.tweets_page(asking)).HasField("includes")
    assert world.read == []
