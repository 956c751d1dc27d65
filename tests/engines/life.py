"""What people of a mesh have done to each other, and everything that they are shown: to be compared after a move."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from cli.graphs import read_edge_list, scale_free
from cli.samples import username
from cli.seed import Sample, seeder
from cli.state import MeshState
from tests.e2e.harness import Account

_AT_ONCE = 8
_TRIES = 6
TWEETS = (
    "tweet.fields=attachments,author_id,conversation_id,created_at,entities,in_reply_to_user_id,lang,public_metrics,"
    "referenced_tweets,reply_settings&expansions=author_id,referenced_tweets.id,attachments.poll_ids"
    "&poll.fields=duration_minutes,end_datetime,options,voting_status"
    "&user.fields=created_at,description,protected,public_metrics"
)
USERS = "user.fields=created_at,description,entities,location,pinned_tweet_id,protected,public_metrics,url"
LISTS = "list.fields=created_at,description,follower_count,member_count,owner_id,private&expansions=owner_id"
_OF_PERSON = (
    *(f"/2/users/{{0}}/{name}?max_results=20&{TWEETS}" for name in ("tweets", "mentions", "liked_tweets")),
    *(f"/2/users/{{0}}/{name}?max_results=20&{USERS}" for name in ("followers", "following")),
    *(f"/2/users/{{0}}/{name}?{LISTS}" for name in ("owned_lists", "list_memberships", "followed_lists")),
    f"/2/users/{{0}}?{USERS}",
)
_OF_VIEWER = (
    f"/2/users/{{0}}/timelines/reverse_chronological?max_results=50&{TWEETS}",
    f"/2/users/{{0}}/bookmarks?max_results=20&{TWEETS}",
    *(f"/2/users/{{0}}/{name}?{USERS}" for name in ("blocking", "muting")),
    f"/2/users/{{0}}/pinned_lists?{LISTS}",
    f"/2/users/me?{USERS}",
    f"/v1/follow_requests?{USERS}",
    f"/v1/follow_requests/sent?{USERS}",
    f"/2/users/search?query=s&{USERS}",
)
_OF_TWEET = (
    f"/2/tweets/{{0}}?{TWEETS}",
    *(f"/2/tweets/{{0}}/{name}?{USERS}" for name in ("liking_users", "retweeted_by")),
    *(f"/2/tweets/{{0}}/{name}?{TWEETS}" for name in ("quote_tweets", "retweets")),
    f"/v1/tweets/{{0}}/conversation?{TWEETS}",
)
_OF_LIST = (
    f"/2/lists/{{0}}?{LISTS}",
    *(f"/2/lists/{{0}}/{name}?{USERS}" for name in ("members", "followers")),
    f"/2/lists/{{0}}/tweets?{TWEETS}",
)


def sample(people: int, links: int, tweets: int) -> Sample:
    """A scale-free graph; or, where GRAPH_FILE names an edge list, that graph, and three tweets a person."""
    if file := os.environ.get("GRAPH_FILE"):
        graph = read_edge_list(Path(file))
        return Sample(graph, max(tweets, 3 * graph.size), seed=1)
    return Sample(scale_free(people, links=links, chance=random.Random("seeded")), tweets, seed=1)


@dataclass(frozen=True)
class Life:
    """Who there is, and what."""

    people: Sequence[int]
    viewers: Sequence[Account]
    """Some of the people, signed in."""
    tweets: Sequence[int]
    """Some of the tweets; those that were deleted too."""
    lists: Sequence[int]

    def at(self, edge: httpx.AsyncClient) -> Life:
        """The same, elsewhere; the tokens are those of before."""
        return replace(self, viewers=[replace(one, edge=edge) for one in self.viewers])

    def questions(self, count: int) -> list[tuple[int, str]]:
        """Some of all that could be asked, the same each time: number of the viewer, and path."""
        chance = random.Random("questions")
        general = [path.format(id_) for id_ in self.people for path in _OF_PERSON]
        general += [path.format(id_) for id_ in self.tweets for path in _OF_TWEET]
        asked = [(number, path.format(one.id)) for number, one in enumerate(self.viewers) for path in _OF_VIEWER]
        asked += [(n, path.format(id_)) for n in range(len(self.viewers)) for id_ in self.lists for path in _OF_LIST]
        while len(asked) < count:
            asked.append((chance.randrange(len(self.viewers)), chance.choice(general)))
        return sorted(chance.sample(asked, count))

    async def answers(self, questions: Sequence[tuple[int, str]]) -> list[tuple[int, bytes]]:
        """Status and body of each answer. How often a tweet was shown, which asking changes, is left out."""
        found: dict[int, tuple[int, bytes]] = {}
        numbers = iter(range(len(questions)))

        async def ask() -> None:
            for number in numbers:
                viewer, path = questions[number]
                answer = await _asked(self.viewers[viewer], path)
                body = re.sub(rb'"impression_count":\d+', b"", answer.content)
                found[number] = (answer.status_code, body)

        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
        return [found[number] for number in range(len(questions))]


async def _asked(viewer: Account, path: str) -> httpx.Response:
    """Asks again what a busy machine did not answer in time, as a client does: caches are empty after a move."""
    for attempt in range(_TRIES):
        answer: httpx.Response = await viewer.request("GET", path)
        if answer.status_code not in (503, 504):
            break
        await asyncio.sleep(0.2 * 2**attempt)
    return answer


async def live(state: MeshState, edge: httpx.AsyncClient, sample: Sample, *, viewers: int, acts: int) -> Life:
    """Seeds a mesh, and has some people do something of everything."""
    async with seeder(state, concurrency=_AT_ONCE) as made:
        outcome = await made.run(sample)
        signed = []
        for number in range(viewers):
            token = await made.token(username(number))
            assert token is not None
            signed.append(Account(edge, outcome.ids[number], username(number), token, ""))
    chance = random.Random("acts")
    tweets = await _first_tweets(signed)
    lists: list[int] = []
    polls: list[tuple[int, int]] = []

    async def act(person: Account, kind: int) -> None:
        tweet, other = chance.choice(tweets), chance.choice(signed)
        if kind < 4:
            await _tell(person, "POST", f"/2/users/{person.id}/likes", {"tweet_id": str(tweet)})
        elif kind == 4:
            await _tell(person, "POST", f"/2/users/{person.id}/bookmarks", {"tweet_id": str(tweet)})
        elif kind == 5:
            await _tell(person, "POST", f"/2/users/{person.id}/retweets", {"tweet_id": str(tweet)})
        elif kind == 6:
            answer = {"text": f"to @{other.username}: so it is", "reply": {"in_reply_to_tweet_id": str(tweet)}}
            await _new_tweet(person, answer, tweets)
        elif kind == 7:
            await _new_tweet(person, {"text": "look at this", "quote_tweet_id": str(tweet)}, tweets)
        elif kind == 8:
            poll = {"text": "which?", "poll": {"options": ["this", "that", "none"], "duration_minutes": 1440}}
            made = await _new_tweet(person, poll, tweets)
            found = await person.get(f"/2/tweets/{made}", tweet__fields="attachments")
            polls.append((made, int(found["data"]["attachments"]["poll_ids"][0])))
        elif kind == 9 and polls:
            _, poll_id = chance.choice(polls)
            await _tell(person, "POST", f"/v1/polls/{poll_id}/votes", {"position": chance.randint(1, 3)})
        elif kind == 10:
            private = chance.random() < 0.3
            members = {"name": f"list {len(lists)}", "description": "of some", "private": private}
            lists.append(int((await _tell(person, "POST", "/2/lists", members))["data"]["id"]))
            for one in chance.sample(signed, 4):
                await _tell(person, "POST", f"/2/lists/{lists[-1]}/members", {"user_id": str(one.id)})
        elif kind == 11 and lists:
            for name in ("followed_lists", "pinned_lists"):
                await _tell(person, "POST", f"/2/users/{person.id}/{name}", {"list_id": str(chance.choice(lists))})
        elif kind == 12 and other is not person:
            name = chance.choice(("muting", "muting", "blocking", "following"))
            await _tell(person, "POST", f"/2/users/{person.id}/{name}", {"target_user_id": str(other.id)})
        elif kind == 13:
            await _tell(person, "DELETE", f"/2/tweets/{tweet}", None)

    await signed[1].request("PATCH", "/v1/users/me", json={"protected": True, "description": "only for #friends"})
    for number in range(acts):
        await act(signed[number % len(signed)], number % 14)
    for tweet in tweets[:3]:  # answered, liked and shown, and gone
        for person in signed:
            await _tell(person, "DELETE", f"/2/tweets/{tweet}", None)
    return Life(outcome.ids, signed, tweets, lists)


async def _first_tweets(people: Sequence[Account]) -> list[int]:
    found: list[int] = []
    for person in people:
        page = await person.get(f"/2/users/{person.id}/timelines/reverse_chronological", max_results=20)
        found += [int(one["id"]) for one in page.get("data", [])]
    return sorted(set(found))


async def _new_tweet(person: Account, members: Mapping[str, object], tweets: list[int]) -> int:
    made = await _tell(person, "POST", "/2/tweets", members)
    if "data" not in made:
        return 0
    tweets.append(int(made["data"]["id"]))
    return tweets[-1]


async def _tell(person: Account, method: str, path: str, members: object) -> Any:
    """What was answered; it may be refused: across a block, of another's tweet, of one that is gone."""
    answer = await person.request(method, path, **({} if members is None else {"json": members}))
    assert answer.status_code < 500, answer.text
    return answer.json()
