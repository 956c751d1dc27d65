"""One node of each cluster is killed while people post, like, follow and read; nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import redis.asyncio as redis
from aiokafka.admin import AIOKafkaAdminClient
from cassandra import ConsistencyLevel
from cassandra import cluster as driver
from cassandra.policies import WhiteListRoundRobinPolicy

from cli.check import check_timelines
from cli.cluster import Cluster
from cli.profile import SERVICES
from cli.settle import settle
from cli.state import running_state
from cli.stores import open_stores
from cli.supervisor import Mesh, running_mesh
from scripts.engines.base import LOOPBACK
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control
from tests.conftest import UNLIMITED
from tests.faults.crowd import BUDGET_S, PEOPLE, STEADY, Crowd, Person
from tests.stores.suites.outbox import eventually

NODES = 3
KILLED = ("cassandra", "kafka", "valkey")
"""Those that are clusters here."""
ALONE = ("postgresql", "s3")
"""One server each, which is not killed. The graph is on PostgreSQL too: its own engine would be one server more."""
AWAY_S = 10.0
"""How long a node is away, seconds: more than Valkey and Kafka take to replace it."""
_FORGETTING = ("outbox_published", "outbox_lease", "worker_leases")  # tables whose rows go by themselves
_QUIET_S = 120.0  # for hints to reach who was away, and events to be handled
_SLOW_S = 240.0  # for some posts on a machine that starts nodes meanwhile


class Flock(Crowd):
    """A crowd that also likes, and remembers what it was told last of each like and follow."""

    pause_s = 2.0  # nodes of clusters start beside them, on the same two cores

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.liked: set[tuple[int, int]] = set()
        """(person, tweet): accepted."""
        self.follows: dict[tuple[int, int], bool] = {}
        """Whether a pair's last accepted change was a follow."""
        self.in_vain_s = 0.0
        """The longest time from somebody's first read that failed to their next that did not."""
        self._failing: dict[int, float] = {}
        self._any = random.Random(11)

    async def gather(self) -> None:
        """See Crowd: one after the other, as engines that were started just now are slow at first."""
        self.people = [await self._register(f"bird{number}") for number in range(PEOPLE)]
        for person in self.people:
            for other in self.followed_by(person):
                await self._follow(person, other)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """See Crowd: likes too."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group, super().load():
            for person in self.people:
                group.create_task(self._likes(person, stop))
            try:
                yield
            finally:
                stop.set()

    async def _likes(self, person: Person, stop: asyncio.Event) -> None:
        path = f"/2/users/{person.id}/likes"
        while not await self._pause(stop):
            if not self.record.accepted:
                continue
            tweet = self._any.choice(self.record.accepted[-200:]).id
            answer, _ = await self.insist("like", "POST", path, person=person, json={"tweet_id": str(tweet)})
            if answer is not None and answer.status_code == 200:
                self.liked.add((person.id, tweet))

    async def _wavers(self, person: Person, stop: asyncio.Event) -> None:
        other = self.people[(self.people.index(person) + STEADY + 2) % len(self.people)]
        path = f"/2/users/{person.id}/following"
        follows = True
        while not await self._pause(stop):
            if follows:
                sent = self.insist("follow", "POST", path, person=person, json={"target_user_id": str(other.id)})
            else:
                sent = self.insist("follow", "DELETE", f"{path}/{other.id}", person=person)
            answer, _ = await sent
            if answer is not None and answer.status_code == 200:
                self.follows[person.id, other.id] = follows
                follows = not follows

    async def listed(self, person: Person, path: str) -> set[int]:
        """Ids of all pages of a list."""
        found: set[int] = set()
        params: dict[str, str | int] = {"max_results": 100}
        while True:
            answer, _ = await self.insist("check", "GET", path, person=person, params=params)
            assert answer is not None and answer.status_code == 200, answer and answer.text
            body = answer.json()
            found |= {int(one["id"]) for one in body.get("data", [])}
            if "next_token" not in body["meta"]:
                return found
            params["pagination_token"] = body["meta"]["next_token"]

    async def read_once(self, person: Person) -> httpx.Response | None:
        """See Crowd. Notes how long this person has been reading in vain."""
        began = time.monotonic()
        answer = await super().read_once(person)
        if answer is not None and answer.status_code == 200:
            self.in_vain_s = max(self.in_vain_s, time.monotonic() - self._failing.pop(person.id, time.monotonic()))
        else:
            self._failing.setdefault(person.id, began)
        return answer


@pytest.fixture(scope="module")
def controls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Control]]:
    """Engines of this module's own, of which some have three nodes or more."""
    folder = tmp_path_factory.mktemp("kills") / "engines"
    with ExitStack() as running:
        found = {}
        for name in (*ALONE, *KILLED):
            found[name] = control = Control(ENGINES[name], folder)
            running.callback(control.down)
            began = time.monotonic()
            control.up(NODES if name in KILLED else 1)
            print(f"report: {name} with {len(control.pids())} processes ready after {time.monotonic() - began:.0f} s")
        yield found


@asynccontextmanager
async def flying(controls: Mapping[str, Control]) -> AsyncIterator[tuple[Mesh, Flock, dict[str, str]]]:
    """A mesh on the engines, and people on it."""
    variables = {name: url for control in controls.values() for name, url in control.urls().items()}
    with tempfile.TemporaryDirectory(prefix="mesh-", dir="/tmp") as folder:
        async with running_mesh(Path(folder), env=variables | UNLIMITED, profile=Cluster(None)) as mesh:
            flock = Flock(mesh.url)
            await flock.gather()
            try:
                yield mesh, flock, variables
            finally:
                await flock.close()


@pytest.mark.timeout(900)
async def test_a_node_of_each_cluster_is_killed_and_nothing_that_was_accepted_is_lost(
    controls: Mapping[str, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with flying(controls) as (mesh, flock, variables):
        async with flock.load():
            await flock.posted(30, _SLOW_S)
            for engine in KILLED:
                await _kill_one(flock, controls[engine])
        assert not flock.record.refused, flock.record.refused[:3]
        assert not flock.record.given_up, flock.record.given_up[:3]
        for name, url in variables.items():
            monkeypatch.setenv(name, url)
        state = running_state(mesh.data)
        async with open_stores(state) as stores:
            await settle(stores, _QUIET_S)
        await _nothing_lost(flock)
        outcome = await check_timelines(state, settle_s=_QUIET_S)
        assert not outcome.differences, outcome.differences[:3]
        print(
            f"report: {len(flock.record.accepted)} posts, {len(flock.liked)} likes and changes of"
            f" {len(flock.follows)} follows accepted, all there; {outcome.people} home timelines are right;"
            f" longest without a successful read {flock.in_vain_s:.1f} s"
        )
        assert flock.in_vain_s < BUDGET_S
        assert [mesh.restarts(name) for name in SERVICES] == [0] * len(SERVICES)
    await _kafka_agrees(controls["kafka"])
    await _valkey_agrees(controls["valkey"])
    await asyncio.to_thread(_cassandra_agrees, controls["cassandra"])


async def _kill_one(flock: Flock, control: Control) -> None:
    """Kills a node, lets people go on for a while, and starts it again."""
    victim = await _victim(control)
    trouble = time.monotonic()
    await asyncio.to_thread(control.kill, victim)
    await asyncio.sleep(AWAY_S)  # the time that it is away is what is tested
    await asyncio.to_thread(control.up, NODES)
    back = time.monotonic()
    await flock.posted(30, _SLOW_S)
    print(flock.record.report(f"kill -9 {victim}, away {back - trouble:.1f} s", trouble, trouble, back))


async def _victim(control: Control) -> str:
    """A node that has work: of Valkey a master."""
    names = sorted(control.pids())
    if control.engine.name != "valkey":
        return names[1]
    for number, node in enumerate(_valkey_nodes(control), 1):
        async with node:
            if (await node.info("replication"))["role"] == "master":
                return f"valkey-{number}"
    raise AssertionError("there is no master")


async def _nothing_lost(flock: Flock) -> None:
    """Every accepted post, like and follow shows."""
    anybody = flock.people[0]
    accepted = [one.id for one in flock.record.accepted]
    there: set[int] = set()
    for at in range(0, len(accepted), 100):
        ids = ",".join(map(str, accepted[at : at + 100]))
        answer, _ = await flock.insist("check", "GET", "/2/tweets", person=anybody, params={"ids": ids})
        assert answer is not None and answer.status_code == 200, answer and answer.text
        there |= {int(one["id"]) for one in answer.json().get("data", [])}
    assert not {*accepted} - there
    for person in flock.people:
        liked = await flock.listed(person, f"/2/users/{person.id}/liked_tweets")
        assert not {tweet for who, tweet in flock.liked if who == person.id} - liked
        following = await flock.listed(person, f"/2/users/{person.id}/following")
        wanted = {other.id for other in flock.followed_by(person)}
        for (one, other), follows in flock.follows.items():
            if one == person.id:
                assert (other in following) == follows
        assert wanted <= following


async def _kafka_agrees(control: Control) -> None:
    """All partitions have all replicas in sync."""
    ports = [control.place().port(f"broker-{number}") for number in range(1, NODES + 1)]
    admin = AIOKafkaAdminClient(bootstrap_servers=[f"{LOOPBACK}:{port}" for port in ports])
    await admin.start()
    try:

        async def in_sync() -> bool:
            topics = await admin.describe_topics()
            counts = Counter(len(one["isr"]) for topic in topics for one in topic["partitions"])
            return counts.keys() == {NODES}

        await eventually(in_sync, seconds=_QUIET_S)
    finally:
        await admin.close()


def _valkey_nodes(control: Control) -> list[redis.Redis]:
    hosts = control.urls()["ROOKERY_CACHE_URL"].partition("@")[2].split(",")
    password = control.place().secret("password")
    return [redis.Redis.from_url(f"redis://:{password}@{host}", socket_timeout=5.0) for host in hosts]


async def _valkey_agrees(control: Control) -> None:
    """Each replica has as many keys as its master, and all that it was sent."""

    async def agree() -> bool:
        shards: dict[int, list[tuple[int, int]]] = {}
        for node in _valkey_nodes(control):
            async with node:
                about = await node.info("replication")
                own = int(node.connection_pool.connection_kwargs["port"])
                master = own if about["role"] == "master" else int(about["master_port"])
                sent = about["master_repl_offset"] if about["role"] == "master" else about["slave_repl_offset"]
                shards.setdefault(master, []).append((int(sent), await node.dbsize()))
        return len(shards) == 3 and all(len(nodes) == 2 and nodes[0] == nodes[1] for nodes in shards.values())

    await eventually(agree, seconds=_QUIET_S)


def _cassandra_agrees(control: Control) -> None:
    """The node that was away has every row that the three have together: it alone is asked, when it is alone."""
    keyspace = control.urls()["ROOKERY_TWEETS_URL"].rpartition("/")[2].partition("?")[0]
    together = _rows(control, keyspace, range(1, NODES + 1), ConsistencyLevel.ALL)
    folder = control.place().folder
    until = time.monotonic() + _QUIET_S
    while list(folder.glob("*/hints/*.hints")) and time.monotonic() < until:  # what others keep for it
        time.sleep(0.5)
    returned = sorted(control.pids())[1]
    for name in control.pids():
        if name != returned:
            control.kill(name)
    alone = _rows(control, keyspace, [int(returned.rpartition("-")[2])], ConsistencyLevel.ONE)
    assert alone.keys() == together.keys()
    for table, rows in together.items():
        assert alone[table] == rows, f"{table}: {len(rows - alone[table])} missing, {len(alone[table] - rows)} besides"
    print(f"report: {returned} alone has all {sum(map(len, together.values()))} rows of {len(together)} tables")


def _rows(control: Control, keyspace: str, nodes: Iterable[int], consistency: int) -> dict[str, set[str]]:
    """All rows of all tables, as text."""
    place = control.place()
    chosen = [(LOOPBACK, place.port(f"cql-{number}")) for number in nodes]
    session_of = driver.Cluster(
        protocol_version=4,
        contact_points=chosen,
        port=chosen[0][1],
        execution_profiles={
            driver.EXEC_PROFILE_DEFAULT: driver.ExecutionProfile(
                load_balancing_policy=WhiteListRoundRobinPolicy([LOOPBACK]),
                consistency_level=consistency,
                request_timeout=30.0,
            )
        },
    )
    with session_of as opened, opened.connect() as session:
        tables = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
        return {
            row.table_name: {
                repr(tuple(one)) for one in session.execute(f'SELECT * FROM {keyspace}."{row.table_name}"')
            }
            for row in tables
            if row.table_name not in _FORGETTING
        }
