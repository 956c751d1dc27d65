"""An S3 server: S3Proxy before a folder, from Maven packages at pinned versions and checksums."""

from __future__ import annotations

import http.client
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Engine, Place, Program, write_private
from scripts.engines.java import Jars, java

_JARS = Jars("S3Proxy", Path(__file__).with_name("s3proxy_jars"))
_HEAP = "-Xms32m", "-Xmx192m"
_BUCKET = "rookery"
_REGION = "us-east-1"
# Without it the log has every step of every request.
_LOGGING = """<configuration>
 <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
  <encoder><pattern>%d %-5level %logger{20} %msg%n</pattern></encoder>
 </appender>
 <root level="warn"><appender-ref ref="out"/></root>
</configuration>
"""


class S3(Engine):
    """One server, one bucket. Keys are checked as S3 does (Signature Version 4)."""

    name = "s3"
    summary = "S3Proxy 4.1.0 from Maven, needs Java 17"
    start_s = 60.0

    def install(self, cache: Path) -> None:
        """Downloads 30 MB, and checks them. Raises EngineError without Java."""
        java()
        _JARS.install(cache)

    def start(self, place: Place) -> Sequence[Program]:
        """The server before the node's folder, where a bucket is a folder and an object a file."""
        folder = place.node(1)
        (folder / "buckets").mkdir(exist_ok=True)
        logging = folder / "logback.xml"
        logging.write_text(_LOGGING)
        settings = folder / "s3proxy.properties"
        write_private(settings, "".join(f"{name}={value}\n" for name, value in _settings(place).items()))
        return [
            Program(
                "s3-1",
                (
                    *(java(), *_HEAP, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
                    *(f"-Dlogback.configurationFile={logging}", "-cp", f"{_JARS.folder(place.cache)}/*"),
                    *("org.gaul.s3proxy.Main", "--properties", str(settings)),
                ),
            )
        ]

    def ready(self, place: Place) -> str | None:
        """Whether it answers that it is well."""
        connection = http.client.HTTPConnection(LOOPBACK, place.port("http"), timeout=2.0)
        try:
            connection.request("GET", "/healthz")
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


def _settings(place: Place) -> dict[str, object]:
    return {
        "s3proxy.endpoint": f"http://{LOOPBACK}:{place.port('http')}",
        "s3proxy.authorization": "aws-v4",
        "s3proxy.identity": place.secret("access"),
        "s3proxy.credential": place.secret("secret"),
        "s3proxy.jetty.max-threads": 32,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": place.node(1) / "buckets",
        # It asks for a key of the store behind it, which a folder has not.
        "jclouds.identity": "folder",
        "jclouds.credential": "folder",
    }


def _buckets(place: Place, name: str) -> Path:
    return place.node(1) / "buckets" / name


def _url(place: Place, bucket: str) -> str:
    who = f"{place.secret('access')}:{place.secret('secret')}"
    return f"s3://{who}@{bucket}?endpoint=http://{LOOPBACK}:{place.port('http')}&region={_REGION}"
