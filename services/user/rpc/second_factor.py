"""SecondFactorService."""

from __future__ import annotations

from collections.abc import Callable

from rookery.user.v1.second_factor_service_pb2 import (
    ConfirmSecondFactorRequest,
    ConfirmSecondFactorResponse,
    DisableSecondFactorRequest,
    DisableSecondFactorResponse,
    EnrolSecondFactorRequest,
    EnrolSecondFactorResponse,
    GetSecondFactorRequest,
    GetSecondFactorResponse,
)

from mesh.context import current
from mesh.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Violation
from mesh.interceptors.viewer import require_viewer
from services.user.second_factor import SecondFactors, fresh_codes, fresh_secret, otpauth_uri, shown, step_of
from services.user.signing_in import SignIn
from services.user.store.second_factors import SecondFactorStore
from services.user.vault import Vault


class GetSecondFactor:
    """Says whether the viewer has a second factor."""

    def __init__(self, store: SecondFactorStore) -> None:
        self._store = store

    async def __call__(self, request: GetSecondFactorRequest) -> GetSecondFactorResponse:
        """One that waits to be confirmed is none."""
        factor = await self._store.factor(require_viewer())
        enabled = factor is not None and factor.confirmed
        left = factor.codes_left if factor is not None and enabled else 0
        return GetSecondFactorResponse(data=GetSecondFactorResponse.Data(enabled=enabled, recovery_codes_left=left))


class EnrolSecondFactor:
    """Makes a secret for the viewer's authenticator."""

    def __init__(self, store: SecondFactorStore, sign_in: SignIn, vault: Vault) -> None:
        self._store = store
        self._sign_in = sign_in
        self._vault = vault

    async def __call__(self, request: EnrolSecondFactorRequest) -> EnrolSecondFactorResponse:
        """Raises Unauthenticated for a wrong password, AlreadyExists if there is a confirmed one."""
        person, _ = await self._sign_in.by_id(require_viewer(), request.password)
        secret = fresh_secret()
        if not await self._store.enrol(person.id, self._vault.seal(secret, person.id)):
            raise AlreadyExists("There is a second factor; disable it first.", reason="SECOND_FACTOR_THERE")
        current().response_metadata.append(("x-http-status", "201"))
        return EnrolSecondFactorResponse(
            data=EnrolSecondFactorResponse.Data(secret=shown(secret), otpauth_uri=otpauth_uri(secret, person.username))
        )


class ConfirmSecondFactor:
    """Takes the first code of the viewer's authenticator."""

    def __init__(
        self, store: SecondFactorStore, second_factors: SecondFactors, vault: Vault, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._second_factors = second_factors
        self._vault = vault
        self._now_ms = now_ms

    async def __call__(self, request: ConfirmSecondFactorRequest) -> ConfirmSecondFactorResponse:
        """Raises InvalidArgument for a wrong code, FailedPrecondition when no secret waits for one."""
        viewer = require_viewer()
        factor = await self._store.factor(viewer)
        if factor is None or factor.confirmed:
            raise FailedPrecondition("No second factor waits to be confirmed.", reason="NOTHING_TO_CONFIRM")
        step = step_of(self._vault.open(factor.secret, viewer), request.code.strip(), self._now_ms())
        if step is None:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("code", "is not the authenticator's code of now")],
            )
        codes = fresh_codes()
        hashes = [self._second_factors.code_hash(viewer, code) for code in codes]
        if not await self._store.confirm(viewer, factor.secret, step, hashes, self._now_ms()):
            raise FailedPrecondition("No second factor waits to be confirmed.", reason="NOTHING_TO_CONFIRM")
        return ConfirmSecondFactorResponse(data=ConfirmSecondFactorResponse.Data(enabled=True, recovery_codes=codes))


class DisableSecondFactor:
    """Forgets the viewer's authenticator."""

    def __init__(self, store: SecondFactorStore, sign_in: SignIn) -> None:
        self._store = store
        self._sign_in = sign_in

    async def __call__(self, request: DisableSecondFactorRequest) -> DisableSecondFactorResponse:
        """Raises Unauthenticated for a wrong password. A second time changes nothing."""
        person, _ = await self._sign_in.by_id(require_viewer(), request.password)
        await self._store.disable(person.id)
        return DisableSecondFactorResponse(data=DisableSecondFactorResponse.Data(enabled=False))
