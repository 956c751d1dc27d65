"""Who may know whom: what each layer imports, which words the runtime may use, who reads the environment, who dials.

All of it is read off the sources (ASTs), so that an import inside a function or under TYPE_CHECKING counts too.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from mesh.client import Destination

ROOT = Path(__file__).resolve().parents[2]
OURS = frozenset({"bench", "cli", "mesh", "rookery", "scripts", "services", "tests", "views"})
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/app.py"))
LAYERS = {"mesh": {"mesh", "rookery.options"}, "views": {"mesh", "rookery", "views"}}
"""What each layer may import of this project; a service may import these all, and its own folder.

`rookery.options` has no domain: it is what contracts say to the runtime."""

DOMAIN = frozenset(
    [
        "audience",
        "audiences",
        "author",
        "authors",
        "bookmark",
        "bookmarks",
        "cashtag",
        "cashtags",
        "celebrities",
        "celebrity",
        "fanout",
        "followee",
        "followees",
        "follower",
        "followers",
        "hashtag",
        "hashtags",
        "hydrate",
        "hydrator",
        "mentioned",
        "mentions",
        "profile",
        "profiles",
        "quoted",
        "reply",
        "replies",
        "reshare",
        "retweet",
        "retweeted",
        "retweets",
        "timeline",
        "timelines",
        "tweet",
        "tweeted",
        "tweets",
        "unfollow",
        "unfollowed",
        "user",
        "username",
        "usernames",
        "users",
    ]
)
"""Words of the domain. None may be in `mesh`, whether in a name, a string or a comment."""
AS_NAMES = frozenset({"feed", "feeds", "follow", "followed", "like", "liked", "likes", "mention", "quote"})
"""Words of the domain that are plain English too: no name in `mesh` may have them, prose may ("what is like this")."""
ALLOWED = re.compile(
    r"x-user-id"  # the edge's header, which mesh/context.py names; all else calls its owner the viewer
    r"|\b(?:rediss?|postgresql\+asyncpg)://user@|\bcassandra://\[user:"  # a URL's user
    r"|\A(?:replyError|feed)\Z"  # what hiredis calls them
    r"|\b(?:EXEC_PROFILE_DEFAULT|ExecutionProfile|execution_profiles?)\b"  # what Cassandra's driver calls its options
)


def files(folder: Path) -> list[Path]:
    """The Python files of a folder, at any depth."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(source: str, module: str) -> Iterator[str]:
    """The dotted names that a source imports, `from` imports with each of their names.

    Args:
        module: the source's own dotted name, which relative imports begin at.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            yield f"<computed: {ast.unparse(node)}>"


def forbidden(imported: str, allowed: set[str]) -> bool:
    """Whether a layer that may import `allowed` of this project may not import this."""
    if imported.startswith("<computed"):
        return True
    first, *rest = imported.split(".")
    if imported.startswith("rookery.options.") and "rookery.options" in allowed:
        return False
    if first == "services":
        return ".".join([first, *rest[:1]]) not in allowed
    return first in OURS and first not in allowed


def trespasses(folder: Path, allowed: set[str]) -> list[str]:
    """The imports of a folder's files that leave its bounds."""
    found: list[str] = []
    for path in files(folder):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found += [
            f"{path.relative_to(ROOT)}: {name}"
            for name in imports(path.read_text(), module)
            if forbidden(name, allowed)
        ]
    return found


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("import services.graph.domain", True),
        ("from services.graph.domain import Line", True),
        ("from services import graph", True),
        ("from ...graph import domain", True),
        ("from .. import store", False),
        ("from services.tweet.store.sql import SqlTweetStore", False),
        ("def f():\n    from cli import main", True),
        ("import tests.conftest", True),
        ("import importlib\nimportlib.import_module('services.graph')", True),
        ("from mesh.ids import SnowflakeIds\nfrom views.entry import Entry\nimport rookery.api.v2", False),
        ("import grpc, structlog", False),
    ],
)
def test_the_rule_on_imports_sees_them_in_any_form(source: str, refused: bool) -> None:
    allowed = {"mesh", "rookery", "views", "services.tweet"}
    assert any(forbidden(name, allowed) for name in imports(source, "services.tweet.rpc.create_tweet")) is refused


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_a_layer_imports_only_what_is_below_it(layer: str) -> None:
    assert len(files(ROOT / layer)) > 5, "there is nothing to check"
    assert trespasses(ROOT / layer, LAYERS[layer]) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    allowed = set().union(*LAYERS.values(), {f"services.{service}"})
    assert len(files(ROOT / "services" / service)) > 5, "there is nothing to check"
    assert trespasses(ROOT / "services" / service, allowed) == []


def test_every_service_of_the_tree_was_checked() -> None:
    """A service without an `app.py` would escape the tests above."""
    folders = {path.name for path in (ROOT / "services").iterdir() if any(path.glob("*.py"))}
    assert folders == set(SERVICES)
    assert len(SERVICES) >= 5


# --- words


def words(text: str) -> Iterator[str]:
    """The lower-case words of a text; names are cut at underscores and capitals, "fan-out" is "fanout"."""
    text = re.sub(r"fan[- ]out", "fanout", ALLOWED.sub("", text), flags=re.I)
    for run in re.findall(r"[A-Za-z]+", text):
        yield from (part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", run))


def domain_words(path: Path) -> list[str]:
    """Where a Python file speaks of the domain: names, strings and comments."""
    found: list[str] = []
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            banned = DOMAIN | AS_NAMES if token.type == tokenize.NAME else DOMAIN
            found += [f"{path.name}:{token.start[0]}: {word}" for word in words(token.string) if word in banned]
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("tweet_count = 1", True),
        ("class TweetStore: ...", True),
        ("key = 'home-timeline:1'", True),
        ("x = 1  # as for a celebrity", True),
        ('"""Of fan-out."""', True),
        ("def like(): ...", True),
        ("HTTPFollower = 1", True),
        ("USER_ID = 'x'", True),
        ("KEY = 'x-user-id'", False),
        ('"""A failure like any other; what follows is plain."""', False),
        ("following = 1", False),  # "the handler that follows"; who follows whom is called otherwise here
        ("authority = authorize(unauthorized)", False),
    ],
)
def test_the_rule_on_words_sees_them_in_any_form(tmp_path: Path, source: str, found: bool) -> None:
    path = tmp_path / "one.py"
    path.write_text(f"{source}\n")
    assert bool(domain_words(path)) is found


def test_the_runtime_has_no_word_of_the_domain() -> None:
    assert [hit for path in files(ROOT / "mesh") for hit in domain_words(path)] == []


# --- environment


def environment_reads(source: str) -> list[str]:
    """Where a source reads the process's environment by itself."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {alias.name for alias in node.names} & {"environ", "environb", "getenv", "getenvb"}
        )
    ]


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os as o\no.getenv('A')", "from os import environ as e"]
)
def test_the_rule_on_the_environment_sees_reads_in_any_form(source: str) -> None:
    assert environment_reads(source)


def test_only_settings_read_the_environment() -> None:
    """`mesh/settings.py` alone reads the process's; `settings.py` of each service alone asks it for a variable."""
    sources = [path for folder in ("mesh", "services", "views") for path in files(ROOT / folder)]
    readers = [str(path.relative_to(ROOT)) for path in sources if environment_reads(path.read_text())]
    assert readers == ["mesh/settings.py"]

    asking = re.compile(r"\benv\.(?:text|number|secret)\(|\.values\[|ROOKERY_")
    askers = {path.name for path in sources if path.name != "settings.py" and asking.search(path.read_text())}
    assert askers == set()
    takers = {path.name for path in sources if re.search(r"import .*\bEnvironment\b", path.read_text())}
    assert takers == {"app.py", "server.py", "settings.py"}


# --- outgoing calls


def dialled(source: str) -> list[str]:
    """Uses of gRPC channels and stubs other than handing a stub's class to a Destination, which sets deadlines."""
    tree = ast.parse(source)
    handed = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Destination"
        for argument in node.args
    } | {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).split(".")[-1] == "Destination"
        for part in ast.walk(node.slice)
    }
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if id(node) not in handed
        and (
            (isinstance(node, ast.Name) and re.search(r".Stub$", node.id))
            or (isinstance(node, ast.Attribute) and node.attr in {"insecure_channel", "secure_channel"})
        )
    ]


def called_past_the_destination(source: str) -> list[str]:
    """Methods of a stub that are called where they stand, rather than handed to `Destination.call`."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and re.search(r"\bstub\.\w+$", ast.unparse(node.func))
    ]


def test_the_rule_on_calls_sees_a_stub_that_is_used_directly() -> None:
    assert dialled("stub = UserServiceStub(channel)")
    assert dialled("grpc.aio.insecure_channel(target)")
    assert not dialled("def f(user: Destination[UserServiceStub]): Destination('user', target, UserServiceStub)")
    assert called_past_the_destination("await self._user.stub.GetUser(request)")
    assert not called_past_the_destination("await self._user.call(self._user.stub.GetUser, request)")


def test_every_call_between_services_goes_through_a_destination() -> None:
    """So each has a deadline, a breaker and a bulkhead."""
    sources = [path for folder in ("mesh", "services", "views") for path in files(ROOT / folder)]
    found = {
        str(path.relative_to(ROOT)): hits
        for path in sources
        if (hits := dialled(path.read_text()) + called_past_the_destination(path.read_text()))
    }
    assert {path: {*hits} for path, hits in found.items()} == {
        "mesh/client.py": {"grpc.aio.insecure_channel", "grpc.aio.secure_channel"}
    }
    handed = [path for path in sources if re.search(r"\.call\(\s*[\w.]+\.stub\.\w+", path.read_text())]
    assert len(handed) >= 3, "no calls found: they are written in another way, and this test sees none of it"


async def test_a_destination_gives_each_call_a_deadline() -> None:
    """Also when the caller has none itself, which is so for consumers of events."""
    given: list[float | None] = []

    async def method(request: Empty, *, timeout: float | None, metadata: object) -> Empty:  # noqa: ASYNC109
        given.append(timeout)
        return request

    destination = Destination("nobody", "unix:///nowhere", lambda channel: channel)
    try:
        await destination.call(cast("grpc.aio.UnaryUnaryMultiCallable[Empty, Empty]", method), Empty())
    finally:
        await destination.close()
    assert given[0] is not None
    assert 0 < given[0] <= 5


def test_nobody_takes_the_deadline_off() -> None:
    given = [
        f"{path.relative_to(ROOT)}: {ast.unparse(keyword.value)}"
        for folder in ("services", "views")
        for path in files(ROOT / folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in {"timeout_s", "timeout"}
    ]
    assert [one for one in given if one.endswith((": None", ": 0", "inf')", "inf"))] == []
