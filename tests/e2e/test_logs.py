"""No log of any process has a secret, nor an address of a person, whatever was done with it; at debug level too."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from cli.state import running_state
from tests.e2e.harness import Account, eventually, fresh_name
from tests.e2e.mailbox import mail_to, token_in

if TYPE_CHECKING:
    from cli.supervisor import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _mark() -> str:
    return f"Mark{secrets.token_hex(10)}"


def _logs(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data / "logs").glob("*.log")}


async def test_no_log_has_what_only_one_person_may_know(edge: httpx.AsyncClient, mesh: Mesh) -> None:
    """Each secret goes to each place that takes one, where it is right, wrong, misplaced and malformed."""
    name, password, other, wrong = fresh_name(), _mark(), _mark(), _mark()
    email = f"{_mark().lower()}@example.org"
    body = {"username": name, "email": email, "password": password}
    signed = (await edge.post("/v1/auth/register", json=body)).json()["data"]
    person = Account(edge, int(signed["user"]["id"]), name, signed["access_token"], signed["refresh_token"])
    verification = token_in(await mail_to(mesh.data, email, "Prove"))
    await edge.post("/v1/auth/password/forgot", json={"email": email})
    reset = token_in(await mail_to(mesh.data, email, "Choose"))
    factor = (await person.request("POST", "/v1/auth/totp", json={"password": password})).json()["data"]["secret"]
    cookie, key, query = _mark(), _mark(), _mark()
    secret = {
        "password": password,
        "another password": other,
        "wrong password": wrong,
        "e-mail": email.partition("@")[0],
        "access token": person.token,
        "its signature": person.token.rpartition(".")[2],
        "refresh token": person.refresh_token,
        "verification": verification,
        "reset": reset,
        "authenticator": factor,
        "cookie": cookie,
        "key": key,
        "query": query,
    }
    headers = {"cookie": f"session={cookie}", "x-api-key": key, "proxy-authorization": f"Basic {key}"}
    paths = [
        "/v1/auth/register",
        "/v1/auth/login",
        "/v1/auth/refresh",
        "/v1/auth/verify_email",
        "/v1/auth/password/reset",
        "/v1/auth/password/forgot",
        "/v1/auth/password",
        "/v1/auth/totp/confirm",
        "/v1/users/me/deactivate",
        "/v1/nowhere",
    ]
    fields = ("username", "email", "password", "new_password", "token", "refresh_token", "code", "name")
    for path in paths:
        for content in (
            {"json": dict.fromkeys(fields, wrong)},
            {"json": {"username": name, "password": wrong, "new_password": other, "token": reset[:-1], "code": wrong}},
            {"content": f'{{"password": "{password}", "token": "{reset}", "email": "{email}"'},
            {"json": {"password": {"a": password}, "email": [email]}, "params": {"token": query, "password": query}},
        ):
            await person.request("POST", path, headers=headers, **content)
            await edge.post(path, headers=headers, **content)  # type: ignore[arg-type]
    for authorization in (f"Bearer {person.token[:-3]}", f"Basic {key}", f"Bearer {key}", person.refresh_token):
        await edge.get("/2/users/me", headers={"authorization": authorization})
    done = await edge.post("/v1/auth/verify_email", json={"token": verification})
    assert done.status_code == 200
    changed = await edge.post("/v1/auth/password/reset", json={"token": reset, "new_password": other})
    assert changed.status_code == 200
    last = (await person.request("GET", "/2/users/me", headers={"x-request-id": "x"})).headers["x-request-id"]

    async def written() -> dict[str, bytes]:
        logs = _logs(mesh.data)
        assert last.encode() in logs["envoy.log"]  # its access log is written once in a while
        return logs

    logs = await eventually(written)
    assert logs.keys() >= {"user.log", "envoy.log", "valkey.log", "graph.log", "tweet.log"}
    processes = running_state(mesh.data)["processes"]
    assert processes["user"]["environment"]["ROOKERY_LOG_LEVEL"] == "debug"
    found = {
        f"{what} in {log}" for log, content in logs.items() for what, text in secret.items() if text.encode() in content
    }
    assert found == set()
    state = (mesh.data / "run" / "state.json").read_bytes()
    assert (mesh.data / "secrets.key").read_bytes() not in state + b"".join(logs.values())
