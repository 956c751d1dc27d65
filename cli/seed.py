"""`rookery seed`: fills a mesh that runs with accounts, follows and tweets, all through its gRPC API.

Running it again changes nothing: accounts are known by their names, follows are as they are, and each tweet has a
`request_id`. So a run that was cut short is finished by the same command.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import grpc
from rookery.graph.v1.graph_mesh_pb2 import GetFollowingRequest
from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceStub
from rookery.graph.v1.graph_service_pb2 import FollowRequest
from rookery.graph.v1.graph_service_pb2_grpc import GraphServiceStub
from rookery.tweet.v1.tweet_service_pb2 import CreateTweetRequest
from rookery.tweet.v1.tweet_service_pb2_grpc import TweetServiceStub
from rookery.user.v1.user_mesh_pb2 import ResolveUsernamesRequest
from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceStub
from rookery.user.v1.user_service_pb2 import LoginRequest, RegisterRequest
from rookery.user.v1.user_service_pb2_grpc import AuthServiceStub

from cli.errors import OperatorError
from cli.graphs import Graph, read_edge_list, scale_free
from cli.options import data_option
from cli.phases import Phases
from cli.samples import display_name, tweet_text, username
from cli.state import MeshState, running_state
from mesh.client import Destination
from mesh.context import EVERYTHING, CallContext, enter
from mesh.errors import AlreadyExists, DeadlineExceeded, MeshError, Unauthenticated, Unavailable
from mesh.tls import Identity

T = TypeVar("T")
_PASSWORD = "rookery-seed"  # noqa: S105 -- of sample accounts; printed at the end
_PEOPLE, _LINKS = 200, 10
_NAMES = 100  # in one ResolveUsernames
_CALL_S = 10.0
_GIVE_UP_S = 60.0  # of one call that is refused again and again: longer than any service takes to come back


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is to be afterwards."""

    graph: Graph
    """Vertices become people; each edge two follows."""
    tweets: int
    """How many tweets there are to be."""
    seed: int
    """Of the tweets' texts and authors."""

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Who follows whom, by number of person."""
        for one, other in self.graph.edges:
            yield one, other
            yield other, one

    def posts(self) -> Iterator[tuple[int, str, str]]:
        """The tweets: number of the author, text, request id. A few write most of them (Zipf, exponent 1)."""
        chance = random.Random(f"tweets {self.seed}")  # noqa: S311
        people = list(range(self.graph.size))
        chance.shuffle(people)
        total, bounds = 0.0, []
        for rank in range(1, len(people) + 1):
            total += 1 / rank
            bounds.append(total)
        for number in range(self.tweets):
            (author,) = chance.choices(people, cum_weights=bounds)
            yield author, tweet_text(chance, self.graph.size), f"seed-{self.seed}-{number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done."""

    ids: list[int]
    """Of the people, by number."""
    registered: int
    """Accounts that were not there before."""
    followed: int
    """Follows that were not there before."""


class Seeder:
    """Makes a sample true.

    Args:
        state: the mesh, as its supervisor wrote it down.
        concurrency: calls in flight at most.
        screen: is told how far things are.
    """

    def __init__(self, state: MeshState, *, concurrency: int, screen: Phases) -> None:
        self._concurrency = concurrency
        self._screen = screen

        def to(name: str, stub: Callable[[grpc.aio.Channel], T]) -> Destination[T]:
            process = state["processes"][name]
            identity = Identity(Path(process["identity"])) if process["identity"] else None
            return Destination(
                name, process["target"], stub, timeout_s=_CALL_S, limit=concurrency, identity=identity, scope=EVERYTHING
            )

        self._auth = to("user", AuthServiceStub)
        self._names = to("user", UserMeshServiceStub)
        self._graph = to("graph", GraphServiceStub)
        self._edges = to("graph", GraphMeshServiceStub)
        self._tweet = to("tweet", TweetServiceStub)

    async def close(self) -> None:
        """Ends all channels."""
        for destination in (self._auth, self._names, self._graph, self._edges, self._tweet):
            await destination.close()

    async def run(self, sample: Sample) -> Outcome:
        """Makes people, then follows, then tweets.

        Raises:
            OperatorError: a service does not answer for a minute, or refuses what it should take.
        """
        try:
            ids, new = await self._people(sample.graph.size)
            followed = await self._follows(sample, ids, new)
            await self._tweets(sample, ids)
        except MeshError as error:
            raise OperatorError(f"the mesh refused: {error.detail} {_violations(error)}".rstrip()) from error
        return Outcome(ids, len(new), followed)

    async def token(self, name: str) -> str | None:
        """An access token of a sample account; None when its password is another by now."""

        async def login() -> str:
            answer = await self._auth.call(self._auth.stub.Login, LoginRequest(username=name, password=_PASSWORD))
            return answer.data.access_token

        try:
            return await self._insist(login)
        except Unauthenticated:
            return None

    async def _people(self, count: int) -> tuple[list[int], set[int]]:
        ids = [0] * count
        new: set[int] = set()

        async def resolve(numbers: range) -> None:
            request = ResolveUsernamesRequest(usernames=[username(number) for number in numbers])
            answer = await self._insist(lambda: self._names.call(self._names.stub.ResolveUsernames, request))
            ids[numbers.start : numbers.stop] = answer.ids

        async def register(number: int) -> None:
            name = username(number)
            request = RegisterRequest(
                username=name,
                email=f"{name}@example.org",
                password=_PASSWORD,
                name=display_name(number),
            )
            try:
                answer = await self._insist(lambda: self._auth.call(self._auth.stub.Register, request))
            except AlreadyExists:  # by a call of ours whose answer was lost, or by somebody else just now
                await resolve(range(number, number + 1))
                if not ids[number]:
                    raise OperatorError(f"{request.email} belongs to another account") from None
            else:
                ids[number] = answer.data.user.id
            new.add(number)

        with self._screen.phase("accounts", count) as advance:
            pages = [range(start, min(start + _NAMES, count)) for start in range(0, count, _NAMES)]
            await self._each(pages, resolve, lambda _: None)
            missing = [number for number, user_id in enumerate(ids) if not user_id]
            advance(count - len(missing))
            await self._each(missing, register, advance)
        return ids, new

    async def _follows(self, sample: Sample, ids: list[int], new: set[int]) -> int:
        """Asks first whom people follow who were there before: for them a second run has nothing to do."""
        known: dict[int, frozenset[int]] = {}
        made = 0

        async def ask(number: int) -> None:
            request = GetFollowingRequest(user_id=ids[number])
            answer = await self._insist(lambda: self._edges.call(self._edges.stub.GetFollowing, request))
            known[number] = frozenset(answer.followee_ids)

        async def follow(pair: tuple[int, int]) -> None:
            nonlocal made
            one, other = pair
            if ids[other] in known.get(one, ()):
                return
            request = FollowRequest(id=ids[one], target_user_id=ids[other])
            enter(CallContext(viewer_id=ids[one]))
            await self._insist(lambda: self._graph.call(self._graph.stub.Follow, request))
            made += 1

        with self._screen.phase("follows", 2 * len(sample.graph.edges)) as advance:
            await self._each((i for i in range(len(ids)) if i not in new), ask, lambda _: None)
            await self._each(sample.pairs(), follow, advance)
        return made

    async def _tweets(self, sample: Sample, ids: list[int]) -> None:
        async def post(item: tuple[int, str, str]) -> None:
            author, text, request_id = item
            request = CreateTweetRequest(text=text, request_id=request_id)
            enter(CallContext(viewer_id=ids[author]))
            await self._insist(lambda: self._tweet.call(self._tweet.stub.CreateTweet, request))

        with self._screen.phase("tweets", sample.tweets) as advance:
            await self._each(sample.posts(), post, advance)

    async def _each(
        self, items: Iterable[T], work: Callable[[T], Awaitable[None]], advance: Callable[[int], None]
    ) -> None:
        """Does `work` on each item, `concurrency` at a time. The first failure ends it and is raised."""
        source = iter(items)

        async def worker() -> None:
            for item in source:  # one event loop: each item goes to one worker
                await work(item)
                advance(1)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(worker())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    @staticmethod
    async def _insist(call: Callable[[], Awaitable[T]]) -> T:
        """Calls until there is an answer. Every call made here may be made twice."""
        until = time.monotonic() + _GIVE_UP_S
        wait = 0.05
        while True:
            try:
                return await call()
            except (Unavailable, DeadlineExceeded) as error:
                if time.monotonic() > until:
                    raise OperatorError(f"a service has not answered for {_GIVE_UP_S:g} s: {error.detail}") from error
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            wait = min(2 * wait, 2.0)


def _violations(error: MeshError) -> str:
    return "; ".join(f"{violation.field} {violation.message}" for violation in error.violations)


@asynccontextmanager
async def seeder(state: MeshState, *, concurrency: int = 32, screen: Phases | None = None) -> AsyncIterator[Seeder]:
    """A Seeder, closed after the block."""
    made = Seeder(state, concurrency=concurrency, screen=screen or Phases())
    try:
        yield made
    finally:
        await made.close()


@click.command()
@data_option
@click.option(
    "--graph",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Edge list, `u v` a line; each edge is a follow both ways. Without it: a scale-free graph.",
)
@click.option(
    "--people",
    type=click.IntRange(2, 1_000_000),
    metavar="N",
    show_default=str(_PEOPLE),
    help="Accounts, without --graph.",
)
@click.option("--tweets", type=click.IntRange(0, 10_000_000), default=1_000, show_default=True, metavar="N")
@click.option("--seed", "seed_", type=int, default=1, show_default=True, help="Another one gives other tweets.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=32, show_default=True, help="Calls at a time.")
def seed(data: Path, graph: Path | None, people: int | None, tweets: int, seed_: int, concurrency: int) -> None:
    """Fill a mesh that runs with accounts, follows and tweets, through its gRPC API.

    It may be run again, with the same or larger numbers: what is there already stays as it is.
    """
    if graph is not None and people is not None:
        raise click.UsageError("--graph says how many people there are; leave --people out")
    try:
        found = (
            read_edge_list(graph)
            if graph is not None
            else scale_free(people or _PEOPLE, links=_LINKS, chance=random.Random(f"graph {seed_}"))  # noqa: S311
        )
        asyncio.run(_seed(running_state(data), Sample(found, tweets, seed_), concurrency))
    except OperatorError as error:
        click.echo(f"rookery: {error}", err=True)
        sys.exit(1)


async def _seed(state: MeshState, sample: Sample, concurrency: int) -> None:
    screen = Phases()
    started = time.monotonic()
    async with seeder(state, concurrency=concurrency, screen=screen) as made:
        with screen.live():
            outcome = await made.run(sample)
        degrees = sample.graph.degrees()
        number = degrees.index(max(degrees))
        name = username(number)
        token = await made.token(name)
    click.echo(
        f"\n{sample.graph.size:,} accounts ({outcome.registered:,} new), {2 * len(sample.graph.edges):,} follows"
        f" ({outcome.followed:,} new), {sample.tweets:,} tweets in {time.monotonic() - started:.1f} s."
    )
    if token is None:
        click.echo(f"{name} was there before, with a password of its own.")
        return
    click.echo(f"Sign in: username {name}, password {_PASSWORD} (every sample account has it). A home timeline:\n")
    click.echo(
        f"curl -s -H 'authorization: Bearer {token}' '{state['url']}/2/users/{outcome.ids[number]}"
        "/timelines/reverse_chronological?max_results=10&tweet.fields=created_at&expansions=author_id'"
    )
