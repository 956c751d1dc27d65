"""What a text weighs and what is in it agrees with twitter-text itself.

`tests/data/twitter_text.json` has texts for each rule of its conformance suite (mentions, lists, hashtags, cashtags,
links, weights), and some put together at random, with what twitter-text 3.1.0 computes for them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from views.text import entities, weight

CASES = json.loads((Path(__file__).parent.parent / "data" / "twitter_text.json").read_text())
DIFFERENT = {
    "@abcdefghijklmnopqrstu has": "a name that is too long is nobody's; twitter-text finds its first 20 characters",
    "example.com日本.jp/a": "a link is a part of the text; twitter-text leaves out what is between two hosts",
    "a.a.a.a.a": "more than 32 dots in a host are no link, as looking for one takes too long",
    "http://example.com/aaaaaaaa": "more than 2,048 characters are no link, as looking for one takes too long",
    "#a\u0560 #\U0002ebe0": "Unicode has more letters since: here Python's version counts",
    "🤏🏻 👱\u200d♂": "Unicode has more emoji since, and some without their selectors are emoji too",
    "x.com\u0130": "letters whose other case is ASCII: Python's patterns take them for it",
}
"""Beginnings of texts that are judged otherwise, and why."""


def found_in(text: str) -> list[object]:
    found = entities(text)
    return [
        text,
        weight(text),
        [[mention.start, mention.end, mention.username] for mention in found.mentions],
        [[tag.start, tag.end, tag.tag] for tag in found.hashtags],
        [[tag.start, tag.end, tag.tag] for tag in found.cashtags],
        [[url.start, url.end, url.url] for url in found.urls],
    ]


@pytest.mark.parametrize("case", CASES["same"], ids=lambda case: repr(case[0])[:24])
def test_a_text_is_read_as_twitter_text_reads_it(case: list[object]) -> None:
    assert found_in(str(case[0])) == case


@pytest.mark.parametrize("case", CASES["different"], ids=lambda case: repr(case[0])[:24])
def test_what_is_read_otherwise_is_so_for_a_reason(case: list[object]) -> None:
    assert [why for beginning, why in DIFFERENT.items() if str(case[0]).startswith(beginning)]
    assert found_in(str(case[0])) != case


def test_each_difference_has_a_text() -> None:
    texts = [str(case[0]) for case in CASES["different"]]
    assert all(any(text.startswith(beginning) for text in texts) for beginning in DIFFERENT)
    assert len(CASES["same"]) > 400
