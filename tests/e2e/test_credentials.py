"""Log-ins that resist guessing, proven addresses, forgotten passwords, second factors (hostile.md, 13)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from tests.e2e.authenticator import code_of
from tests.e2e.harness import PASSWORD, Account, assert_problem, fresh_name, register
from tests.e2e.mailbox import mail_to, mails_to, token_in

if TYPE_CHECKING:
    from cli.supervisor import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")
_NEW_PASSWORD = "staple battery horse"
_FREE = 10
"""Wrong log-ins at one name before there is a wait (services/user/attempts.py)."""
From = Callable[[str], httpx.AsyncClient]


@pytest_asyncio.fixture(loop_scope="session")
async def calling(mesh: Mesh) -> AsyncIterator[From]:
    """Makes clients of the edge that call from an address of their own, as all of 127.0.0.0/8 is this machine."""
    clients = []

    def make(address: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        clients.append(httpx.AsyncClient(base_url=mesh.url, transport=transport, timeout=20))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


async def _login(edge: httpx.AsyncClient, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    by = "email" if "@" in name else "username"
    return await edge.post("/v1/auth/login", json={by: name, "password": password, **more})


async def _post(edge: httpx.AsyncClient, path: str, **body: str) -> httpx.Response:
    return await edge.post(path, json=body)


async def _verify(edge: httpx.AsyncClient, mesh: Mesh, person: Account) -> str:
    token = token_in(await mail_to(mesh.data, person.email, "Prove"))
    answer = await _post(edge, "/v1/auth/verify_email", token=token)
    assert answer.json() == {"data": {"verified": True}}
    return token


async def _refresh(edge: httpx.AsyncClient, token: str) -> httpx.Response:
    return await _post(edge, "/v1/auth/refresh", refresh_token=token)


def _told(answer: httpx.Response) -> tuple[int, str]:
    """What an answer says, but for the seconds until one may try again."""
    return answer.status_code, re.sub(r"\bin \d+ s\b", "in N s", answer.text)


# --- e-mail addresses


@pytest.mark.proves("POST /v1/auth/verify_email", "POST /v1/auth/verify_email/send")
async def test_an_address_is_proven_by_a_token_that_is_good_once(
    edge: httpx.AsyncClient, mesh: Mesh, alice: Account
) -> None:
    first = token_in(await mail_to(mesh.data, alice.email, "Prove"))
    again = await alice.request("POST", "/v1/auth/verify_email/send", json={})
    assert (again.status_code, again.json()) == (202, {"data": {"sent": True}})
    second = token_in(await mail_to(mesh.data, alice.email, "Prove", 2))
    answer = await _post(edge, "/v1/auth/verify_email", token=second)
    assert (answer.status_code, answer.json()) == (200, {"data": {"verified": True}})
    for spent in (second, first, "x" * 43):
        assert_problem(await _post(edge, "/v1/auth/verify_email", token=spent), 400, "token")
    done = await alice.request("POST", "/v1/auth/verify_email/send", json={})
    assert (done.status_code, done.json()) == (202, {"data": {"sent": False}})
    assert (await _login(edge, alice.email.upper())).json()["data"]["user"]["id"] == str(alice.id)
    assert_problem(await _post(edge, "/v1/auth/verify_email/send"), 401)


async def test_whether_an_address_is_anothers_is_told_by_mail_alone(
    edge: httpx.AsyncClient, mesh: Mesh, alice: Account
) -> None:
    """Registering, and logging in to what was registered, is the same with a free address and with a taken one."""
    await _verify(edge, mesh, alice)
    answers = {}
    for address in (alice.email.upper(), f"{fresh_name()}@example.org"):
        name = fresh_name()
        body = {"username": name, "email": address, "password": _NEW_PASSWORD, "name": "N"}
        made = await edge.post("/v1/auth/register", json=body)
        by_email = await _login(edge, address, _NEW_PASSWORD)
        wrong = await _login(edge, address, "wrong password")
        answers[address] = [
            (answer.status_code, sorted(answer.headers), answer.json().keys(), sorted(answer.json().get("data", {})))
            for answer in (made, by_email, wrong)
        ]
        assert [one[0] for one in answers[address]] == [201, 200, 401]
        assert by_email.json()["data"]["user"]["username"] == name
    assert len({str(one) for one in answers.values()}) == 1
    told = await mail_to(mesh.data, alice.email.upper(), "have an account")
    assert f"@{alice.username}" in told
    with pytest.raises(ValueError, match="unpack"):
        token_in(told)
    assert (await _login(edge, alice.email)).json()["data"]["user"]["id"] == str(alice.id)


async def test_nobody_is_found_by_an_address(edge: httpx.AsyncClient, mesh: Mesh, alice: Account, bob: Account) -> None:
    await _verify(edge, mesh, alice)
    for path, params in (
        ("/2/users/search", {"query": alice.email}),
        ("/2/users/search", {"query": "example.org"}),
        ("/2/users/by", {"usernames": alice.email}),
        (f"/2/users/by/username/{alice.email}", {}),
    ):
        answer = await bob.request("GET", path, params=params)
        assert str(alice.id) not in answer.text, path


# --- forgotten passwords


@pytest.mark.proves("POST /v1/auth/password/forgot", "POST /v1/auth/password/reset")
async def test_who_forgot_the_password_chooses_another_and_all_sessions_end(
    edge: httpx.AsyncClient, mesh: Mesh, alice: Account
) -> None:
    elsewhere = (await _login(edge, alice.username)).json()["data"]["refresh_token"]
    asked = await _post(edge, "/v1/auth/password/forgot", email=alice.email)
    assert (asked.status_code, asked.json()) == (202, {"data": {"accepted": True}})
    token = token_in(await mail_to(mesh.data, alice.email, "Choose"))
    assert_problem(await _post(edge, "/v1/auth/verify_email", token=token), 400, "token")
    assert_problem(await _post(edge, "/v1/auth/password/reset", token=token, new_password="short"), 400, "new_password")
    assert (await _refresh(edge, elsewhere)).status_code == 200, "nothing has happened so far"

    answer = await _post(edge, "/v1/auth/password/reset", token=token, new_password=_NEW_PASSWORD)
    assert (answer.status_code, answer.json()) == (200, {"data": {"reset": True}})
    for spent in (alice.refresh_token, elsewhere):
        assert_problem(await _refresh(edge, spent), 401)
    assert_problem(await _login(edge, alice.username), 401)
    assert (await _login(edge, alice.username, _NEW_PASSWORD)).status_code == 200
    again = await _post(edge, "/v1/auth/password/reset", token=token, new_password=PASSWORD)
    assert_problem(again, 400, "token")
    assert (await _login(edge, alice.email, _NEW_PASSWORD)).status_code == 200
    assert "was changed" in await mail_to(mesh.data, alice.email, "was changed")


async def test_asking_for_another_password_tells_nobody_who_exists(
    edge: httpx.AsyncClient, mesh: Mesh, alice: Account, calling: From
) -> None:
    """The answers are the same, and so are the refusals after too many: three mails a day, then waits."""
    stranger = calling("127.0.1.1")
    nobody = fresh_name()
    answers = {}
    for name in (alice.username, nobody):
        tried = [await _post(stranger, "/v1/auth/password/forgot", username=name) for _ in range(4)]
        answers[name] = [_told(answer) for answer in tried]
        assert 0 < int(tried[3].headers["retry-after"]) <= 30
    assert answers[alice.username] == answers[nobody]
    assert [status for status, _ in answers[nobody]] == [202, 202, 202, 429]
    await mail_to(mesh.data, alice.email, "Choose")
    assert mails_to(mesh.data, f"{nobody}@example.org") == []


# --- guessing


async def test_guesses_are_limited_the_same_for_nobody_and_nobody_is_locked_out(
    edge: httpx.AsyncClient, mesh: Mesh, alice: Account, calling: From
) -> None:
    stranger, nobody = calling("127.0.1.2"), fresh_name()
    seen = {}
    for name in (alice.username, nobody):
        tried = await asyncio.gather(*(_login(stranger, name, "wrong password") for _ in range(16)))
        assert sorted(answer.status_code for answer in tried) == [401] * _FREE + [429] * 6, "exactly, at once"
        seen[name] = sorted({_told(answer) for answer in tried})
        waits = [int(answer.headers["retry-after"]) for answer in tried if answer.status_code == 429]
        assert 0 < min(waits) <= max(waits) <= 30
    assert seen[alice.username] == seen[nobody]
    refused = assert_problem(await _login(calling("127.0.1.3"), alice.username), 429)
    assert "too many attempts" in refused["detail"]

    # She signed in from here before, so what strangers do is no matter of hers.
    assert (await _login(edge, alice.username)).status_code == 200
    # From an address of which nothing is known, a mail opens the account.
    elsewhere = calling("127.0.1.4")
    await _post(elsewhere, "/v1/auth/password/forgot", username=alice.username)
    token = token_in(await mail_to(mesh.data, alice.email, "Choose"))
    for _ in range(2):
        await _login(stranger, alice.username, "wrong password")
    assert (
        await _post(elsewhere, "/v1/auth/password/reset", token=token, new_password=_NEW_PASSWORD)
    ).status_code == 200
    await asyncio.gather(*(_login(stranger, alice.username, "wrong password") for _ in range(16)))
    assert (await _login(elsewhere, alice.username, _NEW_PASSWORD)).status_code == 200


async def test_who_has_a_token_cannot_guess_the_password_with_it(alice: Account) -> None:
    for path, more in (
        ("/v1/auth/password", {"new_password": _NEW_PASSWORD}),
        ("/v1/users/me/deactivate", {}),
        ("/v1/users/me/erase", {}),
        ("/v1/auth/totp", {}),
        ("/v1/auth/totp/disable", {}),
    ):
        for _ in range(2):
            assert_problem(await alice.request("POST", path, json={"password": "wrong one", **more}), 401)
    body = {"password": PASSWORD, "new_password": _NEW_PASSWORD}
    assert_problem(await alice.request("POST", "/v1/auth/password", json=body), 429)


# --- second factors


async def _in_the_middle_of_a_step() -> None:
    """Waits, at most 3 s, if the code changes in a moment: the test and the service must see the same step."""
    left = 30 - time.time() % 30
    if left < 3:
        await asyncio.sleep(left)


async def _enrolled(person: Account) -> tuple[str, list[str]]:
    made = await person.request("POST", "/v1/auth/totp", json={"password": PASSWORD})
    assert made.status_code == 201, made.text
    secret = made.json()["data"]["secret"]
    assert made.json()["data"]["otpauth_uri"] == (
        f"otpauth://totp/Rookery:{person.username}?secret={secret}&issuer=Rookery&digits=6&period=30"
    )
    answer = await person.request("POST", "/v1/auth/totp/confirm", json={"code": code_of(secret)})
    assert answer.status_code == 200, answer.text
    codes: list[str] = answer.json()["data"]["recovery_codes"]
    assert len(set(codes)) == 10
    return secret, codes


@pytest.mark.proves(
    "POST /v1/auth/totp", "POST /v1/auth/totp/confirm", "POST /v1/auth/totp/disable", "GET /v1/auth/totp"
)
async def test_a_second_factor_is_asked_for_and_each_code_is_good_once(edge: httpx.AsyncClient, alice: Account) -> None:
    async def there() -> Any:
        return (await alice.get("/v1/auth/totp"))["data"]

    assert await there() == {"enabled": False, "recovery_codes_left": 0}
    await _in_the_middle_of_a_step()
    secret, codes = await _enrolled(alice)
    assert await there() == {"enabled": True, "recovery_codes_left": 10}
    assert_problem(await alice.request("POST", "/v1/auth/totp", json={"password": PASSWORD}), 409)
    assert_problem(await alice.request("POST", "/v1/auth/totp/confirm", json={"code": code_of(secret)}), 400)

    asked = assert_problem(await _login(edge, alice.username), 401, "second factor")
    assert asked["type"] == "urn:rookery:problem:second-factor-required"
    wrong_password = assert_problem(await _login(edge, alice.username, "wrong password"), 401)
    assert wrong_password["type"] == "about:blank", "only who has the password is told of the second factor"
    replayed = assert_problem(await _login(edge, alice.username, code=code_of(secret)), 401, "code")
    assert replayed["detail"] == "The code is wrong, or was used before."
    assert (await _login(edge, alice.username, code=code_of(secret, 1))).status_code == 200
    assert_problem(await _login(edge, alice.username, code=code_of(secret, 1)), 401, "code")
    assert_problem(await _login(edge, alice.username, code=code_of(secret, 3)), 401, "code")
    assert (await _login(edge, alice.username, code=codes[0].upper())).status_code == 200
    assert_problem(await _login(edge, alice.username, code=codes[0]), 401, "code")
    assert await there() == {"enabled": True, "recovery_codes_left": 9}
    assert (await _refresh(edge, alice.refresh_token)).status_code == 200, "sessions that there are go on"

    assert_problem(await alice.request("POST", "/v1/auth/totp/disable", json={"password": "wrong one"}), 401)
    for _ in range(2):
        answer = await alice.request("POST", "/v1/auth/totp/disable", json={"password": PASSWORD})
        assert answer.json() == {"data": {"enabled": False}}
    assert (await _login(edge, alice.username)).status_code == 200


async def test_a_code_that_many_send_at_once_lets_one_in(edge: httpx.AsyncClient, alice: Account) -> None:
    await _in_the_middle_of_a_step()
    secret, codes = await _enrolled(alice)
    for code in (code_of(secret, 1), codes[3]):
        tried = await asyncio.gather(*(_login(edge, alice.username, code=code) for _ in range(4)))
        assert sorted(answer.status_code for answer in tried) == [200, 401, 401, 401]


async def test_another_password_by_mail_does_not_get_around_the_second_factor(
    edge: httpx.AsyncClient, mesh: Mesh, alice: Account
) -> None:
    _, codes = await _enrolled(alice)
    await _post(edge, "/v1/auth/password/forgot", username=alice.username)
    token = token_in(await mail_to(mesh.data, alice.email, "Choose"))
    answer = await _post(edge, "/v1/auth/password/reset", token=token, new_password=_NEW_PASSWORD)
    assert answer.json() == {"data": {"reset": True}}
    assert_problem(await _login(edge, alice.username, _NEW_PASSWORD), 401, "second factor")
    assert (await _login(edge, alice.username, _NEW_PASSWORD, code=codes[0])).status_code == 200


async def test_a_secret_that_was_not_confirmed_is_asked_for_by_nobody(edge: httpx.AsyncClient, alice: Account) -> None:
    first = (await alice.request("POST", "/v1/auth/totp", json={"password": PASSWORD})).json()["data"]["secret"]
    assert (await _login(edge, alice.username)).status_code == 200
    second = (await alice.request("POST", "/v1/auth/totp", json={"password": PASSWORD})).json()["data"]["secret"]
    assert first != second
    assert_problem(await alice.request("POST", "/v1/auth/totp/confirm", json={"code": code_of(first)}), 400, "code")
    assert (await _login(edge, alice.username)).status_code == 200
    bob = await register(edge)
    assert_problem(await bob.request("POST", "/v1/auth/totp/confirm", json={"code": code_of(second)}), 400)
