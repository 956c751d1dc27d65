"""Who sees what: pure rules, the same on every surface.

A tweet shows to a viewer if its author does, and of a retweet the author of the original too. What does not show is
told apart from what does not exist by nothing.

| the author | shows to |
|---|---|
| is the viewer | the viewer |
| is deactivated, suspended or erased | nobody |
| blocks the viewer, or is blocked | not to the viewer |
| is protected | followers |
| is muted | the viewer, but not on what comes to them unasked (`Surface.feed`) |

| the tweet | shows, if its author does, to |
|---|---|
| is deleted, or was removed by a moderator | nobody |
| is limited | its author, those who follow the author, and on `Surface.TWEET` who asks for just this tweet |

A limited tweet that another one repeats, quotes or answers was not asked for, wherever the other shows: so nothing that
points at a tweet carries it further than it goes by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import product

from mesh.cache.records import VERSION_BYTES
from views.entry import Entry
from views.record import PROTECTED, author_of, is_limited, is_there


class Surface(Enum):
    """Where something is to be shown."""

    HOME = "home"
    """The home timeline."""
    LIST = "list"
    """The timeline of a list."""
    MENTIONS = "mentions"
    """What mentions somebody."""
    PROFILE = "profile"
    """A person's own tweets, the pinned one too."""
    TWEET = "tweet"
    """Asked for by id."""
    CONVERSATION = "conversation"
    """Replies."""
    QUOTES = "quotes"
    """Quotes and retweets of a tweet."""
    MARKS = "marks"
    """What somebody liked or kept."""

    @property
    def feed(self) -> bool:
        """Whether it comes to the viewer, rather than that the viewer goes there: there, mutes hide."""
        return self in (Surface.HOME, Surface.LIST, Surface.MENTIONS)

    @property
    def embedded(self) -> Surface:
        """Where tweets show that hang on those shown here: nobody asked for them by their ids."""
        return Surface.CONVERSATION if self is Surface.TWEET else self


class State(IntEnum):
    """How an account stands."""

    PUBLIC = 0
    """Everybody sees its tweets."""
    PROTECTED = 1
    """Its followers do."""
    GONE = 2
    """Deactivated, suspended, erased, or never there."""


def state_of(record: bytes | None) -> State:
    """How an account stands, from its record (views/record.py)."""
    if record is None or len(record) <= VERSION_BYTES:
        return State.GONE
    return State.PROTECTED if record[VERSION_BYTES] & PROTECTED else State.PUBLIC


class Verdict(Enum):
    """What becomes of a tweet."""

    SHOWN = "shown"
    """It shows."""
    HIDDEN = "hidden"
    """It does not, as if it were not there."""
    TOMBSTONE = "tombstone"
    """What points at it shows, and says that it is not there."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a viewer stands to a person."""

    oneself: bool = False
    """Whether they are the same."""
    follows: bool = False
    """Whether the viewer follows the person."""
    blocked: bool = False
    """Whether either blocks the other."""
    muted: bool = False
    """Whether the viewer mutes the person."""


def verdict(surface: Surface, standing: Standing, state: State, *, embedded: bool = False) -> Verdict:
    """What becomes of a person's tweet.

    Args:
        surface: where.
        standing: how the viewer stands to the author.
        state: how the author's account stands.
        embedded: whether it hangs on another tweet, which quotes or answers it and stays.
    """
    if state is State.GONE:
        shown = False
    elif standing.oneself:
        shown = True
    elif standing.blocked or (state is State.PROTECTED and not standing.follows):
        shown = False
    else:
        shown = not (standing.muted and surface.feed)
    if shown:
        return Verdict.SHOWN
    return Verdict.TOMBSTONE if embedded else Verdict.HIDDEN


# What `verdict` says of every combination, by whether the surface is a feed: pages ask it for each of their authors.
_SHOWS = {
    surface.feed: {
        (*standing, state)
        for standing in product((False, True), repeat=4)
        for state in State
        if verdict(surface, Standing(*standing), state) is Verdict.SHOWN
    }
    for surface in (Surface.HOME, Surface.TWEET)
}


def among(entry: Entry, seen: Collection[int]) -> bool:
    """Whether a tweet is by somebody who is seen; of a retweet, whether the original is too."""
    return entry.author_id in seen and (not entry.retweeted_id or entry.retweeted_author_id in seen)


def may_repeat(standing: Standing, state: State) -> bool:
    """Whether a tweet that shows may be retweeted and quoted: a protected person's only by themself."""
    return standing.oneself or state is State.PUBLIC


@dataclass(frozen=True, slots=True)
class Facts:
    """How one viewer stands to some people, and how those people's accounts stand, at one moment."""

    viewer_id: int
    """Who looks."""
    followed: Collection[int]
    """Those among them whom the viewer follows."""
    blocked: Collection[int]
    """Those whom the viewer blocks, or who block the viewer."""
    muted: Collection[int]
    """Those whom the viewer mutes."""
    people: Mapping[int, bytes | None]
    """Their records (views/record.py)."""
    _seen: dict[bool, frozenset[int]] = field(default_factory=dict)

    def standing(self, user_id: int) -> Standing:
        """To one of them."""
        return Standing(
            oneself=user_id == self.viewer_id,
            follows=user_id in self.followed,
            blocked=user_id in self.blocked,
            muted=user_id in self.muted,
        )

    def state(self, user_id: int) -> State:
        """Of one of their accounts."""
        return state_of(self.people.get(user_id))

    def seen(self, surface: Surface) -> frozenset[int]:
        """Those of them whose tweets show."""
        feed = surface.feed
        seen = self._seen.get(feed)
        if seen is None:
            shows, viewer = _SHOWS[feed], self.viewer_id
            followed, blocked, muted = self.followed, self.blocked, self.muted
            seen = self._seen[feed] = frozenset(
                i
                for i, record in self.people.items()
                if (i == viewer, i in followed, i in blocked, i in muted, state_of(record)) in shows
            )
        return seen

    def sees(self, user_id: int, surface: Surface) -> bool:
        """Whether tweets of one of them show."""
        return user_id in self.seen(surface)

    def shows(self, entry: Entry, surface: Surface) -> bool:
        """Whether a tweet shows; of a retweet, whether the original does too."""
        return among(entry, self.seen(surface))

    def reaches(self, record: bytes, surface: Surface, *, repeated: bool = False) -> bool:
        """Whether a tweet that is there, and whose author shows, comes so far: a limited one does not everywhere.

        Args:
            record: the tweet's.
            surface: where.
            repeated: whether it is there as the original of a retweet.
        """
        if not is_limited(record):
            return True
        author = author_of(record)
        asked = surface is Surface.TWEET and not repeated
        return asked or author == self.viewer_id or author in self.followed

    def meets(self, user_id: int, *, blocked: bool = False) -> bool:
        """Whether a person shows in lists of people: they are there, and neither blocks the other.

        Args:
            user_id: the person.
            blocked: whether blocks do not matter, as in one's list of them.
        """
        return (blocked or user_id not in self.blocked) and is_there(self.people.get(user_id))


def writers(entries: Iterable[Entry]) -> list[int]:
    """Everyone of whom `Facts.shows` must know, each once."""
    people: dict[int, None] = {}
    for entry in entries:
        people[entry.author_id] = None
        if entry.retweeted_id:
            people[entry.retweeted_author_id] = None
    return list(people)
