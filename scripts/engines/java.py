"""Engines that run on Java: their jars, from Maven packages at pinned versions and checksums, and Java itself."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from scripts.engines.base import EngineError, checked, run

OLDEST_JAVA = 17
_DOWNLOAD_S = 900.0


@dataclass(frozen=True, slots=True)
class Jars:
    """What one engine needs on its class path."""

    engine: str
    """The engine's name, for messages."""
    recipe: Path
    """A folder: pom.xml names the versions, SHA256SUMS has the checksums of all that they bring."""

    def folder(self, cache: Path) -> Path:
        """What was downloaded for exactly these pins."""
        pins = hashlib.sha256((self.recipe / "SHA256SUMS").read_bytes()).hexdigest()[:16]
        return cache / f"{self.engine.lower()}-{pins}"

    def install(self, cache: Path) -> None:
        """Downloads them if they are not there, and checks them. Raises EngineError."""
        target = self.folder(cache)
        sums = self._sums()
        if all((target / name).is_file() for name in sums):
            return
        if shutil.which("mvn") is None:
            raise EngineError(
                f"{self.engine} comes from Maven, and there is no `mvn` on the PATH: `apt-get install maven`"
            )
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        run(
            [
                *("mvn", "-q", "-B", "-f", str(self.recipe / "pom.xml"), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={part}"),
            ],
            what=f"downloading {self.engine}",
            timeout=_DOWNLOAD_S,
        )
        there = {path.name for path in part.iterdir()}
        if wrong := sorted(there ^ sums.keys()):
            raise EngineError(f"Maven brought other packages than were pinned: {', '.join(wrong)}")
        if wrong := [name for name, sha256 in sums.items() if not checked(part / name, sha256)]:
            raise EngineError(f"packages with other contents than were pinned: {', '.join(wrong)}")
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)

    def _sums(self) -> dict[str, str]:
        lines = (line.split() for line in (self.recipe / "SHA256SUMS").read_text().splitlines())
        return {name: sha256 for sha256, name in lines}


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
