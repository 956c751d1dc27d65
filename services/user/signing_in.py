"""Who somebody is: a name, a password and, where there is one, a second factor. For log-ins of every kind.

What there is to learn from an answer, whoever asks may know: a name that nobody has costs the same work as one that
somebody has, and the same refusals come after the same number of attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mesh.errors import PermissionDenied, Unavailable
from services.user.attempts import Guard
from services.user.domain import Person, fold, to_be_erased
from services.user.passwords import Passwords
from services.user.second_factor import SecondFactorRequired, SecondFactors
from services.user.sessions import wrong_credentials
from services.user.store.base import UserStore

Credentials: TypeAlias = tuple[Person, str]
"""A person and their password's hash."""


class SignIn:
    """Checks who somebody is."""

    def __init__(
        self,
        store: UserStore,
        passwords: Passwords,
        guard: Guard,
        second_factors: SecondFactors,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._guard = guard
        self._second_factors = second_factors
        self._now_ms = now_ms

    async def by_name(self, name: str, password: str, code: str = "", *, by_email: bool = False) -> Credentials:
        """The person behind a username, or an e-mail address; with their password's hash, as it is now.

        An address that is not proven may be said by many: the newest of them is looked at besides whoever proved it.

        Raises:
            Unauthenticated: WRONG_CREDENTIALS, the same for nobody; SecondFactorRequired and WRONG_CODE.
            PermissionDenied: the account is suspended; with the right password only.
            ResourceExhausted: there were too many attempts. Unavailable.
        """
        key = fold(name)
        found = [await self._store.login(key, by_email=by_email)]
        if by_email:
            found.append(await self._store.claimant(key))
        # An e-mail address has one count for all: accounts that only say that it is theirs must not change that.
        user_id = found[0][0].id if found[0] and not by_email else 0
        return await self._check(key, user_id, found, password, code, ask=True)

    async def by_id(self, user_id: int, password: str, *others: str) -> Credentials:
        """The person of an id whose password that is, or one of `others`: for what asks for it once more.

        Raises:
            Unauthenticated: WRONG_CREDENTIALS. ResourceExhausted, Unavailable: as above.
        """
        found = [await self._store.credentials(user_id)]
        return await self._check(f"id:{user_id}", user_id, found, password, "", *others, ask=False)

    async def _check(
        self,
        key: str,
        user_id: int,
        found: list[Credentials | None],
        password: str,
        code: str,
        *others: str,
        ask: bool,
    ) -> Credentials:
        attempt = await self._guard.begin(key, user_id)
        try:
            right = await self._right(found, (password, *others))
        except Unavailable:
            await self._guard.take_back(attempt)  # nothing was told
            raise
        if right is None or to_be_erased(right[0][0], self._now_ms()):
            raise wrong_credentials()
        (person, stored), password = right
        if ask:
            if person.suspended:
                await self._guard.take_back(attempt)
                raise PermissionDenied("This account is suspended.", reason="ACCOUNT_SUSPENDED")
            try:
                await self._second_factors.check(person.id, code)
            except (SecondFactorRequired, Unavailable):
                await self._guard.take_back(attempt)
                raise
        await self._guard.succeed(attempt, person.id)
        if self._passwords.is_outdated(stored):
            fresh = await self._passwords.hash(password)
            if await self._store.rehash(person.id, stored, fresh):
                stored = fresh
        return person, stored

    async def _right(
        self, found: list[Credentials | None], passwords: tuple[str, ...]
    ) -> tuple[Credentials, str] | None:
        """The first of these whose password is one of those, and which; as many checks for nobody as for somebody."""
        for password in passwords:
            right = [one for one in found if await self._passwords.check(password, one[1] if one else None)]
            if right and right[0] is not None:
                return right[0], password
        return None
