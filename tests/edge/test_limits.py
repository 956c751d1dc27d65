"""Limits at the edge: a real Envoy, two replicas of the real `ratelimit` service, one Valkey; toys behind it.

For each limit of the default file the edge is driven past it, 16 requests at a time, and exactly the limit is admitted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
import tweepy
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rookery.timeline.v1.timeline_service_pb2 import GetHomeTimelineResponse
from rookery.tweet.v1.tweet_service_pb2 import GetTweetResponse

from cli.edge import EdgeConfig, EdgeLimits
from cli.ports import Ports
from cli.profile import PROJECT
from tests.e2e.tweepy_clients import HOST, ToEdge
from tests.edge.driving import Request, admitted, drive, most_within
from tests.edge.harness import Edge, Tokens, Toys, answer, check_nothing_internal, failure, keys_fetched, running_edge
from tests.stores.conftest import Valkey

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEFAULT = PROJECT / "services" / "ratelimit" / "limits.yaml"
# Two limits of this test's own, whose windows end while it waits: unlikes, and the deletion of tweets.
SHORT_S, SHORT, TINY_S, TINY = 2, 12, 3, 2
MORE = f"""
  - key: operation
    value: /rookery.tweet.v1.EngagementService/Unlike
    rate_limit: {{unit: second, unit_multiplier: {SHORT_S}, requests_per_unit: {SHORT}}}
  - key: operation
    value: /rookery.tweet.v1.TweetService/DeleteTweet
    rate_limit: {{unit: second, unit_multiplier: {TINY_S}, requests_per_unit: {TINY}}}
"""
REPLICAS = 2
people = count(1_000)


@dataclass
class Replicas:
    """Processes of `ratelimit`."""

    ports: dict[int, int]
    """Where each listens, and where its metrics are."""
    limits: Path
    cache_url: str
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self) -> None:
        """Starts all, and waits until each is ready."""
        path = os.pathsep.join((str(PROJECT), str(PROJECT / "gen")))
        for port, metrics in self.ports.items():
            self.processes.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "services.ratelimit"),
                    env={
                        "PATH": os.environ["PATH"],
                        "PYTHONPATH": path,
                        "ROOKERY_LISTEN": f"127.0.0.1:{port}",
                        "ROOKERY_METRICS_LISTEN": f"127.0.0.1:{metrics}",
                        "ROOKERY_CACHE_URL": self.cache_url,
                        "ROOKERY_LIMITS_FILE": str(self.limits),
                    },
                    stdout=asyncio.subprocess.DEVNULL,
                )
            )
        for port in self.ports:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                found = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
                assert found.status == health_pb2.HealthCheckResponse.SERVING

    async def kill(self) -> None:
        """SIGKILL to all, and waits until they are gone."""
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
        self.processes.clear()

    async def metric(self, name: str) -> float:
        """A metric, the sum over all replicas and labels."""
        total = 0.0
        async with httpx.AsyncClient(timeout=10) as client:
            for metrics in self.ports.values():
                text = (await client.get(f"http://127.0.0.1:{metrics}/metrics")).text
                total += sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))
        return total


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Valkey]:
    """Where calls are counted."""
    folder = sockets / "counts"
    folder.mkdir()
    valkey = Valkey(folder, durable=False)
    yield valkey
    valkey.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def replicas(store: Valkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    """Two replicas on one store, with the default limits and two short ones."""
    limits = tmp_path_factory.mktemp("limits") / "limits.yaml"
    head = "- key: user\n  descriptors:\n"
    assert head in DEFAULT.read_text()
    limits.write_text(DEFAULT.read_text().replace(head, head + MORE.lstrip("\n")))
    ports = Ports()
    numbers = {ports.reserve(): ports.reserve() for _ in range(REPLICAS)}
    made = Replicas(numbers, limits, store.url)
    try:
        await made.start()
        yield made
    finally:
        await made.kill()
        ports.release()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(
    config: EdgeConfig, all_toys: Toys, replicas: Replicas, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Edge]:
    """An edge that asks both replicas."""
    folder = tmp_path_factory.mktemp("limited")
    addresses = ",".join(f"127.0.0.1:{port}" for port in replicas.ports)
    mine = replace(
        config,
        targets={**config.targets, "ratelimit": f"ipv4:{addresses}"},
        access_log=folder / "access.log",
        jwks_listen=f"unix://{config.targets['user'].removeprefix('unix://')}.limits",
        health_interval=1,
    )
    async with running_edge(mine, folder) as running:
        await keys_fetched(running)
        await running.until("cluster.ratelimit.membership_healthy", REPLICAS)
        yield running


def signed(tokens: Tokens, method: str, path: str, body: dict[str, object] | None = None) -> Request:
    """A request of somebody who has asked for nothing yet; `{me}` in the path is their id."""
    me = str(next(people))
    return Request(method, path.replace("{me}", me), tokens.bearer(me), body)


LIMITS = [
    ("POST", "/2/tweets", {"text": "x"}, 300, 3 * 3600),
    ("POST", "/2/users/{me}/retweets", {"tweet_id": "1"}, 300, 3 * 3600),
    ("POST", "/2/users/{me}/likes", {"tweet_id": "1"}, 1_000, 86_400),
    ("POST", "/2/users/{me}/following", {"target_user_id": "1"}, 400, 86_400),
    ("GET", "/2/users/search?query=a", None, 180, 900),
    ("GET", "/2/users/{me}/timelines/reverse_chronological", None, 900, 900),
    ("GET", "/2/users/{me}/tweets", None, 900, 900),
    ("GET", "/2/users/{me}/mentions", None, 900, 900),
    ("GET", "/2/lists/1/tweets", None, 900, 900),
    ("GET", "/2/tweets/1", None, 450, 900),
]


@pytest.mark.parametrize(("method", "path", "body", "limit", "window_s"), LIMITS)
async def test_exactly_the_limit_is_admitted(
    limited: Edge,
    toys: Toys,
    tokens: Tokens,
    method: str,
    path: str,
    body: dict[str, object] | None,
    limit: int,
    window_s: int,
) -> None:
    began = int(time.time())
    answers = await drive(limited, signed(tokens, method, path, body), times=limit + 40)
    passed = admitted(answers)
    assert len(passed) == limit
    assert len(toys.calls) == limit  # refused ones reach no service
    assert {each.headers["x-rate-limit-limit"] for each in answers} == {str(limit)}
    assert {int(each.headers["x-rate-limit-remaining"]) for each in passed} == set(range(limit))
    for each in answers:
        assert began + window_s <= int(each.headers["x-rate-limit-reset"]) <= time.time() + window_s + 2


async def test_a_refusal_is_a_problem_that_tells_when_to_come_back(limited: Edge, toys: Toys, tokens: Tokens) -> None:
    request = signed(tokens, "DELETE", "/2/tweets/1")
    refused = [each for each in await drive(limited, request, times=TINY + 10) if each.status == 429]
    assert refused
    for each in refused:
        assert each.headers["content-type"] == "application/problem+json"
        assert each.headers["x-rate-limit-remaining"] == "0"
        reset = int(each.headers["x-rate-limit-reset"])
        assert each.problem == {
            "title": "Too Many Requests",
            "detail": "There were too many requests; try again later.",
            "type": "about:blank",
            "status": 429,
            "reset": reset,
            "errors": [{"message": "There were too many requests; try again later."}],
        }
        check_nothing_internal(each.headers, each.body.decode())
    # Whoever waits until then is admitted, as it says.
    await asyncio.sleep(max(0.0, int(refused[-1].headers["x-rate-limit-reset"]) - time.time()))
    assert [each.status for each in await drive(limited, request, times=1)] == [200]


async def test_tweepy_waits_and_goes_on(
    limited: Edge, toys: Toys, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    client = tweepy.Client(bearer_token=tokens.make(str(next(people))), wait_on_rate_limit=True)
    client.session.mount(HOST, ToEdge(limited.url))
    with client.session, caplog.at_level(logging.WARNING, logger="tweepy"):
        for _ in range(TINY + 1):
            await asyncio.to_thread(client.delete_tweet, 1, user_auth=False)
    assert len(toys.calls) == TINY + 1
    assert "Rate limit exceeded. Sleeping" in caplog.text


async def test_no_window_has_more_than_the_limit_wherever_it_begins(limited: Edge, toys: Toys, tokens: Tokens) -> None:
    """Windows slide: three of them in a row, asked for all the time, so that calls leave one by one."""
    request = signed(tokens, "DELETE", "/2/users/{me}/likes/1")
    answers = await drive(limited, request, enough=lambda found: len(admitted(found)) > 3 * SHORT)
    passed = admitted(answers)
    assert most_within(passed, SHORT_S) <= SHORT
    refused = [each for each in answers if each.status == 429]
    assert refused
    for each in refused:  # the window was full: those that were refused before did not count
        begin, end = each.sent - SHORT_S, each.received
        assert sum(begin < one.received and one.sent < end for one in passed) >= SHORT


async def test_who_has_used_up_one_limit_has_the_others_and_nobody_else_is_held_up(
    limited: Edge, toys: Toys, tokens: Tokens
) -> None:
    """One's own 429s trip no breaker and put no host out (Envoy counts RESOURCE_EXHAUSTED as a failure)."""
    toys.answers["/rookery.tweet.v1.TweetService/GetTweet"] = answer(GetTweetResponse())
    greedy = signed(tokens, "GET", "/2/users/search?query=a")
    answers = await drive(limited, greedy, times=1_500)
    assert len(admitted(answers)) == 180
    other = replace(greedy, path="/2/tweets/1")
    assert [each.status for each in await drive(limited, other, times=20)] == [200] * 20
    assert {each.status for each in await drive(limited, signed(tokens, greedy.method, greedy.path), times=50)} == {200}
    for cluster in ("user", "tweet", "ratelimit"):
        assert await limited.counter(f"cluster.{cluster}.outlier_detection.ejections_enforced_total") == 0
        assert await limited.counter(f"cluster.{cluster}.upstream_rq_pending_overflow") == 0
        assert await limited.counter(f"cluster.{cluster}.circuit_breakers.default.rq_open") == 0
        assert await limited.counter(f"cluster.{cluster}.upstream_rq_retry") == 0


async def test_a_services_own_429s_put_no_host_out(limited: Edge, toys: Toys, tokens: Tokens) -> None:
    rpc = "/rookery.tweet.v1.TweetService/GetTweet"
    toys.answers[rpc] = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
    request = signed(tokens, "GET", "/2/tweets/1")
    answers = await drive(limited, request, times=100)
    assert {each.status for each in answers} == {429}
    assert all(int(each.headers["x-rate-limit-remaining"]) > 0 for each in answers)  # it was counted like any other
    toys.answers[rpc] = answer(GetTweetResponse())
    assert {each.status for each in await drive(limited, request, times=20)} == {200}
    assert await limited.counter("cluster.tweet.outlier_detection.ejections_enforced_total") == 0


async def test_without_a_token_the_address_counts_whatever_the_headers_claim(
    limited: Edge, toys: Toys, tokens: Tokens
) -> None:
    login = Request("POST", "/v1/auth/login", body={"username": "a", "password": "correct horse"})

    def claims(number: int) -> dict[str, str]:
        forged = f"203.0.{number % 256}.{number // 256}"
        return {
            "x-forwarded-for": forged,
            "X-Forwarded-For": f"{forged}, 198.51.100.1",
            "forwarded": f"for={forged}",
            "x-real-ip": forged,
            "x-envoy-external-address": forged,
            "true-client-ip": forged,
            "x-user-id": str(number),
            "x_user_id": str(number),
            "authorization": f"Bearer {number}.{number}.{number}",  # ignored where none is needed
        }

    answers = await drive(limited, login, times=340, headers=claims)
    assert len(admitted(answers)) == 300
    # Each operation has a count of its own, and so have people with a token at the same address.
    refresh = replace(login, path="/v1/auth/refresh", body={"refresh_token": "a"})
    assert {each.status for each in await drive(limited, refresh, times=20)} == {200}
    assert {each.status for each in await drive(limited, signed(tokens, "GET", "/2/tweets/1"), times=5)} == {200}


async def test_a_path_counts_however_it_is_written(limited: Edge, toys: Toys, tokens: Tokens) -> None:
    request = signed(tokens, "GET", "/2/users/search?query=a")
    spellings = ["/2/users/search/?query=a", "//2/users//search?query=a", "/2/x/../users/search?query=a", request.path]
    passed = 0
    for path in spellings:
        passed += len(admitted(await drive(limited, replace(request, path=path), times=60)))
    assert passed == 180
    assert all(call.rpc.endswith("/SearchUsers") for call in toys.calls)


async def test_a_changed_file_holds_at_once_and_a_wrong_one_changes_nothing(
    limited: Edge, replicas: Replicas, toys: Toys, tokens: Tokens
) -> None:
    text = replicas.limits.read_text()
    request = signed(tokens, "GET", "/2/users/{me}/liked_tweets")

    async def loads(name: str, least: float) -> None:
        until = time.monotonic() + 30
        while await replicas.metric(name) < least:
            assert time.monotonic() < until, name
            await asyncio.sleep(0.05)  # a file has no event to wait for

    before = await replicas.metric("ratelimit_limits_loads_total")
    replicas.limits.write_text(text.replace("requests_per_unit: 450", "requests_per_unit: 7"))
    await loads("ratelimit_limits_loads_total", before + REPLICAS)
    assert len(admitted(await drive(limited, request, times=20))) == 7

    replicas.limits.write_text(text.replace("unit: minute", "unit: fortnight"))
    await loads("ratelimit_limits_loads_total", before + 2 * REPLICAS)
    assert await replicas.metric("ratelimit_limits_good") == 0
    assert {each.status for each in await drive(limited, request, times=5)} == {429}

    replicas.limits.write_text(text)
    await loads("ratelimit_limits_good", REPLICAS)
    answers = admitted(await drive(limited, request, times=450))
    assert len(answers) == 443  # what was counted under the smaller limit still is


async def test_without_the_store_or_the_service_everything_passes_and_is_counted(
    limited: Edge, replicas: Replicas, store: Valkey, toys: Toys, tokens: Tokens
) -> None:
    toys.answers["/rookery.timeline.v1.TimelineService/GetHomeTimeline"] = answer(GetHomeTimelineResponse())
    request = signed(tokens, "GET", "/2/users/search?query=a")
    assert len(admitted(await drive(limited, request, times=200))) == 180

    store.kill()
    answers = await drive(limited, request, times=100)
    assert {each.status for each in answers} == {200}
    assert not any("x-rate-limit-limit" in each.headers for each in answers)
    assert await replicas.metric("ratelimit_unchecked_total") == 100

    await replicas.kill()
    assert {each.status for each in await drive(limited, request, times=100)} == {200}
    assert await limited.counter("cluster.user.ratelimit.failure_mode_allowed") == 100

    store.start()
    await replicas.start()
    await limited.until("cluster.ratelimit.membership_healthy", REPLICAS)
    assert len(admitted(await drive(limited, request, times=200))) == 180


async def test_a_whole_edge_admits_so_many_requests_a_second(
    config: EdgeConfig, all_toys: Toys, tmp_path: Path, sockets: Path
) -> None:
    rate = 20
    mine = replace(
        config,
        limits=EdgeLimits(requests_per_second=rate),
        access_log=tmp_path / "access.log",
        jwks_listen=f"unix://{sockets}/rate.sock",
    )
    async with running_edge(mine, tmp_path) as edge:
        healthy = Request("GET", "/healthz")
        answers = await drive(edge, healthy, enough=lambda found: len(admitted(found)) > 2 * rate)
    assert most_within(admitted(answers), 1.0) <= rate
    refused = [each for each in answers if each.status == 429]
    assert refused
    for each in refused:
        assert each.headers["x-rate-limit-limit"] == str(rate)
        assert each.headers["x-rate-limit-remaining"] == "0"
        assert each.sent - 2 <= int(each.headers["x-rate-limit-reset"]) <= each.received + 1
        assert each.problem["status"] == 429
