"""Thousands of random steps of fifty people, and after every batch what each surface shows against the oracle.

The story follows from its seed. Steps that touch the same person or tweet are taken in the story's order; others run
at once. A step must be answered with the status that the oracle expects, and right after a change of who may see what
a read must know of it already. Each batch is followed by the whole of many surfaces, for a sample of viewers: nothing
forbidden, nothing missing, in order.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from rookery.events.v1.tweet_events_pb2 import (
    TWEET_VISIBILITY_LIMITED,
    TWEET_VISIBILITY_OPEN,
    TWEET_VISIBILITY_REMOVED,
)
from rookery.tweet.v1.tweet_moderation_mesh_pb2 import SetVisibilityRequest

from mesh.client import Destination
from tests.e2e.harness import PASSWORD, Account, eventually, register_many
from tests.e2e.visibility_oracle import Collection, Tweet, World
from tests.faults.crowd import BUDGET_S, RETRIED

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_moderation_mesh_pb2_grpc import TweetModerationMeshServiceAsyncStub

    Moderation = Destination[TweetModerationMeshServiceAsyncStub]

pytestmark = pytest.mark.asyncio(loop_scope="session")
Settled = Callable[[], Awaitable[None]]

SEED = int(os.environ.get("FUZZ_SEED", "2026"))
"""Another one tells another story."""
PEOPLE = 50
BATCHES = int(os.environ.get("FUZZ_BATCHES", "25"))
STEPS = 200
"""In each batch."""
VIEWERS = 1
"""Whose surfaces are read after each batch; after the last one four times as many."""
_AT_ONCE = 12
_IDS = 100  # in one look-up by ids
MODERATE = "moderate"
"""Stands for a method: the decision about a tweet, which `path` has, is no request of the actor's."""
VISIBILITIES = {"open": TWEET_VISIBILITY_OPEN, "limited": TWEET_VISIBILITY_LIMITED, "removed": TWEET_VISIBILITY_REMOVED}
_PAUSE_S = 0.5  # before a request is sent again
_MAKES = {("POST", "/2/tweets"), ("POST", "/2/lists")}  # what would be made twice without a request_id

Thing = int | Tweet | Collection
"""A person's number, a tweet or a list."""


@dataclass(frozen=True)
class Probe:
    """Reads right after a step, when nothing had time to settle."""

    viewer: int
    author: int
    tweet: Tweet
    """One of the author's."""
    shows: bool
    """Whether it shows by its id."""
    home: bool = False
    """Whether the home timeline is read too: nothing of the author may be in it."""


@dataclass
class Step:
    """One request of the story."""

    said: str
    """For people."""
    actor: int
    method: str
    path: str
    """With `{}` for each of `named`."""
    named: tuple[Thing, ...]
    expected: int
    body: dict[str, Any] = field(default_factory=dict)
    """Things in it are replaced by their ids."""
    makes: Tweet | Collection | None = None
    """What gets its id from the answer."""
    more: frozenset[Thing] = frozenset()
    """What the answer depends on besides."""
    probe: Probe | None = None

    @property
    def touches(self) -> set[Thing]:
        """Everything whose other steps must come before or after this one, not meanwhile."""
        things: set[Thing] = {self.actor, *self.named, *self.more}
        things |= {value for value in _flat(self.body) if isinstance(value, Tweet | Collection)}
        if self.makes is not None:
            things.add(self.makes)
        if self.probe is not None:
            things |= {self.probe.viewer, self.probe.tweet}
        for tweet in [one for one in things if isinstance(one, Tweet)]:
            things |= {tweet.author, *tweet.references, *(one.author for one in tweet.references)}
        things |= {one.owner for one in things if isinstance(one, Collection)}
        return things


def _flat(value: Any) -> Iterator[Any]:
    for one in value.values() if isinstance(value, dict) else [value]:
        if isinstance(one, dict):
            yield from _flat(one)
        else:
            yield one


class Story:
    """Makes steps, and the world as it is after each."""

    def __init__(self, seed: int) -> None:
        self.world = World(PEOPLE)
        self._chance = random.Random(seed)
        self._written = 0
        self._kinds: dict[Callable[[], Step | None], int] = {
            self.follow: 16,
            self.unfollow: 4,
            self.accept: 6,
            self.decline: 2,
            self.block: 5,
            self.unblock: 3,
            self.mute: 4,
            self.unmute: 3,
            self.protect: 2,
            self.unprotect: 1,
            self.post: 12,
            self.reply: 10,
            self.quote: 7,
            self.retweet: 10,
            self.unretweet: 3,
            self.like: 12,
            self.unlike: 3,
            self.keep: 5,
            self.unkeep: 1,
            self.make_list: 1,
            self.put_in: 5,
            self.take_out: 1,
            self.delete: 4,
            self.moderate: 4,
            self.pin: 2,
            self.leave: 1,
            self.come_back: 1,
        }

    def steps(self, count: int) -> list[Step]:
        """The next steps."""
        made: list[Step] = []
        while len(made) < count:
            [kind] = self._chance.choices(list(self._kinds), list(self._kinds.values()))
            if (step := kind()) is not None:
                made.append(step)
        return made

    # --- whom and what

    def _somebody(self, *without: int) -> int:
        return self._chance.choice([p for p in self.world.people if p not in self.world.gone and p not in without])

    def _some(self, things: Iterable[Any]) -> Any:
        """One of them; None when there is none."""
        known = list(things)
        return self._chance.choice(known) if known else None

    def _tweet_for(self, viewer: int, *, retweets: bool = False) -> Tweet | None:
        """Mostly one that shows, of the newest two hundred; at times any."""
        known = [t for t in self.world.tweets if retweets or t.original is None]
        if self._chance.random() < 0.85:
            known = [t for t in known[-200:] if self.world.shows(viewer, t, asked=True)]
        found: Tweet | None = self._some(known)
        return found

    def _look(self, viewer: int, author: int) -> Probe | None:
        """A read of one of a person's tweets, and of the home timeline if none of them may be there."""
        if viewer in self.world.gone:
            return None
        tweet = self._some(t for t in self.world.tweets if t.author == author)
        if tweet is None:
            return None
        hidden = not self.world.shows_author(viewer, author, feed=True) or (viewer, author) not in self.world.follows
        home = hidden and viewer != author and self._chance.random() < 0.3
        return Probe(viewer, author, tweet, self.world.shows(viewer, tweet, asked=True), home)

    # --- relations

    def follow(self) -> Step | None:
        who = self._somebody()
        whom = self._somebody(who)
        expected = self.world.follow(who, whom)
        probe = self._look(who, whom)
        said = f"{who} follows {whom}"
        return Step(
            said,
            who,
            "POST",
            "/2/users/{}/following",
            (who,),
            expected,
            {"target_user_id": Person(whom)},
            probe=probe,
            more=frozenset({whom}),
        )

    def unfollow(self) -> Step | None:
        pair = self._some(p for p in (*self.world.follows, *self.world.requests) if p[0] not in self.world.gone)
        if pair is None:
            return None
        who, whom = pair
        expected = self.world.unfollow(who, whom)
        path = "/2/users/{}/following/{}"
        return Step(f"{who} unfollows {whom}", who, "DELETE", path, (who, whom), expected, probe=self._look(who, whom))

    def _request(self) -> tuple[int, int] | None:
        gone = self.world.gone
        found: tuple[int, int] | None = self._some(
            p for p in self.world.requests if p[0] not in gone and p[1] not in gone
        )
        return found

    def accept(self) -> Step | None:
        if (pair := self._request()) is None:
            return None
        asking, who = pair
        expected = self.world.accept(who, asking)
        path, probe = "/v1/follow_requests/{}/accept", self._look(asking, who)
        return Step(f"{who} accepts {asking}", who, "POST", path, (asking,), expected, probe=probe)

    def decline(self) -> Step | None:
        if (pair := self._request()) is None:
            return None
        asking, who = pair
        expected = self.world.decline(who, asking)
        path, probe = "/v1/follow_requests/{}/decline", self._look(asking, who)
        return Step(f"{who} declines {asking}", who, "POST", path, (asking,), expected, probe=probe)

    def block(self) -> Step | None:
        who = self._somebody()
        whom = self._somebody(who)
        expected = self.world.block(who, whom)
        looks = [self._look(who, whom), self._look(whom, who)]
        lists = frozenset(one for one in self.world.lists if one.owner in (who, whom))
        return Step(
            f"{who} blocks {whom}",
            who,
            "POST",
            "/2/users/{}/blocking",
            (who,),
            expected,
            {"target_user_id": Person(whom)},
            probe=self._some(looks),
            more=lists | {whom},
        )

    def unblock(self) -> Step | None:
        pair = self._some(p for p in self.world.blocks if p[0] not in self.world.gone)
        if pair is None:
            return None
        who, whom = pair
        expected = self.world.unblock(who, whom)
        path = "/2/users/{}/blocking/{}"
        return Step(f"{who} unblocks {whom}", who, "DELETE", path, (who, whom), expected, probe=self._look(whom, who))

    def mute(self) -> Step | None:
        who = self._somebody()
        followed = [b for (a, b) in self.world.follows if a == who and b not in self.world.gone]
        whom = self._some(followed) if self._chance.random() < 0.7 else self._somebody(who)
        if whom is None:
            return None
        expected = self.world.mute(who, whom)
        body, path = {"target_user_id": Person(whom)}, "/2/users/{}/muting"
        more, probe = frozenset({whom}), self._look(who, whom)
        return Step(f"{who} mutes {whom}", who, "POST", path, (who,), expected, body, more=more, probe=probe)

    def unmute(self) -> Step | None:
        pair = self._some(p for p in self.world.mutes if p[0] not in self.world.gone)
        if pair is None:
            return None
        who, whom = pair
        expected = self.world.unmute(who, whom)
        return Step(f"{who} unmutes {whom}", who, "DELETE", "/2/users/{}/muting/{}", (who, whom), expected)

    # --- accounts

    def protect(self) -> Step | None:
        return self._protect(on=True) if len(self.world.protected) < PEOPLE // 4 else None

    def unprotect(self) -> Step | None:
        return self._protect(on=False)

    def _protect(self, *, on: bool) -> Step | None:
        who = self._some(p for p in self.world.people if (p in self.world.protected) != on and p not in self.world.gone)
        if who is None:
            return None
        expected = self.world.protect(who, on=on)
        said = f"{who} is {'protected' if on else 'public'} now"
        probe = self._look(self._somebody(who), who)
        return Step(said, who, "PATCH", "/v1/users/me", (), expected, {"protected": on}, probe=probe)

    def leave(self) -> Step | None:
        if len(self.world.gone) >= 4:
            return None
        who = self._somebody()
        expected = self.world.leave(who)
        probe = self._look(self._somebody(who), who)
        body = {"password": PASSWORD}
        return Step(f"{who} leaves", who, "POST", "/v1/users/me/deactivate", (), expected, body, probe=probe)

    def come_back(self) -> Step | None:
        who = self._some(self.world.gone)
        if who is None:
            return None
        expected = self.world.come_back(who)
        body = {"username": Name(who), "password": PASSWORD}
        probe = self._look(self._somebody(who), who)
        return Step(f"{who} comes back", who, "POST", "/v1/auth/login", (), expected, body, probe=probe)

    def pin(self) -> Step | None:
        gone = self.world.gone
        there = [t for t in self.world.tweets if not t.deleted and t.reach != "removed" and t.author not in gone]
        tweet = self._some(t for t in there if t.original is None)
        if tweet is None:
            return None
        expected = self.world.pin(tweet.author, tweet)
        body = {"pinned_tweet_id": tweet}
        return Step(f"{tweet.author} pins {tweet}", tweet.author, "PATCH", "/v1/users/me", (), expected, body)

    # --- tweets

    def _new(self, author: int, **what: Any) -> Tweet:
        self._written += 1
        return Tweet(self._written, author, **what)

    def post(self) -> Step | None:
        return self._write(self._new(self._somebody(), mentions=self._mentioned()))

    def _mentioned(self) -> frozenset[int]:
        return frozenset({self._somebody()}) if self._chance.random() < 0.3 else frozenset()

    def reply(self) -> Step | None:
        who = self._somebody()
        answered = self._tweet_for(who)
        return self._write(self._new(who, answered=answered, mentions=self._mentioned())) if answered else None

    def quote(self) -> Step | None:
        who = self._somebody()
        quoted = self._tweet_for(who, retweets=True)
        if quoted is None:
            return None
        answered = self._tweet_for(who) if self._chance.random() < 0.1 else None
        return self._write(self._new(who, answered=answered, quoted=quoted))

    def _write(self, tweet: Tweet) -> Step:
        body: dict[str, Any] = {"text": Text(tweet)}
        said = f"{tweet.author} writes {tweet}"
        if tweet.answered:
            body["reply"] = {"in_reply_to_tweet_id": tweet.answered}
            said += f", an answer to {tweet.answered}"
        if tweet.quoted:
            body["quote_tweet_id"] = tweet.quoted
            said += f", quoting {tweet.quoted}"
        expected = self.world.post(tweet)
        return Step(said, tweet.author, "POST", "/2/tweets", (), expected, body, makes=tweet, more=tweet.mentions)

    def retweet(self) -> Step | None:
        who = self._somebody()
        named = self._tweet_for(who, retweets=True)
        if named is None:
            return None
        original = named.original or named
        again = self.world.repeats.get((who, original))
        if again is not None and original.author in self.world.protected:
            return None  # neither a new retweet nor a forbidden one
        made = self._new(who)
        expected = self.world.retweet(made, named)
        said = f"{who} retweets {named} as {made.number}"
        body = {"tweet_id": named}
        return Step(said, who, "POST", "/2/users/{}/retweets", (who,), expected, body, makes=again or made)

    def unretweet(self) -> Step | None:
        mark = self._some(mark for mark in self.world.repeats if mark[0] not in self.world.gone)
        if mark is None:
            return None
        made = self.world.repeats[mark]
        expected = self.world.unretweet(*mark)
        path, more = "/2/users/{}/retweets/{}", frozenset({made})
        return Step(f"{mark[0]} takes back {made}", mark[0], "DELETE", path, mark, expected, more=more)

    def delete(self) -> Step | None:
        own = [t for t in self.world.tweets if not t.deleted and t.original is None and t.author not in self.world.gone]
        tweet = self._some(own)
        if tweet is None:
            return None
        retweets = frozenset(made for (_, what), made in self.world.repeats.items() if what is tweet)
        expected = self.world.delete(tweet)
        probe = Probe(self._somebody(), tweet.author, tweet, shows=False)
        who, path = tweet.author, "/2/tweets/{}"
        return Step(f"{who} deletes {tweet}", who, "DELETE", path, (tweet,), expected, probe=probe, more=retweets)

    def moderate(self) -> Step | None:
        """A moderator's decision as it is carried out: asked of `tweet` from inside, in nobody's name."""
        there = [t for t in self.world.tweets[-400:] if not t.deleted and t.original is None]
        tweet = self._some(there)
        if tweet is None:
            return None
        reach = self._chance.choice([one for one in ("open", "open", "limited", "removed") if one != tweet.reach])
        expected = self.world.moderate(tweet, reach)
        viewer = self._somebody()
        probe = Probe(viewer, tweet.author, tweet, self.world.shows(viewer, tweet, asked=True))
        said = f"{tweet} of {tweet.author} is {reach} now"
        return Step(said, tweet.author, MODERATE, reach, (tweet,), expected, probe=probe)

    # --- marks

    def like(self) -> Step | None:
        return self._mark(self.world.likes, "likes")

    def keep(self) -> Step | None:
        return self._mark(self.world.bookmarks, "bookmarks")

    def unlike(self) -> Step | None:
        return self._unmark(self.world.likes, "likes")

    def unkeep(self) -> Step | None:
        return self._unmark(self.world.bookmarks, "bookmarks")

    def _mark(self, marks: dict[tuple[int, Tweet], int], what: str) -> Step | None:
        who = self._somebody()
        tweet = self._tweet_for(who, retweets=True)
        if tweet is None:
            return None
        expected = self.world.mark(marks, who, tweet)
        path = f"/2/users/{{}}/{what}"
        return Step(f"{who} {what} {tweet}", who, "POST", path, (who,), expected, {"tweet_id": tweet})

    def _unmark(self, marks: dict[tuple[int, Tweet], int], what: str) -> Step | None:
        mark = self._some(mark for mark in marks if mark[0] not in self.world.gone)
        if mark is None:
            return None
        expected = self.world.unmark(marks, *mark)
        return Step(f"{mark[0]} un{what} {mark[1]}", mark[0], "DELETE", f"/2/users/{{}}/{what}/{{}}", mark, expected)

    # --- lists

    def make_list(self) -> Step | None:
        if len(self.world.lists) >= 12:
            return None
        made = Collection(len(self.world.lists), self._somebody(), private=self._chance.random() < 0.3)
        self.world.lists.append(made)
        body = {"name": f"list {made.number}", "private": made.private}
        said = f"{made.owner} makes {made}{', private' if made.private else ''}"
        return Step(said, made.owner, "POST", "/2/lists", (), 201, body, makes=made)

    def put_in(self) -> Step | None:
        made = self._some(one for one in self.world.lists if one.owner not in self.world.gone)
        if made is None:
            return None
        whom = self._somebody()
        expected = self.world.put_in(made, whom)
        body, more = {"user_id": Person(whom)}, frozenset({whom})
        said = f"{made.owner} puts {whom} into {made}"
        return Step(said, made.owner, "POST", "/2/lists/{}/members", (made,), expected, body, more=more)

    def take_out(self) -> Step | None:
        made = self._some(one for one in self.world.lists if one.members and one.owner not in self.world.gone)
        if made is None:
            return None
        whom = self._some(made.members)
        expected = self.world.take_out(made, whom)
        said, path = f"{made.owner} takes {whom} out of {made}", "/2/lists/{}/members/{}"
        return Step(said, made.owner, "DELETE", path, (made, whom), expected)


@dataclass(frozen=True)
class Person:
    """Stands for a person's id in a body."""

    number: int


@dataclass(frozen=True)
class Name:
    """Stands for a person's username in a body."""

    number: int


@dataclass(frozen=True)
class Text:
    """Stands for the text of a tweet: its number, and whom it mentions."""

    tweet: Tweet


@dataclass(frozen=True)
class Check:
    """One surface for one viewer."""

    surface: str
    viewer: int
    path: str
    expected: Sequence[Tweet] | Sequence[int] | Sequence[Collection]
    """Tweets, people or lists, in order."""
    of: str = "tweets"
    """Which of the three."""
    params: dict[str, str] = field(default_factory=dict)

    @property
    def feed(self) -> bool:
        """Whether it comes to the viewer unasked."""
        return self.surface.startswith(("home", "mentions", "timeline"))


@asynccontextmanager
async def _all() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks that fails as the first of them does."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except* AssertionError as failed:
        raise failed.exceptions[0] from None


class Players:
    """The people of a story at the edge."""

    def __init__(self, story: Story, accounts: list[Account], moderation: Moderation, patience_s: float) -> None:
        self.story = story
        self._moderation = moderation
        self.accounts = accounts
        self.again = 0
        """How often a request was sent again."""
        self._patience_s = patience_s
        self.told: list[Step] = []
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._pages = random.Random(SEED)

    @property
    def world(self) -> World:
        """The facts as they must be now."""
        return self.story.world

    # --- taking steps

    async def play(self, steps: Sequence[Step]) -> None:
        """Takes steps: those that touch the same thing in order, the others at once."""
        last: dict[Thing, asyncio.Task[None]] = {}
        async with _all() as group:
            for step in steps:
                touches = step.touches
                before = {last[thing] for thing in touches if thing in last}
                task = group.create_task(self._take(step, before))
                last |= dict.fromkeys(touches, task)

    async def _take(self, step: Step, before: set[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)  # of which none fails without ending them all
        async with self._room:
            if step.method == MODERATE:
                request = SetVisibilityRequest(tweet_id=self._id(step.named[0]), visibility=VISIBILITIES[step.path])
                await self._moderation.call(self._moderation.stub.SetVisibility, request)
                await self._taken(step)
                return
            path = step.path.format(*map(self._id, step.named))
            body = self._filled(step.body)
            if body and (step.method, step.path) in _MAKES:
                body["request_id"] = uuid.uuid4().hex
            answer = await self._insist(step, path, {"json": body} if body else {})
            if answer.status_code != step.expected:
                self._fail(f"{step.said}: {answer.status_code} {answer.text}, and not {step.expected}", step.touches)
            if step.makes is not None and answer.is_success:
                data = answer.json()["data"]
                made = int(data.get("rest_id") or data["id"])
                assert step.makes.id in (0, made), f"{step.said}: {made}, and it was {step.makes.id}"
                step.makes.id = made
            if step.path == "/v1/auth/login":
                account = self.accounts[step.actor]
                self.accounts[step.actor] = replace(account, token=answer.json()["data"]["access_token"])
            await self._taken(step)

    async def _taken(self, step: Step) -> None:
        if step.probe is not None and step.probe.viewer not in self._left(step):
            await self._look(step, step.probe)
        self.told.append(step)

    async def _insist(self, step: Step, path: str, more: dict[str, Any]) -> httpx.Response:
        """An answer; on real engines as a client gets one that sends again what was refused for the moment."""
        until = time.monotonic() + self._patience_s
        while True:
            answer = await self.accounts[step.actor].request(step.method, path, **more)
            if answer.status_code not in RETRIED or time.monotonic() > until:
                return answer
            self.again += 1
            await asyncio.sleep(_PAUSE_S)

    @staticmethod
    def _left(step: Step) -> set[int]:
        return {step.actor} if step.path.endswith("/deactivate") else set()

    async def _look(self, step: Step, probe: Probe) -> None:
        found = await self.accounts[probe.viewer].get(f"/2/tweets/{probe.tweet.id}")
        if ("data" in found) != probe.shows:
            what = "does not show" if probe.shows else "shows"
            self._fail(f"right after {step.said!r}, {probe.tweet} {what} to {probe.viewer}", step.touches)
        if probe.home:
            me = self.accounts[probe.viewer].id
            page = await self.accounts[probe.viewer].get(f"/2/users/{me}/timelines/reverse_chronological")
            known = self._tweets
            found = [known.get(int(one["id"])) for one in page.get("data", [])]
            if seen := [tweet for tweet in found if tweet is not None and tweet.author == probe.author]:
                self._fail(
                    f"right after {step.said!r}, {seen} are in the home timeline of {probe.viewer}", step.touches
                )

    def _id(self, thing: Thing) -> int:
        found = self.accounts[thing].id if isinstance(thing, int) else thing.id
        assert found, f"{thing} has no id"
        return found

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        if isinstance(value, Person):
            return str(self.accounts[value.number].id)
        if isinstance(value, Name):
            return self.accounts[value.number].username
        if isinstance(value, Text):
            names = "".join(f" @{self.accounts[who].username}" for who in sorted(value.tweet.mentions))
            return f"number {value.tweet.number}{names}"
        return str(self._id(value)) if isinstance(value, Tweet | Collection) else value

    # --- comparing

    def checks(self, viewers: Sequence[int], chance: random.Random) -> Iterator[Check]:
        """What to read: for each viewer every surface, of people and tweets by chance."""
        world = self.world
        everything = [t for t in world.tweets if t.original is None]
        for viewer in viewers:
            me = self.accounts[viewer].id
            yield Check("home", viewer, f"/2/users/{me}/timelines/reverse_chronological", world.home(viewer))
            yield Check("bookmarks", viewer, f"/2/users/{me}/bookmarks", world.kept(viewer))
            yield Check("blocking", viewer, f"/2/users/{me}/blocking", world.own_people(world.blocks, viewer), "people")
            yield Check("muting", viewer, f"/2/users/{me}/muting", world.own_people(world.mutes, viewer), "people")
            asking = world.own_people({(b, a): at for (a, b), at in world.requests.items()}, viewer)
            yield Check("requests", viewer, "/v1/follow_requests", asking, "people")
            sent = world.own_people(world.requests, viewer)
            yield Check("requests sent", viewer, "/v1/follow_requests/sent", sent, "people")
            for person in {viewer, chance.choice(world.people)}:
                path = f"/2/users/{self.accounts[person].id}"
                yield Check(f"tweets of {person}", viewer, f"{path}/tweets", world.posts(viewer, person))
                yield Check(f"mentions of {person}", viewer, f"{path}/mentions", world.mentioning(viewer, person))
                yield Check(f"likes of {person}", viewer, f"{path}/liked_tweets", world.liked(viewer, person))
                yield Check(
                    f"followers of {person}", viewer, f"{path}/followers", world.followers(viewer, person), "people"
                )
                yield Check(
                    f"following of {person}", viewer, f"{path}/following", world.following(viewer, person), "people"
                )
                yield Check(f"lists of {person}", viewer, f"{path}/owned_lists", world.owned(viewer, person), "lists")
                on = world.memberships(viewer, person)
                yield Check(f"lists with {person}", viewer, f"{path}/list_memberships", on, "lists")
            for tweet in [chance.choice(everything), *self._busiest(chance)]:
                path = f"/2/tweets/{tweet.id}"
                conversation = world.conversation(viewer, tweet)
                yield Check(f"conversation of {tweet}", viewer, f"/v1{path[2:]}/conversation", conversation)
                yield Check(f"quotes of {tweet}", viewer, f"{path}/quote_tweets", world.quotes(viewer, tweet))
                yield Check(f"retweets of {tweet}", viewer, f"{path}/retweets", world.retweets(viewer, tweet))
                yield Check(
                    f"retweeters of {tweet}", viewer, f"{path}/retweeted_by", world.retweeters(viewer, tweet), "people"
                )
                yield Check(f"likers of {tweet}", viewer, f"{path}/liking_users", world.likers(viewer, tweet), "people")
                yield Check(f"{tweet} itself", viewer, path, [tweet] if world.shows(viewer, tweet, asked=True) else [])
            for made in chance.sample(world.lists, min(2, len(world.lists))):
                path = f"/2/lists/{made.id}"
                there = [made] if world.sees_list(viewer, made) else []
                yield Check(f"{made} itself", viewer, path, there, "lists")
                yield Check(f"members of {made}", viewer, f"{path}/members", world.members(viewer, made), "people")
                yield Check(f"timeline of {made}", viewer, f"{path}/tweets", world.timeline(viewer, made))
            asked = chance.sample(world.tweets, min(_IDS, len(world.tweets)))
            ids = ",".join(str(tweet.id) for tweet in asked)
            shown = [tweet for tweet in asked if world.shows(viewer, tweet, asked=True)]
            yield Check("tweets by id", viewer, "/2/tweets", shown, params={"ids": ids})

    def _busiest(self, chance: random.Random) -> list[Tweet]:
        """One that many others point at."""
        pointed = [reference for tweet in self.world.tweets for reference in tweet.references]
        return [chance.choice(pointed)] if pointed else []

    async def compare(self, viewers: Sequence[int], chance: random.Random) -> int:
        """Reads all of it; gives how many surfaces."""
        from tests.called import operation_of

        checks = [c for c in self.checks(viewers, chance) if operation_of("GET", c.path)]
        async with _all() as group:
            for check in checks:
                group.create_task(self._compare(check))
            for viewer in viewers:
                group.create_task(self._pinned(viewer))
        return len(checks)

    async def _compare(self, check: Check) -> None:
        params: dict[str, str] = dict(check.params)
        if check.of == "tweets":
            params["expansions"] = "author_id,referenced_tweets.id,referenced_tweets.id.author_id"
        if "ids" not in params and not check.surface.endswith("itself"):
            few = len(check.expected) <= 60 and self._pages.random() < 0.2
            params["max_results"] = "10" if few else "100"
        wanted = [self._id(thing) for thing in check.expected]
        got: list[int] = []
        async with self._room:
            for _ in range(20):
                page = await self.accounts[check.viewer].get(check.path, **params)
                data = page.get("data", [])
                data = data if isinstance(data, list) else [data]
                ids = [int(one["id"]) for one in data]
                got += ids
                if check.of == "tweets":
                    self._check_includes(check, page, ids)
                if "meta" in page:
                    assert page["meta"]["result_count"] == len(data), check
                if "next_token" not in page.get("meta", {}):
                    break
                params["pagination_token"] = page["meta"]["next_token"]
        if got != wanted:
            self._differ(check, wanted, got)

    def _check_includes(self, check: Check, page: dict[str, Any], ids: Sequence[int]) -> None:
        """What the tweets of a page point at is there, or among the errors; and nothing else is."""
        known = self._tweets
        shown = [known[tweet_id] for tweet_id in ids if tweet_id in known]
        there, missing = self.world.included(check.viewer, shown, feed=check.feed)
        includes = page.get("includes", {})
        tweets = {int(one["id"]) for one in includes.get("tweets", [])}
        errors = {int(one["value"]) for one in page.get("errors", []) if one["parameter"] == "referenced_tweets.id"}
        people = {int(one["id"]) for one in includes.get("users", [])}
        authors = {self.accounts[tweet.author].id for tweet in (*shown, *there)}
        if tweets != {tweet.id for tweet in there}:
            self._differ(replace(check, surface=f"includes of {check.surface}"), [t.id for t in there], sorted(tweets))
        if errors != {tweet.id for tweet in missing}:
            self._differ(replace(check, surface=f"errors of {check.surface}"), [t.id for t in missing], sorted(errors))
        if people != authors:
            self._fail(
                f"people included in {check.surface} for {check.viewer}: {people}, not {authors}", {check.viewer}
            )

    @property
    def _tweets(self) -> dict[int, Tweet]:
        return {tweet.id: tweet for tweet in self.world.tweets}

    async def _pinned(self, viewer: int) -> None:
        """All people by id, and what they pinned."""
        world = self.world
        ids = ",".join(str(account.id) for account in self.accounts)
        async with self._room:
            page = await self.accounts[viewer].get("/2/users", ids=ids, expansions="pinned_tweet_id")
        got = [int(one["id"]) for one in page["data"]]
        wanted = [self.accounts[person].id for person in world.people if person not in world.gone]
        assert got == wanted, f"people by id for {viewer}: {set(got) ^ set(wanted)}"
        pinned = {int(one["id"]) for one in page.get("includes", {}).get("tweets", [])}
        shown = {
            tweet.id for who, tweet in world.pinned.items() if who not in world.gone and world.shows(viewer, tweet)
        }
        if pinned != shown:
            self._differ(Check("pinned", viewer, "/2/users", []), sorted(shown), sorted(pinned))

    async def counts_are_right(self) -> None:
        """Every tweet's counts, read by its author."""
        for start in range(0, len(self.world.tweets), 50):
            some = [
                t
                for t in self.world.tweets[start : start + 50]
                if not t.deleted and t.original is None and t.reach != "removed"
            ]
            for viewer in {tweet.author for tweet in some} - self.world.gone:
                own = [tweet for tweet in some if tweet.author == viewer]
                ids = ",".join(str(tweet.id) for tweet in own)
                found = await self.accounts[viewer].get("/2/tweets", ids=ids, tweet__fields="public_metrics")
                for tweet, one in zip(own, found["data"], strict=True):
                    wanted = self.world.counts(tweet)
                    got = {name: one["public_metrics"][name] for name in wanted}
                    assert got == wanted, f"{tweet}: {got}, and not {wanted}"

    # --- telling

    def _differ(self, check: Check, wanted: Sequence[int], got: Sequence[int]) -> None:
        missing, extra = [i for i in wanted if i not in got], [i for i in got if i not in wanted]
        known = {self._id(thing): thing for thing in (*self.world.tweets, *self.world.people, *self.world.lists)}
        things: set[Thing] = {known[i] for i in (*missing[:1], *extra[:1]) if i in known}
        if missing or extra:
            what = f"missing {[known.get(i, i) for i in missing[:5]]}, extra {[known.get(i, i) for i in extra[:5]]}"
        else:
            what = f"another order: {got[:10]}, and not {wanted[:10]}"
        self._fail(f"{check.surface} for {check.viewer} ({check.path}): {what}", {check.viewer, *things})

    def _fail(self, what: str, things: set[Thing]) -> None:
        """Fails with the part of the story that has to do with it."""
        tweets = {one for one in things if isinstance(one, Tweet | Collection)}
        tweets |= {reference for one in tweets if isinstance(one, Tweet) for reference in one.references}
        people = {one for one in things if isinstance(one, int)}
        people |= {one.author if isinstance(one, Tweet) else one.owner for one in tweets}

        def concerns(step: Step) -> bool:
            named = {step.actor, *(one for one in (*step.named, *step.more) if isinstance(one, int))}
            about = {one for one in step.touches if isinstance(one, Tweet | Collection)}
            alone = step.path in ("/v1/users/me", "/v1/users/me/deactivate", "/v1/auth/login")
            return bool(about & tweets) or (named <= people and (len(named) > 1 or alone))

        story = [f"  {number}. {step.said}: {step.expected}" for number, step in enumerate(self.told) if concerns(step)]
        world = self.world
        state = {
            "protected": sorted(people & world.protected),
            "gone": sorted(people & world.gone),
            "blocks": [pair for pair in world.blocks if {*pair} <= people],
            "mutes": [pair for pair in world.mutes if {*pair} <= people],
            "follows": [pair for pair in world.follows if {*pair} <= people],
        }
        raise AssertionError(
            f"seed {SEED}, after {len(self.told)} steps: {what}\nnow: {state}\nthe story of it:\n"
            + "\n".join(story[-40:])
        )


@pytest.mark.timeout(900)
async def test_every_surface_shows_exactly_what_it_must(
    edge: httpx.AsyncClient, settled: Settled, tweet_moderation: Moderation, pytestconfig: pytest.Config
) -> None:
    # Real engines on a machine that they share may be too slow for a moment, and say so. The embedded stores never are.
    patience_s = BUDGET_S if pytestconfig.getoption("--engines") else 0.0
    players = Players(Story(SEED), await register_many(edge, PEOPLE), tweet_moderation, patience_s)
    chance = random.Random(SEED)
    began = time.monotonic()
    surfaces = 0
    playing = 0.0
    for batch in range(BATCHES):
        since = time.monotonic()
        await players.play(players.story.steps(STEPS))
        await settled()
        playing += time.monotonic() - since
        there = [person for person in players.world.people if person not in players.world.gone]
        viewers = VIEWERS if batch < BATCHES - 1 else 4 * VIEWERS
        surfaces += await players.compare(chance.sample(there, viewers), chance)
    await eventually(players.counts_are_right)
    took = time.monotonic() - began
    told = f"{len(players.told)} steps in {playing:.1f} s, {surfaces} surfaces"
    print(f"report: visibility: {told}, {took:.1f} s in all, {players.again} requests sent again")
