"""Files from Maven Central at pinned paths and checksums, by plain HTTPS: nobody needs Maven to use what is pinned.

A list of pins has a file a line: its SHA-256, and its path in the repository. To pin anew, change the pom.xml beside
the list and let Maven resolve it:

    python -m scripts.engines.maven scripts/engines/kafka_jars
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.engines.base import EngineError, checked, run

REPOSITORY = "https://repo.maven.apache.org/maven2"
"""Maven Central. `ROOKERY_MAVEN_URL` names a mirror of it, with `user:password@` if it asks for them."""
PINS = "SHA256SUMS"
"""The list's name in a recipe's folder."""
_AT_ONCE = 6  # as many as browsers open to one host
_READ_S = 60.0  # without a byte
_TRIES = 4
_RESOLVE_S = 900.0


def pins(recipe: Path) -> dict[str, str]:
    """The checksums of a recipe's files, by their paths in the repository."""
    lines = (line.split() for line in (recipe / PINS).read_text().splitlines())
    return {path: sha256 for sha256, path in lines}


def edition(recipe: Path) -> str:
    """A word that is another one for other pins."""
    return hashlib.sha256((recipe / PINS).read_bytes()).hexdigest()[:16]


def download(wanted: Mapping[str, str], folder: Path, *, what: str) -> None:
    """Makes `folder` hold exactly these files, without the folders of the repository; quick when it does already.

    Args:
        wanted: checksums by path, as `pins` gives them.
        folder: it is there only when everything in it was checked.
        what: for messages.

    Raises:
        EngineError: the repository does not answer, or has something else than was pinned.
    """
    if all((folder / _name(path)).is_file() for path in wanted):
        return
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(exist_ok=True)  # what an earlier call brought is used, if it is right
    context = _trust()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        getting = [pool.submit(_get, path, sha256, part / _name(path), context) for path, sha256 in wanted.items()]
        failed = [str(error) for one in getting if (error := one.exception()) is not None]
    if failed:
        more = f" (and {len(failed) - 1} files more)" if len(failed) > 1 else ""
        raise EngineError(f"{what} cannot be downloaded: {failed[0]}{more}")
    for stray in {path.name for path in part.iterdir()} - {_name(path) for path in wanted}:
        (part / stray).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _trust() -> ssl.SSLContext:
    """The machine's authorities, and the usual ones where it has none."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _get(path: str, sha256: str, target: Path, context: ssl.SSLContext) -> None:
    if checked(target, sha256):
        return
    url = f"{(os.environ.get('ROOKERY_MAVEN_URL') or REPOSITORY).rstrip('/')}/{path}"
    why = ""
    for attempt in range(_TRIES):
        time.sleep(attempt**2)  # the repository asks those to wait whom it refuses
        try:
            with urllib.request.urlopen(url, timeout=_READ_S, context=context) as answer, target.open("wb") as out:
                shutil.copyfileobj(answer, out)
        except urllib.error.HTTPError as error:
            why = f"HTTP {error.code}"
            if error.code in (401, 403, 404, 410):
                break
        except (OSError, urllib.error.URLError) as error:
            why = str(error)
        else:
            if checked(target, sha256):
                return
            why = "its content is not what was pinned"
    raise EngineError(f"{path}: {why}")


def pin(recipe: Path) -> int:
    """Writes the list of all that a recipe's pom.xml brings, as Maven resolves it; how many files that are."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            [
                *("mvn", "-q", "-B", "-f", str(recipe / "pom.xml"), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true", f"-DoutputDirectory={folder}"),
            ],
            what="resolving",
            timeout=_RESOLVE_S,
        )
        found = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in Path(folder).rglob("*.jar")
        }
    (recipe / PINS).write_text("".join(f"{found[path]}  {path}\n" for path in sorted(found)))
    return len(found)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {pin(Path(name))} files")
