"""Services that are away, come back, or answer badly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest

from cli.edge import EdgeConfig
from tests.edge.harness import (
    CLUSTERS,
    Call,
    Context,
    Edge,
    Tokens,
    Toys,
    check_problem,
    failure,
    keys_fetched,
    new_key,
    running_edge,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

GET_TWEET = "/rookery.tweet.v1.TweetService/GetTweet"
CREATE_TWEET = "/rookery.tweet.v1.TweetService/CreateTweet"


@asynccontextmanager
async def an_edge(config: EdgeConfig, folder: Path) -> AsyncIterator[Edge]:
    """An edge of this test's own, before services that are not there yet."""
    await asyncio.to_thread(folder.mkdir)
    changed = replace(
        config,
        targets={cluster: f"unix://{folder / cluster}.sock" for cluster in CLUSTERS},
        access_log=folder / "access.log",
        health_interval=1,
    )
    async with running_edge(changed, folder) as running:
        yield running


async def test_the_edge_may_start_before_the_services(config: EdgeConfig, sockets: Path, tokens: Tokens) -> None:
    folder = sockets / "early"
    async with an_edge(config, folder) as edge, httpx.AsyncClient(base_url=edge.url, timeout=5, verify=False) as client:
        check_problem(await client.post("/v1/auth/login", json={}), 503)
        # No key to believe it by: not the token's fault, so no 401, upon which clients sign in again.
        response = await client.get("/2/tweets/1", headers=tokens.bearer())
        check_problem(response, 503)
        assert "www-authenticate" not in response.headers
        check_problem(await client.get("/2/tweets/1"), 401)
        toys = Toys(folder, [tokens.key])
        await toys.start()
        try:
            began = time.monotonic()
            assert (await client.post("/v1/auth/login", json={})).status_code == 200
            while (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code != 200:
                assert time.monotonic() - began < 3
                await asyncio.sleep(0.05)
        finally:
            await toys.stop()


async def test_a_service_that_is_down_is_503_and_back_at_once_on_its_return(
    config: EdgeConfig, sockets: Path, tokens: Tokens
) -> None:
    folder = sockets / "down"
    async with an_edge(config, folder) as edge, httpx.AsyncClient(base_url=edge.url, timeout=5, verify=False) as client:
        toys = Toys(folder, [tokens.key])
        await toys.start()
        try:
            await keys_fetched(edge)
            path, headers = "/2/users/7/followers", tokens.bearer()
            assert (await client.get(path, headers=headers)).status_code == 200
            await toys.stop("graph")
            check_problem(await client.get(path, headers=headers), 503)
            assert (await client.get("/2/tweets/1", headers=headers)).status_code == 200
            await edge.until("cluster.graph.membership_healthy", 0)
            check_problem(await client.get(path, headers=headers), 503)
            await toys.start("graph")
            began = time.monotonic()
            while (await client.get(path, headers=headers)).status_code != 200:
                assert time.monotonic() - began < 2
                await asyncio.sleep(0.02)
            await edge.until("cluster.graph.membership_healthy", 1)
        finally:
            await toys.stop()


async def test_a_service_that_ends_in_the_middle_is_503_and_the_write_is_not_repeated(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    arrived = asyncio.Event()

    async def hold(call: Call, context: Context) -> bytes:
        arrived.set()
        await asyncio.sleep(30)
        return b""

    toys.answers[CREATE_TWEET] = hold
    post = asyncio.create_task(client.post("/2/tweets", json={"text": "x"}, headers=tokens.bearer()))
    await asyncio.wait_for(arrived.wait(), 5)
    await toys.stop("tweet")
    await toys.start("tweet")
    check_problem(await post, 503)
    assert len(toys.calls) == 1
    toys.answers.clear()
    assert (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code == 200


async def test_a_restart_between_two_requests_goes_unnoticed(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    for _ in range(3):
        assert (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code == 200
        await toys.stop("tweet")
        await toys.start("tweet")
    assert (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code == 200


async def test_an_error_from_a_handler_is_never_tried_again(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED):
        toys.calls.clear()
        toys.answers[CREATE_TWEET] = failure(code)
        await client.post("/2/tweets", json={"text": "x"}, headers=tokens.bearer())
        assert len(toys.calls) == 1, code


async def test_a_viewers_429_is_no_sign_of_an_ill_service_and_a_503_is(
    client: httpx.AsyncClient, edge: Edge, toys: Toys, tokens: Tokens
) -> None:
    detected = "cluster.tweet.outlier_detection.ejections_detected_.*gateway_failure"
    before = await edge.counter(detected)
    for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND):
        toys.answers[GET_TWEET] = failure(code)
        for _ in range(10):
            await client.get("/2/tweets/1", headers=tokens.bearer())
    assert await edge.counter(detected) == before
    toys.answers[GET_TWEET] = failure(grpc.StatusCode.UNAVAILABLE)
    for _ in range(20):
        check_problem(await client.get("/2/tweets/1", headers=tokens.bearer()), 503)
    assert await edge.counter(detected) > before
    toys.answers.clear()  # the only host is never given up
    assert (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code == 200
    assert await edge.counter("cluster.tweet.outlier_detection.ejections_active") == 0


async def test_a_new_key_is_believed_once_it_was_fetched(config: EdgeConfig, sockets: Path, tokens: Tokens) -> None:
    """Rotation: the next key is published first and used after the cache's 5 minutes; both are good meanwhile."""
    folder, following = sockets / "keys", new_key("k2")
    async with an_edge(config, folder) as edge, httpx.AsyncClient(base_url=edge.url, timeout=5, verify=False) as client:
        toys = Toys(folder, [tokens.key, following])
        await toys.start()
        try:
            await keys_fetched(edge)
            for token in (tokens.make("7"), tokens.make("7", key=following, kid="k2")):
                response = await client.get("/2/tweets/1", headers={"authorization": f"Bearer {token}"})
                assert response.status_code == 200
            swapped = tokens.make("7", key=following, kid="k1")
            check_problem(await client.get("/2/tweets/1", headers={"authorization": f"Bearer {swapped}"}), 401)
        finally:
            await toys.stop()


async def test_behind_a_proxy_its_word_on_the_caller_counts_and_nothing_else(
    config: EdgeConfig, sockets: Path, tokens: Tokens
) -> None:
    folder = sockets / "proxied"
    async with an_edge(replace(config, trusted_hops=1), folder) as edge:
        toys = Toys(folder, [tokens.key])
        await toys.start()
        try:
            await keys_fetched(edge)
            forged = (
                "x-user-id",
                "x-rookery-viewer",
                "x-forwarded-host",
                "x-forwarded-client-cert",
                "x-fob",
                "x-",
                "x-a",
            )
            headers = dict.fromkeys((*forged, "x-envoy-original-method", "grpc-timeout", "x-forwarded-port"), "1")
            headers |= {"x-forwarded-for": "203.0.113.7, 198.51.100.9", **tokens.bearer("7")}
            async with httpx.AsyncClient(base_url=edge.url, timeout=5, verify=False) as client:
                response = await client.get("/2/tweets/1", headers=headers)
            assert response.status_code == 200
            (call,) = toys.calls
            assert call.values("x-user-id") == ["7"]
            set_here = {"x-user-id", "x-forwarded-for", "x-envoy-original-method"}
            assert not {name for name, _ in call.metadata} & (set(headers) - set_here)
            assert str(call.values("x-forwarded-for")[0]).startswith("203.0.113.7")
            assert call.values("x-envoy-original-method") == ["GET"]
            assert '"client":"198.51.100.9"' in await edge.logged(response.headers["x-request-id"])
        finally:
            await toys.stop()


async def test_an_edge_that_was_killed_starts_again_on_the_same_sockets(
    config: EdgeConfig, sockets: Path, tokens: Tokens
) -> None:
    folder = sockets / "killed"
    toys = Toys(folder, [tokens.key])
    async with an_edge(config, folder) as edge:
        await toys.start()
        await keys_fetched(edge)
        edge.process.kill()
        await edge.process.wait()
    try:
        assert await asyncio.to_thread((folder / "edge-jwks.sock").exists)
        changed = replace(
            config,
            targets={cluster: toys.target(cluster) for cluster in CLUSTERS},
            access_log=folder / "access.log",
        )
        async with running_edge(changed, folder) as edge, httpx.AsyncClient(base_url=edge.url, verify=False) as client:
            await keys_fetched(edge)
            assert (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code == 200
    finally:
        await toys.stop()
