"""Done, but the caller was told that it timed out: a retry of any store method doubles nothing.

Stores are wrapped from outside, as metrics or limits would wrap them: the call is carried out, committed, and then
fails with DeadlineExceeded. The wrapper is generated from the port, so a new method is covered, or missed loudly
(`test_every_method_has_a_case`). Each case runs twice on real databases: once undisturbed, once told that it timed out
and then tried again as its caller would. Afterwards both databases hold the same, row for row, outbox included.
"""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rookery.events.v1.user_events_pb2 import UserProfileChanged, UserRegistered

from cli.profile import PROJECT
from mesh.bus.redis_streams import RedisStreamsBus
from mesh.db.migrations import migrate
from mesh.db.sql import Database
from mesh.errors import AlreadyExists, DeadlineExceeded
from mesh.outbox.sql import SqlOutbox
from services.graph.domain import Line
from services.graph.list_domain import PeopleList
from services.graph.store.base import GraphStore
from services.graph.store.lists import ListStore
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet
from services.tweet.store.base import Applied, By, CountCheck, CountStore, PollStore, TweetStore
from services.tweet.store.checks import SqlCountCheck
from services.tweet.store.sql import SqlTweetStore
from services.user.domain import CountChange
from services.user.store.base import KeyStore, NewPerson, Session, SessionStore, SigningKey, UserStore
from services.user.store.sql import SqlKeyStore, SqlSessionStore, SqlUserStore

PORTS: dict[type, str] = {
    UserStore: "user",
    SessionStore: "user",
    KeyStore: "user",
    GraphStore: "graph",
    ListStore: "graph",
    TweetStore: "tweet",
    PollStore: "tweet",
    CountStore: "tweet",
    CountCheck: "tweet",
}
_VOLATILE = {"outbox": {"event_id", "created_ms", "traceparent"}}
"""Columns that differ from run to run; consumers are idempotent by content, not by these."""


class DoneButTimedOut:
    """A store whose every method does its work and then says that it timed out."""

    def __init__(self, port: type, store: object) -> None:
        for name in methods(port):
            setattr(self, name, self._wrapped(getattr(store, name)))

    @staticmethod
    def _wrapped(method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def call(*args: object, **kwargs: object) -> object:
            await method(*args, **kwargs)
            raise DeadlineExceeded("injected after the commit")

        return call


def methods(port: type) -> list[str]:
    """What a port asks of its adapters."""
    return sorted(name for name, member in vars(port).items() if inspect.iscoroutinefunction(member))


@dataclass(frozen=True)
class Call:
    """A call of a store's method."""

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def call(method: str, *args: Any, **kwargs: Any) -> Call:
    """Short for what it makes."""
    return Call(method, args, kwargs)


@dataclass(frozen=True)
class Case:
    """A call, what came before it, and what its caller's retry is and gets."""

    port: type
    call: Call
    before: Sequence[Call] = ()
    again: Call | None = None
    """The retry, where a caller makes new ids for it; the same call when None."""
    answer: Callable[[Any], bool] | None = None
    """Whether the retry's answer is right; that of the undisturbed call when None."""
    raises: type[Exception] | None = None
    """What the retry raises."""
    note: str = ""
    """What the caller's caller sees."""

    def __str__(self) -> str:
        return f"{self.port.__name__}.{self.call.method}{self.note and ': '}{self.note}"


PERSON = NewPerson(1, "wren", "wren@example.org", "hash", "Wren")
SESSION = Session(b"s" * 16, 1, b"h" * 32, 1_000, 9_000)
REGISTERED = UserRegistered(user_id=1, username="wren")
CREATE_PERSON = call("create", PERSON, SESSION, REGISTERED)
DEACTIVATE = call("deactivate", 1, "hash", 5_000)
PIN_TWEET = call("update", 1, {"pinned_tweet_id": 100}, UserProfileChanged(user_id=1))
TWEET = StoredTweet(100, 1, "hello")
RETWEET = StoredTweet(110, 2, "", retweeted_id=100)
REPLY = StoredTweet(120, 2, "yes", conversation_id=100, in_reply_to_tweet_id=100, in_reply_to_user_id=1, quoted_id=100)
CREATE_TWEET = call("create", TWEET, "request-1")
POLL = StoredPoll(300, 130, 5, 1_000, (Choice(1, "yes"), Choice(2, "no")))
POLLED = StoredTweet(130, 1, "is it?", poll_id=300)
RANGE: dict[str, Any] = {"before": 0, "after": 0, "limit": 10}
LIKE = call("mark", Mark.LIKE, 2, 100, 200)
FOLLOWED = [call("follow", 1, 2, 10), call("follow", 3, 2, 11)]
REQUEST = call("request", 1, 2, 10)
BLOCK = call("block", 1, 2, 20)
MUTE = call("mute", 1, 2, 20)
LIST = PeopleList(300, 1, "birds", "", False, 0, 0)
CREATE_LIST = call("create", LIST)
ADD_MEMBER = call("add_member", 300, 1, 2, 40)
FOLLOW_LIST = call("follow_list", 300, 2, 42)
PIN = call("pin", 300, 2, 44)

CASES = [
    # A retry comes from another registration, with an id and a session of its own. It is told that the name is taken:
    # by the person who registers, whose password signs in (tests/faults/crowd.py does so under kill -9).
    Case(
        UserStore,
        CREATE_PERSON,
        again=call(
            "create",
            replace(PERSON, id=2),
            replace(SESSION, id=b"t" * 16, user_id=2),
            UserRegistered(user_id=2, username="wren"),
        ),
        raises=AlreadyExists,
        note="the name is taken, by oneself",
    ),
    Case(UserStore, call("by_ids", [1]), [CREATE_PERSON]),
    Case(UserStore, call("ids_by_username", ["wren"]), [CREATE_PERSON]),
    Case(UserStore, call("login", "wren", by_email=False), [CREATE_PERSON]),
    Case(UserStore, call("apply_counts", [CountChange(1, "tweets", 5, 7)]), [CREATE_PERSON], answer=lambda a: a == []),
    Case(UserStore, call("credentials", 1), [CREATE_PERSON]),
    Case(
        UserStore,
        call("change_password", 1, "hash", "new hash", replace(SESSION, id=b"t" * 16)),
        [CREATE_PERSON],
        answer=lambda a: a is None,
        note="who asks again signs in with the new one",
    ),
    Case(
        UserStore,
        DEACTIVATE,
        [CREATE_PERSON],
        again=call("deactivate", 1, "hash", 6_000),
        answer=lambda person: person.deactivated_ms == 5_000,
    ),
    Case(
        UserStore,
        call("reactivate", 1, "hash", 6_000),
        [CREATE_PERSON, DEACTIVATE],
        answer=lambda a: a is None,
        note="who logs in again is active",
    ),
    Case(UserStore, call("suspend", 1, True), [CREATE_PERSON]),
    Case(UserStore, call("suspend", 1, False), [CREATE_PERSON, call("suspend", 1, True)], note="back"),
    Case(UserStore, call("due_for_erasure", 10**12, 10), [CREATE_PERSON, DEACTIVATE]),
    Case(UserStore, call("unpin", [(1, 100)]), [CREATE_PERSON, PIN_TWEET], answer=lambda a: a == []),
    Case(UserStore, call("search", "wr", None, 10), [CREATE_PERSON]),
    Case(UserStore, call("parse_again", 10), [CREATE_PERSON], answer=lambda a: a == []),
    Case(SessionStore, call("end", SESSION.id, SESSION.token_hash)),
    Case(SessionStore, call("end_all", 1)),
    Case(SessionStore, call("forget_expired", 10_000), answer=lambda a: a == 0),
    Case(KeyStore, call("signing_keys")),
    Case(
        KeyStore,
        call("add_signing_key", SigningKey("k1", "{}", 5_000), unless_since_ms=4_000),
        again=call("add_signing_key", SigningKey("k2", "{}", 5_001), unless_since_ms=4_001),
    ),
    Case(GraphStore, call("follow", 1, 2, 10), again=call("follow", 1, 2, 12), answer=lambda a: a is False),
    Case(GraphStore, call("unfollow", 1, 2), FOLLOWED, answer=lambda a: a is False),
    Case(GraphStore, call("followers", 2, **RANGE), FOLLOWED),
    Case(GraphStore, call("following", 1, **RANGE), FOLLOWED),
    Case(GraphStore, call("relations", 1), FOLLOWED),
    Case(GraphStore, call("review", after=0, limit=10), FOLLOWED[:1]),
    Case(GraphStore, call("related", [(1, 2), (2, 1)]), FOLLOWED),
    Case(GraphStore, call("audience", 2, after=0, limit=10, seen_since_ms=0), FOLLOWED),
    Case(GraphStore, call("follower_ids", 2, after=0, limit=10), FOLLOWED),
    Case(
        GraphStore, call("request", 1, 2, 10), again=call("request", 1, 2, 12), note="it waits, once, as the first says"
    ),
    Case(GraphStore, call("accept", 1, 2, 11), [REQUEST], again=call("accept", 1, 2, 12)),
    Case(GraphStore, call("decline", 1, 2), [REQUEST], answer=lambda a: a is False),
    Case(GraphStore, call("unfollow", 1, 2), [REQUEST], answer=lambda a: a is False, note="a request taken back"),
    Case(
        GraphStore,
        call("block", 1, 2, 20),
        [*FOLLOWED, call("request", 2, 1, 12)],
        again=call("block", 1, 2, 21),
        answer=lambda a: a is False,
        note="what it cuts is cut once",
    ),
    Case(GraphStore, call("unblock", 1, 2), [BLOCK], answer=lambda a: a is False),
    Case(GraphStore, MUTE, again=call("mute", 1, 2, 21), answer=lambda a: a is False),
    Case(GraphStore, call("unmute", 1, 2), [MUTE], answer=lambda a: a is False),
    Case(GraphStore, call("blocking", 1, **RANGE), [BLOCK]),
    Case(GraphStore, call("muting", 1, **RANGE), [MUTE]),
    Case(GraphStore, call("requests_sent", 1, **RANGE), [REQUEST]),
    Case(GraphStore, call("requests_received", 2, **RANGE), [REQUEST]),
    Case(GraphStore, call("standing", 1, [2, 3]), [BLOCK, MUTE, call("follow", 1, 3, 10)]),
    Case(GraphStore, call("mark_seen", 1, 50_000_000), again=call("mark_seen", 1, 50_000_900)),
    Case(
        ListStore,
        call("create", LIST, "r"),
        again=call("create", replace(LIST, id=301), "r"),
        answer=lambda made: made.id == LIST.id,
    ),
    Case(ListStore, call("create", LIST), note="without a request_id the same call is the same list"),
    Case(ListStore, call("update", 300, 1, name="gulls", description=None, private=True), [CREATE_LIST, ADD_MEMBER]),
    Case(ListStore, call("delete", 300, 1), [CREATE_LIST, ADD_MEMBER]),
    Case(ListStore, call("by_ids", [300, 301]), [CREATE_LIST]),
    Case(ListStore, call("owned", 1, **RANGE), [CREATE_LIST]),
    Case(ListStore, call("followed", 2, **RANGE), [CREATE_LIST, FOLLOW_LIST]),
    Case(ListStore, call("memberships", 2, **RANGE), [CREATE_LIST, ADD_MEMBER]),
    Case(ListStore, call("pinned", 2, **RANGE), [CREATE_LIST, PIN]),
    Case(ListStore, call("members", 300, **RANGE), [CREATE_LIST, ADD_MEMBER]),
    Case(ListStore, call("list_followers", 300, **RANGE), [CREATE_LIST, FOLLOW_LIST]),
    Case(ListStore, call("member_ids", 300), [CREATE_LIST, ADD_MEMBER]),
    Case(ListStore, ADD_MEMBER, [CREATE_LIST], again=call("add_member", 300, 1, 2, 41), answer=lambda a: a is False),
    Case(ListStore, call("remove_member", 300, 1, 2), [CREATE_LIST, ADD_MEMBER], answer=lambda a: a is False),
    Case(ListStore, FOLLOW_LIST, [CREATE_LIST], again=call("follow_list", 300, 2, 43), answer=lambda a: a is False),
    Case(ListStore, call("unfollow_list", 300, 2), [CREATE_LIST, FOLLOW_LIST], answer=lambda a: a is False),
    Case(ListStore, PIN, [CREATE_LIST], again=call("pin", 300, 2, 45), answer=lambda a: a is False),
    Case(ListStore, call("unpin", 300, 2), [CREATE_LIST, PIN], answer=lambda a: a is False),
    Case(
        ListStore,
        call("settle", 10),
        [CREATE_LIST, ADD_MEMBER, FOLLOW_LIST, PIN, call("delete", 300, 1)],
        answer=lambda a: a == 0,
    ),
    Case(
        TweetStore,
        CREATE_TWEET,
        again=call("create", replace(TWEET, id=101), "request-1"),
        answer=lambda made: made.id == TWEET.id,
    ),
    Case(
        TweetStore,
        call("create", REPLY, "request-2"),
        [CREATE_TWEET],
        again=call("create", replace(REPLY, id=121), "request-2"),
        answer=lambda made: made.id == REPLY.id,
        note="a reply that quotes, counted once",
    ),
    # Retweets need no request id: there is one of each tweet.
    Case(
        TweetStore,
        call("create", RETWEET, ""),
        [CREATE_TWEET],
        again=call("create", replace(RETWEET, id=111), ""),
        answer=lambda made: made.id == RETWEET.id,
        note="a retweet, counted once",
    ),
    Case(TweetStore, call("retweet", 2, 100), [CREATE_TWEET, call("create", RETWEET, "")]),
    Case(TweetStore, call("by_request", 1, "request-1"), [CREATE_TWEET]),
    Case(
        TweetStore,
        call("delete", 100, 1),
        [CREATE_TWEET],
        answer=lambda left: left.deleted,
    ),
    Case(
        TweetStore,
        call("delete", 110, 2),
        [CREATE_TWEET, call("create", RETWEET, "")],
        answer=lambda left: left.deleted,
        note="a retweet, uncounted once",
    ),
    *(
        Case(TweetStore, one, before, again=again, answer=lambda changed: changed is False, note=mark)
        for mark in Mark
        for one, again, before in (
            (call("mark", mark, 2, 100, 200), call("mark", mark, 2, 100, 201), [CREATE_TWEET]),
            (call("unmark", mark, 2, 100), None, [CREATE_TWEET, call("mark", mark, 2, 100, 200)]),
        )
    ),
    Case(TweetStore, call("marked_tweets", Mark.LIKE, 2, **RANGE), [CREATE_TWEET, LIKE]),
    Case(TweetStore, call("marking_users", Mark.LIKE, 100, **RANGE), [CREATE_TWEET, LIKE]),
    Case(TweetStore, call("by_ids", [100]), [CREATE_TWEET]),
    Case(TweetStore, call("page", By.AUTHOR, 1, **RANGE, ascending=False), [CREATE_TWEET]),
    Case(TweetStore, call("recent", [1, 2], **RANGE), [CREATE_TWEET]),
    Case(
        TweetStore,
        call("create", REPLY, "request-2", {1, 5}),
        [CREATE_TWEET],
        again=call("create", replace(REPLY, id=121), "request-2", {1, 5}),
        answer=lambda made: made.id == REPLY.id,
        note="a reply that mentions",
    ),
    Case(TweetStore, call("mentions", 1, **RANGE, ascending=False), [CREATE_TWEET, call("create", REPLY, "", {1})]),
    Case(
        TweetStore,
        call("purge", 100, 10),
        [CREATE_TWEET, LIKE, call("mark", Mark.BOOKMARK, 2, 100, 201), call("delete", 100, 1)],
        answer=lambda purged: purged == 0,
        note="likes are counted back once",
    ),
    Case(
        TweetStore,
        call("create", POLLED, "request-3", (), POLL),
        again=call(
            "create", replace(POLLED, id=131, poll_id=301), "request-3", (), replace(POLL, id=301, tweet_id=131)
        ),
        answer=lambda made: made.poll_id == POLL.id,
        note="a poll",
    ),
    Case(PollStore, call("by_ids", [300])),
    Case(PollStore, call("vote", 300, 2, 1, 500), again=call("vote", 300, 2, 1, 5_000), note="the end came in between"),
    Case(CountStore, call("waiting")),
    Case(CountStore, call("apply", 10), answer=lambda applied: applied == Applied(0, [])),
    Case(CountCheck, call("tweet_ids", 0, 10)),
    Case(CountCheck, call("wrong_tweets", [100])),
    Case(CountCheck, call("mend_tweet", 100), answer=lambda wrong: wrong == []),
    Case(CountCheck, call("poll_ids", 0, 10)),
    Case(CountCheck, call("wrong_polls", [300])),
    Case(CountCheck, call("mend_poll", 300), answer=lambda wrong: wrong == []),
    Case(CountCheck, call("author_ids", 0, 10)),
    Case(CountCheck, call("wrong_authors", [2])),
    Case(CountCheck, call("mend_author", 2), answer=lambda wrong: wrong == []),
]

# Those whose retry is not the same in all columns have a test of their own below.
OWN_TESTS = {
    (CountStore, "add_impressions"): "test_impressions_added_twice",
    (UserStore, "update"): "test_a_profile_change_made_twice",
    (SessionStore, "add"): "test_a_sign_in_made_twice",
    (SessionStore, "rotate"): "test_a_refresh_whose_answer_was_lost",
    (GraphStore, "settle"): "test_a_crossing_settled_twice",
}


@asynccontextmanager
async def opened(port: type, folder: Path) -> AsyncIterator[tuple[Any, Path]]:
    """The port's SQL adapter on a database of its own, and the database's file. The relay does not run."""
    await asyncio.to_thread(folder.mkdir)
    service = PORTS[port]
    file = folder / f"{service}.db"
    url = f"sqlite+aiosqlite:///{file}"
    await migrate(url, PROJECT / "services" / service / "schema" / "sql")
    database = await Database.open(url)
    bus = RedisStreamsBus(f"unix://{folder}/none.sock")  # nothing is published: events stay in the outbox
    outbox = SqlOutbox(database, bus, service)
    tweets = SqlTweetStore(database, outbox)
    adapters: dict[type, Callable[[], object]] = {
        UserStore: lambda: SqlUserStore(database, outbox),
        SessionStore: lambda: SqlSessionStore(database),
        KeyStore: lambda: SqlKeyStore(database),
        GraphStore: lambda: SqlGraphStore(database, outbox, Line(2)),
        ListStore: lambda: SqlListStore(database, outbox),
        TweetStore: lambda: tweets,
        PollStore: lambda: tweets.polls,
        CountStore: lambda: tweets.counts,
        CountCheck: lambda: SqlCountCheck(database, outbox, tweets.counts),
    }
    try:
        if port is SessionStore:
            await SqlUserStore(database, outbox).create(PERSON, SESSION, REGISTERED)
        if port is PollStore:
            await tweets.create(POLLED, "", (), POLL)
        if port in (CountStore, CountCheck):
            await tweets.create(TWEET, "request-1")
            await tweets.mark(Mark.LIKE, 2, 100, 200)
        if port is CountCheck:
            await tweets.create(POLLED, "", (), POLL)
            await database.write(lambda tx: tx.execute("UPDATE poll_options SET votes = 5"))
            await database.write(lambda tx: tx.execute("UPDATE tweets SET quote_count = 5"))
            await database.write(lambda tx: tx.execute("UPDATE authors SET like_count = 5"))
        yield adapters[port](), file
    finally:
        await bus.close()
        await database.close()


async def make(store: object, one: Call) -> Any:
    """Makes a call."""
    return await getattr(store, one.method)(*one.args, **one.kwargs)


async def done_but_timed_out(port: type, store: object, one: Call) -> None:
    """Makes a call that is carried out and says otherwise."""
    with pytest.raises(DeadlineExceeded):
        await make(DoneButTimedOut(port, store), one)


def content(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, less what differs from run to run."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            if table in ("schema_migrations", "sqlite_sequence") or table.startswith("_"):
                continue
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in columns if name not in _VOLATILE.get(table, set()))
            found[table] = sorted(database.execute(f"SELECT {kept} FROM {table}").fetchall(), key=repr)
        return found


def test_every_method_has_a_case() -> None:
    wanted = {(port, method) for port in PORTS for method in methods(port)}
    covered = {(case.port, case.call.method) for case in CASES} | OWN_TESTS.keys()
    assert covered == wanted
    assert all(name in globals() for name in OWN_TESTS.values())


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_retry_doubles_nothing(case: Case, tmp_path: Path) -> None:
    async with opened(case.port, tmp_path / "once") as (store, file):
        for step in case.before:
            await make(store, step)
        undisturbed = await make(store, case.call)
        wanted = content(file)
    async with opened(case.port, tmp_path / "twice") as (store, file):
        for step in case.before:
            await make(store, step)
        await done_but_timed_out(case.port, store, case.call)
        assert content(file) == wanted, "the wrapper must fail after the commit, not before"
        retry = case.again or case.call
        if case.raises is not None:
            with pytest.raises(case.raises):
                await make(store, retry)
        else:
            answer = await make(store, retry)
            assert case.answer(answer) if case.answer else answer == undisturbed, answer
        assert content(file) == wanted


async def test_a_profile_change_made_twice(tmp_path: Path) -> None:
    """The profile is what it was to be; its version, and an event that says "look again", come twice."""
    change = call("update", 1, {"name": "Jenny"}, UserProfileChanged(user_id=1))
    async with opened(UserStore, tmp_path / "a") as (store, file):
        await make(store, CREATE_PERSON)
        await done_but_timed_out(UserStore, store, change)
        before = content(file)
        again = await make(store, change)
        after = content(file)
    assert again.name == "Jenny"
    assert len(after["users"]) == 1
    events = {row[1:5] for row in after["outbox"]} - {row[1:5] for row in before["outbox"]}
    assert events == set(), "the second event says no more than the first"


async def test_a_sign_in_made_twice(tmp_path: Path) -> None:
    """A sign-in whose answer was lost leaves a session whose secret nobody has; it ends by itself."""
    first, second = (replace(SESSION, id=letter * 16, token_hash=letter * 32) for letter in (b"1", b"2"))
    async with opened(SessionStore, tmp_path / "a") as (store, file):
        await done_but_timed_out(SessionStore, store, call("add", first, "hash"))
        await make(store, call("add", second, "hash"))
        assert len(content(file)["sessions"]) == 3
        assert await make(store, call("forget_expired", first.expires_ms)) == 3


async def test_a_refresh_whose_answer_was_lost(tmp_path: Path) -> None:
    """It looks like the re-use of a spent token, which it is: the session ends, nothing is doubled, one signs in."""
    old, new, newer = SESSION.token_hash, b"n" * 32, b"m" * 32
    async with opened(SessionStore, tmp_path / "a") as (store, file):
        rotate = call("rotate", SESSION.id, old, new, now_ms=2_000, expires_ms=9_500)
        await done_but_timed_out(SessionStore, store, rotate)
        assert await make(store, call("rotate", SESSION.id, old, newer, now_ms=2_001, expires_ms=9_500)) is None
        assert content(file)["sessions"] == []


async def test_a_crossing_settled_twice(tmp_path: Path) -> None:
    contents = await _settled(tmp_path, list(FOLLOWED))  # two followers: from there on the author is pulled
    assert contents[0] == contents[1]


async def test_a_crossing_settled_twice_that_goes_back_at_once(tmp_path: Path) -> None:
    """A retry ends the crossing that it was made for, not the one that has begun since and is not carried through."""
    # The audience is small again before the first crossing is carried through.
    contents = await _settled(tmp_path, [*FOLLOWED, call("unfollow", 1, 2)])
    assert contents[0] == contents[1]


async def _settled(tmp_path: Path, before: Sequence[Call]) -> list[dict[str, list[tuple[Any, ...]]]]:
    """What is stored after a crossing was settled once, and after it was settled and settled again."""
    contents = []
    for times in (1, 2):
        async with opened(GraphStore, tmp_path / str(times)) as (store, file):
            for step in before:
                await make(store, step)
            settle = call("settle", 2, pulled=True)
            if times == 2:
                await done_but_timed_out(GraphStore, store, settle)
            await make(store, settle)
            contents.append(content(file))
    return contents


async def test_impressions_added_twice(tmp_path: Path) -> None:
    """These may count twice: they are about right, nobody tries them again but the mesh itself, and rarely."""
    add = call("add_impressions", {100: 3})
    async with opened(CountStore, tmp_path / "a") as (store, _):
        await done_but_timed_out(CountStore, store, add)
        await make(store, add)
        [tweet] = (await make(store, call("apply", 10))).tweets
        assert (tweet.impression_count, tweet.like_count) == (6, 1)
