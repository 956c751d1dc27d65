"""A graph like those of social networks is seeded, and every home timeline is what the tables say.

GRAPH_FILE names an edge list to be seeded in place of it.
"""

from __future__ import annotations

import pytest

from cli.check import check_timelines
from cli.seed import seeder
from cli.state import running_state
from cli.supervisor import Mesh

from .life import sample

PEOPLE = 80
LINKS = 6
TWEETS = 300


@pytest.mark.timeout(2400)
@pytest.mark.asyncio(loop_scope="session")
async def test_after_a_seed_every_home_timeline_equals_the_tables(
    mesh: Mesh, engines: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, url in engines.items():  # as an operator does: passwords are written down nowhere
        monkeypatch.setenv(name, url)
    state = running_state(mesh.data)
    wanted = sample(PEOPLE, LINKS, TWEETS)
    async with seeder(state, concurrency=16) as seed:
        done = await seed.run(wanted)
        assert (done.registered, done.followed) == (wanted.graph.size, 2 * len(wanted.graph.edges))
        again = await seed.run(wanted)
        assert (again.registered, again.followed) == (0, 0)
    outcome = await check_timelines(state, settle_s=60.0)
    assert not outcome.differences, outcome.differences[:3]
    assert outcome.people >= wanted.graph.size
    assert outcome.tweets > wanted.tweets
