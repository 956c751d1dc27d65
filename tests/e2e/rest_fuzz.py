"""Requests that schemathesis makes from the document of the REST face, good ones and bad ones, and what is wrong with
their answers.

Values that a document cannot know are put in: ids and names of what is there, tokens. Without them hardly a request
would get past the look-up of its first id.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

import httpx
import jsonschema_rs
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from cli.profile import PROJECT
from tests.e2e.harness import INSIDE, Account
from tests.e2e.rest_world import ENDS_ITS_CALLER, Described, Things, described

_AT_ONCE = 8
_ROUND = 60
"""Requests of one operation that are made before the next one's: enough to pay for its strategies."""
_SHOWN = 12
# Segments that are no value: the path would be another one.
_NO_VALUE = ("", ".", "..")
# Nobody but a test for it may have seen these before: what a stack trace and an engine's message begin with.
_MORE_INSIDE = (
    "stack trace",
    "/home/",
    str(PROJECT).lower(),
    "/usr/",
    "site-packages",
    "exception",
    "protobuf",
    "aiosqlite",
)


@dataclass(slots=True)
class Report:
    """What came of it."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What was wrong, each with the first request that shows it."""
    operations: dict[str, Counter[int]] = field(default_factory=dict)
    """Statuses by operation."""
    kinds: Counter[str] = field(default_factory=Counter)
    """How often each thing was wrong with an operation."""

    def __str__(self) -> str:
        found = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        good = sum(1 for statuses in self.operations.values() if any(status < 300 for status in statuses))
        return (
            f"{self.asked} requests of {len(self.operations)} operations, {good} of them with good answers; "
            f"statuses {found}; wrong: {self.kinds.total()}"
        )


class Fuzz:
    """Asks an edge.

    Args:
        edge: a client of it.
        document: what it says of itself.
        mine: things of whoever asks most.
        theirs: things of others.
        spare: who asks what ends its caller's sessions.
        moderator: who asks what needs a role.
        number: two runs with the same one make the same requests, but for ids.
    """

    def __init__(
        self,
        edge: httpx.AsyncClient,
        document: Mapping[str, Any],
        mine: Things,
        theirs: Sequence[Things],
        spare: Account,
        moderator: Account,
        number: int,
    ) -> None:
        self._edge = edge
        self._operations = {one.name: one for one in described(document)}
        self._schema = schemathesis.openapi.from_dict(dict(document))
        self._answers = _Answers(document)
        self._mine = mine
        self._theirs = theirs
        self._spare = spare
        self._moderator = moderator
        self._number = number
        self._random = random.Random(number)
        self._report = Report()

    async def ask(self, count: int) -> Report:
        """Sends at least `count` requests, as many of each operation."""
        turn = 0
        while self._report.asked < count:
            each = -(-(count - self._report.asked) // len(self._operations))
            for found in self._schema.get_all_operations():
                operation = found.ok()
                described = self._operations[f"{operation.method.upper()} {operation.path}"]
                await self._send(described, list(self._cases(operation, min(each, _ROUND), self._number + turn)))
            turn += 1
        return self._report

    def _cases(self, operation: Any, count: int, number: int) -> Iterator[Any]:
        for mode, share in ((GenerationMode.POSITIVE, count - count // 2), (GenerationMode.NEGATIVE, count // 2)):
            if not share:
                continue
            found: list[Any] = []

            @seed(number)
            @settings(
                max_examples=share,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def collect(case: Any) -> None:
                found.append(case)  # noqa: B023 -- called before the loop goes on

            with contextlib.suppress(Unsatisfiable):  # there is an operation of which no request is bad
                collect()
            yield from found

    async def _send(self, operation: Described, cases: Sequence[Any]) -> None:
        requests = iter([self._request(operation, case) for case in cases])
        statuses = self._report.operations.setdefault(operation.name, Counter())

        async def work() -> None:
            for request in requests:
                answer = await self._edge.send(request)
                self._report.asked += 1
                self._report.statuses[answer.status_code] += 1
                statuses[answer.status_code] += 1
                if wrong := self._answers.wrong_with(operation, answer):
                    kind = f"{operation.name}: {answer.status_code} {wrong}"
                    self._report.kinds[kind] += 1
                    if self._report.kinds[kind] == 1:
                        body = request.content[:500]
                        self._report.wrong.append(
                            f"{kind}\n  {request.url.raw_path.decode()} {body!r}\n  {answer.text[:500]}"
                        )

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    def _request(self, operation: Described, case: Any) -> httpx.Request:
        for name, value in list((case.path_parameters or {}).items()):
            known = self._known(operation, name, 0.75)
            if known is not None:
                case.path_parameters[name] = known
            elif str(value) in _NO_VALUE:
                case.path_parameters[name] = "-"
        for part in (case.query, case.body):
            for name in list(part) if isinstance(part, dict) else ():
                if (known := self._known(operation, name, 0.5)) is not None:
                    part[name] = known
        made = case.as_transport_kwargs()
        target = made["url"].encode()
        if params := made.get("params"):
            query = params if isinstance(params, str) else str(httpx.QueryParams(params))
            target += b"?" + query.encode()
        content = made.get("data")
        if "json" in made:
            content = json.dumps(made["json"])
        elif content is not None and not isinstance(content, str | bytes):
            content = json.dumps(content, default=str)
        headers = {"content-type": made["headers"].get("Content-Type", "application/json")}
        if token := self._authorization(operation, made["headers"].get("Authorization", "")):
            headers["authorization"] = token
        url = self._edge.base_url.copy_with(raw_path=target)
        return self._edge.build_request(operation.method, url, content=content, headers=headers)

    def _known(self, operation: Described, name: str, share: float) -> str | None:
        """A value that is there, as often as `share` says; None for as it was generated."""
        if self._random.random() > share:
            return None
        things = self._mine if self._random.random() < 0.75 else self._random.choice(self._theirs)
        before = operation.path.partition(f"{{{name}}}")[0] if f"{{{name}}}" in operation.path else ""
        try:
            return things.value(name, before)
        except AssertionError:
            return None

    def _authorization(self, operation: Described, generated: str) -> str:
        if operation.name in ENDS_ITS_CALLER or "sessions" in operation.path:
            return f"Bearer {self._spare.token}"
        chance = self._random.random()
        if chance < 0.9:
            return f"Bearer {(self._moderator if operation.roles else self._mine.owner).token}"
        if chance < 0.95 and generated.isascii() and generated.isprintable():
            return generated
        return ""


class _Answers:
    """What the document says of answers, more strictly: they have no member that it does not know."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._components = copy.deepcopy(document["components"])
        for schema in self._components["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def wrong_with(self, operation: Described, answer: httpx.Response) -> str:
        """What is wrong with an answer; empty for nothing."""
        status = answer.status_code
        if status >= 500:
            return "the server failed"
        told = operation.content["responses"].get(str(status))
        if told is None:
            return "the document does not have this status"
        kind = answer.headers.get("content-type", "").partition(";")[0]
        content = operation.resolved(told).get("content", {})
        if answer.content and kind not in content:
            return f"the document does not have the type {kind} here"
        asked = (
            unquote_plus(answer.request.url.query.decode()) + answer.request.content.decode(errors="replace")
        ).lower()
        seen = (answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())).lower()
        if leaked := [word for word in (*INSIDE, *_MORE_INSIDE) if word in seen and word not in asked]:
            return f"names of the inside: {leaked}"
        if not kind.endswith("json") or kind not in content:
            return ""
        schema = content[kind]["schema"]
        found = next(iter(self._validator(schema).iter_errors(answer.json())), None)
        return f"not as the document says: {found.message} at {list(found.instance_path)}" if found else ""

    def _validator(self, schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.Draft202012Validator({**schema, "components": self._components})
        return self._validators[key]


def failures(report: Report) -> str:
    """The first that were wrong, for a person."""
    return "\n".join(report.wrong[:_SHOWN])
