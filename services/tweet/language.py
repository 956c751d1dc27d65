"""The language of a text, as `lang` gives it.

Judged by py3langid, the most exact of the libraries that README.md compares. Its model is loaded in the background, as
that may take a second of CPU; judging takes 0.1 ms, and up to 0.5 ms when nothing of the model is in the processor's
caches.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client import REGISTRY, CollectorRegistry, Counter
from rookery.api.v2.tweet_pb2 import MentionEntity, TagEntity, TweetEntities, UrlEntity

from services.tweet.language_model import Rank, load_model

UNKNOWN = "und"
"""BCP 47: undetermined."""
NO_WORDS = "zxx"
"""BCP 47: no linguistic content. X has it for what has links or media and no text."""
_HASHTAGS_ONLY, _MENTIONS_ONLY, _CASHTAGS_ONLY = "qht", "qam", "qct"
# The least probability; README.md has the measurement.
_SURE = 0.5
_CANDIDATES = 8  # of the 139, the most probable first; varieties of one language stand together
_WAIT_S = 0.05  # of the 500 ms that a post may take
# Varieties for which X has no code of their own, and what they are varieties of.
_PART_OF = {
    "ary": "ar",
    "arz": "ar",
    "grc": "el",
    "hbo": "he",
    "nb": "no",
    "nn": "no",
    "uzs": "uz",
    "wuu": "zh",
    "yue": "zh",
}

_Span = UrlEntity | MentionEntity | TagEntity


def words_of(text: str, found: TweetEntities) -> str:
    """What of a text is to be judged: no links, mentions, cashtags, emoji, nor the signs of hashtags.

    Empty if there is no letter besides entities: tags alone are names as often as words.
    """
    chars = _blanked(list(text), found.urls, found.mentions, found.cashtags)
    if not any(char.isalpha() for char in _blanked(chars.copy(), found.hashtags)):
        return ""
    for tag in found.hashtags:
        chars[tag.start] = " "
    return " ".join("".join(" " if unicodedata.category(char) in ("So", "Sk") else char for char in chars).split())


def _blanked(
    chars: list[str], *kinds: Iterable[UrlEntity] | Iterable[MentionEntity] | Iterable[TagEntity]
) -> list[str]:
    for spans in kinds:
        for span in spans:
            chars[span.start : span.end] = " " * (span.end - span.start)
    return chars


def code_without_words(found: TweetEntities) -> str:
    """The code of a text that has nothing but entities and signs. Links say nothing beside others."""
    kinds = [
        code
        for code, spans in (
            (_HASHTAGS_ONLY, found.hashtags),
            (_MENTIONS_ONLY, found.mentions),
            (_CASHTAGS_ONLY, found.cashtags),
        )
        if spans
    ]
    if kinds:
        return kinds[0] if len(kinds) == 1 else UNKNOWN
    return NO_WORDS if found.urls else UNKNOWN


def judged(words: str, rank: Rank) -> str:
    """The BCP 47 code of the language of some words, "und" when none is probable enough."""
    together: dict[str, float] = {}
    for code, probability in rank(words)[:_CANDIDATES]:
        code = _PART_OF.get(code, code)
        together[code] = together.get(code, 0.0) + probability
        if together[code] >= _SURE:
            return code if code != NO_WORDS else UNKNOWN
    return UNKNOWN


class Languages:
    """Tells the language of texts once the model is there.

    Args:
        registry: where the number of texts that came before the model was there is shown.
        load: gives the model; called in a thread.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY, load: Callable[[], Rank] = load_model) -> None:
        self._load = load
        self._rank: Rank | None = None
        self._ended = asyncio.Event()
        self._missed = Counter(
            "tweet_language_missed",
            "Tweets whose language was not judged, as the model was not there",
            registry=registry,
        )

    async def run(self) -> None:
        """Loads the model. Raises what the loading raised; until another try, nobody waits for it."""
        self._ended.clear()
        try:
            self._rank = await asyncio.to_thread(self._load)
        finally:
            self._ended.set()

    async def of(self, text: str, found: TweetEntities) -> str:
        """The code of a text's language, given its entities. Waits 50 ms at most for the model; "und" without it."""
        words = words_of(text, found)
        if not words:
            return code_without_words(found)
        if self._rank is None and not self._ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _WAIT_S)
        if self._rank is None:
            self._missed.inc()
            return UNKNOWN
        return judged(words, self._rank)
