"""Which limit a call counts against, and what its caller is told. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

UNITS: Mapping[str, int] = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
"""Seconds. Months and years are no unit here: a window that slides has one length."""


class Entry(NamedTuple):
    """One part of a descriptor, as a caller sends it."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many calls in any window of this length."""

    name: str
    """For people and metrics; a handful in all."""
    requests: int
    """Admitted in a window."""
    unit: str
    """Of UNITS."""
    multiplier: int = 1
    """Units in a window."""
    shadow: bool = False
    """Counts and tells, and refuses nobody."""

    @property
    def window_ms(self) -> int:
        """The window's length in milliseconds."""
        return UNITS[self.unit] * self.multiplier * 1_000


@dataclass(slots=True)
class Node:
    """One level of the tree of limits."""

    limit: Limit | None = None
    """Of a descriptor that ends here; None for no limit."""
    shared: bool = False
    """Whether it shares its count with others beneath the same parent, by name."""
    exact: dict[Entry, Node] = field(default_factory=dict)
    """By key and value."""
    prefixes: dict[str, list[tuple[str, Node]]] = field(default_factory=dict)
    """By key: beginnings of values, the longest first."""
    default: dict[str, Node] = field(default_factory=dict)
    """By key, for values that are not named."""

    def below(self, entry: Entry) -> Node | None:
        """The level that an entry leads to: by its value, by how that begins, or by its key alone."""
        found = self.exact.get(entry)
        if found is None:
            for start, node in self.prefixes.get(entry.key, ()):
                if entry.value.startswith(start):
                    return node
            found = self.default.get(entry.key)
        return found


class Count(NamedTuple):
    """A count that a call adds to."""

    name: str
    """Tells it from all others of its domain."""
    owner: str
    """Counts with equal owners are kept together."""
    limit: Limit


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits, by domain."""

    domains: Mapping[str, Node]

    def of(self, domain: str, descriptor: Sequence[Entry]) -> Count | None:
        """What a descriptor counts against; None where nothing limits it.

        As in Envoy's reference service, a limit holds for descriptors that end where it stands.
        """
        node = self.domains.get(domain)
        above = ""
        for entry in descriptor:
            if node is None:
                return None
            node = node.below(entry)
            last = f"{entry.key}={entry.value}"
            name, above = f"{above}|{last}", f"{above}|{last}"
            if node is not None and node.shared and node.limit is not None:
                name = f"{above.removesuffix(last)}{node.limit.name}"
        if node is None or node.limit is None or not descriptor:
            return None
        return Count(f"{domain}{name}", f"{domain}|{descriptor[0].key}={descriptor[0].value}", node.limit)


class Standing(NamedTuple):
    """How a count stands after a call."""

    over: bool
    """Whether the call is more than the limit admits."""
    remaining: int
    """Calls that are left."""
    reset_ms: int
    """When the oldest call that counts leaves the window, in milliseconds since 1970: whoever is refused is admitted
    again from then on."""


def tightest(standings: Sequence[tuple[Limit, Standing]]) -> tuple[Limit, Standing] | None:
    """The one that a caller is told of: who refuses for longest, or else who has least left."""
    if not standings:
        return None
    refusing = [pair for pair in standings if pair[1].over and not pair[0].shadow]
    if refusing:
        return max(refusing, key=lambda pair: pair[1].reset_ms)
    return min(standings, key=lambda pair: (pair[1].remaining, pair[0].requests))


def reset_seconds(standing: Standing) -> int:
    """`x-rate-limit-reset`: whole seconds since 1970, never before the moment itself."""
    return -(-standing.reset_ms // 1_000)
