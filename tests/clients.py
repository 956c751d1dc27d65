"""Clients of an edge, for tests that ask much."""

from __future__ import annotations

import httpx
from httpx_aiohttp import AiohttpTransport


def client_of(url: str, **more: object) -> httpx.AsyncClient:
    """A client of an edge, with httpx's settings `more`.

    httpx sends through aiohttp here: its own transport takes more CPU for a request than the whole mesh does. Unless
    `verify` is given it is for plain HTTP: reading all the authorities of the world takes 20 ms, as do ten requests.
    """
    verify = more.pop("verify", False)
    transport = AiohttpTransport(verify=verify)  # type: ignore[arg-type]
    settings = {"timeout": 20, "trust_env": False, "transport": transport, "verify": verify, **more}
    return httpx.AsyncClient(base_url=url, **settings)  # type: ignore[arg-type]
