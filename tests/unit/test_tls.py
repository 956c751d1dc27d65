"""Certificates inside the mesh: who may call what, and that they are replaced while processes run."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from cli.certificates import Authority
from cli.errors import KeyMaterialError
from cli.keys import keys
from cli.profile import IDENTITIES
from mesh.client import Destination
from mesh.context import current
from mesh.errors import PermissionDenied, Unavailable
from mesh.interceptors.base import Answer, Rpc
from mesh.server import Server, Service
from mesh.settings import Environment, ServerSettings, SettingError
from mesh.tls import Identity, IdentityError, read
from tests.unit.toys import SERVICE, ToyStub


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority with certificates for three services."""
    made = Authority(tmp_path / "keys")
    made.create()
    for name in ("toy", "friend", "stranger"):
        made.issue(name)
    return made


class Clock:
    """Steady seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def served(authority: Authority, folder: Path, callers: Sequence[str] = ("friend",)) -> AsyncIterator[str]:
    """A toy service with a certificate, whose one RPC `callers` may call; its target."""

    async def answer(request: Message) -> Answer:
        return StringValue(value=str(current().viewer_id))

    listen = f"unix://{folder / 's'}"
    rpc = Rpc(SERVICE, "Answer", StringValue, answer, callers=frozenset(callers))
    settings = ServerSettings(listen, "", "info", 100, 1, identity=authority.folder / "toy")
    server = Server(Service("toy", [rpc]), settings, registry=CollectorRegistry())
    await server.start()
    try:
        yield listen
    finally:
        await server.stop()


async def ask(destination: Destination[ToyStub]) -> str:
    """Calls the one RPC."""
    answer = await destination.call(destination.stub.method("Answer"), StringValue(), timeout_s=10)
    return answer.value


@asynccontextmanager
async def calling(target: str, identity: Identity | None, peer: str = "toy") -> AsyncIterator[Destination[ToyStub]]:
    """A destination that is closed at the end."""
    destination = Destination("toy", target, ToyStub, identity=identity, peer=peer)
    try:
        yield destination
    finally:
        await destination.close()


async def test_a_listed_caller_is_served_and_another_is_refused(authority: Authority, tmp_path: Path) -> None:
    async with served(authority, tmp_path) as target:
        async with calling(target, Identity(authority.folder / "friend")) as friend:
            assert await ask(friend) == "0"
        async with calling(target, Identity(authority.folder / "stranger")) as stranger:
            with pytest.raises(PermissionDenied) as refused:
                await ask(stranger)
        assert refused.value.reason == "CALLER_NOT_LISTED"
        assert "friend" not in refused.value.detail and "toy" not in refused.value.detail


async def test_an_identity_that_is_claimed_by_who_is_not_listed_is_never_read(
    authority: Authority, tmp_path: Path
) -> None:
    """Not even a malformed one: the caller is refused before anything is believed."""
    async with served(authority, tmp_path) as target:
        material = read(authority.folder / "stranger")
        credentials = grpc.ssl_channel_credentials(material.authority, material.key, material.chain)
        options = [("grpc.ssl_target_name_override", "toy.rookery")]
        async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
            for viewer in ("7", "nobody"):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    claimed = (("x-user-id", viewer),)
                    await ToyStub(channel).method("Answer")(StringValue(), metadata=claimed, timeout=10)
                assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_gets_in_without_a_certificate_of_the_authority(authority: Authority, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign")
    foreign.create()
    foreign.issue("friend")
    # The foreign certificate, but with the right authority to trust, so that it is the server who refuses.
    shown = tmp_path / "shown"
    shutil.copytree(foreign.folder / "friend", shown)
    shutil.copy(authority.folder / "ca.crt", shown / "ca.crt")
    authority.issue("late", dt.timedelta(seconds=-1))
    async with served(authority, tmp_path, ("friend", "late")) as target:
        for identity in (None, Identity(shown), Identity(authority.folder / "late")):
            async with calling(target, identity) as stranger:
                with pytest.raises(Unavailable):
                    await ask(stranger)


async def test_a_caller_speaks_to_nobody_but_whom_it_meant(authority: Authority, tmp_path: Path) -> None:
    async with (
        served(authority, tmp_path) as target,
        calling(target, Identity(authority.folder / "friend"), peer="stranger") as misled,
    ):
        with pytest.raises(Unavailable):
            await ask(misled)


async def test_replaced_certificates_are_used_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    """Both ends change to another authority, which makes certificates of before worthless: no call fails."""
    clock = Clock()
    async with served(authority, tmp_path) as target:
        identity = Identity(authority.folder / "friend", clock=clock)
        async with calling(target, identity) as friend:
            assert await ask(friend) == "0"
            before = identity.current()
            other = Authority(tmp_path / "other")
            other.create()
            for name in ("toy", "friend"):
                other.issue(name)
                _replace(authority.folder / name, other.folder / name)
            clock.now += 10
            assert await ask(friend) == "0"
            assert identity.current() is not before
            # A caller who still has the certificate of before, and would trust the server's of now, is a stranger.
            late_identity = _written(tmp_path / "before", before.chain, before.key, identity.current().authority)
            async with calling(target, late_identity) as late:
                with pytest.raises(Unavailable):
                    await ask(late)


def _replace(folder: Path, by: Path) -> None:
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (folder / f"{name}.new").write_bytes((by / name).read_bytes())
        (folder / f"{name}.new").replace(folder / name)


def _written(folder: Path, chain: bytes, key: bytes, authority: bytes) -> Identity:
    folder.mkdir()
    for name, content in (("tls.crt", chain), ("tls.key", key), ("ca.crt", authority)):
        (folder / name).write_bytes(content)
    return Identity(folder)


def test_files_that_do_not_fit_together_leave_the_last_identity_in_use(authority: Authority) -> None:
    clock = Clock()
    folder = authority.folder / "friend"
    identity = Identity(folder, clock=clock)
    before = identity.current()
    (folder / "tls.key").write_bytes((authority.folder / "stranger" / "tls.key").read_bytes())
    clock.now += 10
    assert identity.current() is before
    (folder / "tls.crt").unlink()
    clock.now += 10
    assert identity.current() is before
    authority.issue("friend")
    clock.now += 10
    assert identity.current().chain != before.chain


def test_an_identity_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"tls\.crt"):
        Identity(tmp_path / "nothing")
    (authority.folder / "friend" / "tls.key").write_text("no key")
    with pytest.raises(IdentityError, match="friend"):
        Identity(authority.folder / "friend")


def test_renewal_issues_what_is_missing_or_in_the_second_half_of_its_life(authority: Authority) -> None:
    authority.issue("friend", dt.timedelta(hours=11))
    assert authority.renew(["toy", "friend", "fresh"]) == ["friend", "fresh"]
    assert authority.renew(["toy", "friend", "fresh"]) == []
    with pytest.raises(KeyMaterialError, match="has an authority"):
        authority.create()


def test_keys_are_readable_by_their_owner_only(authority: Authority) -> None:
    for key in (authority.folder / "ca.key", authority.folder / "toy" / "tls.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    assert authority.folder.stat().st_mode & 0o777 == 0o700


def test_the_command_makes_lists_and_replaces_certificates(tmp_path: Path) -> None:
    runner, data = CliRunner(), ["--data", str(tmp_path / "data")]
    made = runner.invoke(keys, ["init", *data, "--hours", "2"])
    assert made.exit_code == 0, made.output
    before = {name: read(tmp_path / "data" / "keys" / name) for name in IDENTITIES}
    assert all(name in made.output for name in IDENTITIES)
    again = runner.invoke(keys, ["init", *data])
    assert again.exit_code == 1 and "has an authority" in again.output
    assert runner.invoke(keys, ["rotate", *data]).exit_code == 0
    after = {name: read(tmp_path / "data" / "keys" / name) for name in IDENTITIES}
    assert all(after[name].chain != before[name].chain and after[name].key != before[name].key for name in IDENTITIES)
    assert all(after[name].authority == before[name].authority for name in IDENTITIES)
    listed = runner.invoke(keys, ["list", *data])
    assert listed.exit_code == 0 and listed.output.count("until") == len(IDENTITIES)
    nothing = runner.invoke(keys, ["rotate", "--data", str(tmp_path / "other")])
    assert nothing.exit_code == 1 and "there is no authority" in nothing.output


@pytest.mark.parametrize("listen", ["0.0.0.0:50051", "10.0.0.1:50051", "[::]:50051", "user.internal:50051"])
def test_a_service_that_others_could_reach_does_not_start_without_certificates(listen: str) -> None:
    with pytest.raises(SettingError, match="ROOKERY_TLS_FOLDER"):
        ServerSettings.read(Environment({"ROOKERY_LISTEN": listen}))
    read_again = ServerSettings.read(Environment({"ROOKERY_LISTEN": listen, "ROOKERY_TLS_FOLDER": "/keys"}))
    assert read_again.identity == Path("/keys")
