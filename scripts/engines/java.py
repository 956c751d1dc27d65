"""Engines that run on Java: their jars, from Maven packages at pinned versions and checksums, and Java itself."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from scripts.engines import maven
from scripts.engines.base import EngineError, run

OLDEST_JAVA = 17


@dataclass(frozen=True, slots=True)
class Jars:
    """What one engine needs on its class path."""

    engine: str
    """The engine's name, for messages."""
    recipe: Path
    """A folder: pom.xml names the versions, SHA256SUMS has paths and checksums of all that they bring (`maven.py`)."""

    def folder(self, cache: Path) -> Path:
        """What was downloaded for exactly these pins."""
        return cache / f"{self.engine.lower()}-{maven.edition(self.recipe)}"

    def install(self, cache: Path) -> None:
        """Downloads them if they are not there, and checks them. Raises EngineError."""
        maven.download(maven.pins(self.recipe), self.folder(cache), what=self.engine)


def java() -> str:
    """The program `java`, of JAVA_HOME or else the PATH. Raises EngineError when it is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise EngineError(f"Java {OLDEST_JAVA} is needed: `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME")
    said = run([found, "--version"], what="the version of Java")  # 8 does not know it, which is an error too
    version = re.search(r"(\d+)", said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise EngineError(f"Java {OLDEST_JAVA} or newer is needed, and {found} is older")
    return found
