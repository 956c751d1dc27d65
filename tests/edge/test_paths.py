"""Which paths there are, and that nothing else leads anywhere (hostile input 8, 9)."""

from __future__ import annotations

import asyncio
import re

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2

from cli.edge import EdgeConfig, Operation, operations
from tests.edge.harness import Edge, Tokens, Toys, check_problem
from tests.edge.http2 import Connection

pytestmark = pytest.mark.asyncio(loop_scope="session")

DESCRIPTORS = EdgeConfig(targets={}, admin_port=0).descriptors.read_bytes()
OPERATIONS = operations(DESCRIPTORS)
OUTSIDE = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.channelz.v1.Channelz/GetServers",
)


def every_rpc() -> list[str]:
    """Every method of the descriptor set, public and mesh-only, and what a gRPC server may have besides."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS).file
    found = [
        f"/{file.package}.{service.name}/{method.name}"
        for file in files
        for service in file.service
        for method in service.method
    ]
    assert len([rpc for rpc in found if "Mesh" in rpc]) >= 8
    return [*found, *OUTSIDE]


def exact(url: str, path: str) -> httpx.URL:
    """A URL whose path goes out as it is: httpx would escape and normalise it."""
    return httpx.URL(url).copy_with(raw_path=path.encode())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
async def test_every_operation_reaches_its_rpc(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, operation: Operation
) -> None:
    path = re.sub(r"\{[^}]*\}", "7", operation.path)
    body: dict[str, str] | None = {} if operation.method in ("POST", "PUT", "PATCH") else None
    response = await client.request(operation.method, path, json=body, headers=tokens.bearer())
    assert response.status_code == 200, response.text
    if not operation.rpc.endswith("/GetJwks"):
        assert [call.rpc for call in toys.calls] == [operation.rpc]


@pytest.mark.parametrize(
    "content_type",
    [f"application/{kind}" for kind in ("grpc", "grpc+proto", "grpc-web", "grpc-web-text", "json")],
)
async def test_no_rpc_is_reachable_by_its_grpc_path(
    client: httpx.AsyncClient, edge: Edge, toys: Toys, tokens: Tokens, content_type: str
) -> None:
    """With a token 404, without one 401; the transcoder's mark, forged, changes nothing."""
    forged = {"x-envoy-original-method": "POST", "x-envoy-original-path": "/2/tweets", "te": "trailers"}
    is_grpc = content_type == "application/grpc"  # what a path is does not depend on what its body is
    for rpc in every_rpc():
        others = (f"/{rpc}", f"{rpc}/", rpc.lower(), f"/v1{rpc}", f"/2/..{rpc}") if is_grpc else ()
        for path in (rpc, *others):
            url, headers = exact(edge.url, path), {"content-type": content_type, **forged}
            body = b"{}" if content_type.endswith("json") else b"\0\0\0\0\0"
            signed = await client.post(url, content=body, headers={**headers, **tokens.bearer()})
            check_problem(signed, 404)
            if path == rpc:
                check_problem(await client.post(url, content=body, headers=headers), 401)
    assert not toys.calls


async def test_no_rpc_is_reachable_by_a_grpc_client(edge: Edge, toys: Toys, tokens: Tokens) -> None:
    async with grpc.aio.insecure_channel(f"{edge.host}:{edge.port}") as channel:
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            (tuple(tokens.bearer().items()), grpc.StatusCode.UNIMPLEMENTED),
        ):
            for rpc in every_rpc():
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(rpc)
                    await call(b"", metadata=metadata, timeout=5)
                assert caught.value.code() == code, rpc
    assert not toys.calls


async def test_grpc_to_a_rest_path_is_415(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    headers = {**tokens.bearer(), "content-type": "application/grpc"}
    check_problem(await client.post("/2/tweets", content=b"\0\0\0\0\0", headers=headers), 415)
    assert not toys.calls


@pytest.mark.parametrize("path", ["/", "/nope", "/2", "/2/tweets/1/nope", "/2/Tweets/1", "/admin", "/stats", "/ready"])
async def test_an_unknown_path_is_404_with_a_token_and_401_without(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, path: str
) -> None:
    check_problem(await client.get(path, headers=tokens.bearer()), 404)
    check_problem(await client.get(path), 401)
    assert not toys.calls


GET_TWEET = "/rookery.tweet.v1.TweetService/GetTweet"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        # Another spelling of a path that there is: the same as that path, for the token, the route and the service.
        ("//2/tweets/1", 200),
        ("/2//tweets///1", 200),
        ("/2/./tweets/1", 200),
        ("/2/users/../tweets/1", 200),
        ("/../../2/tweets/1", 200),
        ("/2/users/%2e%2e/tweets/1", 200),
        ("/2/tweets/1/", 200),
        ("/2/tweets/%31", 200),
        ("/2/tweets/1?", 200),
        # An escaped slash is refused outright: it is one segment to one reader and two to another.
        ("/2/tweets%2F1", 400),
        ("/2/tweets%2f1", 400),
        ("/2/tweets%5C1", 400),
        ("/2/tweets/..%2ftweets/1", 400),
        ("/2/tweets/1%00", 400),
        # Anything else is a part of the segment, and so no number.
        ("/2/tweets/1.", 400),
        ("/2/tweets/1..", 400),
        ("/2/tweets/1;a=b", 400),
        ("/2/tweets/1%3b", 400),
        ("/2/tweets/*", 400),
        ("/2/tweets/1,2", 400),
        ("/2/tweets/1:get", 400),
        ("/2/tweets/%20", 400),
        ("/2/tweets/0x1", 400),
        ("/2/tweets/9223372036854775808", 400),
        # Or the path of nothing.
        ("/2/tweets./1", 404),
        ("/2/tweets;a=b/1", 404),
        ("/2;/tweets/1", 404),
        ("/2/*/1", 404),
        ("/2/twe%65ts/1/2", 404),
    ],
)
async def test_each_spelling_of_a_path_gets_one_decision(
    client: httpx.AsyncClient, edge: Edge, toys: Toys, tokens: Tokens, path: str, status: int
) -> None:
    response = await client.get(exact(edge.url, path), headers=tokens.bearer())
    if status == 200:
        assert response.status_code == 200, response.text
        assert [(call.rpc, call.request) for call in toys.calls] == [(GET_TWEET, b"\x08\x01")]
    else:
        check_problem(response, status)
        assert not toys.calls


@pytest.mark.parametrize(
    "path",
    [f"/v1/auth/{name}" for name in ("login/", "LOGIN", "login/x", "login;x", "login.", "login%20", "")]
    + [f"/v1/auth/login/..{rest}" for rest in ("", "/x", "/../../2/tweets/1")]
    + ["/.well-known/jwks.json/", "/.well-known/", "/healthz/", "/healthz/../2/tweets/1"],
)
async def test_nothing_but_the_exact_public_paths_is_public(
    client: httpx.AsyncClient, edge: Edge, toys: Toys, path: str
) -> None:
    check_problem(await client.get(exact(edge.url, path)), 401)
    check_problem(await client.post(exact(edge.url, path), json={}), 401)
    assert not toys.calls


@pytest.mark.parametrize("path", [f"{start}/auth/login" for start in ("//v1", "/v1/.", "/2/../v1", "/v1//", "/%76%31")])
async def test_a_public_path_is_public_in_each_of_its_spellings(
    client: httpx.AsyncClient, edge: Edge, toys: Toys, path: str
) -> None:
    response = await client.post(exact(edge.url, path), json={})
    assert response.status_code == 200, response.text
    assert [call.rpc for call in toys.calls] == ["/rookery.user.v1.AuthService/Login"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/2/tweets/1", {"GET", "DELETE"}),
        ("DELETE", "/2/tweets", {"GET", "POST"}),
        ("HEAD", "/2/tweets/1", {"GET", "DELETE"}),
        ("OPTIONS", "/2/tweets/1", {"GET", "DELETE"}),
        ("TRACE", "/2/tweets/1", {"GET", "DELETE"}),
        ("PATCH", "/2/users/7/following", {"GET", "POST"}),
        ("GET", "/2/users/7/following/8", {"DELETE"}),
        ("GET", "/v1/auth/login", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_a_known_path_says_which_methods_it_takes(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, method: str, path: str, allow: set[str]
) -> None:
    response = await client.request(method, path, headers=tokens.bearer())
    assert set(response.headers["allow"].split(", ")) == allow
    if method == "HEAD":
        assert response.status_code == 405 and not response.content
    else:
        check_problem(response, 405)
    assert not toys.calls


async def test_healthz_is_answered_without_any_service(client: httpx.AsyncClient, toys: Toys) -> None:
    response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["content-type"] == "application/json"
    assert (await client.head("/healthz")).status_code == 200
    assert not toys.calls


async def test_the_connection_stays_usable_after_head(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    for _ in range(3):
        await client.head("/2/tweets/1", headers=tokens.bearer())
        assert (await client.get("/2/tweets/1", headers=tokens.bearer())).status_code == 200


@pytest.mark.parametrize("path", ["/2/tweets/1#x", "/2/tweets/1?x#y"])
async def test_a_fragment_is_refused(edge: Edge, toys: Toys, tokens: Tokens, path: str) -> None:
    async with Connection(edge.host, edge.port) as connection:
        connection.request(1, path, tokens.bearer().items())
        status, body = await connection.answer(1)
    assert status == 400
    assert b'"status":400' in body
    assert not toys.calls


@pytest.mark.parametrize(
    ("line", "status"),
    [("CONNECT 127.0.0.1:22", 401), ("OPTIONS *", 404), ("BREW /2/tweets/1", 400), ("GET 2/tweets/1", 400)],
)
async def test_a_request_line_without_a_usual_method_or_path_leads_nowhere(
    edge: Edge, toys: Toys, line: str, status: int
) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(f"{line} HTTP/1.1\r\nhost: 127.0.0.1:22\r\n\r\n".encode())
    answered = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    assert int(answered.split()[1]) == status
    assert not toys.calls


async def test_no_upgrade(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket", **tokens.bearer()}
    check_problem(await client.get("/2/tweets/1", headers=upgrade), 403)
    assert not toys.calls


async def test_http2_without_tls_is_served(edge: Edge, toys: Toys, tokens: Tokens) -> None:
    async with Connection(edge.host, edge.port) as connection:
        connection.request(1, "/2/tweets/1", tokens.bearer().items())
        assert await connection.answer(1) == (200, b"{}")
    assert toys.calls[0].values("x-user-id") == ["7"]
