"""Cassandra for services: single statements and logged batches. Schemas: mesh/db/cassandra_migrations.py.

There are no transactions. What a service may rely on:

- A statement is atomic within one partition. A *logged batch* (`batch`) is done wholly in the end, over partitions and
  tables; others may see parts of it meanwhile.
- A *conditional* statement (`IF ...`) is decided by Paxos within one partition: of those that race one is applied. A
  row is written either by conditional statements only or by plain ones only: mixed, a plain write with a later clock
  undoes a decision. Read such rows with `serial=True` where the answer decides something.
- Everything else is last-write-wins by timestamp, microseconds given by the writer: `USING TIMESTAMP ?` in the
  statement, or else this process's clock.
- `Unavailable` after a write means that its outcome is unknown: it may have happened, or may yet. Writes are therefore
  made so that doing them again changes nothing, and then say so (`idempotent=True`); the driver repeats only those, and
  reads. A conditional statement is never repeated here: its caller reads what became of it.

Reads and writes ask LOCAL_QUORUM, conditional ones LOCAL_SERIAL. Statements are prepared once and go to a replica that
has the row (token-aware). A read that a node does not answer within 0.1 s is asked of another one too.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import re
import ssl
import threading
import time
from collections import deque, namedtuple
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote

import structlog
from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    OperationTimedOut,
    ProtocolVersion,
    RequestExecutionException,
    Timeout,
    WriteType,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage, PreparedQueryNotFound, RequestValidationException
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement

from mesh.db.cassandra_reactor import LoopConnection
from mesh.errors import Unavailable

Params: TypeAlias = Sequence[object]
"""Values of a statement's `?`, in order."""
Statement: TypeAlias = tuple[str, Params]

DEFAULT_PORT = 9042
_SLOW_S = 0.25
_LOGGED = 100  # characters of a slow statement: which one it is
_SPECULATE_S = 0.1  # many times what a read takes, and far below a deadline
_SPECULATE_TIMES = 2
_CONNECT_S = 5.0  # for one node
_RECONNECT_S = 0.2, 5.0  # from, to
_HEARTBEAT_S, _HEARTBEAT_ANSWER_S = 3.0, 2.0  # a node that hangs is left alone after the sum
_PAGE = 1_000
_READS = "reads"  # the way with speculative execution
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_TOKENS = -(1 << 63), (1 << 63) - 1  # of Murmur3Partitioner

_log = structlog.stdlib.get_logger("mesh.db.cassandra")
# The server says so of each statement that is prepared. A connection of this driver has one keyspace, always the same.
logging.getLogger("cassandra.protocol").addFilter(lambda record: "`USE <keyspace>`" not in record.getMessage())


class Row(Protocol):
    """A row: a tuple of values, that are also attributes by the names of the columns."""

    def __getattr__(self, name: str) -> Any: ...
    def __getitem__(self, position: int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...


class Decision(NamedTuple):
    """What became of a conditional statement."""

    applied: bool
    """Whether its condition held, so that it was done."""
    row: Row | None
    """If not: the row that is there, with the columns that the condition is about. None when there is no row."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says."""

    hosts: tuple[tuple[str, int], ...]
    """Some of the nodes; the others are found."""
    keyspace: str
    login: str = ""
    password: str = field(default="", repr=False)
    datacentre: str | None = None
    """The one whose nodes are asked, and whose quorum counts. None: that of the nodes named."""
    replicas: int = 3
    """Of a keyspace that a migration makes."""
    tls: bool = False
    authority: str | None = None
    """A file with the certificate of who signed those of the nodes; None for those that the system trusts."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """`cassandra://[user:password@]host[:port][,host[:port]...]/keyspace[?dc=NAME&rf=3&tls=1&ca=FILE]`.

        Raises ValueError, whose text has no password.
        """
        scheme, _, rest = url.partition("://")
        if scheme != "cassandra":
            raise ValueError(f"not a cassandra:// URL: {scheme!r}")
        place, _, query = rest.partition("?")
        who, _, where = place.rpartition("@")
        nodes, _, keyspace = where.partition("/")
        login, _, password = who.partition(":")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := sorted(options.keys() - {"dc", "rf", "tls", "ca"}):
            raise ValueError(f"a cassandra:// URL has no option {', '.join(unknown)}")
        if not _NAME.fullmatch(keyspace):
            raise ValueError("a cassandra:// URL ends with a keyspace: a lower-case letter, then those, digits and _")
        replicas = options.get("rf", "3")
        if not replicas.isdigit() or not 1 <= int(replicas) <= 99:
            raise ValueError("rf of a cassandra:// URL is a number of replicas")
        return cls(
            hosts=tuple(_host(node) for node in nodes.split(",")),
            keyspace=keyspace,
            login=unquote(login),
            password=unquote(password),
            datacentre=options.get("dc") or None,
            replicas=int(replicas),
            tls=options.get("tls", "0") not in ("0", "", "false"),
            authority=options.get("ca") or None,
        )


def _host(node: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+)(?::(\d{1,5}))?", node)
    if match is None:
        raise ValueError(f"a cassandra:// URL names its nodes as host:port, by commas, not {node!r}")
    return match[1].strip("[]"), int(match[2] or DEFAULT_PORT)


def token_ranges(parts: int) -> list[tuple[int, int]]:
    """All of the ring in so many parts, (after, up to): `WHERE token(key) > ? AND token(key) <= ?` walks a table.

    The smallest token is nobody's: the partitioner never gives it.
    """
    first, last = _TOKENS
    edges = [first + (last - first) * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def now_us() -> int:
    """The time for `USING TIMESTAMP`: microseconds since 1970."""
    return time.time_ns() // 1_000


class _Repeats(RetryPolicy):  # type: ignore[misc]  # the driver has no types
    """Repeats what may be repeated, once, at another node; everything else is for the caller to know about."""

    def _decide(self, statement: Any, retries: int) -> tuple[int, None]:
        if statement.is_idempotent and retries == 0:
            return self.RETRY_NEXT_HOST, None
        return self.RETHROW, None

    def on_read_timeout(self, query: Any, *_: Any, retry_num: int, **__: Any) -> tuple[int, None]:
        """A replica was too slow."""
        return self._decide(query, retry_num)

    def on_write_timeout(self, query: Any, *_: Any, write_type: int, retry_num: int, **__: Any) -> tuple[int, None]:
        """As above; whether it was written is not known."""
        return (self.RETHROW, None) if write_type == WriteType.CAS else self._decide(query, retry_num)

    def on_unavailable(self, query: Any, *_: Any, retry_num: int, **__: Any) -> tuple[int, None]:
        """This node sees too few replicas; another one may see more."""
        return self._decide(query, retry_num)

    def on_request_error(self, query: Any, *_: Any, retry_num: int, **__: Any) -> tuple[int, None]:
        """The connection broke, or the node is in trouble."""
        return self._decide(query, retry_num)


@functools.lru_cache(maxsize=1024)
def _row_class(names: tuple[str, ...]) -> Any:
    """The driver makes a class for each result, which costs more than the statement."""
    return namedtuple("Row", [name.strip("[]") for name in names], rename=True)


def _rows(names: Sequence[str], values: Sequence[Sequence[Any]]) -> list[Any]:
    return list(map(_row_class(tuple(names))._make, values))


class _Answers(Protocol):
    """Who waits for a statement; called on the event loop."""

    def done(self, rows: list[Row] | None, more: bytes | None) -> None: ...

    def failed(self, error: BaseException) -> None: ...


class _One:
    """Somebody who waits for one statement."""

    __slots__ = ("future", "more")

    def __init__(self, future: asyncio.Future[list[Row]]) -> None:
        self.future = future
        self.more: bytes | None = None

    def done(self, rows: list[Row] | None, more: bytes | None) -> None:
        self.more = more
        if not self.future.done():
            self.future.set_result(rows or [])

    def failed(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Several:
    """Somebody who waits for many statements, of which some run at a time."""

    def __init__(self, future: asyncio.Future[None], count: int) -> None:
        self.future = future
        self.results: list[list[Row]] = [[] for _ in range(count)]
        self.left = count
        self.next = 0
        self.go: Callable[[], None] = lambda: None

    def part(self, position: int) -> _Part:
        return _Part(self, position)


class _Part:
    __slots__ = ("position", "whole")

    def __init__(self, whole: _Several, position: int) -> None:
        self.whole = whole
        self.position = position

    def done(self, rows: list[Row] | None, more: bytes | None) -> None:
        whole = self.whole
        if more is not None:
            self.failed(ValueError("a statement of `many` gave more than a page of rows"))
            return
        whole.results[self.position] = rows or []
        whole.left -= 1
        if not whole.future.done():
            if whole.left == 0:
                whole.future.set_result(None)
            else:
                whole.go()

    def failed(self, error: BaseException) -> None:
        if not self.whole.future.done():
            self.whole.future.set_exception(error)


class _Call:
    """A statement in the driver's hands. Its callbacks come on the loop, or seldom on a thread of the driver."""

    __slots__ = ("_answers", "_owner", "_response")

    def __init__(self, owner: Cassandra, answers: _Answers) -> None:
        self._owner = owner
        self._answers = answers
        self._response: Any = None

    def send(self, session: Session, statement: Any, way: object, timeout: float, paging_state: bytes | None) -> None:
        try:
            self._response = session.execute_async(
                statement, timeout=timeout, execution_profile=way, paging_state=paging_state
            )
        except BaseException:
            self._owner._left()
            raise
        self._response.add_callbacks(self._done, self._failed)

    def _done(self, rows: Any) -> None:
        if threading.get_ident() != self._owner._thread:
            self._owner._soon(self._done, rows)
            return
        self._owner._left()
        self._answers.done(rows, self._response._paging_state)

    def _failed(self, error: BaseException) -> None:
        if threading.get_ident() != self._owner._thread:
            self._owner._soon(self._failed, error)
            return
        self._owner._left()
        self._answers.failed(error)


class Cassandra:
    """A keyspace. Open one a process and URL, from within the event loop that uses it."""

    def __init__(self, address: Address, *, deadline: float, in_flight: int, max_waiting: int) -> None:
        self._address = address
        self._deadline = deadline
        self._limit = in_flight
        self._max_waiting = max_waiting
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._cluster: Cluster | None = None
        self._session: Session | None = None
        self._connected = asyncio.Event()
        self._prepared: dict[str, PreparedStatement] = {}
        self._preparing: dict[str, asyncio.Task[PreparedStatement]] = {}
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, url: str, *, deadline: float = 2.0, in_flight: int = 1_024, max_waiting: int = 10_000
    ) -> Cassandra:
        """Connect in the background: a cluster that is away keeps nobody from starting, only from statements.

        Args:
            url: see `Address.parse`.
            deadline: seconds that a statement may take, the wait for its turn included, unless the call says otherwise.
            in_flight: statements that run at once.
            max_waiting: statements that wait for that; further ones are refused.

        Raises:
            ValueError: a URL that names no keyspace.
        """
        if deadline <= 0 or in_flight < 1 or max_waiting < 1:
            raise ValueError("deadline, in_flight and max_waiting must be positive")
        self = cls(Address.parse(url), deadline=deadline, in_flight=in_flight, max_waiting=max_waiting)
        self._task = asyncio.create_task(self._connect(), name="cassandra-connect")
        return self

    @property
    def keyspace(self) -> str:
        """The name of the keyspace."""
        return self._address.keyspace

    async def rows(
        self,
        cql: str,
        params: Params = (),
        *,
        most: int = 10_000,
        serial: bool = False,
        deadline: float | None = None,
    ) -> list[Row]:
        """Runs a SELECT and gives its rows, of all pages.

        Args:
            cql: with a `?` for each value.
            params: the values.
            most: more rows than these are a defect of the statement: it needs a LIMIT, or `pages`.
            serial: see what conditional statements have decided, also those that are being decided.
            deadline: seconds; by default the keyspace's own.

        Raises:
            Unavailable: no answer in time, too many wait, or the cluster is in trouble.
            ValueError: more than `most` rows.
        """
        until = self._until(deadline)
        found: list[Row] = []
        more: bytes | None = None
        while True:
            page, more = await self._read(cql, params, until, more, serial=serial, size=_PAGE)
            if not found and more is None and len(page) <= most:
                return page
            found += page
            if len(found) > most or (more is not None and len(found) == most):
                raise ValueError(f"more than {most} rows: {cql}")
            if more is None:
                return found

    async def row(
        self, cql: str, params: Params = (), *, serial: bool = False, deadline: float | None = None
    ) -> Row | None:
        """The first row, or None when there is none. Raises as `rows` does."""
        found = await self.rows(cql, params, serial=serial, deadline=deadline)
        return found[0] if found else None

    async def pages(
        self, cql: str, params: Params = (), *, size: int = _PAGE, deadline: float | None = None
    ) -> AsyncIterator[list[Row]]:
        """Runs a SELECT of any length and gives its rows, so many at a time; `deadline` is for each page.

        Raises as `rows` does.
        """
        more: bytes | None = None
        while True:
            page, more = await self._read(cql, params, self._until(deadline), more, serial=False, size=size)
            if page:
                yield page
            if more is None:
                return

    async def execute(
        self, cql: str, params: Params = (), *, idempotent: bool = False, deadline: float | None = None
    ) -> None:
        """Runs an INSERT, UPDATE or DELETE without a condition.

        Args:
            cql: with a `?` for each value.
            params: the values.
            idempotent: doing it twice is as good as once, also when the second comes late: then it may be repeated.
            deadline: seconds; by default the keyspace's own.

        Raises:
            Unavailable: no answer in time (the outcome is unknown), too many wait, or the cluster is in trouble.
        """
        until = self._until(deadline)
        bound = (await self._prepare(cql, until)).bind(params)
        bound.is_idempotent = idempotent
        await self._run(bound, cql, until)

    async def many(
        self,
        statements: Sequence[Statement],
        *,
        reads: bool = True,
        concurrency: int = 64,
        deadline: float | None = None,
    ) -> list[list[Row]]:
        """Runs statements side by side, and gives the rows of each, in their order.

        Args:
            statements: texts with their values; each gives a page of rows (1,000) at most.
            reads: they are SELECTs; otherwise writes that may be repeated (see `execute`).
            concurrency: how many run at once.
            deadline: seconds for all of them.

        Raises:
            Unavailable: as `execute` does; some may have been done, and others may yet be.
        """
        if not statements:
            return []
        until = self._until(deadline)
        prepared = {cql: await self._prepare(cql, until) for cql in {cql for cql, _ in statements}}
        session = await self._at(until)
        way = _READS if reads else EXEC_PROFILE_DEFAULT
        whole = _Several(self._loop.create_future(), len(statements))

        def go() -> None:
            """One more, if there is room; each that ends calls it."""
            position = whole.next
            if position == len(statements) or whole.future.done():
                return
            whole.next += 1
            cql, params = statements[position]
            try:
                bound = prepared[cql].bind(params)
                bound.is_idempotent = True
                self._inside += 1  # at most `concurrency` above the limit, for each caller that was let in
                remaining = max(0.001, until - self._loop.time())
                _Call(self, whole.part(position)).send(session, bound, way, remaining, None)
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller, whatever it is
                if not whole.future.done():
                    whole.future.set_exception(error)

        whole.go = go
        await self._enter(until)
        self._left()
        started = self._loop.time()
        for _ in range(min(concurrency, len(statements))):
            go()
        try:
            await whole.future
        except Exception as error:
            raise told(error) from error
        finally:
            self._log_slow(statements[0][0], started)
        return whole.results

    async def batch(
        self,
        statements: Sequence[Statement],
        *,
        idempotent: bool = False,
        logged: bool = True,
        deadline: float | None = None,
    ) -> None:
        """Runs writes as one logged batch: all of them are done in the end, or none is.

        Args:
            statements: INSERTs, UPDATEs and DELETEs without conditions; a server takes 50 KiB of them by default.
            idempotent: see `execute`.
            logged: False for writes to a single partition, which are one write anyway, without a limit of size.
            deadline: seconds; by default the keyspace's own.

        Raises:
            Unavailable: as `execute` does.
        """
        if not statements:
            return
        until = self._until(deadline)
        kind = BatchType.LOGGED if logged else BatchType.UNLOGGED
        batch = BatchStatement(batch_type=kind, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
        for cql, params in statements:
            batch.add(await self._prepare(cql, until), params)
        batch.is_idempotent = idempotent
        await self._run(batch, statements[0][0], until)

    async def conditional(self, cql: str, params: Params = (), *, deadline: float | None = None) -> Decision:
        """Runs an INSERT, UPDATE or DELETE with an IF, and says whether it was done.

        Raises:
            Unavailable: no answer in time: then it may have been done, or may be done yet by who comes next. Read the
                row with `serial=True` to know.
        """
        until = self._until(deadline)
        bound = (await self._prepare(cql, until)).bind(params)
        bound.is_idempotent = False
        answer = (await self._run(bound, cql, until))[0]
        # Without a row there, nothing but `[applied]` comes back.
        return Decision(bool(answer[0]), None if answer[0] or len(answer) == 1 else answer)

    async def close(self) -> None:
        """Release every connection. Safe to call twice."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        for task in self._preparing.values():
            task.cancel()
        cluster, self._cluster, self._session = self._cluster, None, None
        if cluster is not None:
            await asyncio.to_thread(cluster.shutdown)

    # --- connecting ---

    async def _connect(self) -> None:
        pause, longest = _RECONNECT_S
        told = False
        while True:
            cluster = driver_cluster(self._address, LoopConnection.on(self._loop))
            try:
                opened = asyncio.create_task(asyncio.to_thread(_open, cluster, self._address.keyspace))
                try:
                    session = await asyncio.shield(opened)
                except asyncio.CancelledError:
                    await asyncio.wait([opened], timeout=_CONNECT_S)
                    await asyncio.to_thread(cluster.shutdown)
                    raise
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                await asyncio.to_thread(cluster.shutdown)
                if not told:
                    _log.warning("Cassandra is not there yet", keyspace=self.keyspace, error=short(error))
                told = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
                continue
            self._cluster, self._session = cluster, session
            self._connected.set()
            if told:
                _log.info("Cassandra is there", keyspace=self.keyspace)
            return

    async def _at(self, until: float) -> Session:
        session = self._session
        if session is not None:
            return session
        if self._closed:
            raise Unavailable("the database is closed")
        try:
            async with asyncio.timeout_at(until):
                await self._connected.wait()
        except TimeoutError:
            raise Unavailable("the database cannot answer now") from None
        return await self._at(until)

    async def _prepare(self, cql: str, until: float) -> PreparedStatement:
        prepared = self._prepared.get(cql)
        if prepared is not None:
            return prepared
        session = await self._at(until)
        task = self._preparing.get(cql)
        if task is None:  # one asks for all who want it; it goes on when the first of them is gone
            task = self._preparing[cql] = asyncio.create_task(self._prepared_by(session, cql))
            task.add_done_callback(lambda _: self._preparing.pop(cql, None))
        try:
            async with asyncio.timeout_at(until):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unavailable("the database did not answer in time") from None

    async def _prepared_by(self, session: Session, cql: str) -> PreparedStatement:
        try:
            prepared = await asyncio.to_thread(session.prepare, cql)
        except Exception as error:
            raise told(error) from error
        prepared.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        prepared.serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL
        self._prepared[cql] = prepared
        return prepared

    # --- running ---

    def _until(self, deadline: float | None) -> float:
        return self._loop.time() + (self._deadline if deadline is None else deadline)

    async def _read(
        self, cql: str, params: Params, until: float, more: bytes | None, *, serial: bool, size: int
    ) -> tuple[list[Row], bytes | None]:
        bound = (await self._prepare(cql, until)).bind(params)
        bound.is_idempotent = True
        bound.fetch_size = size
        if serial:
            bound.consistency_level = ConsistencyLevel.LOCAL_SERIAL
        one = _One(self._loop.create_future())
        # Reads of what is being decided get into each other's way, so they are not asked twice.
        await self._run(bound, cql, until, one, EXEC_PROFILE_DEFAULT if serial else _READS, more)
        return one.future.result(), one.more

    async def _run(
        self,
        statement: BoundStatement | BatchStatement,
        cql: str,
        until: float,
        one: _One | None = None,
        way: object = EXEC_PROFILE_DEFAULT,
        more: bytes | None = None,
    ) -> list[Row]:
        session = self._session or await self._at(until)
        one = one or _One(self._loop.create_future())
        if self._inside < self._limit:
            self._inside += 1
        else:
            await self._enter(until)
        started = self._loop.time()
        try:
            _Call(self, one).send(session, statement, way, max(0.001, until - started), more)
            return await one.future
        except Exception as error:
            raise told(error) from error
        finally:
            self._log_slow(cql, started)

    async def _enter(self, until: float) -> None:
        """Take a place among the statements that run; `_left` gives it back."""
        if self._inside < self._limit:
            self._inside += 1
            return
        if len(self._waiting) >= self._max_waiting:
            raise Unavailable("too many statements wait for the database")
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(until):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the place was given just now
                self._left()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Unavailable("the database did not answer in time") from None
            raise

    def _left(self) -> None:
        while self._waiting and self._inside <= self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._inside -= 1

    def _soon(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody waits for this any more
            _log.warning("an answer of Cassandra outlived its event loop")

    def _log_slow(self, cql: str, started: float) -> None:
        seconds = self._loop.time() - started
        if seconds > _SLOW_S:
            _log.warning("slow statement", cql=cql[:_LOGGED], ms=round(seconds * 1000))


def driver_cluster(address: Address, connection_class: type[LoopConnection]) -> Cluster:
    balancing = TokenAwarePolicy(DCAwareRoundRobinPolicy(address.datacentre or ""), shuffle_replicas=True)
    common: Mapping[str, Any] = {
        "load_balancing_policy": balancing,
        "retry_policy": _Repeats(),
        "consistency_level": ConsistencyLevel.LOCAL_QUORUM,
        "serial_consistency_level": ConsistencyLevel.LOCAL_SERIAL,
        "row_factory": _rows,
    }
    return Cluster(
        contact_points=list(address.hosts),
        auth_provider=PlainTextAuthProvider(address.login, address.password) if address.login else None,
        ssl_context=ssl.create_default_context(cafile=address.authority) if address.tls else None,
        # Version 5 adds checksums to frames, which the driver computes in Python.
        protocol_version=ProtocolVersion.V4,
        compression=False,
        connection_class=connection_class,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(**common),
            _READS: ExecutionProfile(
                **common,
                speculative_execution_policy=ConstantSpeculativeExecutionPolicy(_SPECULATE_S, _SPECULATE_TIMES),
            ),
        },
        connect_timeout=_CONNECT_S,
        control_connection_timeout=_CONNECT_S,
        reconnection_policy=ExponentialReconnectionPolicy(*_RECONNECT_S),
        idle_heartbeat_interval=_HEARTBEAT_S,
        idle_heartbeat_timeout=_HEARTBEAT_ANSWER_S,
        schema_metadata_enabled=False,  # of all keyspaces; `_open` asks for the one, which routing needs
        monitor_reporting_enabled=False,
        executor_threads=2,
    )


def _open(cluster: Cluster, keyspace: str) -> Session:
    """In a thread: the driver waits here for the loop."""
    session = cluster.connect(keyspace, wait_for_all_pools=False)
    cluster.refresh_keyspace_metadata(keyspace)
    return session


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def told(error: BaseException) -> BaseException:
    """The error for the caller: `Unavailable` when it is about the cluster's state, the driver's own otherwise."""
    if isinstance(error, Unavailable) or not _about_the_cluster(error):
        return error
    if isinstance(error, (OperationTimedOut, Timeout)):
        return Unavailable("the database did not answer in time")
    return Unavailable("the database cannot answer now")


def _about_the_cluster(error: BaseException) -> bool:
    if isinstance(error, RequestValidationException):  # the statement is wrong, or nobody knows it any more
        return isinstance(error, PreparedQueryNotFound)
    return isinstance(
        error,
        (
            AuthenticationFailed,
            ConnectionException,
            ErrorMessage,
            NoHostAvailable,
            OperationTimedOut,
            OSError,
            RequestExecutionException,
        ),
    )
