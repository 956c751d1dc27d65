"""What a page of the home timeline costs: 40 tweets of 20 authors, through the edge, next to the floor.

The mesh is a whole one (`rookery up`), plus the floor as a second and third service beside `timeline`: once on asyncio,
as it is published, once on uvloop, which `timeline` runs on. Each floor has an edge of its own that differs from the
mesh's in nothing but where `timeline` is. All ask the same Valkey.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

import grpc
import httpx
import redis.asyncio as redis
from rookery.timeline.v1.timeline_service_pb2 import GetHomeTimelineRequest, GetHomeTimelineResponse

from bench.cpu import spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from bench.floor.home import AUTHORS, SERVICE, TWEETS, fill
from bench.worker import Worker, worker
from cli.edge import EdgeConfig, render_edge
from cli.ports import LOOPBACK, Ports
from cli.probe import Probe
from cli.profile import PROJECT, SERVICES, Embedded, Place, ProcessSpec, drain_envoy, inherited, service_environment
from cli.samples import display_name, tweet_text, username
from cli.settle import settle
from cli.state import running_state
from cli.stores import open_stores
from cli.supervisor import Mesh, running_mesh
from mesh.context import EVERYTHING, SCOPE_KEY, VIEWER_KEY

TARGET = 1.6
"""CPU of the `timeline` service over the floor's, at most (acceptance of the benchmark)."""
CONNECTIONS = 8
LOOPS = ("asyncio", "uvloop")
_ACCOUNT = "bench correct horse"
_PER_AUTHOR = 3  # tweets; 60 in all, so there is a next page
_TWEET_FIELDS = "author_id,conversation_id,created_at,lang,public_metrics,referenced_tweets"
_USER_FIELDS = "created_at,description,public_metrics,verified"
WARM_UP = 300
"""Requests before anything is measured, or as many as in a round if those are fewer."""
ROUND_S = 90.0
"""How long a round may take."""
_SETTLE_S = 30.0
CALL_S = 10.0
"""How long one call may take."""
LIMITS = PROJECT / "bench" / "limits.yaml"
"""Limits that count and refuse nobody who measures."""
ENVIRONMENT = {"ROOKERY_ACCESS_TOKEN_SECONDS": "86400", "ROOKERY_LIMITS_FILE": str(LIMITS)}
"""Of a mesh that is measured: nobody has to sign in again, or is refused."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 9
    """Of each of the three; their order changes from round to round."""
    requests: int = 2_000
    """In a round: about a second of CPU, of which a tick is a hundredth."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """Something that is measured."""

    name: str
    port: int
    """Of its edge."""
    pids: Mapping[str, int]
    """Its edge, service and store."""


class _WithFloors(Embedded):
    """The embedded profile, and the floors with their edges."""

    def __init__(self, ports: Ports) -> None:
        self.ports = {loop: ports.reserve_exclusively(0) for loop in LOOPS}

    @property
    def name(self) -> str:
        """As in the state of the mesh."""
        return "bench"

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """See Profile."""
        mesh = super().processes(place)
        edge = next(spec for spec in mesh if spec.name == "envoy")
        return [*mesh, *(spec for loop in LOOPS for spec in self._floor(place, edge, loop))]

    def _floor(self, place: Place, edge: ProcessSpec, loop: str) -> list[ProcessSpec]:
        listen = f"unix://{place.sockets}/floor-{loop}.sock"
        targets = {name: service_environment(name, place)[f"ROOKERY_{name.upper()}_TARGET"] for name in SERVICES}
        admin = place.reserve_port()
        rendered = render_edge(
            EdgeConfig(
                targets={**targets, "timeline": listen},
                port=self.ports[loop],
                admin_port=admin,
                jwks_listen=f"unix://{place.sockets}/jwks-{loop}.sock",
            )
        )
        config = place.run / f"edge-{loop}.yaml"
        config.write_text(rendered)
        target = f"{LOOPBACK}:{admin}"
        floor = ProcessSpec(
            name=f"floor-{loop}",
            command=(sys.executable, "-m", "bench.floor.home", f"{place.sockets}/valkey.sock", listen, loop),
            probe=Probe("grpc", listen),
            environment=inherited(place.operator),
            needs=("valkey",),
            target=listen,
            folder=PROJECT,
        )
        return [
            floor,
            replace(
                edge,
                name=f"envoy-{loop}",
                command=tuple(str(config) if part == str(place.run / "edge.yaml") else part for part in edge.command),
                probe=Probe("envoy", target),
                needs=(floor.name, *edge.needs),
                drain=lambda: drain_envoy(target),
            ),
        ]


async def bench_home(options: Options, say: Callable[[str], None]) -> Outcome:
    """Runs it in a folder of its own.

    Raises:
        OperatorError: the mesh does not come up, or something else was answered than was to be measured.
    """
    ports = Ports()
    try:
        profile = _WithFloors(ports)
        with tempfile.TemporaryDirectory(prefix="rookery-bench-") as folder:
            say("starting a mesh of its own, and the floors")
            async with running_mesh(Path(folder), profile=profile, env=ENVIRONMENT) as mesh:
                say(f"making {AUTHORS} authors with {AUTHORS * _PER_AUTHOR} tweets, and their reader")
                viewer, token = await fill_home(mesh)
                subjects = _subjects(mesh, profile)
                await _check_same(mesh, subjects, viewer, token)
                async with worker("bench.load") as load:
                    return await _measure(options, subjects, load, viewer, token, say)
    finally:
        ports.release()


def _subjects(mesh: Mesh, profile: _WithFloors) -> list[_Subject]:
    valkey = mesh.pid("valkey")
    mesh_port = int(mesh.url.rpartition(":")[2])
    return [
        _Subject("rookery", mesh_port, {"envoy": mesh.pid("envoy"), "service": mesh.pid("timeline"), "valkey": valkey}),
        *(
            _Subject(
                f"floor, {loop}",
                profile.ports[loop],
                {"envoy": mesh.pid(f"envoy-{loop}"), "service": mesh.pid(f"floor-{loop}"), "valkey": valkey},
            )
            for loop in LOOPS
        ),
    ]


async def fill_home(mesh: Mesh) -> tuple[int, str]:
    """Makes everything through the REST API; gives the reader's id and token."""
    chance = random.Random("bench home")
    async with httpx.AsyncClient(base_url=mesh.url, timeout=CALL_S, trust_env=False) as edge:

        async def post(path: str, body: Mapping[str, str], token: str = "") -> httpx.Response:
            answer = await edge.post(path, json=body, headers={"authorization": f"Bearer {token}"} if token else None)
            if not answer.is_success:
                raise BenchError(f"POST {path}: {answer.status_code} {answer.text[:400]}")
            return answer

        people: list[tuple[int, str]] = []
        for number in range(AUTHORS + 1):
            name = username(number)
            person = {
                "username": name,
                "email": f"{name}@example.org",
                "password": _ACCOUNT,
                "name": display_name(number),
            }
            data = (await post("/v1/auth/register", person)).json()["data"]
            people.append((int(data["user"]["id"]), str(data["access_token"])))
        *authors, (viewer, token) = people
        for author, _ in authors:
            await post(f"/2/users/{viewer}/following", {"target_user_id": str(author)}, token)
        for _ in range(_PER_AUTHOR):
            for _, signed in authors:
                await post("/2/tweets", {"text": tweet_text(chance, AUTHORS)}, signed)
        async with open_stores(running_state(mesh.data), {}) as stores:
            await settle(stores, _SETTLE_S)
    return viewer, token


async def _check_same(mesh: Mesh, subjects: Sequence[_Subject], viewer: int, token: str) -> None:
    """Gives the floors their data, and makes sure that all answer the same, save for what the token says."""
    request = GetHomeTimelineRequest(id=viewer, max_results=TWEETS, expansions="author_id")
    request.tweet.fields, request.user.fields = _TWEET_FIELDS, _USER_FIELDS
    async with grpc.aio.insecure_channel(mesh.target("timeline")) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/GetHomeTimeline",
            request_serializer=GetHomeTimelineRequest.SerializeToString,
            response_deserializer=GetHomeTimelineResponse.FromString,
        )
        answer = await call(request, timeout=CALL_S, metadata=((VIEWER_KEY, str(viewer)), (SCOPE_KEY, EVERYTHING)))
    cache = mesh.environment("timeline")["ROOKERY_CACHE_URL"]
    async with redis.Redis.from_url(cache, socket_timeout=CALL_S, socket_connect_timeout=CALL_S) as store:
        try:
            await fill(store, viewer, answer)
        except ValueError as error:
            raise BenchError(f"the home timeline is not what was to be read: {error}") from error
    bodies = []
    async with httpx.AsyncClient(timeout=CALL_S, trust_env=False) as client:
        for subject in subjects:
            url = f"http://{LOOPBACK}:{subject.port}{home_path(viewer)}"
            body = (await client.get(url, headers={"authorization": f"Bearer {token}"})).json()
            if len(str(body.get("meta", {}).get("next_token", ""))) != len(answer.meta.next_token):
                raise BenchError(f"{subject.name} gives no token as long as the mesh's: {str(body)[:400]}")
            del body["meta"]["next_token"]
            for tweet in body["data"]:  # reading counts
                tweet["public_metrics"].pop("impression_count")
            bodies.append(body)
    if any(body != bodies[0] for body in bodies):
        raise BenchError("the mesh and its floors do not answer the same")


def home_path(viewer: int) -> str:
    """Of the page that is read."""
    query = {
        "max_results": TWEETS,
        "tweet.fields": _TWEET_FIELDS,
        "user.fields": _USER_FIELDS,
        "expansions": "author_id",
    }
    return f"/2/users/{viewer}/timelines/reverse_chronological?{urlencode(query, safe=',')}"


async def _measure(
    options: Options, subjects: Sequence[_Subject], load: Worker, viewer: int, token: str, say: Callable[[str], None]
) -> Outcome:
    path = home_path(viewer)

    async def drive(subject: _Subject, requests: int) -> Mapping[str, int | float | str]:
        return await load.ask(
            ROUND_S, port=subject.port, path=path, token=token, requests=requests, connections=CONNECTIONS
        )

    for subject in subjects:
        await drive(subject, min(WARM_UP, options.requests))
    costs: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    answer_bytes = 0
    for number in range(options.rounds):
        turn = number % len(subjects)
        for subject in (*subjects[turn:], *subjects[:turn]):
            with spent(subject.pids) as found:
                answer = await drive(subject, options.requests)
            answer_bytes = int(answer["bytes"])
            costs[subject.name].append({name: us / options.requests for name, us in found.us.items()})
        services = ", ".join(f"{name} {rows[-1]['service']:.0f}" for name, rows in costs.items())
        say(f"round {number + 1} of {options.rounds}: us of service CPU a request: {services}")
    ours = costs[subjects[0].name]
    ratios = [
        Ratio(
            f"service CPU over the floor's on {loop}",
            Spread.of(mine["service"] / floor["service"] for mine, floor in zip(ours, rows, strict=True)),
            TARGET,
        )
        for loop, rows in ((loop, costs[f"floor, {loop}"]) for loop in LOOPS)
    ]
    return Outcome(
        bench="home",
        setup={
            "rounds": options.rounds,
            "requests_a_round": options.requests,
            "connections": CONNECTIONS,
            "tweets": TWEETS,
            "authors": AUTHORS,
            "bytes_of_JSON": answer_bytes,
        },
        unit="us of CPU a request",
        costs={
            name: {process: Spread.of(row[process] for row in rows) for process in rows[0]}
            for name, rows in costs.items()
        },
        ratios=ratios,
    )
