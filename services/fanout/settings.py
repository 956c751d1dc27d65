"""Settings of `fanout`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import Environment, identity_folder


@dataclass(frozen=True, slots=True)
class FanoutSettings:
    """What `fanout` needs besides mesh.settings.ServerSettings."""

    cache_url: str
    """The cache store."""
    bus_url: str
    """The bus."""
    graph_target: str
    """gRPC target of `graph`."""
    tweet_target: str
    """gRPC target of `tweet`."""
    identity: Path | None
    """Folder with this service's certificate; None for calls without TLS."""

    @classmethod
    def read(cls, env: Environment) -> FanoutSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            cache_url=env.text("CACHE_URL"),
            bus_url=env.text("BUS_URL"),
            graph_target=env.text("GRAPH_TARGET"),
            tweet_target=env.text("TWEET_TARGET"),
            identity=identity_folder(env),
        )
