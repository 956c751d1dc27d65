"""Good requests of every operation, made from the document of the REST face, about things that are there."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.authenticator import code_of
from tests.e2e.clients import approved, asking_for, beginning, client_of, request_token
from tests.e2e.harness import PASSWORD, Account, eventually, fresh_name, register
from tests.e2e.mailbox import mail_to, token_in

_VARIABLE = re.compile(r"\{(\w+)\}")
# What `{id}` names, by what is before it in a path.
_KINDS = {
    "/2/users/": "user",
    "/2/tweets/": "tweet",
    "/v1/tweets/": "tweet",
    "/2/lists/": "list",
    "/v1/exports/": "export",
    "/v1/polls/": "poll",
    "/v1/follow_requests/": "asking",
    "/v1/sessions/": "session",
    "/v1/clients/": "client",
    "/v1/decisions/": "decision",
    "/v1/moderation/cases/": "case",
    "/v1/moderation/scans/": "scan",
}


_ASKED = ("response_type", "client_id", "redirect_uri", "scope", "code_challenge", "code_challenge_method")
# Parameters that no rule requires, since what lacks is told to a client and not to the person.
_CHOSEN_PARAMETERS = {
    "/2/oauth2/authorize": _ASKED,
    "/i/oauth2/authorize": _ASKED,
    "/oauth/authorize": ("oauth_token",),
    "/oauth/authenticate": ("oauth_token",),
}


@dataclass(frozen=True, slots=True)
class Described:
    """One operation, as the document has it."""

    method: str
    path: str
    document: Mapping[str, Any]
    """The whole document."""

    @property
    def name(self) -> str:
        """As docs/rest.md names it."""
        return f"{self.method} {self.path}"

    @property
    def content(self) -> Mapping[str, Any]:
        """What the document says of it."""
        found: Mapping[str, Any] = self.document["paths"][self.path][self.method.lower()]
        return found

    @property
    def is_open(self) -> bool:
        """Whether it needs no token."""
        return not self.content["security"] or {} in self.content["security"]

    @property
    def scopes(self) -> list[str]:
        """What a token must be good for."""
        return [scope for one in self.content["security"] for scope in one.get("bearer", ())]

    @property
    def roles(self) -> list[str]:
        """Of which the caller has one; empty where nobody needs any."""
        found: list[str] = self.content.get("x-roles", [])
        return found

    @property
    def is_for_oneself(self) -> bool:
        """Whether an id in it must be the caller's own."""
        said = [
            self.content["description"],
            *(one.get("description", "") for one in self.content.get("parameters", ())),
        ]
        members = (self.body or {}).get("properties", {}).values()
        said += [member.get("description", "") for member in members]
        return any(re.search(r"must be the viewer|The viewer's id, when", text) for text in said)

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The schema of its JSON; None for an operation without one."""
        content = self.content.get("requestBody", {}).get("content", {}).get("application/json")
        return self.resolved(content["schema"]) if content else None

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema, or the one that it refers to."""
        found: Any = schema
        while "$ref" in found:
            at: Any = self.document
            for part in found["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            found = at
        return found  # type: ignore[no-any-return]


def described(document: Mapping[str, Any]) -> list[Described]:
    """Every operation of a document."""
    return [Described(method.upper(), path, document) for path, has in document["paths"].items() for method in has]


@dataclass(slots=True)
class Things:
    """Somebody, and one of each kind of thing of theirs."""

    owner: Account
    named: dict[str, str]
    """Values by kinds (`tweet`, `list`, ...) and by the names of parameters and members."""
    secret: str
    """A word in everything that others must not see."""
    signed: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    """What signs requests, by the paths that take them so."""

    def request(self, operation: Described, **changes: Any) -> tuple[tuple[str, str], dict[str, Any]]:
        """A good request of an operation that is about these things: method and path, and what else httpx needs.

        Args:
            operation: the operation.
            changes: members of the body in place of those chosen, or besides them.
        """
        found: dict[str, Any] = {}
        claims = "{" not in operation.path  # a member `user_id` is who asks then
        params = {
            one["name"]: self.named["user" if claims and one["name"] == "user_id" else one["name"]]
            for one in operation.content.get("parameters", ())
            if one["in"] == "query" and (one["required"] or (claims and one["name"] == "user_id"))
        }
        params |= {name: self.named[name] for name in _CHOSEN_PARAMETERS.get(operation.path, ()) if not operation.body}
        if params:
            found["params"] = params
        if operation.path in self.signed:
            found["headers"] = {"authorization": self.signed[operation.path]()}
        if operation.body is not None:
            found["json"] = {**self._body(operation), **changes}
            if claims and operation.is_for_oneself and "user_id" in operation.body.get("properties", {}):
                found["json"]["user_id"] = self.named["user"]
        elif "requestBody" in operation.content:
            raise AssertionError(f"{operation.name}: say in tests/e2e/rest_world.py what its body is")
        return (operation.method, self._path(operation)), found

    def _path(self, operation: Described) -> str:
        template = operation.path
        if operation.name == "POST /v1/follow_requests/{id}/decline":  # of two who ask, the other is accepted
            return template.replace("{id}", self.named["declined"])
        return _VARIABLE.sub(lambda found: self.value(found.group(1), template[: found.start()]), template)

    def value(self, name: str, before: str) -> str:
        """The value of a variable of a path.

        Args:
            name: the variable's.
            before: the part of the path that precedes it.
        """
        kind = _KINDS.get(before) if name == "id" else name
        assert kind in self.named, f"say in tests/e2e/rest_world.py what {{{name}}} after {before} is"
        return self.named[kind]

    def _body(self, operation: Described) -> dict[str, Any]:
        chosen = self._chosen()
        if operation.name in chosen:
            return chosen[operation.name]
        assert operation.body is not None
        return {name: self.named[name] for name in operation.body.get("required", ())}

    def _chosen(self) -> dict[str, dict[str, Any]]:
        """Bodies of operations that need what no schema says."""
        fresh = fresh_name()
        return {
            "POST /2/tweets": {"text": f"of the world {fresh}"},
            "POST /tweets": {"content": f"of the world {fresh}"},
            "POST /2/lists": {"name": f"l {fresh}"},
            "PUT /2/lists/{id}": {"description": f"changed {fresh}"},
            "PATCH /v1/users/me": {"location": fresh},
            "POST /v1/auth/register": {"username": fresh, "email": f"{fresh}@example.org", "password": PASSWORD},
            "POST /v1/auth/login": {"username": self.owner.username, "password": PASSWORD},
            "POST /v1/auth/refresh": {"refresh_token": self.owner.refresh_token},
            "POST /v1/auth/logout": {"refresh_token": self.owner.refresh_token},
            "POST /v1/auth/password": {"password": PASSWORD, "new_password": PASSWORD},
            "POST /v1/auth/password/forgot": {"username": self.owner.username},
            "POST /v1/auth/password/reset": {
                "token": self.named.get("reset token", "x"),
                "new_password": PASSWORD,
            },
            "POST /v1/auth/verify_email": {"token": self.named.get("verification token", "x")},
            "POST /v1/auth/totp": {"password": PASSWORD},
            "POST /v1/auth/totp/confirm": {"code": self.named.get("code", "123456")},
            "POST /v1/auth/totp/disable": {"password": PASSWORD},
            "POST /v1/users/me/deactivate": {"password": PASSWORD},
            "POST /v1/users/me/erase": {"password": PASSWORD},
            "POST /v1/polls/{id}/votes": {"position": 1},
            "POST /2/users/{id}/blocking": {"target_user_id": self.named["stranger"]},
            "POST /2/users/{id}/muting": {"target_user_id": self.named["stranger"]},
            "POST /v1/reports": {"tweet_id": self.named["tweet_id"], "reason": "spam"},
            "POST /v1/decisions/{id}/appeal": {"text": f"of the world {fresh}"},
            "POST /v1/moderation/cases": {"tweet_id": self.named["tweet_id"]},
            "POST /v1/moderation/cases/{id}/decision": {"action": "keep"},
            "POST /v1/clients": {"name": f"c {fresh}"},
            "POST /2/oauth2/authorize": self._signing_in(),
            "POST /i/oauth2/authorize": self._signing_in(),
            "POST /2/oauth2/token": {**self._as_client(), "grant_type": "client_credentials"},
            "POST /oauth2/token": {**self._as_client(), "grant_type": "client_credentials"},
            "POST /2/oauth2/revoke": {**self._as_client(), "token": "of nobody"},
        }

    def _signing_in(self) -> dict[str, str]:
        asked = {name: self.named[name] for name in _ASKED}
        return {**asked, "step": "sign_in", "username": self.owner.username, "password": PASSWORD}

    def _as_client(self) -> dict[str, str]:
        return {"client_id": self.named["client"], "client_secret": self.named["client_secret"]}


async def sent_by(who: Account, operation: Described, which: tuple[str, str], more: Mapping[str, Any]) -> Any:
    """The answer to somebody's request, with their token where it is not open: there the header is a client's."""
    send = who.request if operation.content["security"] else who.edge.request
    return await send(*which, **more)


NEEDS_A_MAIL_OR_A_CODE = frozenset(
    {"POST /v1/auth/password/reset", "POST /v1/auth/verify_email", "POST /v1/auth/totp/confirm"}
)
"""Operations that are good with what `mailed_and_enrolled` gives."""
ENDS_ITS_CALLER = frozenset(
    {
        "POST /v1/auth/refresh",
        "POST /v1/auth/logout",
        "POST /v1/auth/password",
        *NEEDS_A_MAIL_OR_A_CODE,
        "POST /v1/users/me/deactivate",
        "POST /v1/users/me/erase",
        "DELETE /v1/sessions",
    }
)
"""Operations after which their caller's tokens or session are not what they were."""


def in_order(operations: Sequence[Described]) -> Iterator[list[Described]]:
    """Operations in three parts, each of which leaves what the next ones need."""

    def part(operation: Described) -> int:
        return 0 if operation.method != "DELETE" else 1 if operation.path.count("{") > 1 else 2

    for number in range(3):
        yield [one for one in operations if part(one) == number]


async def spent_on(edge: httpx.AsyncClient) -> dict[str, Account]:
    """Somebody for each operation that ends its caller."""
    return {name: await register(edge) for name in sorted(ENDS_ITS_CALLER)}


async def about(
    operation: Described, mine: Things, spent: Mapping[str, Account], moderator: Account, data: Path
) -> Things:
    """What an operation may be about, and who may ask for it: things of who is spent on it, or `mine`.

    Args:
        moderator: asks for what needs a role.
        data: the mesh's folder.
    """
    if operation.roles:
        return Things(moderator, mine.named, "")
    if operation.name not in spent:
        return mine
    who = spent[operation.name]
    more = await mailed_and_enrolled(data, who) if operation.name in NEEDS_A_MAIL_OR_A_CODE else {}
    return Things(who, {**mine.named, **more}, "")


async def mailed_and_enrolled(data: Path, who: Account) -> dict[str, str]:
    """Tokens from mails to somebody, and a code of an authenticator to be confirmed, by their names in `_chosen`.

    Args:
        data: the mesh's folder.
        who: asks for another password, and enrols.
    """
    await _made(who, "POST", "/v1/auth/password/forgot", {"username": who.username})
    made = await _made(who, "POST", "/v1/auth/totp", {"password": PASSWORD})
    return {
        "verification token": token_in(await mail_to(data, who.email, "Prove")),
        "reset token": token_in(await mail_to(data, who.email, "Choose")),
        "code": code_of(made["secret"]),
    }


async def judged(author: Account, moderator: Account) -> dict[str, str]:
    """A decision against somebody, a case of theirs that waits, and a scan."""
    removed, doubted = [str(await author.tweet(f"to be looked at {fresh_name()}")) for _ in range(2)]
    cases = [await _made(moderator, "POST", "/v1/moderation/cases", {"tweet_id": one}) for one in (removed, doubted)]
    await _made(moderator, "POST", f"/v1/moderation/cases/{cases[0]['id']}/decision", {"action": "remove"})
    decision = (await author.get("/v1/decisions"))["data"][-1]
    scan = await _made(moderator, "POST", "/v1/moderation/scans", {})
    return {"decision": decision["id"], "case": cases[1]["id"], "scan": scan["id"]}


async def things_of(owner: Account, moderator: Account, other: Things | None = None) -> Things:
    """Makes one of each for somebody, who becomes protected. What is about somebody else is about `other`'s."""
    secret = f"secret{secrets.token_hex(6)}"
    asking, declined, stranger = [await register(owner.edge) for _ in range(3)]
    await _made(owner, "PATCH", "/v1/users/me", {"protected": True})
    for each in (asking, declined):
        await _made(each, "POST", f"/2/users/{each.id}/following", {"target_user_id": str(owner.id)})
    tweet = str(await owner.tweet(f"a {secret}"))
    poll = await owner.tweet(f"{secret}?", poll={"options": [f"a{secret}"[:25], "b"], "duration_minutes": 60})
    made = await owner.get(f"/2/tweets/{poll}", expansions="attachments.poll_ids")
    private = {"name": f"l {secret}", "description": secret, "private": True}
    listed = await _made(owner, "POST", "/2/lists", private)
    export = await _made(owner, "POST", "/v1/exports", {})
    about = other.named if other else {}
    elsewhere = await owner.edge.post("/v1/auth/login", json={"username": owner.username, "password": PASSWORD})
    assert elsewhere.status_code == 200, elsewhere.text
    sessions = (await owner.get("/v1/sessions"))["data"]
    client = await client_of(owner, confidential=True)
    named = {
        "user": str(owner.id),
        "tweet": tweet,
        "list": listed["id"],
        "export": export["id"],
        "poll": about.get("public_poll", made["includes"]["polls"][0]["id"]),
        "asking": str(asking.id),
        "username": owner.username,
        "usernames": owner.username,
        "ids": tweet,
        "query": owner.username[:6],
        "target_user_id": about.get("user", str(asking.id)),
        "user_id": about.get("user", str(declined.id)),
        "tweet_id": about.get("public_tweet", tweet),
        "list_id": about.get("public_list", listed["id"]),
        "declined": str(declined.id),
        "stranger": str(stranger.id),
        "session": next(one["id"] for one in sessions if not one["current"]),
        "client": client["id"],
        **await judged(owner, moderator),
        "client_secret": client["client_secret"],
        **asking_for(client, "v" * 43),
        "oauth_token": (await request_token(owner.edge, client))["oauth_token"],
    }
    signed = {"/oauth/request_token": beginning(client), "/oauth/access_token": await approved(owner, client)}
    return Things(owner, named, secret, signed)


async def open_things_of(owner: Account) -> Things:
    """One of each that anybody sees, for somebody who is not protected."""
    tweet = str(await owner.tweet("for all to see"))
    poll = await owner.tweet("which?", poll={"options": ["a", "b"], "duration_minutes": 60})
    made = await owner.get(f"/2/tweets/{poll}", expansions="attachments.poll_ids")
    listed = await _made(owner, "POST", "/2/lists", {"name": "for all"})
    named = {
        "user": str(owner.id),
        "public_tweet": tweet,
        "public_poll": made["includes"]["polls"][0]["id"],
        "public_list": listed["id"],
    }
    return Things(owner, named, "")


async def with_archive(things: Things) -> None:
    """Waits until the archive of somebody's data is there."""

    async def look() -> None:
        export = await things.owner.get(f"/v1/exports/{things.named['export']}")
        assert export["data"]["status"] == "ready", export

    await eventually(look, 30.0)


async def _made(who: Account, method: str, path: str, body: Mapping[str, Any]) -> Any:
    answer = await who.request(method, path, json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    return answer.json()["data"]


async def document_of(edge: httpx.AsyncClient) -> dict[str, Any]:
    """The document as an edge serves it."""
    answer = await edge.get("/openapi.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
