"""What the document says of the REST face is so: generated requests get answers that it has, and nothing of the inside.

`make fuzz-rest` asks 20,000 times; REQUESTS and FUZZ_SEED choose how often, and which requests.
"""

from __future__ import annotations

import os

import httpx
import pytest

from tests.e2e.harness import Account, register
from tests.e2e.rest_fuzz import Fuzz, failures
from tests.e2e.rest_world import document_of, judged, open_things_of, things_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

_REQUESTS = int(os.environ.get("REQUESTS", "600"))
_SEED = int(os.environ.get("FUZZ_SEED", "1"))


async def test_generated_requests_get_documented_answers(edge: httpx.AsyncClient, moderator: Account) -> None:
    me, hermit, star, spare, judged_one = [await register(edge) for _ in range(5)]
    seen = await open_things_of(star)
    mine, hidden = [await things_of(who, moderator, seen) for who in (me, hermit)]
    case = (await judged(judged_one, moderator))["case"]  # of whom a decision may suspend
    for things in (mine, hidden):
        things.named["case"] = case
    fuzz = Fuzz(edge, await document_of(edge), mine, [hidden, seen], spare, moderator, _SEED)
    report = await fuzz.ask(_REQUESTS)
    print(report)
    assert not report.wrong, f"{report}\n{failures(report)}"
    good = sum(count for status, count in report.statuses.items() if status < 300)
    assert good > report.asked // 5, report  # they get past the door
