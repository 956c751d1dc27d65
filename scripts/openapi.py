"""Describes the REST face: an OpenAPI 3.1 document made from the contracts.

usage: python scripts/openapi.py IMAGE OUT      (scripts/gen.py calls it; IMAGE is a descriptor set with comments)

Everything comes from what the mesh itself goes by: http rules, rules of protovalidate, comments, the names that
views.plan knows, the paths that cli.edge lets through without a token, the statuses of mesh.errors. Generators that
exist for protos (gnostic's protoc-gen-openapi, protoc-gen-connect-openapi) are programs in Go that print proto3's
default JSON: they know neither `tweet.fields` nor fields by X's names, statuses told by comments, or problems.

What comments tell: a success other than 200 as `(201)`, the type of a streamed answer as `(application/zip)`, other
statuses by the names of gRPC's codes (`Errors: NOT_FOUND for ...`), which become numbers. Sentences that begin with
`Callers:` and `Access:` are for those who work on the mesh, and are left out. Of a body that is no message
(google.api.HttpBody) the comment of its service names the types.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from cli.edge import EdgeConfig, Operation, edge_details, operations
from mesh.errors import STATUSES
from services.graph import listings
from services.user.scopes import OF_CLIENTS, SCOPES
from views import plan

ROOT = Path(__file__).resolve().parent.parent
_PROBLEM_TYPE = "application/problem+json"
_VARIABLE = re.compile(r"\{(\w+)[^}]*\}")
_INSIDE = re.compile(r"\s*\b(?:Callers|Access):.*?\.(?=\s|$)", re.S)
_CODE = re.compile(rf"\b({'|'.join(STATUSES)})\b")
_MATCHES = re.compile(r"(?P<empty>this == '' \|\| )?(?P<not>!)?this\.matches\('(?P<pattern>.*)'\)")
_VIEWER_ONLY = re.compile(r"must be\s+the\s+viewer")
_INT64 = 2**63 - 1
_HTTP_BODY = "google.api.HttpBody"
_ACCESS = "[rookery.options.v1.access]"
# What any operation may answer besides what its comment says, and any with a body.
_ALWAYS = (400, 408, 429, 431, 500, 502, 503, 504)
_WITH_BODY = (413, 415)
_EXPANSIONS = {
    "Tweet": plan.TWEET_EXPANSIONS,
    "User": plan.USER_EXPANSIONS,
    "List": listings.EXPANSIONS,
}
_NAMES = {**plan.FIELDS, "list.fields": listings.FIELDS}

Schema = dict[str, object]


class Contracts:
    """A descriptor set with its comments and the options that it declares itself."""

    def __init__(self, image: bytes) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(image).file
        self._pool = descriptor_pool.DescriptorPool()
        self._comments: dict[str, str] = {}
        self.services: list[ServiceDescriptor] = []
        for file in files:
            self._pool.Add(file)
            self._comments.update(_comments(file))
        for file in files:
            found = self._pool.FindFileByName(file.name)
            self.services.extend(found.services_by_name.values())

    def comment(self, full_name: str) -> str:
        """The comment before a message, a field, a service or an RPC, as one text; empty for none."""
        return self._comments.get(full_name, "")

    def options(self, of: FieldDescriptor | MethodDescriptor, kind: str) -> dict[str, object]:
        """Options as JSON has them, extensions by `[full.name]`."""
        message = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"google.protobuf.{kind}"))
        parsed = message.FromString(of.GetOptions().SerializeToString())
        found: dict[str, object] = json_format.MessageToDict(
            parsed, preserving_proto_field_name=True, descriptor_pool=self._pool
        )
        return found

    def rules(self, field: FieldDescriptor) -> dict[str, object]:
        """What protovalidate asks of a field."""
        return _part(self.options(field, "FieldOptions"), "[buf.validate.field]")


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Comments by the full names of what they are about (descriptor.proto, SourceCodeInfo.Location)."""
    for location in file.source_code_info.location:
        if location.leading_comments and (names := _named(file, list(location.path))):
            yield ".".join((file.package, *names)), " ".join(location.leading_comments.split())


def _named(of: Message, path: list[int]) -> list[str]:
    """The names on a path of fields' numbers and indexes; none where it leads to something without a name."""
    if not path:
        return []
    field = of.DESCRIPTOR.fields_by_number[path[0]]
    if not field.is_repeated or field.message_type is None or "name" not in field.message_type.fields_by_name:
        return []
    part: Message = getattr(of, field.name)[path[1]]
    rest = _named(part, path[2:])
    name: str = getattr(part, "name")  # noqa: B009 -- of messages that have one
    return [name, *rest] if rest or len(path) == 2 else []


def _list(of: Mapping[str, object], name: str) -> list[object]:
    found = of.get(name)
    return found if isinstance(found, list) else []


def _who(access: Mapping[str, object]) -> str:
    """Sentences about tokens, for what no security scheme says."""
    said = ""
    if roles := _list(access, "roles"):
        said += f" The caller has the role {' or '.join(map(str, roles))}."
    if access.get("clients"):
        said += " A client may call in its own name."
    return said


def _part(of: Mapping[str, object], name: str) -> dict[str, object]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}


class Document:
    """The document, as it grows."""

    def __init__(self, contracts: Contracts, edge: EdgeConfig) -> None:
        self._contracts = contracts
        self._edge = edge
        self._schemas: dict[str, Schema] = {}
        self._sources: dict[str, tuple[object, ...]] = {}
        self._statuses: set[int] = set()
        self._in_paths: set[str] = set()
        self._methods = {
            f"/{service.full_name}/{method.name}": method
            for service in contracts.services
            for method in service.methods
        }

    def of(self, known: list[Operation]) -> Schema:
        """Everything.

        Raises:
            ValueError: two messages of one name, or two operations of one id.
        """
        paths: dict[str, dict[str, Schema]] = {}
        ids: set[str] = set()
        self._in_paths = {name for operation in known for name in _VARIABLE.findall(operation.path)}
        for operation in known:
            described = self._operation(operation)
            name = str(described["operationId"])
            if name in ids:  # an additional binding of the same RPC
                name = described["operationId"] = name + re.sub(r"\W+", " ", operation.path).title().replace(" ", "")
            if name in ids:
                raise ValueError(f"two operations would be called {name}")
            ids.add(name)
            path = _VARIABLE.sub(r"{\1}", operation.path)
            paths.setdefault(path, {})[operation.method.lower()] = described
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Rookery",
                "version": project["version"],
                "description": "A social network in the shapes of the X API v2. Members that are not described may "
                "come to answers at any time; unknown members and parameters of requests are ignored.",
                "license": {"name": "Apache License 2.0", "identifier": project["license"]},
            },
            "servers": [{"url": "/"}],
            "tags": self._tags(known),
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": {**dict(sorted(self._schemas.items())), **_problem_schemas()},
                "responses": {str(status): self._problem(status) for status in sorted(self._statuses)},
                "headers": {
                    "RequestId": {
                        "description": "The number of this request in logs.",
                        "schema": {"type": "string"},
                    },
                    **{name: {"description": what, "schema": _WHOLE} for name, what in _LIMIT_HEADERS.values()},
                },
                "securitySchemes": {
                    "bearer": {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": "JWT",
                        "description": "An access token. What is named with it are the scopes that it must have.",
                    },
                    "oauth2": {
                        "type": "oauth2",
                        "description": "How programs get access tokens: with PKCE (RFC 7636) and S256.",
                        "flows": {
                            "authorizationCode": {
                                "authorizationUrl": "/2/oauth2/authorize",
                                "tokenUrl": "/2/oauth2/token",
                                "refreshUrl": "/2/oauth2/token",
                                "scopes": dict(SCOPES),
                            },
                            "clientCredentials": {
                                "tokenUrl": "/2/oauth2/token",
                                "scopes": {name: SCOPES[name] for name in OF_CLIENTS.split()},
                            },
                        },
                    },
                },
            },
        }

    def _tags(self, known: list[Operation]) -> list[Schema]:
        services = {operation.rpc.split("/")[1] for operation in known}
        return [
            {"name": _tag(service), "description": _prose(self._contracts.comment(service.full_name))}
            for service in self._contracts.services
            if service.full_name in services
        ]

    def _operation(self, operation: Operation) -> Schema:
        method = self._methods[operation.rpc]
        service = method.containing_service
        comment = self._contracts.comment(f"{service.full_name}.{method.name}")
        access = _part(self._contracts.options(method, "MethodOptions"), _ACCESS)
        taken = method.input_type
        bound = _VARIABLE.findall(operation.path)
        described: Schema = {
            "operationId": method.name[0].lower() + method.name[1:],
            "summary": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", method.name).capitalize(),
            "description": _prose(comment) + _who(access),
            "tags": [_tag(service)],
        }
        parameters = [self._in_path(taken.fields_by_name[name]) for name in bound]
        # A name that is part of any path is a parameter nowhere (cli.edge).
        rest = [field for field in taken.fields if field.name not in self._in_paths]
        if not operation.body:
            shown = method.output_type.fields_by_name.get("data")
            of = shown.message_type.name if shown is not None and shown.message_type is not None else ""
            parameters += [found for field in rest for found in self._in_query(field, of)]
        if parameters:
            described["parameters"] = parameters
        if operation.body:
            described["requestBody"] = self._body(operation, method, bound)
        described["responses"] = self._answers(operation, method, comment, access)
        described["security"] = self._security(operation, access)
        if roles := _list(access, "roles"):
            described["x-roles"] = roles
        return described

    def _security(self, operation: Operation, access: Mapping[str, object]) -> list[Schema]:
        if operation.path in self._edge.public_paths:
            return []
        scopes = _list(access, "scopes")
        named: list[Schema] = [{"bearer": scopes}]
        if scopes and all(scope in SCOPES for scope in scopes):
            named.append({"oauth2": scopes})
        return [*named, {}] if operation.path in self._edge.optional_paths else named

    # --- what comes in

    def _in_path(self, field: FieldDescriptor) -> Schema:
        schema = self._scalar(field, self._contracts.rules(field), as_text=True)
        return self._parameter(field.name, "path", schema, field, required=True)

    def _in_query(self, field: FieldDescriptor, of: str) -> Iterator[Schema]:
        if field.message_type is not None and not field.is_repeated:
            for part in field.message_type.fields:
                name = f"{field.name}.{part.name}"
                known = _NAMES.get(name)
                schema = self._scalar(part, self._contracts.rules(part), as_text=True)
                schema = self._choice(name, known) if known else schema
                yield self._parameter(name, "query", schema, field, required=False)
            return
        rules = self._contracts.rules(field)
        if field.name == "expansions" and of in _EXPANSIONS:
            schema = self._choice(f"{of}.expansions", _EXPANSIONS[of])
        elif field.is_repeated:
            schema = {"type": "array", "items": self._scalar(field, _items(rules), as_text=True)}
        else:
            schema = self._scalar(field, rules, as_text=True)
        yield self._parameter(field.name, "query", schema, field, required=_required(field, rules))

    def _choice(self, name: str, known: Set[str]) -> Schema:
        """A reference to the schema of some of the names that there are, by commas."""
        title = name.title().replace(".", "")
        if self._is_new(title, known):
            self._schemas[title] = {"type": "array", "items": {"type": "string", "enum": sorted(known)}}
        return {"$ref": f"#/components/schemas/{title}"}

    def _parameter(self, name: str, where: str, schema: Schema, field: FieldDescriptor, *, required: bool) -> Schema:
        found: Schema = {"name": name, "in": where, "required": required, "schema": schema}
        if comment := _prose(self._contracts.comment(field.full_name)):
            found["description"] = comment
        if "$ref" in schema:
            found |= {"style": "form", "explode": False}
        return found

    def _body(self, operation: Operation, method: MethodDescriptor, bound: list[str]) -> Schema:
        """Raises ValueError for a body that is one field: no contract has one, and it would need a schema."""
        taken = method.input_type
        if taken.full_name == _HTTP_BODY:
            kinds = _types(self._contracts.comment(method.containing_service.full_name)) or ["*/*"]
            texts = {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}
            return {"required": True, "content": dict.fromkeys(kinds, texts)}
        if operation.body != "*":
            raise ValueError(f"{operation.method} {operation.path}: a body that is the field {operation.body}")
        schema = self._asked(taken, frozenset(bound))
        return {
            "required": "required" in self._schemas[_schema_name(taken)],
            "content": {"application/json": {"schema": schema}},
        }

    def _asked(self, message: Descriptor, bound: frozenset[str] = frozenset()) -> Schema:
        """A reference to the schema of a request, without the fields that its path has."""
        name = _schema_name(message)
        if self._is_new(name, message.full_name, bound):
            properties: dict[str, Schema] = {}
            required = []
            for field in message.fields:
                if field.name in bound:
                    continue
                rules = self._contracts.rules(field)
                properties[field.name] = self._described(field, self._asked_field(field, rules))
                if _required(field, rules):
                    required.append(field.name)
            self._schemas[name] |= {"type": "object", "properties": properties}
            if required:
                self._schemas[name]["required"] = required
            if comment := _prose(self._contracts.comment(message.full_name)):
                self._schemas[name]["description"] = comment
        return {"$ref": f"#/components/schemas/{name}"}

    def _asked_field(self, field: FieldDescriptor, rules: Mapping[str, object]) -> Schema:
        if not field.is_repeated:
            return self._asked(field.message_type) if field.message_type else self._scalar(field, rules)
        listed = _part(rules, "repeated")
        items = self._asked(field.message_type) if field.message_type else self._scalar(field, _items(rules))
        schema: Schema = {"type": "array", "items": items}
        schema |= {ours: _number(listed[theirs]) for theirs, ours in _LISTS.items() if theirs in listed}
        return schema

    def _scalar(self, field: FieldDescriptor, rules: Mapping[str, object], *, as_text: bool = False) -> Schema:
        """A value of a request.

        Args:
            field: its field.
            rules: those of the value.
            as_text: whether it stands in a URL, where a number has no quotes.
        """
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        if field.type == FieldDescriptor.TYPE_BOOL:
            return {"type": "boolean"}
        if field.type == FieldDescriptor.TYPE_STRING:
            return _text(_part(rules, "string"), rules)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return {"type": "number"}
        kind = next((name for name in rules if name.startswith(("int", "uint"))), "")
        bounds = _part(rules, kind)
        wide = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)
        least = _number(bounds.get("gte", -_INT64 - 1 if wide else -(2**31)))
        if "gt" in bounds:
            least = _number(bounds["gt"]) + 1
        if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
            least = max(least, 0)
        most = _number(bounds.get("lte", _INT64 if wide else 2**31 - 1))
        if not wide:
            return {"type": "integer", "minimum": least, "maximum": most}
        pattern = (
            r"^[1-9][0-9]{0,18}$" if least > 0 else r"^(0|[1-9][0-9]{0,18})$" if least == 0 else r"^-?[0-9]{1,19}$"
        )
        if as_text:
            return {"type": "string", "pattern": pattern}
        return {"type": ["string", "integer"], "pattern": pattern, "minimum": least, "maximum": most}

    def _described(self, field: FieldDescriptor, schema: Schema) -> Schema:
        comment = _prose(self._contracts.comment(field.full_name))
        return {**schema, "description": comment} if comment else schema

    # --- what goes out

    def _answers(
        self, operation: Operation, method: MethodDescriptor, comment: str, access: Mapping[str, object]
    ) -> dict[str, Schema]:
        answer: Schema = {
            "description": "What was asked for.",
            "headers": _every_header(),
        }
        if method.output_type.full_name == _HTTP_BODY:
            binary = {"schema": {"type": "string", "format": "binary"}}
            answer["content"] = dict.fromkeys(_types(comment) or ["*/*"], binary)
        else:
            answer["content"] = {"application/json": {"schema": self._told(method.output_type)}}
        told = re.findall(r"\(([23]0\d)\)", comment)
        located = {"location": {"description": "Where to.", "schema": {"type": "string"}}}
        elsewhere: Schema = {"description": "Elsewhere.", "headers": located}
        found = {status: elsewhere if status[0] == "3" else answer for status in told}
        if not any(status[0] == "2" for status in found):
            found["200"] = answer
        statuses = {*_ALWAYS, *(_WITH_BODY if operation.body else ())}
        if operation.path not in self._edge.public_paths:
            statuses.add(401)
        if access.get("scopes") or access.get("roles"):
            statuses.add(403)
        for text in (comment, *self._comments_of_fields(method.input_type)):
            statuses.update(STATUSES[code] for code in _CODE.findall(text))
            if _VIEWER_ONLY.search(text):
                statuses.add(403)
        self._statuses |= statuses
        found.update({str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)})
        return found

    def _comments_of_fields(self, message: Descriptor) -> Iterator[str]:
        for field in message.fields:
            yield self._contracts.comment(field.full_name)
            if field.message_type is not None:
                yield from self._comments_of_fields(field.message_type)

    def _told(self, message: Descriptor) -> Schema:
        """A reference to the schema of an answer."""
        name = _schema_name(message)
        if self._is_new(name, message.full_name):
            properties = {field.name: self._described(field, self._told_field(field)) for field in message.fields}
            self._schemas[name] |= {"type": "object", "properties": properties}
            if comment := _prose(self._contracts.comment(message.full_name)):
                self._schemas[name]["description"] = comment
        return {"$ref": f"#/components/schemas/{name}"}

    def _told_field(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._told_field(field.message_type.fields[1])}
        if field.message_type is not None:
            schema = self._told(field.message_type)
        elif field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64):
            schema = {"type": "string", "pattern": r"^-?[0-9]{1,20}$"}
        else:
            schema = self._scalar(field, {})
        return {"type": "array", "items": schema} if field.is_repeated else schema

    def _is_new(self, name: str, *source: object) -> bool:
        if self._sources.setdefault(name, source) != source:
            raise ValueError(f"two schemas would be called {name}: {source} and {self._sources[name]}")
        if name in self._schemas:
            return False
        self._schemas[name] = {}
        return True

    def _problem(self, status: int) -> Schema:
        title, detail = edge_details()[status]
        headers = _every_header()
        if status == 401:
            headers["www-authenticate"] = {"description": "`Bearer`.", "schema": {"type": "string"}}
        schema = {"$ref": "#/components/schemas/ProblemDocument"}
        return {
            "description": f"{title}. {detail}",
            "headers": headers,
            "content": {_PROBLEM_TYPE: {"schema": schema}},
        }


_WHOLE: Schema = {"type": "integer", "minimum": 0}
# Of the tightest of the limits that count a request; an answer lacks them while nobody counts.
_LIMIT_HEADERS = {
    "x-rate-limit-limit": ("RateLimitLimit", "How many requests are admitted in a window."),
    "x-rate-limit-remaining": ("RateLimitRemaining", "How many of them are left."),
    "x-rate-limit-reset": ("RateLimitReset", "When there are more again: seconds since 1970."),
}


def _every_header() -> Schema:
    """What answers have besides their content."""
    names = {"x-request-id": "RequestId", **{header: name for header, (name, _) in _LIMIT_HEADERS.items()}}
    return {header: {"$ref": f"#/components/headers/{name}"} for header, name in names.items()}


_LISTS = {"min_items": "minItems", "max_items": "maxItems"}


def _problem_schemas() -> dict[str, Schema]:
    """The body of an answer that is no success (mesh.errors.MeshError.problem), which is no message of a contract."""
    text = {"type": "string", "minLength": 1}
    error = {
        "type": "object",
        "required": ["message"],
        "properties": {"message": text, "parameters": {"type": "object", "description": "Members that are wrong."}},
    }
    return {
        "ProblemDocument": {
            "description": "What went wrong (RFC 9457), with the `errors` of the X API.",
            "type": "object",
            "required": ["title", "detail", "type", "status", "errors"],
            "properties": {
                "title": {**text, "description": "The same for each occurrence."},
                "detail": {**text, "description": "A sentence about this one."},
                "type": {**text, "description": "A URI that names the kind."},
                "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "That of the answer."},
                "errors": {"type": "array", "minItems": 1, "items": error},
                "reset": {**_WHOLE, "description": "With 429: when to try again, seconds since 1970."},
                "error": {**text, "description": "A word for machines, where a client asks for tokens (RFC 6749)."},
                "error_description": {**text, "description": "With `error`: what it is."},
            },
        }
    }


def _text(rules: Mapping[str, object], all_rules: Mapping[str, object]) -> Schema:
    schema: Schema = {"type": "string"}
    schema |= {ours: _number(rules[theirs]) for theirs, ours in _LENGTHS.items() if theirs in rules}
    if "in" in rules:
        schema["enum"] = rules["in"]
    if rules.get("email"):
        schema["format"] = "email"
    if "pattern" in rules:
        schema["pattern"] = rules["pattern"]
    for empty, negated, pattern in _patterns(all_rules):
        if negated:
            schema["not"] = {"pattern": pattern}
        else:
            schema["pattern"] = f"^$|{pattern}" if empty else pattern
    return schema


_LENGTHS = {"min_len": "minLength", "max_len": "maxLength"}


def _patterns(rules: Mapping[str, object]) -> Iterator[tuple[bool, bool, str]]:
    """(whether empty is fine, whether it must not match, pattern) of CEL rules that are about one."""
    for rule in _list(rules, "cel"):
        if isinstance(rule, dict) and (found := _MATCHES.fullmatch(str(rule.get("expression")))):
            yield bool(found["empty"]), bool(found["not"]), found["pattern"].replace("\\\\", "\\")


def _required(field: FieldDescriptor, rules: Mapping[str, object]) -> bool:
    """Whether a field that is left out breaks a rule: its default would."""
    if rules.get("required"):
        return True
    if str(rules.get("ignore", "")).startswith("IGNORE_"):
        return False
    if field.is_repeated:
        return _number(_part(rules, "repeated").get("min_items", 0)) > 0
    if field.has_presence:
        return False
    for bounds in (_part(rules, name) for name in rules if name.startswith(("int", "uint"))):
        if _number(bounds.get("gt", -1)) >= 0 or _number(bounds.get("gte", 0)) > 0:
            return True
    text = _part(rules, "string")
    known = text.get("in")
    return (
        _number(text.get("min_len", 0)) > 0
        or (isinstance(known, list) and "" not in known)
        or bool(text.get("email"))
        or any(not (empty or negated or re.search(pattern, "")) for empty, negated, pattern in _patterns(rules))
    )


def _items(rules: Mapping[str, object]) -> dict[str, object]:
    return _part(_part(rules, "repeated"), "items")


def _number(value: object) -> int:
    return int(str(value))  # JSON has 64-bit numbers as texts


def _types(comment: str) -> list[str]:
    """Media types that a comment names."""
    return re.findall(r"\b((?:application|text|multipart)/[\w.+-]*\w)", comment)


def _prose(comment: str) -> str:
    """A comment for those outside: without what is about the inside, codes as statuses."""
    text = _CODE.sub(lambda found: str(STATUSES[found.group(1)]), _INSIDE.sub("", comment))
    return text.strip()


def _schema_name(message: Descriptor) -> str:
    outer = message.containing_type
    return f"{_schema_name(outer)}{message.name}" if outer is not None else message.name


def _tag(service: ServiceDescriptor) -> str:
    return service.name.removesuffix("Service")


def document(image: bytes, edge: EdgeConfig) -> Schema:
    """The document of a descriptor set with comments.

    Raises:
        EdgeConfigError: the bytes are no descriptor set.
        ValueError: names that would be given twice.
    """
    return Document(Contracts(image), edge).of(operations(image))


def main(argv: list[str]) -> None:
    """Reads an image, writes the document."""
    image, out = argv
    made = document(Path(image).read_bytes(), EdgeConfig(targets={}, admin_port=0))
    Path(out).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
