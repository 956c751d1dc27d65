"""RecoveryService."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from rookery.user.v1.recovery_service_pb2 import (
    ForgotPasswordRequest,
    ForgotPasswordResponse,
    ResetPasswordRequest,
    ResetPasswordResponse,
    SendVerificationRequest,
    SendVerificationResponse,
    VerifyEmailRequest,
    VerifyEmailResponse,
)

from mesh.context import current
from mesh.errors import InvalidArgument, Violation
from mesh.interceptors.viewer import require_viewer
from services.user.attempts import Guard
from services.user.domain import fold
from services.user.mailer import Mailer, hash_of
from services.user.passwords import Passwords
from services.user.store.mails import MailStore
from services.user.store.waiting_mails import RESET

_REQUEST_BYTES = 16


def _not_good() -> InvalidArgument:
    """The same for a token that never was, that was used, and whose time is over."""
    return InvalidArgument(
        "One or more parameters to your request was invalid.",
        violations=[Violation("token", "is not good, or not any more")],
    )


class VerifyEmail:
    """Proves an e-mail address."""

    def __init__(self, store: MailStore, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def __call__(self, request: VerifyEmailRequest) -> VerifyEmailResponse:
        """Raises InvalidArgument for a token that is not good."""
        if await self._store.verify(hash_of(request.token), self._now_ms()) is None:
            raise _not_good()
        return VerifyEmailResponse(data=VerifyEmailResponse.Data(verified=True))


class SendVerification:
    """Has the token mailed again."""

    def __init__(self, store: MailStore, guard: Guard, mailer: Mailer, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._guard = guard
        self._mailer = mailer
        self._now_ms = now_ms

    async def __call__(self, request: SendVerificationRequest) -> SendVerificationResponse:
        """Raises ResourceExhausted when asked too often: the address may be a stranger's."""
        viewer = require_viewer()
        await self._guard.begin_reset(f"id:{viewer}")
        sent = await self._store.request_verification(viewer, self._now_ms())
        self._mailer.wake()
        current().response_metadata.append(("x-http-status", "202"))
        return SendVerificationResponse(data=SendVerificationResponse.Data(sent=sent))


class ForgotPassword:
    """Has a token mailed with which to choose another password."""

    def __init__(self, store: MailStore, guard: Guard, mailer: Mailer, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._guard = guard
        self._mailer = mailer
        self._now_ms = now_ms

    async def __call__(self, request: ForgotPasswordRequest) -> ForgotPasswordResponse:
        """Whom it is about is looked up later: nothing here depends on it. Raises ResourceExhausted."""
        name = fold(request.username or request.email)
        if not name:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("username", "this or `email` must be given")],
            )
        await self._guard.begin_reset(name)
        await self._store.request_reset(secrets.token_bytes(_REQUEST_BYTES), name, self._now_ms())
        self._mailer.wake()
        current().response_metadata.append(("x-http-status", "202"))
        return ForgotPasswordResponse(data=ForgotPasswordResponse.Data(accepted=True))


class ResetPassword:
    """Chooses another password with a token from a mail."""

    def __init__(
        self, store: MailStore, passwords: Passwords, guard: Guard, mailer: Mailer, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._guard = guard
        self._mailer = mailer
        self._now_ms = now_ms

    async def __call__(self, request: ResetPasswordRequest) -> ResetPasswordResponse:
        """Raises InvalidArgument for a token that is not good."""
        token = hash_of(request.token)
        if await self._store.owner(token, RESET, self._now_ms()) is None:
            raise _not_good()  # before the work of a hash: a token of 256 bits is not guessed
        changed = await self._store.reset(token, await self._passwords.hash(request.new_password), self._now_ms())
        if changed is None:
            raise _not_good()
        person, email_key = changed
        await self._guard.reset(person.id, [fold(person.username), email_key, f"id:{person.id}"])
        self._mailer.wake()
        return ResetPasswordResponse(data=ResetPasswordResponse.Data(reset=True))
