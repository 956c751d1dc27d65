"""Follow graphs to seed a mesh with: edge lists from files, and scale-free graphs made here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.errors import OperatorError

_LONGEST_LINE = 256  # two names and a space; a longer line is no edge list


class GraphError(OperatorError):
    """A graph cannot be read or made. The message names the file and, for a bad line, its number."""


@dataclass(frozen=True, slots=True)
class Graph:
    """An undirected graph without loops; its vertices are 0 to `size` - 1."""

    size: int
    """How many vertices there are."""
    edges: tuple[tuple[int, int], ...]
    """Each once, in the order in which they came."""

    def degrees(self) -> list[int]:
        """How many neighbours each vertex has."""
        found = [0] * self.size
        for one, other in self.edges:
            found[one] += 1
            found[other] += 1
        return found


def read_edge_list(path: Path) -> Graph:
    """The graph in a file of `u v` lines.

    Blank lines and what begins with `#` or `%` (the two customs for comments) are passed over; names are any words. An
    edge that is there twice, in either direction, counts once.

    Raises:
        GraphError: the file cannot be read, has no edges, or has a line that is not two different words.
    """
    numbers: dict[str, int] = {}
    edges: dict[tuple[int, int], None] = {}
    for number, words in _lines(path):
        if len(words) != 2:
            raise GraphError(f"{path}, line {number}: expected two names, `u v`, not {len(words)}")
        if words[0] == words[1]:
            raise GraphError(f"{path}, line {number}: {words[0][:40]!r} cannot follow itself")
        one, other = sorted(numbers.setdefault(word, len(numbers)) for word in words)
        edges[one, other] = None
    if not edges:
        raise GraphError(f"{path} has no edges")
    return Graph(len(numbers), tuple(edges))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if line.lstrip()[:1] in ("#", "%"):
                    while line and not line.endswith("\n"):  # a comment may be of any length
                        line = file.readline(_LONGEST_LINE)
                    continue
                if len(line) > _LONGEST_LINE:
                    raise GraphError(f"{path}, line {number}: longer than {_LONGEST_LINE} characters")
                if words := line.split():
                    yield number, words
    except UnicodeDecodeError:
        raise GraphError(f"{path}, after line {number}: not UTF-8 text") from None
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {error.strerror}") from None


def scale_free(size: int, *, links: int, chance: random.Random) -> Graph:
    """A Barabási-Albert graph (Science 286, 1999): each vertex links to up to `links` earlier ones, popular ones first.

    The same `chance` gives the same graph, and a larger graph begins with the smaller one.

    Raises:
        GraphError: fewer than two vertices or no links.
    """
    if size < 2 or links < 1:
        raise GraphError("a graph needs two vertices and a link at least")
    edges: list[tuple[int, int]] = []
    ends: list[int] = [0]  # each vertex as often as it has links, so that a fair draw favours the popular
    for vertex in range(1, size):
        chosen: dict[int, None] = {}
        while len(chosen) < min(links, vertex):
            chosen[chance.choice(ends)] = None
        edges += ((old, vertex) for old in chosen)
        ends += [*chosen, *[vertex] * len(chosen)]
    return Graph(size, tuple(edges))
