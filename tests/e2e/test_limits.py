"""What the mesh tells its callers of limits. How they are kept is in tests/edge/test_limits.py."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.e2e.harness import Account, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="session")


def standing(answer: httpx.Response) -> tuple[int, int, int]:
    """Limit, what remains, and when that changes."""
    found = [answer.headers[f"x-rate-limit-{name}"] for name in ("limit", "remaining", "reset")]
    assert all(text.isdecimal() for text in found), found
    limit, remaining, reset = map(int, found)
    assert remaining < limit
    assert time.time() - 2 < reset < time.time() + 86_402
    return limit, remaining, reset


async def test_every_answer_of_an_operation_tells_what_is_left(alice: Account, bob: Account) -> None:
    _, remaining, _ = standing(await alice.request("GET", "/2/users/me"))
    missing = await alice.request("PUT", "/2/lists/1", json={"name": "x"})
    assert_problem(missing, 404)
    assert standing(missing)[1] == remaining - 1
    forbidden = await alice.request("DELETE", f"/2/users/{bob.id}/likes/1")
    assert_problem(forbidden, 403)
    assert standing(forbidden)[1] == remaining - 2
    assert standing(await bob.request("GET", "/2/users/me"))[1] == remaining  # everybody has their own


async def test_who_has_no_token_is_told_too(edge: httpx.AsyncClient) -> None:
    before = standing(await edge.get("/.well-known/jwks.json"))[1]
    answer = await edge.post("/v1/auth/login", json={"username": "nobody_at_all", "password": "correct horse"})
    assert answer.status_code == 401
    assert standing(answer)[1] < before
