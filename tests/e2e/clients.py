"""Clients that people let in, and the pages on which they do."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
from oauthlib.oauth1 import Client as Signer

from tests.e2e.harness import PASSWORD, Account
from tests.e2e.tweepy_clients import HOST

CALLBACK = "https://client.example.org/back?from=rookery"


async def client_of(account: Account, *, confidential: bool = False, addresses: tuple[str, ...] = (CALLBACK,)) -> Any:
    """A client that somebody registered."""
    body = {"name": "A <b>client</b>", "redirect_uris": list(addresses), "confidential": confidential}
    answer = await account.request("POST", "/v1/clients", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def challenge_of(verifier: str) -> str:
    """RFC 7636, 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def hidden(page: str) -> dict[str, str]:
    """Hidden members of a page's form."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}


async def submit(edge: httpx.AsyncClient, form: Mapping[str, str]) -> httpx.Response:
    """Sends a page's form as a browser does."""
    return await edge.post("/2/oauth2/authorize", data=dict(form), follow_redirects=False)


async def sign_in(edge: httpx.AsyncClient, page: httpx.Response, account: Account, password: str = PASSWORD) -> Any:
    """Fills the first page in."""
    assert page.status_code == 200, page.text
    form = {**hidden(page.text), "username": account.username, "password": password, "step": "sign_in"}
    return await submit(edge, form)


async def decide(edge: httpx.AsyncClient, page: httpx.Response, step: str = "allow") -> httpx.Response:
    """Fills the second page in."""
    assert page.status_code == 200, page.text
    return await submit(edge, {**hidden(page.text), "step": step})


def asking_for(client: Mapping[str, Any], verifier: str, **changes: str) -> dict[str, str]:
    """Parameters of an authorization request."""
    return {
        "response_type": "code",
        "client_id": client["id"],
        "redirect_uri": CALLBACK,
        "scope": "tweet.read tweet.write users.read offline.access",
        "state": "a state & more",
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        **changes,
    }


def request_signer(client: Mapping[str, Any], **more: Any) -> Signer:
    """Signs requests of a client's own, with a token where `more` has one."""
    return Signer(client["consumer_key"], client["consumer_secret"], callback_uri=CALLBACK, **more)


def signing(path: str, client: Mapping[str, Any], **more: Any) -> Callable[[], str]:
    """What gives a header for each request to a path."""
    signer = request_signer(client, **more)
    return lambda: str(signer.sign(f"{HOST}{path}", "POST")[1]["Authorization"])


def beginning(client: Mapping[str, Any]) -> Callable[[], str]:
    """What signs requests for request tokens."""
    return signing("/oauth/request_token", client)


async def request_token(edge: httpx.AsyncClient, client: Mapping[str, Any]) -> dict[str, str]:
    """A request token of OAuth 1.0a and its secret."""
    answer = await edge.post("/oauth/request_token", headers={"authorization": beginning(client)()})
    assert answer.status_code == 200, answer.text
    return dict(parse_qsl(answer.text))


async def approved(account: Account, client: Mapping[str, Any]) -> Callable[[], str]:
    """What signs requests for an access token, for a request token that somebody approved."""
    edge = account.edge
    token = await request_token(edge, client)
    page = await edge.get("/oauth/authorize", params={"oauth_token": token["oauth_token"]})
    done = await decide(edge, await sign_in(edge, page, account))
    return signing(
        "/oauth/access_token",
        client,
        resource_owner_key=token["oauth_token"],
        resource_owner_secret=token["oauth_token_secret"],
        verifier=parse_qs(urlsplit(done.headers["location"]).query)["oauth_verifier"][0],
    )
