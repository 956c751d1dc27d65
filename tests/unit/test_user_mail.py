"""Mails: over SMTP to a real server, into a folder, and again when they were not taken."""

from __future__ import annotations

import asyncio
import re
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rookery.events.v1.user_events_pb2 import UserRegistered

from mesh.errors import Unavailable
from services.user import mail_transport
from services.user.mail_texts import message
from services.user.mail_transport import Folder, Transport, UndeliverableError, check_url, open_transport
from services.user.mailer import Mailer, hash_of
from services.user.store.base import NewPerson
from services.user.store.base import Session as SignedIn
from services.user.store.mails import Letter, SqlMailStore
from services.user.store.sql import SqlUserStore
from services.user.store.waiting_mails import CHANGED, RESET, VERIFY
from tests.stores.sqlite_stores import sqlite

NOW = 1_800_000_000_000
HOUR = 3_600_000
SENDER = "Rookery <no-reply@rookery.example>"
TOKEN = "t" * 43


def letter(kind: str = VERIFY, email: str = "ada@example.org", holder: str = "") -> Letter:
    return Letter(7, kind, "ada", email, b"hash", holder, NOW, 1)


def mail(email: str = "ada@example.org") -> EmailMessage:
    return message(letter(email=email), TOKEN, SENDER, NOW)


@dataclass
class Inbox:
    """What a mail server does with what it gets."""

    answers: list[str] = field(default_factory=list)
    """To the next RCPT commands; 250 afterwards."""
    mails: list[tuple[Envelope, bool, object]] = field(default_factory=list)
    """With whether the connection was encrypted, and who had logged in."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.mails.append((envelope, session.ssl is not None, session.auth_data))
        return "250 OK"


@asynccontextmanager
async def server(inbox: Inbox, **more: object) -> AsyncIterator[int]:
    """A mail server on this machine; gives its port."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: SMTP(inbox, hostname="mail.example.org", loop=loop, **more), "127.0.0.1", 0
    )
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def test_a_mail_is_handed_over_as_it_is() -> None:
    inbox = Inbox()
    async with server(inbox) as port:
        await open_transport(f"smtp://127.0.0.1:{port}").deliver(mail())
    [(envelope, encrypted, _)] = inbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@rookery.example", ["ada@example.org"])
    assert not encrypted
    got = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(got, EmailMessage)
    assert got.get_content_type() == "text/plain"
    assert f"\n{TOKEN}\n" in got.get_content().replace("\r\n", "\n")
    assert (got["From"], got["To"], got["Auto-Submitted"]) == (SENDER, "ada@example.org", "auto-generated")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that its own key signed, and that key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*pem))
    return paths


async def test_it_logs_in_and_encrypts_where_the_server_can(certificate: tuple[Path, Path]) -> None:
    def who(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object) -> AuthResult:
        right = given == LoginPassword(b"rook", b"p@ss:/word")
        return AuthResult(success=right, auth_data="rook" if right else None, handled=False)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    inbox = Inbox()
    async with server(inbox, tls_context=context, authenticator=who, auth_required=True) as port:
        await open_transport(f"smtp://rook:p%40ss%3A%2Fword@127.0.0.1:{port}").deliver(mail())
        with pytest.raises(Unavailable) as refused:
            await open_transport(f"smtp://rook:wrong@127.0.0.1:{port}").deliver(mail())
    assert "wrong" not in str(refused.value)
    assert [(encrypted, user) for _, encrypted, user in inbox.mails] == [(True, "rook")]


async def test_a_server_that_nobody_vouches_for_gets_no_mail_over_smtps(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    inbox = Inbox()
    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        with pytest.raises(Unavailable):
            await open_transport(f"smtps://127.0.0.1:{port}").deliver(mail())
    assert inbox.mails == []


async def test_a_password_never_goes_to_another_machine_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server offers no encryption, and is not on loopback by name, so far as the transport can tell."""
    monkeypatch.setattr(mail_transport, "_LOOPBACK", ())
    inbox = Inbox()
    async with server(inbox, auth_require_tls=False) as port:
        transport = open_transport(f"smtp://rook:password@127.0.0.1:{port}")
        with pytest.raises(Unavailable):
            await transport.deliver(mail())
    assert inbox.mails == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [("550 no such mailbox", UndeliverableError), ("450 busy", Unavailable), ("421 closing", Unavailable)],
)
async def test_a_refusal_for_now_is_told_from_one_for_ever(answer: str, error: type[Exception]) -> None:
    inbox = Inbox([answer])
    async with server(inbox) as port:
        with pytest.raises(error):
            await open_transport(f"smtp://127.0.0.1:{port}").deliver(mail())
    assert inbox.mails == []


async def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_transport, "_TIMEOUT_S", 0.05)
    listening = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        with pytest.raises(Unavailable):
            await open_transport(f"smtp://127.0.0.1:{port}").deliver(mail())
    with pytest.raises(Unavailable):
        await open_transport(f"smtp://127.0.0.1:{port}").deliver(mail())


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "smtp://",
        "smtp://host:0",
        "smtp://host:x",
        "smtp://user@host",
        "smtp://:hidden@host",
        "smtp://host/path",
        "file://relative",
        "mail.example.org",
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|a mail server|a folder") as refused:
        check_url(url)
    assert "hidden" not in str(refused.value)


async def test_a_folder_keeps_the_newest_for_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_transport, "_KEPT", 3)
    monkeypatch.setattr(mail_transport, "_TIDY_EVERY", 2)
    folder = Folder(tmp_path / "mail")
    for number in range(7):
        await folder.deliver(mail(f"n{number}@example.org"))
    kept = sorted((tmp_path / "mail").iterdir())
    assert len(kept) == 3
    assert b"To: n6@example.org" in b"".join(path.read_bytes() for path in kept)
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert stat.S_IMODE((tmp_path / "mail").stat().st_mode) == 0o700
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unavailable):
        await Folder(tmp_path / "file").deliver(mail())


@pytest.mark.parametrize(
    ("kind", "holder", "subject", "has_token"),
    [
        (VERIFY, "", "Rookery: Prove your e-mail address", True),
        (VERIFY, "bob", "Rookery: You have an account already", False),
        (RESET, "", "Rookery: Choose another password", True),
        (CHANGED, "", "Rookery: Your password was changed", False),
    ],
)
def test_each_kind_says_what_it_is_about(kind: str, holder: str, subject: str, has_token: bool) -> None:
    made = message(letter(kind, holder=holder), TOKEN, SENDER, NOW)
    text = made.get_content()
    assert made["Subject"] == subject
    assert f"@{holder or 'ada'}" in text
    assert (TOKEN in text) == has_token
    assert "{" not in text.replace('{"token', "")


def test_an_address_adds_no_header() -> None:
    with pytest.raises(ValueError):
        message(letter(email="a@example.org\r\nBcc: b@example.org"), TOKEN, SENDER, NOW)


# --- the worker


class Scripted:
    """A transport that does as it is told, then as the next one does."""

    def __init__(self, following: Transport, *errors: Exception) -> None:
        self.errors = list(errors)
        self.following = following
        self.tried: list[EmailMessage] = []

    async def deliver(self, sent: EmailMessage) -> None:
        self.tried.append(sent)
        if self.errors:
            raise self.errors.pop(0)
        await self.following.deliver(sent)


@dataclass
class Office:
    """A mailer on a real database."""

    mailer: Mailer
    store: SqlMailStore
    transport: Scripted
    folder: Path
    now: int = NOW

    def sent(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("*.eml"))]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """With one person whose address is to be proven."""
    async with sqlite("user", tmp_path) as sql:
        users, store = SqlUserStore(sql.db, sql.outbox), SqlMailStore(sql.db)
        person = NewPerson(7, "ada", "ada@example.org", "hash", "Ada")
        await users.create(person, SignedIn(b"s" * 16, 7, b"h" * 32, NOW, NOW * 2), UserRegistered(user_id=7))
        transport = Scripted(Folder(tmp_path / "mail"))
        made: Office
        mailer = Mailer(store, transport, SENDER, lambda: made.now)
        made = Office(mailer, store, transport, tmp_path / "mail")
        yield made


def token_in(text: str) -> str:
    [token] = re.findall(r"^[\w-]{43}$", text, re.MULTILINE)
    return str(token)


async def test_a_mail_waits_longer_each_time_and_its_last_token_is_good(office: Office) -> None:
    office.transport.errors = [Unavailable("away")] * 3
    waits = []
    while not office.sent():
        if await office.mailer.send_some():
            waits.append(0)
        else:
            office.now += 1_000
            waits[-1] += 1
    assert waits == [5, 10, 20, 0]
    assert not await office.mailer.send_some()
    [text] = office.sent()
    assert await office.store.verify(hash_of(token_in(text)), office.now) == 7


@pytest.mark.parametrize("error", [UndeliverableError(), ValueError("no address"), RuntimeError("a defect")])
async def test_a_mail_that_will_never_go_is_given_up(office: Office, error: Exception) -> None:
    office.transport.errors = [error]
    assert await office.mailer.send_some()
    office.now += HOUR
    assert not await office.mailer.send_some()
    assert office.sent() == []


async def test_a_mail_that_nobody_needs_any_more_is_given_up(office: Office) -> None:
    await office.store.done(7, VERIFY)
    await office.store.request_reset(b"r", "ada", NOW)
    office.transport.errors = [Unavailable("away")] * 1000
    while office.now < NOW + 3 * HOUR:
        await office.mailer.send_some()
        office.now += 30_000
    assert 8 < len(office.transport.tried) < 20, "it was tried for an hour"
    office.transport.errors = []
    assert not await office.mailer.send_some()
    assert office.sent() == []


async def test_a_mail_of_a_process_that_died_is_sent_by_another(office: Office) -> None:
    [taken] = await office.store.claim(
        [b"a token nobody has"], now_ms=NOW, until_ms=NOW + 120_000, lifetimes_ms={VERIFY: HOUR}
    )
    assert taken.user_id == 7
    assert not await office.mailer.send_some()
    office.now += 120_000
    assert await office.mailer.send_some()
    assert len(office.sent()) == 1
