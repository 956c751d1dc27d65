"""Settings of `tweet`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import Environment, identity_folder


@dataclass(frozen=True, slots=True)
class TweetSettings:
    """What `tweet` needs besides mesh.settings.ServerSettings."""

    database_url: str
    """The tweets store."""
    cache_url: str
    """The cache store."""
    bus_url: str
    """The bus."""
    user_target: str
    """gRPC target of `user`."""
    graph_target: str
    """gRPC target of `graph`."""
    moderation_target: str
    """gRPC target of `moderation`."""
    cursor_key: bytes
    """Key of page cursors, the same in all replicas."""
    outbox_keep_seconds: int
    """How long published events are kept, for a bus that comes back empty."""
    identity: Path | None
    """Folder with this service's certificate; None for calls without TLS."""

    @classmethod
    def read(cls, env: Environment) -> TweetSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            database_url=env.text("TWEETS_URL"),
            cache_url=env.text("CACHE_URL"),
            bus_url=env.text("BUS_URL"),
            user_target=env.text("USER_TARGET"),
            graph_target=env.text("GRAPH_TARGET"),
            moderation_target=env.text("MODERATION_TARGET"),
            cursor_key=env.secret("CURSOR_KEY"),
            outbox_keep_seconds=env.number("OUTBOX_KEEP_SECONDS", 600, least=1, most=86_400),
            identity=identity_folder(env),
        )
