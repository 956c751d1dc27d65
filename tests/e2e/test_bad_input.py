"""Requests that are wrong: each is a clear problem with the right status, and nothing of it is stored.

A few are not wrong but must change nothing that they name: members that nobody may set, ids of other people.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from joserfc.jwk import OKPKey

from cli.stores import Stores
from mesh.db.sql import Tx
from tests.e2e.harness import PASSWORD, Account, assert_problem, fresh_name, register
from tests.e2e.tokens import signed, signing_key

pytestmark = pytest.mark.asyncio(loop_scope="session")

_CONTENT = {
    "users": "SELECT id, username, email, password_hash, name, description, location, url, verified FROM users",
    "sessions": "SELECT id, user_id FROM sessions",
    "graph": "SELECT follower_id, followee_id, follow_id FROM follows",
    # Not the version: it also counts how often a tweet was shown, which earlier tests may still be the cause of.
    "tweets": "SELECT id, author_id, text, deleted, poll_id, like_count, retweet_count FROM tweets",
}


async def _content(stores: Stores) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that a request could have stored."""
    databases = {"users": stores.users, "sessions": stores.users, "graph": stores.graph, "tweets": stores.tweets}

    async def rows(name: str) -> list[tuple[Any, ...]]:
        async def unit(tx: Tx) -> list[tuple[Any, ...]]:
            return sorted(tuple(row) for row in (await tx.execute(_CONTENT[name])).all())

        return await databases[name].read(unit)

    return dict(zip(databases, await asyncio.gather(*map(rows, databases)), strict=True))


@dataclass(frozen=True)
class Cast:
    """Who and what the requests below name."""

    me: Account
    other: Account
    mine: int
    """My tweet."""
    theirs: int
    """The other's tweet."""
    cursor: str
    """Mine, for my home timeline, with no parameters but max_results=1."""
    their_cursor: str
    """The other's, for theirs."""

    def fill(self, value: Any) -> Any:
        """Puts ids and names in the place of `{me}`, `{other}`, `{mine}`, `{theirs}`, ... anywhere in a value."""
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, str) and "{" in value:
            for name, known in self._names().items():
                value = value.replace("{" + name + "}", known)
        return value

    def _names(self) -> dict[str, str]:
        return {
            "me": str(self.me.id),
            "other": str(self.other.id),
            "mine": str(self.mine),
            "theirs": str(self.theirs),
            "cursor": self.cursor,
            "their_cursor": self.their_cursor,
            "my_name": self.me.username,
            "OTHER_NAME": self.other.username.upper(),
            "OTHER_EMAIL": self.other.email.upper(),
        }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cast(edge: httpx.AsyncClient) -> AsyncIterator[Cast]:
    """Two people with two tweets each, and a cursor."""
    me, other = await register(edge), await register(edge)
    cursors = []
    for one in (me, other):
        ids = await one.tweets(2)
        await one.home_is(ids)
        page = await one.get(f"/2/users/{one.id}/timelines/reverse_chronological", max_results=1)
        cursors.append(page["meta"]["next_token"])
    yield Cast(me, other, await me.tweet("mine"), await other.tweet("theirs"), *cursors)


@dataclass(frozen=True)
class Case:
    """One wrong request of `me`."""

    name: str
    method: str
    path: str
    status: int
    json: Any = None
    body: bytes | None = None
    params: dict[str, str] = field(default_factory=dict)
    about: str = ""
    """What the problem's errors must speak of."""


def _registering(what: str, about: str, status: int = 400, /, **changed: Any) -> Case:
    body = {"username": "fresh_one", "email": "fresh@example.org", "password": PASSWORD, "name": "Fresh"}
    return Case(f"register: {what}", "POST", "/v1/auth/register", status, body | changed, about=about)


def _tweeting(what: str, about: str = "text", status: int = 400, /, **members: Any) -> Case:
    return Case(f"tweet: {what}", "POST", "/2/tweets", status, members, about=about)


def _home(what: str, about: str = "", /, **params: str) -> Case:
    path = "/2/users/{me}/timelines/reverse_chronological"
    return Case(f"home: {what}", "GET", path, 400, params=params, about=about)


def _changing(what: str, about: str, /, **members: Any) -> Case:
    return Case(f"profile: {what}", "PATCH", "/v1/users/me", 400, members, about=about)


CASES: Sequence[Case] = (
    _tweeting("281 characters", text="x" * 281),
    _tweeting("141 characters that weigh two", text="字" * 141),
    _tweeting("140 emoji and one letter", text="🎉" * 140 + "x"),
    _tweeting("a link too much", text="https://example.com/ " + "x" * 257),
    _tweeting("empty", text=""),
    _tweeting("only spaces", text=" \n\t "),
    _tweeting("nothing at all"),
    _tweeting("null text", text=None),
    _tweeting("an object for a text", "", text={"a": 1}),
    _tweeting("a list for a text", "", text=["a"]),
    _tweeting("a NUL", text="a\0b"),
    _tweeting("a NUL in the request's name", "request_id", text="fine", request_id="a\0b"),
    Case("list: a NUL in the request's name", "POST", "/2/lists", 400, {"name": "a list", "request_id": "a\0b"}),
    Case("login: a NUL", "POST", "/v1/auth/login", 400, {"username": "a\0b", "password": PASSWORD}, about="username"),
    Case("people: a search for a NUL", "GET", "/2/users/search", 400, params={"query": "a\0b"}, about="query"),
    _tweeting("a byte order mark", text="a\ufeffb"),
    _tweeting("5,000 characters", text="x" * 5_000),
    _tweeting("request_id too long", "request_id", text="x", request_id="r" * 65),
    _tweeting("unknown reply_settings", "reply_settings", text="x", reply_settings="nobody"),
    _tweeting("a word for a flag", "", text="x", possibly_sensitive="maybe"),
    _tweeting("a word for an id", "", text="x", user_id="me"),
    _tweeting("as somebody else", "", 403, text="x", user_id="{other}"),
    _tweeting("media, which are not carried out yet", "media", 400, text="x", media={"media_ids": ["1"]}),
    _tweeting("a poll without an end", "poll.duration_minutes", 400, text="x", poll={"options": ["a", "b"]}),
    _tweeting("a reply to nothing", "not visible", 403, text="x", reply={"in_reply_to_tweet_id": "1"}),
    _tweeting("a reply to a negative id", "in_reply_to_tweet_id", text="x", reply={"in_reply_to_tweet_id": "-1"}),
    _tweeting("a reply to a word", "", text="x", reply={"in_reply_to_tweet_id": "theirs"}),
    _tweeting("a quote of nothing", "not visible", 403, text="x", quote_tweet_id="1"),
    Case("plain tweet: as somebody else", "POST", "/tweets", 403, {"content": "x", "user_id": "{other}"}),
    Case("plain tweet: empty", "POST", "/tweets", 400, {"content": "", "user_id": "{me}"}, about="text"),
    Case("tweet: broken JSON", "POST", "/2/tweets", 400, body=b'{"text": "x"'),
    Case("tweet: not JSON", "POST", "/2/tweets", 400, body=b"text=x"),
    Case("tweet: two documents", "POST", "/2/tweets", 400, body=b'{"text":"x"}{"text":"y"}'),
    Case("tweet: a list", "POST", "/2/tweets", 400, body=b'["x"]'),
    Case("tweet: a number", "POST", "/2/tweets", 400, body=b"1"),
    Case("tweet: no body", "POST", "/2/tweets", 400, body=b""),
    Case("tweet: bytes that are no text", "POST", "/2/tweets", 400, body=b'{"text":"\xff\xfe"}'),
    Case("tweet: half a surrogate pair", "POST", "/2/tweets", 400, body=b'{"text":"a\\ud800b"}'),
    Case("tweet: 10,000 levels deep", "POST", "/2/tweets", 400, body=b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    Case("tweet: 2 MB", "POST", "/2/tweets", 413, body=b'{"text":"' + b"x" * 2_000_000 + b'"}'),
    _registering("16 characters", "username", username="x" * 16),
    _registering("no username", "username", username=""),
    _registering("a dash in the username", "username", username="a-b"),
    _registering("a space after the username", "username", username="abc "),
    _registering("a line after the username", "username", username="abc\n"),
    _registering("digits of another script", "username", username="a٣"),
    _registering("a taken username, in capitals", "username", 409, username="{OTHER_NAME}"),
    _registering("no e-mail", "email", email=""),
    _registering("no address", "email", email="not an address"),
    _registering("7 characters of password", "password", password="x" * 7),
    _registering("129 characters of password", "password", password="x" * 129),
    _registering("51 characters of name", "name", name="x" * 51),
    _registering("a NUL in the name", "name", name="a\0b"),
    _registering("a line end in the name", "name", name="a\nb"),
    _registering("an object for a username", "", username={"a": 1}),
    _registering("a list for a password", "", password=["x"] * 8),
    Case("login: nobody's name", "POST", "/v1/auth/login", 401, {"username": "nobody_at_all", "password": PASSWORD}),
    Case("login: wrong password", "POST", "/v1/auth/login", 401, {"username": "{my_name}", "password": "wrong one"}),
    Case("login: no name", "POST", "/v1/auth/login", 400, {"password": PASSWORD}, about="username"),
    Case("login: no password", "POST", "/v1/auth/login", 400, {"username": "{my_name}"}, about="password"),
    Case("refresh: made up", "POST", "/v1/auth/refresh", 401, {"refresh_token": "ab" * 48}),
    Case("refresh: no token at all", "POST", "/v1/auth/refresh", 400, {}, about="refresh_token"),
    Case("refresh: not even hex", "POST", "/v1/auth/refresh", 401, {"refresh_token": "zz"}),
    Case("logout: of nothing", "POST", "/v1/auth/logout", 400, {}, about="refresh_token"),
    Case("follow: oneself", "POST", "/2/users/{me}/following", 400, {"target_user_id": "{me}"}, about="target_user_id"),
    Case("follow: nobody", "POST", "/2/users/{me}/following", 404, {"target_user_id": "1"}),
    Case("follow: no target", "POST", "/2/users/{me}/following", 400, {}, about="target_user_id"),
    Case("follow: a negative id", "POST", "/2/users/{me}/following", 400, {"target_user_id": "-5"}),
    Case("follow: a word for an id", "POST", "/2/users/{me}/following", 400, {"target_user_id": "other"}),
    Case("follow: an id of 70 bits", "POST", "/2/users/{me}/following", 400, {"target_user_id": str(2**70)}),
    Case("follow: a fraction", "POST", "/2/users/{me}/following", 400, {"target_user_id": 1.5}),
    Case("follow: in somebody else's name", "POST", "/2/users/{other}/following", 403, {"target_user_id": "{me}"}),
    Case("follow: a word in the path", "POST", "/2/users/me/following", 400, {"target_user_id": "{other}"}),
    Case(
        "follow: another id in the body",
        "POST",
        "/2/users/{me}/following",
        400,
        {"id": "{other}", "target_user_id": "{other}"},
    ),
    Case("unfollow: in somebody else's name", "DELETE", "/2/users/{other}/following/{me}", 403),
    Case("unfollow: oneself", "DELETE", "/2/users/{me}/following/{me}", 400, about="target_user_id"),
    Case("delete: somebody else's", "DELETE", "/2/tweets/{theirs}", 403),
    Case("delete: none", "DELETE", "/2/tweets/1", 404),
    Case("delete: a word for an id", "DELETE", "/2/tweets/mine", 400),
    Case("delete: zero", "DELETE", "/2/tweets/0", 400),
    _changing("161 characters of description", "description", description="x" * 161),
    _changing("51 characters of name", "name", name="x" * 51),
    _changing("no name", "name", name=""),
    _changing("only spaces for a name", "name", name="   "),
    _changing("31 characters of location", "location", location="x" * 31),
    _changing("a script for an address", "url", url="javascript:alert(1)"),
    _changing("a list for a name", "", name=["x"]),
    *(
        _changing(f"{control!r} in {member}", member, **{member: f"{start}{control}b"})
        for member, start in (("name", "a"), ("description", "a"), ("location", "a"), ("url", "https://example.org/"))
        for control in ("\0", "\x1b", "\x7f", "\x85")
    ),
    _changing("a line end in the name", "name", name="a\nb"),
    _changing("a line end in the location", "location", location="a\nb"),
    _changing("a word for protected", "", protected="perhaps"),
    _changing("a number for protected", "", protected=2),
    _changing("no language", "language", language="x"),
    _changing("a language of 36 characters", "language", language="en" + "-abcdefgh" * 3 + "-abcdef"),
    _changing("a line after the language", "language", language="en\n"),
    _changing("no country", "country", country="XX"),
    _changing("a country of three letters", "country", country="BRA"),
    _changing("a control character after a good member", "name", protected=True, name="a\0b"),
    _changing("nothing", ""),
    _home("max_results=0", "max_results", max_results="0"),
    _home("max_results=-1", "max_results", max_results="-1"),
    _home("max_results=101", "max_results", max_results="101"),
    _home("max_results of a word", "", max_results="many"),
    _home("a cursor that is none", "pagination_token", pagination_token="abc"),
    _home("a cursor that is not even base64", "pagination_token", pagination_token="%%%"),
    _home("a cursor with a letter more", "pagination_token", pagination_token="A{cursor}"),
    _home("a cursor of somebody else", "pagination_token", pagination_token="{their_cursor}"),
    _home("a cursor of another window", "pagination_token", pagination_token="{cursor}", since_id="5"),
    _home("a cursor of 300 characters", "pagination_token", pagination_token="x" * 300),
    _home("a negative since_id", "since_id", since_id="-1"),
    _home("a word for an until_id", "", until_id="x"),
    _home("a day of the week", "start_time", start_time="monday"),
    _home("a time of no zone", "end_time", end_time="2026-11-21T01:02:03"),
    _home("excluding everything", "exclude", exclude="everything"),
    _home("an unknown field", "tweet.fields", **{"tweet.fields": "created_at,secrets"}),
    _home("an unknown expansion", "expansions", expansions="author_id,secrets"),
    Case("home: somebody else's", "GET", "/2/users/{other}/timelines/reverse_chronological", 403),
    Case("feed: somebody else's", "GET", "/feed", 403, params={"user_id": "{other}"}),
    Case("tweets: max_results=0", "GET", "/2/users/{me}/tweets", 400, params={"max_results": "0"}),
    Case(
        "tweets: the home timeline's cursor",
        "GET",
        "/2/users/{me}/tweets",
        400,
        params={"pagination_token": "{cursor}"},
    ),
    Case("followers: max_results=1001", "GET", "/2/users/{me}/followers", 400, params={"max_results": "1001"}),
    Case("following: max_results=0", "GET", "/2/users/{me}/following", 400, params={"max_results": "0"}),
    Case("followers: a made-up cursor", "GET", "/2/users/{me}/followers", 400, params={"pagination_token": "x"}),
    Case("look-up: no ids", "GET", "/2/tweets", 400, about="ids"),
    Case("look-up: an empty list", "GET", "/2/tweets", 400, params={"ids": ""}, about="ids"),
    Case("look-up: a gap in the list", "GET", "/2/tweets", 400, params={"ids": "1,,2"}, about="ids"),
    Case("look-up: a word", "GET", "/2/users", 400, params={"ids": "1,x"}, about="ids"),
    Case("look-up: 101 ids", "GET", "/2/users", 400, params={"ids": ",".join(map(str, range(1, 102)))}, about="ids"),
    Case("look-up: an id of 70 bits", "GET", f"/2/tweets/{2**70}", 400),
    Case("look-up: a name that is none", "GET", "/2/users/by/username/a-b", 400, about="username"),
    Case("look-up: a list of none", "GET", "/2/users/by", 400, params={"usernames": "a-b"}, about="usernames"),
    Case(
        "unknown field of a person", "GET", "/2/users/me", 400, params={"user.fields": "password"}, about="user.fields"
    ),
    Case("unknown path", "GET", "/2/nothing/here", 404),
    Case("unknown path below a known one", "GET", "/2/users/{me}/secrets", 404),
    Case("method that the path does not take", "PUT", "/2/tweets", 405, {"text": "x"}),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_wrong_request_is_a_problem_and_stores_nothing(cast: Cast, stores: Stores, case: Case) -> None:
    before = await _content(stores)
    more: dict[str, Any] = {}
    if case.json is not None:
        more["json"] = cast.fill(case.json)
    if case.body is not None:
        more |= {"content": case.body, "headers": {"content-type": "application/json"}}
    if case.params:
        more["params"] = cast.fill(case.params)
    answer = await cast.me.request(case.method, cast.fill(case.path), **more)
    assert_problem(answer, case.status, case.about)
    assert await _content(stores) == before


async def test_a_body_of_5_megabytes_is_refused_before_it_is_read(cast: Cast, stores: Stores) -> None:
    """The edge answers and stops reading. A client that first sends all and then reads may find the connection reset,
    which takes the answer with it (RFC 9112, 9.6); this one reads while it sends, as curl does."""
    before = await _content(stores)
    body = b'{"text":"' + b"x" * 5_000_000 + b'"}'
    url = cast.me.edge.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        reading = asyncio.create_task(_response(reader))
        head = (
            f"POST /2/tweets HTTP/1.1\r\nhost: {url.host}\r\nauthorization: Bearer {cast.me.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        async with asyncio.timeout(10):
            answer = await reading
    finally:
        writer.transport.abort()
    assert_problem(answer, 413)
    assert await _content(stores) == before


async def _response(reader: asyncio.StreamReader) -> httpx.Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    content = await reader.readexactly(int(headers["content-length"]))
    return httpx.Response(int(head[0].split()[1]), headers=headers, content=content)


async def test_a_cursor_of_which_any_byte_was_changed_is_refused(cast: Cast) -> None:
    path = f"/2/users/{cast.me.id}/timelines/reverse_chronological"
    await cast.me.get(path, max_results=1, pagination_token=cast.cursor)  # it is good as it is
    for place in range(0, len(cast.cursor) - 1, 5):
        changed = "A" if cast.cursor[place] != "A" else "B"
        cursor = cast.cursor[:place] + changed + cast.cursor[place + 1 :]
        answer = await cast.me.request("GET", path, params={"pagination_token": cursor})
        assert_problem(answer, 400, "pagination_token")


# --- who asks ---


async def test_a_token_that_is_expired_forged_or_for_others_is_401(
    edge: httpx.AsyncClient, stores: Stores, cast: Cast
) -> None:
    key, sub = await signing_key(stores), str(cast.me.id)
    forger = OKPKey.generate_key("Ed25519", {"kid": str(key.kid)})
    now = int(time.time())
    assert (await _read_me(edge, f"Bearer {signed(key, sub=sub)}")).status_code == 200  # made like this, it is good
    head, claims, signature = signed(key, sub=sub).split(".")
    _, others, _ = signed(key, sub=str(cast.other.id)).split(".")
    before = await _content(stores)
    for authorization in (
        f"Bearer {signed(key, sub=sub, iat=now - 7200, exp=now - 3600)}",
        f"Bearer {signed(forger, sub=sub)}",
        f"Bearer {signed(key, sub=sub, iss='somebody')}",
        f"Bearer {signed(key, sub=sub, aud='something')}",
        f"Bearer {signed(key)}",
        f"Bearer {signed(key, sub='0')}",
        f"Bearer {signed(key, sub='me')}",
        f"Bearer {head}.{others}.{signature}",
        f"Bearer {head}.{claims}.",
        f"Bearer eyJhbGciOiJub25lIn0.{claims}.",
        "Bearer",
        "Bearer x",
        f"Basic {claims}",
        "",
    ):
        for answer in (
            await _read_me(edge, authorization),
            await edge.post("/2/tweets", json={"text": "forged"}, headers={"authorization": authorization}),
        ):
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await _content(stores) == before


async def _read_me(edge: httpx.AsyncClient, authorization: str) -> httpx.Response:
    return await edge.get("/2/users/me", headers={"authorization": authorization})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2/users/me"),
        ("PATCH", "/v1/users/me"),
        ("GET", "/2/users/1"),
        ("GET", "/2/users?ids=1"),
        ("GET", "/2/users/by/username/x"),
        ("GET", "/2/users/by?usernames=x"),
        ("POST", "/2/tweets"),
        ("POST", "/tweets"),
        ("GET", "/2/tweets/1"),
        ("DELETE", "/2/tweets/1"),
        ("GET", "/2/tweets?ids=1"),
        ("GET", "/2/users/1/tweets"),
        ("GET", "/2/users/1/timelines/reverse_chronological"),
        ("GET", "/feed"),
        ("POST", "/2/users/1/following"),
        ("DELETE", "/2/users/1/following/2"),
        ("GET", "/2/users/1/followers"),
        ("GET", "/2/users/1/following"),
        ("GET", "/no/such/path"),
    ],
)
async def test_without_a_token_there_is_nothing(edge: httpx.AsyncClient, cast: Cast, method: str, path: str) -> None:
    for headers in ({}, {"x-user-id": str(cast.me.id)}, {"X_User_Id": str(cast.me.id)}):
        assert_problem(await edge.request(method, path, headers=headers), 401)


@pytest.mark.parametrize("header", ["x-user-id", "X-User-Id", "x_user_id", "x-rookery-user-id"])
async def test_an_identity_from_outside_is_nobodys(cast: Cast, stores: Stores, header: str) -> None:
    headers = {header: str(cast.other.id)}
    me = await cast.me.request("GET", "/2/users/me", headers=headers)
    assert me.json()["data"]["id"] == str(cast.me.id)
    made = await cast.me.request("POST", "/2/tweets", json={"text": "mine"}, headers=headers)
    assert await _author(stores, int(made.json()["data"]["id"])) == cast.me.id
    assert_problem(await cast.me.request("DELETE", f"/2/tweets/{cast.theirs}", headers=headers), 403)


async def _author(stores: Stores, tweet_id: int) -> int:
    async def unit(tx: Tx) -> int:
        return int(await tx.scalar("SELECT author_id FROM tweets WHERE id = :id", {"id": tweet_id}))

    return await stores.tweets.read(unit)


# --- members that nobody may set ---


async def test_extra_members_change_nothing_they_should_not(
    edge: httpx.AsyncClient, stores: Stores, cast: Cast
) -> None:
    name = fresh_name()
    extra = {
        "verified": True,
        "suspended": True,
        "deactivated_ms": "1",
        "id": str(cast.other.id),
        "is_admin": True,
        "password_hash": "x",
        "created_at": "2000-01-01T00:00:00Z",
        "public_metrics": {"followers_count": 9},
    }
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    answer = await edge.post("/v1/auth/register", json=body | extra | {"protected": True})
    if answer.status_code == 201:
        me = answer.json()["data"]["user"]
        assert me["verified"] is False and me["protected"] is False
        assert me["id"] != str(cast.other.id)
        assert me["public_metrics"]["followers_count"] == 0
    else:
        assert_problem(answer, 400)
    before = await _content(stores)
    answer = await cast.me.request(
        "PATCH", "/v1/users/me", json={**extra, "username": "stolen", "email": "x@example.org"}
    )
    assert_problem(answer, 400)  # nothing in it is for changing
    assert await _content(stores) == before
    answer = await cast.me.request(
        "POST", "/2/tweets", json={"text": "mine", "author_id": str(cast.other.id), "id": "5", "public_metrics": {}}
    )
    if answer.status_code == 201:
        made = int(answer.json()["data"]["id"])
        assert made != 5 and await _author(stores, made) == cast.me.id
    else:
        assert_problem(answer, 400)


async def test_the_paths_id_counts_and_not_the_bodys(edge: httpx.AsyncClient, stores: Stores, cast: Cast) -> None:
    carol = await register(edge)
    answer = await cast.me.request(
        "POST",
        f"/2/users/{cast.other.id}/following",
        json={"id": str(cast.me.id), "target_user_id": str(carol.id)},
    )
    assert answer.status_code in (400, 403)
    assert_problem(answer, answer.status_code)
    assert (await carol.get(f"/2/users/{carol.id}/followers"))["meta"]["result_count"] == 0
    answer = await cast.me.request(
        "DELETE", f"/2/users/{cast.other.id}/following/{carol.id}", params={"id": str(cast.me.id)}
    )
    assert answer.status_code in (400, 403)


async def test_an_answer_to_a_wrong_login_does_not_say_who_exists(edge: httpx.AsyncClient, cast: Cast) -> None:
    known = await edge.post("/v1/auth/login", json={"username": cast.me.username, "password": "wrong one"})
    unknown = await edge.post("/v1/auth/login", json={"username": "nobody_at_all", "password": "wrong one"})
    assert known.content == unknown.content
    assert known.status_code == unknown.status_code == 401


async def test_a_query_as_long_as_the_edge_takes_is_read_every_time(cast: Cast) -> None:
    """The services' own bound must not be the lower one: gRPC refuses at random what is between its two."""
    for _ in range(10):
        answer = await cast.me.request("GET", "/2/tweets", params={"ids": "7" * 14_000})
        assert_problem(answer, 400)


async def test_what_is_just_within_the_limits_is_taken(edge: httpx.AsyncClient, alice: Account) -> None:
    for text in ("x" * 280, "字" * 140, "🎉" * 140, "https://example.com/" + "y" * 500 + " " + "x" * 256):
        await alice.tweet(text)
    await register(edge, fresh_name() + "x")
    await alice.get("/2/users", ids=",".join(map(str, range(1, 101))))
    await alice.get(f"/2/users/{alice.id}/followers", max_results=1000)
