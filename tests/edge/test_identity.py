"""Who the caller is: only what a verified token says, and nothing that came from outside (hostile input 6, 7)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.edge.harness import Edge, Tokens, Toys, check_problem, new_key, segment
from tests.edge.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, Connection, header_block

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/2/tweets/1"


async def refused(client: httpx.AsyncClient, toys: Toys, token: str) -> None:
    response = await client.get(PATH, headers={"authorization": f"Bearer {token}"})
    check_problem(response, 401)
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert not toys.calls


async def test_the_subject_reaches_the_service_exactly_once(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    response = await client.get(PATH, headers=tokens.bearer("9007199254740993"))
    assert response.status_code == 200
    assert toys.calls[0].values("x-user-id") == ["9007199254740993"]
    assert not toys.calls[0].values("authorization")


async def test_a_token_used_again_still_gives_its_own_subject(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    first, second = tokens.bearer("11"), tokens.bearer("12")
    for headers in (first, second) * 5:
        await client.get(PATH, headers=headers)
    assert [call.values("x-user-id") for call in toys.calls] == [["11"], ["12"]] * 5


async def test_without_a_token_the_answer_is_401_and_asks_for_one(client: httpx.AsyncClient, toys: Toys) -> None:
    response = await client.get(PATH)
    check_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert not toys.calls


async def test_the_schemes_case_does_not_matter(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    response = await client.get(PATH, headers={"authorization": f"bearer {tokens.make('7')}"})
    assert response.status_code == 200
    assert toys.calls[0].values("x-user-id") == ["7"]


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "somebody"},
        {"aud": None},
        {"aud": []},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"nbf": int(time.time()) + 600},
        {"sub": None},
        {"sub": ""},
        {"sub": "0"},
        {"sub": "-7"},
        {"sub": "7,8"},
        {"sub": "7 "},
        {"sub": ["7"]},
        {"sub": "99999999999999999999"},
    ],
    ids=lambda changes: " ".join(map(str, changes)),  # not what they are changed to: that is of the clock
)
async def test_a_signed_token_with_wrong_claims_is_refused(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, changes: dict[str, object]
) -> None:
    payload = tokens.claims()
    payload.update(changes)
    payload = {name: value for name, value in payload.items() if value is not None}
    await refused(client, toys, _eddsa(tokens, {"alg": "EdDSA", "kid": "k1"}, payload))


def _eddsa(tokens: Tokens, header: dict[str, object], payload: dict[str, object]) -> str:
    signed = f"{segment(header)}.{segment(payload)}"
    private = tokens.key.private_key
    assert isinstance(private, Ed25519PrivateKey)
    return f"{signed}.{segment(private.sign(signed.encode()))}"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
async def test_alg_none_is_refused(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, alg: str, signature: str
) -> None:
    await refused(client, toys, f"{segment({'alg': alg})}.{segment(tokens.claims())}.{signature}")


async def test_the_public_key_is_no_hmac_secret(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    public = tokens.key.as_dict(private=False)
    secrets = [
        tokens.key.public_key.public_bytes_raw(),
        str(public["x"]).encode(),
        json.dumps(public).encode(),
        json.dumps({"keys": [public]}).encode(),
        tokens.key.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        b"",
    ]
    for secret in secrets:
        for header in ({"alg": "HS256", "kid": "k1"}, {"alg": "HS256"}):
            signed = f"{segment(header)}.{segment(tokens.claims())}"
            mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
            await refused(client, toys, f"{signed}.{segment(mac)}")


async def test_another_algorithms_key_is_refused_even_when_the_token_brings_it_along(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    numbers = rsa_key.public_key().public_numbers()
    jwk = {
        "kty": "RSA",
        "kid": "k1",
        "e": segment(numbers.e.to_bytes(3, "big")),
        "n": segment(numbers.n.to_bytes(256, "big")),
    }
    extras: list[dict[str, object]] = [
        {},
        {"jwk": jwk},
        {"jku": "http://127.0.0.1/jwks.json"},
        {"x5u": "http://127.0.0.1/"},
        {"x5c": []},
    ]
    for extra in extras:
        signed = f"{segment({'alg': 'RS256', 'kid': 'k1', **extra})}.{segment(tokens.claims())}"
        signature = rsa_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        await refused(client, toys, f"{signed}.{segment(signature)}")
    ec_key = ec.generate_private_key(ec.SECP256R1())
    signed = f"{segment({'alg': 'ES256', 'kid': 'k1'})}.{segment(tokens.claims())}"
    r, s = decode_dss_signature(ec_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    await refused(client, toys, f"{signed}.{segment(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}")


@pytest.mark.parametrize("kid", ["../../../../dev/null", "' OR '1'='1", "k1\u0000", "x" * 1500, 1, None, ["k1"], {}])
async def test_a_hostile_kid_is_refused(client: httpx.AsyncClient, toys: Toys, tokens: Tokens, kid: object) -> None:
    await refused(client, toys, _eddsa(tokens, {"alg": "EdDSA", "kid": kid}, tokens.claims()))


async def test_another_key_under_a_known_kid_is_refused(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    await refused(client, toys, tokens.make(key=new_key("k1")))


async def test_a_changed_payload_is_refused_though_the_signature_was_just_accepted(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    good = tokens.make("7")
    assert (await client.get(PATH, headers={"authorization": f"Bearer {good}"})).status_code == 200
    toys.calls.clear()
    header, _, signature = good.split(".")
    await refused(client, toys, f"{header}.{segment(tokens.claims('8'))}.{signature}")


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    good = f"Bearer {tokens.make()}"
    for pair in ((good, good), (good, "Bearer x.y.z"), ("Bearer x.y.z", good), ("Basic eDp5", good), (good, "Basic x")):
        response = await client.get(PATH, headers=[("authorization", value) for value in pair])
        check_problem(response, 401)
        response = await client.get(PATH, headers={"authorization": ", ".join(pair)})
        check_problem(response, 401)
    assert not toys.calls


@pytest.mark.parametrize("value", ["Basic eDp5", "Bearer", "Bearer x", "Bearer a.b", "Token {}", "{}", "Bearer  {}"])
async def test_anything_but_one_bearer_token_is_refused(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, value: str
) -> None:
    response = await client.get(PATH, headers={"authorization": value.format(tokens.make())})
    check_problem(response, 401)
    assert not toys.calls


async def test_a_token_elsewhere_than_in_its_header_is_no_token(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    response = await client.get(PATH, params={"access_token": tokens.make()}, headers={"cookie": tokens.make()})
    check_problem(response, 401)
    assert not toys.calls


FORGED = [
    ("x-user-id", "1"),
    ("X-User-Id", "1"),
    ("X-USER-ID", "1"),
    ("x-user-id", "1,2"),
    ("x-user-id", ""),
    ("x_user_id", "1"),
    ("X_User-Id", "1"),
    ("x-user_id", "1"),
    ("x-problem-json", "{}"),
    ("x-http-status", "204"),
    ("x-rookery-address", "203.0.113.9"),
    ("x-rookery-viewer", "1"),
    ("x-envoy-original-method", "POST"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-decorator-operation", "x"),
    ("x-request-id", "forged"),
    ("x-forwarded-proto", "https"),
    ("x-http-method-override", "DELETE"),
    ("grpc-timeout", "1n"),
    ("grpc-encoding", "gzip"),
    ("grpc-previous-rpc-attempts", "3"),
    ("grpc-tags-bin", "AAAA"),
    ("traceparent", "00-11111111111111111111111111111111-1111111111111111-01"),
    ("baggage", "a=b"),
    ("forwarded", "for=9.9.9.9"),
]


@pytest.mark.parametrize("signed_in", [True, False], ids=["token", "public"])
async def test_internal_headers_from_outside_never_reach_a_service(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, signed_in: bool
) -> None:
    if signed_in:
        response = await client.get(PATH, headers=[*tokens.bearer("7").items(), *FORGED])
    else:
        response = await client.post("/v1/auth/login", json={}, headers=FORGED)
    assert response.status_code == 200, response.text
    call = toys.calls[0]
    assert call.values("x-user-id") == (["7"] if signed_in else [])
    names = {name for name, _ in call.metadata}
    assert names <= {
        *("user-agent", "x-forwarded-for", "x-rookery-address", "x-request-id", "x-user-id"),
        *("x-envoy-original-path", "x-envoy-original-method"),
    }
    assert call.values("x-rookery-address") == ["127.0.0.1"]
    assert call.values("x-request-id") != ["forged"]
    assert call.values("x-envoy-original-method") == ["GET" if signed_in else "POST"]
    assert call.time_remaining is not None and 10 < call.time_remaining <= 15


async def test_a_forged_client_address_is_dropped(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    for forged in ("203.0.113.9", "203.0.113.9, 198.51.100.7", "127.0.0.1"):
        await client.get(PATH, headers={**tokens.bearer(), "x-forwarded-for": forged})
    addresses = {tuple(call.values("x-forwarded-for")) for call in toys.calls}
    assert len(toys.calls) == 3
    assert len(addresses) == 1
    (only,) = addresses
    assert len(only) == 1 and "," not in str(only[0]) and not str(only[0]).startswith(("203.0.113.", "198.51.100."))


async def test_an_identity_in_http2_headers_or_trailers_is_dropped(edge: Edge, toys: Toys, tokens: Tokens) -> None:
    async with Connection(edge.host, edge.port) as connection:
        headers = [*tokens.bearer("7").items(), ("x-user-id", "1"), ("x-user-id", "2"), ("x_user_id", "3")]
        connection.request(1, "/2/tweets", headers, method="POST", end_stream=False)
        connection.send(DATA, 0, 1, b'{"text":"hello"}')
        connection.send(HEADERS, END_HEADERS | END_STREAM, 1, header_block([("x-user-id", "4")]))
        status, _ = await connection.answer(1)
    assert status == 200
    assert toys.calls[0].values("x-user-id") == ["7"]


async def test_an_upper_case_name_is_no_http2_header(edge: Edge, toys: Toys, tokens: Tokens) -> None:
    async with Connection(edge.host, edge.port) as connection:
        connection.request(1, PATH, [*tokens.bearer("7").items(), ("X-User-Id", "1")])
        with pytest.raises(ConnectionError):
            await connection.answer(1)
    assert not toys.calls


@pytest.mark.parametrize("path", ["/v1/auth/register", "/v1/auth/login", "/v1/auth/refresh"])
async def test_public_paths_take_no_notice_of_a_token(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens, path: str
) -> None:
    for headers in ({}, tokens.bearer(), {"authorization": "Bearer stale.stale.stale"}, {"authorization": "Basic x"}):
        response = await client.post(path, json={}, headers=headers)
        assert response.status_code == 200, response.text
    assert len(toys.calls) == 4
    for call in toys.calls:
        assert not call.values("x-user-id") and not call.values("authorization")


async def test_the_keys_are_public(client: httpx.AsyncClient, toys: Toys, tokens: Tokens) -> None:
    response = await client.get("/.well-known/jwks.json")
    assert response.status_code == 200
    (key,) = response.json()["keys"]
    assert key["x"] == tokens.key.as_dict(private=False)["x"]
    assert "d" not in key


async def test_logout_takes_a_token_or_none_but_no_bad_one(
    client: httpx.AsyncClient, toys: Toys, tokens: Tokens
) -> None:
    assert (await client.post("/v1/auth/logout", json={})).status_code == 200
    assert (await client.post("/v1/auth/logout", json={}, headers=tokens.bearer("7"))).status_code == 200
    assert [call.values("x-user-id") for call in toys.calls] == [[], ["7"]]
    bad = {"authorization": f"Bearer {tokens.make(aud='somebody')}"}
    check_problem(await client.post("/v1/auth/logout", json={}, headers=bad), 401)
    twice = [*tokens.bearer("7").items(), *tokens.bearer("8").items()]
    check_problem(await client.post("/v1/auth/logout", json={}, headers=twice), 401)
    assert len(toys.calls) == 2


async def test_the_private_listener_is_not_the_public_one(edge: Edge, toys: Toys) -> None:
    """The socket that serves the keys to Envoy itself routes that one path and nothing else."""
    transport = httpx.AsyncHTTPTransport(uds=str(toys.folder / "edge-jwks.sock"), verify=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge", verify=False) as client:
        assert (await client.get("/.well-known/jwks.json")).status_code == 200
        answers = await asyncio.gather(
            client.post("/v1/auth/login", json={}),
            client.get(PATH),
            client.get("/2/users/me", headers={"x-user-id": "1"}),
        )
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert not toys.calls
