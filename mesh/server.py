"""Server bootstrap: what every service's process does besides its own work."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import grpc
import structlog
import uvloop
from google.api import annotations_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from rookery.options.v1 import access_pb2

from mesh.context import current
from mesh.health import HEALTH_CHECK, Health
from mesh.interceptors.access import Access
from mesh.interceptors.base import Answer, Context, Handler, Interceptor, Next, Priority, Rpc, Streamer
from mesh.interceptors.callers import Callers
from mesh.interceptors.deadline import Deadline
from mesh.interceptors.errors import Errors
from mesh.interceptors.overload import Overload
from mesh.interceptors.telemetry import Telemetry
from mesh.interceptors.validation import Validation
from mesh.interceptors.viewer import Viewer
from mesh.redaction import redact
from mesh.sessions import EndedSessions
from mesh.settings import Environment, ServerSettings, SettingError
from mesh.startup import settle
from mesh.tasks import Tasks
from mesh.tls import Identity, IdentityError, server_credentials

if TYPE_CHECKING:
    from mesh.unary import Unary, UnaryServer

_log = structlog.get_logger(__name__)
_ANSWER_S = 15.0  # as long as the edge waits for an answer
_STREAM_S = 600.0  # 100 MB at 170 kB/s; the edge gives a stream as long (cli/edge.py)
EDGE = "edge"
"""Name of the edge among callers."""
_CALLERS = "rookery.options.v1.callers"
# A certificate is looked at once, when a connection begins: so none outlives its certificate by more than this.
_CONNECTION_MS = 600_000
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # two servers on one port would each get half of the calls, silently
    ("grpc.max_receive_message_length", 4 << 20),
    # The edge takes 16 KiB of headers, the path and its query among them, and adds some. What is beyond the first of
    # these gRPC refuses at random, as RESOURCE_EXHAUSTED: its default is 8 KiB.
    ("grpc.max_metadata_size", 32 << 10),
    ("grpc.absolute_max_metadata_size", 32 << 10),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(slots=True)
class Service:
    """One process's work, as its `app.build` puts it together."""

    name: str
    """Such as `graph`; it names logs and metrics."""
    rpcs: Sequence[Rpc]
    """What it answers."""
    unary: Mapping[str, Unary] = field(default_factory=dict)
    """What it answers by mesh.unary, by `/package.Service/Method`; a service has either these or `rpcs`."""
    callers: frozenset[str] = frozenset()
    """Who may call those where callers show certificates."""
    ended: EndedSessions | None = None
    """Sessions of which no token is taken; kept up with in the background. A service with public RPCs must have it."""
    background: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """Coroutines that run for as long as the service does, restarted when they fail."""
    start: Sequence[Callable[[], Awaitable[None]]] = ()
    """Awaited in order before the service is ready."""
    stop: Sequence[Callable[[], Awaitable[None]]] = ()
    """Awaited in order after the last call was answered."""


def rpcs(
    service: ServiceDescriptor,
    handlers: Mapping[str, Handler | Streamer],
    *,
    priority: Priority = Priority.NORMAL,
    priorities: Mapping[str, Priority] | None = None,
    callers: Sequence[str] = (),
) -> list[Rpc]:
    """The RPCs of one service, those with a streamed answer as the contract has it.

    Args:
        service: the contract.
        handlers: by method.
        priority: of methods that `priorities` does not name.
        priorities: by method.
        callers: who may call all of it, besides those whom the contract names; for contracts that are not ours.

    Raises ValueError unless `handlers` has exactly the contract's methods.
    """
    if different := handlers.keys() ^ set(service.methods_by_name):
        raise ValueError(f"{service.full_name}: handlers and contract differ: {sorted(different)}")
    return [
        Rpc(
            service=service.full_name,
            method=name,
            request=message_factory.GetMessageClass(method.input_type),
            handler=handlers[name],
            priority=(priorities or {}).get(name, priority),
            streams=method.server_streaming,
            access=_access(method),
            limit_s=_STREAM_S if method.server_streaming else _ANSWER_S,
            callers=frozenset((*callers, *listed_callers(method))),
        )
        for name, method in service.methods_by_name.items()
    ]


def listed_callers(method: MethodDescriptor) -> frozenset[str]:
    """Who may call an RPC by its contract: the edge where it has an http rule, and those whom its option names."""
    options = method.GetOptions()
    try:
        option = descriptor_pool.Default().FindExtensionByName(_CALLERS)
    except KeyError:  # no contract that is loaded uses it
        listed: tuple[str, ...] = ()
    else:
        listed = tuple(options.Extensions[option])  # type: ignore[index]  # its stubs know generated ones only
    return frozenset((*listed, *((EDGE,) if options.HasExtension(annotations_pb2.http) else ())))


def _access(method: MethodDescriptor) -> access_pb2.Access | None:
    options = method.GetOptions()
    return options.Extensions[access_pb2.access] if options.HasExtension(access_pb2.access) else None


def interceptors(
    settings: ServerSettings,
    registry: CollectorRegistry,
    ended: EndedSessions | None = None,
    identity: Identity | None = None,
) -> list[Interceptor]:
    """The one list of interceptors, the outermost first."""
    return [
        Errors(),  # first: whatever the others raise becomes a status
        Telemetry(registry),  # before anything that refuses, so that refused calls are counted
        # Before anything that believes what the call says, and before it takes anybody's place.
        *([Callers(identity.domain, registry)] if identity else []),
        Overload(settings.max_concurrent, registry),  # before anything that costs time
        Viewer(),  # makes the call's context, which everything after reads
        Access(ended),  # needs the context; nobody's request is worth more work than this
        Deadline(),  # needs the context; covers validation and the handler
        Validation(),  # last: a handler sees only valid requests
    ]


def _serialize(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _compose(rpc: Rpc, chain: Sequence[Interceptor]) -> Next:
    handler, streamer = cast(Handler, rpc.handler), cast(Streamer, rpc.handler)

    async def innermost(request: Message, context: Context) -> Answer:
        return await handler(request)

    async def part_by_part(request: Message, context: Context) -> Answer:
        # Interceptors see a call, whatever its answer is like: parts leave here, and what is left to return is nothing.
        begun = False
        async with aclosing(streamer(request)) as parts:  # closed at once also if the caller leaves during a write
            async for part in parts:
                if not begun:
                    await context.send_initial_metadata(tuple(current().response_metadata))
                    begun = True
                await context.write(part)
        return b""

    composed: Next = part_by_part if rpc.streams else innermost
    for interceptor in reversed(chain):
        composed = interceptor.wrap(rpc, composed)
    return composed


def _method(rpc: Rpc, chain: Sequence[Interceptor]) -> grpc.RpcMethodHandler[Message, Answer]:
    composed = _compose(rpc, chain)
    parse = rpc.request.FromString
    if not rpc.streams:
        return grpc.unary_unary_rpc_method_handler(composed, parse, _serialize)

    async def stream(request: Message, context: Context) -> None:
        await composed(request, context)  # which has written all parts

    return grpc.unary_stream_rpc_method_handler(stream, parse, _serialize)


class Server:
    """A gRPC server with health, reflection and metrics, from `start` to `stop`."""

    def __init__(self, service: Service, settings: ServerSettings, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._service = service
        self._settings = settings
        self._tasks = Tasks()
        names = sorted({rpc.service for rpc in service.rpcs} | {path.split("/")[1] for path in service.unary})
        self._health = Health(names)
        self._identity = Identity(settings.identity) if settings.identity else None
        ends = (
            ("grpc.max_connection_age_ms", _CONNECTION_MS),
            ("grpc.max_connection_age_grace_ms", int(_STREAM_S * 1000)),
        )
        self._server: grpc.aio.Server | UnaryServer
        if service.unary:
            from mesh.unary import UnaryServer  # which most services do not need

            handlers = {**service.unary, HEALTH_CHECK: self._health.check}
            self._server = UnaryServer(handlers, settings.max_concurrent, registry)
            return
        self._server = grpc.aio.server(options=(*_OPTIONS, *ends) if self._identity else _OPTIONS)
        chain = interceptors(settings, registry, service.ended, self._identity)
        for name in names:
            methods = {rpc.method: _method(rpc, chain) for rpc in service.rpcs if rpc.service == name}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._server)
        if self._identity is None:  # with certificates, callers know what they are listed for, and others learn nothing
            served = [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(served, self._server)

    async def start(self) -> None:
        """Runs the service's start, listens, and says that it is ready."""
        await self._health.start()
        # Before it listens: a call that came in between would find a service half made, and be answered INTERNAL. One
        # that finds nobody listening is UNAVAILABLE, which callers try again.
        for step in self._service.start:
            await step()
        if self._identity is None:
            self._server.add_insecure_port(self._settings.listen)
        elif isinstance(self._server, grpc.aio.Server):
            self._server.add_secure_port(self._settings.listen, server_credentials(self._identity))
        else:
            self._server.add_secure_port(self._settings.listen, self._identity, self._service.callers)
        await self._server.start()
        if self._service.ended is not None:
            self._tasks.start("ended-sessions", self._service.ended.run)
        for name, work in self._service.background.items():
            self._tasks.start(name, work)
        await self._health.set_ready(True)
        _log.info("ready", service=self._service.name, listen=self._settings.listen)

    async def stop(self) -> None:
        """Not ready; answers what is in flight (`drain_seconds` at most); stops background work; closes."""
        await self._health.set_ready(False)
        _log.info("draining", service=self._service.name)
        await self._server.stop(self._settings.drain_seconds)
        await self._tasks.stop(self._settings.drain_seconds)
        for step in self._service.stop:
            try:
                async with asyncio.timeout(5):
                    await step()
            except Exception as error:  # noqa: BLE001 -- the others must be closed all the same
                _log.warning("failed to close", service=self._service.name, exc_info=error)
        _log.info("stopped", service=self._service.name)


def configure_logs(level: str) -> None:
    """JSON lines on standard output, from structlog and from libraries' logging alike, without secrets."""
    # Without the values of local variables, which are structlog's default: a request and its password are among them.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    numeric = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, tracebacks, redact, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                tracebacks,
                redact,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING), force=True)


async def _serve(build: Callable[[Environment], Awaitable[Service]], env: Environment) -> None:
    settings = ServerSettings.read(env)
    configure_logs(settings.log_level)
    service = await build(env)
    server = Server(service, settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopping.set)
    metrics = None
    if settings.metrics_listen:
        host, _, port = settings.metrics_listen.rpartition(":")
        metrics, _ = start_http_server(int(port), host)
    try:
        await server.start()
        settle()
        await stopping.wait()
    finally:
        await server.stop()
    if metrics is not None:
        metrics.shutdown()


def main(build: Callable[[Environment], Awaitable[Service]]) -> None:
    """Runs a service until SIGTERM. A wrong setting ends the process with status 2 and one line that names it."""
    try:
        uvloop.run(_serve(build, Environment.from_process()))
    except (SettingError, IdentityError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
