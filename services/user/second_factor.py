"""The second factor: codes of an authenticator (TOTP, RFC 6238), and codes for the day when it is lost.

SHA-1, six digits and 30 s are what every authenticator takes, whatever an otpauth URI says. Each code is good once:
steps are taken in the order of time only (RFC 6238, 5.2).
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from mesh.errors import Unauthenticated
from services.user.store.second_factors import SecondFactorStore
from services.user.vault import Vault

ISSUER = "Rookery"
_SECRET_BYTES = 20  # RFC 4226, 4: 160 bits are recommended
_DIGITS, _STEP_S = 6, 30
_SLACK = 1  # steps that a clock may be off, both ways (RFC 6238, 5.2: one)
_CODES, _CODE_BYTES = 10, 10  # 80 bits each, as 16 letters
_TOTP_CODE = re.compile(r"[0-9]{6}")


class SecondFactorRequired(Unauthenticated):
    """The password is right, and this account asks for a code besides it."""

    reason = "SECOND_FACTOR_REQUIRED"
    title = "Second Factor Required"
    type = "urn:rookery:problem:second-factor-required"


def wrong_code() -> Unauthenticated:
    """The password was right and the code is not; told to nobody else."""
    return Unauthenticated("The code is wrong, or was used before.", reason="WRONG_CODE")


def fresh_secret() -> bytes:
    """A new authenticator's."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(secret: bytes) -> str:
    """A secret as people type it."""
    return base64.b32encode(secret).decode()


def otpauth_uri(secret: bytes, username: str) -> str:
    """What authenticators read from a QR code."""
    label = f"{quote(ISSUER)}:{quote(username)}"
    return f"otpauth://totp/{label}?secret={shown(secret)}&issuer={quote(ISSUER)}&digits={_DIGITS}&period={_STEP_S}"


def step_of(secret: bytes, code: str, now_ms: int) -> int | None:
    """The time step that a code is of, if that is now or one off; None for any other code."""
    if not _TOTP_CODE.fullmatch(code):
        return None
    totp = TOTP(secret, _DIGITS, SHA1(), _STEP_S)  # noqa: S303 -- HMAC-SHA-1, as authenticators have it
    now = now_ms // 1000 // _STEP_S
    found = None
    for step in range(now - _SLACK, now + _SLACK + 1):  # all, so that none is told from another by the time
        try:
            totp.verify(code.encode(), step * _STEP_S)
        except InvalidToken:
            continue
        found = step
    return found


def fresh_codes() -> list[str]:
    """Recovery codes, in groups of four."""
    texts = (base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode().lower() for _ in range(_CODES))
    return ["-".join(_groups(text)) for text in texts]


def _groups(text: str) -> Iterator[str]:
    for start in range(0, len(text), 4):
        yield text[start : start + 4]


def _plain(code: str) -> str:
    return re.sub(r"[\s-]", "", code).lower()


class SecondFactors:
    """Asks for codes and takes them."""

    def __init__(self, store: SecondFactorStore, vault: Vault, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._vault = vault
        self._now_ms = now_ms

    async def check(self, user_id: int, code: str) -> None:
        """Takes a code from somebody whose password was right; nothing is asked of who has no second factor.

        Raises:
            SecondFactorRequired: the code is empty, and one is needed.
            Unauthenticated: it is wrong, or was used before.
            Unavailable: the store does not answer.
        """
        factor = await self._store.factor(user_id)
        if factor is None or not factor.confirmed:
            return
        if not code:
            raise SecondFactorRequired(
                "This account asks for a second factor: send the code of the authenticator, or a recovery code, as"
                " `code`."
            )
        step = step_of(self._vault.open(factor.secret, user_id), code.strip(), self._now_ms())
        if step is not None:
            taken = await self._store.spend_step(user_id, step)
        else:
            taken = await self._store.spend_code(user_id, self.code_hash(user_id, code))
        if not taken:
            raise wrong_code()

    def code_hash(self, user_id: int, code: str) -> bytes:
        """What the store has of a recovery code."""
        return self._vault.digest("recovery code", user_id, _plain(code))
