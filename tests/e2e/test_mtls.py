"""A whole mesh whose processes show each other certificates, behind an edge with TLS."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from grpc_health.v1 import health_pb2

from cli.certificates import Authority
from cli.edge import EdgeConfig, operations
from cli.graphs import scale_free
from cli.probe import Probe, admin, ask
from cli.profile import EDGE, IDENTITIES, OPERATOR, SERVICES
from cli.seed import Sample, seeder
from cli.state import running_state
from cli.supervisor import Mesh, running_mesh
from mesh.tls import read, server_name
from services.ratelimit.contract import SHOULD_RATE_LIMIT
from tests.called import watched
from tests.certificates import Public, public_certificate
from tests.e2e.harness import Account, eventually, register
from tests.wiring.test_callers import listed_callers

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = "This caller may not make this call."


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Public:
    """The edge's certificate."""
    return public_certificate(tmp_path_factory.mktemp("public"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(public: Public) -> AsyncIterator[Mesh]:
    """The mesh of this file."""
    settings = {
        "ROOKERY_MTLS": "true",
        "ROOKERY_EDGE_TLS_CERT": str(public.certificate),
        "ROOKERY_EDGE_TLS_KEY": str(public.key),
    }
    with tempfile.TemporaryDirectory(prefix="mtls-", dir="/tmp") as folder:
        async with running_mesh(Path(folder), env=settings) as running:
            yield running


@pytest.fixture(scope="module")
def trusted(public: Public) -> ssl.SSLContext:
    """What clients of this file trust: the edge's certificate, and the one that takes its place."""
    return public.trusting()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(mesh: Mesh, trusted: ssl.SSLContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its edge."""
    async with httpx.AsyncClient(base_url=mesh.url, verify=trusted, timeout=20, trust_env=False) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(edge: httpx.AsyncClient) -> Account:
    """Somebody who follows somebody who has posted."""
    reader, author = await register(edge), await register(edge)
    await reader.follow(author)
    tweet_id = await author.tweet("through certificates")
    await reader.home_is([tweet_id])
    return reader


def keys(mesh: Mesh) -> Authority:
    """The mesh's own."""
    return Authority(mesh.data / "keys")


def channel(mesh: Mesh, service: str, caller: Path | None) -> grpc.aio.Channel:
    """To a service, with the certificate in a folder, or with none and the right authority."""
    options: list[tuple[str, str | int]] = [("grpc.use_local_subchannel_pool", 1)]
    material = read(caller or keys(mesh).folder / OPERATOR)
    options.append(("grpc.ssl_target_name_override", server_name(service, material.domain)))
    shown = (material.key, material.chain) if caller else (None, None)
    return grpc.aio.secure_channel(
        mesh.target(service), grpc.ssl_channel_credentials(material.authority, *shown), options=options
    )


async def code_of(to: grpc.aio.Channel, path: str, streams: bool, viewer: str = "") -> tuple[grpc.StatusCode, str]:
    """Status and text of a call with an empty request."""
    metadata = (("x-user-id", viewer),) if viewer else ()
    try:
        if streams:
            async for _ in to.unary_stream(path)(b"", timeout=10, metadata=metadata):
                pass
        else:
            await to.unary_unary(path)(b"", timeout=10, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def serial_shown(mesh: Mesh, service: str) -> int:
    """The number of the certificate that a service shows now."""
    folder = keys(mesh).folder / OPERATOR
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    host, _, port = mesh.target(service).removeprefix("ipv4:").rpartition(":")
    with (
        socket.create_connection((host, int(port)), 5) as plain,
        context.wrap_socket(plain, server_hostname=server_name(service, "rookery")) as wrapped,
    ):
        certificate = wrapped.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


async def test_people_notice_nothing(reader: Account, mesh: Mesh) -> None:
    """Accounts, follows, posts, fan-out and timelines; every service listens on a port, with a certificate."""
    assert mesh.url.startswith("https://")
    assert len(await reader.home()) == 1
    state = running_state(mesh.data)
    for service in SERVICES:
        process = state["processes"][service]
        assert process["environment"]["ROOKERY_LISTEN"].startswith("127.0.0.1:")
        assert await ask(Probe("grpc", process["target"], Path(process["identity"]), service), 5) is None


async def test_every_rpc_serves_those_it_lists_and_refuses_all_others(mesh: Mesh) -> None:
    """Each RPC of each service, with each certificate of the mesh: refused exactly if the contract does not name it.

    In the name of somebody who does not exist, so that nothing is changed.
    """
    # The rate limit service's contract is Envoy's, and knows no option of ours.
    listed = {**listed_callers(), "ratelimit": {(SHOULD_RATE_LIMIT, False): frozenset({EDGE})}}
    checked = 0
    for caller in IDENTITIES:
        for service in SERVICES:
            async with channel(mesh, service, keys(mesh).folder / caller) as to:
                for (path, streams), callers in listed[service].items():
                    code, text = await code_of(to, path, streams, viewer=str(2**62))
                    refused = code is grpc.StatusCode.PERMISSION_DENIED and text == REFUSED
                    assert refused is (caller not in callers), (caller, path, code, text)
                    checked += 1
    assert checked > 400


async def test_nobody_gets_in_without_a_certificate_of_the_meshs_authority(mesh: Mesh, tmp_path: Path) -> None:
    path = "/rookery.user.v1.UserMeshService/BatchGetUsers"
    foreign = Authority(tmp_path / "foreign")
    foreign.create()
    foreign.issue("tweet")
    (foreign.folder / "tweet" / "ca.crt").unlink()
    (foreign.folder / "tweet" / "ca.crt").write_bytes((keys(mesh).folder / "ca.crt").read_bytes())
    for caller in (None, foreign.folder / "tweet"):
        async with channel(mesh, "user", caller) as to:
            code, _ = await code_of(to, path, False, viewer="7")
            assert code is grpc.StatusCode.UNAVAILABLE
    async with grpc.aio.insecure_channel(mesh.target("user")) as plain:
        code, _ = await code_of(plain, path, False, viewer="7")
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_health_is_answered_and_reflection_is_off(mesh: Mesh) -> None:
    async with channel(mesh, "tweet", keys(mesh).folder / "fanout") as to:
        request = health_pb2.HealthCheckRequest().SerializeToString()
        answer: bytes = await to.unary_unary("/grpc.health.v1.Health/Check")(request, timeout=10)
        assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING
        code, _ = await code_of(to, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", False)
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_certificates_are_replaced_under_load_and_no_request_fails(
    mesh: Mesh, reader: Account, edge: httpx.AsyncClient, public: Public, trusted: ssl.SSLContext
) -> None:
    """Inside, all of them; outside, the edge's. Nothing is started again."""
    before = {name: mesh.pid(name) for name in mesh.names}
    shown = {service: serial_shown(mesh, service) for service in SERVICES}
    done = asyncio.Event()
    answers: list[int] = []

    async def read_on() -> None:
        path = f"/2/users/{reader.id}/timelines/reverse_chronological"
        while not done.is_set():
            # A connection of its own each time: it begins with a handshake.
            async with httpx.AsyncClient(base_url=mesh.url, verify=trusted, timeout=20, trust_env=False) as client:
                answer = await client.get(path, headers={"authorization": f"Bearer {reader.token}"})
            answers.append(answer.status_code)
            answer = await reader.request("POST", "/2/tweets", json={"text": f"number {len(answers)}"})
            answers.append(answer.status_code)

    reading = asyncio.create_task(read_on())
    authority = keys(mesh)
    for name in IDENTITIES:
        authority.issue(name)
    for service in SERVICES:
        assert await asyncio.to_thread(serial_shown, mesh, service) != shown[service]

    old, new = public.serial, public_certificate(public.certificate.parent / "new")
    trusted.load_verify_locations(new.certificate)
    public.take(new)

    async def edge_shows_the_new() -> None:
        certificate = await asyncio.to_thread(ssl.get_server_certificate, (edge.base_url.host, edge.base_url.port or 0))
        assert x509.load_pem_x509_certificate(certificate.encode()).serial_number == public.serial != old

    await eventually(edge_shows_the_new)

    async def edge_uses_the_new_inside() -> None:
        process = running_state(mesh.data)["processes"]["envoy"]
        _, text = await admin(process["target"], "GET", "/certs")
        serial = x509.load_pem_x509_certificate((authority.folder / "edge" / "tls.crt").read_bytes()).serial_number
        assert f"{serial:x}" in text

    await eventually(edge_uses_the_new_inside)
    seen = len(answers)

    async def went_on() -> None:
        assert len(answers) > seen + 10 or reading.done()

    await eventually(went_on)
    done.set()
    await reading
    assert set(answers) == {200, 201}
    assert {name: mesh.pid(name) for name in mesh.names} == before


async def test_the_operators_tools_have_a_certificate_of_their_own(mesh: Mesh) -> None:
    """`rookery seed` registers, follows and posts by gRPC, and learns who follows whom."""
    sample = Sample(scale_free(3, links=1, chance=random.Random(7)), tweets=2, seed=7)
    async with seeder(running_state(mesh.data), concurrency=4) as operator:
        made = await operator.run(sample)
        assert made.registered == 3 and made.followed
        again = await operator.run(sample)
        assert (again.registered, again.followed) == (0, 0)


async def test_the_edge_speaks_no_plain_http(mesh: Mesh) -> None:
    async with watched(mesh.url.replace("https://", "http://")) as client:
        with suppress(httpx.TransportError):
            pytest.fail(f"answered {(await client.get('/healthz')).status_code}")


async def test_the_contracts_name_every_operation_of_the_edge() -> None:
    """So that nothing works without certificates that would be refused with them."""
    descriptors = EdgeConfig(targets={}, admin_port=0).descriptors.read_bytes()
    listed = {path: callers for found in listed_callers().values() for (path, _), callers in found.items()}
    assert {operation.rpc for operation in operations(descriptors) if "edge" not in listed[operation.rpc]} == set()
