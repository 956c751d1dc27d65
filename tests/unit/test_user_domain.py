"""Rules about people."""

from __future__ import annotations

import pytest

from services.user.domain import country_of


@pytest.mark.parametrize(("given", "stored"), [("BR", "BR"), ("br", "BR"), ("", "")])
def test_a_countrys_code_is_stored_in_capitals(given: str, stored: str) -> None:
    assert country_of(given) == stored


@pytest.mark.parametrize("given", ["XX", "B", "ÅX", "UK", "ß"])  # capitals of "ß" are "SS", a country
def test_what_no_country_has_is_none(given: str) -> None:
    assert country_of(given) is None
