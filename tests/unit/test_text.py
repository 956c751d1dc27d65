"""What a text weighs and what is in it, by well-known facts of twitter-text; and hostile texts, which must be quick."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from views.text import MAX_WEIGHT, entities, problem_of, profile_entities, weight

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
URL = "https://example.com/a"
BUDGET_S = 0.5
"""CPU time for the worst text; a decent one takes well under 1 ms."""


def tags(text: str) -> list[str]:
    return [found.tag for found in entities(text).hashtags]


def cashtags(text: str) -> list[str]:
    return [found.tag for found in entities(text).cashtags]


def mentions(text: str) -> list[str]:
    return [found.username for found in entities(text).mentions]


def urls(text: str) -> list[str]:
    return [found.url for found in entities(text).urls]


# --- weights


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 280, 280),
        ("あ", 2),
        ("한" * 140, 280),
        ("é", 1),
        ("e\u0301", 1),  # counted in NFC
        ("ჿ", 1),  # U+10FF, the last of the first light range
        ("ᄀ", 2),  # U+1100, the one behind
        ("\u2010\u201f", 2),  # general punctuation counts 1 each
        ("\u2032\u2037", 2),
        ("€", 2),
        ("\U0001f600", 2),
        (FAMILY, 2),
        ("\U0001f44d\U0001f3fd", 2),  # a skin tone is part of its emoji
        ("\U0001f1e9\U0001f1ea", 2),  # so are both halves of a flag
        ("❤\ufe0f", 2),
        ("a\U0001f600b", 4),
        (URL, 23),
        ("https://example.com/" + "a" * 200, 23),
        ("example.com", 23),
        (f"{URL} {URL}", 47),
        (f"見て{URL}見て", 4 + 23 + 4),
        ("1.5 a.b", 7),  # neither is an address
        ("", 0),
    ],
)
def test_weights(text: str, expected: int) -> None:
    assert weight(text) == expected


@given(
    st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x10FF, exclude_characters=".#@$"), max_size=60)
)
def test_light_text_weighs_its_length_in_nfc(text: str) -> None:
    if not any(unicodedata.category(char) == "So" for char in text):  # signs such as ©, which may be emoji
        composed = unicodedata.normalize("NFC", text)  # which may be beyond the range, as Ṵ is
        assert weight(text) == sum(1 if char <= "\u10ff" else 2 for char in composed)


@given(st.text(max_size=60))
def test_a_text_and_its_nfc_form_weigh_the_same(text: str) -> None:
    assert weight(text) == weight(unicodedata.normalize("NFC", text))


# --- what can be a tweet


@pytest.mark.parametrize(
    "text",
    [
        "a" * 280,
        "あ" * 140,
        FAMILY * 140,
        f"{URL} " + "a" * 256,
        "https://example.com/" + "a" * 2_000,
        "#" * 280,
        "a\nb",
        (f"{URL}{'a' * 200}.html " * 11).strip() + " " + "b" * 16,
        " ".join("ab" * 47) + " " * 93,
    ],
    ids=lambda text: repr(text[:14]),
)
def test_what_just_fits_can_be_a_tweet(text: str) -> None:
    assert weight(text) <= MAX_WEIGHT
    assert problem_of(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" * 281, "281"),
        ("あ" * 140 + "a", "281"),
        (FAMILY * 140 + "a", "281"),
        (f"{URL} " + "a" * 257, "281"),
        ("a " * 2_000, "280"),
        ("", "empty"),
        (" \n\t\u3000", "empty"),
        ("a\ufeffb", "characters"),
        ("a\ufffeb", "characters"),
        ("a\uffffb", "characters"),
        ("a\x00b", "characters"),
    ],
    ids=lambda value: repr(value)[:16],
)
def test_what_cannot_be_a_tweet_is_told_why(text: str, reason: str) -> None:
    problem = problem_of(text)
    assert problem is not None
    assert reason in problem


# --- what is in it


@given(st.text(alphabet="a #＃@＠$.:/é語\U0001f600\u200d\ufe0f1_", max_size=40))
def test_each_entity_is_where_it_says_and_none_overlaps_a_link(text: str) -> None:
    found = entities(text)
    for tag in found.hashtags:
        assert text[tag.start] in "#＃"
        assert text[tag.start + 1 : tag.end] == tag.tag
    for tag in found.cashtags:
        assert text[tag.start : tag.end] == f"${tag.tag}"
    for mention in found.mentions:
        assert text[mention.start] in "@＠"
        assert text[mention.start + 1 : mention.end] == mention.username
    for url in found.urls:
        assert text[url.start : url.end] == url.url
    taken = [range(url.start, url.end) for url in found.urls]
    others = [range(tag.start, tag.end) for tag in [*found.hashtags, *found.cashtags]]
    others += [range(mention.start, mention.end) for mention in found.mentions]
    assert not [(other, link) for other in others for link in taken if set(other) & set(link)]


def test_offsets_are_code_points_behind_emoji_and_cjk() -> None:
    text = f"{FAMILY}語 #tag @ada $ABC {URL}"
    found = entities(text)
    places = [
        (found.hashtags[0].start, "#tag"),
        (found.mentions[0].start, "@ada"),
        (found.cashtags[0].start, "$ABC"),
        (found.urls[0].start, URL),
    ]
    assert all(place == text.index(part) for place, part in places)
    assert found.hashtags[0].start == len(FAMILY) + 2 == 9  # not UTF-16 units, not bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#tag", ["tag"]),
        ("＃tag", ["tag"]),
        ("a #b, #c.", ["b", "c"]),
        ("#1a #a1 #a_b", ["1a", "a1", "a_b"]),
        ("#été #日本語 #Ünï", ["été", "日本語", "Ünï"]),
        ("#हिन्दी #ไทย้", ["हिन्दी", "ไทย้"]),  # combining marks belong to the word
        ("#123 #1 #_ #", []),  # a letter is needed
        ("a#b &#c", []),
        ("日本語#tag", []),
        ("(#a) “#b” !#c", ["a", "b", "c"]),
        ("##a", ["a"]),
        ("#a#b", []),  # twitter-text: no hashtag directly before another sign
        ("#a-b", ["a"]),
        ("https://example.com/#a", []),
        ("https://example.com/ #a", ["a"]),
        ("#\ufe0f\u20e3", []),  # the key cap is an emoji
        ("#a\U0001f600", ["a"]),
    ],
)
def test_hashtags(text: str, expected: list[str]) -> None:
    assert tags(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ada", ["ada"]),
        ("＠ada", ["ada"]),
        ("hi @ada, @bob_2.", ["ada", "bob_2"]),
        ("語@ada", ["ada"]),  # no space is needed behind CJK
        ("a@ada", []),
        ("ada@example.com", []),
        ("@@ada", []),
        ("@ada@bob", []),
        ("@adaé", []),
        ("@ada://", []),
        ("(@ada)", ["ada"]),
        ("@" + "a" * 20, ["a" * 20]),
        ("@" + "a" * 21, []),  # never a part of a longer name
        ("@", []),
        ("https://example.com/@ada", []),
    ],
)
def test_mentions(text: str, expected: list[str]) -> None:
    assert mentions(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$TWTR $a", ["TWTR", "a"]),
        ("$TWTR.", ["TWTR"]),
        ("$BRK.A $RDS_B", ["BRK.A", "RDS_B"]),
        ("$1 $100 $", []),
        ("$ABCDEFG", []),
        ("a$B $$A $A$B", ["A"]),
        ("($ABC)", []),
    ],
)
def test_cashtags(text: str, expected: list[str]) -> None:
    assert cashtags(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URL, [URL]),
        (f"see {URL}, and {URL}.", [URL, URL]),
        (f"({URL})", [URL]),
        ("example.com", ["example.com"]),
        ("user@example.com", []),
        ("a.b 1.2 e.g. ...", []),
        ("ftp://example.com", []),
        ("http://", []),
        ("https://localhost/", []),
    ],
)
def test_urls(text: str, expected: list[str]) -> None:
    assert urls(text) == expected


def test_a_link_has_its_scheme_when_expanded_and_none_when_shown() -> None:
    (plain,) = entities("example.com").urls
    assert (plain.expanded_url, plain.display_url) == ("http://example.com", "example.com")
    (long,) = entities("https://example.com/" + "a" * 50).urls
    assert long.expanded_url == long.url
    assert long.display_url == "example.com/" + "a" * 14 + "…"
    (loud,) = entities("HTTPS://EXAMPLE.COM").urls
    assert loud.expanded_url == loud.url


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("https://www.example.com/watch?v=abcdefgh", "example.com/watch?v=abcdef…"),
        ("https://developer.example.com/en/use-cases/shops", "developer.example.com/en/use-cases/s…"),
        ("https://example.com/en/community/xy", "example.com/en/community/x…"),
        ("https://example.com/en/community", "example.com/en/community"),
        ("http://example.com?query=string&more", "example.com?query=string&m…"),
        ("https://" + "long-label." * 5 + "example.com/", "long-label." * 5 + "example.com/"),
        ("WWW.example.com", "example.com"),
    ],
)
def test_a_link_is_shown_with_its_host_and_15_characters_more(link: str, shown: str) -> None:
    (found,) = entities(link).urls
    assert found.url == link
    assert found.display_url == shown


# --- profiles


def test_a_profile_has_entities_of_its_link_and_its_description() -> None:
    found = profile_entities("I am @ada of example.com, #math & $ABC", "https://www.example.com/ada")
    (link,) = found.url.urls
    assert (link.start, link.end, link.url, link.display_url) == (
        0,
        27,
        "https://www.example.com/ada",
        "example.com/ada",
    )
    assert [(tag.start, tag.end, tag.tag) for tag in found.description.hashtags] == [(26, 31, "math")]
    assert [tag.tag for tag in found.description.cashtags] == ["ABC"]
    assert [mention.username for mention in found.description.mentions] == ["ada"]
    assert [url.expanded_url for url in found.description.urls] == ["http://example.com"]


def test_what_a_profile_has_nothing_of_is_not_set() -> None:
    assert profile_entities("", "") == profile_entities("just words", "")
    assert not profile_entities("just words", "").ByteSize()
    assert not profile_entities("just words", "https://example.com").HasField("description")
    assert not profile_entities("#words", "").HasField("url")
    assert profile_entities("", "no-address").url.urls[0].url == "no-address"  # whatever it is, it is one link


# --- hostile texts


@pytest.mark.parametrize(
    "text",
    [
        "a.b." * 1_000,
        "#" * 4_000,
        "@" * 4_000,
        "$" * 4_000,
        "#" + "a" * 4_000,
        "#" + "1" * 4_000,
        "#1" * 2_000,
        "#1 " * 1_333,
        "@a" * 2_000,
        "$a" * 2_000,
        "http://" + "a" * 3_000,
        "http://" + "a." * 1_500,
        "http://a.com/" + "(" * 2_000,
        "http://a.com/" + "()" * 900,
        "http://a.com/" + "&a=b" * 500,
        "http://" * 600,
        "http://a.co/" * 300,
        "www." * 8 + "a" * 2_000,
        "-" * 2_000 + ".com",
        "a-" * 1_000 + ".com",
        ("a." * 31 + "b ") * 60,
        ("a." * 31 + "b/") * 30,
        ("é." * 31 + "b ") * 60,
        ("é" * 55 + ".") * 30 + "com",
        "http://a.com/" + "." * 2_000,
        "rt@a" * 1_000,
        "@a/b" * 1_000,
        "$a.b" * 1_000,
        "語.com" * 400,
        "é" * 2_040 + ".com",
        "\u200d" * 4_000,
        "\ufe0f" * 4_000,
        FAMILY * 500,
        "\U0001f468\u200d" * 1_300,
        "\U0001f1e9" * 4_000,
        "a\u0301" * 2_000,
        "\u0301" * 4_000,
        "#\u0301" * 2_000,
        " " * 4_000 + "a",
    ],
    ids=lambda text: repr(text[:14]),
)
def test_no_text_takes_long(text: str) -> None:
    begun = time.process_time()
    if problem_of(text) is None:  # else nobody looks into it
        entities(text)
    assert time.process_time() - begun < BUDGET_S
