"""Who may call whom, by the contracts' option `callers`, is who does: no more, and no fewer.

Read off the sources: `app.py` says which stub each Destination has, and every call goes through `destination.call(
destination.stub.Method, ...)` (test_layers.py sees to that).
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from rookery.options.v1 import callers_pb2

from cli.profile import EDGE, IDENTITIES, OPERATOR, SERVICES

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def listed_callers() -> dict[str, dict[tuple[str, bool], frozenset[str]]]:
    """For each service: gRPC path of each RPC, whether its answer is a stream, and who may call it."""
    described = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "gen" / "descriptors.pb").read_bytes())
    found: dict[str, dict[tuple[str, bool], frozenset[str]]] = {}
    for file in described.file:
        owner = re.fullmatch(r"rookery\.(\w+)\.v\d+", file.package)
        for service in file.service if owner else ():
            assert owner is not None
            rpcs = found.setdefault(owner.group(1), {})
            for method in service.method:
                callers = {*method.options.Extensions[callers_pb2.callers]}
                if method.options.HasExtension(annotations_pb2.http):
                    callers.add(EDGE)
                rpcs[f"/{file.package}.{service.name}/{method.name}", method.server_streaming] = frozenset(callers)
    return found


def trees(folder: Path) -> Iterator[ast.Module]:
    """The sources of a folder."""
    return (ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py")))


def called_methods(tree: ast.AST) -> set[str]:
    """Names of RPCs in `something.stub.Name`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "stub"
    }


@functools.cache
def called_by_views() -> dict[str, set[str]]:
    """RPCs that each function and class of `views` calls."""
    return {
        node.name: methods
        for tree in trees(ROOT / "views")
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (methods := called_methods(node))
    }


def destinations(service: str) -> list[ast.Call]:
    """The Destinations that a service makes."""
    return [
        node
        for tree in trees(ROOT / "services" / service)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Destination"
    ]


def calls_of(service: str) -> set[str]:
    """gRPC paths that a service calls."""
    stubs = {ast.unparse(node.args[2]).removesuffix("Stub") for node in destinations(service)}
    methods: set[str] = set()
    for tree in trees(ROOT / "services" / service):
        methods |= called_methods(tree)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        methods |= set().union(*(found for name, found in called_by_views().items() if name in used))
    return {
        path
        for rpcs in listed_callers().values()
        for path, _ in rpcs
        if path.split("/")[1].rpartition(".")[2] in stubs and path.rpartition("/")[2] in methods
    }


def test_every_rpc_says_who_may_call_it() -> None:
    assert {*listed_callers()} <= {*SERVICES}
    wrong = {
        path: sorted(callers)
        for rpcs in listed_callers().values()
        for (path, _), callers in rpcs.items()
        if not callers or not callers <= {*IDENTITIES}
    }
    assert wrong == {}, "add `option (rookery.options.v1.callers) = ...` to these"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_listed_for_what_it_calls_and_for_nothing_else(service: str) -> None:
    """What is listed without need could be called by whoever gets hold of that service's key."""
    listed = {path for rpcs in listed_callers().values() for (path, _), callers in rpcs.items() if service in callers}
    assert listed == calls_of(service)


def test_operators_and_the_edge_are_listed_for_nothing_of_each_others() -> None:
    """The edge for public RPCs only; operators only for what a person does by hand or `rookery seed` does."""
    for rpcs in listed_callers().values():
        for (path, _), callers in rpcs.items():
            assert not (EDGE in callers and "MeshService" in path), path
            assert not (OPERATOR in callers and "Archive" in path), path


@pytest.mark.parametrize("service", SERVICES)
def test_every_destination_shows_the_services_certificate(service: str) -> None:
    for node in destinations(service):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        name = ast.literal_eval(node.args[0])
        assert given.get("identity") == "identity", ast.unparse(node)
        assert ast.literal_eval(given.get("peer", repr(name))) in SERVICES, ast.unparse(node)
