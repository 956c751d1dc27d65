"""A real Envoy in front of toy gRPC services, for the edge's tests.

The toys stand where the real services do: same sockets, same wire; they answer what a test says and remember what
reached them. Nothing of the edge is replaced.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from joserfc import jwt
from joserfc.jwk import OKPKey
from rookery.user.v1 import user_service_pb2

from cli.edge import EdgeConfig, envoy_path, render_edge
from cli.edge_secrets import write_secrets

CLUSTERS = ("graph", "moderation", "timeline", "tweet", "user")
JWKS_RPC = "/rookery.user.v1.AuthService/GetJwks"
START_S = 20.0
"""How long an Envoy may take until it listens; it takes 0.3 s on an idle machine."""


@dataclass(frozen=True)
class Call:
    """What reached a service."""

    rpc: str
    metadata: tuple[tuple[str, str | bytes], ...]
    request: bytes
    time_remaining: float | None

    def values(self, key: str) -> list[str | bytes]:
        """Every value of one metadata key."""
        return [value for name, value in self.metadata if name == key]


Context = grpc.aio.ServicerContext[bytes, bytes]
Answer = Callable[[Call, Context], Awaitable[bytes]]


def answer(message: Message, *, initial: Sequence[tuple[str, str]] = ()) -> Answer:
    """Answers with `message`, after initial metadata."""

    async def handle(call: Call, context: Context) -> bytes:
        if initial:
            await context.send_initial_metadata(tuple(initial))
        return message.SerializeToString()

    return handle


def failure(
    code: grpc.StatusCode,
    details: str = "",
    trailing: Sequence[tuple[str, str | bytes]] = (),
    *,
    initial: Sequence[tuple[str, str]] = (),
) -> Answer:
    """Fails with a status, after initial metadata where given (so that the answer is not trailers only)."""

    async def handle(call: Call, context: Context) -> bytes:
        if initial:
            await context.send_initial_metadata(tuple(initial))
        await context.abort(code, details, tuple(trailing))
        raise AssertionError("abort returned")

    return handle


class Toys(grpc.GenericRpcHandler):
    """All services behind one edge: one server a cluster, each on its own socket."""

    def __init__(self, folder: Path, keys: Sequence[OKPKey]) -> None:
        self.folder = folder
        self.keys = list(keys)
        self.calls: list[Call] = []
        self.answers: dict[str, Answer] = {}
        self._servers: dict[str, grpc.aio.Server] = {}

    def target(self, cluster: str) -> str:
        """gRPC target of one service."""
        return f"unix://{self.folder / cluster}.sock"

    async def start(self, *clusters: str) -> None:
        """Starts services; all when none is named."""
        for cluster in clusters or CLUSTERS:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((self,))
            health = health_aio.HealthServicer()
            await health.set("", health_pb2.HealthCheckResponse.SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(health, server)
            server.add_insecure_port(self.target(cluster))
            await server.start()
            self._servers[cluster] = server

    async def stop(self, *clusters: str) -> None:
        """Stops services at once; all when none is named."""
        for cluster in clusters or tuple(self._servers):
            await self._servers.pop(cluster).stop(None)

    def reset(self) -> None:
        """Forgets calls and answers."""
        self.calls.clear()
        self.answers.clear()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """See grpc.GenericRpcHandler: takes every RPC but health's."""
        rpc = handler_call_details.method
        if rpc.startswith("/grpc.health."):
            return None

        async def handle(request: bytes, context: Context) -> bytes:
            metadata = tuple((key, value) for key, value in context.invocation_metadata() or ())
            call = Call(rpc, metadata, request, context.time_remaining())
            if rpc == JWKS_RPC:
                return self._jwks().SerializeToString()
            self.calls.append(call)
            scripted = self.answers.get(rpc)
            return b"" if scripted is None else await scripted(call, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _jwks(self) -> user_service_pb2.GetJwksResponse:
        keys = [key.as_dict(private=False) for key in self.keys]
        return user_service_pb2.GetJwksResponse(
            keys=[
                user_service_pb2.Jwk(kty="OKP", crv="Ed25519", alg="EdDSA", use="sig", kid=str(k["kid"]), x=str(k["x"]))
                for k in keys
            ]
        )


@dataclass
class Tokens:
    """Makes access tokens, good and bad ones."""

    key: OKPKey = field(default_factory=lambda: new_key("k1"))

    def claims(self, subject: str = "7", **changes: object) -> dict[str, object]:
        """A good token's claims, with changes; None leaves one out."""
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": "rookery",
            "aud": "rookery-api",
            "sub": subject,
            "iat": now,
            "exp": now + 900,
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def make(self, subject: str = "7", *, key: OKPKey | None = None, kid: object = "k1", **changes: object) -> str:
        """A token in compact form, EdDSA."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # RFC 9864 renames EdDSA; Envoy knows the old name only
            return jwt.encode(
                {"alg": "EdDSA", "kid": kid}, self.claims(subject, **changes), key or self.key, algorithms=["EdDSA"]
            )

    def bearer(self, subject: str = "7") -> dict[str, str]:
        """The header that makes `subject` the caller."""
        return {"authorization": f"Bearer {self.make(subject)}"}


def new_key(kid: str) -> OKPKey:
    """An Ed25519 key."""
    return OKPKey.generate_key("Ed25519", parameters={"kid": kid})


def segment(value: object) -> str:
    """One part of a token, encoded; bytes as they are, the rest as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class Edge:
    """A running Envoy."""

    url: str
    host: str
    port: int
    admin: str
    access_log: Path
    process: asyncio.subprocess.Process

    async def counter(self, name: str) -> int:
        """A counter or gauge of Envoy's."""
        async with httpx.AsyncClient(verify=False) as client:
            text = (await client.get(f"{self.admin}/stats", params={"filter": f"^{name}$"})).text
        return int(text.split(":")[1]) if text.strip() else 0

    async def until(self, name: str, value: int) -> None:
        """Waits until a counter or gauge has this value. Raises TimeoutError after START_S."""
        deadline = time.monotonic() + START_S
        while await self.counter(name) != value:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is not {value}")
            await asyncio.sleep(0.02)  # Envoy's admin has nothing to wait on

    async def logged(self, text: str) -> str:
        """The access log, once `text` is in it. Raises TimeoutError after START_S."""
        deadline = time.monotonic() + START_S
        while text not in (written := await asyncio.to_thread(self.access_log.read_text)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text} was not logged")
            await asyncio.sleep(0.02)
        return written


@asynccontextmanager
async def running_edge(config: EdgeConfig, folder: Path, *, log_level: str = "warning") -> AsyncIterator[Edge]:
    """Starts Envoy with `config` (whose ports are 0), waits until it listens, and ends it by its pid.

    Raises:
        RuntimeError: Envoy ended before it listened; the text is its log.
    """
    rendered, admin_file, log = folder / "edge.yaml", folder / "admin.txt", folder / "envoy.log"
    if config.secrets:
        public = (config.certificate, config.key) if config.certificate and config.key else None
        write_secrets(config.secrets, public=public, identity=config.identity)
    rendered.write_text(render_edge(config))
    admin_file.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(str(envoy_path()), "-c", str(rendered), "--use-dynamic-base-id", "--disable-hot-restart"),
        *("--concurrency", "2", "--admin-address-path", str(admin_file), "--log-path", str(log), "-l", log_level),
        *("--file-flush-interval-msec", "50"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        admin, address = await asyncio.wait_for(_addresses(process, admin_file, log), START_S)
        host, _, port = address.rpartition(":")
        access_log = config.access_log or folder / "access.log"
        scheme = "https" if config.certificate else "http"
        yield Edge(f"{scheme}://{address}", host, int(port), admin, access_log, process)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


async def _addresses(process: asyncio.subprocess.Process, admin_file: Path, log: Path) -> tuple[str, str]:
    async with httpx.AsyncClient(timeout=2, verify=False) as client:
        while True:
            if process.returncode is not None:
                raise RuntimeError(_read(log) or "Envoy left no log")
            if written := _read(admin_file):
                admin = f"http://{written}"
                try:
                    if (await client.get(f"{admin}/ready")).status_code == 200:
                        listeners = (await client.get(f"{admin}/listeners", params={"format": "json"})).json()
                        for listener in listeners["listener_statuses"]:
                            if listener["name"] == "edge":
                                address = listener["local_address"]["socket_address"]
                                return admin, f"{address['address']}:{address['port_value']}"
                except httpx.TransportError:
                    pass  # not open yet
            await asyncio.sleep(0.02)


async def keys_fetched(edge: Edge) -> None:
    """Waits until Envoy has the keys."""
    await edge.until("http.edge.jwt_authn.jwks_fetch_success", 1)


def check_problem(response: httpx.Response, status: int) -> dict[str, object]:
    """Asserts that an answer is a problem with that status, and that it names nothing internal; the document."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.get("server") == "rookery"
    document = response.json()
    assert isinstance(document, dict)
    assert document.keys() == {"title", "detail", "type", "status", "errors"}, document
    assert document["status"] == status
    assert document["title"] and document["detail"] and document["type"]
    assert document["errors"] and all(error["message"] for error in document["errors"])
    check_nothing_internal(response.headers, response.text)
    return document


def check_nothing_internal(headers: Mapping[str, str], text: str) -> None:
    """Asserts that neither headers nor text name Envoy, gRPC, sockets, or services."""
    names = {name.lower() for name in headers}
    allowed = {
        *("x-request-id", "x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"),
        *("x-content-type-options", "x-frame-options"),
    }
    leaked = {name for name in names if name.startswith(("x-", "grpc-", "trailer"))} - allowed
    assert not leaked, leaked
    everything = (text + "\n".join(f"{name}: {value}" for name, value in headers.items())).lower()
    for word in ("envoy", ".sock", "/tmp", "upstream", "rookery.", "meshservice", "traceback", "cluster", "lua"):
        assert word not in everything, (word, everything)
