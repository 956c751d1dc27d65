"""What a text weighs and what is in it: twitter-text's rules, in time that grows with the text only.

Weights are twitter-text's configuration v3: a URL counts 23, an emoji 2, code points of four ranges 1 and all others 2;
280 at most. URLs and emoji are found by the library `twitter-text-parser`. Its URL pattern takes time that grows with
the third power of a run of short labels ("a.b.a.b..."), so it is given one word at a time, and no word with more than
32 dots in what may be a host; such a word counts as plain text.

`tests/unit/test_twitter_text.py` compares all of it with twitter-text itself, and lists the differences.
"""

from __future__ import annotations

import itertools
import pkgutil
import re
import string
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from rookery.api.v2.tweet_pb2 import MentionEntity, TagEntity, TweetEntities, UrlEntity
from rookery.api.v2.user_pb2 import UserEntities


@contextmanager
def _with_resources() -> Iterator[None]:
    """Stands in for `pkg_resources` inside the block, of which twitter_text uses one function, to read its own file.

    The real one takes as long to load as all patterns do, and has left newer releases of setuptools.
    """
    if "pkg_resources" in sys.modules:
        yield
        return
    stand_in = ModuleType("pkg_resources")
    stand_in.resource_string = lambda module, name: pkgutil.get_data(module.rpartition(".")[0], name)  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


with _with_resources():
    from twitter_text import extract_emojis_with_indices
    from twitter_text.regexp.extract_url import extract_url as _URL
    from twitter_text.regexp.invalid_url_without_protocol_preceding_chars import (
        invalid_url_without_protocol_preceding_chars as _NO_BARE_URL_AFTER,
    )
    from twitter_text.regexp.valid_ascii_domain import valid_ascii_domain as _ASCII_HOST
    from twitter_text.regexp.valid_tco_url import valid_tco_url as _SHORT_URL

MAX_WEIGHT = 280
_URL_WEIGHT = 23
_EMOJI_WEIGHT = 2
_LIGHT = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))
_TEXT_SIGNS = frozenset("©®")  # emoji only with a selector behind them
_MAX_DOTS = 32
_MAX_WORD = 2_048
_MAX_LABEL = 63
_MAX_SLUG = 40  # of a t.co link
_SHOWN_TAIL = 15  # of a link's path; what X's answers show, whatever the host's length
_INVALID = re.compile("[\ufffe\ufeff\uffff]")
_WORD = re.compile(r"\S+")
_PLACED_WORD = re.compile(r"\s?\S+")  # what is before a link matters
_IDEOGRAPHIC_DOT = re.compile("[。．｡]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_LAST_LETTER = 0x3FFFF  # above are selectors and private use only
_NO_HOST = re.compile(r"[/?#]|\.{2,}")
_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def _of_categories(*kinds: str) -> list[str]:
    """For each kind the inside of a character class: all code points of the general categories that it names."""
    runs: list[list[list[int]]] = [[] for _ in kinds]
    point = 0
    for category, same in itertools.groupby(map(unicodedata.category, map(chr, range(_LAST_LETTER + 1)))):
        end = point + len(list(same))
        for kind, found in zip(kinds, runs, strict=True):
            if category in kind:
                if found and found[-1][1] == point - 1:
                    found[-1][1] = end - 1
                else:
                    found.append([point, end - 1])
        point = end
    return ["".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found) for found in runs]


# What twitter-text lets a hashtag have: letters, marks (without which most words of Hindi or Thai cannot be written),
# decimal digits, and joiners and dots that some scripts have within a word. One letter or mark must be among them.
_LETTERS, _DIGITS = _of_categories("Lu Ll Lt Lm Lo Mn Mc Me", "Nd")
_TAG = (
    _LETTERS
    + _DIGITS
    + r"_\u200c\u200d\ua67e\u05be\u05f3\u05f4\uff5e\u301c\u309b\u309c\u30a0\u30fb\u3003\u0f0b\u0f0c\u00b7"
)
_LETTER = re.compile(f"[{_LETTERS}]")
# Selectors of an emoji's look are marks, but belong to no word before.
_HASHTAG = re.compile(rf"(?:(?<![{_TAG}&])|(?<=[\ufe0e\ufe0f]))[#＃](?![\ufe0f\u20e3])([{_TAG}]++)(?![#＃]|://)")
_SPACES = r"\x09-\x0d\x20\x85\xa0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_AFTER_CASHTAG = r"\t-\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff!'#%&()*+,\\\-./:;<=>?@\[\]^_{|}~$"
_CASHTAG = re.compile(rf"(?:^|(?<=[{_SPACES}]))\$([A-Za-z]{{1,6}}(?:[._][A-Za-z]{{1,2}})?)(?=\Z|[{_AFTER_CASHTAG}])")
# `@name/list` is a list of lists' older names, and no mention of a person.
_MENTION = re.compile(r"[@＠]([A-Za-z0-9_]{1,20}+)(/[A-Za-z][A-Za-z0-9_-]{0,24}+)?")
_LATIN_ACCENTS = (
    r"\xc0-\xd6\xd8-\xf6\xf8-\xff\u0100-\u024f\u0253\u0254\u0256\u0257\u0259\u025b\u0263\u0268\u026f\u0272\u0289\u028b"
    r"\u02bb\u0300-\u036f\u1e00-\u1eff"
)
_NO_MENTION_BEFORE = re.compile(rf"[@＠A-Za-z0-9_{_LATIN_ACCENTS}]|://")
_NO_MENTION_AFTER = frozenset(string.ascii_letters + string.digits + "_!#$%&*@＠")
_RETWEET = re.compile(r"(?:^|[^A-Za-z0-9_+~.-])[Rr][Tt]$")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text, in code points."""

    start: int
    """First."""
    end: int
    """One past the last."""
    word: str = ""
    """The part, without the sign of a tag or a mention."""


def _urls(text: str) -> list[Span]:
    found: list[Span] = []
    for word in _PLACED_WORD.finditer(text):
        part = word.group()
        if "." not in part or len(part) > _MAX_WORD:
            continue
        if part.count(".") > _MAX_DOTS and max(host.count(".") for host in _NO_HOST.split(part)) > _MAX_DOTS:
            continue
        for start, end in _urls_of_word(part):
            found.append(Span(word.start() + start, word.start() + end, part[start:end]))
    return found


def _urls_of_word(word: str) -> Iterator[tuple[int, int]]:
    for found in _URL.finditer(word):
        _, before, url, scheme, host, _, path, _ = found.groups()
        start, end = found.span(3)
        if not _can_be_host(host):
            continue
        if scheme:
            short = _SHORT_URL.search(url)
            if short is None:
                yield start, end
            elif len(short[1] or "") <= _MAX_SLUG:
                yield start, start + short.end()
        elif not _NO_BARE_URL_AFTER.match(before):
            # Without a scheme only what is Latin is the host, as no space is needed around it in other scripts.
            hosts = [(start + latin.start(), start + latin.end()) for latin in _ASCII_HOST.finditer(host)]
            if hosts and path:
                hosts[-1] = (hosts[-1][0], end)
            yield from hosts


def _can_be_host(host: str) -> bool:
    """Whether each label has 1 to 63 characters in the form that DNS has (RFC 1035, RFC 3492)."""
    if host.startswith("xn--") and not _ASCII_HOST.search(host):
        return False
    return all(0 < _encoded_length(label) <= _MAX_LABEL for label in host.split("."))


def _encoded_length(label: str) -> int:
    if label.isascii() or len(label) > _MAX_LABEL:
        return len(label)
    parts = _IDEOGRAPHIC_DOT.split(label)
    return len(parts) - 1 + sum(len(part) if part.isascii() else len(part.encode("punycode")) + 4 for part in parts)


def _hashtags(text: str) -> Iterator[Span]:
    for found in _HASHTAG.finditer(text):
        if _LETTER.search(found[1]):
            yield Span(*found.span(), found[1])


def _cashtags(text: str) -> Iterator[Span]:
    for found in _CASHTAG.finditer(text):
        yield Span(*found.span(), found[1])


def _mentions(text: str) -> Iterator[tuple[Span, bool]]:
    """Mentions, and for each whether it is one of a list."""
    taken = 0
    for found in _MENTION.finditer(text):
        start, end = found.span()
        # A sign directly behind another mention has nothing before it that is not taken.
        free = start == 0 or (
            start > taken
            and (
                text[start - 1] not in _NO_MENTION_AFTER or _RETWEET.search(text, max(0, start - 3), start) is not None
            )
        )
        if free:
            taken = end
            if not _NO_MENTION_BEFORE.match(text, end):
                yield Span(start, end, found[1]), found[2] is not None


def weight(text: str) -> int:
    """The weighted length of a text, in its NFC form."""
    text = unicodedata.normalize("NFC", text)
    total = 0
    heavy: dict[int, tuple[int, int]] = {}
    if not text.isascii():
        for emoji in extract_emojis_with_indices(text):
            start, end = emoji["indices"]
            if end - start > 1 or text[start] not in _TEXT_SIGNS:
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
    found = [(url, "url") for url in _urls(text)]
    if "#" in text or "＃" in text:
        found += [(tag, "hashtag") for tag in _hashtags(text)]
    if "@" in text or "＠" in text:
        found += [(mention, "list" if of_list else "mention") for mention, of_list in _mentions(text)]
    if "$" in text:
        found += [(tag, "cashtag") for tag in _cashtags(text)]
    # Of two that overlap, the first is one, as it is in twitter-text; of two at one place, the first kind above.
    made = TweetEntities()
    taken = 0
    for span, kind in sorted(found, key=lambda each: each[0].start):
        if span.start < taken:
            continue
        taken = span.end
        match kind:
            case "url":
                made.urls.append(_url_entity(span))
            case "hashtag":
                made.hashtags.append(TagEntity(start=span.start, end=span.end, tag=span.word))
            case "cashtag":
                made.cashtags.append(TagEntity(start=span.start, end=span.end, tag=span.word))
            case "mention":
                made.mentions.append(MentionEntity(start=span.start, end=span.end, username=span.word))
    return made


def profile_entities(description: str, url: str) -> UserEntities:
    """What is in a profile: in its description, and its `url`, which is one link as a whole. Mentions have no ids.

    A part with nothing in it is not set, and nothing is when neither has anything.
    """
    made = UserEntities()
    if url:
        made.url.urls.append(_url_entity(Span(0, len(url), url)))
    found = entities(description)
    if found.ByteSize():
        made.description.urls.extend(found.urls)
        made.description.hashtags.extend(found.hashtags)
        made.description.mentions.extend(found.mentions)
        made.description.cashtags.extend(found.cashtags)
    return made


def _url_entity(link: Span) -> UrlEntity:
    has_scheme = _SCHEME.match(link.word)
    return UrlEntity(
        start=link.start,
        end=link.end,
        url=link.word,
        expanded_url=link.word if has_scheme else f"http://{link.word}",
        display_url=_shown(link.word[has_scheme.end() :] if has_scheme else link.word),
    )


def _shown(link: str) -> str:
    """A link without its scheme as X shows it: the host, without `www.`, and the beginning of the rest."""
    if link[:4].lower() == "www.":
        link = link[4:]
    host = re.match(r"[^/?#]*", link)
    end = (host.end() if host else 0) + _SHOWN_TAIL
    return link if len(link) <= end else link[:end] + "…"
