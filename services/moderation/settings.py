"""Settings of `moderation`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import Environment, SettingError, identity_folder
from services.moderation.links import ForbiddenLinks
from services.moderation.models.base import BUILT_IN, NONE, known

_LINKS = Path(__file__).with_name("forbidden_links.txt")


@dataclass(frozen=True, slots=True)
class ModerationSettings:
    """What `moderation` needs besides mesh.settings.ServerSettings."""

    database_url: str
    """The moderation store."""
    cache_url: str
    """The cache store."""
    bus_url: str
    """The bus."""
    user_target: str
    """gRPC target of `user`."""
    graph_target: str
    """gRPC target of `graph`."""
    tweet_target: str
    """gRPC target of `tweet`."""
    identity: Path | None
    """Folder with this service's certificate; None for calls without TLS."""
    cursor_key: bytes
    """Key of page cursors, the same in all replicas."""
    outbox_keep_seconds: int
    """How long published events are kept, for a bus that comes back empty."""
    toxicity_url: str
    """The model of toxicity (models/base.py)."""
    forbidden_links: Path
    """The list of forbidden links; `builtin:list` for the one in the tree."""
    viral_engagement: int
    """Likes, retweets, quotes and replies from which on a tweet is reviewed once."""

    @classmethod
    def read(cls, env: Environment) -> ModerationSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        toxicity_url = env.text("TOXICITY_URL", "builtin:alt-profanity-check")
        if not known(toxicity_url):
            raise SettingError(f"ROOKERY_TOXICITY_URL must be {BUILT_IN}, {NONE} or onnx:///folder")
        links = env.text("FORBIDDEN_LINKS", "builtin:list")
        path = _LINKS if links == "builtin:list" else Path(links)
        try:
            ForbiddenLinks.read(path)
        except (OSError, ValueError) as error:
            raise SettingError(f"ROOKERY_FORBIDDEN_LINKS cannot be read: {error}") from error
        return cls(
            database_url=env.text("MODERATION_URL"),
            cache_url=env.text("CACHE_URL"),
            bus_url=env.text("BUS_URL"),
            user_target=env.text("USER_TARGET"),
            graph_target=env.text("GRAPH_TARGET"),
            tweet_target=env.text("TWEET_TARGET"),
            identity=identity_folder(env),
            cursor_key=env.secret("CURSOR_KEY"),
            outbox_keep_seconds=env.number("OUTBOX_KEEP_SECONDS", 600, least=1, most=86_400),
            toxicity_url=toxicity_url,
            forbidden_links=path,
            viral_engagement=env.number("VIRAL_ENGAGEMENT", 1000, least=1),
        )
