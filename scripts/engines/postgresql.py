"""PostgreSQL from Debian's package `postgresql`: one server on loopback, one database a service."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Account, Engine, EngineError, Place, Program, account, run, write_private

OLDEST = 15
"""The oldest major version that tests ran on."""
_DATABASES = {"ROOKERY_USERS_URL": "users", "ROOKERY_GRAPH_URL": "graph", "ROOKERY_TWEETS_URL": "tweets"}
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
    summary = f"Debian's package postgresql, {OLDEST} or newer"

    def install(self, cache: Path) -> None:
        """Nothing is downloaded: the package is the machine's. Raises EngineError when it is not there."""
        del cache
        _programs()
        _account()

    def start(self, place: Place) -> Sequence[Program]:
        """A cluster made by initdb if there is none, with a superuser `rookery` and a random password."""
        programs, whom = _programs(), _account()
        data = place.node(1, whom)
        _reachable(data, whom)
        if not (data / "PG_VERSION").exists():
            _initialise(programs, data, place.secret("password"), whom)
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return [
            Program(
                "postgresql-1",
                # No Unix socket: its folder would have to be writable for the other account.
                (
                    *(str(programs / "postgres"), "-D", str(data), "-p", str(place.port("sql"))),
                    *("-c", "unix_socket_directories=", *settings),
                ),
                account=whom,
                stop=signal.SIGINT,  # "fast": sessions are ended, and it checkpoints
            )
        ]

    def ready(self, place: Place) -> str | None:
        """Whether it accepts connections, as pg_isready sees it."""
        asked = ("-q", "-h", LOOPBACK, "-p", str(place.port("sql")), "-t", "2")
        try:
            run([str(_programs() / "pg_isready"), *asked], what="pg_isready")
        except EngineError:
            return "does not accept connections"
        return None

    def settle(self, place: Place) -> None:
        """Makes the databases."""
        there = _sql(place, "SELECT datname FROM pg_database").split()
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


def _programs() -> Path:
    """The folder of initdb and postgres: the newest packaged one, else wherever PATH has postgres."""
    found = [path for path in _PACKAGED.glob("*/bin") if (path / "postgres").exists() and path.parent.name.isdigit()]
    if found:
        newest = max(found, key=lambda path: int(path.parent.name))
    elif (on_path := shutil.which("postgres")) is not None:
        newest = Path(on_path).resolve().parent
    else:
        raise EngineError("PostgreSQL is not installed: `apt-get install postgresql` as root, then try again")
    version = re.search(r"(\d+)", run([str(newest / "postgres"), "--version"], what="the version of PostgreSQL"))
    if version is None or int(version[1]) < OLDEST:
        raise EngineError(f"PostgreSQL {OLDEST} or newer is needed, and {newest} has an older one")
    return newest


def _account() -> Account | None:
    return account("postgres", "nobody")


def _reachable(data: Path, whom: Account | None) -> None:
    """Raises EngineError when the account cannot come as far as its data."""
    if whom is None:
        return
    for folder in data.parents:
        if not folder.stat().st_mode & 0o001:
            raise EngineError(
                f"PostgreSQL runs as {whom.name}, who may not pass through {folder}: "
                "choose another folder with --folder, or run as somebody who is not root"
            )


def _initialise(programs: Path, data: Path, password: str, whom: Account | None) -> None:
    shutil.rmtree(data)  # what an initdb that was killed left
    data.mkdir(mode=0o700)
    words = data.parent / "password"
    write_private(words, password)
    if whom is not None:
        os.chown(data, whom.uid, whom.gid)
        os.chown(words, whom.uid, whom.gid)
    options = (
        *("--username", _OWNER, "--pwfile", str(words), "--auth", "scram-sha-256"),
        *("--encoding", "UTF8", "--locale", "C.UTF-8"),
    )
    try:
        run([str(programs / "initdb"), "-D", str(data), *options], whom=whom, what="initdb", cwd=data.parent)
    finally:
        words.unlink()


def _server(place: Place) -> str:
    return f"postgresql+asyncpg://{_OWNER}:{place.secret('password')}@{LOOPBACK}:{place.port('sql')}"


def _sql(place: Place, statement: str) -> str:
    """Runs a statement by psql and gives the rows, a line each."""
    return run(
        [
            *(str(_programs() / "psql"), "-h", LOOPBACK, "-p", str(place.port("sql")), "-U", _OWNER),
            *("-d", "postgres", "-Atq", "-v", "ON_ERROR_STOP=1", "-c", statement),
        ],
        what="psql",
        env={"PGPASSWORD": place.secret("password"), "PATH": os.environ.get("PATH", "")},
    )
