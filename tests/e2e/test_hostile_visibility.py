"""Who may see what, asked of every read and write: what is hidden answers as what never was, byte for byte.

The walk is over the operations of the contracts, not over those that somebody thought of: each has a line in the tables
below, and one without a line fails.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from rookery.user.v1.user_mesh_pb2 import SetSuspensionRequest

from cli.edge import Operation
from mesh.client import Destination
from scripts.operations import DESCRIPTORS, known_operations, name_of
from tests.e2e.harness import PASSWORD, VARYING, Account, assert_problem, register_many

if TYPE_CHECKING:
    from rookery.user.v1.user_mesh_pb2_grpc import UserMeshServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]

_ELSEWHERE = {
    *("ModerationService", "ReportService"),
    *("OAuthService", "ClientService", "RecoveryService", "SecondFactorService", "SessionService"),
}
# Accounts and moderation, which show nobody's tweets or people to others: test_authorisation.py, test_hostile_bodies.py
# and test_generated_requests.py hold each of their operations to the same.
OPERATIONS = {
    name_of(operation): operation
    for operation in known_operations()
    if operation.rpc.split("/")[1].rpartition(".")[2] not in _ELSEWHERE
}
READS = {name for name in OPERATIONS if name.startswith("GET ")}
WRITES = set(OPERATIONS) - READS

# --- how each read is called ---

OF_TWEET = {
    "GET /2/tweets/{id}",
    "GET /2/tweets",
    "GET /2/tweets/{id}/liking_users",
    "GET /2/tweets/{id}/quote_tweets",
    "GET /2/tweets/{id}/retweeted_by",
    "GET /2/tweets/{id}/retweets",
    "GET /v1/tweets/{id}/conversation",
}
"""About one tweet, which may be hidden."""

OF_PERSON = {
    "GET /2/users/{id}/tweets",
    "GET /2/users/{id}/mentions",
    "GET /2/users/{id}/liked_tweets",
    "GET /2/users/{id}/followers",
    "GET /2/users/{id}/following",
    "GET /2/users/{id}/owned_lists",
    "GET /2/users/{id}/followed_lists",
    "GET /2/users/{id}/list_memberships",
}
"""What belongs to one person, and hides with their tweets."""

OF_PROFILE = {
    "GET /2/users/{id}",
    "GET /2/users",
    "GET /2/users/by/username/{username}",
    "GET /2/users/by",
}
"""Profiles: they hide only when the person is gone."""

OF_LIST = {
    "GET /2/lists/{id}",
    "GET /2/lists/{id}/members",
    "GET /2/lists/{id}/followers",
    "GET /2/lists/{id}/tweets",
}
"""About one list, which may be private."""

OF_EXPORT = {
    "GET /v1/exports/{id}",
    "GET /v1/exports/{id}/archive",
}
"""About one's own export; another's is not there."""

OWN = {
    "GET /2/users/{id}/timelines/reverse_chronological",
    "GET /2/users/{id}/bookmarks",
    "GET /2/users/{id}/blocking",
    "GET /2/users/{id}/muting",
    "GET /2/users/{id}/pinned_lists",
    "GET /feed",
    "GET /timeline",
}
"""Of the caller only: anybody else's is refused, whoever that is."""

MINE = {
    "GET /2/users/me",
    "GET /v1/follow_requests",
    "GET /v1/follow_requests/sent",
    "GET /v1/exports",
}
"""Without any target: about the caller."""

PUBLIC = {"GET /.well-known/jwks.json", "GET /2/users/search"}
"""About nobody, or about everybody who is there."""

TABLES = (OF_TWEET, OF_PERSON, OF_PROFILE, OF_LIST, OF_EXPORT, OWN, MINE, PUBLIC)

BEARS_TWEETS = {
    "GET /2/tweets/{id}",
    "GET /2/tweets",
    "GET /2/tweets/{id}/quote_tweets",
    "GET /2/tweets/{id}/retweets",
    "GET /v1/tweets/{id}/conversation",
    "GET /2/users/{id}/tweets",
    "GET /2/users/{id}/mentions",
    "GET /2/users/{id}/liked_tweets",
    "GET /2/users/{id}/timelines/reverse_chronological",
    "GET /feed",
    "GET /timeline",
    "GET /2/users/{id}/bookmarks",
    "GET /2/lists/{id}/tweets",
}
"""Reads in which the hidden tweets show to whoever may see them: here they must not show to others."""

BEARS_PEOPLE = {
    "GET /2/tweets/{id}/liking_users",
    "GET /2/tweets/{id}/retweeted_by",
    "GET /2/users/{id}/followers",
    "GET /2/users/{id}/following",
    "GET /2/lists/{id}/members",
    "GET /2/lists/{id}/followers",
}
"""Lists of people, in which nobody is on the other side of a block."""


async def test_every_read_has_a_line() -> None:
    lines = list(itertools.chain(*TABLES))
    assert len(lines) == len(set(lines))
    assert set(lines) >= READS, "say in which table it belongs, and so how it is called"


# --- who is there ---


@dataclass
class Cast:
    """People, and what they wrote, when all of it is hidden from the viewer."""

    viewer: Account
    neutral: Account
    """Whom everybody may see; owner of the list and of the tweet that all are about."""
    witness: Account
    """Who follows everybody, and read everything before."""
    hidden: dict[str, Account]
    """By why they are hidden from the viewer."""
    tweets: dict[str, int]
    """One of theirs, with a like, an answer, a quote and a retweet."""
    polls: dict[str, int]
    """A poll of theirs."""
    public: int
    """A tweet of the neutral one, which all of them answered, quoted, retweeted and liked."""
    around: list[int]
    """Neutral tweets that point at the hidden ones, and hidden retweets: ids."""
    shared: int
    """A public list with everybody on it."""
    private: int
    """A list of the neutral one."""
    export: str
    """An export of the neutral one; empty when there is none yet."""
    seen: dict[str, str] = field(default_factory=dict)
    """What the witness, or the viewer, was answered while nothing was hidden, by operation."""


GONE = ("deactivated", "suspended")
REASONS = ("protected", "blocks the viewer", "blocked by the viewer", *GONE)


def _secret(reason: str) -> str:
    """A word of that person's tweets, and of nobody else's."""
    return f"secret{REASONS.index(reason)}word"


async def _done(account: Account, method: str, path: str, body: Any = None) -> Any:
    answer = await account.request(method, path, **({} if body is None else {"json": body}))
    assert answer.is_success, f"{method} {path}: {answer.text}"
    return answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cast(edge: httpx.AsyncClient, settled: Settled, operator: Destination[UserMeshServiceAsyncStub]) -> Cast:
    """Everybody meets while all is open, all caches get warm, and then the doors close."""
    viewer, neutral, witness, *others = await register_many(edge, 3 + len(REASONS))
    hidden = dict(zip(REASONS, others, strict=True))
    for reader in (viewer, witness, neutral):
        for other in (neutral, *others):
            if other is not reader:
                await reader.follow(other)
    public = await neutral.tweet("about which all of them speak")
    shared = int((await _done(neutral, "POST", "/2/lists", {"name": "everybody"}))["data"]["id"])
    private = int((await _done(neutral, "POST", "/2/lists", {"name": "nobody's", "private": True}))["data"]["id"])
    tweets: dict[str, int] = {}
    polls: dict[str, int] = {}
    around: list[int] = []
    for reason, other in hidden.items():
        await other.follow(neutral)
        tweets[reason] = tweet = await other.tweet(f"{_secret(reason)} to @{viewer.username} and @{neutral.username}")
        await other.tweet(_secret(reason), reply={"in_reply_to_tweet_id": str(public)})
        await other.tweet(_secret(reason), quote_tweet_id=str(public))
        asking = await other.tweet(
            _secret(reason),
            poll={"options": [_secret(reason), "no"], "duration_minutes": 60},
            reply={"in_reply_to_tweet_id": str(public)},
        )
        found = await witness.get(f"/2/tweets/{asking}", expansions="attachments.poll_ids")
        polls[reason] = int(found["includes"]["polls"][0]["id"])
        await _done(other, "POST", f"/2/users/{other.id}/retweets", {"tweet_id": str(public)})
        await _done(other, "POST", f"/2/users/{other.id}/likes", {"tweet_id": str(public)})
        await _done(other, "POST", f"/2/users/{other.id}/followed_lists", {"list_id": str(shared)})
        for who in (neutral, witness, viewer):
            await _done(who, "POST", f"/2/users/{who.id}/likes", {"tweet_id": str(tweet)})
            await _done(who, "POST", f"/2/users/{who.id}/bookmarks", {"tweet_id": str(tweet)})
        retweet = await _done(neutral, "POST", f"/2/users/{neutral.id}/retweets", {"tweet_id": str(tweet)})
        around += [
            int(retweet["data"]["rest_id"]),
            await neutral.tweet("look", quote_tweet_id=str(tweet)),
            await neutral.tweet("and", reply={"in_reply_to_tweet_id": str(tweet)}),
        ]
        await _done(neutral, "POST", f"/2/lists/{shared}/members", {"user_id": str(other.id)})
    await _done(neutral, "POST", f"/2/lists/{shared}/members", {"user_id": str(neutral.id)})
    export = (await _done(neutral, "POST", "/v1/exports", {}))["data"]["id"]
    made = Cast(viewer, neutral, witness, hidden, tweets, polls, public, around, shared, private, export)
    await settled()
    for reader in (viewer, witness):
        for name, path, params in _neutral_calls(made, reader):
            answer = await reader.request("GET", path, params=params)
            assert answer.status_code == 200, f"{name}: {answer.text}"
            made.seen[name] = made.seen.get(name, "") + answer.text

    protected, blocking, blocked, gone, suspended = (hidden[reason] for reason in REASONS)
    await _done(protected, "PATCH", "/v1/users/me", {"protected": True})
    await viewer.unfollow(protected)
    await _done(blocking, "POST", f"/2/users/{blocking.id}/blocking", {"target_user_id": str(viewer.id)})
    await _done(viewer, "POST", f"/2/users/{viewer.id}/blocking", {"target_user_id": str(blocked.id)})
    await _done(gone, "POST", "/v1/users/me/deactivate", {"password": PASSWORD})
    await operator.call(operator.stub.SetSuspension, SetSuspensionRequest(user_id=suspended.id, suspended=True))
    await settled()
    for tweet in tweets.values():  # an allowed reader warms what the next one must not get
        await witness.request("GET", f"/2/tweets/{tweet}")
    return made


_EXPANSIONS = "author_id,referenced_tweets.id,referenced_tweets.id.author_id,in_reply_to_user_id,attachments.poll_ids"


def _fields(name: str) -> dict[str, str]:
    """Everything that may be asked for."""
    if name in BEARS_TWEETS or name in OF_TWEET - BEARS_PEOPLE:
        return {"expansions": _EXPANSIONS, "tweet.fields": "author_id,conversation_id,entities,public_metrics"}
    if "export" in name or name in PUBLIC:
        return {}
    if name in OF_LIST - BEARS_PEOPLE or name.endswith(("_lists", "_memberships")):
        return {"expansions": "owner_id"}
    return {"expansions": "pinned_tweet_id", "user.fields": "public_metrics"}


def _call(name: str, target: str, username: str = "") -> tuple[str, dict[str, str]]:
    """Path and parameters of a read about a target."""
    path = name.removeprefix("GET ").replace("{id}", target).replace("{username}", username)
    params = _fields(name)
    if "max_results" in _request_of(OPERATIONS[name]).fields_by_name:
        params["max_results"] = "100"
    if name in ("GET /2/tweets", "GET /2/users"):
        params["ids"] = target
    if name == "GET /2/users/by":
        params["usernames"] = username
    if name == "GET /feed":
        params["user_id"] = target
    if name == "GET /2/users/search":
        params["query"] = username
    return path, params


def _neutral_calls(cast: Cast, reader: Account) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every read, about something that is for everybody; those that take many ids, about everything."""
    everything = ",".join(map(str, (cast.public, *cast.around, *cast.tweets.values())))
    for name in sorted(READS - OF_EXPORT):
        if name == "GET /2/tweets":
            targets = [everything]
        elif name in OF_TWEET:
            targets = [str(tweet) for tweet in (cast.public, *cast.around, *cast.tweets.values())]
        elif name in OF_LIST:
            targets = [str(cast.shared)]
        elif name in OWN:
            targets = [str(reader.id)]
        else:
            targets = [str(cast.neutral.id), str(reader.id)] if name in OF_PERSON else [str(cast.neutral.id)]
        for target in targets:
            yield name, *_call(name, target, cast.neutral.username)


# --- hidden is as missing ---


def _other_id(known: int) -> int:
    """An id that nobody has, as long as a known one."""
    return known ^ 1 << 30  # some seventeen minutes of worker and sequence away


def _same(answers: Sequence[httpx.Response], ids: Mapping[str, str]) -> None:
    """Checks that two answers, of what is hidden and what is not there, differ only by the ids that were asked for."""
    hidden, missing = answers
    text = hidden.text
    for one, other in ids.items():
        text = text.replace(one, other)
    assert (hidden.status_code, text) == (missing.status_code, missing.text)

    def headers(answer: httpx.Response) -> list[tuple[str, str]]:
        return sorted((name, value) for name, value in answer.headers.items() if name not in VARYING)

    assert headers(hidden) == headers(missing)


async def _compare(viewer: Account, name: str, hidden: str, missing: str, names: tuple[str, str] = ("", "")) -> None:
    answers = []
    for target, username in ((hidden, names[0]), (missing, names[1])):
        path, params = _call(name, target, username)
        answers.append(await viewer.request("GET", path, params=params))
    _same(answers, {hidden: missing, names[0]: names[1]} if names[0] else {hidden: missing})


@pytest.mark.parametrize("reason", [*REASONS, "deleted"])
@pytest.mark.parametrize("name", sorted(OF_TWEET & READS))
async def test_a_hidden_tweet_answers_as_none(cast: Cast, name: str, reason: str) -> None:
    if reason == "deleted":
        tweet = await cast.neutral.tweet("not for long")
        await cast.neutral.delete(tweet)
    else:
        tweet = cast.tweets[reason]
    await _compare(cast.viewer, name, str(tweet), str(_other_id(tweet)))


@pytest.mark.parametrize(
    "header",
    [
        ("accept", 'application/ld+json; profile="https://www.w3.org/ns/activitystreams"'),
        ("accept", "text/html"),
        ("x-user-id", "{author}"),
        ("X-Rookery-User-Id", "{author}"),
        ("x-forwarded-for", "127.0.0.1"),
        ("signature", 'keyId="https://example.com/actor#main-key",signature="AA=="'),
        ("if-none-match", "*"),
        ("cache-control", "no-cache"),
        ("accept-encoding", "gzip, br"),
    ],
    ids=lambda header: f"{header[0]} {header[1][:20]}",
)
async def test_no_header_changes_that(cast: Cast, header: tuple[str, str]) -> None:
    for reason, tweet in cast.tweets.items():
        headers = {header[0]: header[1].replace("{author}", str(cast.hidden[reason].id))}
        answers = [
            await cast.viewer.request("GET", f"/2/tweets/{target}", headers=headers)
            for target in (tweet, _other_id(tweet))
        ]
        assert answers[0].json().keys() == {"errors"}
        _same(answers, {str(tweet): str(_other_id(tweet))})


@pytest.mark.parametrize("name", sorted(OF_TWEET & READS))
async def test_a_retweet_of_a_hidden_tweet_answers_as_none(cast: Cast, name: str) -> None:
    for retweet in cast.around[::3]:
        await _compare(cast.viewer, name, str(retweet), str(_other_id(retweet)))


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("name", sorted(OF_PERSON & READS))
async def test_what_belongs_to_a_hidden_person_answers_as_nobodys(cast: Cast, name: str, reason: str) -> None:
    person = cast.hidden[reason].id
    await _compare(cast.viewer, name, str(person), str(_other_id(person)))


@pytest.mark.parametrize("name", sorted(OF_PROFILE & READS))
async def test_a_profile_of_somebody_gone_answers_as_nobodys_and_others_are_there(cast: Cast, name: str) -> None:
    for reason, person in cast.hidden.items():
        if reason in GONE:
            nobody = "x" * len(person.username)
            await _compare(cast.viewer, name, str(person.id), str(_other_id(person.id)), (person.username, nobody))
        else:
            path, params = _call(name, str(person.id), person.username)
            assert "data" in (await cast.viewer.request("GET", path, params=params)).json(), reason


@pytest.mark.parametrize("name", sorted(OF_LIST & READS))
async def test_a_private_list_answers_as_none(cast: Cast, name: str) -> None:
    await _compare(cast.viewer, name, str(cast.private), str(_other_id(cast.private)))
    path, params = _call(name, str(cast.private))
    assert "errors" not in (await cast.neutral.request("GET", path, params=params)).json()


@pytest.mark.parametrize("name", sorted(OF_EXPORT & READS))
async def test_anothers_export_answers_as_none(cast: Cast, name: str) -> None:
    answers = []
    for export in (cast.export, _other_export(cast.export)):
        path, params = _call(name, export)
        answers.append(await cast.viewer.request("GET", path, params=params))
    assert_problem(answers[0], 404)
    _same(answers, {cast.export: _other_export(cast.export)})


def _other_export(known: str) -> str:
    return str(_other_id(int(known))) if known.isdigit() else known[::-1]


@pytest.mark.parametrize("name", sorted((OWN - {"GET /timeline"}) & READS))
async def test_what_is_anothers_own_is_refused_whoever_that_is(cast: Cast, name: str) -> None:
    for other in (cast.neutral, *cast.hidden.values()):
        path, params = _call(name, str(other.id))
        answer = await cast.viewer.request("GET", path, params=params)
        assert_problem(answer, 403)
        await _compare(cast.viewer, name, str(other.id), str(_other_id(other.id)))


# --- nothing of it is anywhere ---


@pytest.mark.parametrize("name", sorted(READS - OF_EXPORT))
async def test_nothing_hidden_is_in_any_answer(cast: Cast, name: str) -> None:
    """Not in lists, not in what is included, not through those who answered, quoted or retweeted it."""
    found = ""
    for called, path, params in _neutral_calls(cast, cast.viewer):
        if called == name:
            answer = await cast.viewer.request("GET", path, params=params)
            assert answer.status_code == 200, answer.text
            found += answer.text
    before = cast.seen[name]
    for reason, person in cast.hidden.items():
        if name in BEARS_TWEETS:
            assert _secret(reason) in before, "it was not there when it could be seen: nothing is tested"
        assert _secret(reason) not in found, reason
        if name in BEARS_PEOPLE and reason != "protected":
            assert person.username in before, "they were not there when they could be seen: nothing is tested"
            assert person.username not in found, reason


async def test_who_may_see_it_still_does(cast: Cast) -> None:
    for reason in REASONS[:3]:
        tweet = cast.tweets[reason]
        assert _secret(reason) in (await cast.witness.get(f"/2/tweets/{tweet}"))["data"]["text"]
        home = await cast.witness.get(f"/2/users/{cast.witness.id}/timelines/reverse_chronological")
        assert str(tweet) in {one["id"] for one in home["data"]}


# --- writing to what is hidden ---


@dataclass(frozen=True)
class Write:
    """A write about a tweet, a person or a list: `{me}` is the caller, `{target}` what it is about."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


_NAMED = {"tweet_id": "{target}"}
ON_TWEETS = (
    Write("POST", "/2/users/{me}/likes", _NAMED),
    Write("POST", "/2/users/{me}/retweets", _NAMED),
    Write("POST", "/2/users/{me}/bookmarks", _NAMED),
    Write("DELETE", "/2/users/{me}/likes/{target}"),
    Write("DELETE", "/2/users/{me}/retweets/{target}"),
    Write("DELETE", "/2/users/{me}/bookmarks/{target}"),
    Write("DELETE", "/2/tweets/{target}"),
    Write("POST", "/2/tweets", {"text": "x", "reply": {"in_reply_to_tweet_id": "{target}"}}),
    Write("POST", "/2/tweets", {"text": "x", "quote_tweet_id": "{target}"}),
    Write("PATCH", "/v1/users/me", {"pinned_tweet_id": "{target}"}),
)
ON_LISTS = (
    Write("PUT", "/2/lists/{target}", {"name": "mine now"}),
    Write("DELETE", "/2/lists/{target}"),
    Write("POST", "/2/lists/{target}/members", {"user_id": "{me}"}),
    Write("DELETE", "/2/lists/{target}/members/{me}"),
    Write("POST", "/2/users/{me}/followed_lists", {"list_id": "{target}"}),
    Write("DELETE", "/2/users/{me}/followed_lists/{target}"),
    Write("POST", "/2/users/{me}/pinned_lists", {"list_id": "{target}"}),
    Write("DELETE", "/2/users/{me}/pinned_lists/{target}"),
)
ON_PEOPLE = (
    Write("POST", "/2/users/{me}/following", {"target_user_id": "{target}"}),
    Write("POST", "/2/users/{me}/blocking", {"target_user_id": "{target}"}),
    Write("POST", "/2/users/{me}/muting", {"target_user_id": "{target}"}),
)


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, names) for key, item in value.items()}
    for name, text in names.items():
        value = value.replace("{" + name + "}", text)
    return value


async def _written(viewer: Account, write: Write, target: int) -> httpx.Response:
    names = {"me": str(viewer.id), "target": str(target)}
    body = {} if write.body is None else {"json": _filled(write.body, names)}
    answer: httpx.Response = await viewer.request(write.method, _filled(write.path, names), **body)
    return answer


def _said(write: Write) -> str:
    return f"{write.method} {write.path} {' '.join(write.body or ())}"


@pytest.mark.parametrize("write", ON_TWEETS, ids=_said)
async def test_a_write_to_a_hidden_tweet_answers_as_to_none(cast: Cast, write: Write) -> None:
    for tweet in cast.tweets.values():
        answers = [await _written(cast.viewer, write, target) for target in (tweet, _other_id(tweet))]
        _same(answers, {str(tweet): str(_other_id(tweet))})
        assert answers[0].status_code in (403, 404) or write.method == "DELETE"
    assert (await cast.neutral.get(f"/2/users/{cast.viewer.id}/tweets"))["meta"]["result_count"] == 0


async def test_a_vote_in_a_hidden_poll_answers_as_in_none(cast: Cast) -> None:
    write = Write("POST", "/v1/polls/{target}/votes", {"position": "1"})
    for poll in cast.polls.values():
        answers = [await _written(cast.viewer, write, target) for target in (poll, _other_id(poll))]
        assert_problem(answers[0], 404)
        _same(answers, {str(poll): str(_other_id(poll))})


@pytest.mark.parametrize("write", ON_LISTS, ids=_said)
async def test_a_write_to_a_private_list_answers_as_to_none(cast: Cast, write: Write) -> None:
    answers = [await _written(cast.viewer, write, target) for target in (cast.private, _other_id(cast.private))]
    _same(answers, {str(cast.private): str(_other_id(cast.private))})
    kept = await cast.neutral.get(f"/2/lists/{cast.private}")
    assert kept["data"]["name"] == "nobody's"
    assert (await cast.neutral.get(f"/2/lists/{cast.private}/members"))["meta"]["result_count"] == 0


@pytest.mark.parametrize("write", ON_PEOPLE, ids=_said)
async def test_a_write_to_somebody_gone_answers_as_to_nobody(cast: Cast, write: Write) -> None:
    for reason in GONE:
        gone = cast.hidden[reason].id
        answers = [await _written(cast.viewer, write, target) for target in (gone, _other_id(gone))]
        assert_problem(answers[0], 404)
        _same(answers, {str(gone): str(_other_id(gone))})


async def test_neither_side_of_a_block_follows_or_is_asked(cast: Cast) -> None:
    blocking, blocked = cast.hidden["blocks the viewer"], cast.hidden["blocked by the viewer"]
    for who, whom in itertools.permutations((cast.viewer, blocking), 2):
        answer = await who.request("POST", f"/2/users/{who.id}/following", json={"target_user_id": str(whom.id)})
        assert_problem(answer, 403)
    answer = await blocked.request(
        "POST", f"/2/users/{blocked.id}/following", json={"target_user_id": str(cast.viewer.id)}
    )
    assert_problem(answer, 403)


async def test_a_repost_or_quote_does_not_widen_who_sees(cast: Cast) -> None:
    """Followers of a protected person can pass nothing on: they may not repeat, and what they wrote shows alone."""
    protected = cast.hidden["protected"]
    tweet = await protected.tweet("for followers")
    for body in ({"text": "look", "quote_tweet_id": str(tweet)},):
        assert_problem(await cast.witness.request("POST", "/2/tweets", json=body), 403)
    answer = await cast.witness.request("POST", f"/2/users/{cast.witness.id}/retweets", json={"tweet_id": str(tweet)})
    assert_problem(answer, 403)
    found = await cast.viewer.get(
        "/2/tweets", ids=",".join(map(str, cast.around[:3])), expansions="referenced_tweets.id"
    )
    assert [int(one["id"]) for one in found["data"]] == cast.around[1:3]  # the quote and the answer; no retweet
    assert "tweets" not in found.get("includes", {})
    assert _secret("protected") not in str(found)


# --- what is whose ---

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
    _POOL.Add(_file)


def _request_of(operation: Operation) -> Descriptor:
    service, _, method = operation.rpc.lstrip("/").partition("/")
    found: Descriptor = _POOL.FindServiceByName(service).methods_by_name[method].input_type
    return found


def _with_variables(names: set[str]) -> list[str]:
    return sorted(name for name in names if "{" in name)


@pytest.mark.parametrize("name", _with_variables({name for name in WRITES if not name.startswith("DELETE ")}))
async def test_an_id_in_the_body_is_not_the_paths(cast: Cast, name: str) -> None:
    """The path says whom it is about; a body that says so too, for somebody else, is refused and changes nothing."""
    method, template = name.split(" ")
    path = template.replace("{id}", str(cast.viewer.id))
    answer = await cast.viewer.request(method, path, json={"id": str(cast.neutral.id)})
    assert_problem(answer, 400)


@pytest.mark.parametrize("name", sorted(READS - PUBLIC))
async def test_pages_are_capped(cast: Cast, name: str) -> None:
    operation = OPERATIONS[name]
    if "max_results" not in _request_of(operation).fields_by_name:
        return
    for size in ("0", "-1", "100000", "4294967296", "1e2", "ten"):
        path, params = _call(name, str(cast.viewer.id), cast.viewer.username)
        answer = await cast.viewer.request("GET", path, params=params | {"max_results": size})
        assert_problem(answer, 400)


_LONG = "x" * 100_000


def _too_much(message: Descriptor) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(where, value): each string of a request far too long, each list with far too many elements."""
    for member in message.fields:
        if member.is_repeated:
            element: Any = "1" if member.message_type is None else {}
            yield (member.name,), [element] * 20_000
        elif member.message_type is not None:
            for where, value in _too_much(member.message_type):
                yield (member.name, *where), value
        elif member.type == FieldDescriptor.TYPE_STRING:
            yield (member.name,), _LONG


@pytest.mark.parametrize("name", sorted(name for name in WRITES if not name.startswith("DELETE ")))
async def test_strings_and_lists_of_bodies_are_capped(cast: Cast, name: str) -> None:
    """What is too long is named in the refusal. Selections of fields stand in addresses, which the edge bounds."""
    method, template = name.split(" ")
    path = template.replace("{id}", str(cast.viewer.id))
    for where, value in _too_much(_request_of(OPERATIONS[name])):
        if where == ("id",) or where[-1] == "fields":
            continue
        body = value
        for member in reversed(where):
            body = {member: body}
        answer = await cast.viewer.request(method, path, json=body)
        assert_problem(answer, 400)
        assert where[-1] in answer.text, f"{'.'.join(where)}: {answer.text}"


@pytest.mark.parametrize("name", ["GET /2/tweets", "GET /2/users", "GET /2/users/by"])
async def test_lists_of_ids_and_names_are_capped(cast: Cast, name: str) -> None:
    parameter = "usernames" if name.endswith("/by") else "ids"
    for count in (101, 1_000):
        value = ",".join(str(number) for number in range(1, count + 1))
        answer = await cast.viewer.request("GET", name.removeprefix("GET "), params={parameter: value})
        assert_problem(answer, 400)


async def test_members_that_nobody_may_set_change_nothing(cast: Cast) -> None:
    fields = "verified,protected,public_metrics,created_at"
    extra = {
        "verified": True,
        "verified_type": "government",
        "username": "somebody_else",
        "is_celebrity": True,
        "suspended": True,
        "followers_count": 9,
        "public_metrics": {"followers_count": 9},
        "created_at": "2006-03-21T00:00:00.000Z",
    }
    before = await cast.viewer.get("/2/users/me", user__fields=fields)
    await _done(cast.viewer, "PATCH", "/v1/users/me", {"location": "Here", **extra})
    assert await cast.viewer.get("/2/users/me", user__fields=fields) == before
    body = {"name": "mine", "owner_id": str(cast.neutral.id), "member_count": 7, "follower_count": 7, "id": "5"}
    made = (await _done(cast.viewer, "POST", "/2/lists", body))["data"]["id"]
    found = await cast.viewer.get(f"/2/lists/{made}", list__fields="owner_id,member_count,follower_count")
    assert found["data"]["owner_id"] == str(cast.viewer.id)
    assert (found["data"]["member_count"], found["data"]["follower_count"]) == (0, 0)
    assert made != "5"


OPEN = {
    "POST /v1/auth/register",
    "POST /v1/auth/login",
    "POST /v1/auth/refresh",
    "POST /v1/auth/logout",
    "GET /.well-known/jwks.json",
}
"""What needs no access token."""


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - OPEN))
async def test_without_a_token_nothing_but_the_way_in_is_open(cast: Cast, name: str) -> None:
    """Every operation, also for somebody who only says who they are."""
    method, template = name.split(" ")
    path = re.sub(r"\{[^}]*\}", "1", template)
    for headers in ({}, {"x-user-id": str(cast.neutral.id)}, {"authorization": "Bearer a.b.c"}):
        answer = await cast.viewer.edge.request(method, path, headers=headers, json={} if method != "GET" else None)
        assert_problem(answer, 401)


async def test_requests_to_follow_are_their_ends_own(cast: Cast) -> None:
    """Nobody else reads them, and nobody else answers them."""
    protected = cast.hidden["protected"]
    await cast.viewer.follow(protected)
    try:
        sent = await cast.viewer.get("/v1/follow_requests/sent")
        assert [one["id"] for one in sent["data"]] == [str(protected.id)]
        for other in (cast.neutral, cast.witness):
            for path in ("/v1/follow_requests", "/v1/follow_requests/sent"):
                assert (await other.get(path))["meta"]["result_count"] == 0
        for verb in (
            "accept",
            "decline",
        ):  # the viewer follows the neutral one already, whose acceptance changes nothing
            answer = await cast.witness.request("POST", f"/v1/follow_requests/{cast.viewer.id}/{verb}")
            assert_problem(answer, 404)
        assert "data" not in await cast.viewer.get(f"/2/tweets/{cast.tweets['protected']}")
    finally:
        await cast.viewer.unfollow(protected)


async def test_bodies_of_many_shapes_do_not_make_a_500(cast: Cast) -> None:
    """Every write, with values of the wrong kind everywhere: a clear 400, and never a defect."""
    wrong: Sequence[Any] = (None, True, -1, 2**70, 1.5, "", "\0", [], [[]], {}, {"id": {}}, "x" * 300)
    room = asyncio.Semaphore(8)

    async def send(name: str, body: Any) -> None:
        method, template = name.split(" ")
        path = template.replace("{id}", str(cast.viewer.id))
        async with room:
            answer = await cast.viewer.request(method, path, json=body)
        assert answer.status_code < 500, f"{name} {body}: {answer.text}"

    safe = {"POST /v1/users/me/deactivate", "POST /v1/auth/logout", "POST /v1/auth/register", "POST /v1/users/me/erase"}
    async with asyncio.TaskGroup() as group:
        for name in sorted(WRITES - safe):
            if not name.startswith("DELETE "):
                members = [one.name for one in _request_of(OPERATIONS[name]).fields if one.name != "id"]
                for member, value in itertools.product(members, wrong):
                    if (name, member) != ("PATCH /v1/users/me", "protected"):
                        group.create_task(send(name, {member: value}))
