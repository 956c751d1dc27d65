"""PostgreSQL 17, from the programs that Maven Central has for tests: one server on loopback, one database a service.

The package has `initdb` and `postgres` and no client; statements go through asyncpg, as Rookery's do. PostgreSQL
refuses to run as root. Started by root it runs as another account, by util-linux's `setpriv`, which keeps one right of
root's: to pass through folders that are root's alone. So a checkout and a cache in root's home will do.
"""

from __future__ import annotations

import asyncio
import io
import lzma
import os
import platform
import pwd
import shutil
import signal
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.engines import maven
from scripts.engines.base import LOOPBACK, Engine, EngineError, Place, Program, run, write_private

_RECIPE = Path(__file__).with_name("postgresql_binaries")
"""A file for each kind of processor."""
_KINDS = {"x86_64": "linux-amd64", "aarch64": "linux-arm64v8"}
_MAJOR = "17"
_ACCOUNTS = ("postgres", "nobody")
_SQL_S = 30.0
_DATABASES = {
    "ROOKERY_USERS_URL": "users",
    "ROOKERY_GRAPH_URL": "graph",
    "ROOKERY_TWEETS_URL": "tweets",
    "ROOKERY_MODERATION_URL": "moderation",
}
_OWNER = "rookery"
_PACKAGED = Path("/usr/lib/postgresql")
# Small enough for a machine that runs everything; `fsync` and `synchronous_commit` stay as they are: on.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "120",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %d ",
}


class PostgreSQL(Engine):
    """One server; there is no second node."""

    name = "postgresql"
    summary = "17.11 from Maven"

    def install(self, cache: Path) -> None:
        """Downloads 15 MB, checks and unpacks them. Raises EngineError for a machine that there is no package for."""
        target = _programs(cache)
        if target.is_dir():
            return
        kind = _KINDS.get(platform.machine())
        wanted = {path: sha256 for path, sha256 in maven.pins(_RECIPE).items() if kind and f"-{kind}-" in path}
        if not wanted:
            raise EngineError(f"there is no package of PostgreSQL for {platform.machine()}")
        packed = target.with_name(f"{target.name}.packed")
        maven.download(wanted, packed, what="PostgreSQL")
        (jar,) = packed.iterdir()
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with zipfile.ZipFile(jar) as files:
            (archive,) = (name for name in files.namelist() if name.endswith(".txz"))
            content = io.BytesIO(lzma.decompress(files.read(archive)))
        with tarfile.open(fileobj=content) as tree:
            tree.extractall(part, filter="data")
        part.replace(target)
        shutil.rmtree(packed)

    def start(self, place: Place) -> Sequence[Program]:
        """A cluster made by initdb if there is none, with a superuser `rookery` and a random password."""
        programs, whom = _programs(place.cache) / "bin", _account()
        data = place.node(1)
        version = data / "PG_VERSION"
        if version.exists() and version.read_text().strip() != _MAJOR:
            raise EngineError(f"its data is of PostgreSQL {version.read_text().strip()}: start it afresh (--fresh)")
        if not version.exists():
            _initialise(programs, data, place.secret("password"), whom)
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return [
            Program(
                "postgresql-1",
                # No Unix socket: its folder would have to be writable for the other account.
                (
                    *(*_as(whom), str(programs / "postgres"), "-D", str(data), "-p", str(place.port("sql"))),
                    *("-c", "unix_socket_directories=", *settings),
                ),
                stop=signal.SIGINT,  # "fast": sessions are ended, and it checkpoints
            )
        ]

    def ready(self, place: Place) -> str | None:
        """Whether it takes statements."""
        try:
            _sql(place, "SELECT 1")
        except EngineError:
            return "does not accept connections"
        return None

    def settle(self, place: Place) -> None:
        """Makes the databases."""
        there = {str(row[0]) for row in _sql(place, "SELECT datname FROM pg_database")}
        for database in _DATABASES.values():
            if database not in there:
                _sql(place, f'CREATE DATABASE "{database}" OWNER {_OWNER}')

    def urls(self, place: Place) -> Mapping[str, str]:
        """A database a service."""
        return {name: f"{_server(place)}/{database}" for name, database in _DATABASES.items()}

    def apart(self, place: Place, name: str) -> Mapping[str, str]:
        """Databases NAME_users and so on."""
        for database in _DATABASES.values():
            _sql(place, f'CREATE DATABASE "{name}_{database}" OWNER {_OWNER}')
        return {variable: f"{_server(place)}/{name}_{database}" for variable, database in _DATABASES.items()}

    def drop(self, place: Place, name: str) -> None:
        """Drops them, whoever is connected."""
        for database in _DATABASES.values():
            _sql(place, f'DROP DATABASE IF EXISTS "{name}_{database}" WITH (FORCE)')


def _programs(cache: Path) -> Path:
    """Where exactly this package is unpacked."""
    return cache / f"postgresql-{maven.edition(_RECIPE)}"


def _account() -> pwd.struct_passwd | None:
    """Whom it runs as when root starts it; None for whoever starts it. Raises EngineError when there is nobody."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EngineError(f"PostgreSQL does not run as root, and there is no account {' or '.join(_ACCOUNTS)}")


def _as(whom: pwd.struct_passwd | None) -> tuple[str, ...]:
    """What goes before a command, so that it runs as an account. It stays the same process."""
    if whom is None:
        return ()
    right = "-all,+dac_override"
    return (
        *("setpriv", f"--reuid={whom.pw_uid}", f"--regid={whom.pw_gid}", "--clear-groups"),
        # access(2), by which initdb looks for postgres, forgets such rights of an account without that bit.
        *("--securebits=+no_setuid_fixup", f"--inh-caps={right}", f"--ambient-caps={right}", "--"),
    )


def _initialise(programs: Path, data: Path, password: str, whom: pwd.struct_passwd | None) -> None:
    shutil.rmtree(data)  # what an initdb that was killed left
    data.mkdir(mode=0o700)
    words = data.parent / "password"
    write_private(words, password)
    if whom is not None:
        os.chown(data, whom.pw_uid, whom.pw_gid)
        os.chown(words, whom.pw_uid, whom.pw_gid)
    options = (
        *("--username", _OWNER, "--pwfile", str(words), "--auth", "scram-sha-256"),
        *("--encoding", "UTF8", "--locale", "C.UTF-8"),
    )
    try:
        run([*_as(whom), str(programs / "initdb"), "-D", str(data), *options], what="initdb", cwd=data.parent)
    finally:
        words.unlink()


def _server(place: Place) -> str:
    return f"postgresql+asyncpg://{_OWNER}:{place.secret('password')}@{LOOPBACK}:{place.port('sql')}"


def _sql(place: Place, statement: str) -> list[Any]:
    """Runs a statement and gives its rows. Raises EngineError."""

    import asyncpg  # not for those who only ask where it runs

    async def ask() -> list[Any]:
        async with asyncio.timeout(_SQL_S):
            connection = await asyncpg.connect(
                host=LOOPBACK,
                port=place.port("sql"),
                user=_OWNER,
                password=place.secret("password"),
                database="postgres",
                ssl=False,
            )
            try:
                return list(await connection.fetch(statement))
            finally:
                await connection.close()

    try:
        with ThreadPoolExecutor(1) as apart:  # whoever calls may have an event loop of its own
            return apart.submit(asyncio.run, ask()).result()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise EngineError(f"PostgreSQL: {error or type(error).__name__}") from error
