"""The document of the REST face: that it is one, and says what contracts, code and prose say."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import protovalidate
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from openapi_spec_validator import OpenAPIV31SpecValidator

from cli.edge import EdgeConfig
from scripts.operations import known_operations
from tests.e2e.harness import INSIDE
from tests.e2e.rest_world import Described, described
from views.plan import FIELDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "gen" / "openapi.json").read_text())
OPERATIONS = {one.name: one for one in described(DOCUMENT)}


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_has_every_operation_and_no_other() -> None:
    assert OPERATIONS.keys() == {f"{one.method} {one.path}" for one in known_operations()}


def test_it_has_no_name_of_the_inside() -> None:
    text = (ROOT / "gen" / "openapi.json").read_text().lower()
    words = (*INSIDE, "callers:", "access:", "read model", "protobuf", "not_found", "permission_denied", "invalid_arg")
    assert [word for word in words if word in text] == []


def test_everything_in_it_is_described() -> None:
    bare = [
        f"{name} {part['name']}"
        for name, operation in OPERATIONS.items()
        for part in operation.content.get("parameters", ())
        if not part.get("description")
    ]
    bare += [name for name, operation in OPERATIONS.items() if not operation.content["description"]]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for member, content in schema.get("properties", {}).items():
            if not content.get("description") and name != "ProblemDocument":
                bare.append(f"{name}.{member}")
    assert bare == []


def _requests() -> Iterator[tuple[Described, type[Message]]]:
    for path in sorted((ROOT / "gen" / "rookery").glob("*/v1/*_service_pb2.py")):
        importlib.import_module(".".join(path.relative_to(ROOT / "gen").with_suffix("").parts))
    pool = descriptor_pool.Default()
    for operation in known_operations():
        service, _, method = operation.rpc[1:].rpartition("/")
        asked = pool.FindServiceByName(service).FindMethodByName(method).input_type
        yield OPERATIONS[f"{operation.method} {operation.path}"], message_factory.GetMessageClass(asked)


def test_what_it_requires_is_what_an_empty_request_lacks() -> None:
    validator = protovalidate.Validator()
    for operation, request in _requests():
        missing = {
            violation.proto.field.elements[0].field_name for violation in validator.collect_violations(request())
        }
        told = {part["name"] for part in operation.content.get("parameters", ()) if part["required"]}
        told |= set((operation.body or {}).get("required", ()))
        assert missing <= told, operation.name
        assert told <= missing | set(re.findall(r"\{(\w+)\}", operation.path)), operation.name


def _body(name: str) -> Mapping[str, Any]:
    found = OPERATIONS[name].body
    assert found is not None
    return found


def test_rules_of_contracts_are_in_its_schemas() -> None:
    registering = _body("POST /v1/auth/register")["properties"]
    assert registering["username"]["pattern"] == "^[A-Za-z0-9_]{1,15}$"
    assert (registering["password"]["minLength"], registering["password"]["maxLength"]) == (8, 128)
    assert registering["email"]["format"] == "email"
    assert registering["name"]["not"] == {"pattern": r"[\x00-\x1f\x7f-\x9f]"}
    tweeting = _body("POST /2/tweets")["properties"]
    assert tweeting["reply_settings"]["enum"] == ["", "everyone", "mentionedUsers", "following"]
    poll = OPERATIONS["POST /2/tweets"].resolved(tweeting["poll"])
    assert poll["required"] == ["options", "duration_minutes"]
    assert (poll["properties"]["options"]["minItems"], poll["properties"]["options"]["maxItems"]) == (2, 4)
    assert poll["properties"]["options"]["items"] == {"type": "string", "minLength": 1, "maxLength": 25}
    target = _body("POST /2/users/{id}/following")["properties"]["target_user_id"]
    assert target["type"] == ["string", "integer"]
    assert (target["minimum"], target["maximum"], target["pattern"]) == (1, 2**63 - 1, "^[1-9][0-9]{0,18}$")
    assert "id" not in _body("POST /2/users/{id}/following")["properties"]  # the path has it


def test_parameters_have_their_dotted_names_and_all_that_they_take() -> None:
    operation = OPERATIONS["GET /2/users/{id}/tweets"]
    parameters = {part["name"]: part for part in operation.content["parameters"]}
    for name, known in FIELDS.items():
        assert parameters[name]["explode"] is False
        assert operation.resolved(parameters[name]["schema"])["items"]["enum"] == sorted(known)
    assert {"max_results", "pagination_token", "expansions", "since_id", "start_time"} <= parameters.keys()
    assert parameters["max_results"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100}
    assert {part["name"] for part in OPERATIONS["GET /feed"].content["parameters"]}.isdisjoint({"id"})


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        ("POST /v1/auth/register", {"201", "400", "409", "413"}, {"200", "401", "404"}),
        ("POST /v1/auth/login", {"200", "401", "403"}, {"201", "404"}),
        ("POST /v1/exports", {"200", "202", "401"}, {"404"}),
        ("DELETE /2/tweets/{id}", {"200", "401", "403", "404"}, {"409", "413"}),
        ("POST /2/users/{id}/following", {"200", "401", "403", "404"}, {"201", "409"}),
        ("GET /2/tweets/{id}", {"200", "400", "401", "429", "503"}, {"404", "409", "413"}),
    ],
)
def test_statuses_are_those_that_comments_tell(name: str, has: set[str], has_not: set[str]) -> None:
    told = OPERATIONS[name].content["responses"].keys()
    assert has <= told
    assert told.isdisjoint(has_not)


def test_an_operation_needs_a_token_unless_the_edge_lets_it_through() -> None:
    edge = EdgeConfig(targets={}, admin_port=0)
    for operation in OPERATIONS.values():
        security = operation.content["security"]
        assert (security == []) == (operation.path in edge.public_paths), operation.name
        assert ({} in security) == (operation.path in edge.optional_paths), operation.name


def test_problems_and_archives_have_their_types() -> None:
    for status, answer in DOCUMENT["components"]["responses"].items():
        assert list(answer["content"]) == ["application/problem+json"], status
    archive = OPERATIONS["GET /v1/exports/{id}/archive"].content["responses"]["200"]
    assert list(archive["content"]) == ["application/zip"]
