"""The language of a text: how often it is right, what has none, and that nobody waits for the model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.tweet.language import Languages, judged, words_of
from services.tweet.language_model import Rank, load_model, unpack
from views.text import entities

LABELLED = [
    (line.split("\t")[0], line.split("\t")[1])
    for line in (Path(__file__).parent.parent / "data" / "languages.tsv").read_text().splitlines()
]
"""Sentences of this project's own, with the code each should have."""
WITHOUT_WORDS = {"und", "zxx", "qht", "qam", "qct"}
UNSPACED = {"ja", "th", "zh"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    unpack(made)
    return made


@pytest.fixture(scope="module")
def rank(folder: Path) -> Rank:
    return load_model(folder)


@pytest.fixture
async def languages(rank: Rank) -> Languages:
    made = Languages(registry=CollectorRegistry(), load=lambda: rank)
    await made.run()
    return made


def test_the_unpacked_model_judges_as_the_librarys_own(rank: Rank, tmp_path: Path) -> None:
    own = load_model(tmp_path)  # where nothing was unpacked
    assert all(rank(text) == own(text) for _, text in LABELLED)


def test_what_is_unpacked_stays_and_nothing_is_left_beside_it(folder: Path) -> None:
    [place] = folder.iterdir()
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    unpack(folder)
    assert [*folder.iterdir()] == [place]
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before


def beginning(language: str, text: str) -> str:
    """The first three words, or as much in scripts without spaces."""
    return text[:6] if language in UNSPACED else " ".join(text.split()[:3])


async def test_most_texts_are_judged_and_nearly_all_of_them_right(languages: Languages) -> None:
    sentences = [(code, text) for code, text in LABELLED if code not in WITHOUT_WORDS]
    assert len(sentences) >= 150
    assert len({code for code, _ in sentences}) >= 25
    for cut, least_judged, least_right in ((False, 0.97, 0.99), (True, 0.78, 0.97)):
        right = wrong = 0
        for code, text in sentences:
            part = beginning(code, text) if cut else text
            got = await languages.of(part, entities(part))
            right += got == code
            wrong += got not in (code, "und")
        judged_share, precision = (right + wrong) / len(sentences), right / (right + wrong)
        print(f"{'beginnings' if cut else 'sentences'}: judged {judged_share:.1%}, right of these {precision:.1%}")
        assert judged_share >= least_judged
        assert precision >= least_right


@pytest.mark.parametrize(("code", "text"), [each for each in LABELLED if each[0] in WITHOUT_WORDS])
async def test_what_has_no_words_has_the_code_for_that(code: str, text: str, languages: Languages) -> None:
    assert await languages.of(text, entities(text)) == code


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("so good https://example.com/de/das @ada_lovelace", "so good"),
        ("what a #sunset today", "what a sunset today"),
        ("up again $ABC today", "up again today"),
        ("great \U0001f389\U0001f44d day ❤", "great day"),
        ("#one #two", ""),
        ("@ada 12 !", ""),
        ("", ""),
    ],
)
def test_only_words_are_judged(text: str, words: str) -> None:
    assert words_of(text, entities(text)) == words


async def test_links_and_names_do_not_count_as_words(languages: Languages) -> None:
    text = "Heute gibt es endlich wieder Kürbissuppe @the_best_of_the_world https://example.com/what-is-it-all-about"
    assert await languages.of(text, entities(text)) == "de"


def test_varieties_count_for_their_language(rank: Rank) -> None:
    def split(_: str) -> Sequence[tuple[str, float]]:
        return [("en", 0.4), ("arz", 0.3), ("ar", 0.2), ("ary", 0.1)]

    assert judged("words", split) == "ar"
    assert judged("words", lambda _: [("en", 0.49), ("de", 0.3)]) == "und"
    codes = {code for code, _ in rank("words")}
    assert {"he", "id"} <= codes
    assert not {"iw", "in"} & codes  # names that X has kept from before BCP 47


async def test_nobody_waits_long_for_the_model_and_texts_without_it_are_counted() -> None:
    registry, release = CollectorRegistry(), threading.Event()

    def slow() -> Rank:
        release.wait(10)
        return lambda _: [("en", 1.0)]

    languages = Languages(registry=registry, load=slow)
    loading = asyncio.create_task(languages.run())
    started = time.monotonic()
    assert await languages.of("any words", entities("any words")) == "und"
    assert time.monotonic() - started < 1
    assert await languages.of("#tag", entities("#tag")) == "qht"  # which needs no model
    assert registry.get_sample_value("tweet_language_missed_total") == 1
    waiting = asyncio.create_task(languages.of("any words", entities("any words")))
    release.set()
    assert await waiting == "en"
    await loading


async def test_a_model_that_cannot_be_loaded_costs_only_the_language() -> None:
    def broken() -> Rank:
        raise OSError("no such file")

    languages = Languages(registry=CollectorRegistry(), load=broken)
    with pytest.raises(OSError, match="no such file"):
        await languages.run()
    assert await languages.of("any words", entities("any words")) == "und"


def test_no_text_takes_long(rank: Rank) -> None:
    for text in ("a" * 280, "日" * 140, "ab " * 93, "ﷺ" * 140, "\u0301" * 280, "é" * 280):
        begun = time.process_time()
        judged(words_of(text, entities(text)) or text, rank)
        assert time.process_time() - begun < 0.05
