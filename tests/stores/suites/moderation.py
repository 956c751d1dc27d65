"""What every ModerationStore does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rookery.events.v1.moderation_events_pb2 import ModerationDecided, PostBlocked

from mesh.errors import FailedPrecondition
from services.moderation.domain import ERASED, Action, Appeal, Case, Finding, Reason, Report
from services.moderation.store.base import ModerationStore, Scan

from .events import Events

ADA, BOB, EVE = 1, 2, 3
MAY, NED = 101, 102
NOW, LATER = 1_000_000, 1_600_000


@dataclass(frozen=True, slots=True)
class ModerationStores:
    """What an adapter hands to the suite."""

    store: ModerationStore
    """The store under test."""
    events: Events
    """What its changes left to be published."""


def finding(tweet_id: int, *reasons: Reason, author_id: int = ADA, toxicity: int = 0) -> Finding:
    """Something to look at."""
    return Finding(tweet_id, author_id, reasons or (Reason.SPAM,), toxicity)


def ids(cases: Sequence[Case]) -> list[int]:
    """Theirs."""
    return [case.id for case in cases]


class ModerationStoreSuite(ABC):
    """Subclass it in an adapter's test module."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[ModerationStores]:
        """New, empty stores."""

    @pytest.fixture
    async def stores(self, tmp_path: Path) -> AsyncIterator[ModerationStores]:
        """New, empty stores."""
        async with self.opened(tmp_path) as stores:
            yield stores

    @pytest.fixture
    def store(self, stores: ModerationStores) -> ModerationStore:
        """The store."""
        return stores.store

    @staticmethod
    async def acts(store: ModerationStore) -> list[str]:
        """What the audit says, the oldest first."""
        return [entry.act for entry in reversed(await store.audit(case_id=0, before=0, limit=100))]

    # --- the queue

    async def test_one_case_of_a_tweet_waits_whatever_is_found_and_by_how_many(self, store: ModerationStore) -> None:
        first = await store.open(10, finding(500, Reason.SPAM))
        again = await store.open(11, finding(500, Reason.TOXICITY, toxicity=750))
        assert first is not None and again is not None and again.id == first.id == 10
        assert again.reasons == (Reason.TOXICITY, Reason.SPAM) and again.toxicity == 750
        assert again.priority > first.priority
        both = await asyncio.gather(*(store.open(20 + n, finding(501)) for n in range(6)))
        assert len({case.id for case in both if case is not None}) == 1
        assert len(await store.waiting(priority=-1, after=0, limit=10)) == 2

    async def test_what_was_looked_at_once_is_not_looked_at_again_for_the_same_reason(
        self, store: ModerationStore
    ) -> None:
        await store.open(10, finding(500, Reason.VIRAL), once=True)
        await store.decide(10, 30, Action.KEEP, MAY, "", now_ms=NOW)
        assert await store.open(11, finding(500, Reason.VIRAL), once=True) is None
        other = await store.open(12, finding(500, Reason.SPAM), once=True)
        assert other is not None and other.id == 12

    async def test_the_most_urgent_come_first_and_pages_end(self, store: ModerationStore) -> None:
        await store.open(10, finding(500, Reason.UNCHECKED))
        await store.open(11, finding(501, Reason.TOXICITY, toxicity=800))
        await store.open(12, finding(502, Reason.SPAM))
        await store.open(13, finding(503, Reason.SPAM))
        found: list[Case] = []
        priority, after = -1, 0
        while page := await store.waiting(priority=priority, after=after, limit=3):
            found += page
            priority, after = page[-1].priority, page[-1].id
        assert ids(found) == [11, 12, 13, 10]

    async def test_reports_add_up_and_nobody_counts_twice(self, store: ModerationStore) -> None:
        first = await store.report(10, Report(100, BOB, 500, 0, "spam", "look"), ADA)
        again = await store.report(11, Report(101, BOB, 500, 0, "abuse", "again"), ADA)
        assert again == first
        await store.report(12, Report(102, EVE, 500, 0, "abuse", ""), ADA)
        await store.report(13, Report(103, EVE, 0, ADA, "abuse", "the account"), ADA)
        tweet, account = await store.waiting(priority=-1, after=0, limit=10)
        assert (tweet.id, tweet.report_count, tweet.author_id) == (10, 2, ADA)
        assert (account.id, account.tweet_id, account.report_count) == (13, 0, 1)
        assert [report.id for report in await store.reports_of(10, 10)] == [102, 100]
        assert [report.id for report in await store.reports_by(EVE, after=0, limit=10)] == [102, 103]
        assert [report.id for report in await store.reports_by(EVE, after=102, limit=10)] == [103]

    # --- moderators

    async def test_two_moderators_never_hold_the_same_case(self, store: ModerationStore) -> None:
        for number in range(8):
            await store.open(10 + number, finding(500 + number))
        claims = [store.claim(who, 3, now_ms=NOW, until_ms=LATER) for who in (MAY, NED)]
        mine, others = await asyncio.gather(*claims)
        assert len(mine) == len(others) == 3 and not {*ids(mine)} & {*ids(others)}
        assert ids(await store.claim(MAY, 3, now_ms=NOW + 1, until_ms=LATER)) == ids(mine), "asked again: the same"
        late = await store.claim(NED, 8, now_ms=LATER, until_ms=LATER + 1)
        assert {*ids(mine)} <= {*ids(late)}, "a claim ends"

    async def test_a_case_that_is_given_back_is_anybodys(self, store: ModerationStore) -> None:
        await store.open(10, finding(500))
        await store.claim(MAY, 1, now_ms=NOW, until_ms=LATER)
        untouched = await store.release(10, NED, now_ms=NOW)
        assert untouched is not None and untouched.holder(NOW) == MAY, "another's stays"
        free = await store.release(10, MAY, now_ms=NOW)
        assert free is not None and free.holder(NOW) == 0
        assert await store.release(99, MAY, now_ms=NOW) is None
        assert await self.acts(store) == ["opened", "claimed", "released"]

    async def test_a_decision_closes_a_case_and_is_told_once(self, stores: ModerationStores) -> None:
        store = stores.store
        await store.open(10, finding(500))
        made = await store.decide(10, 30, Action.REMOVE, MAY, "why", now_ms=NOW)
        again = await store.decide(10, 31, Action.REMOVE, MAY, "why", now_ms=NOW)
        assert made is not None and again == made
        case, decision = made
        assert not case.waiting and case.action == "remove"
        assert (decision.id, decision.tweet_id, decision.moderator_id, decision.done) == (30, 500, MAY, False)
        assert ids(await store.closed(before=0, limit=10)) == [10]
        assert [event.message for event in await stores.events()] == [
            ModerationDecided(decision_id=30, author_id=ADA, tweet_id=500, action="remove")
        ]
        for other in (Action.KEEP, Action.LIMIT):
            with pytest.raises(FailedPrecondition):
                await store.decide(10, 32, other, MAY, "", now_ms=NOW)
        assert await store.decide(99, 33, Action.KEEP, MAY, "", now_ms=NOW) is None

    async def test_nobody_decides_what_another_holds_or_what_makes_no_sense(self, store: ModerationStore) -> None:
        await store.open(10, finding(500))
        await store.claim(MAY, 1, now_ms=NOW, until_ms=LATER)
        with pytest.raises(FailedPrecondition):
            await store.decide(10, 30, Action.KEEP, NED, "", now_ms=NOW)
        assert await store.decide(10, 30, Action.KEEP, NED, "", now_ms=LATER) is not None
        await store.open(11, finding(0))
        with pytest.raises(FailedPrecondition):
            await store.decide(11, 31, Action.REMOVE, MAY, "", now_ms=NOW)

    async def test_what_is_decided_waits_until_it_is_carried_out(self, store: ModerationStore) -> None:
        await store.open(10, finding(500))
        await store.decide(10, 30, Action.LIMIT, MAY, "", now_ms=NOW)
        await store.open(11, finding(500))
        await store.decide(11, 31, Action.REMOVE, MAY, "", now_ms=NOW)
        await store.open(12, finding(500))
        await store.decide(12, 32, Action.KEEP, MAY, "", now_ms=NOW)
        waiting = await store.to_do(10)
        assert [decision.id for decision in waiting] == [30, 31], "to keep something nothing is done"
        assert [decision.id for decision in await store.later(waiting[0])] == [31, 32]
        for _ in range(2):
            await store.carried_out(30, "limit")
        assert [decision.id for decision in await store.to_do(10)] == [31]
        assert (await self.acts(store)).count("carried_out") == 1

    async def test_a_suspension_is_about_the_account_whatever_the_case_was_about(self, store: ModerationStore) -> None:
        await store.open(10, finding(500))
        made = await store.decide(10, 30, Action.SUSPEND, MAY, "", now_ms=NOW)
        assert made is not None and (made[1].tweet_id, made[1].author_id) == (0, ADA)

    # --- those whom it is about

    async def test_an_appeal_is_made_once_and_goes_to_another_moderator_first(self, stores: ModerationStores) -> None:
        store = stores.store
        await store.open(10, finding(500))
        await store.decide(10, 30, Action.REMOVE, MAY, "", now_ms=NOW)
        assert await store.appeal(30, BOB, "not mine", 11) is None
        first = await store.appeal(30, ADA, "it was a joke", 11)
        assert first is not None and first.appeal is Appeal.WAITING
        assert await store.appeal(30, ADA, "again", 12) == first
        assert await store.appeal_text(30) == "it was a joke"
        await store.open(13, finding(501, Reason.UNCHECKED))
        assert ids(await store.claim(MAY, 1, now_ms=NOW, until_ms=LATER)) == [13], "one's own decision comes last"
        assert ids(await store.claim(NED, 1, now_ms=NOW, until_ms=LATER)) == [11]
        await store.decide(11, 31, Action.RESTORE, NED, "", now_ms=NOW)
        restored, removed = await store.decisions_of(ADA, before=0, after=0, limit=10)
        assert (restored.action, removed.appeal) == (Action.RESTORE, Appeal.OVERTURNED)
        told = [event.message for event in await stores.events()][-1]
        assert isinstance(told, ModerationDecided) and told.on_appeal

    async def test_an_appeal_that_is_refused_is_over(self, store: ModerationStore) -> None:
        await store.open(10, finding(500))
        await store.decide(10, 30, Action.LIMIT, MAY, "", now_ms=NOW)
        await store.appeal(30, ADA, "please", 11)
        await store.decide(11, 31, Action.KEEP, NED, "", now_ms=NOW)
        refused = await store.appeal(30, ADA, "please!", 12)
        assert refused is not None and refused.appeal is Appeal.UPHELD
        assert await store.waiting(priority=-1, after=0, limit=10) == []
        with pytest.raises(FailedPrecondition):
            await store.appeal(31, ADA, "nothing was taken", 13)

    async def test_a_post_that_was_not_published_is_told_and_kept_without_its_text(
        self, stores: ModerationStores
    ) -> None:
        for _ in range(2):
            await stores.store.blocked(30, ADA, [Reason.TOXICITY])
        [decision] = await stores.store.decisions_of(ADA, before=0, after=0, limit=10)
        assert (decision.action, decision.tweet_id, decision.done) == (Action.BLOCK, 0, True)
        assert [event.message for event in await stores.events()] == [PostBlocked(author_id=ADA, reasons=["toxicity"])]

    async def test_decisions_come_in_pages_both_ways(self, store: ModerationStore) -> None:
        for number in range(5):
            await store.blocked(30 + number, ADA, [Reason.LINK])
        newest = await store.decisions_of(ADA, before=33, after=0, limit=2)
        oldest = await store.decisions_of(ADA, before=0, after=31, limit=2)
        assert [one.id for one in newest] == [32, 31] and [one.id for one in oldest] == [32, 33]

    # --- audit and scans

    async def test_the_audit_has_all_that_was_done_in_order(self, store: ModerationStore) -> None:
        await store.open(10, finding(500), actor_id=MAY)
        await store.claim(MAY, 1, now_ms=NOW, until_ms=LATER)
        await store.decide(10, 30, Action.LIMIT, MAY, "", now_ms=NOW)
        await store.carried_out(30, "limit")
        await store.appeal(30, ADA, "please", 11)
        await store.blocked(31, EVE, [Reason.LINK])
        acts = ["opened", "claimed", "decided", "carried_out", "opened", "appealed", "blocked"]
        assert await self.acts(store) == acts
        of_case = await store.audit(case_id=10, before=0, limit=10)
        assert [entry.act for entry in reversed(of_case)] == acts[:4]
        assert [entry.actor_id for entry in reversed(of_case)] == [MAY, MAY, MAY, 0]
        second = await store.audit(case_id=10, before=of_case[1].id, limit=1)
        assert second == [of_case[2]]

    async def test_a_scan_goes_on_where_it_was_and_two_workers_do_a_page_once(self, store: ModerationStore) -> None:
        scan = await store.begin_scan(70, MAY)
        assert await store.begin_scan(71, NED) == scan, "one at a time"
        found = [(10, finding(500, Reason.SCAN, Reason.SPAM))]
        assert await store.advance(scan, found, 500, 100)
        assert not await store.advance(scan, [(11, finding(501, Reason.SCAN))], 501, 100), "done by another"
        now = await store.scan(0)
        assert now == Scan(70, True, 500, 100, 1)
        assert await store.advance(now, [(12, finding(500, Reason.SCAN))], 900, 50)
        assert await store.scan(70) == Scan(70, True, 900, 150, 1), "it has a case already"
        assert await store.advance(replace(now, position=900), [], 900, 0)
        assert await store.scan(0) is None
        assert await store.scan(70) == Scan(70, False, 900, 150, 1)
        assert (await store.begin_scan(72, NED)).id == 72

    # --- what goes

    async def test_what_its_author_deleted_waits_no_more(self, store: ModerationStore) -> None:
        await store.open(10, finding(500))
        for _ in range(2):
            await store.drop(500)
        assert await store.waiting(priority=-1, after=0, limit=10) == []
        assert await self.acts(store) == ["opened", "dropped"]

    async def test_an_erased_person_is_in_nothing_and_an_erased_moderator_is_nobody(
        self, store: ModerationStore
    ) -> None:
        await store.report(10, Report(100, BOB, 500, 0, "spam", ""), ADA)
        await store.claim(MAY, 1, now_ms=NOW, until_ms=LATER)
        await store.decide(10, 30, Action.REMOVE, MAY, "", now_ms=NOW)
        await store.appeal(30, ADA, "please", 11)
        while await store.erase(MAY, 2):
            pass
        [decision] = await store.decisions_of(ADA, before=0, after=0, limit=10)
        assert decision.moderator_id == ERASED
        assert MAY not in {entry.actor_id for entry in await store.audit(case_id=0, before=0, limit=100)}
        while await store.erase(ADA, 2):
            pass
        assert await store.decisions_of(ADA, before=0, after=0, limit=10) == []
        assert await store.waiting(priority=-1, after=0, limit=10) == await store.closed(before=0, limit=10) == []
        assert await store.reports_by(BOB, after=0, limit=10) == [], "it was about them"
