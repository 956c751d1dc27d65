"""What every store of worker numbers promises (mesh.ids.LeaseStore)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

import pytest

from mesh.errors import Unavailable
from mesh.ids import EPOCH_MS, WORKERS, LeaseStore

NOW = EPOCH_MS + 86_400_000
TTL_MS = 60_000


class Hand:
    """A clock that tests move, in milliseconds."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class LeaseSuite(ABC):
    """Subclass it in an adapter's test module, with the fixtures below."""

    @pytest.fixture
    @abstractmethod
    def opened(self) -> Callable[[Callable[[], int]], LeaseStore]:
        """`opened(clock)` is one replica's view of a store that was empty before the test."""

    @abstractmethod
    async def fill(self, store: LeaseStore, expires_ms: int) -> None:
        """Gives all numbers to somebody until then, past the store: acquiring each would take long."""

    async def test_two_holders_never_have_the_same_number(
        self, opened: Callable[[Callable[[], int]], LeaseStore]
    ) -> None:
        clock = Hand()
        one, other = opened(clock), opened(clock)
        leases = await asyncio.gather(
            *(store.acquire(f"{name}{n}", TTL_MS) for n in range(10) for name, store in (("a", one), ("b", other)))
        )
        assert sorted(lease.worker for lease in leases) == list(range(20))

    async def test_a_number_is_free_only_after_its_lease_ended_and_a_second_for_clocks_that_differ(
        self, opened: Callable[[Callable[[], int]], LeaseStore]
    ) -> None:
        clock = Hand()
        leases = opened(clock)
        first = await leases.acquire("a", TTL_MS)
        clock.now = NOW + TTL_MS + 1_000
        assert (await leases.acquire("b", TTL_MS)).worker != first.worker
        clock.now += 1
        again = await leases.acquire("c", TTL_MS)
        assert (again.worker, again.floor_ms) == (first.worker, NOW + TTL_MS)

    async def test_a_number_given_back_is_taken_again_behind_the_moment_it_was_given_back(
        self, opened: Callable[[Callable[[], int]], LeaseStore]
    ) -> None:
        clock = Hand()
        leases = opened(clock)
        first = await leases.acquire("a", TTL_MS)
        await leases.release("a", first.worker)
        clock.now += 1_001
        again = await leases.acquire("b", TTL_MS)
        assert (again.worker, again.floor_ms) == (first.worker, NOW)

    async def test_only_the_holder_renews_or_gives_back(
        self, opened: Callable[[Callable[[], int]], LeaseStore]
    ) -> None:
        clock = Hand()
        leases = opened(clock)
        lease = await leases.acquire("a", TTL_MS)
        assert not await leases.renew("b", lease.worker, TTL_MS)
        await leases.release("b", lease.worker)
        clock.now += 2_000
        assert (await leases.acquire("c", TTL_MS)).worker != lease.worker
        assert await leases.renew("a", lease.worker, TTL_MS)
        clock.now = NOW + TTL_MS + 1_500  # the first lease is over, the renewed one not
        assert (await leases.acquire("d", TTL_MS)).worker != lease.worker

    async def test_more_holders_than_numbers_are_told_so(
        self, opened: Callable[[Callable[[], int]], LeaseStore]
    ) -> None:
        clock = Hand()
        leases = opened(clock)
        await self.fill(leases, NOW + 1)
        with pytest.raises(Unavailable, match="leased"):
            await leases.acquire("a", TTL_MS)
        clock.now = NOW + 1_002
        assert (await leases.acquire("a", TTL_MS)).worker < WORKERS
