"""Which of some tweets a viewer sees: records, and the facts that visibility rests on, by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from views.entry import Entry
from views.hydrate import Hydrator
from views.record import entry_of, is_there
from views.standings import Standings
from views.visibility import Surface, writers

Saw = Callable[[Sequence[bytes], int], None]
"""(records, viewer): what somebody is shown."""


def uncounted(records: Sequence[bytes], viewer_id: int) -> None:
    """For services whose answers are not of tweets."""


@dataclass(frozen=True, slots=True)
class Views:
    """What every answer needs."""

    tweets: Hydrator
    """Of tweets."""
    users: Hydrator
    """Of people."""
    polls: Hydrator
    """Of polls."""
    standings: Standings
    """How viewers stand to people."""
    saw: Saw = uncounted
    """Told of the tweets of each answer; must not take time."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a viewer sees of some tweets."""

    records: list[bytes | None]
    """One for each tweet asked for; None for what is not there, or not for this viewer."""
    people: Mapping[int, bytes | None]
    """Records of their authors, which were read on the way."""


async def shown(views: Views, ids: Sequence[int], surface: Surface, viewer_id: int) -> Shown:
    """The tweets of `ids` as far as they show. Raises Unavailable as hydration does."""
    records = [record if is_there(record) else None for record in await views.tweets.get(ids)]
    entries = [None if record is None else entry_of(record) for record in records]
    facts = await views.standings.of(viewer_id, writers(entry for entry in entries if entry is not None))
    # A retweet shows only while its original is there, and comes so far.
    originals = list({entry.retweeted_id for entry in entries if entry is not None} - {0})
    gone = {
        i
        for i, record in zip(originals, await views.tweets.get(originals), strict=True)
        if record is None or not is_there(record) or not facts.reaches(record, surface, repeated=True)
    }

    def shows(record: bytes, entry: Entry) -> bool:
        return entry.retweeted_id not in gone and facts.shows(entry, surface) and facts.reaches(record, surface)

    return Shown(
        [
            record if record is not None and entry is not None and shows(record, entry) else None
            for record, entry in zip(records, entries, strict=True)
        ],
        facts.people,
    )
