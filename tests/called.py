"""Which REST operations a test called, so that a test which says what it proves can be held to it.

Clients of tests report what they sent and what came back: httpx through `watched`, tweepy in
tests/e2e/tweepy_clients.py and tests/e2e/conftest.py. tests/conftest.py asks after each marked test.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import httpx

from scripts.operations import known_operations, name_of
from tests.clients import client_of


class Called:
    """Operations with a good answer since the last `forget`. One for a process, as tests run one at a time in it."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def forget(self) -> None:
        """Begins anew."""
        self._names.clear()

    def note(self, method: str, url: str, status: int) -> None:
        """Takes down one answer; those that are not 2xx prove nothing."""
        if 200 <= status < 300 and (name := operation_of(method, urlsplit(url).path)):
            self._names.add(name)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those that were not called."""
        return [name for name in names if name not in self._names]


CALLED = Called()


async def _answered(response: httpx.Response) -> None:
    request = response.request
    CALLED.note(request.method, str(request.url), response.status_code)


def watched(url: str, **more: object) -> httpx.AsyncClient:
    """A client of an edge whose calls are taken down."""
    return client_of(url, event_hooks={"response": [_answered]}, **more)


@functools.cache
def _patterns() -> Sequence[tuple[str, re.Pattern[str], str]]:
    """(method, pattern of paths, name), those with more literal parts first: `/2/users/me` is not an id."""
    known = sorted(known_operations(), key=lambda one: one.path.count("{") / one.path.count("/"))
    found = []
    for operation in known:
        pattern = "".join(
            part if not part.startswith("{") else "[^/]+" for part in re.split(r"(\{[^}]*\})", operation.path)
        )
        found.append((operation.method, re.compile(pattern), name_of(operation)))
    return found


def operation_of(method: str, path: str) -> str | None:
    """The operation that serves a path; None for none."""
    return next((name for verb, pattern, name in _patterns() if verb == method and pattern.fullmatch(path)), None)
