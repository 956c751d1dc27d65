"""`rookery check`: compares what the mesh answers with what its tables say.

The check is an oracle of its own: it reads the tables with queries of its own and applies the rules in a few lines of
its own; nothing here knows of lists, pushing or pulling. It uses nothing of the services but what they store, and the
name under which they sign tokens.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import random
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
import httpx
import structlog
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from cli.errors import OperatorError, StoreError
from cli.options import data_option
from cli.readings import graph_of, tweets_of
from cli.settle import settle
from cli.state import MeshState, running_state
from cli.stores import Stores, open_stores
from mesh.context import EVERYTHING
from mesh.db.sql import Tx
from mesh.errors import Unavailable
from services.user.tokens import AUDIENCE, ISSUER

LIMIT = 800
"""Tweets of a home timeline."""

_PAGE = 100
_PAGES = LIMIT // _PAGE + 2  # a timeline that goes on for longer does not end
_ROUNDS = 3  # readings of a mesh that is written to meanwhile
_AT_ONCE = 16
_READ_S = 60.0  # one query over a whole table
_REQUEST_S = 20.0
_TRIES = 3
_TOKEN_S = 900  # longer than a person's timeline takes to read
_SETTLED_KEY_MS = 15 * 60_000  # younger keys may not be known to the edge yet (services/user/tokens.py)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tables say, all of it."""

    names: dict[int, str]
    """Username by id."""
    following: dict[int, frozenset[int]]
    """Whom each person follows; absent for nobody."""
    hidden: dict[int, frozenset[int]]
    """Whom each person blocks or mutes, and who blocks them; absent for nobody."""
    protected: frozenset[int]
    """Whose tweets only followers see."""
    gone: frozenset[int]
    """Who is deactivated or suspended."""
    tweets: dict[int, tuple[tuple[int, int, int, bool], ...]]
    """By author: (id, id of the person answered or 0, id of the person repeated or 0, whether what is repeated comes
    only to who follows that person), the newest first; nothing that was removed, no retweet whose original is gone."""

    def home(self, viewer: int) -> list[int]:
        """The home timeline that follows from the facts: ids, the newest first.

        The newest 800 tweets by the viewer and those they follow, of which a reply shows only when the viewer follows
        the person answered too, is that person, or it answers its own author. One's own always show. Nothing shows of
        anybody who is gone, of whom the viewer blocks or mutes, of who blocks the viewer, and of protected people whom
        the viewer does not follow; retweets neither, when that is so for the author of the original,
        or when the original is limited and the viewer neither wrote it nor follows who did.
        """
        followed = self.following.get(viewer, frozenset())
        hidden = self.hidden.get(viewer, frozenset())

        def seen(author: int) -> bool:
            if author in self.gone:
                return False
            return author == viewer or (author not in hidden and (author not in self.protected or author in followed))

        def shown(author: int) -> Iterator[int]:
            for tweet, answered, repeated, limited in self.tweets.get(author, ()):
                belongs = author == viewer or not answered or answered in (viewer, author) or answered in followed
                reaches = not limited or repeated == viewer or repeated in followed
                if belongs and reaches and (not repeated or seen(repeated)):
                    yield tweet

        authors = [author for author in {viewer, *followed} if seen(author)]
        return list(islice(heapq.merge(*map(shown, authors), reverse=True), LIMIT))


async def read_facts(stores: Stores) -> Facts:
    """All facts. The three stores are read one after the other: compare two readings to know that nothing changed.

    Raises:
        Unavailable: a store does not answer.
    """

    async def names(tx: Tx) -> dict[int, str]:
        return {row.id: row.username for row in (await tx.execute("SELECT id, username FROM users")).all()}

    async def people(tx: Tx) -> tuple[frozenset[int], frozenset[int]]:
        protected = (await tx.execute("SELECT id FROM users WHERE protected")).all()
        gone = (await tx.execute("SELECT id FROM users WHERE suspended OR deactivated_ms > 0")).all()
        return frozenset(row.id for row in protected), frozenset(row.id for row in gone)

    graph = graph_of(stores.graph)
    protected, gone = await stores.users.read(people, deadline=_READ_S)
    return Facts(
        names=await stores.users.read(names, deadline=_READ_S),
        following=await graph.following(),
        hidden=await graph.hidden(),
        protected=protected,
        gone=gone,
        tweets=await tweets_of(stores.tweets).written(),
    )


class Operator:
    """Signs access tokens for anybody, with the key that the `user` service signs with.

    Whoever may read the users store may do this. Signing in instead would need everybody's password.
    """

    def __init__(self, key: OKPKey) -> None:
        self._key = key

    @classmethod
    async def load(cls, stores: Stores) -> Operator:
        """Reads the key. Raises StoreError when there is none, Unavailable when the store does not answer."""

        async def keys(tx: Tx) -> Sequence[Any]:
            return (await tx.execute("SELECT jwk, created_ms FROM signing_keys ORDER BY created_ms DESC")).all()

        rows = await stores.users.read(keys)
        if not rows:
            raise StoreError("the users store has no signing key: its service has never run")
        known_since = time.time() * 1000 - _SETTLED_KEY_MS
        chosen = next((row for row in rows if row.created_ms <= known_since), rows[-1])
        return cls(OKPKey.import_key(json.loads(chosen.jwk)))

    def token(self, user_id: int) -> str:
        """A token for one person, good for 15 minutes."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(user_id), "iat": now, "exp": now + _TOKEN_S}
        claims["scope"] = EVERYTHING
        with warnings.catch_warnings(category=SecurityWarning, action="ignore"):  # EdDSA: Envoy knows no newer name
            return jwt.encode({"alg": "EdDSA", "kid": self._key.kid}, claims, self._key, algorithms=["EdDSA"])


class Edge:
    """Reads home timelines as any client does."""

    def __init__(self, client: httpx.AsyncClient, operator: Operator) -> None:
        self._client = client
        self._operator = operator

    async def home(self, viewer: int) -> list[int]:
        """All pages of a person's home timeline: ids in the order in which they came.

        Raises:
            OperatorError: the edge refuses, or the pages do not end.
        """
        headers = {"authorization": f"Bearer {self._operator.token(viewer)}"}
        params: dict[str, str | int] = {"max_results": _PAGE}
        ids: list[int] = []
        for _ in range(_PAGES):
            body = await self._get(f"/2/users/{viewer}/timelines/reverse_chronological", params, headers)
            try:
                ids += [int(tweet["id"]) for tweet in body.get("data", [])]
                following = body["meta"].get("next_token")
            except (KeyError, TypeError, ValueError) as error:
                raise OperatorError(f"an answer has not the shape of a page: {error!r}") from error
            if following is None:
                return ids
            params["pagination_token"] = following
        raise OperatorError(f"the timeline does not end within {_PAGES} pages")

    async def _get(self, path: str, params: dict[str, str | int], headers: dict[str, str]) -> Any:
        why = ""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(0.2 * 2**attempt)
            try:
                answer = await self._client.get(path, params=params, headers=headers)
            except httpx.TransportError as error:
                why = f"{type(error).__name__} {error}"
                continue
            if answer.status_code == 200:
                return answer.json()
            why = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code not in (503, 504):
                break
        raise OperatorError(f"the edge does not answer: {why}")


@dataclass(frozen=True, slots=True)
class Difference:
    """One person whose timeline is not what it must be."""

    viewer: int
    """Who."""
    missing: tuple[int, ...]
    """Tweets that must be there and are not."""
    extra: tuple[int, ...]
    """Tweets that are there and must not be, or that are there again."""
    failure: str = ""
    """Why it could not be read at all."""

    def __str__(self) -> str:
        if self.failure:
            return self.failure
        if not self.missing and not self.extra:
            return "wrong order"
        return ", ".join(_some(word, ids) for word, ids in (("missing", self.missing), ("extra", self.extra)) if ids)


def _some(word: str, ids: Sequence[int]) -> str:
    return f"{len(ids)} {word} ({' '.join(map(str, ids[:_SHOWN]))}{' ...' if len(ids) > _SHOWN else ''})"


def compare(viewer: int, wanted: Sequence[int], got: Sequence[int]) -> Difference | None:
    """How a timeline differs from what it must be; None when it does not."""
    if list(wanted) == list(got):
        return None
    seen: set[int] = set()
    extra = [tweet for tweet in got if tweet in seen or seen.add(tweet)]  # type: ignore[func-returns-value]
    extra += seen - set(wanted)
    return Difference(viewer, tuple(tweet for tweet in wanted if tweet not in seen), tuple(extra))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found."""

    people: int
    """Timelines read."""
    tweets: int
    """Tweets that they must have, in all."""
    differences: tuple[Difference, ...]
    """People whose timeline is wrong."""
    names: dict[int, str]
    """Username by id."""


async def check_timelines(state: MeshState, *, sample: int | None = None, settle_s: float = 30.0) -> Outcome:
    """Reads home timelines through the edge and compares them with the tables.

    Args:
        state: the mesh, as its supervisor wrote it down.
        sample: how many people, by chance; all when None.
        settle_s: how long to wait for events that are under way.

    Raises:
        OperatorError: a store does not answer, events are still under way, or somebody keeps writing.
    """
    async with (
        open_stores(state) as stores,
        httpx.AsyncClient(
            base_url=state["url"], timeout=_REQUEST_S, limits=httpx.Limits(max_connections=_AT_ONCE), trust_env=False
        ) as client,
    ):
        try:
            edge = Edge(client, await Operator.load(stores))
            for _ in range(_ROUNDS):
                await settle(stores, settle_s)
                facts = await read_facts(stores)
                people = [person for person in facts.names if person not in facts.gone]
                if sample is not None and sample < len(people):
                    people = random.sample(people, sample)
                outcome = await _compare_all(edge, facts, people)
                if await read_facts(stores) == facts:
                    return outcome
        except Unavailable as error:
            raise StoreError(f"a store does not answer: {error}") from error
    raise OperatorError("the mesh is being written to: timelines can only be compared while nobody writes")


async def _compare_all(edge: Edge, facts: Facts, people: Sequence[int]) -> Outcome:
    found: list[Difference] = []
    source = iter(people)
    tweets = 0

    async def worker() -> None:
        nonlocal tweets
        for viewer in source:
            wanted = facts.home(viewer)
            tweets += len(wanted)
            try:
                difference = compare(viewer, wanted, await edge.home(viewer))
            except OperatorError as error:
                difference = Difference(viewer, (), (), str(error))
            if difference is not None:
                found.append(difference)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())
    return Outcome(len(people), tweets, tuple(sorted(found, key=lambda one: one.viewer)), facts.names)


@click.group()
def check() -> None:
    """Compare what the mesh answers with its tables."""


@check.command()
@data_option
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Only this many people, by chance.")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for events that are under way.",
)
def timelines(data: Path, sample: int | None, settle_s: float) -> None:
    """Compare home timelines, read through the edge, with those computed from the tables.

    Nobody may write meanwhile. Tokens are signed with the key in the users store. Exit status 0 only if all timelines
    are exactly what they must be.
    """
    # What `mesh` logs is for services' logs: here slow queries over whole tables are as they must be.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    started = time.monotonic()
    try:
        outcome = asyncio.run(check_timelines(running_state(data), sample=sample, settle_s=settle_s))
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)
    for difference in outcome.differences[:_SHOWN]:
        click.echo(f"{outcome.names[difference.viewer]} ({difference.viewer}): {difference}")
    right = outcome.people - len(outcome.differences)
    click.echo(
        f"{right:,} of {outcome.people:,} home timelines are right ({outcome.tweets:,} tweets in all,"
        f" {time.monotonic() - started:.1f} s)."
    )
    sys.exit(1 if outcome.differences else 0)
