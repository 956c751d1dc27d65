"""Codes of authenticators, recovery codes, and what they are kept under."""

from __future__ import annotations

import re

import pytest

from services.user.second_factor import (
    SecondFactorRequired,
    SecondFactors,
    fresh_codes,
    fresh_secret,
    otpauth_uri,
    shown,
    step_of,
)
from services.user.store.second_factors import StoredFactor
from services.user.vault import Vault

SECRET = b"12345678901234567890"
"""Of RFC 6238, appendix B."""
KEY = b"a key of 16 bytes or more"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    """RFC 6238, appendix B, in six digits; taken one step early and one late, and no more."""
    step = seconds // 30
    assert step_of(SECRET, code, seconds * 1000) == step
    for off in (-29, 30):
        assert step_of(SECRET, code, (seconds + off) * 1000) == step
    for off in (-60, 60):
        if seconds + off > 60:  # the first vector is of the first minute of 1970
            assert step_of(SECRET, code, (seconds + off) * 1000) is None


@pytest.mark.parametrize("code", ["", "28708", "2870822", " 287082", "28708x", "٢٨٧٠٨٢", "287083", "287082\n"])
def test_nothing_else_is_a_code(code: str) -> None:
    assert step_of(SECRET, code, 59_000) is None


def test_a_secret_is_shown_as_authenticators_take_it() -> None:
    assert shown(SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert otpauth_uri(SECRET, "ada_1") == (
        "otpauth://totp/Rookery:ada_1?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Rookery&digits=6&period=30"
    )
    assert len({fresh_secret() for _ in range(100)}) == 100


def test_recovery_codes_are_random_and_can_be_typed() -> None:
    codes = fresh_codes()
    assert len(set(codes + fresh_codes())) == 20
    assert all(re.fullmatch(r"(?:[a-z2-7]{4}-){3}[a-z2-7]{4}", code) for code in codes)


def test_what_is_sealed_is_read_by_its_owner_and_under_its_key_alone() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(SECRET, 7)
    assert SECRET not in sealed
    assert sealed != vault.seal(SECRET, 7)
    assert Vault(KEY).open(sealed, 7) == SECRET
    for other, owner in ((vault, 8), (Vault(KEY + b"x"), 7)):
        with pytest.raises(ValueError, match="not sealed"):
            other.open(sealed, owner)
    with pytest.raises(ValueError, match="not sealed"):
        vault.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), 7)


def test_hashes_differ_by_key_purpose_and_text() -> None:
    vault = Vault(KEY)
    assert vault.digest("name", "ada") == Vault(KEY).digest("name", "ada")
    different = [
        vault.digest("name", "ada"),
        vault.digest("reset", "ada"),
        vault.digest("name", "bob"),
        vault.digest("name", "ada", ""),
        Vault(KEY + b"x").digest("name", "ada"),
    ]
    assert len(set(different)) == 5


class _One:
    """Stands in for the store: somebody with a confirmed second factor, of whom no code was taken."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.taken: list[object] = []

    async def factor(self, user_id: int) -> StoredFactor:
        return StoredFactor(self.secret, True, 10)

    async def spend_step(self, user_id: int, step: int) -> bool:
        self.taken.append(step)
        return True

    async def spend_code(self, user_id: int, code: bytes) -> bool:
        self.taken.append(code)
        return True


async def test_a_recovery_code_is_taken_however_it_is_typed() -> None:
    vault = Vault(KEY)
    store = _One(vault.seal(SECRET, 7))
    factors = SecondFactors(store, vault, lambda: 59_000)  # type: ignore[arg-type]
    for typed in ("abcd-efgh-ijkl-mnop", "ABCDEFGHIJKLMNOP", " abcd efgh ijkl mnop "):
        await factors.check(7, typed)
    await factors.check(7, "287082 ")
    assert store.taken == [factors.code_hash(7, "abcdefghijklmnop")] * 3 + [1]
    with pytest.raises(SecondFactorRequired):
        await factors.check(7, "")
