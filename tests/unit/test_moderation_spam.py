"""Spam takes signals of two kinds, and near duplicates are found by their bits."""

from __future__ import annotations

import random

import pytest

from services.moderation.post import Post
from services.moderation.simhash import BITS, bands, near, simhash
from services.moderation.spam import Signals, SpamModel, content_of, with_conduct

MODEL = SpamModel.load()
ADVERT = Post(1, "FREE crypto giveaway, claim your bonus now http://prize.top/x")
PLAIN = Post(1, "number 12 of 40")


def score(post: Post, *, posts: int = 0, repeats: int = 0, crowd: int = 0, age_hours: float = 1_000) -> float:
    signals = with_conduct(content_of(post), posts=posts, repeats=repeats, crowd=crowd, age_hours=age_hours)
    return MODEL.score(signals)


def test_conduct_alone_never_makes_spam() -> None:
    assert score(PLAIN, posts=500, repeats=32, crowd=100, age_hours=0) <= 0.5


def test_content_alone_never_makes_spam() -> None:
    worst = Signals(doubt=1, links=1, promo=1, people=1, tags=1, capitals=1, young=1)
    assert MODEL.score(worst) <= 0.5
    assert score(ADVERT, age_hours=0) <= 0.5


def test_both_together_do() -> None:
    assert score(ADVERT, posts=20, repeats=8, age_hours=2) > 0.8
    assert score(ADVERT, crowd=8, posts=3, age_hours=2) > 0.8


def test_each_signal_is_within_0_and_1_and_more_of_it_is_never_less_spam() -> None:
    chance = random.Random(1)
    for _ in range(200):
        numbers = [chance.randrange(200) for _ in range(3)]
        found = with_conduct(
            content_of(ADVERT), posts=numbers[0], repeats=numbers[1], crowd=numbers[2], age_hours=chance.uniform(-5, 99)
        )
        assert all(0 <= getattr(found, name) <= 1 for name in Signals.__slots__)
        more = with_conduct(
            content_of(ADVERT), posts=numbers[0] + 5, repeats=numbers[1] + 1, crowd=numbers[2] + 1, age_hours=0
        )
        assert MODEL.score(more) >= MODEL.score(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Claim your prize now at http://a.top/1", "Claim your prize now at http://a.top/22"),
        ("Score update: 2:1", "Score update: 3:1"),
        ("WIN a phone today, click here", "win a phone  today, click here!!"),
        ("wіn a phone today, click here", "win a phone today, click here"),
    ],
)
def test_nearly_the_same_texts_have_nearly_the_same_bits(one: str, other: str) -> None:
    assert near(simhash(one), simhash(other))


def test_a_word_changed_in_a_long_text_is_nearly_the_same() -> None:
    words = [f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(40)]
    changed = [*words[:20], "another", *words[21:]]
    one, other = simhash(" ".join(words)), simhash(" ".join(changed))
    assert (one ^ other).bit_count() <= 14
    assert set(bands(one)) & set(bands(other)) or not near(one, other)


def test_different_texts_have_different_bits() -> None:
    texts = [
        "The bakery on the corner has finally reopened",
        "Does anybody know a quiet place to study",
        "Our cat has learned how to open the fridge",
        "Rain all week, so the garden is happy",
    ]
    found = [simhash(text) for text in texts]
    assert not any(near(one, other) for n, one in enumerate(found) for other in found[:n])
    assert all(0 < bits < 1 << BITS for bits in found)
    assert simhash("") == simhash("!!!") == 0
