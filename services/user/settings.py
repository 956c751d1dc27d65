"""Settings of `user`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.objects import check_url
from mesh.settings import Environment, SettingError


def _objects_url(env: Environment) -> str:
    url = env.text("OBJECTS_URL")
    try:
        check_url(url)
    except ValueError as error:
        raise SettingError(f"ROOKERY_OBJECTS_URL makes no sense: {error}") from None
    return url


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
    graph_target: str
    """gRPC target of `graph`, for who may see them, and for exports."""
    objects_url: str
    """Where archives are kept, `file:///folder` or `s3://KEY:SECRET@bucket?endpoint=URL`."""
    cursor_key: bytes
    """Key of page cursors."""
    access_token_seconds: int
    """How long an access token is good."""
    session_days: int
    """How long a session lives after its last refresh."""
    outbox_keep_seconds: int
    """How long published events are kept, for a bus that comes back empty."""

    @classmethod
    def read(cls, env: Environment) -> UserSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            database_url=env.text("USERS_URL"),
            cache_url=env.text("CACHE_URL"),
            bus_url=env.text("BUS_URL"),
            tweet_target=env.text("TWEET_TARGET"),
            graph_target=env.text("GRAPH_TARGET"),
            objects_url=_objects_url(env),
            cursor_key=env.secret("CURSOR_KEY"),
            access_token_seconds=env.number("ACCESS_TOKEN_SECONDS", 3600, least=1, most=86_400),
            session_days=env.number("SESSION_DAYS", 30, least=1, most=400),
            outbox_keep_seconds=env.number("OUTBOX_KEEP_SECONDS", 600, least=1, most=86_400),
        )
