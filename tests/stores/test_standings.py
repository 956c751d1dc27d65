"""How a viewer stands to others, on a real Valkey: from their sets, or from the owner when those cannot say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
from rookery.api.v2.user_pb2 import User
from rookery.graph.v1.graph_mesh_pb2 import GetStandingResponse

from mesh.cache.open import open_cache
from mesh.cache.records import Records
from mesh.cache.sets import OVERFLOW, GuardedSets
from mesh.cache.store import CacheStore
from mesh.errors import Unavailable
from views.hydrate import Hydrator
from views.record import USER, person_facts
from views.standings import Standings
from views.visibility import Surface

from .conftest import Valkey

VIEWER, ADA, BOB, CAROL, DAN = 7, 8, 9, 10, 11
PEOPLE = [ADA, BOB, CAROL, DAN]


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[CacheStore]:
    one = open_cache(valkey.url)
    await one.client.flushdb()
    yield one
    await one.close()


class Owners:
    """`user` and `graph`, and what they were asked."""

    def __init__(self, store: CacheStore) -> None:
        self.records = Records(store, "user:2:")
        self.asked: list[tuple[list[int], bool]] = []
        self.away = False
        self.standings = Standings(store, Hydrator(self.records, self._fetch), self._ask)

    async def _fetch(self, ids: Sequence[int]) -> list[bytes]:
        return [USER.encode(User(id=i), version=1, facts=person_facts(protected=i == DAN)) for i in ids]

    async def _ask(self, viewer_id: int, people: Sequence[int], loaded: bool) -> GetStandingResponse:
        assert viewer_id == VIEWER
        if self.away:
            raise Unavailable("away")
        self.asked.append((list(people), loaded))
        return GetStandingResponse(following_ids=[ADA], blocked_ids=[BOB], muted_ids=[CAROL])


@pytest.fixture
def owners(store: CacheStore) -> Owners:
    return Owners(store)


async def fill(store: CacheStore, following: Iterable[int], blocked: Iterable[int], muted: Iterable[int]) -> None:
    sets = GuardedSets(store, ("following", "blocked", "muted"))
    filled = {"following": following, "blocked": blocked, "muted": muted}
    assert await sets.fill(VIEWER, await sets.generation(VIEWER), filled)


async def test_loaded_sets_answer_without_their_owner(store: CacheStore, owners: Owners) -> None:
    await fill(store, [ADA, DAN], [BOB], [CAROL])
    facts = await owners.standings.of(VIEWER, PEOPLE)
    assert (set(facts.followed), set(facts.blocked), set(facts.muted)) == ({ADA, DAN}, {BOB}, {CAROL})
    assert facts.seen(Surface.HOME) == {ADA, DAN}
    assert facts.seen(Surface.TWEET) == {ADA, CAROL, DAN}
    assert owners.asked == []


@pytest.mark.parametrize("lost", ["following", "blocked", "muted"])
async def test_a_set_that_is_not_loaded_is_not_taken_for_an_empty_one(
    store: CacheStore, owners: Owners, lost: str
) -> None:
    await fill(store, [], [], [])
    await store.client.delete(GuardedSets.key(lost, VIEWER))
    facts = await owners.standings.of(VIEWER, PEOPLE)
    assert facts.seen(Surface.HOME) == {ADA}
    assert owners.asked == [(PEOPLE, False)]


async def test_a_set_that_would_be_too_large_sends_one_to_its_owner(store: CacheStore, owners: Owners) -> None:
    await fill(store, [], [int(OVERFLOW)], [])
    facts = await owners.standings.of(VIEWER, PEOPLE)
    assert set(facts.blocked) == {BOB}
    assert owners.asked == [(PEOPLE, True)]


async def test_people_of_whom_only_the_relation_matters_are_not_read(store: CacheStore, owners: Owners) -> None:
    await fill(store, [DAN], [], [])
    facts = await owners.standings.of(VIEWER, [ADA], related=[DAN])
    assert set(facts.followed) == {DAN}
    assert facts.people.keys() == {ADA}


async def test_without_the_cache_store_the_owners_answer(valkey: Valkey, owners: Owners) -> None:
    valkey.kill()
    try:
        assert (await owners.standings.of(VIEWER, PEOPLE)).seen(Surface.TWEET) == {ADA, CAROL}
        owners.away = True
        with pytest.raises(Unavailable):
            await owners.standings.of(VIEWER, PEOPLE)
    finally:
        valkey.start()


async def test_when_nobody_can_say_nothing_is_shown(owners: Owners) -> None:
    owners.away = True
    with pytest.raises(Unavailable):
        await owners.standings.of(VIEWER, PEOPLE)


async def test_nobody_asked_for_costs_no_trip(owners: Owners) -> None:
    owners.away = True
    facts = await owners.standings.of(VIEWER, [])
    assert facts.seen(Surface.HOME) == frozenset()
