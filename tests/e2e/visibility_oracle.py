"""What must show to whom: a model of people, relations and tweets, in plain Python, with no store and no cache.

Written from the product's rules, not from the services' code, and using none of it. `World` changes step by step; each
change says what the API has to answer, and afterwards the world can be asked for the content of every surface, for
every viewer.

The rules, in short. A tweet shows if its author does, and of a retweet the original's author too. An author shows to
themself and otherwise not if the account is gone, if either blocks the other, if it is protected and the viewer does
not follow it; on what comes to the viewer unasked (home, mentions, timelines of lists) not if it is muted either. What
does not show is as if it were not there: nothing hangs on it, nothing can be done with it.

Moderators may remove a tweet, which then shows to nobody, or limit it: then it shows only to its author, to who follows
the author, and to who asks for just this tweet. What it is repeated, quoted or answered by is not asking for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Pair = tuple[int, int]
"""(who, whom), numbers of people."""


@dataclass(eq=False)
class Tweet:
    """One tweet, reply, quote or retweet."""

    number: int
    """In the order of the story."""
    author: int
    answered: Tweet | None = None
    quoted: Tweet | None = None
    original: Tweet | None = None
    """What it repeats."""
    mentions: frozenset[int] = frozenset()
    deleted: bool = False
    reach: str = "open"
    """Or limited, or removed."""
    id: int = 0
    """As the API gave it; 0 until then."""

    @property
    def root(self) -> Tweet:
        """The beginning of its conversation."""
        return self.answered.root if self.answered else self

    @property
    def references(self) -> list[Tweet]:
        """What it points at."""
        return [one for one in (self.answered, self.quoted, self.original) if one]

    def __repr__(self) -> str:
        kind = "retweet" if self.original else "reply" if self.answered else "quote" if self.quoted else "tweet"
        return f"<{kind} {self.number} of {self.author}>"


@dataclass(eq=False)
class Collection:
    """One list of people."""

    number: int
    owner: int
    private: bool
    members: dict[int, int] = field(default_factory=dict)
    """Since when, by person."""
    id: int = 0

    def __repr__(self) -> str:
        return f"<list {self.number} of {self.owner}>"


class World:
    """All facts. People are numbers from 0."""

    def __init__(self, people: int) -> None:
        self.people = range(people)
        self.protected: set[int] = set()
        self.gone: set[int] = set()
        self.pinned: dict[int, Tweet] = {}
        self.follows: dict[Pair, int] = {}
        self.requests: dict[Pair, int] = {}
        self.blocks: dict[Pair, int] = {}
        self.mutes: dict[Pair, int] = {}
        self.tweets: list[Tweet] = []
        self.likes: dict[tuple[int, Tweet], int] = {}
        self.bookmarks: dict[tuple[int, Tweet], int] = {}
        self.repeats: dict[tuple[int, Tweet], Tweet] = {}
        """Retweets that are there, by who and what."""
        self.lists: list[Collection] = []
        self._clock = 0

    # --- rules

    def apart(self, one: int, other: int) -> bool:
        """Whether either blocks the other."""
        return (one, other) in self.blocks or (other, one) in self.blocks

    def shows_author(self, viewer: int, author: int, *, feed: bool = False) -> bool:
        """Whether a person's tweets show to a viewer at all."""
        if author in self.gone:
            return False
        if author == viewer:
            return True
        if self.apart(viewer, author):
            return False
        if author in self.protected and (viewer, author) not in self.follows:
            return False
        return not (feed and (viewer, author) in self.mutes)

    def shows(self, viewer: int, tweet: Tweet, *, feed: bool = False, asked: bool = False) -> bool:
        """Whether a tweet shows to a viewer, who has `asked` for just this one or not."""
        if tweet.deleted or tweet.reach == "removed" or not self.shows_author(viewer, tweet.author, feed=feed):
            return False
        near = tweet.author == viewer or (viewer, tweet.author) in self.follows
        if tweet.reach == "limited" and not asked and not near:
            return False
        return tweet.original is None or self.shows(viewer, tweet.original, feed=feed)

    def meets(self, viewer: int, person: int) -> bool:
        """Whether a person shows in lists of people."""
        return person not in self.gone and not self.apart(viewer, person)

    # --- surfaces

    def _newest(self, tweets: Iterable[Tweet]) -> list[Tweet]:
        return sorted(tweets, key=lambda tweet: tweet.id, reverse=True)

    def home(self, viewer: int) -> list[Tweet]:
        """The home timeline."""

        def belongs(tweet: Tweet) -> bool:
            if tweet.author == viewer:
                return True
            if (viewer, tweet.author) not in self.follows:
                return False
            if tweet.answered is None:
                return True
            whom = tweet.answered.author
            return whom in (viewer, tweet.author) or (viewer, whom) in self.follows

        return self._newest(t for t in self.tweets if belongs(t) and self.shows(viewer, t, feed=True))

    def posts(self, viewer: int, person: int) -> list[Tweet]:
        """A person's own tweets."""
        return self._newest(t for t in self.tweets if t.author == person and self.shows(viewer, t))

    def mentioning(self, viewer: int, person: int) -> list[Tweet]:
        """Tweets that mention a person or answer them directly, others' only."""
        if not self.shows_author(viewer, person):
            return []

        def concerns(tweet: Tweet) -> bool:
            answers = tweet.answered is not None and tweet.answered.author == person
            return tweet.author != person and (answers or person in tweet.mentions)

        return self._newest(t for t in self.tweets if concerns(t) and self.shows(viewer, t, feed=True))

    def conversation(self, viewer: int, tweet: Tweet) -> list[Tweet]:
        """All of the conversation that a tweet belongs to."""
        if not self.shows(viewer, tweet, asked=True):
            return []
        return self._newest(
            t for t in self.tweets if t.original is None and t.root is tweet.root and self.shows(viewer, t)
        )

    def quotes(self, viewer: int, tweet: Tweet) -> list[Tweet]:
        """Who quoted it, and how."""
        if not self.shows(viewer, tweet, asked=True):
            return []
        return self._newest(t for t in self.tweets if t.quoted is tweet and self.shows(viewer, t))

    def retweets(self, viewer: int, tweet: Tweet) -> list[Tweet]:
        """Retweets of a tweet, as tweets."""
        if not self.shows(viewer, tweet, asked=True):
            return []
        return self._newest(t for t in self.tweets if t.original is tweet and self.shows(viewer, t))

    def retweeters(self, viewer: int, tweet: Tweet) -> list[int]:
        """Who retweeted it, the newest first: protected people too."""
        if not self.shows(viewer, tweet, asked=True):
            return []
        found = self._newest(t for t in self.tweets if t.original is tweet and not t.deleted)
        return [t.author for t in found if self.meets(viewer, t.author)]

    def likers(self, viewer: int, tweet: Tweet) -> list[int]:
        """Who likes it, the newest first."""
        if not self.shows(viewer, tweet, asked=True):
            return []
        marks = sorted(((at, who) for (who, what), at in self.likes.items() if what is tweet), reverse=True)
        return [who for _, who in marks if self.meets(viewer, who)]

    def liked(self, viewer: int, person: int) -> list[Tweet]:
        """What a person likes, the newest like first."""
        if not self.shows_author(viewer, person):
            return []
        return self._marked(self.likes, viewer, person)

    def kept(self, viewer: int) -> list[Tweet]:
        """The viewer's bookmarks, the newest first."""
        return self._marked(self.bookmarks, viewer, viewer)

    def _marked(self, marks: dict[tuple[int, Tweet], int], viewer: int, person: int) -> list[Tweet]:
        of_person = sorted(
            ((at, what) for (who, what), at in marks.items() if who == person), key=lambda mark: -mark[0]
        )
        return [what for _, what in of_person if self.shows(viewer, what)]

    def followers(self, viewer: int, person: int) -> list[int]:
        """Who follows a person, the newest first."""
        return self._people(viewer, person, ((at, a) for (a, b), at in self.follows.items() if b == person))

    def following(self, viewer: int, person: int) -> list[int]:
        """Whom a person follows, the newest first."""
        return self._people(viewer, person, ((at, b) for (a, b), at in self.follows.items() if a == person))

    def _people(self, viewer: int, person: int, marks: Iterable[Pair]) -> list[int]:
        if not self.shows_author(viewer, person):
            return []
        return [who for _, who in sorted(marks, reverse=True) if self.meets(viewer, who)]

    def own_people(self, marks: dict[Pair, int], viewer: int) -> list[int]:
        """Whom the viewer blocks or mutes, or asks to follow: those that are there."""
        return [
            b
            for _, b in sorted(((at, b) for (a, b), at in marks.items() if a == viewer), reverse=True)
            if b not in self.gone
        ]

    def sees_list(self, viewer: int, made: Collection) -> bool:
        """Whether a list is there for a viewer."""
        return self.shows_author(viewer, made.owner) and (viewer == made.owner or not made.private)

    def owned(self, viewer: int, person: int) -> list[Collection]:
        """A person's lists, the newest first."""
        return [made for made in reversed(self.lists) if made.owner == person and self.sees_list(viewer, made)]

    def memberships(self, viewer: int, person: int) -> list[Collection]:
        """Lists that a person is on, the newest membership first."""
        if not self.shows_author(viewer, person):
            return []
        on = [made for made in self.lists if person in made.members and self.sees_list(viewer, made)]
        return sorted(on, key=lambda made: made.members[person], reverse=True)

    def members(self, viewer: int, made: Collection) -> list[int]:
        """Who is on a list, the newest first."""
        if not self.sees_list(viewer, made):
            return []
        return [
            who for who in sorted(made.members, key=made.members.__getitem__, reverse=True) if self.meets(viewer, who)
        ]

    def timeline(self, viewer: int, made: Collection) -> list[Tweet]:
        """The timeline of a list."""
        if not self.sees_list(viewer, made):
            return []
        return self._newest(t for t in self.tweets if t.author in made.members and self.shows(viewer, t, feed=True))

    def included(self, viewer: int, shown: Iterable[Tweet], *, feed: bool) -> tuple[set[Tweet], set[Tweet]]:
        """(shown, missing) of what tweets of an answer point at and the answer does not have already."""
        tweets = set(shown)
        wanted = {reference for tweet in tweets for reference in tweet.references} - tweets
        there = {tweet for tweet in wanted if self.shows(viewer, tweet, feed=feed)}
        return there, wanted - there

    # --- changes: each gives the status that the API must answer with

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def follow(self, who: int, whom: int) -> int:
        """Follows a public account, asks a protected one."""
        if whom in self.gone:
            return 404
        if self.apart(who, whom):
            return 403
        if (who, whom) in self.follows:
            return 200
        if whom in self.protected:
            self.requests.setdefault((who, whom), self._tick())
        else:
            self.requests.pop((who, whom), None)
            self.follows[who, whom] = self._tick()
        return 200

    def unfollow(self, who: int, whom: int) -> int:
        """Ends a follow, or withdraws the request."""
        self.follows.pop((who, whom), None)
        self.requests.pop((who, whom), None)
        return 200

    def accept(self, who: int, asking: int) -> int:
        """Accepts somebody's request."""
        if (asking, who) in self.follows:
            return 200
        if self.requests.pop((asking, who), None) is None:
            return 404
        self.follows[asking, who] = self._tick()
        return 200

    def decline(self, who: int, asking: int) -> int:
        """Declines somebody's request."""
        return 404 if self.requests.pop((asking, who), None) is None else 200

    def block(self, who: int, whom: int) -> int:
        """Blocks: what is between the two is cut, both ways."""
        if (who, whom) not in self.blocks:
            self.blocks[who, whom] = self._tick()
        for pair in ((who, whom), (whom, who)):
            self.follows.pop(pair, None)
            self.requests.pop(pair, None)
        for made in self.lists:
            for one, other in ((who, whom), (whom, who)):
                if made.owner == one:
                    made.members.pop(other, None)
        return 200

    def unblock(self, who: int, whom: int) -> int:
        """Ends a block; what it cut stays cut."""
        self.blocks.pop((who, whom), None)
        return 200

    def mute(self, who: int, whom: int) -> int:
        """Mutes."""
        if (who, whom) not in self.mutes:
            self.mutes[who, whom] = self._tick()
        return 200

    def unmute(self, who: int, whom: int) -> int:
        """Ends a mute."""
        self.mutes.pop((who, whom), None)
        return 200

    def protect(self, who: int, *, on: bool) -> int:
        """Makes an account protected or public. Followers and requests stay."""
        (self.protected.add if on else self.protected.discard)(who)
        return 200

    def post(self, tweet: Tweet) -> int:
        """A tweet, reply or quote; `quoted` may be a retweet, of which the original is quoted."""
        for target in (tweet.answered, tweet.quoted):
            if target is not None and not self.shows(tweet.author, target, asked=True):
                return 403
        if tweet.quoted is not None:
            tweet.quoted = tweet.quoted.original or tweet.quoted
            if not self.may_repeat(tweet.author, tweet.quoted):
                return 403
        self.tweets.append(tweet)
        return 201

    def may_repeat(self, who: int, tweet: Tweet) -> bool:
        """A protected person's tweets are repeated by nobody else."""
        return tweet.author == who or tweet.author not in self.protected

    def retweet(self, made: Tweet, named: Tweet) -> int:
        """Retweets a tweet, or the original of a retweet; twice is once."""
        if not self.shows(made.author, named, asked=True):
            return 404
        original = named.original or named
        if not self.may_repeat(made.author, original):
            return 403
        if (made.author, original) not in self.repeats:
            made.original = original
            self.repeats[made.author, original] = made
            self.tweets.append(made)
        return 200

    def unretweet(self, who: int, tweet: Tweet) -> int:
        """Takes a retweet back."""
        made = self.repeats.pop((who, tweet), None)
        if made is not None:
            made.deleted = True
        return 200

    def delete(self, tweet: Tweet) -> int:
        """Deletes a tweet, and with it its retweets, likes, bookmarks and pin."""
        tweet.deleted = True
        for (who, what), made in list(self.repeats.items()):
            if what is tweet or made is tweet:
                made.deleted = True
                del self.repeats[who, what]
        for marks in (self.likes, self.bookmarks):
            for mark in [mark for mark in marks if mark[1] is tweet]:
                del marks[mark]
        if self.pinned.get(tweet.author) is tweet:
            del self.pinned[tweet.author]
        return 200

    def moderate(self, tweet: Tweet, reach: str) -> int:
        """A moderator decides how far a tweet reaches."""
        tweet.reach = reach
        return 200

    def mark(self, marks: dict[tuple[int, Tweet], int], who: int, named: Tweet) -> int:
        """Likes or keeps a tweet, or the original of a retweet; twice is once."""
        if not self.shows(who, named, asked=True):
            return 404
        marks.setdefault((who, named.original or named), self._tick())
        return 200

    def unmark(self, marks: dict[tuple[int, Tweet], int], who: int, tweet: Tweet) -> int:
        """Takes it back."""
        marks.pop((who, tweet), None)
        return 200

    def pin(self, who: int, tweet: Tweet) -> int:
        """Pins one of one's own."""
        self.pinned[who] = tweet
        return 200

    def put_in(self, made: Collection, person: int) -> int:
        """The owner puts somebody into a list."""
        if self.apart(made.owner, person):
            return 403
        made.members.setdefault(person, self._tick())
        return 200

    def take_out(self, made: Collection, person: int) -> int:
        """The owner takes somebody out."""
        made.members.pop(person, None)
        return 200

    def leave(self, who: int) -> int:
        """Deactivates an account."""
        self.gone.add(who)
        return 200

    def come_back(self, who: int) -> int:
        """Logs in again within the 30 days."""
        self.gone.discard(who)
        return 200

    # --- counts

    def counts(self, tweet: Tweet) -> dict[str, int]:
        """Public counts of a tweet, whoever looks: rows that are there."""

        def rows(points: Callable[[Tweet], Tweet | None]) -> int:
            return sum(points(t) is tweet and not t.deleted for t in self.tweets)

        return {
            "retweet_count": rows(lambda t: t.original),
            "reply_count": rows(lambda t: t.answered),
            "quote_count": rows(lambda t: t.quoted),
            "like_count": sum(what is tweet for _, what in self.likes),
            "bookmark_count": sum(what is tweet for _, what in self.bookmarks),
        }
