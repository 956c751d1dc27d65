"""What people say of themselves, and who may change it."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Account, assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _change(person: Account, **members: object) -> dict[str, object]:
    answer = await person.request("PATCH", "/v1/users/me", json=members)
    assert answer.status_code == 200, answer.text
    data: dict[str, object] = answer.json()["data"]
    return data


async def test_who_is_protected_is_seen_at_once_and_by_everyone(alice: Account, bob: Account) -> None:
    for protected in (True, False):
        assert (await _change(alice, protected=protected))["protected"] is protected
        for viewer in (alice, bob):
            shown = await viewer.get(f"/2/users/{alice.id}", user__fields="protected")
            assert shown["data"]["protected"] is protected


async def test_what_is_not_named_stays(alice: Account) -> None:
    await _change(alice, protected=True, location="London")
    assert (await _change(alice, name="Ada"))["protected"] is True
    assert (await _change(alice, protected=False))["location"] == "London"


async def test_language_and_country_are_taken_and_shown_to_nobody_else(alice: Account, bob: Account) -> None:
    await _change(alice, language="pt-BR", country="br")
    names = "created_at,description,entities,id,location,name,protected,public_metrics,url,username,verified,withheld"
    shown = await bob.get(f"/2/users/{alice.id}", user__fields=names)
    assert "language" not in shown["data"] and "country" not in shown["data"]
    await _change(alice, language="", country="")


async def test_a_description_may_have_lines(alice: Account) -> None:
    assert (await _change(alice, description="one\ntwo"))["description"] == "one\ntwo"


async def test_a_wrong_member_keeps_the_right_ones_from_being_changed(alice: Account) -> None:
    answer = await alice.request("PATCH", "/v1/users/me", json={"protected": True, "country": "ZZ"})
    assert_problem(answer, 400, "country")
    shown = await alice.get("/2/users/me", user__fields="protected")
    assert shown["data"]["protected"] is False
