"""The contracts, as a whole: envelopes, routes, comments, bounds, and that each RPC is answered by its service."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from buf.validate import validate_pb2
from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from prometheus_client import CollectorRegistry
from rookery.api.v2.envelope_pb2 import Includes, Meta, Problem
from rookery.api.v2.list_pb2 import List
from rookery.api.v2.tweet_pb2 import Tweet
from rookery.api.v2.user_pb2 import User
from rookery.options.v1 import access_pb2
from rookery.options.v1.access_pb2 import Access

from cli.edge import EdgeConfig
from mesh.client import ClientMetrics
from mesh.db.migrations import migrate
from mesh.server import Service
from mesh.settings import Environment
from services.user.scopes import OF_CLIENTS, SCOPES

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/app.py"))
ENVELOPE = {"data": 1, "includes": 2, "errors": 3, "meta": 4}
"""What views/present.py writes by number."""
RESOURCES = (Tweet.DESCRIPTOR, User.DESCRIPTOR, List.DESCRIPTOR)
"""What `data` may be a page of."""
VERBS = ("get", "put", "post", "delete", "patch")
MOST = 10_000
"""No contract lets more characters or elements in than this."""
ELSEWHERE = {"rookery.api.v2.Fields.fields"}
"""Selections have no rule here: the edge bounds the address that they stand in, and views/plan.py knows each name."""


def modules() -> list[FileDescriptor]:
    """Every generated file of this project's."""
    return [
        importlib.import_module(".".join(path.relative_to(ROOT / "proto").with_suffix("").parts) + "_pb2").DESCRIPTOR
        for path in sorted((ROOT / "proto").rglob("*.proto"))
    ]


FILES = modules()
DECLARED: list[tuple[FileDescriptor, ServiceDescriptor]] = [
    (file, service) for file in FILES for service in file.services_by_name.values()
]
PUBLIC = [service for file, service in DECLARED if file.name.endswith("_service.proto")]
MESH = [service for file, service in DECLARED if file.name.endswith("_mesh.proto")]


def methods(services: list[ServiceDescriptor]) -> list[MethodDescriptor]:
    """All RPCs of these."""
    return [method for service in services for method in service.methods]


def messages() -> Iterator[Descriptor]:
    """All messages, nested ones too."""
    waiting = [message for file in FILES for message in file.message_types_by_name.values()]
    while waiting:
        message = waiting.pop()
        waiting += message.nested_types
        yield message


def named(method: MethodDescriptor) -> str:
    """`Service.Method`, for parametrized tests."""
    return f"{method.containing_service.name}.{method.name}"


def test_every_service_is_declared_as_public_or_as_of_the_mesh() -> None:
    """Its file says which; the edge's routes and the tests below depend on it."""
    assert {service.full_name for _, service in DECLARED} == {s.full_name for s in PUBLIC + MESH}
    assert all(service.name.endswith("MeshService") for service in MESH)
    assert not any("Mesh" in service.name for service in PUBLIC)
    assert len(methods(PUBLIC)) > 15
    assert len(methods(MESH)) > 8


# --- envelopes


def test_members_of_an_envelope_have_their_numbers_and_types_everywhere() -> None:
    checked = 0
    for message in messages():
        kinds = {
            "includes": (Includes.DESCRIPTOR, False),
            "errors": (Problem.DESCRIPTOR, True),
            "meta": (Meta.DESCRIPTOR, False),
        }
        if message.full_name.startswith("rookery.api.v2."):
            continue  # resources, not answers
        for name, number in ENVELOPE.items():
            field = message.fields_by_name.get(name)
            if field is None:
                continue
            checked += 1
            assert field.number == number, field.full_name
            assert field.type == FieldDescriptor.TYPE_MESSAGE, field.full_name
            if name in kinds:
                assert (field.message_type, field.is_repeated) == kinds[name], field.full_name
    assert checked > 40, "there is nothing to check"


@pytest.mark.parametrize("method", methods(PUBLIC), ids=named)
def test_an_answer_with_resources_is_an_envelope_and_nothing_else(method: MethodDescriptor) -> None:
    """`present_tweets` and `present_users` may write any of the four, so each message has all that they may need."""
    answer = method.output_type
    if answer.full_name == "google.api.HttpBody":
        return  # bytes as they are
    data = answer.fields_by_name.get("data")
    if data is None:
        assert not set(answer.fields_by_name) & set(ENVELOPE), "an envelope without data"
        return
    assert set(answer.fields_by_name) <= set(ENVELOPE)
    if "includes" in answer.fields_by_name or "errors" in answer.fields_by_name:
        assert data.message_type in RESOURCES
        assert {"includes", "errors"} <= set(answer.fields_by_name)
    if data.is_repeated and data.message_type in RESOURCES:
        assert {"includes", "errors"} <= set(answer.fields_by_name)
    assert ("pagination_token" in method.input_type.fields_by_name) == ("meta" in answer.fields_by_name)


def test_included_resources_have_the_numbers_that_they_are_written_with() -> None:
    numbers = {
        field.name: (field.number, field.message_type, field.is_repeated) for field in Includes.DESCRIPTOR.fields
    }
    assert numbers["users"] == (1, User.DESCRIPTOR, True)
    assert numbers["tweets"] == (2, Tweet.DESCRIPTOR, True)
    assert numbers["posts"] == (3, Tweet.DESCRIPTOR, True)


# --- routes


def rules(method: MethodDescriptor) -> list[HttpRule]:
    """The HTTP rules of an RPC, additional ones too."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    first = options.Extensions[annotations_pb2.http]
    return [first, *first.additional_bindings]


def route(rule: HttpRule) -> tuple[str, str]:
    """Verb and path of a rule."""
    verb = rule.WhichOneof("pattern")
    assert verb in VERBS
    return verb, str(getattr(rule, verb))


@pytest.mark.parametrize("method", methods(PUBLIC), ids=named)
def test_a_public_rpc_has_routes_that_its_request_can_take(method: MethodDescriptor) -> None:
    assert rules(method)
    for rule in rules(method):
        verb, path = route(rule)
        assert re.fullmatch(r"(/[a-z0-9_.\-]+|/\{[a-z_.]+\})+", path), path
        for variable in re.findall(r"\{([a-z_.]+)\}", path):
            field = method.input_type.fields_by_name.get(variable)
            assert field is not None, f"{path} binds {variable}, which {method.input_type.name} has not"
            assert not field.is_repeated
        if verb in ("get", "delete"):
            assert not rule.body, f"{verb} {path} takes a body, which clients and proxies drop"
        else:
            assert rule.body == "*", f"{verb} {path} takes no body"


# --- who may call


def access(method: MethodDescriptor) -> Access | None:
    """Who may call, as the contract has it."""
    options = method.GetOptions()
    return options.Extensions[access_pb2.access] if options.HasExtension(access_pb2.access) else None


@pytest.mark.parametrize("method", methods(PUBLIC), ids=named)
def test_a_public_rpc_says_who_may_call_it(method: MethodDescriptor) -> None:
    """Either anybody, or whoever has certain scopes; a scope is one that clients can have, or `account`."""
    rule = access(method)
    assert rule is not None, "option (rookery.options.v1.access) is missing"
    assert bool(rule.open) != bool(rule.scopes or rule.roles)
    assert {*rule.scopes} <= {*SCOPES, "account"}
    assert all(re.fullmatch("[a-z_]+", role) for role in rule.roles)
    if rule.clients:
        assert all(scope.endswith(".read") for scope in rule.scopes), "a client in its own name has nothing to write"
        assert {*rule.scopes} <= {*OF_CLIENTS.split()}, "no token of a client has this scope"


def test_no_rpc_of_the_mesh_says_who_may_call_it() -> None:
    """The interceptor would hold services to it, which have no tokens."""
    assert [named(method) for method in methods(MESH) if access(method)] == []


def test_the_edge_asks_for_a_token_exactly_where_the_contract_does() -> None:
    edge = EdgeConfig(targets={}, admin_port=0)
    open_paths = {path for method in methods(PUBLIC) if access(method).open for _, path in map(route, rules(method))}
    assert {*edge.public_paths, *edge.optional_paths} - {"/healthz", "/openapi.json"} == open_paths


def test_no_rpc_of_the_mesh_has_a_route() -> None:
    assert [named(method) for method in methods(MESH) if rules(method)] == []


def test_no_two_rpcs_share_a_route() -> None:
    owners: dict[tuple[str, str], list[str]] = {}
    for method in methods(PUBLIC):
        for rule in rules(method):
            verb, path = route(rule)
            owners.setdefault((verb, re.sub(r"\{[^}]*\}", "{}", path)), []).append(named(method))
    assert {where: who for where, who in owners.items() if len(who) > 1} == {}


# --- bounds


def bounded(field: FieldDescriptor) -> bool:
    """Whether a field that may be long has a rule that says how long at most."""
    rule = field.GetOptions().Extensions[validate_pb2.field]
    if rule.cel and not field.is_repeated:
        return True  # an expression of its own; tests/e2e/test_bad_input.py sends what it refuses
    if field.is_repeated:
        return 0 < rule.repeated.max_items <= MOST
    text = rule.string if field.type == FieldDescriptor.TYPE_STRING else rule.bytes
    most = max(text.max_len, getattr(text, "max_bytes", 0), text.len)
    return 0 < most <= MOST or len(getattr(text, "in")) > 0


def unbounded(message: Descriptor, path: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Fields below a request that may hold any number of characters or elements.

    A body as it came is none of them: the edge bounds it, and so does who reads it (services/user/forms.py).
    """
    if message.full_name == "google.api.HttpBody":
        return
    for field in message.fields:
        here = f"{path}.{field.name}"
        long = field.is_repeated or field.type in (field.TYPE_STRING, field.TYPE_BYTES)
        if long and field.full_name not in ELSEWHERE and not bounded(field):
            yield here
        if field.message_type is not None and field.message_type.full_name not in seen:
            yield from unbounded(field.message_type, here, seen | {message.full_name})


@pytest.mark.parametrize("method", methods(PUBLIC), ids=named)
def test_nothing_that_comes_from_outside_is_without_a_bound(method: MethodDescriptor) -> None:
    assert sorted(unbounded(method.input_type, method.input_type.name)) == []


@pytest.mark.parametrize("method", methods(PUBLIC), ids=named)
def test_a_page_has_a_size_within_bounds(method: MethodDescriptor) -> None:
    size = method.input_type.fields_by_name.get("max_results")
    if "meta" in method.output_type.fields_by_name:
        assert size is not None
    if size is not None:
        rule = size.GetOptions().Extensions[validate_pb2.field].int32
        assert rule.gte >= 1
        assert 1 <= rule.lte <= 1000
        assert size.has_presence, "an absent size could not be told from 0"


# --- comments, and gen/


def tool_path() -> dict[str, str]:
    """The environment, with this interpreter's tools (protoc's plugins) first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def generate(*args: str) -> None:
    """Runs scripts/gen.py."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gen.py"), *args],
        env=tool_path(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_rpc_says_what_it_does_and_who_calls_it_and_what_it_touches(tmp_path: Path) -> None:
    """The comment begins with the RPC's name and has the sentences `Callers:` and `Access:`."""
    generate("--image", str(tmp_path / "image.binpb"))
    image = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "image.binpb").read_bytes())
    comments: dict[str, str] = {}
    for file in image.file:
        if not file.name.startswith("rookery/"):
            continue
        said = {tuple(at.path): " ".join(at.leading_comments.split()) for at in file.source_code_info.location}
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                comments[f"{service.name}.{method.name}"] = said.get((6, i, 2, j), "")
    assert comments.keys() == {named(method) for method in methods(PUBLIC + MESH)}
    lacking = {
        name: comment
        for name, comment in comments.items()
        if not comment.startswith(f"{name.split('.')[1]} ")
        or not re.search(r"\bCallers: \S", comment)
        or not re.search(r"\bAccess: \S", comment)
    }
    assert lacking == {}


def test_generated_code_is_what_the_contracts_make(tmp_path: Path) -> None:
    """`gen/` is committed: forgetting `make gen` must not pass."""
    generate(str(tmp_path / "gen"))

    def tree(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    fresh, kept = tree(tmp_path / "gen"), tree(ROOT / "gen")
    assert len(fresh) > 40
    assert fresh.keys() == kept.keys()
    assert sorted(name for name in fresh if fresh[name] != kept[name]) == [], "run `make gen`"


# --- handlers


async def built(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service as its composition root makes it, with stores of its own; nothing is started."""

    def private(cls: type[ClientMetrics]) -> ClientMetrics:
        registry = CollectorRegistry()  # five services in one process would register the same metrics
        return made(registry)

    made = ClientMetrics.create
    monkeypatch.setattr(ClientMetrics, "create", classmethod(private))
    schema = ROOT / "services" / name / "schema" / "sql"
    values = {f"ROOKERY_{other.upper()}_TARGET": f"unix://{folder}/{other}.sock" for other in SERVICES}
    values |= dict.fromkeys(("ROOKERY_CACHE_URL", "ROOKERY_BUS_URL"), "unix:///nowhere/s?db=0")
    values["ROOKERY_CURSOR_KEY"] = "0123456789abcdef"
    values["ROOKERY_SECRETS_KEY"] = "fedcba9876543210"
    values["ROOKERY_LIMITS_FILE"] = str(ROOT / "services" / "ratelimit" / "limits.yaml")
    values["ROOKERY_OBJECTS_URL"] = f"file://{folder}/objects"
    values["ROOKERY_SMTP_URL"] = f"file://{folder}/mail"
    if schema.exists():
        url = f"sqlite+aiosqlite:///{folder}/{name}.db"
        await migrate(url, schema)
        values |= {f"ROOKERY_{one}_URL": url for one in (name.upper(), f"{name.upper()}S")}
    app = importlib.import_module(f"services.{name}.app")
    monkeypatch.setattr(app, "REGISTRY", CollectorRegistry(), raising=False)  # the bus's metrics, likewise
    service = await app.build(Environment(values))
    assert isinstance(service, Service)
    return service


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_answers_every_rpc_of_its_contracts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await built(name, tmp_path, monkeypatch)
    try:
        own = [rpc for rpc in service.rpcs if rpc.service.startswith("rookery.")]
        answered = {f"{rpc.service}.{rpc.method}" for rpc in own}
        assert len(answered) == len(own), "an RPC is answered twice"
        elsewhere = {rpc.path for rpc in service.rpcs if rpc not in own}  # what Envoy's own contract has
        assert elsewhere == ({"/envoy.service.auth.v3.Authorization/Check"} if name == "user" else set())
        package = f"rookery.{name}.v1"
        assert answered == {
            method.full_name for method in methods(PUBLIC + MESH) if method.containing_service.file.package == package
        }
        assert all(callable(rpc.handler) for rpc in service.rpcs)
        assert service.rpcs or service.unary
    finally:
        for step in service.stop:
            await step()


def test_every_contract_has_a_service() -> None:
    others = {path.parent.name for path in ROOT.glob("services/*/contract.py")}  # whose contract is not ours
    assert {service.file.package.split(".")[1] for service in PUBLIC + MESH} | others == set(SERVICES)
