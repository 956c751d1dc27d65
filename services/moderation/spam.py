"""How much of spam a post has: by what it holds and by what its author, and others, posted just before.

What was posted is remembered in the cache store as bits (simhash.py), with times, for an hour; no text is, and no
id. A post that is checked costs one trip there. Without the cache store nobody can say, and the check fails.

Spam needs signals of both kinds: something in the post (links in bad form, words of advertising, many people or
hashtags), and something in what was done (many posts, the same again, the same by many). One kind alone never makes a
post spam, however strong: people who post fast, repeat themselves or advertise once are people.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh.cache.keys import owned
from mesh.cache.store import CacheStore, Command, Script
from mesh.ids import ms_of_id
from services.moderation.disguise import skeleton
from services.moderation.links import links_of
from services.moderation.models.base import ModelError
from services.moderation.post import Post
from services.moderation.simhash import bands, near, simhash

FILE = Path(__file__).with_name("models") / "spam.json"
POSTED_PREFIX = "posted:1:"
"""An author's last posts, `ms:bits` each."""
SIMILAR_PREFIX = "similar:1:"
"""Who posted something with these bits in a band lately, `author:bits` each."""
_KEPT, _KEPT_S = 32, 3_600
_CROWD, _CROWD_S = 16, 600
_WINDOW_MS = 600_000
_CROWD_LENGTH = 24  # code points; many people say "good morning" on the same morning
_ONE_KIND = 0.5  # the most that signals of one kind make
_PROMO = re.compile(
    r"\b(?:free|win(?:ner|ning)?|won|prize|giveaway|claim|bonus|discount|offer|deal|promo(?:tion)?|cheap|buy|sale"
    r"|order now|click|subscribe|follow back|followers?|crypto|bitcoin|btc|eth|nft|token|airdrop|invest(?:ment)?"
    r"|profit|earn|income|cash|loan|casino|betting|jackpot|guaranteed?|limited time|act now|hurry|dm me|whatsapp"
    r"|telegram|link in bio|work from home|passive|double your|100%|risk[- ]free|wallet|seed phrase|gift ?card)\b"
)
_TAG = re.compile(r"(?<!\w)[#$]\w")

# The newest first. What is remembered is written before it is read: two posts at once see each other.
_REMEMBER = Script("""
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('LRANGE', KEYS[1], 1, -1)
""")


@dataclass(frozen=True, slots=True)
class Signals:
    """What can be told of a post, all within 0 and 1."""

    rate: float = 0.0
    """Posts of the author in the last 10 minutes: 0 for none, 1 for 60, logarithmic."""
    repeats: float = 0.0
    """Posts of the author in the last hour that are nearly the same, of 10."""
    crowd: float = 0.0
    """Others who posted nearly the same in the last 10 minutes, of 10."""
    young: float = 0.0
    """1 for an account of now, a third for one of a day."""
    doubt: float = 0.0
    """How much the form of its worst link tells against it (links.py)."""
    links: float = 0.0
    """Links, of 4."""
    promo: float = 0.0
    """Words of advertising, of 4."""
    people: float = 0.0
    """People mentioned beyond 2, of 8."""
    tags: float = 0.0
    """Hashtags and cashtags beyond 3, of 8."""
    capitals: float = 0.0
    """Share of capital letters, of 10 letters or more."""

    @property
    def by_content(self) -> bool:
        """Whether something in the post is a signal."""
        return self.doubt >= 0.4 or self.promo >= 0.5 or self.people >= 0.375 or self.tags >= 0.375

    @property
    def by_conduct(self) -> bool:
        """Whether something in what was done is."""
        return self.rate >= rate_of(10) or self.repeats >= 0.3 or self.crowd >= 0.3


def rate_of(posts: int) -> float:
    """The signal of so many posts in 10 minutes."""
    return min(math.log1p(posts) / math.log1p(60), 1.0)


def content_of(post: Post) -> Signals:
    """The signals in a post itself."""
    found = links_of(post.text, post.urls)
    letters = [sign for sign in post.words if sign.isalpha()]
    return Signals(
        doubt=max((link.doubt for link in found), default=0.0),
        links=min(len(found), 4) / 4,
        promo=min(len(_PROMO.findall(skeleton(post.text))), 4) / 4,
        people=min(max(post.mentions - 2, 0), 8) / 8,
        tags=min(max(len(_TAG.findall(post.text)) - 3, 0), 8) / 8,
        capitals=sum(sign.isupper() for sign in letters) / len(letters) if len(letters) >= 10 else 0.0,
    )


def with_conduct(content: Signals, *, posts: int, repeats: int, crowd: int, age_hours: float) -> Signals:
    """Those, and the signals in what was done."""
    return Signals(
        **{
            **asdict(content),
            "rate": rate_of(posts),
            "repeats": min(repeats, 10) / 10,
            "crowd": min(crowd, 10) / 10,
            "young": math.exp(-max(age_hours, 0.0) / 24),
        }
    )


class SpamModel:
    """Logistic regression over the signals; scripts/spam_model.py makes its weights.

    Args:
        bias: of the sum.
        weights: of each signal.
    """

    def __init__(self, bias: float, weights: Mapping[str, float]) -> None:
        if weights.keys() != set(Signals.__slots__):
            raise ModelError("the weights are not those of the signals")
        self._bias = bias
        self._weights = dict(weights)

    @classmethod
    def load(cls, path: Path = FILE) -> SpamModel:
        """From its file. Raises ModelError."""
        try:
            read = json.loads(path.read_text())
            return cls(float(read["bias"]), {name: float(weight) for name, weight in read["weights"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}") from error

    def score(self, signals: Signals) -> float:
        """0 to 1; signals of one kind alone stay below what limits a post."""
        total = self._bias + sum(weight * getattr(signals, name) for name, weight in self._weights.items())
        score = 1.0 / (1.0 + math.exp(-total))
        return score if signals.by_content and signals.by_conduct else min(score, _ONE_KIND)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Spam:
    """Says how much of spam a post has.

    Args:
        cache: where posts are remembered.
        model: weighs the signals.
        key: under which people are remembered; nobody's id is.
        now_ms: the time.
    """

    def __init__(self, cache: CacheStore, model: SpamModel, key: bytes, now_ms: Callable[[], int] = _now_ms) -> None:
        self._cache = cache
        self._key = hashlib.blake2b(key, digest_size=32, person=b"rookery-spam").digest()
        self._model = model
        self._now_ms = now_ms

    async def score(self, post: Post) -> float:
        """0 to 1. Remembers the post. Raises CacheGone."""
        return self._model.score(await self.signals(post))

    def content(self, post: Post) -> float:
        """What a post that is there makes by itself, without what was done: for scans."""
        return self._model.score(content_of(post))

    def _alias(self, author_id: int) -> int:
        """Who that is, for an hour, to nobody without the key: an erased person leaves no id here."""
        digest = hashlib.blake2b(author_id.to_bytes(8, "big"), key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    async def signals(self, post: Post) -> Signals:
        """All of them. Remembers the post. Raises CacheGone."""
        now, bits = self._now_ms(), simhash(post.text)
        me = self._alias(post.author_id)
        mine = owned(POSTED_PREFIX, me)
        commands: list[Command] = [_REMEMBER.on([mine], b"%d:%d" % (now, bits), _KEPT, _KEPT_S)]
        if len(post.words) >= _CROWD_LENGTH and bits:
            entry = b"%d:%d" % (me, bits)
            commands += [
                _REMEMBER.on([f"{SIMILAR_PREFIX}{place}.{part}"], entry, _CROWD, _CROWD_S)
                for place, part in enumerate(bands(bits))
            ]
        before, *others = await self._cache.exchange(commands)
        posts = [(time_ms, other) for time_ms, other in _pairs(before) if now - time_ms < _KEPT_S * 1000]
        crowd = {author for found in others for author, other in _pairs(found) if author != me and near(bits, other)}
        return with_conduct(
            content_of(post),
            posts=sum(now - time_ms < _WINDOW_MS for time_ms, _ in posts),
            repeats=sum(bool(bits) and near(bits, other) for _, other in posts),
            crowd=len(crowd),
            age_hours=(now - ms_of_id(post.author_id)) / 3_600_000,
        )


def _pairs(entries: Sequence[bytes]) -> list[tuple[int, int]]:
    found = (entry.split(b":") for entry in entries)
    return [(int(first), int(second)) for first, second in found]
