"""What every UserStore, SessionStore and KeyStore does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rookery.events.v1.user_events_pb2 import (
    USER_STATE_ACTIVE,
    USER_STATE_DEACTIVATED,
    USER_STATE_SUSPENDED,
    UserProfileChanged,
    UserRegistered,
    UserStateChanged,
)

from mesh.errors import AlreadyExists, Unavailable
from services.user.domain import GRACE_MS, RETRY_MS, CountChange, Person
from services.user.store.base import KeyStore, NewPerson, Rotated, Session, SessionStore, SigningKey, UserStore
from services.user.store.clients import ClientStore, RoleStore
from views.text import profile_entities

from .events import Event, Events

NOW = 10**12


@dataclass(frozen=True, slots=True)
class UserStores:
    """What an adapter hands to the suite; all are of one database."""

    users: UserStore
    """People."""
    sessions: SessionStore
    """Sessions."""
    keys: KeyStore
    """Signing keys."""
    clients: ClientStore
    """Clients and grants."""
    roles: RoleStore
    """Roles."""
    events: Events
    """What their changes left to be published."""
    close: Callable[[], Awaitable[None]]
    """Takes the database away."""


def new_person(user_id: int, username: str = "", email: str = "") -> NewPerson:
    """Somebody who registers."""
    name = username or f"user_{user_id}"
    return NewPerson(user_id, name, email or f"{name}@example.org", f"hash of {user_id}", f"Name of {user_id}")


def session_of(user_id: int, number: int = 0, *, expires_ms: int = NOW + 1000) -> Session:
    """One of a person's sessions."""
    session_id = user_id.to_bytes(8, "big") + number.to_bytes(8, "big")
    return Session(session_id, user_id, b"first token".ljust(32), NOW, expires_ms)


class UserStoreSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[UserStores]:
        """New, empty stores."""

    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[UserStores]:
        """New, empty stores."""
        async with self.opened(tmp_path) as stores:
            yield stores

    @pytest.fixture
    def users(self, stores: UserStores) -> UserStore:
        """People."""
        return stores.users

    @pytest.fixture
    def sessions(self, stores: UserStores) -> SessionStore:
        """Sessions."""
        return stores.sessions

    @staticmethod
    async def register(stores: UserStores, user_id: int, username: str = "", email: str = "") -> Person:
        """Registers somebody."""
        person = new_person(user_id, username, email)
        event = UserRegistered(user_id=user_id, username=person.username)
        return await stores.users.create(person, session_of(user_id), event)

    # --- people

    async def test_who_registers_is_found_by_id_by_name_and_to_sign_in(self, stores: UserStores) -> None:
        made = await self.register(stores, 1, "Ada_1", "Ada@Example.org")
        assert (made.id, made.username, made.name) == (1, "Ada_1", "Name of 1")
        assert (made.description, made.location, made.url) == ("", "", "")
        assert (made.protected, made.verified) == (False, False)
        assert (made.followers_count, made.following_count, made.tweet_count, made.like_count) == (0, 0, 0, 0)
        assert made.version == 1
        assert await stores.users.by_ids([1]) == [made]
        assert await stores.users.ids_by_username(["ada_1"]) == {"ada_1": 1}
        assert await stores.users.login("ada_1", by_email=False) == (made, "hash of 1")
        assert await stores.users.claimant("ada@example.org") == (made, "hash of 1")
        assert await stores.users.login("ada@example.org", by_email=True) is None, "the address is not proven"
        assert await stores.users.login("ada@example.org", by_email=False) is None
        assert await stores.users.login("ada_1", by_email=True) is None
        assert await stores.users.login("nobody", by_email=False) is None

    async def test_registering_leaves_one_event_and_the_first_session(self, stores: UserStores) -> None:
        await self.register(stores, 1, "ada")
        assert await stores.events() == [Event("users", "1", UserRegistered(user_id=1, username="ada"))]
        first = session_of(1)
        rotated = await self.rotate(stores.sessions, first, first.token_hash, b"n" * 32, expires=NOW + 1)
        assert rotated == 1

    async def test_a_taken_name_is_refused_and_leaves_nothing(self, stores: UserStores) -> None:
        await self.register(stores, 1, "ada", "ada@example.org")
        with pytest.raises(AlreadyExists) as refused:
            await self.register(stores, 2, "ADA", "other@example.org")
        assert [violation.field for violation in refused.value.violations] == ["username"]
        assert refused.value.reason == "USERNAME_TAKEN"
        assert await stores.users.by_ids([2]) == []
        assert len(await stores.events()) == 1
        second = session_of(2)
        assert await self.rotate(stores.sessions, second, second.token_hash, b"n" * 32, expires=NOW + 1) is None
        await self.register(stores, 2, "other", "other@example.org")  # nothing was reserved by the failed attempt

    async def test_many_may_say_that_an_address_is_theirs_and_the_newest_is_found(self, stores: UserStores) -> None:
        for user_id in (1, 3, 2):
            made = await self.register(stores, user_id, email="Same@Example.org")
            assert made.id == user_id
        found = await stores.users.claimant("same@example.org")
        assert found is not None
        assert (found[0].id, found[1]) == (3, "hash of 3")
        for key in ("", "claim:1", "CLAIM:1"):
            assert await stores.users.claimant(key) is None

    async def test_another_hash_takes_the_place_of_the_one_it_was_made_for(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        assert await stores.users.rehash(1, "hash of 1", "stronger")
        assert not await stores.users.rehash(1, "hash of 1", "lost a race")
        assert not await stores.users.rehash(2, "hash of 1", "nobody")
        found = await stores.users.credentials(1)
        assert found is not None
        assert found[1] == "stronger"

    async def test_one_of_many_gets_a_name(self, stores: UserStores) -> None:
        done = await asyncio.gather(
            *(self.register(stores, n, "Ada" if n % 2 else "ada", f"{n}@example.org") for n in range(1, 11)),
            return_exceptions=True,
        )
        made = [one for one in done if isinstance(one, Person)]
        assert len(made) == 1
        assert all(isinstance(one, AlreadyExists) for one in done if one not in made)
        assert await stores.users.ids_by_username(["ada"]) == {"ada": made[0].id}
        assert len(await stores.events()) == 1

    async def test_many_are_read_at_once_and_the_unknown_left_out(self, stores: UserStores) -> None:
        made = [await self.register(stores, n) for n in range(1, 6)]
        found = await stores.users.by_ids([5, 1, 99, 5])
        assert sorted(found, key=lambda person: person.id) == [made[0], made[4]]
        assert await stores.users.by_ids([]) == []
        assert await stores.users.by_ids([99]) == []
        assert await stores.users.ids_by_username(["user_1", "nobody", "user_3"]) == {"user_1": 1, "user_3": 3}
        assert await stores.users.ids_by_username([]) == {}
        assert len(await stores.users.by_ids(range(1, 101))) == 5, "a whole batch of the API"

    async def test_ids_go_up_to_64_bits_and_text_is_kept_as_it_is(self, stores: UserStores) -> None:
        hostile = "'); DROP TABLE users; -- \\ % _ \U0001f468‍\U0001f469‍\U0001f467 \u202e"
        made = await self.register(stores, 2**63 - 1, "ada")
        changed = await stores.users.update(made.id, {"description": hostile}, UserProfileChanged(user_id=made.id))
        assert changed is not None
        assert changed.description == hostile
        assert await stores.users.by_ids([2**63 - 1]) == [changed]
        assert await stores.users.login(hostile, by_email=True) is None

    # --- profiles

    async def test_a_change_touches_what_is_given_and_leaves_one_event(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        await self.register(stores, 2)
        event = UserProfileChanged(user_id=1)
        first = await stores.users.update(1, {"name": "New", "location": "Here"}, event)
        assert first == replace(made, name="New", location="Here", version=2)
        second = await stores.users.update(1, {"location": "", "url": "https://example.org"}, event)
        entities = profile_entities("", "https://example.org").SerializeToString()
        assert second == replace(made, name="New", url="https://example.org", entities=entities, version=3)
        third = await stores.users.update(1, {"protected": True, "language": "pt-BR", "country": "BR"}, event)
        assert third == replace(second, protected=True, language="pt-BR", country="BR", version=4)
        assert await stores.users.by_ids([1]) == [third]
        assert [person.version for person in await stores.users.by_ids([2])] == [1], "nobody else is touched"
        assert (await stores.events())[2:] == [Event("users", "1", event)] * 3

    async def test_a_change_of_nobody_leaves_no_event(self, stores: UserStores) -> None:
        assert await stores.users.update(9, {"name": "New"}, UserProfileChanged(user_id=9)) is None
        assert await stores.events() == []

    async def test_only_members_of_a_profile_can_be_changed(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        for member in ("password_hash", "verified", "username", "id", "name = 'x', verified"):
            with pytest.raises(ValueError, match="not columns"):
                await stores.users.update(1, {member: "1"}, UserProfileChanged(user_id=1))
        assert [person.version for person in await stores.users.by_ids([1])] == [1]

    async def test_changes_at_once_are_all_kept_and_numbered(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        event = UserProfileChanged(user_id=1)
        done = await asyncio.gather(
            *(stores.users.update(1, {"name" if n % 2 else "location": str(n)}, event) for n in range(20))
        )
        versions = [person.version for person in done if person is not None]
        assert sorted(versions) == list(range(2, 22))
        [now] = await stores.users.by_ids([1])
        last = max((person for person in done if person is not None), key=lambda person: person.version)
        assert now == last

    # --- counts

    @pytest.mark.parametrize(
        ("count", "member"),
        [
            ("followers", "followers_count"),
            ("following", "following_count"),
            ("tweets", "tweet_count"),
            ("likes", "like_count"),
            ("listed", "listed_count"),
        ],
    )
    async def test_only_a_newer_count_is_applied(self, stores: UserStores, count: str, member: str) -> None:
        await self.register(stores, 1)
        names = ("followers_count", "following_count", "tweet_count", "like_count", "listed_count")
        zero = dict.fromkeys(names, 0)

        async def apply(value: int, version: int) -> list[Person]:
            return await stores.users.apply_counts([CountChange(1, count, value, version)])

        [changed] = await apply(7, 5)
        assert {name: getattr(changed, name) for name in zero} == zero | {member: 7}
        assert changed.version == 2
        assert await apply(9, 5) == [], "the same again"
        assert await apply(9, 4) == [], "an older one"
        assert await stores.users.by_ids([1]) == [changed]
        [changed] = await apply(3, 6)
        assert getattr(changed, member) == 3, "a count may fall"

    async def test_each_count_has_numbers_of_its_own(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        await stores.users.apply_counts([CountChange(1, "tweets", 2, 50)])
        [changed] = await stores.users.apply_counts([CountChange(1, "followers", 3, 1)])
        assert changed == replace(made, tweet_count=2, followers_count=3, version=3)

    async def test_who_changed_is_given_once_as_they_are_after_all(self, stores: UserStores) -> None:
        for user_id in (1, 2, 3):
            await self.register(stores, user_id)
        changed = await stores.users.apply_counts(
            [
                CountChange(1, "followers", 1, 1),
                CountChange(2, "following", 1, 1),
                CountChange(1, "followers", 2, 2),
                CountChange(1, "followers", 1, 1),
                CountChange(99, "followers", 1, 1),
                CountChange(3, "tweets", 0, 0),
            ]
        )
        assert sorted((person.id, person.followers_count, person.following_count) for person in changed) == [
            (1, 2, 0),
            (2, 0, 1),
        ]
        assert sorted(await stores.users.by_ids([1, 2]), key=lambda person: person.id) == sorted(
            changed, key=lambda person: person.id
        )
        assert await stores.users.apply_counts([]) == []

    async def test_counts_that_come_in_any_order_end_at_the_newest(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        order = [3, 1, 5, 2, 4, 5, 1]
        await asyncio.gather(
            *(stores.users.apply_counts([CountChange(1, "followers", 10 * n, n)]) for n in order),
        )
        [person] = await stores.users.by_ids([1])
        assert person.followers_count == 50

    async def test_entities_follow_both_texts_they_are_of(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        assert made.entities == b""
        event = UserProfileChanged(user_id=1)
        about, link = "I am @ada of #rookery, see example.com", "https://example.org/ada"
        for changes, description, url in (
            ({"url": link}, "", link),
            ({"description": about}, about, link),
            ({"name": "New"}, about, link),
            ({"location": "Here", "url": ""}, about, ""),
            ({"description": ""}, "", ""),
        ):
            changed = await stores.users.update(1, changes, event)
            assert changed is not None
            assert changed.entities == profile_entities(description, url).SerializeToString()
            assert await stores.users.by_ids([1]) == [changed]

    # --- pins

    async def test_a_pin_is_taken_away_with_its_tweet_only(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        await self.register(stores, 2)
        event = UserProfileChanged(user_id=1)
        pinned = await stores.users.update(1, {"pinned_tweet_id": 2**62}, event)
        assert pinned is not None
        assert pinned.pinned_tweet_id == 2**62
        assert await stores.users.unpin([(1, 5), (2, 2**62), (9, 2**62)]) == []
        assert await stores.users.by_ids([1]) == [pinned]
        before = len(await stores.events())
        assert await stores.users.unpin([(1, 2**62), (1, 2**62)]) == [replace(pinned, pinned_tweet_id=0, version=3)]
        assert (await stores.events())[before:] == [Event("users", "1", event)]
        assert await stores.users.unpin([]) == []

    # --- words

    @staticmethod
    async def found(stores: UserStores, prefix: str, *, limit: int = 100) -> list[int]:
        """Everyone whom a search finds, page by page."""
        ids: list[int] = []
        place = None
        while rows := await stores.users.search(prefix, place, limit):
            assert len(rows) <= limit
            ids += [row.user_id for row in rows]
            place = rows[-1]
        return ids

    async def named(self, stores: UserStores, user_id: int, username: str, name: str) -> None:
        """Registers somebody with a name."""
        await self.register(stores, user_id, username)
        await stores.users.update(user_id, {"name": name}, UserProfileChanged(user_id=user_id))

    async def test_people_are_found_by_their_username_and_by_every_word_of_their_name(self, stores: UserStores) -> None:
        await self.named(stores, 1, "Countess", "Ada Lovelace")
        await self.named(stores, 2, "ada", "Somebody Else")
        await self.named(stores, 3, "grace", "Grace Hopper")
        for prefix, ids in (
            ("ada", [2, 1]),  # "ada" before "ada lovelace"
            ("ada l", [1]),
            ("lov", [1]),
            ("countess", [1]),
            ("ad", [2, 1]),
            ("gr", [3]),
            ("hopper", [3]),
            ("opper", []),
            ("lovelace a", []),
        ):
            assert await self.found(stores, prefix) == ids, prefix

    async def test_who_matches_often_is_found_once_and_pages_miss_nobody(self, stores: UserStores) -> None:
        for user_id in range(1, 21):
            await self.named(
                stores, user_id, f"anna_{user_id % 7}_{user_id}", "Anna Anne Annette " + "An" * (user_id % 3)
            )
        everyone = await self.found(stores, "an")
        assert sorted(everyone) == list(range(1, 21))
        for limit in (1, 2, 3, 7, 19, 20, 21):
            assert await self.found(stores, "an", limit=limit) == everyone

    async def test_words_follow_a_name(self, stores: UserStores) -> None:
        await self.named(stores, 1, "somebody", "Old Name")
        await stores.users.update(1, {"name": "New Name"}, UserProfileChanged(user_id=1))
        await stores.users.update(1, {"location": "Old Town"}, UserProfileChanged(user_id=1))
        assert await self.found(stores, "old") == []
        assert await self.found(stores, "new") == await self.found(stores, "some") == [1]

    async def test_who_is_gone_is_not_found_until_they_are_back(self, stores: UserStores) -> None:
        await self.register(stores, 1, "ada")
        await stores.users.suspend(1, True)
        assert await self.found(stores, "ada") == []
        await stores.users.suspend(1, False)
        assert await self.found(stores, "ada") == [1]
        await stores.users.deactivate(1, "hash of 1", NOW)
        assert await self.found(stores, "ada") == []
        await stores.users.reactivate(1, "hash of 1", NOW)
        assert await self.found(stores, "ada") == [1]

    async def test_a_prefix_is_no_pattern(self, stores: UserStores) -> None:
        await self.named(stores, 1, "a_b", "100% [x] 'y'")
        for prefix in ("%", "_", "a%", "*", "'", "a_%"):
            assert await self.found(stores, prefix) == [], prefix
        assert await self.found(stores, "a_") == await self.found(stores, "100%") == [1]

    async def test_words_are_compared_by_code_points(self, stores: UserStores) -> None:
        names = {1: "é", 2: "z", 3: "字", 4: "\U0001f980", 5: "ea"}
        for user_id, name in names.items():
            await self.named(stores, user_id, f"user_{user_id}", f"q{name}")
        assert await self.found(stores, "q", limit=2) == sorted(names, key=lambda one: names[one])

    async def test_what_newer_rules_made_is_not_made_again(self, stores: UserStores) -> None:
        await self.register(stores, 1, "ada")
        assert await stores.users.parse_again(10) == []

    # --- accounts that are gone

    async def test_who_is_deactivated_keeps_everything_but_their_sessions(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        gone = await stores.users.deactivate(1, "hash of 1", NOW)
        assert gone == replace(made, deactivated_ms=NOW, version=2)
        assert not gone.active
        assert await stores.users.by_ids([1]) == [gone]
        assert await stores.users.ids_by_username(["user_1"]) == {}
        assert await stores.users.login("user_1", by_email=False) == (gone, "hash of 1")
        assert await self.rotate(stores.sessions, session_of(1), session_of(1).token_hash, b"x" * 32) is None
        event = UserStateChanged(user_id=1, state=USER_STATE_DEACTIVATED)
        assert (await stores.events())[1:] == [Event("users", "1", event)]
        with pytest.raises(AlreadyExists):
            await self.register(stores, 2, "user_1", "other@example.org")

    async def test_deactivating_again_changes_nothing(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        first = await stores.users.deactivate(1, "hash of 1", NOW)
        assert await stores.users.deactivate(1, "hash of 1", NOW + 5) == first
        assert len(await stores.events()) == 2

    async def test_who_is_gone_can_be_changed_by_nobody(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        await stores.users.deactivate(1, "hash of 1", NOW)
        assert await stores.users.update(1, {"name": "New"}, UserProfileChanged(user_id=1)) is None
        assert await stores.users.change_password(1, "hash of 1", "new", session_of(1, 7)) is None
        assert not await stores.sessions.add(session_of(1, 8), "hash of 1")
        [counted] = await stores.users.apply_counts([CountChange(1, "followers", 3, 1)])
        assert (counted.followers_count, counted.active) == (3, False), "counts go on"

    async def test_a_deactivated_account_comes_back_until_its_time_is_over(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        await stores.users.deactivate(1, "hash of 1", NOW)
        assert await stores.users.reactivate(1, "another hash", NOW + 1) is None
        assert await stores.users.reactivate(1, "hash of 1", NOW + GRACE_MS) is None
        back = await stores.users.reactivate(1, "hash of 1", NOW + GRACE_MS - 1)
        assert back == replace(made, version=3)
        assert await stores.users.ids_by_username(["user_1"]) == {"user_1": 1}
        assert await stores.sessions.add(session_of(1, 2), "hash of 1")
        assert (await stores.events())[-1].message == UserStateChanged(user_id=1, state=USER_STATE_ACTIVE)
        assert await stores.users.reactivate(1, "hash of 1", NOW) is None, "nothing to bring back"
        assert len(await stores.events()) == 3

    async def test_a_suspension_outweighs_a_deactivation(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        assert await stores.users.suspend(1, True) == replace(made, suspended=True, version=2)
        assert await self.rotate(stores.sessions, session_of(1), session_of(1).token_hash, b"x" * 32) is None
        assert await stores.users.ids_by_username(["user_1"]) == {}
        await stores.users.deactivate(1, "hash of 1", NOW)
        await stores.users.reactivate(1, "hash of 1", NOW + 1)
        [person] = await stores.users.by_ids([1])
        assert not person.active
        await stores.users.deactivate(1, "hash of 1", NOW + 2)
        still = await stores.users.suspend(1, False)
        assert still is not None and not still.active, "the person had gone themself"
        states = [event.message.state for event in (await stores.events())[1:]]
        suspended, deactivated = USER_STATE_SUSPENDED, USER_STATE_DEACTIVATED
        assert states == [suspended, suspended, suspended, suspended, deactivated]

    async def test_suspending_twice_leaves_one_event_and_nobody_cannot_be_suspended(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        await self.register(stores, 2)
        for suspended in (True, False):
            first = await stores.users.suspend(1, suspended)
            assert await stores.users.suspend(1, suspended) == first
        assert await stores.users.by_ids([1]) == [replace(made, version=3)]
        assert await stores.users.suspend(9, True) is None
        assert len(await stores.events()) == 4
        assert [person.active for person in await stores.users.by_ids([2])] == [True]

    async def test_those_are_due_for_erasure_who_did_not_come_back_in_time(self, stores: UserStores) -> None:
        for user_id in range(1, 6):
            await self.register(stores, user_id)
        for user_id, when in ((1, NOW + 2), (2, NOW), (3, NOW + 1), (4, NOW)):
            await stores.users.deactivate(user_id, f"hash of {user_id}", when)
        await stores.users.reactivate(4, "hash of 4", NOW + 1)
        assert await stores.users.due_for_erasure(NOW + GRACE_MS - 1, 10) == []
        assert await stores.users.due_for_erasure(NOW + GRACE_MS, 10) == [2]
        assert await stores.users.due_for_erasure(NOW + GRACE_MS + 9, 2) == [2, 3]
        assert await stores.users.due_for_erasure(NOW + GRACE_MS + 9, 10) == [2, 3, 1]

    # --- passwords

    async def test_another_password_ends_all_sessions_but_the_new_one(self, stores: UserStores) -> None:
        made = await self.register(stores, 1)
        await self.register(stores, 2)
        new = session_of(1, 5)
        assert await stores.users.change_password(1, "hash of 1", "new hash", new) == made
        assert await stores.users.credentials(1) == (made, "new hash")
        assert await self.rotate(stores.sessions, session_of(1), session_of(1).token_hash, b"x" * 32) is None
        assert await self.rotate(stores.sessions, new, new.token_hash, b"x" * 32) == 1
        assert await self.rotate(stores.sessions, session_of(2), session_of(2).token_hash, b"x" * 32) == 2

    async def test_a_password_is_changed_and_used_only_as_it_is_now(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        assert await stores.users.change_password(1, "old hash", "new hash", session_of(1, 5)) is None
        assert not await stores.sessions.add(session_of(1, 6), "new hash")
        assert await stores.users.deactivate(1, "old hash", NOW) is None
        [person] = await stores.users.by_ids([1])
        assert person.active
        assert await self.rotate(stores.sessions, session_of(1), session_of(1).token_hash, b"x" * 32) == 1
        assert await stores.users.credentials(9) is None

    # --- sessions

    @staticmethod
    async def rotate(
        sessions: SessionStore, session: Session, old: bytes, new: bytes, *, now: int = NOW, expires: int = NOW + 5000
    ) -> int | None:
        """One refresh; gives whose session it is."""
        done = await sessions.rotate(session.id, old, new, client_id="", now_ms=now, expires_ms=expires)
        return None if done is None else done.user_id

    @pytest.fixture
    async def session(self, stores: UserStores) -> Session:
        """The session of a person, good until NOW + 1,000."""
        await self.register(stores, 1)
        return session_of(1)

    async def test_a_token_is_good_once_and_the_next_one_after_it(
        self, sessions: SessionStore, session: Session
    ) -> None:
        a, b, c = session.token_hash, b"b" * 32, b"c" * 32
        assert await self.rotate(sessions, session, a, b) == 1
        assert await self.rotate(sessions, session, b, c) == 1
        assert await self.rotate(sessions, session, c, a) == 1

    async def test_a_spent_token_ends_the_session(self, sessions: SessionStore, session: Session) -> None:
        """RFC 9700, 4.14.2: either the thief or the owner holds the newest one, and nobody can tell who."""
        a, b, late = session.token_hash, b"b" * 32, NOW + RETRY_MS
        assert await self.rotate(sessions, session, a, b, expires=late + 9000) == 1
        assert await self.rotate(sessions, session, a, b"x" * 32, now=late) is None
        assert await self.rotate(sessions, session, b, b"c" * 32, now=late) is None
        assert [one.id for one in await sessions.ended(0, b"", 10)] == [session.id]

    async def test_who_lost_the_answer_asks_again_for_a_moment(self, sessions: SessionStore, session: Session) -> None:
        """The retry's answer takes the place of the one that was lost: if that is used too, somebody has a copy."""
        a, lost, got, late = session.token_hash, b"b" * 32, b"c" * 32, NOW + RETRY_MS - 1
        assert await self.rotate(sessions, session, a, lost, expires=late + 9000) == 1
        assert await self.rotate(sessions, session, a, got, now=late, expires=late + 9000) == 1
        assert await self.rotate(sessions, session, a, b"x" * 32, now=late + 1) is None, "not longer by each retry"
        assert await self.rotate(sessions, session, got, b"d" * 32, now=late + 1) is None, "and it has ended"

    async def test_both_answers_of_a_token_used_twice_are_never_good(
        self, sessions: SessionStore, session: Session
    ) -> None:
        done = await asyncio.gather(
            *(self.rotate(sessions, session, session.token_hash, bytes([n]) * 32) for n in range(5))
        )
        assert done == [1] * 5  # each may be the retry of one whose answer was lost
        good = [n for n in range(5) if await self.rotate(sessions, session, bytes([n]) * 32, bytes([n + 5]) * 32)]
        assert len(good) <= 1, "the first of the others that is used ends it"

    async def test_a_session_is_refreshed_by_its_own_client_only(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        mine = replace(session_of(1, 7), client_id="a client", scope="tweet.read")
        assert await stores.sessions.add(mine, "hash of 1")
        for other in ("", "another"):
            found = await stores.sessions.rotate(
                mine.id, mine.token_hash, b"x" * 32, client_id=other, now_ms=NOW, expires_ms=NOW + 9
            )
            assert found is None
        found = await stores.sessions.rotate(
            mine.id, mine.token_hash, b"b" * 32, client_id="a client", now_ms=NOW, expires_ms=NOW + 9000
        )
        assert found == Rotated(1, "a client", "tweet.read")

    async def test_a_session_without_a_token_is_refreshed_by_nothing(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        signing = replace(session_of(1, 7), token_hash=b"", token_secret="secret")
        assert await stores.sessions.add(signing, "hash of 1")
        for old in (b"", b"x" * 32):
            assert await self.rotate(stores.sessions, signing, old, b"b" * 32) is None
        assert await stores.sessions.by_id(signing.id) == signing

    async def test_whatever_ends_a_session_puts_it_among_those_that_ended(self, stores: UserStores) -> None:
        sessions, users = stores.sessions, stores.users
        for person in range(1, 6):
            await self.register(stores, person)
        await sessions.end(session_of(1).id, session_of(1).token_hash)
        await sessions.end_all(2)
        await users.suspend(3, True)
        await users.deactivate(4, "hash of 4", NOW)
        assert await users.change_password(5, "hash of 5", "new hash", session_of(5, 1)) is not None
        ended = await sessions.ended(0, b"", 10)
        assert {one.id for one in ended} == {session_of(person).id for person in range(1, 6)}
        assert ended == sorted(ended, key=lambda one: (one.ended_ms, one.id))
        assert await sessions.ended(ended[1].ended_ms, ended[1].id, 2) == ended[2:4]
        assert await sessions.forget_ended(ended[-1].ended_ms + 1) == 5
        assert await sessions.ended(0, b"", 10) == []

    async def test_one_of_a_persons_own_is_ended_or_all_but_one(self, stores: UserStores) -> None:
        for person in (1, 2):
            await self.register(stores, person)
        mine = [session_of(1), session_of(1, 1), session_of(1, 2)]
        for session in mine[1:]:
            assert await stores.sessions.add(session, "hash of 1")
        assert await stores.sessions.of_person(1, NOW, 10) == mine
        assert await stores.sessions.of_person(1, NOW, 2) == mine[:2]
        assert await stores.sessions.of_person(1, NOW + 1000, 10) == []
        assert not await stores.sessions.end_own(1, session_of(2).id)
        assert await stores.sessions.end_own(1, mine[0].id)
        assert not await stores.sessions.end_own(1, mine[0].id)
        await stores.sessions.end_all(1, but=mine[1].id)
        assert await stores.sessions.of_person(1, NOW, 10) == [mine[1]]
        assert await stores.sessions.of_person(2, NOW, 10) == [session_of(2)]
        assert await stores.sessions.by_id(mine[0].id) is None
        await stores.users.suspend(1, True)
        assert await stores.sessions.by_id(mine[1].id) is None

    async def test_a_person_has_a_hundred_sessions_at_most(self, stores: UserStores) -> None:
        await self.register(stores, 1)
        for number in range(1, 103):
            session = replace(session_of(1, number), created_ms=NOW + number)
            assert await stores.sessions.add(session, "hash of 1")
        left = await stores.sessions.of_person(1, NOW, 200)
        assert [one.created_ms for one in left] == [NOW + number for number in range(102, 2, -1)]
        assert len(await stores.sessions.ended(0, b"", 10)) == 3

    async def test_an_expired_or_unknown_session_is_not_refreshed(
        self, sessions: SessionStore, session: Session
    ) -> None:
        a, b = session.token_hash, b"b" * 32
        assert await self.rotate(sessions, replace(session, id=b"?" * 16), a, b) is None
        assert await self.rotate(sessions, session, a, b, now=session.expires_ms) is None
        assert await self.rotate(sessions, session, a, b, now=session.expires_ms - 1, expires=NOW + 9000) == 1
        assert await self.rotate(sessions, session, b, a, now=NOW + 8999) == 1, "refreshing prolongs"

    async def test_sessions_of_one_person_do_not_touch_each_other(
        self, sessions: SessionStore, session: Session
    ) -> None:
        other = session_of(1, 1)
        assert await sessions.add(other, "hash of 1")
        assert await self.rotate(sessions, session, b"wrong" * 6, b"x" * 32) is None
        assert await self.rotate(sessions, other, other.token_hash, b"x" * 32) == 1

    async def test_a_session_is_ended_only_by_its_token(self, sessions: SessionStore, session: Session) -> None:
        await sessions.end(session.id, b"wrong".ljust(32))
        assert await self.rotate(sessions, session, session.token_hash, b"b" * 32) == 1
        await sessions.end(session.id, b"b" * 32)
        assert await self.rotate(sessions, session, b"b" * 32, b"c" * 32) is None
        await sessions.end(session.id, b"b" * 32)

    async def test_all_sessions_of_one_person_are_ended_and_nobody_elses(
        self, stores: UserStores, session: Session
    ) -> None:
        await self.register(stores, 2)
        mine, other = session_of(1, 1), session_of(2)
        assert await stores.sessions.add(mine, "hash of 1")
        await stores.sessions.end_all(1)
        for ended in (session, mine):
            assert await self.rotate(stores.sessions, ended, ended.token_hash, b"x" * 32) is None
        assert await self.rotate(stores.sessions, other, other.token_hash, b"x" * 32) == 2

    async def test_expired_sessions_are_forgotten_a_thousand_at_a_time(
        self, stores: UserStores, sessions: SessionStore, session: Session
    ) -> None:
        for person in range(2, 14):
            await self.register(stores, person)
        await asyncio.gather(
            *(
                sessions.add(session_of(2 + n % 12, n, expires_ms=NOW + n % 7), f"hash of {2 + n % 12}")
                for n in range(1, 1104)
            )
        )
        later = NOW + 7
        assert await sessions.forget_expired(NOW - 1) == 0
        assert await sessions.forget_expired(later) == 1000
        assert await sessions.forget_expired(later) == 103
        assert await sessions.forget_expired(later) == 0
        assert await self.rotate(sessions, session, session.token_hash, b"b" * 32) == 1, "the live one stays"

    # --- signing keys

    async def test_keys_are_given_newest_first(self, stores: UserStores) -> None:
        assert await stores.keys.signing_keys() == []
        keys = [SigningKey(f"k{n}", f'{{"kid": "k{n}"}}', NOW + n) for n in (2, 1, 3)]
        for key in keys:
            await stores.keys.add_signing_key(key, unless_since_ms=NOW + 100)
        assert [key.kid for key in await stores.keys.signing_keys()] == ["k3", "k2", "k1"]
        assert keys[0] in await stores.keys.signing_keys()

    async def test_at_most_ten_keys_are_given(self, stores: UserStores) -> None:
        for n in range(12):
            await stores.keys.add_signing_key(SigningKey(f"k{n}", "{}", NOW + n), unless_since_ms=NOW + 100)
        assert [key.kid for key in await stores.keys.signing_keys()] == [f"k{n}" for n in range(11, 1, -1)]

    async def test_replicas_that_rotate_at_once_make_one_key(self, stores: UserStores) -> None:
        await asyncio.gather(
            *(
                stores.keys.add_signing_key(SigningKey(f"k{n}", "{}", NOW + n), unless_since_ms=NOW - 1)
                for n in range(5)
            )
        )
        [first] = await stores.keys.signing_keys()
        await stores.keys.add_signing_key(SigningKey("next", "{}", NOW + 50), unless_since_ms=first.created_ms)
        assert [key.kid for key in await stores.keys.signing_keys()] == ["next", first.kid]

    # --- outages

    async def test_without_the_database_callers_are_told(self, stores: UserStores, session: Session) -> None:
        await stores.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: self.register(stores, 2),
            lambda: stores.users.by_ids([1]),
            lambda: stores.users.login("user_1", by_email=False),
            lambda: stores.users.apply_counts([CountChange(1, "tweets", 1, 1)]),
            lambda: self.rotate(stores.sessions, session, session.token_hash, b"b" * 32),
            stores.keys.signing_keys,
        ]
        for call in calls:
            async with asyncio.timeout(3):
                with pytest.raises(Unavailable):
                    await call()
