"""Settings of `user`; the only reader of its environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mesh.objects import check_url
from mesh.settings import Environment, SettingError, identity_folder
from services.user import mail_transport


def _objects_url(env: Environment) -> str:
    url = env.text("OBJECTS_URL")
    try:
        check_url(url)
    except ValueError as error:
        raise SettingError(f"ROOKERY_OBJECTS_URL makes no sense: {error}") from None
    return url


def _smtp_url(env: Environment) -> str:
    url = env.text("SMTP_URL")
    try:
        mail_transport.check_url(url)
    except ValueError as error:
        raise SettingError(f"ROOKERY_SMTP_URL makes no sense: {error}") from None
    return url


def _addresses(env: Environment) -> tuple[str, ...]:
    found = tuple(env.text("PUBLIC_URLS", "https://api.x.com,https://api.twitter.com").split(","))
    if len(found) > 8 or not all(re.fullmatch(r"https?://[a-z0-9.:\[\]-]{1,253}", address) for address in found):
        raise SettingError("ROOKERY_PUBLIC_URLS makes no sense: up to 8 of https://host, with commas between")
    return found


@dataclass(frozen=True, slots=True)
class UserSettings:
    """What `user` needs besides mesh.settings.ServerSettings."""

    database_url: str
    """The users store, `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user@host/name`."""
    cache_url: str
    """The cache store."""
    bus_url: str
    """The bus."""
    tweet_target: str
    """gRPC target of `tweet`, for pinned tweets."""
    moderation_target: str
    """gRPC target of `moderation`."""
    graph_target: str
    """gRPC target of `graph`, for who may see them, and for exports."""
    objects_url: str
    """Where archives are kept, `file:///folder` or `s3://KEY:SECRET@bucket?endpoint=URL`."""
    smtp_url: str
    """Where mails go, `smtp://user:password@host:port`, `smtps://...`, or `file:///folder`."""
    mail_from: str
    """The From header of mails."""
    secrets_key: bytes
    """Key of what is kept encrypted or under keyed hashes."""
    password_memory_kib: int
    """Memory of a password's hash. 19 MiB with 2 passes and 1 lane is what the OWASP Password Storage Cheat Sheet takes
    for Argon2id; RFC 9106, 4 has the way to choose more."""
    password_passes: int
    """How often it is gone through."""
    login_attempts_per_address: int
    """Wrong log-ins an hour from one address before it has to wait."""
    cursor_key: bytes
    """Key of page cursors."""
    access_token_seconds: int
    """How long an access token is good."""
    session_days: int
    """How long a session lives after its last refresh."""
    public_urls: tuple[str, ...]
    """Under which clients know this installation: what requests (OAuth 1.0a) may have been signed for."""
    outbox_keep_seconds: int
    """How long published events are kept, for a bus that comes back empty."""
    identity: Path | None
    """Folder with this service's certificate; None for calls without TLS."""

    @classmethod
    def read(cls, env: Environment) -> UserSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            database_url=env.text("USERS_URL"),
            cache_url=env.text("CACHE_URL"),
            bus_url=env.text("BUS_URL"),
            tweet_target=env.text("TWEET_TARGET"),
            moderation_target=env.text("MODERATION_TARGET"),
            graph_target=env.text("GRAPH_TARGET"),
            objects_url=_objects_url(env),
            smtp_url=_smtp_url(env),
            mail_from=env.text("MAIL_FROM", "Rookery <no-reply@localhost>"),
            secrets_key=env.secret("SECRETS_KEY"),
            password_memory_kib=env.number("PASSWORD_MEMORY_KIB", 19_456, least=8, most=1 << 20),
            password_passes=env.number("PASSWORD_PASSES", 2, least=1, most=100),
            login_attempts_per_address=env.number("LOGIN_ATTEMPTS_PER_ADDRESS", 100, least=1),
            cursor_key=env.secret("CURSOR_KEY"),
            access_token_seconds=env.number("ACCESS_TOKEN_SECONDS", 3600, least=1, most=86_400),
            session_days=env.number("SESSION_DAYS", 30, least=1, most=400),
            public_urls=_addresses(env),
            outbox_keep_seconds=env.number("OUTBOX_KEEP_SECONDS", 600, least=1, most=86_400),
            identity=identity_folder(env),
        )
