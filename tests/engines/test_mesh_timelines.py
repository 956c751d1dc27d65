"""A graph like those of social networks is seeded, and every home timeline is what the tables say."""

from __future__ import annotations

import random

import pytest

from cli.check import check_timelines
from cli.graphs import scale_free
from cli.seed import Sample, seeder
from cli.state import running_state
from cli.supervisor import Mesh

PEOPLE = 80
LINKS = 6
TWEETS = 300


@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="session")
async def test_after_a_seed_every_home_timeline_equals_the_tables(
    mesh: Mesh, engines: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, url in engines.items():  # as an operator does: passwords are written down nowhere
        monkeypatch.setenv(name, url)
    state = running_state(mesh.data)
    sample = Sample(scale_free(PEOPLE, links=LINKS, chance=random.Random("seeded")), TWEETS, seed=1)
    async with seeder(state, concurrency=16) as seed:
        done = await seed.run(sample)
        assert (done.registered, done.followed) == (PEOPLE, 2 * len(sample.graph.edges))
        again = await seed.run(sample)
        assert (again.registered, again.followed) == (0, 0)
    outcome = await check_timelines(state, settle_s=60.0)
    assert not outcome.differences, outcome.differences[:3]
    assert outcome.people >= PEOPLE
    assert outcome.tweets > TWEETS
