"""The check before publishing: verdicts, and that whatever a model does a post is published and queued."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from mesh.errors import FailedPrecondition, Unavailable
from services.moderation.checks import Checks
from services.moderation.domain import (
    Action,
    Case,
    Decision,
    Reason,
    Verdict,
    check_action,
    judge,
    priority_of,
    probability,
    superseded,
)
from services.moderation.post import Post

POST = Post(7, "hello")
Says = Callable[[], Awaitable[float]]


@pytest.mark.parametrize(
    ("toxicity", "spam", "link", "verdict", "reasons"),
    [
        (0.0, 0.0, False, Verdict.SAFE, ()),
        (0.7, 0.8, False, Verdict.SAFE, ()),
        (0.71, 0.0, False, Verdict.LIMIT, (Reason.TOXICITY,)),
        (0.9, 0.0, False, Verdict.LIMIT, (Reason.TOXICITY,)),
        (0.91, 0.0, False, Verdict.BLOCK, (Reason.TOXICITY,)),
        (0.0, 0.81, False, Verdict.LIMIT, (Reason.SPAM,)),
        (0.0, 1.0, False, Verdict.LIMIT, (Reason.SPAM,)),
        (0.8, 0.9, False, Verdict.LIMIT, (Reason.TOXICITY, Reason.SPAM)),
        (0.0, 0.0, True, Verdict.BLOCK, (Reason.LINK,)),
        (None, None, True, Verdict.BLOCK, (Reason.LINK,)),
        (None, 0.0, False, Verdict.SAFE, (Reason.UNCHECKED,)),
        (0.0, None, False, Verdict.SAFE, (Reason.UNCHECKED,)),
        (0.0, 0.0, None, Verdict.SAFE, (Reason.UNCHECKED,)),
        (math.nan, 0.0, False, Verdict.SAFE, (Reason.UNCHECKED,)),
        (0.75, None, False, Verdict.LIMIT, (Reason.TOXICITY, Reason.UNCHECKED)),
    ],
)
def test_verdicts_follow_the_thresholds(
    toxicity: float | None, spam: float | None, link: bool | None, verdict: Verdict, reasons: tuple[Reason, ...]
) -> None:
    found = judge(toxicity, spam, link)
    assert (found.verdict, found.reasons) == (verdict, reasons)
    assert found.review is (verdict is not Verdict.BLOCK and bool(reasons)), "what is not published is not queued"


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1, None])
def test_what_is_no_probability_is_no_answer(value: float | None) -> None:
    assert probability(value) is None


class Model:
    """Says what a function does, as any of the checks."""

    def __init__(self, says: Says) -> None:
        self._says = says

    async def score(self, post: Post) -> float:
        return await self._says()

    async def forbidden(self, post: Post) -> bool:
        return bool(await self._says())


async def harmless() -> float:
    return 0.0


async def raises() -> float:
    raise ValueError("the model is broken")


async def hangs() -> float:
    await asyncio.Event().wait()
    return 0.0


async def is_nan() -> float:
    return math.nan


async def is_not_loaded() -> float:
    raise Unavailable("the model is not loaded")


def checks(toxicity: Says, spam: Says = harmless, links: Says = harmless, limit_s: float = 0.03) -> Checks:
    return Checks(Model(toxicity), Model(spam), Model(links), limit_s=limit_s, registry=CollectorRegistry())


@pytest.mark.parametrize("says", [raises, hangs, is_nan, is_not_loaded])
async def test_a_model_that_fails_in_any_way_leaves_the_post_published_and_queued(says: Says) -> None:
    for asked in (checks(says), checks(harmless, spam=says)):
        began = time.monotonic()
        found = await asked.judge(POST)
        assert (found.verdict, found.reasons, found.review) == (Verdict.SAFE, (Reason.UNCHECKED,), True)
        assert time.monotonic() - began < 1.0


async def test_a_failing_model_does_not_keep_a_forbidden_link_from_being_found() -> None:
    async def yes() -> float:
        return 1.0

    for broken in (raises, hangs):
        assert (await checks(broken, spam=broken, links=yes).judge(POST)).verdict is Verdict.BLOCK


async def test_checks_run_side_by_side() -> None:
    here = asyncio.Barrier(3)

    async def waits() -> float:
        await here.wait()  # nobody goes on before all three are asked
        return 0.0

    assert (await checks(waits, waits, waits, limit_s=5.0).judge(POST)).verdict is Verdict.SAFE


def test_urgency_follows_reasons_toxicity_and_reports() -> None:
    assert priority_of([Reason.UNCHECKED], 0, 0) < priority_of([Reason.SPAM], 0, 0)
    assert priority_of([Reason.SPAM], 0, 0) < priority_of([Reason.TOXICITY], 750, 0)
    assert priority_of([Reason.REPORTS], 0, 1) < priority_of([Reason.REPORTS], 0, 20)
    assert priority_of([Reason.REPORTS], 0, 10_000) == priority_of([Reason.REPORTS], 0, 100), (
        "a mob counts only so much"
    )


def test_an_account_is_suspended_or_kept_and_not_limited() -> None:
    account = Case(1, 0, 7, (Reason.REPORTS,))
    for action in (Action.LIMIT, Action.REMOVE):
        with pytest.raises(FailedPrecondition):
            check_action(account, action)
    for action in (Action.KEEP, Action.SUSPEND, Action.RESTORE):
        check_action(account, action)


def test_a_later_decision_about_the_same_tweet_supersedes_but_one_to_keep_it_does_not() -> None:
    first = Decision(1, 10, 500, 7, Action.LIMIT, (), 9)
    kept, removed = Decision(2, 11, 500, 7, Action.KEEP, (), 9), Decision(3, 12, 500, 7, Action.REMOVE, (), 9)
    other = Decision(4, 13, 501, 7, Action.REMOVE, (), 9)
    assert not superseded(first, [kept, other])
    assert superseded(first, [kept, removed])
    assert not superseded(removed, [first])
