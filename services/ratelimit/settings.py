"""Settings of `ratelimit`; the only reader of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh.settings import Environment


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """What `ratelimit` needs besides mesh.settings.ServerSettings."""

    cache_url: str
    """The cache store, where calls are counted."""
    limits_file: Path
    """The limits, in YAML; read again whenever it changes."""

    @classmethod
    def read(cls, env: Environment) -> RateLimitSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        return cls(
            cache_url=env.text("CACHE_URL"),
            limits_file=Path(env.text("LIMITS_FILE")),
        )
