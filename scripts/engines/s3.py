"""An S3 server: versitygw before a folder, built from its Go modules at pinned versions and checksums."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Engine, EngineError, Place, Program, run

_MODULE = Path(__file__).with_name("versitygw")
"""go.mod names the version, go.sum has the checksums of all that is built in."""
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_BUILD_S = 1_200.0
_BUCKET = "rookery"
_REGION = "us-east-1"


class S3(Engine):
    """One server, one bucket."""

    name = "s3"
    summary = "versitygw, built with Go"
    start_s = 30.0

    def install(self, cache: Path) -> None:
        """Builds it, which takes minutes the first time. Raises EngineError without Go."""
        target = _binary(cache)
        if target.exists():
            return
        if shutil.which("go") is None:
            raise EngineError("the S3 server is built with Go 1.25 or newer, and there is no `go` on the PATH")
        part = target.with_name(f"{target.name}.part")
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        run(
            ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(part), _PACKAGE],
            what="building versitygw",
            cwd=_MODULE,
            env=environment,
            timeout=_BUILD_S,
        )
        part.replace(target)

    def start(self, place: Place) -> Sequence[Program]:
        """The gateway before the node's folder."""
        folder = place.node(1)
        (folder / "objects").mkdir(exist_ok=True)
        (folder / "attributes").mkdir(exist_ok=True)
        return [
            Program(
                "s3-1",
                (
                    *(str(_binary(place.cache)), "--port", f"{LOOPBACK}:{place.port('http')}", "--region", _REGION),
                    *("--quiet", "--health", "/health"),
                    *("posix", "--sidecar", str(folder / "attributes"), str(folder / "objects")),
                ),
                environment={"ROOT_ACCESS_KEY": place.secret("access"), "ROOT_SECRET_KEY": place.secret("secret")},
            )
        ]

    def ready(self, place: Place) -> str | None:
        """Whether it answers that it is well."""
        connection = http.client.HTTPConnection(LOOPBACK, place.port("http"), timeout=2.0)
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        except OSError:
            return "does not listen"
        finally:
            connection.close()
        return None if status == http.HTTPStatus.OK else f"HTTP {status}"

    def settle(self, place: Place) -> None:
        """Makes the bucket: to this server a folder is one."""
        _buckets(place, _BUCKET).mkdir(exist_ok=True)

    def urls(self, place: Place) -> Mapping[str, str]:
        """The bucket, and who asks."""
        return {"ROOKERY_OBJECTS_URL": _url(place, _BUCKET)}

    def apart(self, place: Place, name: str) -> Mapping[str, str]:
        """A bucket of that name, in letters that buckets may have."""
        bucket = name.replace("_", "-")
        _buckets(place, bucket).mkdir()
        return {"ROOKERY_OBJECTS_URL": _url(place, bucket)}

    def drop(self, place: Place, name: str) -> None:
        """Deletes it, and what is in it."""
        shutil.rmtree(_buckets(place, name.replace("_", "-")), ignore_errors=True)


def _buckets(place: Place, name: str) -> Path:
    return place.node(1) / "objects" / name


def _url(place: Place, bucket: str) -> str:
    who = f"{place.secret('access')}:{place.secret('secret')}"
    return f"s3://{who}@{bucket}?endpoint=http://{LOOPBACK}:{place.port('http')}&region={_REGION}"


def _binary(cache: Path) -> Path:
    """What was built of exactly these modules."""
    pinned = hashlib.sha256((_MODULE / "go.mod").read_bytes() + (_MODULE / "go.sum").read_bytes()).hexdigest()
    return cache / f"versitygw-{pinned[:16]}"
