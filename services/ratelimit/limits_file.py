"""The file with the limits: what is in it, and what is wrong with it, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from services.ratelimit.domain import UNITS, Entry, Limit, Limits, Node

MOST_REQUESTS = 65_536
"""Calls in a window: a count takes 4 bytes for each."""
MOST_SECONDS = 14 * UNITS["day"]
"""Length of a window: counts keep times modulo 49 days, and look at none older than two windows."""
_DEPTH = 8
_MOST_DESCRIPTORS = 10_000
_FILE_BYTES = 1 << 20
_TEXT = 200

_ROOT = ("domain", "descriptors")
_DESCRIPTOR = ("key", "value", "rate_limit", "shadow_mode", "descriptors")
_LIMIT = ("name", "unit", "unit_multiplier", "requests_per_unit", "unlimited")


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is wrong with a file."""

    line: int
    """From 1 on."""
    text: str
    """What, and what it should be."""


class LimitsFileError(ValueError):
    """A file has no limits that could be used. Its text has a line for everything that is wrong."""

    def __init__(self, path: Path, wrong: list[Wrong]) -> None:
        super().__init__("\n".join(f"{path}:{each.line}: {each.text}" for each in wrong))
        self.wrong = wrong


def load(path: Path) -> Limits:
    """The limits in a file.

    Raises:
        LimitsFileError: it cannot be read, or something in it is wrong.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise LimitsFileError(path, [Wrong(1, f"cannot be read: {error.strerror}")]) from None
    if len(text) > _FILE_BYTES:
        raise LimitsFileError(path, [Wrong(1, f"is larger than {_FILE_BYTES} bytes")])
    limits, wrong = parse(text)
    if wrong:
        raise LimitsFileError(path, sorted(wrong, key=lambda each: each.line))
    return limits


def parse(text: bytes) -> tuple[Limits, list[Wrong]]:
    """The limits in a text, and everything that is wrong with it."""
    reader = _Reader()
    domains: dict[str, Node] = {}
    try:
        # The C parser takes events of YAML one by one and makes nodes of them, but no objects of any type.
        documents = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "nested too deeply, or not text"
        return Limits({}), [Wrong(mark.line + 1 if mark else 1, f"is no YAML: {problem}")]
    if not documents:
        return Limits({}), [Wrong(1, "is empty: it needs `domain` and `descriptors`")]
    for document in documents:
        reader.domain(document, domains)
    return Limits(domains), reader.wrong


class _Reader:
    """Reads nodes, and takes down what is wrong."""

    def __init__(self) -> None:
        self.wrong: list[Wrong] = []
        self._left = _MOST_DESCRIPTORS

    def domain(self, node: yaml.Node, domains: dict[str, Node]) -> None:
        members = self._members(node, _ROOT, "the file")
        name = self._text(members, "domain", node, needed=True)
        if name in domains:
            self._say(members["domain"], f"domain {name!r} is there twice")
        root = Node()
        self._descriptors(members.get("descriptors"), root, depth=1)
        if "descriptors" not in members and members:
            self._say(node, "`descriptors` is missing")
        if name:
            domains[name] = root

    def _descriptors(self, node: yaml.Node | None, parent: Node, depth: int) -> None:
        if node is None:
            return
        if depth > _DEPTH:
            self._say(node, f"descriptors are nested more than {_DEPTH} deep")
            return
        if not isinstance(node, yaml.SequenceNode):
            self._say(node, "`descriptors` must be a list")
            return
        named: dict[str, Limit] = {}
        for each in node.value:
            self._left -= 1
            if self._left < 0:
                self._say(each, f"there are more than {_MOST_DESCRIPTORS} descriptors")
                return
            self._descriptor(each, parent, named, depth)
        for found in parent.prefixes.values():
            found.sort(key=lambda pair: -len(pair[0]))

    def _descriptor(self, node: yaml.Node, parent: Node, named: dict[str, Limit], depth: int) -> None:
        members = self._members(node, _DESCRIPTOR, "a descriptor")
        key = self._text(members, "key", node, needed=True)
        value = self._text(members, "value", node)
        shadow = self._flag(members, "shadow_mode")
        found = Node()
        if (limit_node := members.get("rate_limit")) is not None:
            found.limit, found.shared = self._limit(limit_node, named, key, value, shadow)
        elif shadow:
            self._say(members["shadow_mode"], "`shadow_mode` says nothing without `rate_limit`")
        self._descriptors(members.get("descriptors"), found, depth + 1)
        if not key:
            return
        twice = f"descriptor {key}={value} is there twice" if value else f"descriptor {key} is there twice"
        if value and value.endswith("*"):
            starts = parent.prefixes.setdefault(key, [])
            if value[:-1] in dict(starts):
                self._say(node, twice)
            starts.append((value[:-1], found))
        elif value:
            if Entry(key, value) in parent.exact:
                self._say(node, twice)
            parent.exact[Entry(key, value)] = found
        else:
            if key in parent.default:
                self._say(node, twice)
            parent.default[key] = found

    def _limit(
        self, node: yaml.Node, named: dict[str, Limit], key: str, value: str, shadow: bool
    ) -> tuple[Limit | None, bool]:
        members = self._members(node, _LIMIT, "`rate_limit`")
        name = self._text(members, "name", node)
        if self._flag(members, "unlimited"):
            for other in ("unit", "unit_multiplier", "requests_per_unit"):
                if other in members:
                    self._say(members[other], f"`{other}` says nothing where `unlimited` is true")
            return None, False
        unit = self._text(members, "unit", node, needed=True).lower()
        if unit and unit not in UNITS:
            self._say(members["unit"], f"unit {unit!r} must be one of {', '.join(UNITS)}")
        multiplier = self._number(members, "unit_multiplier", node, least=1, most=MOST_SECONDS, default=1)
        requests = self._number(members, "requests_per_unit", node, least=0, most=MOST_REQUESTS)
        if unit not in UNITS or multiplier is None or requests is None:
            return None, False
        if UNITS[unit] * multiplier > MOST_SECONDS:
            self._say(node, f"a window of {multiplier} times one {unit} is longer than 14 days")
            return None, False
        limit = Limit(name or value or key, requests, unit, multiplier, shadow)
        if name and named.setdefault(name, limit) != limit:
            self._say(node, f"limits named {name!r} beneath one descriptor share a count, and so must be equal")
        return limit, bool(name)

    # --- nodes

    def _say(self, node: yaml.Node, text: str) -> None:
        self.wrong.append(Wrong(node.start_mark.line + 1, text))

    def _members(self, node: yaml.Node, known: tuple[str, ...], what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._say(node, f"{what} must be a mapping of {', '.join(known)}")
            return {}
        members: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in known:
                self._say(key, f"{name!r} is no member of {what}, which has {', '.join(known)}")
            elif name in members:
                self._say(key, f"`{name}` is there twice")
            else:
                members[name] = value
        return members

    def _text(self, members: Mapping[str, yaml.Node], name: str, parent: yaml.Node, *, needed: bool = False) -> str:
        node = members.get(name)
        if node is None:
            if needed and isinstance(parent, yaml.MappingNode):
                self._say(parent, f"`{name}` is missing")
            return ""
        if not isinstance(node, yaml.ScalarNode) or not node.value or len(node.value) > _TEXT:
            self._say(node, f"`{name}` must be a text of 1 to {_TEXT} characters")
            return ""
        return str(node.value)

    def _number(
        self,
        members: Mapping[str, yaml.Node],
        name: str,
        parent: yaml.Node,
        *,
        least: int,
        most: int,
        default: int = -1,
    ) -> int | None:
        node = members.get(name)
        if node is None:
            if default < 0 and isinstance(parent, yaml.MappingNode):
                self._say(parent, f"`{name}` is missing")
            return default if default >= 0 else None
        text = node.value if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int" else ""
        if not text.isascii() or not text.isdecimal() or len(text) > 9 or not least <= int(text) <= most:
            self._say(node, f"`{name}` must be a whole number within {least} and {most}")
            return None
        return int(text)

    def _flag(self, members: Mapping[str, yaml.Node], name: str) -> bool:
        node = members.get(name)
        if node is None:
            return False
        text = node.value.lower() if isinstance(node, yaml.ScalarNode) else ""
        if text not in ("true", "false"):
            self._say(node, f"`{name}` must be true or false")
        return bool(text == "true")


def described(limits: Limits) -> Iterator[str]:
    """A line for each limit, for people."""
    for domain, root in limits.domains.items():
        yield from _described(root, domain)


def _described(node: Node, above: str) -> Iterator[str]:
    below = [
        *((f"{entry.key}={entry.value}", child) for entry, child in node.exact.items()),
        *((f"{key}={start}*", child) for key, found in node.prefixes.items() for start, child in found),
        *((key, child) for key, child in node.default.items()),
    ]
    for name, child in below:
        path = f"{above} > {name}"
        limit = child.limit
        if limit is not None:
            window = f"{limit.multiplier} {limit.unit}s" if limit.multiplier > 1 else f"1 {limit.unit}"
            more = " (shared as " + limit.name + ")" if child.shared else ""
            yield f"{path}: {limit.requests} in {window}{more}{', in shadow mode' if limit.shadow else ''}"
        elif not (child.exact or child.prefixes or child.default):
            yield f"{path}: no limit"
        yield from _described(child, path)
