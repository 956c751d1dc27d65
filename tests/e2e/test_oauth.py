"""Clients that people let in: OAuth 2.0 with PKCE, OAuth 1.0a, scopes, and the end of tokens (hostile.md, 4 to 6)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import time
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
import tweepy
from oauthlib.oauth1 import Client as Signer
from rookery.user.v1.user_mesh_pb2 import SetRoleRequest, SetSuspensionRequest

from mesh.client import Destination
from mesh.errors import InvalidArgument, NotFound
from tests.e2e.clients import CALLBACK, asking_for, client_of, decide, hidden, sign_in, submit
from tests.e2e.harness import PASSWORD, Account, assert_problem, eventually, register
from tests.e2e.test_exports import asked, ready
from tests.e2e.tweepy_clients import HOST, ToEdge

if TYPE_CHECKING:
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

    from cli.supervisor import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")
_LONG = 512 << 20
SOON_S = 10.0
"""Within this time what has ended is known to every service: they ask each 2 s, and machines of tests are busy."""


async def let_in(
    edge: httpx.AsyncClient, account: Account, client: Mapping[str, Any], verifier: str, **changes: str
) -> str:
    """The code that a person's consent gives."""
    page = await edge.get("/2/oauth2/authorize", params=asking_for(client, verifier, **changes))
    back = await decide(edge, await sign_in(edge, page, account))
    assert back.status_code == 303, back.text
    return dict(parse_qsl(urlsplit(back.headers["location"]).query))["code"]


def trade(client: Mapping[str, Any], code: str, verifier: str, **changes: str) -> dict[str, str]:
    """Parameters of a token request."""
    return {
        "grant_type": "authorization_code",
        "client_id": client["id"],
        "redirect_uri": CALLBACK,
        "code": code,
        "code_verifier": verifier,
        **changes,
    }


async def tokens_of(
    edge: httpx.AsyncClient, account: Account, scope: str = "tweet.read tweet.write users.read offline.access"
) -> tuple[Any, Any]:
    """A new client's tokens, and the client."""
    client, verifier = await client_of(account), secrets.token_urlsafe(48)
    code = await let_in(edge, account, client, verifier, scope=scope)
    answer = await edge.post("/2/oauth2/token", data=trade(client, code, verifier))
    assert answer.status_code == 200, answer.text
    return answer.json(), client


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"authorization": f"Bearer {token}"}


def assert_oauth_error(answer: httpx.Response, status: int, error: str) -> None:
    """A problem that is also an error as RFC 6749 has it."""
    problem = assert_problem(answer, status)
    assert problem["error"] == error and problem["error_description"], problem


# --- OAuth 2.0


@pytest.mark.proves(
    "POST /v1/clients",
    "GET /2/oauth2/authorize",
    "POST /2/oauth2/token",
    "POST /2/tweets",
)
async def test_tweepy_signs_a_person_in_with_pkce_and_posts(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    client = await client_of(bob)
    handler = tweepy.OAuth2UserHandler(
        client_id=client["id"],
        redirect_uri=CALLBACK,
        scope=["tweet.read", "tweet.write", "users.read", "offline.access"],
    )
    handler.mount(HOST, ToEdge(str(edge.base_url).rstrip("/")))
    asked = urlsplit(handler.get_authorization_url())
    page = await edge.get("/2/oauth2/authorize", params=parse_qsl(asked.query))
    consent = await sign_in(edge, page, alice)
    assert "A &lt;b&gt;client&lt;/b&gt;" in consent.text and f"@{alice.username}" in consent.text
    back = await decide(edge, consent)
    assert back.headers["location"].startswith(f"{CALLBACK}&code=")
    tokens = await asyncio.to_thread(handler.fetch_token, back.headers["location"])
    assert tokens["token_type"] == "bearer" and tokens["refresh_token"] and tokens["expires_in"] == 3600
    client_of_alice = tweepy.Client(tokens["access_token"])
    client_of_alice.session.mount(HOST, ToEdge(str(edge.base_url).rstrip("/")))
    made = await asyncio.to_thread(client_of_alice.create_tweet, text="by a client", user_auth=False)
    shown = await bob.get(f"/2/tweets/{made.data['id']}", expansions="author_id")
    assert shown["includes"]["users"][0]["id"] == str(alice.id)
    handler.close()
    client_of_alice.session.close()


@pytest.mark.proves("POST /2/oauth2/token", "GET /i/oauth2/authorize")
async def test_a_confidential_client_shows_its_secret_as_a_form_or_as_json(
    edge: httpx.AsyncClient, alice: Account
) -> None:
    client, verifier = await client_of(alice, confidential=True), secrets.token_urlsafe(48)
    assert (await edge.get("/i/oauth2/authorize", params=asking_for(client, verifier))).status_code == 200
    code = await let_in(edge, alice, client, verifier)
    assert_oauth_error(await edge.post("/2/oauth2/token", data=trade(client, code, verifier)), 401, "invalid_client")
    wrong = trade(client, code, verifier, client_secret="x" * 43)
    assert_oauth_error(await edge.post("/2/oauth2/token", json=wrong), 401, "invalid_client")
    first = await edge.post(
        "/2/oauth2/token", data=trade(client, code, verifier), auth=(client["id"], client["client_secret"])
    )
    assert first.status_code == 200, first.text
    assert "no-store" in first.headers["cache-control"]
    again = {
        "grant_type": "refresh_token",
        "refresh_token": first.json()["refresh_token"],
        "client_id": client["id"],
        "client_secret": client["client_secret"],
    }
    second = await edge.post("/2/oauth2/token", json=again)
    assert second.status_code == 200, second.text
    assert second.json()["refresh_token"] != first.json()["refresh_token"]
    assert second.json()["scope"] == "tweet.read tweet.write users.read offline.access"
    me = await edge.get("/2/users/me", headers=bearer(second.json()["access_token"]))
    assert me.json()["data"]["id"] == str(alice.id)


async def test_a_code_is_good_once_and_for_its_client_address_and_verifier_only(
    edge: httpx.AsyncClient, alice: Account
) -> None:
    client, other = await client_of(alice), await client_of(alice)
    verifier = secrets.token_urlsafe(48)
    for wrong in (
        {"client_id": other["id"]},
        {"redirect_uri": "https://client.example.org/other"},
        {"code_verifier": secrets.token_urlsafe(48)},
        {"code_verifier": ""},
        {"code": "x" * 43},
    ):
        code = await let_in(edge, alice, client, verifier)
        body = trade(client, code, verifier) | wrong
        assert_oauth_error(await edge.post("/2/oauth2/token", data=body), 400, "invalid_grant")
        if "code" not in wrong:  # it was shown by somebody who should not have it
            assert_oauth_error(
                await edge.post("/2/oauth2/token", data=trade(client, code, verifier)), 400, "invalid_grant"
            )
    code = await let_in(edge, alice, client, verifier)
    tokens = (await edge.post("/2/oauth2/token", data=trade(client, code, verifier))).json()
    assert_oauth_error(await edge.post("/2/oauth2/token", data=trade(client, code, verifier)), 400, "invalid_grant")
    spent = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": client["id"]}
    answer = await edge.post("/2/oauth2/token", data=spent)
    assert_oauth_error(answer, 400, "invalid_grant")  # the second use ended what the first one gave (RFC 6749, 4.1.2)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"scope": "tweet.read everything"}, "invalid_scope"),
        ({"scope": "*"}, "invalid_scope"),
        ({"scope": "account"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
    ],
)
async def test_what_a_client_asks_wrongly_goes_back_to_it(
    edge: httpx.AsyncClient, alice: Account, changes: dict[str, str], error: str
) -> None:
    client = await client_of(alice)
    asked = asking_for(client, "v" * 43, **changes)
    answer = await edge.get("/2/oauth2/authorize", params=asked, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == "https://client.example.org/back"
    found = parse_qs(back.query)
    assert (found["error"], found["state"]) == ([error], ["a state & more"])


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"redirect_uri": "https://client.example.org/back"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": "https://evil.example.org/"},
        {"redirect_uri": ""},
    ],
)
async def test_nobody_is_sent_where_no_client_is_registered(
    edge: httpx.AsyncClient, alice: Account, changes: dict[str, str]
) -> None:
    client = await client_of(alice)
    asked = asking_for(client, "v" * 43, **changes)
    assert_oauth_error(await edge.get("/2/oauth2/authorize", params=asked), 400, "invalid_request")
    signed_in = {**asked, "username": alice.username, "password": PASSWORD, "step": "sign_in"}
    assert_oauth_error(await submit(edge, signed_in), 400, "invalid_request")


@pytest.mark.proves("POST /2/oauth2/authorize", "POST /i/oauth2/authorize")
async def test_the_pages_take_no_decision_but_the_persons_own(edge: httpx.AsyncClient, alice: Account) -> None:
    client, verifier = await client_of(alice), secrets.token_urlsafe(48)
    page = await edge.get("/2/oauth2/authorize", params=asking_for(client, verifier))
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy and "script" not in page.text
    assert page.headers["x-frame-options"] == "DENY"
    assert "no-store" in page.headers["cache-control"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "set-cookie" not in page.headers
    wrong = await sign_in(edge, page, alice, "wrong password")
    assert wrong.status_code == 200 and 'role="alert"' in wrong.text and "ticket" not in wrong.text
    assert "wrong password" not in wrong.text
    # Without the ticket of the page after the right password there is no decision, whoever's browser asks.
    forged = await submit(edge, {**asking_for(client, verifier), "step": "allow", "ticket": "x" * 43})
    assert_oauth_error(forged, 400, "invalid_request")
    with_token = await edge.post("/2/oauth2/authorize", data={"step": "allow"}, headers=bearer(alice.token))
    assert_oauth_error(with_token, 400, "invalid_request")
    consent = await edge.post(
        "/i/oauth2/authorize",
        data={**hidden(page.text), "username": alice.email, "password": PASSWORD, "step": "sign_in"},
    )
    denied = await decide(edge, consent, "deny")
    assert parse_qs(urlsplit(denied.headers["location"]).query)["error"] == ["access_denied"]
    assert_oauth_error(await decide(edge, consent), 400, "invalid_request")  # a ticket is good once


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"[]"),
        ("application/json", b'{"grant_type": 1}'),
        ("application/json", b'{"grant_type": "refresh_token", "grant_type": "client_credentials"}'),
        ("application/json", b"[" * 20_000),
        ("application/json", b"\xff"),
        ("application/x-www-form-urlencoded", b"grant_type=refresh_token&grant_type=refresh_token"),
        ("application/x-www-form-urlencoded", b"grant_type=%00"),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 20_000),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(100))),
        ("text/plain", b"grant_type=refresh_token"),
        ("application/x-www-form-urlencoded", b""),
    ],
)
async def test_a_body_that_makes_no_sense_is_an_invalid_request(
    edge: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    for path in ("/2/oauth2/token", "/2/oauth2/authorize"):
        answer = await edge.post(path, content=body, headers={"content-type": content_type})
        assert_oauth_error(answer, 400, "invalid_request")


# --- scopes


async def test_a_token_does_what_its_scopes_say_and_no_more(edge: httpx.AsyncClient, alice: Account) -> None:
    tweet = await alice.tweet("mine")
    tokens, _ = await tokens_of(edge, alice, "tweet.read users.read")
    assert "refresh_token" not in tokens
    headers = bearer(tokens["access_token"])
    assert (await edge.get(f"/2/tweets/{tweet}", headers=headers)).status_code == 200
    assert (await edge.get("/2/users/me", headers=headers)).status_code == 200
    refused = {
        ("POST", "/2/tweets"): "tweet.write",
        ("DELETE", f"/2/tweets/{tweet}"): "tweet.write",
        ("POST", f"/2/users/{alice.id}/likes"): "like.write",
        ("GET", f"/2/users/{alice.id}/bookmarks"): "bookmark.read",
        ("GET", f"/2/users/{alice.id}/followers"): "follows.read",
        ("POST", f"/2/users/{alice.id}/blocking"): "block.write",
        ("GET", "/v1/sessions"): "account",
        ("POST", "/v1/users/me/deactivate"): "account",
        ("POST", "/v1/exports"): "account",
        ("PATCH", "/v1/users/me"): "account",
    }
    for (method, path), scope in refused.items():
        body = {} if method in ("POST", "PATCH") else None
        answer = await edge.request(method, path, headers=headers, json=body)
        problem = assert_problem(answer, 403)
        assert scope in problem["detail"]
        assert (problem["title"], problem["type"]) == ("Forbidden", "about:blank")
        assert answer.headers["www-authenticate"].startswith('Bearer error="insufficient_scope"')


@pytest.mark.proves("POST /oauth2/token", "GET /2/users/{id}")
async def test_a_client_in_its_own_name_reads_what_everybody_may(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    client = await client_of(alice, confidential=True)
    tweet = await bob.tweet("for all")
    await bob.request("PATCH", "/v1/users/me", json={"protected": False})
    shy = await register(edge)
    await shy.request("PATCH", "/v1/users/me", json={"protected": True})
    hidden_tweet = await shy.tweet("for some")
    body = {"grant_type": "client_credentials"}
    answers = [
        await edge.post("/2/oauth2/token", data=body, auth=(client["id"], client["client_secret"])),
        await edge.post("/oauth2/token", data=body, auth=(client["consumer_key"], client["consumer_secret"])),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        assert tokens["token_type"] == "bearer" and "refresh_token" not in tokens
        headers = bearer(tokens["access_token"])
        shown = await edge.get(f"/2/tweets/{tweet}", headers=headers)
        assert shown.json()["data"]["text"] == "for all"
        for path in (
            f"/2/users/{bob.id}",
            f"/2/users/by/username/{bob.username}",
            f"/2/users/{bob.id}/tweets",
            f"/2/users/{bob.id}/followers",
            f"/2/users/{bob.id}/owned_lists",
            f"/2/users/{bob.id}/mentions",
            f"/2/users/{bob.id}/liked_tweets",
            f"/2/tweets/{tweet}/liking_users",
            f"/2/tweets/{tweet}/retweeted_by",
            f"/2/tweets/{tweet}/quote_tweets",
            f"/2/users/search?query={bob.username}",
        ):
            found = await edge.get(path, headers=headers)
            assert found.status_code == 200, (path, found.text)
        unseen = await edge.get(f"/2/tweets/{hidden_tweet}", headers=headers)
        assert "data" not in unseen.json() and "for some" not in unseen.text
        for method, path in (
            ("POST", "/2/tweets"),
            ("GET", "/2/users/me"),
            ("GET", f"/2/users/{alice.id}/timelines/reverse_chronological"),
            ("GET", "/v1/clients"),
        ):
            sent = {"text": "hello"} if method == "POST" else None
            problem = assert_problem(await edge.request(method, path, headers=headers, json=sent), 403)
            assert problem["title"] == "Unsupported Authentication"
    public = await client_of(alice)
    for auth in (None, (public["id"], "")):
        answer = await edge.post("/2/oauth2/token", data={**body, "client_id": public["id"]}, auth=auth)
        assert_oauth_error(answer, 400, "unauthorized_client")


# --- the end of tokens


async def ended(edge: httpx.AsyncClient, token: str, *paths: str) -> None:
    """Waits until no service takes a token any more."""

    async def look() -> None:
        for path in paths:
            answer = await edge.get(path, headers=bearer(token))
            assert answer.status_code == 401, (path, answer.text)
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'

    await eventually(look, SOON_S)


def everywhere(account: Account) -> tuple[str, ...]:
    """One operation of each service with public ones."""
    return (
        f"/2/users/{account.id}",
        f"/2/users/{account.id}/tweets",
        f"/2/users/{account.id}/followers",
        f"/2/users/{account.id}/timelines/reverse_chronological",
    )


@pytest.mark.proves("POST /2/oauth2/revoke")
async def test_a_revoked_token_works_nowhere_a_moment_later(edge: httpx.AsyncClient, alice: Account) -> None:
    scope = "tweet.read tweet.write users.read follows.read offline.access"
    tokens, client = await tokens_of(edge, alice, scope)
    others, _ = await tokens_of(edge, alice, scope)
    for path in everywhere(alice):
        assert (await edge.get(path, headers=bearer(tokens["access_token"]))).status_code == 200
    stranger = await client_of(alice)
    for body, status in (
        ({"token": tokens["access_token"], "client_id": stranger["id"]}, 200),  # not its own: nothing happens
        ({"token": "no token", "client_id": client["id"]}, 200),
        ({"token": alice.token, "client_id": client["id"]}, 200),
        ({"client_id": client["id"]}, 400),
        ({"token": tokens["access_token"], "client_id": "nobody"}, 401),
    ):
        assert (await edge.post("/2/oauth2/revoke", data=body)).status_code == status
    assert (await edge.get("/2/users/me", headers=bearer(tokens["access_token"]))).status_code == 200
    answer = await edge.post("/2/oauth2/revoke", json={"token": tokens["access_token"], "client_id": client["id"]})
    assert answer.json() == {"revoked": True}
    await ended(edge, tokens["access_token"], *everywhere(alice))
    spent = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": client["id"]}
    assert_oauth_error(await edge.post("/2/oauth2/token", data=spent), 400, "invalid_grant")
    for token in (others["access_token"], alice.token):
        assert (await edge.get("/2/users/me", headers=bearer(token))).status_code == 200


async def test_an_open_stream_ends_within_5_s_of_its_session(edge: httpx.AsyncClient, mesh: Mesh, bob: Account) -> None:
    export = await asked(bob)
    await ready(bob, export["id"])
    [archive] = (mesh.data / "objects").rglob(f"{export['id']}.zip")
    os.truncate(archive, _LONG)  # with zeros: many times what is held on the way for somebody who does not read
    async with edge.stream("GET", f"/v1/exports/{export['id']}/archive", headers=bearer(bob.token)) as answer:
        assert answer.status_code == 200
        await bob.request("DELETE", "/v1/sessions")
        await asyncio.sleep(5.0)  # the time is what is tested
        came = sum([len(part) async for part in answer.aiter_raw()])
    assert came < _LONG // 4, "the stream went on"


@pytest.mark.proves("GET /v1/sessions", "DELETE /v1/sessions/{id}", "DELETE /v1/sessions")
async def test_a_person_sees_their_sessions_and_ends_them(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    tokens, client = await tokens_of(edge, alice)
    login = await edge.post("/v1/auth/login", json={"username": alice.username, "password": PASSWORD})
    elsewhere = login.json()["data"]["access_token"]
    listed = (await alice.get("/v1/sessions"))["data"]
    assert len(listed) == 3
    assert [one["current"] for one in listed].count(True) == 1
    [of_client] = [one for one in listed if "client_id" in one]
    assert (of_client["client_id"], of_client["client_name"]) == (client["id"], client["name"])
    assert of_client["scope"] == tokens["scope"]
    assert_problem(await bob.request("DELETE", f"/v1/sessions/{of_client['id']}"), 404)
    for strange in ("00" * 16, "zz", "0"):
        assert_problem(await alice.request("DELETE", f"/v1/sessions/{strange}"), 404)
    answer = await alice.request("DELETE", f"/v1/sessions/{of_client['id']}")
    assert answer.json() == {"data": {"ended": True}}
    await ended(edge, tokens["access_token"], f"/2/users/{alice.id}/tweets")
    answer = await alice.request("DELETE", "/v1/sessions?keep_current=true")
    assert answer.json() == {"data": {"ended": True}}
    await ended(edge, elsewhere, f"/2/users/{alice.id}/tweets")
    assert len((await alice.get("/v1/sessions"))["data"]) == 1
    await alice.request("DELETE", "/v1/sessions")
    await ended(edge, alice.token, *everywhere(alice))


@pytest.mark.parametrize("how", ["logout", "suspended", "deactivated", "password", "erased"])
async def test_whatever_ends_a_right_to_act_ends_access_tokens(
    edge: httpx.AsyncClient, alice: Account, operator: Destination[UserMeshServiceAsyncStub], how: str
) -> None:
    for path in everywhere(alice):
        assert (await edge.get(path, headers=bearer(alice.token))).status_code == 200
    password = {"password": PASSWORD}
    if how == "suspended":
        await operator.call(operator.stub.SetSuspension, SetSuspensionRequest(user_id=alice.id, suspended=True))
    else:
        path, body = {
            "logout": ("/v1/auth/logout", {"all": True}),
            "deactivated": ("/v1/users/me/deactivate", password),
            "password": ("/v1/auth/password", {**password, "new_password": "another long one"}),
            "erased": ("/v1/users/me/erase", password),
        }[how]
        answer = await alice.request("POST", path, json=body)
        assert answer.status_code == 200, answer.text
    began = time.monotonic()
    await ended(edge, alice.token, *everywhere(alice))
    assert time.monotonic() - began < 60
    refused = await alice.request("POST", "/2/tweets", json={"text": "from beyond"})
    assert_problem(refused, 401)
    if how == "suspended":  # and stay ended when the account is back
        await operator.call(operator.stub.SetSuspension, SetSuspensionRequest(user_id=alice.id, suspended=False))
        assert_problem(await alice.request("GET", f"/2/users/{alice.id}/tweets"), 401)


# --- OAuth 1.0a


async def signing_client(account: Account) -> tuple[Any, Any]:
    """A client of somebody's that signs for them, and its token."""
    client = await client_of(account)
    answer = await account.request("POST", f"/v1/clients/{client['id']}/tokens", json={})
    assert answer.status_code == 201, answer.text
    return client, answer.json()["data"]


def signed(client: Any, token: Any, method: str, url: str, **more: Any) -> dict[str, str]:
    """The header of a signed request."""
    signer = Signer(
        client["consumer_key"],
        client_secret=client["consumer_secret"],
        resource_owner_key=token["oauth_token"],
        resource_owner_secret=token["oauth_token_secret"],
        **more,
    )
    _, headers, _ = signer.sign(url, method)
    return {"authorization": headers["Authorization"]}


@pytest.mark.proves("POST /v1/clients/{id}/tokens", "GET /v1/clients", "POST /2/tweets", "GET /2/users/me")
async def test_tweepy_signs_its_requests_as_it_does_by_default(edge: httpx.AsyncClient, alice: Account) -> None:
    client, token = await signing_client(alice)
    by_default = tweepy.Client(
        consumer_key=client["consumer_key"],
        consumer_secret=client["consumer_secret"],
        access_token=token["oauth_token"],
        access_token_secret=token["oauth_token_secret"],
    )
    by_default.session.mount(HOST, ToEdge(str(edge.base_url).rstrip("/")))
    made = await asyncio.to_thread(by_default.create_tweet, text="signed, with ümlauts & more")
    me = await asyncio.to_thread(by_default.get_me, user_fields=["public_metrics", "created_at"])
    assert me.data.id == alice.id
    home = await asyncio.to_thread(by_default.get_users_tweets, alice.id, max_results=5, user_auth=True)
    assert [str(one.id) for one in home.data] == [made.data["id"]]
    listed = (await alice.get("/v1/clients"))["data"]
    assert [one["id"] for one in listed] == [client["id"]]
    assert not {"client_secret", "consumer_secret"} & listed[0].keys()
    by_default.session.close()


async def test_a_signature_is_for_one_request_and_one_moment(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    client, token = await signing_client(alice)
    _, others = await signing_client(bob)
    me, path = f"{HOST}/2/users/me", "/2/users/me"
    good = signed(client, token, "GET", me)
    assert (await edge.get(path, headers=good)).status_code == 200
    bad = {
        "a second time": (good, "GET", path),
        "another path": (signed(client, token, "GET", me), "GET", f"/2/users/{alice.id}"),
        "another query": (signed(client, token, "GET", me), "GET", f"{path}?user.fields=created_at"),
        "another method": (signed(client, token, "GET", f"{HOST}/2/tweets"), "POST", "/2/tweets"),
        "another host": (signed(client, token, "GET", "https://evil.example.org/2/users/me"), "GET", path),
        "another's token": (signed(client, others, "GET", me), "GET", path),
        "an old timestamp": (signed(client, token, "GET", me, timestamp=str(int(time.time()) - 600)), "GET", path),
        "a late timestamp": (signed(client, token, "GET", me, timestamp=str(int(time.time()) + 600)), "GET", path),
        "in the clear": (signed(client, token, "GET", me, signature_method="PLAINTEXT"), "GET", path),
        "another digest": (signed(client, token, "GET", me, signature_method="HMAC-SHA256"), "GET", path),
        "a wrong secret": (signed(client, {**token, "oauth_token_secret": "x"}, "GET", me), "GET", path),
        "an unknown client": (signed({**client, "consumer_key": "x"}, token, "GET", me), "GET", path),
        "an unknown token": (signed(client, {**token, "oauth_token": f"{alice.id}-00"}, "GET", me), "GET", path),
        "no parameters": ({"authorization": "OAuth "}, "GET", path),
        "nonsense": ({"authorization": 'OAuth oauth_token="%ff", oauth_token="b'}, "GET", path),
    }
    for why, (headers, method, where) in bad.items():
        answer = await edge.request(method, where, headers=headers, json={"text": "x"} if method == "POST" else None)
        assert answer.status_code == 401, (why, answer.text)
        assert_problem(answer, 401)
    twice = [("authorization", good["authorization"]), ("authorization", f"Bearer {alice.token}")]
    assert (await edge.get(path, headers=twice)).status_code == 401
    forged = {**signed(client, token, "GET", me), "x-user-id": str(bob.id), "x-scope": "*", "x-role": "moderator"}
    assert (await edge.get(path, headers=forged)).json()["data"]["id"] == str(alice.id)
    # A query is part of what is signed, whatever its order and its escapes.
    where = f"{path}?user.fields=created_at%2Cdescription&expansions=pinned_tweet_id"
    assert (await edge.get(where, headers=signed(client, token, "GET", f"{HOST}{where}"))).status_code == 200


@pytest.mark.proves("DELETE /v1/clients/{id}")
async def test_a_signature_is_good_for_no_more_than_a_client_may_do_and_ends_with_it(
    edge: httpx.AsyncClient, alice: Account, bob: Account
) -> None:
    client, token = await signing_client(alice)
    for path in ("/v1/sessions", "/v1/clients"):
        assert_problem(await edge.get(path, headers=signed(client, token, "GET", f"{HOST}{path}")), 403)
    assert_problem(await bob.request("POST", f"/v1/clients/{client['id']}/tokens", json={}), 404)
    assert_problem(await bob.request("DELETE", f"/v1/clients/{client['id']}"), 404)
    answer = await alice.request("DELETE", f"/v1/clients/{client['id']}")
    assert answer.json() == {"data": {"deleted": True}}
    refused = await edge.get("/2/users/me", headers=signed(client, token, "GET", f"{HOST}/2/users/me"))
    assert_problem(refused, 401)


class Mounted(tweepy.auth.OAuth1Session):  # type: ignore[misc]
    """tweepy's own session, sent to the edge."""

    url = ""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.mount(HOST, ToEdge(self.url))


@pytest.mark.parametrize("callback", [CALLBACK, "oob"])
@pytest.mark.proves(
    "POST /oauth/request_token", "GET /oauth/authorize", "GET /oauth/authenticate", "POST /oauth/access_token"
)
async def test_tweepy_lets_a_person_in_by_three_steps(
    edge: httpx.AsyncClient, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch, callback: str
) -> None:
    client = await client_of(bob)
    monkeypatch.setattr(Mounted, "url", str(edge.base_url).rstrip("/"))
    monkeypatch.setattr("tweepy.auth.OAuth1Session", Mounted)
    handler = tweepy.OAuth1UserHandler(client["consumer_key"], client["consumer_secret"], callback=callback)
    url = await asyncio.to_thread(handler.get_authorization_url)
    query = parse_qsl(urlsplit(url).query)
    assert (await edge.get("/oauth/authenticate", params=query)).status_code == 200
    done = await decide(edge, await sign_in(edge, await edge.get("/oauth/authorize", params=query), alice))
    if callback == "oob":
        verifier = re.search(r"<code>(\d{7})</code>", done.text)[1]  # type: ignore[index]
    else:
        verifier = parse_qs(urlsplit(done.headers["location"]).query)["oauth_verifier"][0]
    token, secret = await asyncio.to_thread(handler.get_access_token, verifier)
    held = {"oauth_token": token, "oauth_token_secret": secret}
    answer = await edge.get("/2/users/me", headers=signed(client, held, "GET", f"{HOST}/2/users/me"))
    assert answer.json()["data"]["id"] == str(alice.id)
    with pytest.raises(tweepy.TweepyException):  # a request token is good once, and a second use ends what it gave
        await asyncio.to_thread(handler.get_access_token, verifier)


async def test_a_request_token_needs_a_signature_and_a_registered_callback(
    edge: httpx.AsyncClient, alice: Account
) -> None:
    client = await client_of(alice)
    for headers in (
        {},
        {"authorization": "Basic eDp5"},
        {"authorization": f'OAuth oauth_consumer_key="{client["consumer_key"]}"'},
    ):
        for path in ("/oauth/request_token", "/oauth/access_token"):
            assert_problem(await edge.post(path, headers=headers), 401)
    signer = Signer(client["consumer_key"], client["consumer_secret"], callback_uri="https://evil.example.org/")
    _, headers, _ = signer.sign(f"{HOST}/oauth/request_token", "POST")
    assert_problem(await edge.post("/oauth/request_token", headers=headers), 400)
    assert_problem(await edge.get("/oauth/authorize", params={"oauth_token": "x"}), 400)


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "http://example.org/",
        "https://example.org/#fragment",
        "https://user@example.org/",
        "https://example.org/ space",
        "//example.org/",
        "https:///nowhere",
        "x",
        "https://example.org/\r\nset-cookie: a=b",
    ],
)
async def test_people_are_sent_to_no_address_that_could_do_harm(alice: Account, address: str) -> None:
    body = {"name": "a client", "redirect_uris": [address]}
    assert_problem(await alice.request("POST", "/v1/clients", json=body), 400, "redirect_uris")


async def test_a_person_has_twenty_clients_at_most(alice: Account) -> None:
    made = [await alice.request("POST", "/v1/clients", json={"name": f"number {n}"}) for n in range(21)]
    assert [answer.status_code for answer in made] == [201] * 20 + [403]


# --- roles


async def test_a_role_is_in_the_next_token_and_gone_with_its_sessions(
    edge: httpx.AsyncClient, alice: Account, operator: Destination[UserMeshServiceAsyncStub]
) -> None:
    async def role_of(token: str) -> str | None:
        claims = token.split(".")[1]
        found: str | None = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("role")
        return found

    assert await role_of(alice.token) is None
    for _ in range(2):
        grant = SetRoleRequest(username=alice.username.upper(), role="moderator", granted=True)
        await operator.call(operator.stub.SetRole, grant)
    answer = await edge.post("/v1/auth/refresh", json={"refresh_token": alice.refresh_token})
    token = answer.json()["data"]["access_token"]
    assert await role_of(token) == "moderator"
    await operator.call(operator.stub.SetRole, SetRoleRequest(username=alice.username, role="moderator"))
    await ended(edge, token, f"/2/users/{alice.id}/tweets")
    with pytest.raises(NotFound):
        await operator.call(operator.stub.SetRole, SetRoleRequest(username="nobody_at_all", role="x", granted=True))
    with pytest.raises(InvalidArgument):
        await operator.call(operator.stub.SetRole, SetRoleRequest(username=alice.username, role="Not A Role"))


async def test_an_archive_has_ones_clients_without_their_secrets(edge: httpx.AsyncClient, alice: Account) -> None:
    client, token = await signing_client(alice)
    export = (await alice.request("POST", "/v1/exports", json={})).json()["data"]["id"]

    async def ready() -> bytes:
        answer = await alice.request("GET", f"/v1/exports/{export}/archive")
        assert answer.status_code == 200
        content: bytes = answer.content
        return content

    with zipfile.ZipFile(BytesIO(await eventually(ready, 30.0))) as archive:
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    assert client["id"] in text and client["name"] in text
    assert client["consumer_secret"] not in text and token["oauth_token_secret"] not in text
