"""Compares what two stores have of a kind, in whatever order each gives it, within bounded memory.

Both sides are read once. A record's digest is added to the sum of its bucket, which its key chooses; sums do not depend
on the order. Only if some differ are both read again, for the keys in those buckets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.transfer.base import Kind, Transfer, Value

_BUCKETS = 4_096
_MODULUS = 1 << 128
_NAMED = 20
"""Differences of a kind that are told one by one."""
_LOOKED_AT = 200_000
"""Records that are kept while differences are found: those of so many buckets that this is not exceeded."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a store has of a kind."""

    kind: str
    """Its name."""
    records: int
    """How many."""
    digest: str
    """Of all of them, whatever their order: equal for equal records. 32 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is not the same on both sides, or the number of those that are not told one by one."""

    kind: str
    """Of which kind."""
    key: tuple[Value, ...]
    """Which record; empty for all others."""
    what: str
    """How it differs, in words."""

    def __str__(self) -> str:
        return f"{self.kind} {', '.join(map(str, self.key))}: {self.what}" if self.key else f"{self.kind}: {self.what}"


class _Tally:
    """Counts and sums of one side."""

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.sums = [0] * _BUCKETS

    def summary(self, kind: Kind) -> Summary:
        total = hashlib.blake2b(digest_size=16)
        for number in self.sums:
            total.update(number.to_bytes(16))
        return Summary(kind.name, sum(self.counts), total.hexdigest())


async def compare(
    source: Transfer, target: Transfer, kind: Kind, advance: Callable[[int], None], limit: int
) -> tuple[Summary, list[Difference]]:
    """What the source has of a kind, and how the target differs from it.

    Args:
        source: one side.
        target: the other.
        kind: which records.
        advance: is told how many more were read.
        limit: records of a page.

    Raises:
        Unavailable: a store does not answer.
    """
    here = await _tally(source, kind, advance, limit)
    there = await _tally(target, kind, advance, limit)
    wrong = [i for i in range(_BUCKETS) if (here.counts[i], here.sums[i]) != (there.counts[i], there.sums[i])]
    if not wrong:
        return here.summary(kind), []
    wrong.sort(key=lambda i: here.counts[i] + there.counts[i])
    chosen: set[int] = set()
    kept = 0
    for bucket in wrong:
        kept += here.counts[bucket] + there.counts[bucket]
        if chosen and kept > _LOOKED_AT:
            break
        chosen.add(bucket)
    differences = _told(kind, await _kept(source, kind, chosen, limit), await _kept(target, kind, chosen, limit))
    summaries = (here.summary(kind), there.summary(kind))
    named = differences[:_NAMED]
    if len(differences) > len(named) or len(chosen) < len(wrong):
        named.append(Difference(kind.name, (), f"and others: differences in {len(wrong)} of {_BUCKETS} parts"))
    counted = f"{summaries[0].records:,} at the source, {summaries[1].records:,} at the target"
    return summaries[0], [Difference(kind.name, (), counted), *named]


async def _tally(store: Transfer, kind: Kind, advance: Callable[[int], None], limit: int) -> _Tally:
    found = _Tally()
    places = [list(kind.fields).index(name) for name in kind.key]
    after = ""
    while True:
        page = await store.read(kind, after, limit)
        for record in page.records:
            bucket = _bucket(tuple(record[place] for place in places))
            found.counts[bucket] += 1
            found.sums[bucket] = (found.sums[bucket] + _digest(record)) % _MODULUS
        advance(len(page.records))
        after = page.after
        if not after:
            return found


async def _kept(store: Transfer, kind: Kind, buckets: set[int], limit: int) -> dict[tuple[Value, ...], tuple[int, ...]]:
    """By key, a number for each field: equal for equal values."""
    found: dict[tuple[Value, ...], tuple[int, ...]] = {}
    after = ""
    while True:
        page = await store.read(kind, after, limit)
        for record in page.records:
            key = kind.key_of(record)
            if _bucket(key) in buckets:
                found[key] = tuple(_digest((value,)) for value in record)
        after = page.after
        if not after:
            return found


def _told(
    kind: Kind,
    here: dict[tuple[Value, ...], tuple[int, ...]],
    there: dict[tuple[Value, ...], tuple[int, ...]],
) -> list[Difference]:
    found: list[Difference] = []
    for key in sorted(here.keys() | there.keys(), key=repr):
        if key not in there:
            found.append(Difference(kind.name, key, "missing at the target"))
        elif key not in here:
            found.append(Difference(kind.name, key, "only at the target"))
        elif here[key] != there[key]:
            fields = _fields(kind, here[key], there[key])
            found.append(Difference(kind.name, key, f"differs in {', '.join(fields)}"))
    return found


def _fields(kind: Kind, here: Sequence[int], there: Sequence[int]) -> list[str]:
    return [name for name, one, other in zip(kind.fields, here, there, strict=True) if one != other]


def _bucket(key: tuple[Value, ...]) -> int:
    return _digest(key) % _BUCKETS


def _digest(record: Sequence[Value]) -> int:
    # `repr` tells 1 from True, "1" and b"1", and a field from the next. Digests are compared within one run only.
    written = repr(tuple(record)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(written, digest_size=16).digest())
