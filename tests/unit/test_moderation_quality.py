"""How good the models are on posts that were invented for this: precision and recall, printed, and not below what they
were when the limits here were written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.moderation.domain import LIMIT_SPAM, LIMIT_TOXICITY
from services.moderation.links import ForbiddenLinks, links_of
from services.moderation.models.words import Words
from services.moderation.post import Post
from services.moderation.spam import SpamModel, content_of, with_conduct

ROOT = Path(__file__).resolve().parents[2]
POSTS = ROOT / "tests" / "data" / "moderation.tsv"
LINKS = ROOT / "services" / "moderation" / "forbidden_links.txt"


@dataclass(frozen=True)
class Labelled:
    """One line."""

    label: str
    post: Post
    posts: int
    repeats: int
    crowd: int
    age_hours: float


def labelled() -> Iterator[Labelled]:
    for line in POSTS.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            label, text, posts, repeats, crowd, age, mentions = line.split("\t")
            post = Post(1, text, mentions=int(mentions))
            yield Labelled(label, post, int(posts), int(repeats), int(crowd), float(age))


ALL = list(labelled())


def test_there_is_enough_to_measure_with() -> None:
    assert len(ALL) >= 300
    assert len({one.post.text for one in ALL}) == len(ALL)
    labels = [one.label for one in ALL]
    assert {label: labels.count(label) >= 25 for label in ("safe", "toxic", "spam", "link")} == dict.fromkeys(
        labels, True
    )


@pytest.mark.parametrize(("label", "precision", "recall"), [("toxic", 0.9, 0.9), ("spam", 0.95, 0.85), ("link", 1, 1)])
def test_precision_and_recall(label: str, precision: float, recall: float) -> None:
    words, spam, links = Words.load(), SpamModel.load(), ForbiddenLinks.read(LINKS)

    def says(one: Labelled) -> bool:
        if label == "toxic":
            return words([one.post.words])[0] > LIMIT_TOXICITY
        if label == "spam":
            conduct = {"posts": one.posts, "repeats": one.repeats, "crowd": one.crowd, "age_hours": one.age_hours}
            return spam.score(with_conduct(content_of(one.post), **conduct)) > LIMIT_SPAM  # type: ignore[arg-type]
        return links.forbids(links_of(one.post.text))

    said = [one for one in ALL if says(one)]
    right = [one for one in said if one.label == label]
    wanted = [one for one in ALL if one.label == label]
    found = (len(right) / len(said), len(right) / len(wanted))
    print(
        f"report: moderation: {label}: precision {found[0]:.3f}, recall {found[1]:.3f}"
        f" ({len(said)} said of {len(ALL)}, {len(wanted)} to be found)"
    )
    assert found[0] >= precision and found[1] >= recall, [one.post.text for one in said if one.label != label]
