"""What every ExportStore does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rookery.events.v1.user_events_pb2 import UserErased, UserRegistered

from mesh.errors import AlreadyExists
from services.user.store.base import NewPerson, Session, SessionStore, UserStore
from services.user.store.exports import FAILED, READY, WAITING, ExportStore, OwnSession

from .events import Events

ADA, BOB = 1, 2
NOW = 1_000_000


@dataclass(frozen=True, slots=True)
class ExportStores:
    """What an adapter hands to the suite."""

    exports: ExportStore
    """The store under test."""
    users: UserStore
    """People, who must be there."""
    sessions: SessionStore
    """Their sessions."""
    events: Events
    """What changes left to be published."""

    async def person(self, user_id: int, name: str) -> None:
        """Somebody new, with one session."""
        person = NewPerson(user_id, name, f"{name}@example.org", f"hash of {name}", name.title())
        session = Session(user_id.to_bytes(16, "big"), user_id, b"h" * 32, NOW, NOW + 1)
        await self.users.create(person, session, UserRegistered(user_id=user_id, username=name))

    async def ready(self, export_id: int, user_id: int, *, now_ms: int, expires_ms: int) -> None:
        """An export that was made."""
        await self.exports.begin(export_id, user_id, finished_after_ms=NOW * 2)
        claimed = await self.exports.claim("x", now_ms=now_ms, until_ms=now_ms + 1)
        assert claimed is not None
        assert claimed.id == export_id
        assert await self.exports.finish(export_id, "x", READY, size=7, now_ms=now_ms, expires_ms=expires_ms)


class ExportStoreSuite(ABC):
    """Tests of a store that `opened` makes."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[ExportStores]:
        """Empty stores, which may use `folder`."""

    async def test_one_waits_at_a_time(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            first = await stores.exports.begin(10, ADA, finished_after_ms=0)
            assert first is not None
            assert (first.id, first.status, first.progress) == (10, WAITING, 0)
            assert await stores.exports.begin(11, ADA, finished_after_ms=0) == first
            assert await stores.exports.of_user(ADA, 5) == [first]

    async def test_one_that_was_ready_lately_is_given_again_and_an_older_one_is_not(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.ready(10, ADA, now_ms=NOW, expires_ms=NOW * 3)
            again = await stores.exports.begin(11, ADA, finished_after_ms=NOW - 1)
            assert again is not None
            assert (again.id, again.status, again.progress, again.size) == (10, READY, 100, 7)
            other = await stores.exports.begin(12, ADA, finished_after_ms=NOW)
            assert other is not None
            assert other.id == 12
            assert [one.id for one in await stores.exports.of_user(ADA, 5)] == [12, 10]

    async def test_nobody_has_no_export(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            assert await stores.exports.begin(10, ADA, finished_after_ms=0) is None
            assert await stores.exports.by_id(10) is None
            assert await stores.exports.own_data(ADA) is None

    async def test_one_is_claimed_by_one_until_the_claim_ends(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.exports.begin(10, ADA, finished_after_ms=0)
            assert await stores.exports.claim("a", now_ms=NOW, until_ms=NOW + 100) is not None
            assert await stores.exports.claim("b", now_ms=NOW + 100, until_ms=NOW + 200) is None
            assert await stores.exports.renew(10, "a", progress=40, until_ms=NOW + 200)
            assert await stores.exports.claim("b", now_ms=NOW + 150, until_ms=NOW + 300) is None
            taken = await stores.exports.claim("b", now_ms=NOW + 201, until_ms=NOW + 300)
            assert taken is not None
            assert taken.progress == 0
            assert not await stores.exports.renew(10, "a", progress=90, until_ms=NOW + 900)
            assert not await stores.exports.finish(10, "a", READY, size=1, now_ms=NOW, expires_ms=NOW)
            assert await stores.exports.finish(10, "b", READY, size=1, now_ms=NOW, expires_ms=NOW + 1)
            assert await stores.exports.claim("b", now_ms=NOW * 9, until_ms=NOW * 10) is None

    async def test_what_is_put_off_is_taken_later_and_attempts_count(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.exports.begin(10, ADA, finished_after_ms=0)
            for attempts, failed in ((0, False), (0, True), (1, False)):
                claimed = await stores.exports.claim("a", now_ms=NOW, until_ms=NOW + 9)
                assert claimed is not None
                assert claimed.attempts == attempts
                await stores.exports.put_off(10, "a", until_ms=NOW - 1, failed=failed)
            await stores.exports.claim("a", now_ms=NOW, until_ms=NOW + 9)
            await stores.exports.put_off(10, "a", until_ms=NOW + 5, failed=False)
            assert await stores.exports.claim("a", now_ms=NOW + 5, until_ms=NOW + 9) is None

    async def test_one_that_failed_makes_room_for_another(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.exports.begin(10, ADA, finished_after_ms=0)
            await stores.exports.claim("a", now_ms=NOW, until_ms=NOW + 9)
            assert await stores.exports.finish(10, "a", FAILED, size=0, now_ms=NOW, expires_ms=NOW + 9)
            other = await stores.exports.begin(11, ADA, finished_after_ms=0)
            assert other is not None
            assert other.id == 11

    async def test_those_whose_time_is_over_are_found_and_removed(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.ready(10, ADA, now_ms=NOW, expires_ms=NOW + 5)
            assert await stores.exports.expired(NOW + 4, 10) == []
            assert await stores.exports.expired(NOW + 5, 10) == [10]
            assert await stores.exports.known([9, 10]) == {10}
            await stores.exports.remove(10)
            assert await stores.exports.expired(NOW + 5, 10) == []
            assert await stores.exports.known([9, 10]) == set()
            assert await stores.exports.known([]) == set()

    async def test_own_data_has_no_secret(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            own = await stores.exports.own_data(ADA)
            assert own is not None
            assert own.columns["email"] == "ada@example.org"
            assert own.sessions == [OwnSession(NOW, NOW + 1, "", "*")]
            assert own.clients == []
            assert "hash of ada" not in repr(own)

    async def test_an_erased_person_is_gone_at_once_and_the_others_are_there(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.person(BOB, "bob")
            await stores.ready(10, ADA, now_ms=NOW, expires_ms=NOW * 9)
            await stores.exports.begin(11, ADA, finished_after_ms=NOW * 2)
            erased = await stores.exports.erase(ADA, UserErased(user_id=ADA), until_ms=NOW)
            assert erased is not None
            assert erased.username_key == "ada"
            assert sorted(erased.export_ids) == [10, 11]
            assert await stores.exports.own_data(ADA) is None
            assert await stores.exports.of_user(ADA, 5) == []
            assert await stores.exports.own_data(BOB) is not None
            assert [event.message for event in await stores.events()][2:] == [UserErased(user_id=ADA)]
            assert await stores.exports.erase(ADA, UserErased(user_id=ADA), until_ms=NOW) is None
            await stores.person(3, "ada")  # the name and the address are free again
            with pytest.raises(AlreadyExists):
                await stores.person(4, "ada")

    async def test_the_others_are_told_again_when_the_note_ends_and_then_there_is_none(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as stores:
            await stores.person(ADA, "ada")
            await stores.exports.erase(ADA, UserErased(user_id=ADA), until_ms=NOW + 5)
            assert await stores.exports.erasures_over(NOW + 4, 10) == []
            assert await stores.exports.erasures_over(NOW + 5, 10) == [ADA]
            for _ in range(2):
                await stores.exports.forget_erasure(ADA, UserErased(user_id=ADA))
            assert await stores.exports.erasures_over(NOW + 5, 10) == []
            assert len([1 for event in await stores.events() if event.message == UserErased(user_id=ADA)]) == 2
