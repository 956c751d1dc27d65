"""The floor of a store on Cassandra: the bare driver, with the same statements, guarantees and order.

usage: python -m bench.floor.cassandra URL FOLDER

The driver runs as its authors recommend: Cython, libev in a thread of its own, prepared statements, token-aware, rows
as tuples. Answers come to the event loop many at a time. What the adapter adds is left out: no deadlines of its own, no
limits, no errors that services know, no objects.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections import deque
from pathlib import Path
from typing import Any

import uvloop
from cassandra import ConsistencyLevel, ProtocolVersion
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType, PreparedStatement, tuple_factory

from bench.cassandra_worker import Step, lanes
from bench.worker import Message, work
from mesh.db.cassandra import Address


class _Bare:
    """The driver, awaited."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._prepared: dict[str, PreparedStatement] = {}
        self._answers: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._told = False

    def prepare(self, steps: list[list[Step]]) -> None:
        """Prepares what is new, in a thread."""
        for cql in {cql for each in steps for _, statements in each for cql, _ in statements}:
            if cql not in self._prepared:
                self._prepared[cql] = prepared = self._session.prepare(cql)
                prepared.consistency_level = ConsistencyLevel.LOCAL_QUORUM
                prepared.serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL

    async def do(self, step: Step) -> None:
        """One step of the adapter's."""
        kind, statements = step
        if kind == "batch":
            batch = BatchStatement(BatchType.LOGGED, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
            for cql, params in statements:
                batch.add(self._prepared[cql], params)
            await self._run(batch)
        elif kind == "many":
            await asyncio.gather(*(self._run(self._prepared[cql].bind(params)) for cql, params in statements))
        else:
            [(cql, params)] = statements
            rows = await self._run(self._prepared[cql].bind(params))
            if kind == "condition" and not rows[0][0]:
                raise RuntimeError(f"the condition does not hold: {cql}")

    def _run(self, statement: object) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        response = self._session.execute_async(statement)
        response.add_callbacks(
            lambda rows: self._answered(future, rows, None), lambda error: self._answered(future, None, error)
        )
        return future

    def _answered(self, future: asyncio.Future[Any], rows: Any, error: BaseException | None) -> None:
        self._answers.append((future, rows, error))
        if not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._told = False
        while self._answers:
            future, rows, error = self._answers.popleft()
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(rows)


async def _main(url: str, folder: Path) -> None:
    address = Address.parse(url)
    cluster = Cluster(
        list(address.hosts),
        protocol_version=ProtocolVersion.V4,
        compression=False,
        connection_class=LibevConnection,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(
                TokenAwarePolicy(DCAwareRoundRobinPolicy(address.datacentre or "")), row_factory=tuple_factory
            )
        },
        monitor_reporting_enabled=False,
    )
    bare = _Bare(await asyncio.to_thread(cluster.connect, address.keyspace))

    async def carry_out(command: Message) -> Message:
        steps: list[list[Step]] = pickle.loads((folder / f"{command['step']}-{command['turn']}").read_bytes())
        await asyncio.to_thread(bare.prepare, steps)

        async def one(number: int) -> None:
            for step in steps[number]:
                await bare.do(step)

        await lanes(len(steps), one)
        return {"done": len(steps)}

    try:
        await work(carry_out)
    finally:
        await asyncio.to_thread(cluster.shutdown)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], Path(sys.argv[2])))
