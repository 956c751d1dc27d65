"""Neo4j for services: units of work, as `mesh.db.sql` has them. Schemas: mesh/db/neo4j_migrations.py.

A *unit* is a coroutine function that gets a `Neo4jTx`, runs queries on it and returns plain values. The rules are those
of `mesh.db.sql`: it awaits nothing but its `Neo4jTx`, and may run more than once.

Two things are not as in SQL:

- **Neo4j reads what is committed, and no snapshot.** A unit that decides by what it reads first locks what others would
  change: it sets a property of those nodes, always to the same value (`SET n.locked = true`), in an order that all
  units have, and reads afterwards. What it reads then stays until its commit. Setting a property to what it was read as
  is no lock: the value is read before.
- **Reads go to the server that takes writes.** Where a URL `neo4j://` names a cluster, others may lag behind, and what
  was committed must be seen by the next read, whoever asks.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from neo4j import (
    WRITE_ACCESS,
    AsyncDriver,
    AsyncGraphDatabase,
    AsyncResult,
    AsyncSession,
    AsyncTransaction,
    NotificationMinimumSeverity,
    Query,
    Record,
)
from neo4j.exceptions import AuthError, ClientError, DriverError, IncompleteCommit, Neo4jError, ResultError

from mesh.db.schemes import NEO4J_SCHEMES
from mesh.errors import Unavailable
from mesh.resilience.breaker import Breaker

T = TypeVar("T")
Params: TypeAlias = dict[str, Any]

_SLOW_S = 0.25
_LOST_ATTEMPTS = 3  # connections that a unit may lose before its caller hears of it
_POOL_S = 60.0  # a unit's own deadline is shorter, and ends the wait for a connection
_LONGEST_PAUSE_S = 0.05  # before a unit that lost against another one runs again
_LEAST_TIMEOUT_S = 0.01  # a server takes no timeout of nothing
_CLOSE_S = 10.0
_BREAKER_FAILURES = 10  # in a row, before a server is left alone
_BREAKER_S = 0.2, 2.0  # for so long at first, and at most
_UNIQUE = "Neo.ClientError.Schema.ConstraintValidationFailed"
# Errors of clients that speak of the server: the time was up, who may enter, which databases there are.
_UNAVAILABLE_CODES = ("Neo.ClientError.Transaction.", "Neo.ClientError.Security.", "Neo.ClientError.Database.")

_log = structlog.stdlib.get_logger("mesh.db.neo4j")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who asks."""

    uri: str
    """Scheme, host and port."""
    auth: tuple[str, str] | None
    """Name and password."""
    database: str | None
    """Its name; None for the server's own choice, which is the only one in the Community edition."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Of `neo4j://name:password@host:port/database`, percent-encoded where URLs give characters a meaning.

        Raises ValueError for anything else; the message has no password.
        """
        parts = urlsplit(url)
        if parts.scheme not in NEO4J_SCHEMES or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                f"no URL of a Neo4j server: use neo4j://name:password@host:port ({', '.join(NEO4J_SCHEMES)})"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        who = parts.netloc.rpartition("@")[0]
        name, _, password = who.partition(":")
        auth = (unquote(name), unquote(password)) if who else None
        return cls(f"{parts.scheme}://{host}:{parts.port or 7687}", auth, parts.path.strip("/") or None)


def driver_of(address: Address, *, pool_size: int, timeout: float) -> AsyncDriver:
    """The driver, connected to nothing yet.

    Args:
        address: where to.
        pool_size: connections at most.
        timeout: seconds for making one.
    """
    return AsyncGraphDatabase.driver(
        address.uri,
        auth=address.auth,
        max_connection_pool_size=pool_size,
        connection_acquisition_timeout=_POOL_S,
        connection_timeout=timeout,
        notifications_min_severity=NotificationMinimumSeverity.OFF,
        telemetry_disabled=True,
        fetch_size=-1,  # queries say how much they give at most; one answer has it all
    )


class Neo4jTx(ABC):
    """One transaction, as a unit of work sees it."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._before: list[Callable[[Neo4jTx], Awaitable[None]]] = []

    @abstractmethod
    async def run(self, query: str, params: Params | None = None) -> list[Record]:
        """Runs one query and gives all its records, of which it has a bounded number.

        Raises:
            neo4j.exceptions.Neo4jError: the query is wrong, a constraint refused it, or the store is in trouble (the
                caller of `Neo4jDatabase.read` or `.write` gets `Unavailable` for the latter).
        """

    async def one(self, query: str, params: Params | None = None) -> Record | None:
        """The first record, or None when there is none."""
        records = await self.run(query, params)
        return records[0] if records else None

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Calls `callback` after this transaction's commit; never when it is rolled back.

        Callbacks run in order, before the caller of `write` has its answer, and must not block. What a callback raises
        is logged: the commit stands.
        """
        self._callbacks.append(callback)

    def before_commit(self, step: Callable[[Neo4jTx], Awaitable[None]]) -> None:
        """Awaits `step` as the last part of the unit, after all that it does itself: for what holds locks shortly."""
        self._before.append(step)


Unit: TypeAlias = Callable[[Neo4jTx], Awaitable[T]]


class _Unknown(Unavailable):
    """A commit whose answer got lost."""


class _WriteTx(Neo4jTx):
    def __init__(self, transaction: AsyncTransaction, answered: Callable[[], None]) -> None:
        super().__init__()
        self._transaction = transaction
        self._answered = answered

    async def run(self, query: str, params: Params | None = None) -> list[Record]:
        records = await _records(await self._transaction.run(query, params))
        self._answered()
        return records


class _ReadTx(Neo4jTx):
    """Each query is a transaction of its own: there is no snapshot to keep open, and it saves two trips."""

    def __init__(self, session: AsyncSession, until: float, answered: Callable[[], None]) -> None:
        super().__init__()
        self._session = session
        self._until = until
        self._answered = answered

    async def run(self, query: str, params: Params | None = None) -> list[Record]:
        result = await self._session.run(Query(query, timeout=_left(self._until)), params)
        records = await _records(result)
        self._answered()
        if (await result.consume()).counters.contains_updates:
            raise TypeError("a unit that reads has written")
        return records


async def _records(result: AsyncResult) -> list[Record]:
    return [record async for record in result]


def _left(until: float) -> float:
    return max(_LEAST_TIMEOUT_S, until - time.monotonic())


class Neo4jDatabase:
    """A database of a Neo4j server. Open one a process and URL, from within the event loop that uses it.

    A server that is not there, or answers nobody, is asked by one unit now and then; others hear of it at once.
    """

    def __init__(self, driver: AsyncDriver, database: str | None, deadline: float, limit: int) -> None:
        self._driver = driver
        self._database = database
        self._deadline = deadline
        self._limit = limit
        self._waiting = 0
        self._closed = False
        self._breaker = Breaker("database", threshold=_BREAKER_FAILURES, open_s=_BREAKER_S[0], max_open_s=_BREAKER_S[1])
        self._answered_at = 0.0  # when the server last answered anybody

    @classmethod
    async def open(
        cls, url: str, *, pool_size: int = 8, deadline: float = 5.0, max_waiting: int = 10_000
    ) -> Neo4jDatabase:
        """Connects when it is first used, so a server that is away now is no error yet.

        Args:
            url: `neo4j://name:password@host:port`; `bolt://` for one server of a cluster, `+s` for TLS.
            pool_size: connections.
            deadline: seconds that a unit may take, the wait for its turn included, unless the call says otherwise.
            max_waiting: units that may wait; further ones are refused.

        Raises:
            ValueError: a URL that names no server.
        """
        if pool_size < 1 or deadline <= 0 or max_waiting < 1:
            raise ValueError("pool_size, deadline and max_waiting must be positive")
        address = Address.parse(url)
        return cls(driver_of(address, pool_size=pool_size, timeout=deadline), address.database, deadline, max_waiting)

    async def read(self, unit: Unit[T], *, deadline: float | None = None) -> T:
        """Runs `unit`, whose queries change nothing, and returns what it returns.

        Each query sees all that was committed before it began, and may see more than the one before it saw.

        Args:
            unit: see the module.
            deadline: seconds; by default the database's own.

        Raises:
            Unavailable: no answer in time, too many wait, or the store is in trouble.
        """

        async def attempt(until: float) -> T:
            async with self._session() as session:
                return await unit(_ReadTx(session, until, self._answered))

        return await self._bounded("read", attempt, _name(unit), deadline)

    async def write(self, unit: Unit[T], *, deadline: float | None = None) -> T:
        """Runs `unit` in a transaction; the answer comes after the commit is on disk.

        A unit that lost against another one (a deadlock, a constraint) runs again until the deadline. A caller that is
        cancelled or times out may still have its unit committed, so writes are idempotent by contract.

        Args:
            unit: see the module.
            deadline: seconds; by default the database's own. The server ends the transaction then, too.

        Raises:
            Unavailable: no answer in time or a lost answer of a commit (the outcome is unknown), too many wait, or the
                store is in trouble.
        """

        async def attempt(until: float) -> T:
            async with (
                self._session() as session,
                await session.begin_transaction(timeout=_left(until)) as transaction,
            ):
                tx = _WriteTx(transaction, self._answered)
                value = await unit(tx)
                for step in tx._before:
                    await step(tx)
                try:
                    await transaction.commit()
                except DriverError as error:
                    # What a commit did whose answer got lost is not known, so it is not done twice.
                    raise _Unknown("the database may have committed, or not") from error
            _run_callbacks(tx._callbacks, _name(unit))
            return value

        return await self._bounded("write", attempt, _name(unit), deadline)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncSession]:
        async with self._driver.session(database=self._database, default_access_mode=WRITE_ACCESS) as session:
            yield session

    async def _bounded(
        self, kind: str, attempt: Callable[[float], Awaitable[T]], name: str, deadline: float | None
    ) -> T:
        if self._closed:
            raise Unavailable("the database is closed")
        if self._waiting >= self._limit:
            raise Unavailable(f"too many {kind}s wait for the database")
        self._breaker.before()
        seconds = self._deadline if deadline is None else deadline
        started = time.monotonic()
        self._waiting += 1
        alive: bool | None = True  # None: nothing was learnt about the server
        try:
            async with asyncio.timeout(seconds) as limit:
                return await _retried(attempt, started + seconds)
        except TimeoutError as error:
            if not limit.expired():  # the unit's own
                raise
            alive = self._answered_at >= started  # a unit may be too slow where others are served
            raise Unavailable(f"the database did not {kind} in time") from error
        except _Unknown:
            alive = False
            raise
        except OSError as error:
            alive = False
            raise Unavailable("the database cannot answer now") from error
        except (DriverError, Neo4jError) as error:
            if unavailable(error):
                alive = isinstance(error, Neo4jError) and error.is_retryable()
                raise Unavailable("the database cannot answer now") from error
            raise
        except asyncio.CancelledError:
            alive = None
            raise
        finally:
            self._waiting -= 1
            self._learn(alive)
            if (took := time.monotonic() - started) > _SLOW_S:
                _log.warning("slow unit of work", kind=kind, unit=name, ms=round(took * 1000))

    def _learn(self, alive: bool | None) -> None:
        if alive:
            self._breaker.success()
        elif alive is None:
            self._breaker.abandoned()
        else:
            self._breaker.failure()

    def _answered(self) -> None:
        self._answered_at = time.monotonic()

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._driver.close()
        except TimeoutError:
            _log.error("database connections did not close in time")


async def _retried(attempt: Callable[[float], Awaitable[T]], until: float) -> T:
    """Makes attempts until one is committed. The caller's deadline ends it."""
    tries = lost = 0
    while True:
        tries += 1
        try:
            return await attempt(until)
        except DriverError as error:
            lost += 1
            if lost == _LOST_ATTEMPTS or isinstance(error, IncompleteCommit) or not error.is_retryable():
                raise
        except Neo4jError as error:
            # Somebody else's node came after this unit had looked: the next run sees it.
            if not error.is_retryable() and not (error.code == _UNIQUE and tries == 1):
                raise
        # Full jitter, doubling from 2 ms: units that met come back at different times.
        await asyncio.sleep(random.uniform(0, min(0.002 * 2**tries, _LONGEST_PAUSE_S)))  # noqa: S311


def unavailable(error: DriverError | Neo4jError) -> bool:
    """Whether an error speaks of the server and not of the query."""
    if isinstance(error, DriverError):
        return not isinstance(error, ResultError)
    if isinstance(error, ClientError):
        return isinstance(error, AuthError) or (error.code or "").startswith(_UNAVAILABLE_CODES)
    return True


def _name(unit: Callable[..., object]) -> str:
    return str(getattr(unit, "__qualname__", type(unit).__qualname__))


def _run_callbacks(callbacks: list[Callable[[], None]], name: str) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:  # noqa: BLE001 - logged: what was committed stays committed
            _log.exception("an after-commit callback failed", unit=name)


__all__ = ["Address", "Neo4jDatabase", "Neo4jTx", "Params", "Unit"]
