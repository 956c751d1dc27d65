"""Settings of `graph`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import Environment, identity_folder


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """What `graph` needs besides mesh.settings.ServerSettings."""

    database_url: str
    """The graph store."""
    cache_url: str
    """The cache store."""
    bus_url: str
    """The bus."""
    user_target: str
    """gRPC target of `user`."""
    tweet_target: str
    """gRPC target of `tweet`, for pinned tweets."""
    cursor_key: bytes
    """Key of page cursors, the same in all replicas."""
    celebrity_followers: int
    """From this many followers on an author's tweets are pulled at read."""
    outbox_keep_seconds: int
    """How long published events are kept, for a bus that comes back empty."""
    identity: Path | None
    """Folder with this service's certificate; None for calls without TLS."""

    @classmethod
    def read(cls, env: Environment) -> GraphSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            database_url=env.text("GRAPH_URL"),
            cache_url=env.text("CACHE_URL"),
            bus_url=env.text("BUS_URL"),
            user_target=env.text("USER_TARGET"),
            tweet_target=env.text("TWEET_TARGET"),
            cursor_key=env.secret("CURSOR_KEY"),
            celebrity_followers=env.number("CELEBRITY_FOLLOWERS", 10_000, least=1),
            outbox_keep_seconds=env.number("OUTBOX_KEEP_SECONDS", 600, least=1, most=86_400),
            identity=identity_folder(env),
        )
