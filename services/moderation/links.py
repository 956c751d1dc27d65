"""Links: what they are under their disguise, whether they are forbidden, and how much their form tells against them.

Nothing is ever fetched: what a link is follows from its form alone. So a shortened link is known as one, and where it
leads is not; a list may name it all the same.
"""

from __future__ import annotations

import fnmatch
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.moderation.disguise import skeleton
from services.moderation.post import Post

_CANDIDATE = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,15}:)?[/\\]{2}[^\s<>\"'`(){}“”„«»‘’]+"
    r"|(?<![\w@%-])(?:[\w@%-]+(?:\.|。|．|｡)){1,8}[^\W\d_][\w-]*\.?(?::\d+)?(?:[/?#][^\s<>\"'`(){}“”„«»‘’]*)?",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]{1,15}:)?[/\\]{2}", re.IGNORECASE)
_INNER = re.compile(r"https?:/{1,2}[^\s&]+", re.IGNORECASE)
_DOTS = str.maketrans("。．｡", "...")
_DECODINGS = 3
_DEPTH = 3
_MOST = 50
SHORTENERS = frozenset(
    (
        *("bit.ly", "t.co", "tinyurl.com", "goo.gl", "ow.ly", "is.gd", "buff.ly", "rebrand.ly", "cutt.ly", "rb.gy"),
        *("shorturl.at", "t.ly", "v.gd", "tiny.cc", "bl.ink", "s.id", "lnkd.in", "soo.gd", "qr.ae", "adf.ly"),
    )
)
"""Hosts that stand for other addresses."""
_CHEAP = frozenset(("zip", "mov", "top", "xyz", "click", "loan", "win", "gq", "tk", "ml", "cf", "work", "rest", "icu"))


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is."""

    host: str
    """In lower case, ASCII look-alikes of letters, without port and trailing dots; an address in its usual form."""
    path: str
    """With its query, unescaped; begins with a slash."""
    doubt: float
    """How much its form tells against it: 0 for nothing, 1 for a disguise that no honest link has."""


def links_of(text: str, urls: Iterable[str] = ()) -> list[Link]:
    """All links in a text, those within links too (redirects), 50 at most.

    Args:
        text: as written.
        urls: links that others found in it.
    """
    found: dict[tuple[str, str], Link] = {}
    wanted = [(one, 0) for one in (*urls, *(match.group() for match in _CANDIDATE.finditer(text)))]
    while wanted and len(found) < _MOST:
        one, depth = wanted.pop(0)
        link = resolve(one)
        if link is None:
            continue
        before = found.get((link.host, link.path))
        if before is None or before.doubt < link.doubt:
            found[link.host, link.path] = link
        if depth < _DEPTH:
            wanted += [(inner, depth + 1) for inner in _INNER.findall(link.path)]
    return list(found.values())


def resolve(url: str) -> Link | None:
    """What a link is by its form; None for what cannot be one."""
    text = _unescaped(url.strip().translate(_DOTS))
    bare = _SCHEME.sub("", text).replace("\\", "/")
    try:
        parts = urlsplit(f"//{bare}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    doubt = 0.0
    if "@" in parts.netloc:
        doubt = 1.0  # the part before it is read as the host by people
    escaped = url.translate(_DOTS).partition("//")[2].partition("/")[0]
    if "%" in escaped:
        doubt = 1.0
    host = host.rstrip(".")
    address = _address(host)
    if address:
        host, doubt = address, max(doubt, 0.8)
    else:
        plain = _decoded(host)
        host = skeleton(plain)
        if host != plain.casefold():
            doubt = 1.0
        if "." not in host or not re.fullmatch(r"[\w.-]+", host):
            return None
        if host.rpartition(".")[2] in _CHEAP:
            doubt = max(doubt, 0.5)
        if host.removeprefix("www.") in SHORTENERS:
            doubt = max(doubt, 0.4)
        if host.count("-") >= 3 or host.count(".") >= 4:
            doubt = max(doubt, 0.4)
    if port not in (None, 80, 443):
        doubt = max(doubt, 0.4)
    path = parts.path or "/"
    return Link(host, path + (f"?{parts.query}" if parts.query else ""), doubt)


def _unescaped(text: str) -> str:
    for _ in range(_DECODINGS):
        once = unquote(text)
        if once == text:
            break
        text = once
    return text.translate(_DOTS)


def _address(host: str) -> str:
    """An IP address in its usual form, whatever form it is in; empty for what is none."""
    try:
        address = ip_address(host)
    except ValueError:
        if not re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)){0,3}", host):
            return ""
        try:  # 2130706433, 0x7f.1, 0177.0.0.1, as browsers read them
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _decoded(host: str) -> str:
    """The host with `xn--` labels as they are shown."""
    labels = []
    for label in host.split("."):
        if label.startswith("xn--"):
            try:
                labels.append(label[4:].encode("ascii").decode("punycode"))
                continue
            except (UnicodeError, ValueError):
                pass
        labels.append(label)
    return ".".join(labels)


@dataclass(frozen=True, slots=True)
class _Pattern:
    host: str
    path: str

    def matches(self, link: Link) -> bool:
        host = link.host.removeprefix("www.")
        if not fnmatch.fnmatchcase(host, self.host) and not fnmatch.fnmatchcase(link.host, self.host):
            return False
        return not self.path or fnmatch.fnmatchcase(link.path, self.path)


class ForbiddenLinks:
    """A list of patterns: hosts with `*`, each perhaps with a path: `bad.example`, `*.bad.example`, `short.example/x*`.

    Raises ValueError for a line that is no pattern, with its number.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._patterns: list[_Pattern] = []
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            host, slash, path = text.partition("/")
            plain = skeleton(_decoded(host.lower())).rstrip(".")
            if not re.fullmatch(r"[\w.*\[\]:-]+", plain) or not (plain.strip("*.") and ("." in plain or "[" in host)):
                raise ValueError(f"line {number} is no pattern of links: {text!r}")
            self._patterns.append(_Pattern(plain.strip("[]"), f"/{path}" if slash else ""))

    @classmethod
    def read(cls, path: Path) -> ForbiddenLinks:
        """From a file. Raises OSError, ValueError."""
        return cls(path.read_text(encoding="utf-8").splitlines())

    def __len__(self) -> int:
        return len(self._patterns)

    def forbids(self, links: Sequence[Link]) -> bool:
        """Whether one of these links is on the list."""
        return any(pattern.matches(link) for link in links for pattern in self._patterns)


class LinkCheck:
    """Whether a post has a forbidden link; the list is read again when its file changed.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = path.stat().st_mtime_ns
        self._list = ForbiddenLinks.read(path)

    def reload(self) -> bool:
        """Reads the file again if it changed; whether it did. Raises OSError, ValueError: then the list stays."""
        changed = self._path.stat().st_mtime_ns
        if changed == self._changed:
            return False
        self._list = ForbiddenLinks.read(self._path)
        self._changed = changed
        return True

    async def forbidden(self, post: Post) -> bool:
        """Whether it has one."""
        return self._list.forbids(links_of(post.text, post.urls))
