"""The words that people are found by, with no I/O.

A person is found by what their username, or their name from any of its words on, begins with: "lov" and "ada l" find
Ada Lovelace. Words are compared without regard to case, width and spaces (Unicode's NFKC, casefolded).
"""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 30
"""Code points of a word that are kept and compared: with an id, 4 bytes each fill a cursor (mesh/paging.py)."""
AFTER_ALL = "\U0010ffff"
"""Follows each word that may continue a prefix: the last code point, which is no character."""
_MAX_WORDS = 25  # of a name: 50 characters have no more, if each stands for one
_LEADING = re.compile(r"^[\W_]+")


def folded(text: str) -> str:
    """The form in which words are compared."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def words_of(username: str, name: str) -> set[str]:
    """The words of a person; at least the username."""
    parts = folded(name).split(" ")[:_MAX_WORDS]
    names = (" ".join(parts[place:]) for place in range(len(parts)))
    bare = (_LEADING.sub("", one) or one for one in names)  # brackets, quotes and flags are no part of a name
    return {word[:MAX_LENGTH] for word in (folded(username), *bare) if word}


def prefix_of(query: str) -> str:
    """What words must begin with to match a query; empty when it has nothing to look for."""
    return folded(query).lstrip("@ ")[:MAX_LENGTH]
