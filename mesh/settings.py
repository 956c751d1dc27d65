"""Settings that every service has. Its own `settings.py` adds the others, and alone reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class SettingError(ValueError):
    """A setting is missing or makes no sense. The message names it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Typed access to `ROOKERY_*` variables."""

    values: Mapping[str, str]
    """Where they are read from."""

    @classmethod
    def from_process(cls) -> Environment:
        """The environment of this process, as it is now."""
        return cls(dict(os.environ))

    def text(self, name: str, default: str | None = None) -> str:
        """`ROOKERY_<name>`; raises SettingError when it is missing and has no default."""
        value = self.values.get(f"ROOKERY_{name}", "")
        if value:
            return value
        if default is None:
            raise SettingError(f"ROOKERY_{name} is not set")
        return default

    def secret(self, name: str) -> bytes:
        """`ROOKERY_<name>`, 16 bytes at least; raises SettingError for less. The message never shows it."""
        value = self.text(name).encode()
        if len(value) < 16:
            raise SettingError(f"ROOKERY_{name} must have at least 16 bytes")
        return value

    def number(self, name: str, default: int, *, least: int = 0, most: int = 2**31) -> int:
        """`ROOKERY_<name>` as a whole number within [least, most]; raises SettingError otherwise."""
        text = self.text(name, str(default))
        try:
            value = int(text)
        except ValueError:
            raise SettingError(f"ROOKERY_{name} is not a whole number: {text!r}") from None
        if not least <= value <= most:
            raise SettingError(f"ROOKERY_{name} must be within {least} and {most}, not {value}")
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """`ROOKERY_<name>`, one of `choices` in any case; raises SettingError for another."""
        value = self.text(name, default).lower()
        if value not in choices:
            raise SettingError(f"ROOKERY_{name} must be one of {', '.join(choices)}, not {value!r}")
        return value

    def address(self, name: str) -> str:
        """`ROOKERY_<name>` as `host:port`, empty when it is not set; raises SettingError for anything else."""
        value = self.text(name, "")
        host, _, port = value.rpartition(":")
        if value and not (host and port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
            raise SettingError(f"ROOKERY_{name} must be host:port, not {value!r}")
        return value


# Where only this machine's processes reach it.
_LOCAL = re.compile(r"unix:.+|(127\.\d+\.\d+\.\d+|localhost|\[::1\]):\d+")


def identity_folder(env: Environment) -> Path | None:
    """`ROOKERY_TLS_FOLDER`, where this process's certificate is; None when calls go without TLS."""
    folder = env.text("TLS_FOLDER", "")
    return Path(folder) if folder else None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What `mesh.server` needs of every service."""

    listen: str
    """Where gRPC listens: `unix:///path` or `host:port`."""
    metrics_listen: str
    """Where Prometheus reads, `host:port`; empty for nowhere."""
    log_level: str
    """debug, info, warning or error."""
    max_concurrent: int
    """Calls served at once before the least important are refused."""
    drain_seconds: int
    """How long calls in flight get after SIGTERM."""
    identity: Path | None = None
    """Folder with the process's certificate (mesh.tls); None for calls without TLS."""

    @classmethod
    def read(cls, env: Environment) -> ServerSettings:
        """Reads them; raises SettingError for a missing or senseless one."""
        listen, identity = env.text("LISTEN"), identity_folder(env)
        if identity is None and not _LOCAL.fullmatch(listen):
            raise SettingError(
                f"ROOKERY_LISTEN may be {listen!r} only with ROOKERY_TLS_FOLDER: whoever reaches it is believed"
            )
        return cls(
            listen=listen,
            metrics_listen=env.address("METRICS_LISTEN"),
            log_level=env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            max_concurrent=env.number("MAX_CONCURRENT", 512, least=1),
            drain_seconds=env.number("DRAIN_SECONDS", 10, most=600),
            identity=identity,
        )
