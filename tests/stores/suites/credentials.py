"""What every AttemptStore, MailStore and SecondFactorStore does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rookery.events.v1.user_events_pb2 import UserErased, UserRegistered

from services.user.attempts import Backoff
from services.user.store.attempts import Attempt, AttemptStore
from services.user.store.base import NewPerson, Session, SessionStore, UserStore
from services.user.store.exports import ExportStore
from services.user.store.mails import Letter, MailStore
from services.user.store.second_factors import SecondFactorStore, StoredFactor
from services.user.store.waiting_mails import CHANGED, RESET, VERIFY

ADA, BOB, NOBODY = 1, 2, 99
NOW = 1_800_000_000_000
HOUR = 3_600_000
NAMES, ADDRESSES = Backoff(3, 24 * HOUR), Backoff(5, HOUR)
LIFETIMES: Mapping[str, int] = {VERIFY: 72 * HOUR, RESET: HOUR}


@dataclass(frozen=True, slots=True)
class CredentialStores:
    """What an adapter hands to the suite; all are of one database."""

    attempts: AttemptStore
    """The first one under test."""
    mails: MailStore
    """The second."""
    second_factors: SecondFactorStore
    """The third."""
    users: UserStore
    """People."""
    sessions: SessionStore
    """Their sessions."""
    exports: ExportStore
    """What erases people."""

    async def person(self, user_id: int, name: str, email: str = "", address: bytes = b"") -> None:
        """Somebody who registers."""
        person = NewPerson(user_id, name, email or f"{name}@example.org", f"hash of {name}", name, address)
        session = Session(user_id.to_bytes(16, "big"), user_id, b"h" * 32, NOW, NOW * 2)
        await self.users.create(person, session, UserRegistered(user_id=user_id, username=name))

    async def letters(self, now_ms: int = NOW, count: int = 10, mark: str = "t") -> list[Letter]:
        """Takes mails; tokens are named after `mark` and the time."""
        tokens = [f"{mark} {now_ms} {number}".encode() for number in range(count)]
        return await self.mails.claim(tokens, now_ms=now_ms, until_ms=now_ms + 1_000, lifetimes_ms=LIFETIMES)

    async def proven(self, user_id: int, now_ms: int = NOW) -> None:
        """Proves somebody's address."""
        for letter in await self.letters(now_ms, mark=f"proves {user_id} "):
            await self.mails.done(letter.user_id, letter.kind)
            if letter.user_id == user_id and letter.token:
                assert await self.mails.verify(letter.token, now_ms) == user_id


class CredentialStoreSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[CredentialStores]:
        """New, empty stores."""

    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[CredentialStores]:
        """New stores with Ada, who registered from an address, and Bob."""
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada", address=b"home")
            await stores.person(BOB, "bob")
            yield stores

    # --- attempts

    @staticmethod
    async def begin(stores: CredentialStores, attempt: Attempt, now_ms: int = NOW) -> int:
        """Tries."""
        return await stores.attempts.begin(attempt, NAMES, ADDRESSES, now_ms=now_ms, known_since_ms=NOW - HOUR)

    @staticmethod
    def attempt(number: int, name: str = "ada", address: str = "there", user_id: int = 0) -> Attempt:
        """One that nobody made before."""
        here = f"{name} {address}".encode() if address else b""
        return Attempt(b"%d" % number, name.encode(), here, address.encode(), user_id)

    async def test_attempts_over_the_allowance_wait_and_each_wait_is_longer(self, stores: CredentialStores) -> None:
        for number in range(3):
            assert await self.begin(stores, self.attempt(number)) == 0
        assert await self.begin(stores, self.attempt(3)) == 30_000
        assert await self.begin(stores, self.attempt(4), NOW + 10_000) == 20_000, "what is refused counts for nothing"
        assert await self.begin(stores, self.attempt(5), NOW + 30_000) == 0
        assert await self.begin(stores, self.attempt(6), NOW + 30_000) == 60_000
        assert await self.begin(stores, self.attempt(7, "bob"), NOW + 30_000) == 0, "another name"
        assert await self.begin(stores, self.attempt(8), NOW + 30_001 + 24 * HOUR) == 0, "a day later"

    async def test_as_many_at_once_as_one_after_the_other(self, stores: CredentialStores) -> None:
        waits = await asyncio.gather(*(self.begin(stores, self.attempt(number)) for number in range(12)))
        assert sorted(wait > 0 for wait in waits) == [False] * 3 + [True] * 9

    async def test_an_address_has_an_allowance_over_all_names(self, stores: CredentialStores) -> None:
        for number in range(5):
            assert await self.begin(stores, self.attempt(number, f"name {number}")) == 0
        assert await self.begin(stores, self.attempt(5, "name 5")) == 30_000
        assert await self.begin(stores, self.attempt(6, "name 5", "elsewhere")) == 0
        assert await self.begin(stores, self.attempt(7, "name 6", "")) == 0, "from within the mesh"

    async def test_who_signed_in_from_an_address_has_a_count_of_their_own_there(self, stores: CredentialStores) -> None:
        for number in range(3):
            await self.begin(stores, self.attempt(number))
        for number in range(3, 8):
            await self.begin(stores, self.attempt(number, f"name {number}", "home"))
        assert await self.begin(stores, self.attempt(10, address="home")) > 0
        for number in range(11, 14):
            assert await self.begin(stores, self.attempt(number, address="home", user_id=ADA)) == 0
        assert await self.begin(stores, self.attempt(14, address="home", user_id=ADA)) == 30_000
        assert await self.begin(stores, self.attempt(15, "bob", "home", user_id=BOB)) > 0, "he was never there"

    async def test_a_sign_in_takes_wrong_attempts_back_and_makes_its_address_known(
        self, stores: CredentialStores
    ) -> None:
        for number in range(3):
            await self.begin(stores, self.attempt(number, "bob"))
        right = self.attempt(3, "bob")
        assert await self.begin(stores, right, NOW + 30_000) == 0
        for _ in range(2):
            await stores.attempts.succeed(right, BOB, now_ms=NOW + 30_000)
        for number in range(4, 7):
            assert await self.begin(stores, self.attempt(number, "bob", "elsewhere"), NOW + 30_000) == 0
        assert await self.begin(stores, self.attempt(7, "bob", "elsewhere"), NOW + 30_000) > 0
        known = self.attempt(8, "bob", user_id=BOB)
        assert await self.begin(stores, known, NOW + 30_000) == 0
        await stores.attempts.succeed(known, BOB, now_ms=NOW + 30_000)
        assert await self.begin(stores, self.attempt(9, "bob", "elsewhere"), NOW + 30_000) > 0, (
            "a sign-in from a known address gives strangers nothing back"
        )

    async def test_an_attempt_that_was_no_guess_is_taken_back(self, stores: CredentialStores) -> None:
        attempts = [self.attempt(number) for number in range(3)]
        for one in attempts:
            await self.begin(stores, one)
        for _ in range(2):
            await stores.attempts.take_back(attempts[0])
        assert await self.begin(stores, self.attempt(3)) == 0
        assert await self.begin(stores, self.attempt(4)) > 0

    async def test_a_name_is_opened_and_old_addresses_are_forgotten(self, stores: CredentialStores) -> None:
        for number in range(3):
            await self.begin(stores, self.attempt(number))
        await stores.attempts.clear([b"ada", b"other"], ADA, b"new", now_ms=NOW)
        assert await self.begin(stores, self.attempt(3)) == 0
        for number in range(25):
            await stores.attempts.clear([], ADA, b"a%d" % number, now_ms=NOW + 1 + number)
        for number, (address, known) in enumerate((("home", False), ("a4", False), ("a5", True), ("a24", True))):
            for other in range(5):
                await self.begin(stores, self.attempt(100 * number + other, f"name {other} of {number}", address))
            wait = await self.begin(stores, self.attempt(100 * number + 9, "x", address, ADA))
            assert (wait == 0) == known, address

    async def test_what_counts_no_more_is_deleted(self, stores: CredentialStores) -> None:
        for number in range(3):
            await self.begin(stores, self.attempt(number), NOW + number)
        assert await stores.attempts.forget(NOW + 2, NOW + 1) == 2 * 2 + 1, "two attempts with two keys, one address"
        assert await stores.attempts.forget(NOW + 2, NOW + 1) == 0
        assert await self.begin(stores, self.attempt(9, "x", "home", ADA)) == 0

    # --- mails

    async def test_who_registers_is_mailed_a_token_that_proves_the_address(self, stores: CredentialStores) -> None:
        ada, bob = sorted(await stores.letters(), key=lambda letter: letter.user_id)
        assert (ada.user_id, ada.kind, ada.username, ada.email) == (ADA, VERIFY, "ada", "ada@example.org")
        assert (ada.holder, ada.created_ms, ada.attempts) == ("", NOW, 1)
        assert ada.token and bob.token and ada.token != bob.token
        assert await stores.letters() == [], "somebody sends them"
        assert await stores.mails.verify(ada.token, NOW + 72 * HOUR) is None, "too late"
        assert await stores.mails.verify(ada.token, NOW) == ADA
        assert await stores.mails.verify(ada.token, NOW) is None
        found = await stores.users.login("ada@example.org", by_email=True)
        assert found is not None
        assert found[0].id == ADA
        assert await stores.users.claimant("ada@example.org") is None
        assert not await stores.mails.request_verification(ADA, NOW)
        assert await stores.mails.request_verification(BOB, NOW)
        assert not await stores.mails.request_verification(NOBODY, NOW)
        await stores.mails.done(BOB, VERIFY)
        assert await stores.letters(NOW + 2_000) == [], "Ada's was not deleted, and makes no sense any more"

    async def test_a_mail_that_was_not_handed_over_is_sent_again_with_another_token(
        self, stores: CredentialStores
    ) -> None:
        [first] = [one for one in await stores.letters() if one.user_id == ADA]
        await stores.mails.put_off(ADA, VERIFY, NOW + 5_000)
        await stores.mails.done(BOB, VERIFY)
        assert await stores.letters(NOW + 4_999) == []
        [again] = await stores.letters(NOW + 5_000)
        assert (again.user_id, again.attempts, again.created_ms) == (ADA, 2, NOW)
        assert again.token and again.token != first.token
        [left] = await stores.letters(NOW + 6_000)
        assert left.attempts == 3, "who took it is gone"
        await stores.mails.done(ADA, VERIFY)
        assert await stores.letters(NOW + HOUR) == []

    async def test_an_address_is_one_persons_alone_once_it_is_proven(self, stores: CredentialStores) -> None:
        await stores.person(3, "carol", "ADA@example.org")
        letters = {letter.user_id: letter for letter in await stores.letters()}
        for letter in letters.values():
            await stores.mails.done(letter.user_id, letter.kind)
        tokens = {user_id: letter.token or b"" for user_id, letter in letters.items()}
        assert await stores.mails.verify(tokens[3], NOW) == 3
        assert await stores.mails.verify(tokens[ADA], NOW) is None, "Carol proved it first"
        await stores.person(4, "dave", "Ada@Example.org")
        [told] = await stores.letters(NOW + 1)
        assert (told.user_id, told.token, told.holder) == (4, None, "carol")

    async def test_an_address_that_many_claim_is_not_flooded(self, stores: CredentialStores) -> None:
        for user_id in range(3, 11):
            await stores.person(user_id, f"user_{user_id}", "victim@example.org")
        sent = [letter for letter in await stores.letters(count=20) if letter.email == "victim@example.org"]
        assert [letter.user_id for letter in sent] == [3, 4, 5, 6, 7]

    async def test_mails_are_taken_as_many_as_there_are_tokens(self, stores: CredentialStores) -> None:
        assert len(await stores.letters(count=1)) == 1
        assert len(await stores.letters(count=5, mark="u")) == 1

    async def reset_letter(self, stores: CredentialStores, name: str, mark: str = "r") -> list[Letter]:
        """Asks for another password; gives the mails that follow."""
        await stores.mails.request_reset(f"{name} {mark}".encode(), name, NOW)
        assert await stores.mails.resolve(10) == 1
        return [letter for letter in await stores.letters(mark=f"{name} {mark}") if letter.kind == RESET]

    async def test_another_password_by_mail_ends_sessions_and_proves_the_address(
        self, stores: CredentialStores
    ) -> None:
        [letter] = await self.reset_letter(stores, "ada")
        assert letter.token is not None
        assert letter.user_id == ADA
        await stores.mails.done(ADA, RESET)
        [later] = await self.reset_letter(stores, "ada", "s")
        assert later.token is not None
        for kind, now, whose in ((RESET, NOW, ADA), (VERIFY, NOW, None), (RESET, NOW + HOUR, None)):
            assert await stores.mails.owner(letter.token, kind, now) == whose
        assert await stores.mails.verify(letter.token, NOW) is None
        assert await stores.mails.reset(letter.token, "new", NOW + HOUR) is None
        changed = await stores.mails.reset(letter.token, "new", NOW)
        assert changed is not None
        assert (changed[0].id, changed[1]) == (ADA, "ada@example.org")
        found = await stores.users.login("ada@example.org", by_email=True)
        assert found == (changed[0], "new")
        session = ADA.to_bytes(16, "big")
        hashes = (b"h" * 32, b"n" * 32)
        assert await stores.sessions.rotate(session, *hashes, client_id="", now_ms=NOW, expires_ms=NOW + 1) is None
        for token in (letter.token, later.token):
            assert await stores.mails.reset(token, "newer", NOW) is None
        assert [one.kind for one in await stores.letters(NOW, mark="v")] == [CHANGED]

    async def test_a_request_finds_people_by_name_and_by_address_and_nobody_for_nobody(
        self, stores: CredentialStores
    ) -> None:
        await stores.proven(ADA)
        for user_id in range(3, 8):
            await stores.person(user_id, f"user_{user_id}", "ada@example.org")
        assert await self.reset_letter(stores, "nobody") == []
        assert await self.reset_letter(stores, "nobody@example.org") == []
        assert await self.reset_letter(stores, "claim:3") == []
        assert [letter.user_id for letter in await self.reset_letter(stores, "bob")] == [BOB]
        found = await self.reset_letter(stores, "ada@example.org")
        assert {letter.user_id for letter in found} == {ADA, 7, 6}, "who proved it, and the newest who say so"
        assert await stores.mails.resolve(10) == 0

    async def test_a_stranger_whose_address_was_mistyped_gets_no_news(self, stores: CredentialStores) -> None:
        await stores.proven(ADA)
        for user_id, name in ((ADA, "ada"), (BOB, "bob")):
            session = Session(b"n%d" % user_id, user_id, b"t" * 32, NOW, NOW * 2)
            assert await stores.users.change_password(user_id, f"hash of {name}", "new", session)
        told = await stores.letters(NOW)
        assert [(letter.user_id, letter.kind, letter.token) for letter in told] == [(ADA, CHANGED, None)]

    async def test_tokens_that_have_ended_are_deleted(self, stores: CredentialStores) -> None:
        await stores.letters()
        assert await stores.mails.forget_expired(NOW + 72 * HOUR - 1) == 0
        assert await stores.mails.forget_expired(NOW + 72 * HOUR) == 2

    # --- second factors

    async def test_a_secret_is_confirmed_by_a_code_and_codes_are_good_once(self, stores: CredentialStores) -> None:
        factors = stores.second_factors
        assert await factors.factor(ADA) is None
        assert await factors.enrol(ADA, b"one")
        assert await factors.enrol(ADA, b"two")
        assert await factors.factor(ADA) == StoredFactor(b"two", False, 0)
        assert not await factors.spend_step(ADA, 8)
        assert not await factors.confirm(ADA, b"one", 7, [b"a", b"b"], NOW)
        assert await factors.confirm(ADA, b"two", 7, [b"a", b"b"], NOW)
        assert not await factors.confirm(ADA, b"two", 7, [b"c"], NOW)
        assert not await factors.enrol(ADA, b"three")
        assert await factors.factor(ADA) == StoredFactor(b"two", True, 2)
        assert [await factors.spend_step(ADA, step) for step in (7, 6, 8, 8, 7, 10)] == [
            *(False, False, True, False, False, True)
        ]
        assert [await factors.spend_code(ADA, code) for code in (b"a", b"a", b"x", b"b")] == [True, False, False, True]
        assert not await factors.spend_code(BOB, b"a")
        for _ in range(2):
            await factors.disable(ADA)
        assert await factors.factor(ADA) is None
        assert not await factors.spend_step(ADA, 11)
        assert not await factors.enrol(NOBODY, b"x")

    async def test_a_code_is_taken_by_one_of_many(self, stores: CredentialStores) -> None:
        factors = stores.second_factors
        await factors.enrol(ADA, b"one")
        await factors.confirm(ADA, b"one", 7, [b"a"], NOW)
        assert sum(await asyncio.gather(*(factors.spend_step(ADA, 8) for _ in range(8)))) == 1
        assert sum(await asyncio.gather(*(factors.spend_code(ADA, b"a") for _ in range(8)))) == 1

    async def test_nothing_is_left_of_who_is_erased(self, stores: CredentialStores) -> None:
        await stores.second_factors.enrol(ADA, b"one")
        await stores.second_factors.confirm(ADA, b"one", 7, [b"a"], NOW)
        [letter, _] = await stores.letters()
        assert await stores.exports.erase(ADA, UserErased(user_id=ADA), until_ms=NOW)
        assert await stores.second_factors.factor(ADA) is None
        assert await stores.mails.verify(letter.token or b"", NOW) is None
        assert {one.user_id for one in await stores.letters(NOW + HOUR)} == {BOB}
