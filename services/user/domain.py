"""Rules about people, with no I/O."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from rookery.api.v2.user_pb2 import User, UserEntities, UserPublicMetrics
from rookery.events.v1.user_events_pb2 import (
    USER_STATE_ACTIVE,
    USER_STATE_DEACTIVATED,
    USER_STATE_SUSPENDED,
    UserState,
    UserStateChanged,
)

from mesh.cache.records import VERSION_BYTES
from mesh.errors import Unauthenticated
from mesh.ids import rfc3339_of_id
from views.record import USER, person_facts

PARSED = 2
"""Number of the rules by which words and entities of profiles are made. With another number all are made again."""
GRACE_MS = 30 * 86_400_000
"""How long a deactivated account can be had back: 30 days, as the X help centre has it."""
RETRY_MS = 30_000
"""How long a refresh token that was just spent is good for once more: whoever lost the answer asks again."""
_SESSION_BYTES = 16
# ISO 3166-1 alpha-2, the codes that are assigned to a country or territory (iso.org/iso-3166-country-codes.html).
_COUNTRY_CODES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA"
    " CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA"
    " GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP"
    " KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS"
    " MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS"
    " RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW"
    " TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)
_COUNTRIES = frozenset(_COUNTRY_CODES.split())
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Person:
    """One row of `users`, without what only signing in reads."""

    id: int
    """Snowflake id."""
    username: str
    """As written."""
    name: str
    """The name shown."""
    description: str
    """Up to 160 characters."""
    location: str
    """Up to 30 characters."""
    url: str
    """Empty, or an http(s) address."""
    protected: bool
    """Whether only accepted followers see the tweets."""
    verified: bool
    """Whether the account is verified."""
    followers_count: int
    """People who follow this one."""
    following_count: int
    """People whom this one follows."""
    tweet_count: int
    """Tweets of all kinds."""
    like_count: int
    """Likes given."""
    listed_count: int
    """Public lists that this one is on."""
    pinned_tweet_id: int
    """The tweet shown first on the profile; 0 for none."""
    language: str
    """Language tag, or empty; for the person only."""
    country: str
    """Two capital letters (ISO 3166-1), or empty; for the person only."""
    entities: bytes
    """rookery.api.v2.UserEntities of `description` and `url`, serialised; empty for none."""
    deactivated_ms: int
    """Since when the person wants to be gone, Unix milliseconds; 0 for not."""
    suspended: bool
    """Whether an operator took the account away."""
    version: int
    """Number of the last change."""

    @property
    def state(self) -> UserState.ValueType:
        """What the account is; a suspension hides a deactivation."""
        if self.suspended:
            return USER_STATE_SUSPENDED
        return USER_STATE_DEACTIVATED if self.deactivated_ms else USER_STATE_ACTIVE

    @property
    def active(self) -> bool:
        """Whether others see the account."""
        return self.state == USER_STATE_ACTIVE


@dataclass(frozen=True, slots=True)
class CountChange:
    """A count of one person as another service has it: absolute, and numbered by its writer."""

    user_id: int
    """Whose."""
    count: str
    """followers, following, tweets, likes or listed."""
    value: int
    """How many now."""
    version: int
    """Number of the change; a lower one is older."""


def fold(name: str) -> str:
    """The form in which usernames and e-mail addresses are compared."""
    return name.strip().casefold()


def country_of(code: str) -> str | None:
    """A country's code as it is stored, empty for empty; None for what is none."""
    capitals = code.upper()
    known = not code or (code.isascii() and capitals in _COUNTRIES)  # one character may have two capitals: ß
    return capitals if known else None


def state_changed(person: Person) -> UserStateChanged:
    """The event that tells what the account is now."""
    return UserStateChanged(user_id=person.id, state=person.state)


def to_be_erased(person: Person, now_ms: int) -> bool:
    """Whether the account was deactivated so long ago that nobody can have it back."""
    return bool(person.deactivated_ms) and person.deactivated_ms + GRACE_MS <= now_ms


def resource(person: Person) -> User:
    """The public resource."""
    return User(
        id=person.id,
        name=person.name,
        username=person.username,
        created_at=rfc3339_of_id(person.id),
        description=person.description,
        location=person.location or None,
        url=person.url or None,
        pinned_tweet_id=person.pinned_tweet_id or None,
        pinned_post_id=person.pinned_tweet_id or None,
        protected=person.protected,
        verified=person.verified,
        verified_type="none",
        entities=UserEntities.FromString(person.entities) if person.entities else None,
        public_metrics=UserPublicMetrics(
            followers_count=person.followers_count,
            following_count=person.following_count,
            tweet_count=person.tweet_count,
            post_count=person.tweet_count,
            listed_count=person.listed_count,
            like_count=person.like_count,
        ),
    )


def record(person: Person) -> bytes:
    """The read-model record; of an account that is not active the version alone, which says that there is nobody.

    It is no tombstone: a later version replaces it.
    """
    if not person.active:
        return person.version.to_bytes(VERSION_BYTES, "big")
    return USER.encode(resource(person), version=person.version, facts=person_facts(protected=person.protected))


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """`<session id><secret>`, hex. The store knows the secret's SHA-256 only (it has 256 random bits)."""

    session_id: bytes
    """Names the session; random, so that nobody can end another's by guessing."""
    secret: bytes
    """Proves that the bearer had the last answer."""

    @classmethod
    def fresh(cls, session_id: bytes | None = None) -> RefreshToken:
        """A new one, of a new session or the next of an old one."""
        return cls(session_id or secrets.token_bytes(_SESSION_BYTES), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> RefreshToken:
        """Reads one. Raises Unauthenticated for anything else."""
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) != _SESSION_BYTES + _SECRET_BYTES:
            raise Unauthenticated("The refresh token is not valid.", reason="INVALID_REFRESH_TOKEN")
        return cls(raw[:_SESSION_BYTES], raw[_SESSION_BYTES:])

    @property
    def hash(self) -> bytes:
        """What the store keeps of it."""
        return hashlib.sha256(self.secret).digest()

    def __str__(self) -> str:
        return (self.session_id + self.secret).hex()
