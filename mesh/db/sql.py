"""SQL for services: units of work and group commit. Schemas: mesh/db/migrations.py.

A *unit* is a coroutine function that gets a `Tx`, runs statements on it and returns plain values. `Database.write` runs
it in a transaction, `Database.read` on a consistent, read-only snapshot. Three rules hold on every backend:

1. A unit awaits nothing but its `Tx`. A transaction is never held open across a call to something else.
2. A unit may run more than once (a conflict, a lost transaction), and only its last run counts: it changes nothing
   outside the database. `Tx.on_commit` is the place for what follows a commit.
3. A result is read inside its unit (`.all()`, `.first()`, `.scalar_one()`); the unit returns rows or values.

SQLite units are driven on a database thread, all their statements in a single hop between threads: SQLAlchemy over
aiosqlite makes four hops a statement and took five times as long for one SELECT. PostgreSQL units run on the event
loop, through asyncpg. The URL is the same one either way (`sqlite+aiosqlite:///path`, `postgresql+asyncpg://host/name`).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import queue
import random
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast

import structlog
from sqlalchemy import URL, Connection, CursorResult, Engine, TextClause, create_engine, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.selectable import TableClause

from mesh.errors import Unavailable
from mesh.resilience.breaker import Breaker

if TYPE_CHECKING:  # imported where PostgreSQL is used: they are a tenth of what a service on SQLite would load
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")
Params: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Rows: TypeAlias = CursorResult[*tuple[Any, ...]]

_SLOW_S = 0.25
_GROUP = 64  # units that share one commit: one fsync of about a millisecond is then under 20 us a unit
_LOST_ATTEMPTS = 3  # connections that a PostgreSQL unit may lose before its caller hears of it
_POOL_S = 60.0  # a unit's own deadline is shorter, and ends the wait for a connection
_BREAKER_FAILURES = 10  # in a row, before a PostgreSQL server is left alone
_BREAKER_S = 0.2, 2.0  # for so long at first, and at most
_LONGEST_PAUSE_S = 0.05  # before a PostgreSQL unit that lost against another one runs again
_SETTINGS = {
    "jit": "off",  # it compiles for longer than these statements take
    # What a process that hangs holds against all others ends by itself; a unit awaits nothing but its statements.
    "idle_in_transaction_session_timeout": "30s",
    "random_page_cost": "1.1",  # SSDs; and whole tables are not read, which would conflict with every write
}
_CLOSE_S = 10.0  # how long `close` waits for what is already queued

# Primary result codes (https://sqlite.org/rescode.html) that speak of the store's state and not of the statement.
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_PG_CONFLICTS = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_PG_UNIQUE = "23505"
# Classes of SQLSTATE about the server: connection exceptions, insufficient resources, operator intervention; and about
# how it is set up: who may enter, which databases there are.
PG_UNAVAILABLE = ("08", "53", "57", "28", "3D")

_log = structlog.stdlib.get_logger("mesh.db.sql")


class Tx(ABC):
    """One transaction, as a unit of work sees it."""

    __slots__ = ("_callbacks", "dialect")

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        """`sqlite` or `postgresql`."""
        self._callbacks: list[Callable[[], None]] = []

    @abstractmethod
    async def execute(self, statement: Executable | str, params: Params | None = None) -> Rows:
        """Run one statement.

        Args:
            statement: SQLAlchemy Core, or SQL text with `:name` parameters.
            params: the parameters; a sequence of mappings runs the statement once for each (executemany).

        Raises:
            sqlalchemy.exc.IntegrityError: a constraint refused it.
            sqlalchemy.exc.DBAPIError: the statement is wrong or the store is in trouble (the caller of
                `Database.read` or `.write` gets `Unavailable` for the latter).
        """

    async def scalar(self, statement: Executable | str, params: Params | None = None) -> Any:
        """The first column of the first row, or None when there is no row."""
        return (await self.execute(statement, params)).scalar()

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop after this transaction's COMMIT; never when it rolls back.

        Callbacks run in order, before the caller of `write` has its answer, and must not block. What a callback raises
        is logged: the commit stands.
        """
        self._callbacks.append(callback)

    def insert(self, table: TableClause) -> sqlite.Insert | postgresql.Insert:
        """The dialect's own INSERT, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return insert_for(self.dialect, table)


Unit: TypeAlias = Callable[[Tx], Awaitable[T]]


def insert_for(dialect: str, table: TableClause) -> sqlite.Insert | postgresql.Insert:
    """INSERT with upsert clauses for `dialect`; both have the same methods."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


@functools.lru_cache(maxsize=1024)
def _text(statement: str) -> TextClause:
    """Parsing the `:name` parameters costs more than a small SELECT, so parsed texts are kept."""
    return text(statement)


def _clause(statement: Executable | str) -> Executable:
    return _text(statement) if isinstance(statement, str) else statement


class _ThreadTx(Tx):
    """A transaction on the SQLite connection that belongs to the thread that drives the unit."""

    __slots__ = ("_caller", "_connection")

    def __init__(self, connection: Connection, caller: asyncio.Future[Any]) -> None:
        super().__init__("sqlite")
        self._connection = connection
        self._caller = caller

    async def execute(self, statement: Executable | str, params: Params | None = None) -> Rows:
        if self._caller.done():  # timed out or cancelled: nobody wants the rest
            raise Unavailable("the caller is gone")
        return self._connection.execute(_clause(statement), params)


class _AsyncTx(Tx):
    """A transaction on a pooled asynchronous connection."""

    __slots__ = ("_answered", "_connection")

    def __init__(self, dialect: str, connection: AsyncConnection, answered: Callable[[], None]) -> None:
        super().__init__(dialect)
        self._connection = connection
        self._answered = answered

    async def execute(self, statement: Executable | str, params: Params | None = None) -> Rows:
        rows = await self._connection.execute(_clause(statement), params)
        self._answered()
        return rows


def _unit_name(unit: Callable[..., object]) -> str:
    return str(getattr(unit, "__qualname__", type(unit).__qualname__))


def _log_slow(kind: str, name: str, seconds: float) -> None:
    if seconds > _SLOW_S:
        _log.warning("slow unit of work", kind=kind, unit=name, ms=round(seconds * 1000))


def _run_callbacks(callbacks: Sequence[Callable[[], None]], name: str) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:  # noqa: BLE001 - logged: what was committed stays committed
            _log.exception("an after-commit callback failed", unit=name)


class _Backend(Protocol):
    dialect: str

    async def read(self, unit: Unit[T], deadline: float) -> T: ...

    async def write(self, unit: Unit[T], deadline: float, *, blind: bool) -> T: ...

    async def close(self) -> None: ...


def violated(error: IntegrityError) -> str:
    """What refused a row: the columns on SQLite, the constraint's name on PostgreSQL. No value of the row is in it."""
    name = getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)
    return name if isinstance(name, str) else str(error.orig)


# --- SQLite ----------------------------------------------------------------------------------------------------------


class _Job(Generic[T]):
    """A unit on its way through a database thread."""

    __slots__ = ("context", "future", "name", "unit")

    def __init__(self, unit: Unit[T], future: asyncio.Future[T]) -> None:
        self.unit = unit
        self.future = future
        self.name = _unit_name(unit)
        self.context = contextvars.copy_context()


@dataclass(slots=True)
class _Outcome:
    """What became of a job; handed from a database thread to the event loop."""

    job: _Job[Any]
    value: Any = None
    error: BaseException | None = None
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    seconds: float = 0.0


def _drive(unit: Unit[T], tx: Tx) -> T:
    """Run a unit to its end on this thread; its `Tx` never suspends, so neither may anything else in it."""
    steps = unit(tx).__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return cast("T", stop.value)
    close = getattr(steps, "close", None)
    if close is not None:
        close()
    raise TypeError(f"{_unit_name(unit)} awaits something that is not its Tx")


def sqlite_error(error: BaseException) -> BaseException:
    """The error for the caller: `Unavailable` when it is about the store's state."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error) and (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_UNAVAILABLE:
        unavailable = Unavailable("the database cannot answer now")
        unavailable.__cause__ = error
        return unavailable
    return error


class _SqliteThread:
    """A thread that owns one SQLite connection and works through a queue of jobs."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        jobs: queue.SimpleQueue[_Job[Any] | None],
        loop: asyncio.AbstractEventLoop,
        *,
        writes: bool,
        busy_ms: int,
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._loop = loop
        self._writes = writes
        self._busy_ms = busy_ms
        self._lock = threading.Lock()
        self._current: _Job[Any] | None = None
        self._connection: Connection
        self._raw: sqlite3.Connection
        self.ready: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def interrupt(self, job: _Job[Any]) -> None:
        """Stop the statement that `job` is running, if it is still the one that runs."""
        with self._lock:
            if self._current is job:
                self._raw.interrupt()

    def _main(self) -> None:
        try:
            connection = self._engine.connect()
            raw = connection.connection.dbapi_connection
            if not isinstance(raw, sqlite3.Connection):  # the URL was checked; this narrows the type
                raise TypeError("not an SQLite connection")  # noqa: TRY301
            self._connection, self._raw = connection, raw
            self._prepare()
        except BaseException as error:  # noqa: BLE001 - raised by `open` on the event loop
            self._post(_fail, self.ready, sqlite_error(error))
            return
        self._post(_succeed, self.ready)
        try:
            if self._writes:
                self._write_until_closed()
            else:
                self._read_until_closed()
        finally:
            connection.close()
            self._post(_succeed, self.done)

    def _prepare(self) -> None:
        self._raw.isolation_level = None  # transactions are begun and ended here, by name
        self._raw.execute(f"PRAGMA busy_timeout = {self._busy_ms}")
        if self._writes:
            enable_wal(self._raw, self._busy_ms / 1000)
            # In WAL mode only FULL has a commit on disk when it returns (https://sqlite.org/pragma.html).
            self._raw.execute("PRAGMA synchronous = FULL")
            # What is deleted is overwritten, not only unlinked: a page that is free holds nobody's words.
            self._raw.execute("PRAGMA secure_delete = ON")
        else:
            self._raw.execute("PRAGMA query_only = ON")
        self._raw.execute("PRAGMA foreign_keys = ON")

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody waits for this any more
            _log.warning("a database thread outlived its event loop", thread=threading.current_thread().name)

    def _run(self, job: _Job[Any]) -> _Outcome:
        tx = _ThreadTx(self._connection, job.future)
        outcome = _Outcome(job)
        started = time.perf_counter()
        with self._lock:
            self._current = job
        try:
            outcome.value = job.context.run(_drive, job.unit, tx)
            outcome.callbacks = tx._callbacks
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, whatever it is
            outcome.error = sqlite_error(error)
        finally:
            with self._lock:
                self._current = None
        outcome.seconds = time.perf_counter() - started
        return outcome

    # reads

    def _read_until_closed(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.done():
                continue
            outcome = self._read(job)
            self._post(_settle, "read", [outcome])

    def _read(self, job: _Job[Any]) -> _Outcome:
        try:
            self._raw.execute("BEGIN")  # one snapshot for all the unit's statements
            outcome = self._run(job)
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
        except sqlite3.Error as error:
            return _Outcome(job, error=sqlite_error(error))
        return outcome

    # writes

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            job = self._jobs.get()
            batch: list[_Job[Any]] = []
            while job is not None:
                if not job.future.done():  # its caller may have gone while it waited
                    batch.append(job)
                if len(batch) == _GROUP:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            else:
                closing = True
            if batch:
                self._post(_settle, "write", self._commit(batch))

    def _commit(self, jobs: list[_Job[Any]]) -> list[_Outcome]:
        """Run jobs in one transaction; what SQLite rolled back because of one job is run again without that job."""
        settled: list[_Outcome] = []
        while jobs:
            outcomes: list[_Outcome] = []
            try:
                self._raw.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    outcomes.append(self._run_in_savepoint(job))
                    if not self._raw.in_transaction:
                        break
                else:
                    self._raw.execute("COMMIT")
                    return settled + outcomes
            except sqlite3.Error as error:
                self._roll_back()
                if isinstance(error, sqlite3.IntegrityError) and len(jobs) > 1:
                    # A deferred constraint spoke at COMMIT; alone, each job learns whether it was the one.
                    return settled + [outcome for job in jobs for outcome in self._commit([job])]
                reason = Unavailable("the database could not commit")
                reason.__cause__ = error
                failure: BaseException = error if isinstance(error, sqlite3.IntegrityError) else reason
                if isinstance(error, sqlite3.IntegrityError):
                    failure = IntegrityError("COMMIT", None, error)
                return settled + [_Outcome(job, error=failure) for job in jobs]
            # Full disk, I/O error or an interrupt: SQLite ended the whole transaction, not only this unit's part.
            culprit = outcomes[-1]
            if culprit.error is None:
                culprit = _Outcome(culprit.job, error=RuntimeError(f"{culprit.job.name} ended its own transaction"))
            settled.append(culprit)
            jobs = [job for job in jobs if job is not culprit.job]
        return settled

    def _run_in_savepoint(self, job: _Job[Any]) -> _Outcome:
        self._raw.execute("SAVEPOINT unit")
        outcome = self._run(job)
        if self._raw.in_transaction:
            if outcome.error is not None:
                self._raw.execute("ROLLBACK TO unit")
            self._raw.execute("RELEASE unit")
        return outcome

    def _roll_back(self) -> None:
        if not self._raw.in_transaction:
            return
        try:
            self._raw.execute("ROLLBACK")
        except sqlite3.Error:
            _log.exception("rollback failed")


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _settle(kind: str, outcomes: Sequence[_Outcome]) -> None:
    """On the event loop: callbacks first, then the callers' answers."""
    for outcome in outcomes:
        future = outcome.job.future
        _log_slow(kind, outcome.job.name, outcome.seconds)
        if outcome.error is None:
            _run_callbacks(outcome.callbacks, outcome.job.name)
            if not future.done():
                future.set_result(outcome.value)
        elif not future.done():
            future.set_exception(outcome.error)


def enable_wal(raw: sqlite3.Connection, seconds: float) -> None:
    """Switch to WAL; the switch does not wait for other processes that switch at the same moment, so this does."""
    until = time.monotonic() + max(seconds, 1.0)
    while True:
        try:
            mode = raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise ValueError(f"SQLite refuses WAL (journal_mode is {mode!r}): the file must be on a local disk")
        return


class _SqliteBackend:
    """One writer thread with group commit, and a few reader threads that share a queue."""

    dialect = "sqlite"

    def __init__(self, url: URL, loop: asyncio.AbstractEventLoop, *, readers: int, deadline: float, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._closed = False
        # Parameters would be in every error's text, and so in logs.
        self._engine = create_engine(url.set(drivername="sqlite+pysqlite"), poolclass=NullPool, hide_parameters=True)
        self._writes: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        name = Path(url.database or "").name
        busy_ms = max(1, int(deadline * 1000))
        self._writer = _SqliteThread(f"{name}-writer", self._engine, self._writes, loop, writes=True, busy_ms=busy_ms)
        self._readers: list[_SqliteThread] = []
        self._make_reader: Callable[[int], _SqliteThread] = lambda n: _SqliteThread(
            f"{name}-reader-{n}", self._engine, self._reads, loop, writes=False, busy_ms=busy_ms
        )
        self._reader_count = readers

    async def start(self) -> None:
        await self._writer.ready  # first: it creates the file and its WAL, which readers cannot
        self._readers = [self._make_reader(n) for n in range(self._reader_count)]
        for reader in self._readers:
            await reader.ready

    async def read(self, unit: Unit[T], deadline: float) -> T:
        return await self._submit("read", self._reads, unit, deadline)

    async def write(self, unit: Unit[T], deadline: float, *, blind: bool) -> T:
        del blind  # one writer: nothing to conflict with
        return await self._submit("write", self._writes, unit, deadline)

    async def _submit(self, kind: str, jobs: queue.SimpleQueue[_Job[Any] | None], unit: Unit[T], deadline: float) -> T:
        if self._closed:
            raise Unavailable("the database is closed")
        if jobs.qsize() >= self._limit:
            raise Unavailable(f"too many {kind}s wait for the database")
        job: _Job[T] = _Job(unit, self._loop.create_future())
        timer = self._loop.call_later(deadline, self._expire, kind, job)
        jobs.put(job)
        try:
            return await job.future
        finally:
            timer.cancel()

    def _expire(self, kind: str, job: _Job[Any]) -> None:
        if job.future.done():
            return
        job.future.set_exception(Unavailable(f"the database did not {kind} in time"))
        for thread in [self._writer] if kind == "write" else self._readers:
            thread.interrupt(job)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        for _ in self._readers:
            self._reads.put(None)
        threads = [self._writer.done, *(reader.done for reader in self._readers)]
        _, late = await asyncio.wait(threads, timeout=_CLOSE_S)
        if late:
            _log.error("database threads did not end in time", threads=len(late))
        self._engine.dispose()


# --- Pooled, asynchronous (PostgreSQL) -----------------------------------------------------------------------------


class PooledBackend:
    """Each unit has a connection of a pool and a transaction of its own.

    Writes are SERIALIZABLE and reads a REPEATABLE READ snapshot, so that a unit means on PostgreSQL what it means with
    SQLite's single writer. A unit that lost against another one runs again until its deadline; such units of one
    process do so one after the other, so that a row that everybody writes costs each of them one more turn and not
    one for each of the others.

    A server that is not there, or answers nobody, is asked by one unit now and then; others hear of it at once.
    """

    def __init__(self, engine: AsyncEngine, *, limit: int) -> None:
        self.dialect = engine.dialect.name
        self._engine = engine
        self._limit = limit
        self._waiting = 0
        self._closed = False
        self._losers = asyncio.Lock()
        self._breaker = Breaker("database", threshold=_BREAKER_FAILURES, open_s=_BREAKER_S[0], max_open_s=_BREAKER_S[1])
        self._answered_at = 0.0  # when the server last answered anybody
        self._reads = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writes = engine.execution_options(isolation_level="SERIALIZABLE")
        self._blind_writes = engine.execution_options(isolation_level="REPEATABLE READ")

    async def read(self, unit: Unit[T], deadline: float) -> T:
        return await self._bounded("read", self._reads, unit, deadline)

    async def write(self, unit: Unit[T], deadline: float, *, blind: bool) -> T:
        return await self._bounded("write", self._blind_writes if blind else self._writes, unit, deadline)

    async def _bounded(self, kind: str, engine: AsyncEngine, unit: Unit[T], deadline: float) -> T:
        if self._closed:
            raise Unavailable("the database is closed")
        if self._waiting >= self._limit:
            raise Unavailable(f"too many {kind}s wait for the database")
        self._breaker.before()
        name = _unit_name(unit)
        started = time.perf_counter()
        self._waiting += 1
        alive: bool | None = True  # None: nothing was learnt about the server
        try:
            async with asyncio.timeout(deadline) as limit:
                value, callbacks = await self._retried(engine, unit)
        except TimeoutError as error:
            if not limit.expired():  # the unit's own
                raise
            alive = self._answered_at >= started  # a unit may be too slow, or lose too often, where others are served
            raise Unavailable(f"the database did not {kind} in time") from error
        except (PoolTimeout, OSError) as error:
            alive = False
            raise Unavailable("the database cannot answer now") from error
        except DBAPIError as error:
            if self.unavailable(error):
                alive = _sqlstate(error) in _PG_CONFLICTS
                raise Unavailable("the database cannot answer now") from error
            raise
        except asyncio.CancelledError:
            alive = None
            raise
        finally:
            self._waiting -= 1
            _log_slow(kind, name, time.perf_counter() - started)
            if alive:
                self._breaker.success()
            elif alive is None:
                self._breaker.abandoned()
            else:
                self._breaker.failure()
        _run_callbacks(callbacks, name)
        return value

    def _answered(self) -> None:
        self._answered_at = time.perf_counter()

    async def _retried(self, engine: AsyncEngine, unit: Unit[T]) -> tuple[T, list[Callable[[], None]]]:
        """Runs a unit until it is committed. The caller's deadline ends it."""
        attempt = lost = 0
        async with AsyncExitStack() as turn:
            while True:
                attempt += 1
                committing = False
                try:
                    async with engine.connect() as connection:
                        tx = _AsyncTx(self.dialect, connection, self._answered)
                        async with connection.begin():
                            value = await unit(tx)
                            committing = True
                        return value, tx._callbacks
                except DBAPIError as error:
                    if error.connection_invalidated:
                        # What a COMMIT did whose answer got lost is not known, so it is not done twice.
                        lost += 1
                        if committing or lost == _LOST_ATTEMPTS:
                            raise
                    elif not _lost_a_race(error, attempt):
                        raise
                    else:
                        self._answered()
                if attempt == 1:
                    await turn.enter_async_context(self._losers)
                # Full jitter, doubling from 2 ms: those of other processes come back at different times.
                await asyncio.sleep(random.uniform(0, min(0.002 * 2**attempt, _LONGEST_PAUSE_S)))  # noqa: S311

    @staticmethod
    def unavailable(error: DBAPIError) -> bool:
        """Whether an error speaks of the server and not of the statement."""
        state = _sqlstate(error)
        if state is None:
            return error.connection_invalidated or isinstance(error, (InterfaceError, OperationalError))
        return state in _PG_CONFLICTS or state.startswith(PG_UNAVAILABLE)

    async def close(self) -> None:
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._engine.dispose()
        except TimeoutError:
            _log.error("database connections did not close in time")


def _lost_a_race(error: DBAPIError, attempt: int) -> bool:
    """Whether running the unit again may end otherwise."""
    state = _sqlstate(error)
    if state in _PG_CONFLICTS:
        return True
    if state == _PG_UNIQUE:
        # Somebody else's row came after this unit had looked. The next run sees it, as SQLite's first would have.
        return attempt == 1
    # The schema changed under a prepared statement. The pool is told by this very error; other connections are not.
    return type(error.orig).__name__ == "InvalidCachedStatementError"


def _sqlstate(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


# --- The port --------------------------------------------------------------------------------------------------------


class Database:
    """A SQL database. Open one a process and URL, from within the event loop that uses it."""

    def __init__(self, backend: _Backend, deadline: float) -> None:
        self._backend = backend
        self._deadline = deadline

    @classmethod
    async def open(cls, url: str, *, pool_size: int = 4, deadline: float = 2.0, max_waiting: int = 10_000) -> Database:
        """Connect.

        Args:
            url: `sqlite+aiosqlite:///path` (a file on a local disk) or `postgresql+asyncpg://user@host/name`.
            pool_size: connections; for SQLite the readers, next to the one writer.
            deadline: seconds that a unit may take, the wait for its turn included, unless the call says otherwise.
            max_waiting: units that may wait (SQLite: of each kind); further ones are refused.

        Raises:
            ValueError: a URL that names no usable database.
            Unavailable: the database cannot be opened now.
        """
        if pool_size < 1 or deadline <= 0 or max_waiting < 1:
            raise ValueError("pool_size, deadline and max_waiting must be positive")
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            sqlite_path(parsed)
            loop = asyncio.get_running_loop()
            embedded = _SqliteBackend(parsed, loop, readers=pool_size, deadline=deadline, limit=max_waiting)
            try:
                await embedded.start()
            except BaseException:
                await embedded.close()
                raise
            return cls(embedded, deadline)
        if parsed.get_backend_name() == "postgresql":
            from sqlalchemy.ext.asyncio import create_async_engine

            engine = create_async_engine(
                parsed,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=_POOL_S,
                pool_use_lifo=True,
                hide_parameters=True,  # they would be in every error's text, and so in logs
                connect_args={"timeout": deadline, "server_settings": _SETTINGS},
            )
            return cls(PooledBackend(engine, limit=max_waiting), deadline)
        raise ValueError(f"no database backend for {parsed.drivername!r}: use sqlite+aiosqlite or postgresql+asyncpg")

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._backend.dialect

    async def read(self, unit: Unit[T], *, deadline: float | None = None) -> T:
        """Run `unit` on a read-only snapshot and return what it returns.

        Args:
            unit: see the module's three rules.
            deadline: seconds; by default the database's own.

        Raises:
            Unavailable: no answer in time, too many wait, or the store is in trouble.
        """
        return await self._backend.read(unit, self._deadline if deadline is None else deadline)

    async def write(self, unit: Unit[T], *, deadline: float | None = None, blind: bool = False) -> T:
        """Run `unit` in a transaction; the answer comes after the COMMIT is on disk.

        On SQLite up to 64 waiting units share a commit. Each is in a savepoint: what one raises undoes that one and
        goes to its caller only. When COMMIT itself fails, all of them fail.

        A caller that is cancelled or times out does not stop the others. Its unit is skipped if it has not begun;
        otherwise it **may still commit**, so writes are idempotent by contract.

        Args:
            unit: see the module's three rules.
            deadline: seconds; by default the database's own.
            blind: the unit decides nothing by rows that it does not write, so that no other unit's rows can make it
                wrong. PostgreSQL then watches only what is written, and it conflicts with writers of the same rows
                and with nobody else.

        Raises:
            Unavailable: no answer in time (the outcome is unknown), too many wait, or the store is in trouble.
        """
        return await self._backend.write(unit, self._deadline if deadline is None else deadline, blind=blind)

    async def close(self) -> None:
        """Finish what is queued (10 s at most) and release every connection. Safe to call twice."""
        await self._backend.close()


def sqlite_path(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("an SQLite URL must name a file: readers and the writer are separate connections")
    path = Path(url.database)
    if not path.parent.is_dir():
        raise ValueError(f"the folder of the SQLite file {path.name!r} does not exist")
    return path


__all__ = ["Database", "Params", "Rows", "Tx", "Unit", "insert_for", "violated"]
