"""What is a hashtag: twitter-text's rules, in scripts that write vowels with combining marks too."""

from __future__ import annotations

import time
import unicodedata

import pytest

from views.text import entities


def tags(text: str) -> list[str]:
    found = entities(text).hashtags
    for tag in found:
        assert text[tag.start] in "#＃"
        assert text[tag.start + 1 : tag.end] == tag.tag
    return [tag.tag for tag in found]


@pytest.mark.parametrize(
    "word",
    [
        "rookery",
        "Año2026",
        "1st",
        "snake_case_",
        "हिन्दी",
        "ภาษาไทย",
        "தமிழ்",
        "עִבְרִית",
        "می\u200cخواهم",
        "にほん・ご",
        "日本語",
        "한국어",
        unicodedata.normalize("NFD", "café"),
        "a" * 200,
    ],
)
def test_a_word_is_a_hashtag_whole(word: str) -> None:
    assert tags(f"so #{word} it is") == [word]
    assert tags(f"#{word}, and (#{word}).") == [word, word]
    assert tags(f"＃{word}") == [word]


@pytest.mark.parametrize(
    "text",
    [
        "#1",
        "#2026_",
        "#",
        "# x",
        "#a#b",
        "a#b",
        "日本#b",
        "é#b",
        "e\u0301#b",
        "&#x27",
        "#\ufe0f\u20e3",
        "#\u20e3",
    ],
)
def test_what_is_no_hashtag(text: str) -> None:
    assert tags(text) == []


def test_a_hash_in_an_address_is_no_hashtag() -> None:
    assert tags("see http://example.com/#top") == []
    assert tags("#http://example.com") == []


@pytest.mark.parametrize(
    "text",
    [
        "#" * 4000,
        "#" + "1" * 3999,
        ("#" + "1" * 99) * 40,
        "#a" * 2000,
        "\u0301" * 4000,
        "#\u0301" * 2000,
        "#a" * 2000 + "#",
    ],
)
def test_hostile_texts_are_looked_through_quickly(text: str) -> None:
    started = time.process_time()
    entities(text)
    assert time.process_time() - started < 0.5
