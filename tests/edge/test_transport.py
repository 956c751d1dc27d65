"""TLS, HTTP/2 and HTTP/3 at the edge, what browsers are told, and compression."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from rookery.api.v2 import tweet_pb2
from rookery.tweet.v1 import tweet_service_pb2
from rookery.user.v1 import user_service_pb2

from cli.edge import EdgeConfig, EdgeLimits, public_services
from tests.certificates import Public, public_certificate
from tests.edge.harness import Edge, Tokens, Toys, answer, check_problem, running_edge
from tests.edge.http2 import Connection
from tests.edge.http3 import http3_client

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/2/tweets/1"
GET_TWEET = "/rookery.tweet.v1.TweetService/GetTweet"
ORIGIN = "https://app.example.org"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Public:
    """The edge's certificate."""
    return public_certificate(tmp_path_factory.mktemp("public"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secure(config: EdgeConfig, all_toys: Toys, sockets: Path, public: Public) -> AsyncIterator[Edge]:
    """An edge with everything that this file is about."""
    folder = sockets / "secure"
    folder.mkdir(exist_ok=True)
    changed = replace(
        config,
        port=_free_port(),
        certificate=public.certificate,
        key=public.key,
        secrets=folder,
        http3=True,
        cors_origins=(ORIGIN, "http://localhost:3000"),
        limits=EdgeLimits(headers_timeout=1),
        jwks_listen=f"unix://{folder / 'jwks.sock'}",
        access_log=folder / "access.log",
    )
    async with running_edge(changed, folder) as running:
        await running.until("http.edge.jwt_authn.jwks_fetch_success", 2)  # one for HTTP/3
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(secure: Edge, public: Public) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that edge."""
    headers = {"accept-encoding": "identity"}
    async with httpx.AsyncClient(
        base_url=secure.url, verify=public.trusting(), timeout=10, trust_env=False, headers=headers
    ) as client:
        yield client


def _free_port() -> int:
    """Free for TCP and for UDP."""
    for _ in range(100):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            try:
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def handshake(edge: Edge, context: ssl.SSLContext) -> tuple[str | None, str, str | None]:
    """Version, cipher and protocol that are agreed on. Raises OSError (ssl.SSLError, too) when none is."""
    with (
        socket.create_connection((edge.host, edge.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        cipher = wrapped.cipher()
        assert cipher is not None
        return wrapped.version(), cipher[0], wrapped.selected_alpn_protocol()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(secure: Edge, public: Public, version: ssl.TLSVersion) -> None:
    context = public.trusting()
    context.minimum_version = context.maximum_version = version
    spoken, cipher, _ = await asyncio.to_thread(handshake, secure, context)
    assert spoken == version.name.replace("_", ".")
    assert "GCM" in cipher or "CHACHA20" in cipher


@pytest.mark.parametrize(
    ("highest", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-SHA:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"),
    ],
    ids=["TLS 1.0", "TLS 1.1", "CBC without forward secrecy", "GCM without forward secrecy", "CBC"],
)
async def test_old_versions_and_ciphers_are_refused(
    secure: Edge, public: Public, highest: ssl.TLSVersion, ciphers: str
) -> None:
    context = public.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, highest
    context.set_ciphers(ciphers)
    with pytest.raises(OSError):
        await asyncio.to_thread(handshake, secure, context)


async def test_the_handshake_agrees_on_http2_or_http1(
    secure: Edge, public: Public, toys: Toys, tokens: Tokens, browser: httpx.AsyncClient
) -> None:
    for offered, agreed in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")):
        context = public.trusting()
        context.set_alpn_protocols(offered)
        assert (await asyncio.to_thread(handshake, secure, context))[2] == agreed
    context = public.trusting()
    context.set_alpn_protocols(["h2"])
    async with Connection(secure.host, secure.port, context) as connection:
        connection.request(1, PATH, tokens.bearer().items())
        assert await connection.answer(1) == (200, b"{}")
    assert (await browser.get(PATH, headers=tokens.bearer())).status_code == 200
    assert [call.values("x-user-id") for call in toys.calls] == [["7"], ["7"]]


async def test_http3_is_announced_and_spoken(
    secure: Edge, public: Public, toys: Toys, tokens: Tokens, browser: httpx.AsyncClient, tmp_path: Path
) -> None:
    """With the same decisions: tokens, paths and problems are no different."""
    announced = (await browser.get("/healthz")).headers["alt-svc"]
    assert announced == f'h3=":{secure.port}"; ma=86400'
    async with http3_client(secure.port, public.certificate, tmp_path) as client:
        answered = await client.get(PATH, headers={**tokens.bearer(), "x-user-id": "8"})
        assert (answered.status_code, answered.text) == (200, "{}")
        check_problem(await client.get(PATH), 401)
        check_problem(await client.post(GET_TWEET, content=b"{}", headers=tokens.bearer()), 404)
        large = b'{"text":"' + b"x" * 5_000_000 + b'"}'
        headers = {**tokens.bearer(), "content-type": "application/json"}
        check_problem(await client.post("/2/tweets", content=large, headers=headers), 413)
    assert [call.values("x-user-id") for call in toys.calls] == [["7"]]
    assert '"protocol":"HTTP/3"' in await secure.logged('"protocol":"HTTP/3"')


async def test_a_handshake_that_never_ends_is_cut_off(secure: Edge, browser: httpx.AsyncClient) -> None:
    began = time.monotonic()
    quiet = [await asyncio.open_connection(secure.host, secure.port) for _ in range(20)]
    for _, writer in quiet[10:]:
        writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    assert (await browser.get("/healthz")).status_code == 200
    for reader, writer in quiet:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    assert time.monotonic() - began < 5


STANDING = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


async def test_every_answer_tells_browsers_what_not_to_do(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    """Successes and problems, from services and from the edge itself; HSTS over TLS only (RFC 6797, 7.2)."""
    asked: list[tuple[str, str, dict[str, str], int]] = [
        ("GET", PATH, tokens.bearer(), 200),
        ("GET", "/healthz", {}, 200),
        ("GET", PATH, {}, 401),
        ("GET", "/nope", tokens.bearer(), 404),
        ("PUT", PATH, tokens.bearer(), 405),
        ("GET", f"{PATH}?%69d=2", tokens.bearer(), 400),
        ("GET", f"{PATH}%2F", tokens.bearer(), 400),
        ("GET", PATH, {**tokens.bearer(), "a": "b" * 17_000}, 431),
    ]
    for over, where in (("TLS", browser), ("clear text", client)):
        for method, path, headers, status in asked:
            found = await where.request(method, path, headers=headers)
            assert found.status_code == status, (over, method, path)
            for name, value in STANDING.items():
                assert found.headers.get_list(name) == [value], (over, path, status, name)
            hsts = found.headers.get("strict-transport-security")
            assert hsts == ("max-age=31536000" if over == "TLS" else None)
    assert len(toys.calls) == 2


async def test_a_page_of_a_listed_origin_may_call(browser: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    asks = {
        "origin": ORIGIN,
        "access-control-request-method": "DELETE",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = await browser.options(PATH, headers=asks)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    assert {"authorization", "content-type"} <= {*preflight.headers["access-control-allow-headers"].split(", ")}
    assert preflight.headers["access-control-max-age"] == "600"
    assert not toys.calls
    for headers, status in ((tokens.bearer(), 200), ({}, 401)):
        found = await browser.get(PATH, headers={"origin": ORIGIN, **headers})
        assert found.status_code == status
        assert found.headers["access-control-allow-origin"] == ORIGIN
        assert "x-rate-limit-reset" in found.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in found.headers
    assert not toys.calls[0].values("origin")


@pytest.mark.parametrize(
    "origin",
    [
        *("https://app.example.org.evil.example", "https://evil.example", "http://app.example.org", "null", "*"),
        *("https://app.example.org:8443", "https://appxexample.org", "https://evil.example?https://app.example.org"),
    ],
)
async def test_a_page_of_any_other_origin_is_told_nothing(
    browser: httpx.AsyncClient, toys: Toys, tokens: Tokens, origin: str
) -> None:
    asks = {"origin": origin, "access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    for found in (
        await browser.options(PATH, headers=asks),
        await browser.get(PATH, headers={"origin": origin, **tokens.bearer()}),
    ):
        assert not [name for name in found.headers if name.startswith("access-control-")]


async def test_without_listed_origins_no_page_may_call(client: httpx.AsyncClient, tokens: Tokens) -> None:
    asks = {"origin": ORIGIN, "access-control-request-method": "GET"}
    assert (await client.options(PATH, headers=asks)).status_code == 401
    found = await client.get(PATH, headers={"origin": ORIGIN, **tokens.bearer()})
    assert not [name for name in found.headers if name.startswith("access-control-")]


def large_tweet(letters: int) -> tweet_service_pb2.GetTweetResponse:
    """An answer with a text of so many letters."""
    return tweet_service_pb2.GetTweetResponse(data=tweet_pb2.Tweet(id=1, text="x" * letters))


@pytest.mark.parametrize(
    ("accepted", "used"),
    [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("deflate", ""),
        ("gzip;q=0", ""),
        ("", ""),
    ],
)
async def test_a_large_answer_is_compressed_as_the_caller_takes_it(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, accepted: str, used: str
) -> None:
    toys.answers[GET_TWEET] = answer(large_tweet(20_000))
    async with client.stream("GET", PATH, headers={**tokens.bearer(), "accept-encoding": accepted}) as found:
        raw = b"".join([part async for part in found.aiter_raw()])
    assert found.status_code == 200
    assert found.headers.get("content-encoding", "") == used
    assert (len(raw) < 1000) is bool(used)
    assert "accept-encoding" in found.headers.get("vary", "").lower() or not used
    assert not toys.calls[0].values("accept-encoding")
    if used == "gzip":
        assert b"x" * 20_000 in gzip.decompress(raw)
    if used == "zstd":
        assert raw.startswith(b"\x28\xb5\x2f\xfd")


async def test_small_answers_and_problems_are_not_compressed(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    toys.answers[GET_TWEET] = answer(large_tweet(500))
    for headers, status in ((tokens.bearer(), 200), ({}, 401)):
        found = await client.get(PATH, headers={"accept-encoding": "gzip, br, zstd", **headers})
        assert found.status_code == status
        assert "content-encoding" not in found.headers


async def test_an_answer_with_tokens_is_neither_compressed_nor_stored(client: httpx.AsyncClient, toys: Toys) -> None:
    """Whoever sees lengths could guess at a secret that is compressed beside what they chose (BREACH)."""
    name = "x" * 5_000
    made = user_service_pb2.LoginResponse()
    made.data.access_token = name
    toys.answers["/rookery.user.v1.AuthService/Login"] = answer(made)
    body = {"username": "ada", "password": "correct horse"}
    found = await client.post("/v1/auth/login", json=body, headers={"accept-encoding": "gzip, br, zstd"})
    assert found.status_code == 200 and name in found.text
    assert "content-encoding" not in found.headers
    assert found.headers["cache-control"] == "no-store, no-transform"


async def test_services_that_answer_with_secrets_are_known() -> None:
    found = public_services(EdgeConfig(targets={}, admin_port=0).descriptors.read_bytes())
    secret = {service.name for service in found if service.secret}
    assert {"rookery.user.v1.AuthService", "rookery.user.v1.SecondFactorService"} <= secret
    assert "rookery.tweet.v1.TweetService" not in secret
    assert "rookery.timeline.v1.TimelineService" not in secret
