"""Stores as they are after people used them for a while: something of every kind, by the ports' own methods.

Numbers come from a seeded chance, so that the same store is made each time.
"""

from __future__ import annotations

import random
from contextlib import suppress

from rookery.api.v2.tweet_pb2 import MentionEntity, TweetEntities
from rookery.events.v1.user_events_pb2 import UserErased, UserProfileChanged

from mesh.errors import MeshError
from services.graph.list_domain import PeopleList
from services.moderation.domain import Action, Finding, Reason, Report
from services.moderation.store.base import ModerationStore
from services.tweet.domain import Choice, Mark, StoredPoll, StoredTweet
from services.tweet.store.erasure import Remains
from services.user.attempts import Backoff
from services.user.domain import CountChange
from services.user.store.attempts import Attempt
from services.user.store.base import Session, SigningKey
from services.user.store.clients import CODE, PAGE, REQUEST, Client, Grant
from tests.stores.suites.credentials import CredentialStores
from tests.stores.suites.exports import ExportStores
from tests.stores.suites.graph import GraphStores
from tests.stores.suites.lists import ListStores
from tests.stores.suites.tweets import TweetStores
from tests.stores.suites.users import UserStores

PEOPLE = range(1, 21)
COUNTS = ("followers", "following", "tweets", "likes", "listed")
NOW = 1_800_000_000_000
ODD = "'); DROP TABLE x; -- \\ % _ \U0001f468‍\U0001f469‍\U0001f467 \u202e ÿ"


async def fill_users(users: UserStores, exports: ExportStores, credentials: CredentialStores) -> None:
    """People with profiles, sessions, counts and words; some are gone, suspended or erased. Keys, exports, mails that
    wait, tokens, proven addresses, attempts, second factors.
    """
    chance = random.Random("users")
    for person in PEOPLE:
        await exports.person(person, f"Person_{person}")
        changes: dict[str, str | bool | int] = {"description": f"I am {person} {ODD}", "protected": person % 5 == 0}
        if person % 3 == 0:
            changes |= {
                "url": "https://example.org/a?b=c",
                "language": "pt-BR",
                "country": "BR",
                "pinned_tweet_id": person,
            }
        await users.users.update(person, changes, UserProfileChanged(user_id=person))
    await users.users.apply_counts(
        [CountChange(person, count, chance.randrange(1000), 7) for person in PEOPLE for count in COUNTS]
    )
    for number in range(25):
        person = chance.choice(PEOPLE)
        session = Session(chance.randbytes(16), person, chance.randbytes(32), NOW + number, NOW * 2)
        await users.sessions.add(session, f"hash of Person_{person}")
    for number in range(3):
        secret = None if number else b"s" * 32
        client = Client(f"client{number}", number + 1, ODD, secret, ("https://a/", "b:c"), f"k{number}", ODD, NOW)
        await users.clients.add_client(client, 20)
        for kind in (PAGE, CODE, REQUEST):
            grant = Grant(chance.randbytes(32), kind, client.id, 7, "https://a/", "tweet.read", ODD, ODD, NOW * 2)
            await users.clients.add_grant(grant)
        session = Session(chance.randbytes(16), 7, b"", NOW, NOW * 2, client.id, "tweet.read", ODD)
        await users.clients.add_session(session)
        await users.roles.set_role(number + 10, "moderator", True)
    await users.users.suspend(3, suspended=True)
    await users.users.deactivate(4, "hash of Person_4", NOW)
    for number in range(3):
        await users.keys.add_signing_key(SigningKey(f"kid{number}", "{}", NOW + number), unless_since_ms=NOW * 2)
    letters = await credentials.letters(NOW, count=8)
    for letter in letters[:4]:
        await credentials.mails.done(letter.user_id, letter.kind)
        await credentials.mails.verify(letter.token or b"", NOW)
    await credentials.mails.request_reset(b"one that waits", "nobody@example.org", NOW)
    for number in range(12):
        attempt = Attempt(chance.randbytes(8), b"name %d" % (number % 5), b"here", b"address", number)
        begun = {"now_ms": NOW + number, "known_since_ms": 0}
        await credentials.attempts.begin(attempt, Backoff(9, NOW), Backoff(9, NOW), **begun)
        if number % 4 == 1:
            await credentials.attempts.succeed(attempt, number, now_ms=NOW)
    for person in range(1, 9):
        await credentials.second_factors.enrol(person, chance.randbytes(40))
    sealed = await credentials.second_factors.factor(8)
    assert sealed is not None
    await credentials.second_factors.confirm(8, sealed.secret, 77, [b"code %d" % n for n in range(10)], NOW)
    await exports.ready(10, 1, now_ms=NOW, expires_ms=NOW * 2)
    await exports.exports.begin(11, 2, finished_after_ms=0)
    await exports.exports.erase(6, UserErased(user_id=6), until_ms=NOW * 2)


async def fill_graph(graph: GraphStores, lists: ListStores) -> None:
    """Follows, requests, blocks, mutes; lists with members, followers and pins, of which some are gone or switched and
    not settled yet."""
    chance = random.Random("graph")
    number = 1_000
    for _ in range(150):
        one, other = chance.sample(PEOPLE, 2)
        number += 1
        does = chance.choices(
            (graph.graph.follow, graph.graph.request, graph.graph.mute, graph.graph.block, graph.graph.accept),
            (12, 4, 3, 1, 2),
        )[0]
        with suppress(MeshError):  # across a block
            await does(one, other, number)
    for person in PEOPLE:
        await graph.graph.mark_seen(person, NOW + person)
    for list_id in range(1, 8):
        owner = chance.choice(PEOPLE)
        made = PeopleList(list_id, owner, f"List {list_id}", ODD, list_id % 4 == 0, 0, 0)
        await lists.lists.create(made, f"request {list_id}" if list_id % 2 else "")
        for person in PEOPLE:
            number += 1
            with suppress(MeshError):  # across a block, or another's private list
                if chance.random() < 0.4:
                    await lists.lists.add_member(list_id, owner, person, number)
                if chance.random() < 0.3:
                    await lists.lists.follow_list(list_id, person, number)
                if chance.random() < 0.1:
                    await lists.lists.pin(list_id, person, number)
        if list_id % 5 == 0:
            await lists.lists.delete(list_id, owner)
        elif list_id % 3 == 0:
            await lists.lists.update(list_id, owner, name=None, description=None, private=list_id % 4 != 0)


async def fill_tweets(stores: TweetStores, remains: Remains) -> None:
    """Tweets, answers, quotes, retweets, polls with votes, likes, bookmarks; some deleted, some with a person taken
    out. What they count is not added up yet, but for the first half."""
    chance = random.Random("tweets")
    there: list[StoredTweet] = []
    for number in range(1, 71):
        author = chance.choice(PEOPLE)
        about = chance.choice(there) if there else None
        new = StoredTweet(
            number * 1_000, author, f"Number {number} {ODD}", lang="en", possibly_sensitive=number % 7 == 0
        )
        members: dict[str, object] = {}
        mentioned: set[int] = set()
        poll = None
        kind = chance.randrange(6) if about is not None else 0
        if about is not None and kind == 1:
            members = {
                "in_reply_to_tweet_id": about.id,
                "in_reply_to_user_id": about.author_id,
                "conversation_id": about.conversation_id,
            }
            mentioned = {about.author_id} - {author}
        elif about is not None and kind == 2:
            members = {"quoted_id": about.id}
        elif about is not None and kind == 3 and not about.retweeted_id:
            members = {"retweeted_id": about.id, "retweeted_author_id": about.author_id, "text": f"RT {about.text}"}
        elif kind == 4:
            other = chance.choice(PEOPLE)
            entities = TweetEntities(mentions=[MentionEntity(start=0, end=2, username=f"p{other}", id=other)])
            members = {"entities": entities.SerializeToString()}
            mentioned = {other} - {author}
        elif kind == 5:
            poll = StoredPoll(new.id + 1, new.id, 60, NOW * 2, (Choice(1, "yes"), Choice(2, "no")))
            members = {"poll_id": poll.id}
        made = StoredTweet(**{**{name: getattr(new, name) for name in new.__slots__}, **members})  # type: ignore[arg-type]
        with suppress(MeshError):  # what it repeats was deleted
            request = f"request {number}" if number % 3 else ""
            there.append(await stores.tweets.create(made, request, mentioned, poll))
        for _ in range(4):
            tweet = chance.choice(there)
            with suppress(MeshError):  # deleted
                mark = chance.choice((Mark.LIKE, Mark.LIKE, Mark.BOOKMARK))
                await stores.tweets.mark(
                    mark, chance.choice(PEOPLE), tweet.id, number * 1_000 + chance.randrange(1_000)
                )
            if tweet.poll_id:
                with suppress(MeshError):
                    await stores.polls.vote(tweet.poll_id, chance.choice(PEOPLE), chance.randint(1, 2), NOW)
        if number % 9 == 0:
            gone = chance.choice(there)
            await stores.tweets.delete(gone.id, gone.author_id)
            await stores.tweets.purge(gone.id, 3)  # a part: the rest follows by the event
        if number in (20, 40):
            while (await stores.counts.apply(100)).changes:
                pass
    await stores.counts.add_impressions({tweet.id: 3 for tweet in there[:50]})
    for tweet_id in await remains.pointing(7, 100):
        await remains.relink(tweet_id, 7)


async def fill_moderation(store: ModerationStore) -> None:
    """Cases that wait, are claimed and closed, reports, decisions, appeals, posts that were not published, a scan."""
    chance = random.Random("moderation")
    for number in range(30):
        reasons = tuple(chance.sample((Reason.SPAM, Reason.TOXICITY, Reason.UNCHECKED, Reason.VIRAL), 2))
        tweet, author = 500 + number % 20 * (number % 5 > 0), chance.choice(PEOPLE)
        await store.open(10 + number, Finding(tweet if number % 5 else 0, author, reasons, number * 30, number))
        report = Report(100 + number, chance.choice(PEOPLE), tweet, 0, "spam", ODD)
        await store.report(200 + number, report, author)
    for case in await store.claim(101, 12, now_ms=NOW, until_ms=NOW * 2):
        action = chance.choice((Action.KEEP, Action.SUSPEND, Action.RESTORE))
        await store.decide(case.id, 1_000 + case.id, action, 101, ODD, now_ms=NOW)
        with suppress(MeshError):
            await store.appeal(1_000 + case.id, case.author_id, ODD, 2_000 + case.id)
    for decision in await store.to_do(3):
        await store.carried_out(decision.id, "done")
    await store.claim(102, 3, now_ms=NOW, until_ms=NOW * 2)
    await store.blocked(5_000, 3, [Reason.LINK])
    scan = await store.begin_scan(6_000, 101)
    await store.advance(scan, [(6_001, Finding(900, 4, (Reason.SCAN,)))], 900, 10)
