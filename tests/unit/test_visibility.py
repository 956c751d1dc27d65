"""Who sees what: the whole table of viewer, author and surface, written out by hand."""

from __future__ import annotations

from itertools import product

import pytest
from rookery.api.v2.tweet_pb2 import Tweet
from rookery.api.v2.user_pb2 import User

from mesh.cache.records import TOMBSTONE
from views.entry import Entry
from views.record import TWEET, USER, person_facts, tweet_facts
from views.visibility import Facts, Standing, State, Surface, Verdict, may_repeat, verdict, writers

ONESELF = Standing(oneself=True)
STRANGER = Standing()
FOLLOWER = Standing(follows=True)
MUTED = Standing(muted=True)
MUTED_FOLLOWED = Standing(follows=True, muted=True)
BLOCKED = Standing(blocked=True)
BLOCKED_MUTED = Standing(blocked=True, muted=True)

FEEDS = {Surface.HOME, Surface.LIST, Surface.MENTIONS}
ELSEWHERE = {
    Surface.PROFILE,
    Surface.TWEET,
    Surface.CONVERSATION,
    Surface.QUOTES,
    Surface.MARKS,
}
# (viewer's standing, author's state) -> (shows on feeds, shows elsewhere)
TABLE = {
    (ONESELF, State.PUBLIC): (True, True),
    (STRANGER, State.PUBLIC): (True, True),
    (FOLLOWER, State.PUBLIC): (True, True),
    (MUTED, State.PUBLIC): (False, True),
    (MUTED_FOLLOWED, State.PUBLIC): (False, True),
    (BLOCKED, State.PUBLIC): (False, False),
    (BLOCKED_MUTED, State.PUBLIC): (False, False),
    (ONESELF, State.PROTECTED): (True, True),
    (STRANGER, State.PROTECTED): (False, False),
    (FOLLOWER, State.PROTECTED): (True, True),
    (MUTED, State.PROTECTED): (False, False),
    (MUTED_FOLLOWED, State.PROTECTED): (False, True),
    (BLOCKED, State.PROTECTED): (False, False),
    (BLOCKED_MUTED, State.PROTECTED): (False, False),
    (ONESELF, State.GONE): (False, False),
    (STRANGER, State.GONE): (False, False),
    (FOLLOWER, State.GONE): (False, False),
    (MUTED, State.GONE): (False, False),
    (MUTED_FOLLOWED, State.GONE): (False, False),
    (BLOCKED, State.GONE): (False, False),
    (BLOCKED_MUTED, State.GONE): (False, False),
}


def test_every_surface_is_in_the_table() -> None:
    assert set(Surface) == FEEDS | ELSEWHERE
    assert {surface for surface in Surface if surface.feed} == FEEDS
    assert len(TABLE) == 7 * len(State)


@pytest.mark.parametrize(("standing", "state"), TABLE)
@pytest.mark.parametrize("surface", Surface)
def test_the_table(surface: Surface, standing: Standing, state: State) -> None:
    on_feeds, elsewhere = TABLE[standing, state]
    shows = on_feeds if surface in FEEDS else elsewhere
    assert verdict(surface, standing, state) is (Verdict.SHOWN if shows else Verdict.HIDDEN)
    assert verdict(surface, standing, state, embedded=True) is (Verdict.SHOWN if shows else Verdict.TOMBSTONE)


@pytest.mark.parametrize(("standing", "state"), [key for key, (_, elsewhere) in TABLE.items() if elsewhere])
def test_only_themself_repeats_a_protected_persons_tweet(standing: Standing, state: State) -> None:
    assert may_repeat(standing, state) is (standing.oneself or state is State.PUBLIC)


VIEWER = 1


def record(user_id: int, protected: bool) -> bytes:
    return USER.encode(User(id=user_id), version=1, facts=person_facts(protected=protected))


def facts_of(author: tuple[Standing, State], original: tuple[Standing, State]) -> Facts:
    """Person 2 is the author and 3 the original's."""
    people = {2: author, 3: original}
    return Facts(
        VIEWER,
        followed={i for i, (standing, _) in people.items() if standing.follows},
        blocked={i for i, (standing, _) in people.items() if standing.blocked},
        muted={i for i, (standing, _) in people.items() if standing.muted},
        people={
            i: TOMBSTONE if state is State.GONE else record(i, state is State.PROTECTED)
            for i, (_, state) in people.items()
        },
    )


@pytest.mark.parametrize("surface", Surface)
def test_a_retweet_shows_only_where_its_author_and_the_originals_do(surface: Surface) -> None:
    others = [key for key in TABLE if not key[0].oneself]
    for author, original in product(others, others):
        facts = facts_of(author, original)
        place = 0 if surface in FEEDS else 1
        assert facts.shows(Entry(9, 2), surface) is TABLE[author][place]
        both = TABLE[author][place] and TABLE[original][place]
        assert facts.shows(Entry(9, 2, 0, 8, 3), surface) is both


@pytest.mark.parametrize("surface", Surface)
def test_a_limited_tweet_comes_to_its_author_to_followers_and_to_who_asks_for_it(surface: Surface) -> None:
    facts = Facts(VIEWER, {2}, (), (), {})
    asked = surface is Surface.TWEET
    for author, wanted in ((VIEWER, True), (2, True), (3, asked)):
        limited = TWEET.encode(Tweet(id=9), version=1, facts=tweet_facts(Entry(9, author), limited=True))
        assert facts.reaches(limited, surface) is wanted
        assert facts.reaches(limited, surface, repeated=True) is (wanted and author != 3)
        assert facts.reaches(limited, surface.embedded) is (wanted and author != 3)
        assert facts.reaches(TWEET.encode(Tweet(id=9), version=1, facts=tweet_facts(Entry(9, author))), surface)


@pytest.mark.parametrize("surface", Surface)
def test_what_hangs_on_a_tweet_shows_by_the_same_rules_about_people(surface: Surface) -> None:
    for key in TABLE:
        assert verdict(surface, *key) is verdict(surface.embedded, *key)


def test_what_is_not_known_of_somebody_hides_them() -> None:
    facts = Facts(VIEWER, (), (), (), {2: None, 3: b""})
    assert not any(facts.sees(i, Surface.TWEET) for i in (2, 3, 4))


def test_ones_own_account_shows_to_oneself_while_it_is_there() -> None:
    facts = Facts(VIEWER, (), (), (), {VIEWER: record(VIEWER, True)})
    assert all(facts.sees(VIEWER, surface) for surface in Surface)


def test_lists_of_people_show_protected_and_muted_people_but_none_that_is_blocked_or_gone() -> None:
    facts = Facts(VIEWER, (), {4}, {3}, {2: record(2, True), 3: record(3, False), 4: record(4, False), 5: TOMBSTONE})
    assert [i for i in (2, 3, 4, 5, 6) if facts.meets(i)] == [2, 3]
    assert [i for i in (2, 3, 4, 5, 6) if facts.meets(i, blocked=True)] == [2, 3, 4]


def test_writers_are_authors_and_authors_of_originals_each_once() -> None:
    assert writers([Entry(9, 2), Entry(8, 3, 7, 5, 2), Entry(7, 3)]) == [2, 3]
