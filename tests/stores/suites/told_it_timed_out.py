"""Done, but the caller was told that it timed out: a retry of any store method doubles nothing, on any adapter.

Stores are wrapped from outside (tests/faults/injection.py): the call is carried out, committed, and then fails. The
wrapper is made from the port, so a new method is covered, or missed loudly (`test_every_method_has_a_case`). Each case
runs twice on empty stores: once undisturbed, once told that it timed out and then tried again as its caller would.
Afterwards both hold the same, row for row, events included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rookery.events.v1.user_events_pb2 import UserErased, UserProfileChanged, UserRegistered

from mesh.bus.base import Incarnation
from mesh.errors import AlreadyExists, DeadlineExceeded
from mesh.ids import LeaseStore
from mesh.outbox.base import Checked, OutboxRows
from services.graph.list_domain import PeopleList
from services.graph.store.base import GraphStore
from services.graph.store.erasure import Remains as GraphRemains
from services.graph.store.lists import ListStore
from services.moderation.domain import Action, Appeal, Decision, Finding, Reason, Report
from services.moderation.store.base import ModerationStore, Scan
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet, Visibility
from services.tweet.store.base import Applied, By, CountCheck, CountStore, PollStore, TweetStore
from services.tweet.store.erasure import Remains as TweetRemains
from services.user.attempts import Backoff
from services.user.domain import CountChange
from services.user.store.attempts import Attempt, AttemptStore
from services.user.store.base import KeyStore, NewPerson, Session, SessionStore, SigningKey, UserStore
from services.user.store.clients import CODE, REQUEST, Client, ClientStore, Grant, RoleStore
from services.user.store.exports import READY, ExportStore
from services.user.store.mails import MailStore
from services.user.store.second_factors import SecondFactorStore
from services.user.store.waiting_mails import RESET, VERIFY
from tests.faults.injection import TOLD_IT_TIMED_OUT, Faults, faulty, methods

PORTS: Mapping[str, tuple[type, ...]] = {
    "user": (
        *(UserStore, SessionStore, ClientStore, RoleStore, KeyStore, ExportStore, LeaseStore, OutboxRows),
        *(AttemptStore, MailStore, SecondFactorStore),
    ),
    "graph": (GraphStore, ListStore, GraphRemains, LeaseStore, OutboxRows),
    "moderation": (ModerationStore, LeaseStore, OutboxRows),
    "tweet": (TweetStore, PollStore, CountStore, CountCheck, TweetRemains, LeaseStore, OutboxRows),
}
"""The ports of each service's database."""
LINE = 2
"""From two followers on an author is pulled."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an adapter hands to the suite: the stores of one service, empty. No relay runs."""

    ports: Mapping[type, Any]
    """An adapter for each port of the service, all of one database; GraphStore with LINE."""
    content: Callable[[], Awaitable[Mapping[str, Sequence[Any]]]]
    """All rows of all tables, events that wait included, less what differs from run to run: times, random ids, and
    places in a queue."""
    miscount: Callable[[], Awaitable[None]]
    """Makes counts of tweets, of polls and of authors wrong; of `tweet` only."""


@dataclass(frozen=True)
class Call:
    """A call of a store's method."""

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    port: type | None = None
    """Whose; the case's when None."""


def call(method: str, *args: Any, **kwargs: Any) -> Call:
    """Short for what it makes."""
    return Call(method, args, kwargs)


def on(port: type, one: Call) -> Call:
    """A call of another port."""
    return replace(one, port=port)


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
        name = {GraphRemains: "GraphRemains", TweetRemains: "TweetRemains"}.get(self.port, self.port.__name__)
        return f"{name}.{self.call.method}{self.note and ': '}{self.note}"


PERSON = NewPerson(1, "wren", "wren@example.org", "hash", "Wren")
SESSION = Session(b"s" * 16, 1, b"h" * 32, 1_000, 9_000)
CLIENT = Client("a", 1, "A client", None, ("https://example.org/",), "key", "secret", 1_000)
GRANT = Grant(b"g" * 32, CODE, "a", 1, "https://example.org/", "tweet.read", "challenge", "", 9_000)
REQUESTED = Grant(b"r" * 32, REQUEST, "a", 0, "oob", "tweet.read", "", "secret", 9_000)
OF_CLIENT = replace(SESSION, id=b"c" * 16, client_id="a")
ADD_CLIENT = call("add_client", CLIENT, 20)
ADD_GRANT = call("add_grant", GRANT)
ADD_REQUEST = call("add_grant", REQUESTED)
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
CREATE_POLLED = call("create", POLLED, "", (), POLL)
MENTIONING = call("create", REPLY, "", {1})
DELETE_TWEET = call("delete", 100, 1)
VOTE = call("vote", 300, 2, 1, 500)
BEGIN_EXPORT = call("begin", 900, 1, finished_after_ms=0)
CLAIM = call("claim", "h", now_ms=6_000, until_ms=7_000)
FINISH = call("finish", 900, "h", READY, size=7, now_ms=6_500, expires_ms=9_000)
ERASE = call("erase", 1, UserErased(user_id=1), until_ms=9_000)
ACQUIRE = call("acquire", "h", 60_000)
ATTEMPT = Attempt(b"attempt", b"name", b"name here", b"address", 1)
BEGIN = call("begin", ATTEMPT, Backoff(1, 9_000), Backoff(5, 9_000), now_ms=6_000, known_since_ms=0)
_LIVE = {VERIFY: 9_000, RESET: 9_000}
REQUEST_RESET = call("request_reset", b"r", "wren", 1_500)
RESOLVE = call("resolve", 10)
TAKE = call("claim", [b"token 1", b"token 2"], now_ms=2_000, until_ms=3_000, lifetimes_ms=_LIVE)
ENROL = call("enrol", 1, b"sealed")
CONFIRM = call("confirm", 1, b"sealed", 7, [b"code 1", b"code 2"], 6_000)
FINDING = Finding(500, 1, (Reason.SPAM,))
OPEN_CASE = call("open", 10, FINDING)
REPORT = call("report", 10, Report(100, 2, 500, 0, "spam", "look"), 1)
CLAIM_CASE = call("claim", 7, 1, now_ms=1_000, until_ms=9_000)
DECIDE = call("decide", 10, 30, Action.REMOVE, 7, "why", now_ms=2_000)
APPEAL = call("appeal", 30, 1, "please", 11)
BEGIN_SCAN = call("begin_scan", 70, 7)

FIRST: Mapping[type, Sequence[Call]] = {
    SessionStore: [on(UserStore, CREATE_PERSON)],
    ClientStore: [on(UserStore, CREATE_PERSON), ADD_CLIENT],
    RoleStore: [on(UserStore, CREATE_PERSON)],
    ExportStore: [on(UserStore, CREATE_PERSON)],
    AttemptStore: [on(UserStore, CREATE_PERSON)],
    MailStore: [on(UserStore, CREATE_PERSON)],
    SecondFactorStore: [on(UserStore, CREATE_PERSON)],
    PollStore: [on(TweetStore, CREATE_POLLED)],
    CountStore: [on(TweetStore, CREATE_TWEET), on(TweetStore, LIKE)],
    CountCheck: [on(TweetStore, CREATE_TWEET), on(TweetStore, LIKE), on(TweetStore, CREATE_POLLED)],
}
"""What comes before all cases of a port."""


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
    Case(UserStore, call("claimant", "wren@example.org"), [CREATE_PERSON]),
    Case(
        UserStore,
        call("rehash", 1, "hash", "stronger hash"),
        [CREATE_PERSON],
        answer=lambda a: a is False,
        note="who logs in has the stronger one",
    ),
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
    Case(AttemptStore, BEGIN, note="the same attempt counts once"),
    Case(AttemptStore, call("take_back", ATTEMPT), [BEGIN]),
    Case(AttemptStore, call("succeed", ATTEMPT, 1, now_ms=6_500), [BEGIN]),
    Case(AttemptStore, call("clear", [b"name"], 1, b"address", now_ms=6_500), [BEGIN]),
    Case(AttemptStore, call("forget", 7_000, 7_000), [BEGIN], answer=lambda a: a == 0),
    Case(MailStore, REQUEST_RESET),
    Case(MailStore, call("request_verification", 1, 2_000)),
    Case(MailStore, RESOLVE, [REQUEST_RESET], answer=lambda a: a == 0),
    Case(
        MailStore,
        TAKE,
        again=call("claim", [b"token 3"], now_ms=2_100, until_ms=3_100, lifetimes_ms=_LIVE),
        answer=lambda a: a == [],
        note="sent when the first one's time is over",
    ),
    Case(MailStore, call("put_off", 1, VERIFY, 8_000), [TAKE]),
    Case(MailStore, call("done", 1, VERIFY), [TAKE]),
    Case(
        MailStore,
        call("verify", b"token 1", 2_500),
        [TAKE],
        answer=lambda a: a is None,
        note="who asks again finds it proven",
    ),
    Case(MailStore, call("owner", b"token 1", VERIFY, 2_500), [TAKE]),
    Case(
        MailStore,
        call("reset", b"token 1", "new hash", 2_500),
        [on(MailStore, call("done", 1, VERIFY)), REQUEST_RESET, RESOLVE, TAKE],
        answer=lambda a: a is None,
        note="who asks again signs in with the new one",
    ),
    Case(MailStore, call("forget_expired", 20_000), [TAKE], answer=lambda a: a == 0),
    Case(SecondFactorStore, call("factor", 1), [ENROL]),
    Case(SecondFactorStore, ENROL),
    Case(SecondFactorStore, CONFIRM, [ENROL], answer=lambda a: a is False, note="who asks again enrols anew"),
    Case(SecondFactorStore, call("spend_step", 1, 8), [ENROL, CONFIRM], answer=lambda a: a is False),
    Case(SecondFactorStore, call("spend_code", 1, b"code 1"), [ENROL, CONFIRM], answer=lambda a: a is False),
    Case(SecondFactorStore, call("disable", 1), [ENROL, CONFIRM]),
    Case(SessionStore, call("by_id", SESSION.id)),
    Case(SessionStore, call("of_person", 1, 2_000, 10)),
    Case(SessionStore, call("end_own", 1, SESSION.id), answer=lambda a: a is False, note="there is none any more"),
    Case(SessionStore, call("ended", 0, b"", 10)),
    Case(SessionStore, call("forget_ended", 10**15), [call("end_all", 1)], answer=lambda a: a == 0),
    Case(ClientStore, call("clients_of", 1)),
    Case(ClientStore, call("client", "a")),
    Case(ClientStore, call("by_consumer_key", "key")),
    Case(
        ClientStore,
        call("remove_client", 1, "a"),
        [call("add_session", OF_CLIENT), ADD_GRANT],
        answer=lambda a: a is False,
        note="there is none any more",
    ),
    Case(ClientStore, call("grant", CODE, GRANT.hash, 2_000), [ADD_GRANT]),
    Case(ClientStore, call("take", CODE, GRANT.hash, 2_000), [ADD_GRANT], answer=lambda a: a is None),
    Case(
        ClientStore,
        call("approve", REQUESTED.hash, 1, "00", 2_000),
        [ADD_REQUEST],
        answer=lambda a: a is False,
        note="the person begins again",
    ),
    Case(ClientStore, call("forget_grants", 10_000), [ADD_GRANT], answer=lambda a: a == 0),
    Case(RoleStore, call("roles_of", 1), [call("set_role", 1, "moderator", True)]),
    Case(RoleStore, call("set_role", 1, "moderator", True)),
    Case(RoleStore, call("set_role", 1, "moderator", False), [call("set_role", 1, "moderator", True)]),
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
    Case(TweetStore, call("set_visibility", 100, Visibility.REMOVED), [CREATE_TWEET], note="told once"),
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
    Case(ModerationStore, OPEN_CASE, again=call("open", 12, FINDING), note="one case, noted once"),
    Case(
        ModerationStore,
        REPORT,
        again=call("report", 12, Report(101, 2, 500, 0, "spam", "look"), 1),
        answer=lambda report: report.id == 100,
        note="counted once",
    ),
    Case(ModerationStore, call("case", 10), [OPEN_CASE]),
    Case(ModerationStore, call("waiting", priority=-1, after=0, limit=10), [OPEN_CASE]),
    Case(ModerationStore, call("closed", before=0, limit=10), [OPEN_CASE, DECIDE]),
    Case(ModerationStore, call("reports_of", 10, 10), [REPORT]),
    Case(
        ModerationStore, CLAIM_CASE, [OPEN_CASE, call("open", 12, Finding(501, 1, (Reason.SPAM,)))], note="not another"
    ),
    Case(ModerationStore, call("release", 10, 7, now_ms=2_000), [OPEN_CASE, CLAIM_CASE]),
    Case(
        ModerationStore,
        DECIDE,
        [OPEN_CASE],
        again=call("decide", 10, 31, Action.REMOVE, 7, "why", now_ms=2_001),
        answer=lambda made: made[1].id == 30,
        note="decided once",
    ),
    Case(ModerationStore, call("to_do", 10), [OPEN_CASE, DECIDE]),
    Case(ModerationStore, call("later", Decision(1, 9, 500, 1, Action.LIMIT, (), 7)), [OPEN_CASE, DECIDE]),
    Case(ModerationStore, call("carried_out", 30, "remove"), [OPEN_CASE, DECIDE], note="noted once"),
    Case(ModerationStore, call("blocked", 30, 1, [Reason.LINK]), note="told once"),
    Case(ModerationStore, call("decisions_of", 1, before=0, after=0, limit=10), [OPEN_CASE, DECIDE]),
    Case(
        ModerationStore,
        APPEAL,
        [OPEN_CASE, DECIDE],
        again=call("appeal", 30, 1, "please", 12),
        answer=lambda decision: decision.appeal is Appeal.WAITING,
    ),
    Case(ModerationStore, call("appeal_text", 30), [OPEN_CASE, DECIDE, APPEAL]),
    Case(ModerationStore, call("audit", case_id=0, before=0, limit=10), answer=lambda entries: entries == []),
    Case(ModerationStore, BEGIN_SCAN, again=call("begin_scan", 71, 7), answer=lambda scan: scan.id == 70),
    Case(ModerationStore, call("scan", 70), [BEGIN_SCAN]),
    Case(
        ModerationStore,
        call("advance", Scan(70), [(10, FINDING)], 500, 100),
        [BEGIN_SCAN],
        answer=lambda done: done is False,
        note="a page once",
    ),
    Case(ModerationStore, call("drop", 500), [OPEN_CASE]),
    Case(ModerationStore, call("reports_by", 2, after=0, limit=10), [REPORT]),
    Case(ModerationStore, call("erase", 1, 10), [OPEN_CASE], answer=lambda removed: removed == 0),
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
    # A retry of `claim` finds nothing that waits: its own claim holds the export, and ends by itself.
    Case(ExportStore, BEGIN_EXPORT, again=call("begin", 901, 1, finished_after_ms=0), answer=lambda one: one.id == 900),
    Case(ExportStore, call("by_id", 900), [BEGIN_EXPORT]),
    Case(ExportStore, call("of_user", 1, 10), [BEGIN_EXPORT]),
    Case(ExportStore, CLAIM, [BEGIN_EXPORT], answer=lambda one: one is None),
    Case(ExportStore, call("renew", 900, "h", progress=5, until_ms=8_000), [BEGIN_EXPORT, CLAIM]),
    Case(ExportStore, call("put_off", 900, "h", until_ms=8_000, failed=True), [BEGIN_EXPORT, CLAIM]),
    Case(ExportStore, FINISH, [BEGIN_EXPORT, CLAIM], answer=lambda a: a is False),
    Case(ExportStore, call("expired", 9_500, 10), [BEGIN_EXPORT, CLAIM, FINISH]),
    Case(ExportStore, call("remove", 900), [BEGIN_EXPORT]),
    Case(ExportStore, call("known", [900, 901]), [BEGIN_EXPORT]),
    Case(ExportStore, call("own_data", 1)),
    # The archives of who is erased are found by nobody asking for them: a sweep deletes what no export has.
    Case(ExportStore, ERASE, [BEGIN_EXPORT], answer=lambda erased: erased is None),
    Case(ExportStore, call("erasures_over", 9_999, 10), [ERASE]),
    Case(ExportStore, call("forget_erasure", 1, UserErased(user_id=1)), [ERASE]),
    Case(LeaseStore, call("renew", "h", 0, 60_000), [ACQUIRE]),
    Case(LeaseStore, call("release", "h", 0), [ACQUIRE]),
    Case(GraphRemains, call("ties", 2, 10), [on(GraphStore, one) for one in FOLLOWED]),
    Case(GraphRemains, call("lists", 1, 10), [on(ListStore, CREATE_LIST)]),
    Case(
        GraphRemains, call("list_ties", 2, 10), [on(ListStore, one) for one in (CREATE_LIST, ADD_MEMBER, FOLLOW_LIST)]
    ),
    Case(
        GraphRemains,
        call("forget", 1),
        [on(ListStore, CREATE_LIST), on(ListStore, call("delete", 300, 1)), on(GraphStore, call("mark_seen", 1, 5))],
    ),
    Case(TweetRemains, call("pointing", 1, 10), [on(TweetStore, one) for one in (CREATE_TWEET, MENTIONING)]),
    Case(
        TweetRemains,
        call("relink", 120, 1),
        [on(TweetStore, one) for one in (CREATE_TWEET, MENTIONING)],
        answer=lambda changed: changed is None,
        note="told once",
    ),
    Case(TweetRemains, call("votes", 2, after=0, limit=10), [on(TweetStore, CREATE_POLLED), on(PollStore, VOTE)]),
    Case(TweetRemains, call("unvote", 300, 2), [on(TweetStore, CREATE_POLLED), on(PollStore, VOTE)]),
    Case(TweetRemains, call("deleted", 1, 10), [on(TweetStore, one) for one in (CREATE_TWEET, DELETE_TWEET)]),
    Case(TweetRemains, call("remove", [100]), [on(TweetStore, one) for one in (CREATE_TWEET, DELETE_TWEET)]),
    Case(TweetRemains, call("forget", 1), [on(TweetStore, one) for one in (CREATE_TWEET, DELETE_TWEET)]),
]

# Those whose retry is not the same in all columns, or needs an answer of another call, have a test of their own below.
OWN_TESTS = {
    (CountStore, "add_impressions"): "test_impressions_added_twice",
    (UserStore, "update"): "test_a_profile_change_made_twice",
    (SessionStore, "add"): "test_a_sign_in_made_twice",
    (SessionStore, "rotate"): "test_a_refresh_whose_answer_was_lost",
    **{(ClientStore, name): "test_a_client_let_in_twice" for name in ("add_client", "add_grant", "add_session")},
    (ClientStore, "exchange"): "test_a_code_whose_answer_was_lost",
    (GraphStore, "settle"): "test_a_crossing_settled_twice",
    (LeaseStore, "acquire"): "test_a_worker_number_leased_twice",
    **{(OutboxRows, name): "test_what_a_relay_does_done_twice" for name in methods(OutboxRows)},
}


async def make(told: Told, port: type, one: Call) -> Any:
    """Makes a call."""
    return await getattr(told.ports[one.port or port], one.method)(*one.args, **one.kwargs)


async def done_but_timed_out(told: Told, port: type, one: Call) -> None:
    """Makes a call that is carried out and says otherwise."""
    faults = Faults()
    faults.next(TOLD_IT_TIMED_OUT, one.method)
    with pytest.raises(DeadlineExceeded):
        await getattr(faulty(port, told.ports[port], faults), one.method)(*one.args, **one.kwargs)


def events_of(content: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    """What waits in an outbox."""
    return content["outbox"]


class ToldItTimedOutSuite(ABC):
    """Subclass those below in an adapter's test module."""

    service: ClassVar[str]
    """Whose stores."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractAsyncContextManager[Told]:
        """New, empty stores; `folder` is theirs and there."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """The cases of the service's ports."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", [one for one in CASES if one.port in PORTS[self.service]], ids=str)

    async def prepare(self, told: Told, case: Case) -> None:
        """What comes before a case."""
        for step in (*FIRST.get(case.port, ()), *case.before):
            await make(told, case.port, step)
        if case.port is CountCheck:
            await told.miscount()

    async def test_a_retry_doubles_nothing(self, case: Case, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as told:
            await self.prepare(told, case)
            before = await told.content()
            undisturbed = await make(told, case.port, case.call)
            wanted = await told.content()
        async with self.opened(tmp_path) as told:
            await self.prepare(told, case)
            assert await told.content() == before, "the content differs from run to run"
            await done_but_timed_out(told, case.port, case.call)
            assert await told.content() == wanted, "the wrapper must fail after the commit, not before"
            retry = case.again or case.call
            if case.raises is not None:
                with pytest.raises(case.raises):
                    await make(told, case.port, retry)
            else:
                answer = await make(told, case.port, retry)
                assert case.answer(answer) if case.answer else answer == undisturbed, answer
            assert await told.content() == wanted

    async def test_a_worker_number_leased_twice(self, tmp_path: Path) -> None:
        """The first number is nobody's until its lease ends; two are never one."""
        async with self.opened(tmp_path) as told:
            await done_but_timed_out(told, LeaseStore, ACQUIRE)
            lease = await make(told, LeaseStore, ACQUIRE)
            other = await make(told, LeaseStore, call("acquire", "another", 60_000))
            assert len({lease.worker, other.worker}) == 2
            assert await make(told, LeaseStore, call("renew", "h", lease.worker, 60_000))

    async def test_what_a_relay_does_done_twice(self, tmp_path: Path) -> None:
        """Each step of a relay, told that it timed out and then taken again: nothing waits twice, nothing is lost."""
        change: Mapping[str, Call] = {
            "user": on(UserStore, CREATE_PERSON),
            "graph": on(GraphStore, FOLLOWED[0]),
            "tweet": on(TweetStore, CREATE_TWEET),
            "moderation": on(ModerationStore, call("blocked", 30, 1, [Reason.LINK])),
        }
        checked = Checked(Incarnation("data", "process"), 1_000)
        async with self.opened(tmp_path) as told:
            rows: OutboxRows = told.ports[OutboxRows]

            async def twice(method: str, *args: Any) -> Any:
                await done_but_timed_out(told, OutboxRows, call(method, *args))
                return await getattr(rows, method)(*args)

            await make(told, UserStore, change[self.service])
            assert await twice("lease") is None
            now_ms = 10**13  # later than anything that the test commits
            for at_ms in (now_ms, now_ms + 1_000):
                lease = await twice("take", "relay", at_ms, at_ms + 6_000, checked)
                assert (lease.holder, lease.expires_ms, lease.checked) == ("relay", at_ms + 6_000, checked)
            await twice("contend", "another", now_ms + 1_500)
            assert (await twice("lease")).contended_ms == now_ms + 1_500
            later = Checked(Incarnation("other data", "process"), 2_000)
            await twice("check", "relay", later)
            assert (await rows.lease()).checked == later  # type: ignore[union-attr]  # it was taken

            [event] = await twice("waiting", 10, ())
            await twice("mark", [event], now_ms)
            assert await rows.waiting(10, ()) == []
            await done_but_timed_out(told, OutboxRows, call("rewind", now_ms - 1))
            while (await rows.rewind(now_ms - 1))[1]:
                pass
            [again] = await rows.waiting(10, ())
            assert again.event == event.event, "the same event, once"
            await twice("mark", [again], now_ms)
            await done_but_timed_out(told, OutboxRows, call("prune", now_ms + 1))
            while await rows.prune(now_ms + 1):
                pass
            while (await rows.rewind(0))[1]:
                pass
            assert await rows.waiting(10, ()) == [], "what is forgotten is not published again"
            await twice("free", "relay")
            assert (await rows.take("another", now_ms + 2_000, now_ms + 9_000, None)).holder == "another"


class ToldUsersSuite(ToldItTimedOutSuite):
    """The stores of `user`."""

    service = "user"

    async def test_a_profile_change_made_twice(self, tmp_path: Path) -> None:
        """The profile is what it was to be; its version, and an event that says "look again", come twice."""
        change = call("update", 1, {"name": "Jenny"}, UserProfileChanged(user_id=1))
        async with self.opened(tmp_path) as told:
            await make(told, UserStore, CREATE_PERSON)
            await done_but_timed_out(told, UserStore, change)
            once = await told.content()
            again = await make(told, UserStore, change)
            twice = await told.content()
        assert again.name == "Jenny"
        assert len(twice["users"]) == 1
        events = events_of(once)
        assert {str(one) for one in events_of(twice)} == {str(one) for one in events}, "it says no more than the first"

    async def test_a_sign_in_made_twice(self, tmp_path: Path) -> None:
        """A sign-in whose answer was lost leaves a session whose secret nobody has; it ends by itself."""
        first, second = (replace(SESSION, id=letter * 16, token_hash=letter * 32) for letter in (b"1", b"2"))
        async with self.opened(tmp_path) as told:
            await make(told, UserStore, CREATE_PERSON)
            await done_but_timed_out(told, SessionStore, call("add", first, "hash"))
            await make(told, SessionStore, call("add", second, "hash"))
            assert len((await told.content())["sessions"]) == 3
            assert await make(told, SessionStore, call("forget_expired", first.expires_ms)) == 3

    async def test_a_refresh_whose_answer_was_lost(self, tmp_path: Path) -> None:
        """A retry within moments gets what the first was to get; nothing is doubled."""
        old, new, newer = SESSION.token_hash, b"n" * 32, b"m" * 32
        async with self.opened(tmp_path) as told:
            await make(told, UserStore, CREATE_PERSON)
            rotate = call("rotate", SESSION.id, old, new, client_id="", now_ms=2_000, expires_ms=9_500)
            await done_but_timed_out(told, SessionStore, rotate)
            again = call("rotate", SESSION.id, old, newer, client_id="", now_ms=2_001, expires_ms=9_500)
            assert (await make(told, SessionStore, again)).user_id == 1
            assert len((await told.content())["sessions"]) == 1

    async def test_a_client_let_in_twice(self, tmp_path: Path) -> None:
        """A retry has ids and secrets of its own; what nobody has the secrets of does nothing, and is listed."""
        other = replace(CLIENT, id="b", consumer_key="other key")
        async with self.opened(tmp_path) as told:
            await make(told, UserStore, CREATE_PERSON)
            for method, first, second in (
                ("add_client", (CLIENT, 20), (other, 20)),
                ("add_grant", (GRANT,), (replace(GRANT, hash=b"h" * 32),)),
                ("add_session", (OF_CLIENT,), (replace(OF_CLIENT, id=b"d" * 16),)),
            ):
                await done_but_timed_out(told, ClientStore, call(method, *first))
                assert await make(told, ClientStore, call(method, *second)) is True
            content = await told.content()
        assert [len(content[name]) for name in ("clients", "grants", "sessions")] == [2, 2, 3]

    async def test_a_code_whose_answer_was_lost(self, tmp_path: Path) -> None:
        """A code that is used twice may be in two hands: what it gave ends, and the person is asked again."""
        exchange = call("exchange", CODE, GRANT.hash, lambda _: True, lambda _: OF_CLIENT, 2_000)
        async with self.opened(tmp_path) as told:
            await make(told, UserStore, CREATE_PERSON)
            await make(told, ClientStore, ADD_CLIENT)
            await make(told, ClientStore, ADD_GRANT)
            await done_but_timed_out(told, ClientStore, exchange)
            assert len((await told.content())["sessions"]) == 2
            assert await make(told, ClientStore, exchange) is None
            content = await told.content()
        assert [len(content[name]) for name in ("sessions", "ended_sessions", "grants")] == [1, 1, 0]


class ToldGraphSuite(ToldItTimedOutSuite):
    """The stores of `graph`."""

    service = "graph"

    @pytest.mark.parametrize("goes_back", [False, True], ids=["stays", "goes back at once"])
    async def test_a_crossing_settled_twice(self, tmp_path: Path, goes_back: bool) -> None:
        """A retry ends the crossing that it was made for, not one that has begun since and is not carried through."""
        contents = []
        settle = call("settle", 2, pulled=True)
        for times in (1, 2):
            async with self.opened(tmp_path) as told:
                # Two followers: from there on the author is pulled.
                for step in [*FOLLOWED, *([call("unfollow", 1, 2)] if goes_back else [])]:
                    await make(told, GraphStore, step)
                if times == 2:
                    await done_but_timed_out(told, GraphStore, settle)
                await make(told, GraphStore, settle)
                contents.append(await told.content())
        assert contents[0] == contents[1]


class ToldTweetsSuite(ToldItTimedOutSuite):
    """The stores of `tweet`."""

    service = "tweet"

    async def test_impressions_added_twice(self, tmp_path: Path) -> None:
        """These may count twice: they are about right, nobody tries them again but the mesh itself, and rarely."""
        add = call("add_impressions", {100: 3})
        async with self.opened(tmp_path) as told:
            for step in FIRST[CountStore]:
                await make(told, CountStore, step)
            await done_but_timed_out(told, CountStore, add)
            await make(told, CountStore, add)
            [tweet] = (await make(told, CountStore, call("apply", 10))).tweets
            assert (tweet.impression_count, tweet.like_count) == (6, 1)


class ToldModerationSuite(ToldItTimedOutSuite):
    """The store of `moderation`."""

    service = "moderation"


def test_every_method_has_a_case() -> None:
    """Imported by one module of tests."""
    wanted = {(port, method) for ports in PORTS.values() for port in ports for method in methods(port)}
    covered = {(case.port, case.call.method) for case in CASES} | OWN_TESTS.keys()
    assert covered == wanted
    suites = (ToldUsersSuite, ToldGraphSuite, ToldTweetsSuite, ToldModerationSuite)
    assert all(any(hasattr(suite, name) for suite in suites) for name in OWN_TESTS.values())
