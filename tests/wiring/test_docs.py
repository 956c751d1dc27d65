"""What the docs say is what the code does: variables, RPCs, operations, topics, groups, keys, paths, and the tour.

Most of it compares tables on pages with what can be read off the code. The tour of the README is run as it is printed.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from google.protobuf import descriptor_pb2

from cli import main as command
from cli import profile
from cli.edge import operations
from cli.settle import settle
from cli.state import running_state
from cli.stores import open_stores
from cli.supervisor import Mesh
from mesh.bus.redis_server import INCARNATION_KEY, dead_key, stream_key
from mesh.cache.sets import GuardedSets
from services.user.signed import NONCE_PREFIX

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
STREAMS = ROOT / "docs" / "streams.md"
REST = ROOT / "docs" / "rest.md"
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/__main__.py"))
PAGES = sorted({README, *ROOT.glob("*/README.md"), *ROOT.glob("services/*/README.md"), *ROOT.glob("docs/*.md")})
# What building leaves behind is no part of the tree.
FOLDERS = sorted(
    path for path in ROOT.iterdir() if path.is_dir() and re.fullmatch(r"(?!build$|dist$)[a-z]+", path.name)
)
FILES = sorted(file for folder in FOLDERS for file in folder.rglob("*.*"))
HEADINGS = ["Owns", "Answers", "Emits", "Consumes", "Settings", "When a dependency is gone"]


# --- reading pages


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next of its level."""
    found = re.search(rf"^(#+) {re.escape(heading)}$\n(.*?)(?=^#{{1,2}} |\Z)", page.read_text(), re.M | re.S)
    assert found, f"{page.relative_to(ROOT)} has no heading {heading!r}"
    return found.group(2)


def rows(text: str) -> list[list[str]]:
    """The cells of a text's table rows, heads left out."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if re.match(r"\|[-|: ]+\|$", line):
            found.pop()  # the line above was the head
        elif line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def codes(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


# --- reading code


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Each call in a file, by the called name's last part."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield (node.func.id if isinstance(node.func, ast.Name) else node.func.attr), node


def constants(path: Path) -> dict[str, Any]:
    """A module's constants that are literals."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def settings_of(path: Path) -> dict[str, str]:
    """Variables that a settings.py reads, with their defaults."""
    found: dict[str, str] = {}
    for name, call in calls(path):
        if name in ("text", "secret", "number") and call.args and isinstance(call.args[0], ast.Constant):
            default = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else ""
            found[f"ROOKERY_{call.args[0].value}"] = str(default)
    return found


@functools.cache
def variables() -> dict[str, str]:
    """Every variable that any code reads, with its default where the code has one."""
    found = settings_of(ROOT / "mesh" / "settings.py") or {}
    for service in SERVICES:
        found |= settings_of(ROOT / "services" / service / "settings.py")
    found |= {name: found.get(name, "") for name in profile._SHARED}
    for path in (*ROOT.glob("cli/*.py"), *ROOT.glob("mesh/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"ROOKERY_[A-Z_]*[A-Z]", str(node.value)):
                found.setdefault(str(node.value), "")
    return found


class Recorder:
    """Takes down who subscribes to what; stands in for the bus, as subscribing asks nothing of it."""

    def __init__(self) -> None:
        self.groups: set[tuple[str, str]] = set()

    def subscribe(self, group: str, topics: Sequence[str], handler: object) -> None:
        """See mesh.bus.base.Bus."""
        self.groups |= {(topic, group) for topic in topics}

    subscribe_batch = subscribe


class Anything:
    """Stands in for what handlers would use; no handler is called."""

    def __getattr__(self, name: str) -> object:
        return None


@functools.cache
def groups() -> set[tuple[str, str, str]]:
    """(topic, group, service) of all subscriptions."""
    found = set()
    for service in SERVICES:
        if (ROOT / "services" / service / "consumers.py").exists():
            subscriptions = importlib.import_module(f"services.{service}.consumers").subscriptions
            bus = Recorder()
            subscriptions(bus, *[Anything()] * (subscriptions.__code__.co_argcount - 1))
            found |= {(topic, group, service) for topic, group in bus.groups}
    return found


@functools.cache
def events() -> dict[str, tuple[str, str]]:
    """Topic and key of each event, as its contract's comment says."""
    found: dict[str, tuple[str, str]] = {}
    for path in (ROOT / "proto" / "rookery" / "events" / "v1").glob("*.proto"):
        for comment, name in re.findall(r"((?:^// .*\n)+)^message (\w+)", path.read_text(), re.M):
            said = re.search(r"Topic `(\w+)`, key\s+(\w+)", comment.replace("\n// ", " ").replace("// ", " "))
            if said:
                found[name] = (said.group(1), said.group(2))
    return found


@functools.cache
def writers() -> dict[str, str]:
    """Service that publishes on each topic, by its constants TOPIC, TWEETS_TOPIC and the like."""
    found: dict[str, str] = {}
    for service in SERVICES:
        for path in (ROOT / "services" / service).rglob("*.py"):
            for name, topic in constants(path).items():
                if name == "TOPIC" or name.endswith("_TOPIC"):
                    assert found.setdefault(topic, service) == service
    return found


def key_prefixes() -> set[str]:
    """Prefixes of all keys in the read model: what the caches of views and services are made with."""
    found: set[str] = {NONCE_PREFIX}
    paths = [*ROOT.glob("views/*.py"), *ROOT.glob("services/**/*.py")]
    known = {name: value for path in paths for name, value in constants(path).items() if name.isupper()}
    for path in paths:
        for name, call in calls(path):
            if (
                name in ("Records", "LoadingCache", "NewestLists", "GuardedSets", "CacheCallStore")
                and len(call.args) > 1
            ):
                given = call.args[1]
                value = given.value if isinstance(given, ast.Constant) else known[getattr(given, "id", "")]
                if name == "GuardedSets":
                    found |= {GuardedSets.key(one, 1).partition("{")[0] for one in value}
                    found.add(GuardedSets.key(f"{value[0]}.generation", 1).partition("{")[0])
                else:
                    found.add(value)
    assert found, "no cache is made anywhere: this test looks for the wrong names"
    found |= {known[name] for name in ("POSTED_PREFIX", "SIMILAR_PREFIX")}  # used by a script of their own
    return found


@functools.cache
def rpcs() -> dict[str, set[str]]:
    """`Service.Method` of each package's domain."""
    described = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "gen" / "descriptors.pb").read_bytes())
    found: dict[str, set[str]] = {}
    for file in described.file:
        for service in file.service:
            domain = file.package.split(".")[1]
            found.setdefault(domain, set()).update(f"{service.name}.{method.name}" for method in service.method)
    for path in ROOT.glob("services/*/contract.py"):  # a contract that is not ours
        for value in constants(path).values():
            if isinstance(value, str) and (named := re.fullmatch(r"/[\w.]+\.(\w+)/(\w+)", value)):
                found.setdefault(path.parent.name, set()).add(".".join(named.groups()))
    return found


# --- services


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_readme_with_all_headings(service: str) -> None:
    page = ROOT / "services" / service / "README.md"
    assert re.findall(r"^## (.+)$", page.read_text(), re.M) == HEADINGS


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_readme_lists_its_rpcs(service: str) -> None:
    listed = [codes(row[0])[0] for row in rows(section(ROOT / "services" / service / "README.md", "Answers"))]
    assert len(listed) == len(set(listed))
    assert set(listed) == rpcs()[service]


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_readme_lists_its_settings_with_their_defaults(service: str) -> None:
    table = rows(section(ROOT / "services" / service / "README.md", "Settings"))
    listed = {codes(name)[0]: "" if default == "required" else codes(default)[0] for name, default, _ in table}
    assert listed == settings_of(ROOT / "services" / service / "settings.py")


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_readme_lists_what_it_emits_and_consumes(service: str) -> None:
    page = ROOT / "services" / service / "README.md"
    emitted = {name for name in codes(section(page, "Emits")) if name in events()}
    assert emitted == {name for name, (topic, _) in events().items() if writers().get(topic) == service}
    table = rows(section(page, "Consumes"))
    consumed = {(topic, codes(group)[0]) for group, topics, *_ in table for topic in codes(topics)}
    assert consumed == {(topic, group) for topic, group, reader in groups() if reader == service}
    for _, topics, handled, _ in table:
        assert {events()[name][0] for name in codes(handled)} == set(codes(topics))


# --- README


def test_the_readme_lists_every_variable_and_no_other() -> None:
    listed = {codes(row[0])[0] for row in rows(section(README, "Configuration"))}
    assert listed == set(variables())


def test_the_readme_has_the_defaults_of_the_code() -> None:
    known = variables()
    for name, _, default, _ in rows(section(README, "Configuration")):
        wanted = known[codes(name)[0]]
        assert not wanted or codes(default) == [wanted], name


def test_the_readme_lists_the_commands_that_are_there() -> None:
    listed = {name.split()[1] for row in rows(section(README, "Commands")) for name in codes(row[0])}
    assert listed <= command._COMMANDS.keys()
    there = {
        name
        for name, entry in command._COMMANDS.items()
        if importlib.util.find_spec(entry.attribute.partition(":")[0]) is not None
    }
    assert there <= listed


def test_the_readme_lists_the_folders() -> None:
    listed = {name.rstrip("/") for row in rows(section(README, "Folders")) for name in codes(row[0])}
    assert listed == {path.name for path in FOLDERS}


def test_the_tests_readme_lists_the_folders() -> None:
    listed = {codes(row[0])[0].rstrip("/") for row in rows((ROOT / "tests" / "README.md").read_text())}
    assert listed == {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}


# --- REST


def test_the_rest_page_lists_every_operation() -> None:
    listed = set()
    for operation, rpc, *_ in rows(section(REST, "Operations")):
        (path,), (name,) = codes(operation), codes(rpc)
        listed.add((*path.split(), name))
    known = {
        (one.method, one.path, ".".join(one.rpc.split("/")[1:]).split(".", 3)[3])
        for one in operations((ROOT / "gen" / "descriptors.pb").read_bytes())
    }
    assert listed == known


# --- streams and keys


def test_the_streams_page_lists_topics_with_writers_keys_and_events() -> None:
    listed: dict[str, tuple[str, str]] = {}
    written: dict[str, str] = {}
    for topic, writer, said in rows(section(STREAMS, "Topics")):
        (name,), (service,) = codes(topic), codes(writer)
        written[name] = service
        listed |= {event: (name, key) for event, key in re.findall(r"`(\w+)` \((\w+)\)", said)}
    assert listed == events()
    assert written == writers()


def test_the_streams_page_lists_every_group() -> None:
    listed = [tuple(codes(cell)[0] for cell in row[:3]) for row in rows(section(STREAMS, "Groups"))]
    assert len(listed) == len(set(listed))
    assert set(listed) == groups()


def documented_keys() -> list[str]:
    """Keys as both tables have them: capitals stand for something."""
    tables = (section(STREAMS, "Keys of the bus"), section(STREAMS, "Keys of the read model"))
    return [codes(row[0])[0] for table in tables for row in rows(table)]


def test_the_streams_page_lists_every_kind_of_key() -> None:
    listed = {re.sub(r"(\{B\})?(ID|NAME)$", "", key) for key in documented_keys() if not key.startswith("bus:")}
    assert listed == key_prefixes()
    bus = {key for key in documented_keys() if key.startswith("bus:")}
    assert {INCARNATION_KEY, dead_key("TOPIC", "GROUP"), stream_key("TOPIC", 0).replace("0", "P")} <= bus


# --- all pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    for path in codes(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        if re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|md|proto|sql|lua|j2|toml|yaml)", path) and "echo" not in path:
            assert (page.parent / path).exists() or any(file.match(path) for file in FILES), path


# --- the tour


def tour(language: str) -> str:
    """The README's blocks of one language, one after the other."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", section(README, "A tour in five minutes"), re.M | re.S)
    assert blocks
    return "\n".join(blocks)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_tour_runs_as_printed_and_leaves_only_documented_keys(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "tour.py").write_text(tour("python"))
    (tmp_path / "tour.sh").write_text(f"set -eu\n{tour('sh')}\n{sys.executable} tour.py\n")
    process = await asyncio.create_subprocess_exec(
        *("sh", "tour.sh"),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "url": mesh.url, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert '"following":true' in output
    assert '"text":"Good morning, #rookery"' in output and '"includes":{"users":[{"id"' in output
    assert '"title":"Forbidden"' in output
    assert re.search(r"^ada_\d+$", output, re.M), "tweepy's get_me"
    assert re.search(r"^Hello from tweepy$", output, re.M), output
    assert re.search(r"^20\S+ \S+ Good morning, #rookery$", output, re.M), output

    async with open_stores(running_state(mesh.data), {}) as stores:
        await settle(stores, 30.0)
        async with redis.Redis.from_url(stores.cache_url, protocol=2) as client:
            keys = {key.decode() async for key in client.scan_iter(count=1_000)}
    known = [re.escape(key) for key in documented_keys()]
    known = [re.sub(r"TOPIC|GROUP|NAME", r"[a-z0-9_.-]+", re.sub(r"ID\b|\b[PB]\b", r"\\d+", key)) for key in known]
    assert {key for key in keys if not any(re.fullmatch(pattern, key) for pattern in known)} == set()
    assert any(key.startswith("home:") for key in keys)
