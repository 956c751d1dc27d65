"""Where mails go: to a server over SMTP, or into a folder where somebody looks at them. Chosen by a URL.

`smtp://` encrypts when the server can (STARTTLS, RFC 3207), and must when there is a password and the server is another
machine; `smtps://` encrypts from the start (RFC 8314).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from mesh.errors import Unavailable

_TIMEOUT_S = 10.0
_KEPT = 1_000
_TIDY_EVERY = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"smtp": 587, "smtps": 465}


class UndeliverableError(Exception):
    """This mail will never be taken; trying again is of no use."""


class Transport(Protocol):
    """Delivers mails."""

    async def deliver(self, mail: EmailMessage) -> None:
        """Hands a mail over. Raises Undeliverable; Unavailable when trying again later may work."""
        ...


def check_url(url: str) -> None:
    """Raises ValueError, which never shows a password, for a URL that no transport is for."""
    _parsed(url)


def open_transport(url: str) -> Transport:
    """The transport behind `file:///folder` or `smtp[s]://[user:password@]host[:port]`. Raises as check_url."""
    parsed = _parsed(url)
    return Folder(Path(unquote(parsed.path))) if parsed.scheme == "file" else Smtp(parsed)


def _parsed(url: str) -> SplitResult:
    parsed = urlsplit(url)
    if parsed.scheme == "file":
        if not parsed.path.startswith("/") or parsed.netloc:
            raise ValueError("a folder is file:///absolute/path")
    elif parsed.scheme in _PORTS:
        try:
            port = parsed.port
        except ValueError:
            port = 0
        if not parsed.hostname or port == 0 or parsed.path not in ("", "/") or parsed.query:
            raise ValueError("a mail server is smtp://[user:password@]host[:port]")
        if bool(parsed.username) != bool(parsed.password):
            raise ValueError("a mail server has both a user and a password, or neither")
    else:
        raise ValueError("expected smtp://, smtps:// or file://")
    return parsed


class Smtp:
    """A mail server (RFC 5321)."""

    def __init__(self, url: SplitResult) -> None:
        self._host = url.hostname or ""
        self._port = url.port or _PORTS[url.scheme]
        self._user = unquote(url.username) if url.username else None
        self._password = unquote(url.password) if url.password else None
        self._tls_first = url.scheme == "smtps"
        # None: if the server offers it.
        self._starttls = True if self._password and self._host not in _LOOPBACK and not self._tls_first else None
        self._context = ssl.create_default_context() if self._tls_first or self._starttls else None

    async def deliver(self, mail: EmailMessage) -> None:
        """See Transport."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await aiosmtplib.send(
                    mail,
                    hostname=self._host,
                    port=self._port,
                    username=self._user,
                    password=self._password,
                    use_tls=self._tls_first,
                    start_tls=None if self._tls_first else self._starttls,
                    tls_context=self._context,
                    validate_certs=self._tls_first or self._starttls is not None,
                    timeout=_TIMEOUT_S,
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            if all(500 <= one.code < 600 for one in error.recipients):
                raise UndeliverableError from None
            raise Unavailable("The mail server takes nothing for this address now.") from None
        except aiosmtplib.SMTPDataError as error:
            if 500 <= error.code < 600:
                raise UndeliverableError from None
            raise Unavailable("The mail server takes nothing now.") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            # Its text may repeat the address, or what was sent to log in.
            raise Unavailable(f"The mail server does not answer as it should: {type(error).__name__}.") from None


class Folder:
    """A folder with one file a mail; the newest 1,000 stay. Tokens in them are good: it is for its owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0

    async def deliver(self, mail: EmailMessage) -> None:
        """See Transport."""
        try:
            await asyncio.to_thread(self._write, bytes(mail))
        except OSError as error:
            raise Unavailable(f"The folder for mails cannot be written: {error.strerror}.") from None

    def _write(self, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns() // 1_000_000:013}-{secrets.token_hex(4)}"
        part = self._folder / f".{name}.part"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        part.replace(self._folder / f"{name}.eml")
        self._written += 1
        if self._written % _TIDY_EVERY == 1:
            for old in sorted(self._folder.glob("*.eml"))[:-_KEPT]:
                old.unlink(missing_ok=True)
