"""The model of words: the same numbers as the package it comes from, and a file that is not whole is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from services.moderation.models.base import BUILT_IN, NONE, ModelError, known
from services.moderation.models.words import FILE, Words
from services.moderation.post import Post
from services.moderation.toxicity import InProcess, toxicity_of

EXPECTED: dict[str, float] = json.loads(FILE.with_name("words_expected.json").read_text())


@pytest.fixture(scope="module")
def words() -> Words:
    return Words.load()


@pytest.mark.parametrize("text", EXPECTED)
def test_it_says_what_the_package_says(words: Words, text: str) -> None:
    assert words.probability(text) == pytest.approx(EXPECTED[text], abs=1e-6)


@pytest.mark.parametrize(
    ("plain", "disguised"),
    [("you stupid idiot", "you s.t.u.p.i.d 1d10t"), ("pathetic loser", "pаthetic lоser"), ("moron", "moroooon")],
)
def test_a_disguise_helps_nobody(words: Words, plain: str, disguised: str) -> None:
    assert words([disguised])[0] == pytest.approx(words([plain])[0], abs=0.05)


async def test_links_and_names_of_people_are_not_judged() -> None:
    model = toxicity_of(BUILT_IN)
    assert isinstance(model, InProcess)
    texts = ["see you there", "see you there @stupid_idiot", "see you there http://idiot.example/stupid"]
    scores = [await model.score(Post(1, text)) for text in texts]
    assert max(scores) < 0.1
    assert await toxicity_of(NONE).score(Post(1, "you stupid idiot")) == 0.0


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", gzip.compress(b'{"words": ["a"], "machines": []}\n')],  # gzip's bytes have the time in them
    ids=["empty", "no-gzip", "no-machines"],
)
def test_a_file_that_is_not_whole_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.bin"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        Words.load(path)
    with pytest.raises(ModelError):
        Words.load(tmp_path / "none")


def test_urls_of_models() -> None:
    assert all(map(known, (BUILT_IN, NONE, "onnx:///models/a%20b")))
    assert not any(map(known, ("", "builtin:other", "onnx://host/a", "onnx:a", "http://x/")))
