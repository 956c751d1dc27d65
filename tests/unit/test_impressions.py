"""How often tweets were shown, counted in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rookery.api.v2.tweet_pb2 import Tweet

from mesh.errors import Unavailable
from views.entry import Entry
from views.impressions import Impressions
from views.record import TWEET, tweet_facts

ADA, BOB, EVE = 1, 2, 3


def record(tweet_id: int, author_id: int = ADA, *, retweeted: tuple[int, int] = (0, 0)) -> bytes:
    """A tweet's record."""
    made = Tweet(id=tweet_id, text="text", author_id=author_id)
    return TWEET.encode(made, version=1, facts=tweet_facts(Entry(tweet_id, author_id, 0, *retweeted)))


class Owner:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[int, int]] = []
        self.away = False

    async def add(self, counts: Mapping[int, int]) -> None:
        """As AddImpressions."""
        if self.away:
            raise Unavailable("away")
        self.sent.append(dict(counts))


async def test_what_was_shown_is_sent_once() -> None:
    owner = Owner()
    impressions = Impressions(owner.add)
    impressions.saw([record(10), record(11, BOB)], EVE)
    impressions.saw([record(10)], EVE)
    impressions.saw([], EVE)
    await impressions.flush()
    assert owner.sent == [{10: 2, 11: 1}]
    await impressions.flush()
    assert len(owner.sent) == 1


async def test_ones_own_tweets_do_not_count() -> None:
    owner = Owner()
    impressions = Impressions(owner.add)
    impressions.saw([record(10, ADA), record(11, BOB)], ADA)
    impressions.saw([record(12, BOB, retweeted=(10, ADA))], ADA)
    await impressions.flush()
    assert owner.sent == [{11: 1}]


async def test_a_retweet_shows_the_original() -> None:
    owner = Owner()
    impressions = Impressions(owner.add)
    impressions.saw([record(12, BOB, retweeted=(10, ADA)), record(10, ADA), record(13, 4, retweeted=(10, ADA))], EVE)
    await impressions.flush()
    assert owner.sent == [{10: 3}]


async def test_memory_is_bounded_and_what_is_lost_is_lost() -> None:
    owner = Owner()
    impressions = Impressions(owner.add, kept=100)
    for tweet_id in range(1_000, 2_000, 10):
        impressions.saw([record(tweet_id + n) for n in range(10)], EVE)
    owner.away = True
    await impressions.flush()
    owner.away = False
    await impressions.flush()
    assert owner.sent == [], "what could not be sent is not kept"
    for tweet_id in range(1_000, 2_000, 10):
        impressions.saw([record(tweet_id + n) for n in range(10)], EVE)
    await impressions.flush()
    assert sum(map(len, owner.sent)) == 100


async def test_those_seen_most_are_sent_first_and_the_rest_later() -> None:
    owner = Owner()
    impressions = Impressions(owner.add)
    impressions.saw([record(tweet_id) for tweet_id in range(1, 3_001)], EVE)
    impressions.saw([record(tweet_id) for tweet_id in range(2_501, 3_001)], EVE)
    await impressions._flush(2_000)
    assert [len(sent) for sent in owner.sent] == [1_000, 1_000]
    first = owner.sent[0] | owner.sent[1]
    assert all(first[tweet_id] == 2 for tweet_id in range(2_501, 3_001))
    await impressions.flush()
    rest = owner.sent[2]
    assert len(rest) == 1_000 and set(rest.values()) == {1}
    assert not first.keys() & rest.keys()


def test_counting_costs_an_answer_next_to_nothing() -> None:
    """Below a microsecond a tweet; the work of an answer with 40 of them is more than ten times as much."""
    impressions = Impressions(Owner().add)
    shown = [record(tweet_id, tweet_id % 20 + 10) for tweet_id in range(1, 41)]

    def once() -> float:
        began = time.perf_counter()
        for _ in range(100):
            impressions.saw(shown, EVE)
        return (time.perf_counter() - began) / 100

    assert min(once() for _ in range(10)) < 40e-6
