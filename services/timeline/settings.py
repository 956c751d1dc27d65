"""Settings of `timeline`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import Environment, identity_folder


@dataclass(frozen=True, slots=True)
class TimelineSettings:
    """What `timeline` needs besides mesh.settings.ServerSettings."""

    cache_url: str
    """The cache store."""
    user_target: str
    """gRPC target of `user`."""
    graph_target: str
    """gRPC target of `graph`."""
    tweet_target: str
    """gRPC target of `tweet`."""
    cursor_key: bytes
    """Key of page cursors, the same in all replicas."""
    identity: Path | None
    """Folder with this service's certificate; None for calls without TLS."""

    @classmethod
    def read(cls, env: Environment) -> TimelineSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            cache_url=env.text("CACHE_URL"),
            user_target=env.text("USER_TARGET"),
            graph_target=env.text("GRAPH_TARGET"),
            tweet_target=env.text("TWEET_TARGET"),
            cursor_key=env.secret("CURSOR_KEY"),
            identity=identity_folder(env),
        )
