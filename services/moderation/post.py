"""What the checks look at: a post to be, or one that is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_ADDRESSED = re.compile(r"@\w+")
_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)


@dataclass(frozen=True)
class Post:
    """A post."""

    author_id: int
    """Who wrote it."""
    text: str
    """As written, with choices of its poll."""
    urls: tuple[str, ...] = ()
    """Links that were found in it."""
    mentions: int = 0
    """How many people it mentions."""
    reply: bool = False
    """Whether it answers somebody."""

    @cached_property
    def words(self) -> str:
        """The text without links and names of people, which say nothing of its tone."""
        text = self.text
        for url in self.urls:
            text = text.replace(url, " ")
        return _ADDRESSED.sub(" ", _LINK.sub(" ", text))
