"""The oracle of `rookery check timelines`: what follows from the facts, and how a difference is told."""

from __future__ import annotations

from cli.check import Difference, Facts, compare

ADA, BOB, CAROL, DAN = 1, 2, 3, 4


def _facts(
    tweets: dict[int, tuple[tuple[int, ...], ...]],
    following: dict[int, frozenset[int]],
    *,
    hidden: dict[int, frozenset[int]] | None = None,
    protected: frozenset[int] = frozenset(),
    gone: frozenset[int] = frozenset(),
) -> Facts:
    """Tweets are (id, person answered), or (id, person answered, person repeated, whether what is repeated is
    limited)."""
    whole = {author: tuple(_whole(*tweet) for tweet in written) for author, written in tweets.items()}
    return Facts({}, following, hidden or {}, protected, gone, whole)


def _whole(tweet: int, answered: int, repeated: int = 0, limited: bool = False) -> tuple[int, int, int, bool]:
    return tweet, answered, repeated, limited


def test_home_is_ones_own_and_those_one_follows_the_newest_first() -> None:
    facts = _facts({ADA: ((30, 0),), BOB: ((40, 0), (20, 0)), CAROL: ((50, 0),)}, {ADA: frozenset({BOB, DAN})})
    assert facts.home(ADA) == [40, 30, 20]
    assert facts.home(BOB) == [40, 20]
    assert facts.home(DAN) == []


def test_a_reply_shows_to_who_follows_both_to_whom_it_answers_and_when_it_answers_its_author() -> None:
    facts = _facts(
        {BOB: ((40, CAROL), (30, BOB), (20, 0))},
        {ADA: frozenset({BOB}), CAROL: frozenset({BOB}), DAN: frozenset({BOB, CAROL})},
    )
    assert facts.home(ADA) == [30, 20]
    assert facts.home(CAROL) == [40, 30, 20]
    assert facts.home(DAN) == [40, 30, 20]


def test_home_ends_after_800_that_show() -> None:
    hidden = tuple((n, CAROL) for n in range(5_000, 4_000, -1))
    shown = tuple((n, 0) for n in range(4_000, 3_000, -1))
    facts = _facts({BOB: hidden + shown}, {ADA: frozenset({BOB})})
    assert facts.home(ADA) == list(range(4_000, 3_200, -1))


def test_nothing_shows_of_those_who_are_blocked_muted_gone_or_protected_from_the_viewer() -> None:
    tweets = {ADA: ((60, 0),), BOB: ((50, 0), (40, 0, CAROL), (30, 0, ADA)), CAROL: ((20, 0),)}
    following = {ADA: frozenset({BOB, CAROL}), DAN: frozenset({BOB})}
    assert _facts(tweets, following).home(ADA) == [60, 50, 40, 30, 20]
    assert _facts(tweets, following, hidden={ADA: frozenset({CAROL})}).home(ADA) == [60, 50, 30]
    limited = {**tweets, BOB: ((50, 0), (40, 0, CAROL, True), (30, 0, ADA, True))}
    assert _facts(limited, {ADA: frozenset({BOB})}).home(ADA) == [60, 50, 30], "what Carol wrote was limited"
    assert _facts(limited, following).home(ADA) == [60, 50, 40, 30, 20]
    assert _facts(tweets, following, hidden={ADA: frozenset({BOB})}).home(ADA) == [60, 20]
    assert _facts(tweets, following, gone=frozenset({CAROL})).home(ADA) == [60, 50, 30]
    protected = _facts(tweets, following, protected=frozenset({CAROL, ADA}))
    assert protected.home(ADA) == [60, 50, 40, 30, 20]
    assert protected.home(DAN) == [50]


def test_a_timeline_as_it_must_be_has_no_difference() -> None:
    assert compare(ADA, [3, 2, 1], [3, 2, 1]) is None
    assert compare(ADA, [], []) is None


def test_differences_are_told_apart() -> None:
    assert compare(ADA, [3, 2, 1], [3, 1]) == Difference(ADA, missing=(2,), extra=())
    assert compare(ADA, [3, 1], [3, 2, 1]) == Difference(ADA, missing=(), extra=(2,))
    assert compare(ADA, [3, 2], [3, 2, 2]) == Difference(ADA, missing=(), extra=(2,))  # shown twice
    assert str(compare(ADA, [3, 2, 1], [3, 1, 2])) == "wrong order"
    assert str(compare(ADA, [3, 2], [2, 1])) == "1 missing (3), 1 extra (1)"
    assert str(compare(ADA, list(range(9, 0, -1)), [])) == "9 missing (9 8 7 6 5 ...)"
