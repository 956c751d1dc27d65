"""Elasticsearch from Maven packages at pinned versions and checksums: one node.

Maven Central has the server and not the distribution around it. What is missing and of use is in
`elasticsearch_server/`: a program that starts a node, and a plugin with `GET /` and some parts of analysers, compiled
when it is installed. Not there: scripts, `_delete_by_query`, index lifecycles, security.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Engine, Place, Program, run
from scripts.engines.java import Jars, java

_RECIPE = Path(__file__).with_name("elasticsearch_server")
_JARS = Jars("Elasticsearch", _RECIPE)
_VERSION = "8.19.21"
_HEAP = "-Xms256m", "-Xmx384m"
_MODULE = "transport-netty4"
_COMPILER = "ecj-"
_COMPILE_S = 300.0
_LOGGING = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""
_PLUGIN = f"""name=parts
description=what the distribution has and Maven Central has not
version=1
classname=Parts
java.version=17
elasticsearch.version={_VERSION}
"""


class Elasticsearch(Engine):
    """One node, without security, for whoever is on this machine."""

    name = "elasticsearch"
    summary = f"{_VERSION} from Maven, needs Java 17"
    start_s = 120.0

    def install(self, cache: Path) -> None:
        """Downloads 45 MB, checks them, and compiles what is missing. Raises EngineError without Java."""
        java()
        _JARS.install(cache)
        home = _home(cache)
        if home.is_dir():
            return
        part = home.with_name(f"{home.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        _build(_JARS.folder(cache), part)
        part.replace(home)

    def start(self, place: Place) -> Sequence[Program]:
        """The node, with its configuration in its folder."""
        folder, home = place.node(1), _home(place.cache)
        configuration = folder / "config"
        configuration.mkdir(exist_ok=True)
        settings = {
            "cluster.name": "rookery",
            "node.name": "elasticsearch-1",
            "network.host": LOOPBACK,
            "http.port": place.port("http"),
            "transport.port": place.port("transport"),
            "discovery.type": "single-node",
            "path.data": folder / "data",
            "path.logs": folder / "logs",
        }
        (configuration / "elasticsearch.yml").write_text("".join(f"{name}: {to}\n" for name, to in settings.items()))
        (configuration / "log4j2.properties").write_text(_LOGGING)
        return [
            Program(
                "elasticsearch-1",
                (
                    *(java(), *_HEAP, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
                    *("-Dlog4j2.disable.jmx=true", "-Dlog4j.shutdownHookEnabled=false", "-Djava.awt.headless=true"),
                    *("-Dio.netty.noUnsafe=true", "-Dio.netty.noKeySetOptimization=true"),
                    *("-Dio.netty.allocator.numDirectArenas=0", f"-Djava.io.tmpdir={folder}"),
                    *("-cp", f"{home}/classes:{home}/lib/*", "Main", str(home), str(configuration)),
                ),
            )
        ]

    def ready(self, place: Place) -> str | None:
        """Whether it has elected itself and recovered its indices."""
        connection = http.client.HTTPConnection(LOOPBACK, place.port("http"), timeout=2.0)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
            status = connection.getresponse().status
        except OSError:
            return "does not listen"
        finally:
            connection.close()
        return None if status == http.HTTPStatus.OK else f"HTTP {status}"

    def urls(self, place: Place) -> Mapping[str, str]:
        """Nothing yet: no service searches by it."""
        del place
        return {}

    def address(self, place: Place) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{place.port('http')}"


def _home(cache: Path) -> Path:
    """What was built of exactly these packages, sources and words of this file."""
    made_of = hashlib.sha256()
    for path in sorted([*_RECIPE.rglob("*.java"), _RECIPE / "SHA256SUMS", Path(__file__)]):
        made_of.update(path.read_bytes())
    return cache / f"elasticsearch-home-{made_of.hexdigest()[:16]}"


def _build(jars: Path, home: Path) -> None:
    """Lays the packages out as the server looks for them, and compiles what is ours."""
    module, plugin = home / "modules" / _MODULE, home / "plugins" / "parts"
    for folder in (home / "lib", module, plugin):
        folder.mkdir(parents=True)
    (compiler,) = jars.glob(f"{_COMPILER}*.jar")
    for jar in jars.glob("*.jar"):
        if jar != compiler:
            in_module = jar.name.startswith(("netty-", _MODULE))
            (module if in_module else home / "lib").joinpath(jar.name).symlink_to(jar)
    # The module's jar has its descriptor inside. It would be loaded as a Java module, which needs more modules.
    with zipfile.ZipFile(module / f"{_MODULE}-{_VERSION}.jar") as files:
        descriptor = files.read(f"META-INF/es-plugins/{_MODULE}/plugin-descriptor.properties").decode()
    kept = (line for line in descriptor.splitlines(keepends=True) if not line.startswith("modulename="))
    (module / "plugin-descriptor.properties").write_text("".join(kept))
    (plugin / "plugin-descriptor.properties").write_text(_PLUGIN)
    classpath = ":".join(str(jar) for jar in (home / "lib").iterdir())
    for sources, target in ((_RECIPE / "server", home / "classes"), (_RECIPE / "plugin", home / "plugin-classes")):
        run(
            [java(), "-jar", str(compiler), "-17", "-nowarn", "-cp", classpath, "-d", str(target), str(sources)],
            what="compiling",
            timeout=_COMPILE_S,
        )
    with zipfile.ZipFile(plugin / "parts.jar", "w") as packed:
        for compiled in (home / "plugin-classes").glob("*.class"):
            packed.write(compiled, compiled.name)
    shutil.rmtree(home / "plugin-classes")
