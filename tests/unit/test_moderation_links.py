"""Links under their disguise: each form of a forbidden host is found, and honest links are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.moderation.disguise import skeleton, undisguised
from services.moderation.links import ForbiddenLinks, LinkCheck, links_of, resolve
from services.moderation.post import Post

LIST = ForbiddenLinks(["bad.example", "*.bad.example  # and below", "10.0.0.7", "short.example/x*", "bäd.example"])


@pytest.mark.parametrize(
    "text",
    [
        "http://bad.example",
        "go to bad.example now",
        "HTTPS://WWW.BAD.EXAMPLE/path?x=1#y",
        "http://bad.example./",
        "http://bad.example:8443/",
        "http://a.b.bad.example",
        "http://honest.example@bad.example/login",
        "http://user:bad.pass@bad.example",
        "http://bad%2eexample",
        "http://%62%61%64.example",
        "http://%2562ad.example",
        "http://bad。example",
        "http://ｂａｄ.example",
        "http://bаd.example",  # a Cyrillic a
        "http://xn--bd-7kc.example",  # the same, as DNS has it
        "http:\\\\bad.example\\x",
        "//bad.example/x",
        "https://honest.example/?next=http://bad.example/",
        "https://honest.example/?next=http%3A%2F%2Fbad.example%2F",
        "https://honest.example/?next=http%253A%252F%252Fbad.example",
        "(http://bad.example)",
        "“http://bad.example”",
        "http://10.0.0.7/",
        "http://0x0a000007/",
        "http://167772167/",
        "http://012.0.0.7/",
        "http://0xa.7/",
        "http://[::ffff:10.0.0.7]/",
        "short.example/xyz",
        "http://b\u00e4d.example",
        "http://ba\u200bd.example",
    ],
)
def test_a_forbidden_link_is_found_in_any_disguise(text: str) -> None:
    assert LIST.forbids(links_of(text)), links_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "nothing here",
        "https://honest.example/bad.example.html",
        "https://notbad.example",
        "https://bad.example.org",
        "short.example/y",
        "10.0.0.8",
        "mail me: someone@honest.example",
        "version 1.2.3 of bad",
        "a.b",
        "http://",
        "http://[",
        "//",
        "%",
        "\\\\",
        "e.g. this, i.e. that",
    ],
)
def test_what_is_not_on_the_list_is_left_alone(text: str) -> None:
    assert not LIST.forbids(links_of(text)), links_of(text)


def test_disguises_tell_against_a_link_and_plain_links_are_beyond_doubt() -> None:
    doubts = {
        "https://www.example.org/path": 0.0,
        "https://bit.ly/abc": 0.4,
        "https://cheap.xyz": 0.5,
        "http://192.0.2.7/": 0.8,
        "http://example.org@192.0.2.7/": 1.0,
        "http://ex\u0430mple.org/": 1.0,
    }
    for url, doubt in doubts.items():
        link = resolve(url)
        assert link is not None and link.doubt == doubt, url


def test_hostile_texts_cost_no_more_than_long_ones() -> None:
    import time

    began = time.process_time()
    for text in ("a" * 16_000, "a." * 8_000, "%25" * 5_000, "http://" * 2_000, "@" * 16_000, "1.1." * 4_000):
        assert len(links_of(text)) <= 50
        undisguised(text)
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("line", ["a b", "*", "*.*", "http://x.example/", "!"])
def test_a_line_that_is_no_pattern_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        ForbiddenLinks(["good.example", line])


async def test_the_list_is_read_again_when_it_changed_and_stays_when_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("one.example\n")
    check = LinkCheck(path)
    post = Post(1, "http://two.example")
    assert not check.reload() and not await check.forbidden(post)
    for number, content in enumerate(("two.example\n", "not a pattern\n"), 1):
        path.write_text(content)
        import os

        os.utime(path, ns=(number, number))
        if number == 1:
            assert check.reload()
        else:
            with pytest.raises(ValueError, match="line 1"):
                check.reload()
        assert await check.forbidden(post)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("H e l l o", "hello"),
        ("h3llo w0rld", "hello world"),
        ("heeeello", "hello"),
        ("h.e.l.l.o", "hello"),
        ("h*llo", "hllo"),
        ("\u041dello", "hello"),
        ("see you at 10", "see you at 10"),
        ("wow! 3:1", "wow! 3:1"),
    ],
)
def test_words_are_read_as_people_read_them(text: str, plain: str) -> None:
    assert undisguised(text) == plain


def test_a_skeleton_of_plain_text_is_the_text() -> None:
    assert skeleton("Plain text, 123") == "plain text, 123"
