"""What a text weighs and what is in it: twitter-text's rules, in time that grows with the text only.

Weights are twitter-text's configuration v3: a URL counts 23, an emoji 2, code points of four ranges 1 and all others 2;
280 at most. URLs and emoji are found by the library `twitter-text-parser`. Its URL pattern takes time that grows with
the third power of a run of short labels ("a.b.a.b..."), so it is given one word at a time, and no word of more than 32
dots; such a word counts as plain text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from rookery.api.v2.tweet_pb2 import MentionEntity, TagEntity, TweetEntities, UrlEntity
from twitter_text import extract_emojis_with_indices, extract_urls_with_indices

MAX_WEIGHT = 280
_URL_WEIGHT = 23
_EMOJI_WEIGHT = 2
_LIGHT = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))
_MAX_DOTS = 32
_MAX_WORD = 2_048
_INVALID = re.compile("[\ufffe\ufeff\uffff]")
_WORD = re.compile(r"\S+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# Python's `\w` has no combining marks, without which most words of Hindi or Thai cannot be written, nor the joiners and
# dots that twitter-text allows within a hashtag.
_MARKS = "".join(chr(i) for i in range(0x300, 0x1F000) if unicodedata.category(chr(i)).startswith("M"))
_TAG = rf"\w{_MARKS}\u200c\u200d\ua67e\u05be\u05f3\u05f4\uff5e\u301c\u309b\u309c\u30a0\u30fb\u3003\u0f0b\u0f0c\u00b7"
_HASHTAG = re.compile(rf"(?<![{_TAG}&/])[#＃](?![\ufe0f\u20e3])([{_TAG}]+)(?![{_TAG}#＃]|://)")
_CASHTAG = re.compile(r"(?<![\w$])\$([A-Za-z]{1,6}(?:[._][A-Za-z]{1,2})?)(?![\w$])")
_MENTION = re.compile(r"(?<![A-Za-z0-9_!#$%&*@＠/])[@＠]([A-Za-z0-9_]{1,20})(?![A-Za-z0-9_@＠\u00c0-\u024f]|://)")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, in code points."""

    start: int
    """First."""
    end: int
    """One past the last."""


def _urls(text: str) -> list[Span]:
    found: list[Span] = []
    for word in _WORD.finditer(text):
        part = word.group()
        if "." not in part or part.count(".") > _MAX_DOTS or len(part) > _MAX_WORD:
            continue
        for url in extract_urls_with_indices(part):
            start, end = url["indices"]
            found.append(Span(word.start() + start, word.start() + end))
    return found


def weight(text: str) -> int:
    """The weighted length of a text, in its NFC form."""
    text = unicodedata.normalize("NFC", text)
    total = 0
    heavy: dict[int, tuple[int, int]] = {}
    if not text.isascii():
        for emoji in extract_emojis_with_indices(text):
            start, end = emoji["indices"]
            heavy[start] = (end, _EMOJI_WEIGHT)
    for url in _urls(text):
        heavy[url.start] = (url.end, _URL_WEIGHT)
    place = 0
    while place < len(text):
        if place in heavy:
            place, more = heavy[place]
            total += more
            continue
        point = ord(text[place])
        total += 1 if any(first <= point <= last for first, last in _LIGHT) else 2
        place += 1
    return total


def problem_of(text: str) -> str | None:
    """Why a text cannot be a tweet; None when it can."""
    if not text.strip():
        return "must not be empty"
    if _INVALID.search(text) or "\x00" in text:
        return "has characters that no text may have"
    # A word weighs what its ASCII characters do, or is a URL; each gap weighs 1: what is far too long is not looked
    # into, for looking for URLs is what takes time.
    if sum(1 + min(_URL_WEIGHT, len(_NOT_ASCII.sub("", word))) for word in _WORD.findall(text)) - 1 > MAX_WEIGHT:
        return f"must weigh {MAX_WEIGHT} characters at most"
    weighs = weight(text)
    if weighs > MAX_WEIGHT:
        return f"must weigh {MAX_WEIGHT} characters at most; it weighs {weighs}"
    return None


def entities(text: str) -> TweetEntities:
    """What is in a text. Mentions have no ids yet."""
    urls = _urls(text)

    def outside(span: tuple[int, int]) -> bool:
        return not any(url.start < span[1] and span[0] < url.end for url in urls)

    return TweetEntities(
        hashtags=[
            TagEntity(start=m.start(), end=m.end(), tag=m.group(1))
            for m in _HASHTAG.finditer(text)
            if any(c.isalpha() or unicodedata.category(c).startswith("M") for c in m.group(1)) and outside(m.span())
        ],
        cashtags=[
            TagEntity(start=m.start(), end=m.end(), tag=m.group(1))
            for m in _CASHTAG.finditer(text)
            if outside(m.span())
        ],
        mentions=[
            MentionEntity(start=m.start(), end=m.end(), username=m.group(1))
            for m in _MENTION.finditer(text)
            if outside(m.span())
        ],
        urls=[_url_entity(text[url.start : url.end], url) for url in urls],
    )


def _url_entity(url: str, span: Span) -> UrlEntity:
    has_scheme = re.match(r"https?://", url, re.IGNORECASE)
    shown = url[has_scheme.end() :] if has_scheme else url
    return UrlEntity(
        start=span.start,
        end=span.end,
        url=url,
        expanded_url=url if has_scheme else f"http://{url}",
        display_url=shown if len(shown) <= 27 else shown[:26] + "…",
    )
