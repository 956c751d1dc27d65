"""A crowd of clients at the edge of a mesh: they post, read, follow and register, and remember what they were told.

Each is a client as the API's documentation asks for one: what was refused with 503 or 504, timed out or was cut off is
sent again, with the same `request_id`, after a pause that grows. Whatever a person was told (201, 200) is kept, for the
oracle (tests/faults/oracle.py) to compare with what the mesh says at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.clients import client_of

PEOPLE = 12
STEADY = 4
"""Whom each person follows all the time; everybody's next ones in a ring."""
PASSWORD = "correct horse battery"
RETRIED = frozenset({502, 503, 504})
BUDGET_S = 25.0
"""For how long a client tries again."""
_REQUEST_S = 5.0
_WARM_S = 1.0  # for six acts, one after the other


@dataclass(frozen=True, slots=True)
class Person:
    """One account of the crowd."""

    id: int
    username: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Signs a request."""
        return {"authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Try:
    """One request, or one try of several."""

    kind: str
    """post, read, follow, register, login."""
    began: float
    """Monotonic."""
    seconds: float
    outcome: str
    """Status, or the name of the transport's error."""

    @property
    def ended(self) -> float:
        """Monotonic."""
        return self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Accepted:
    """A post whose author was told 201."""

    id: int
    author: int
    text: str
    first_try: float
    """When its author began, monotonic."""
    at: float
    """When its author was told, monotonic."""
    tries: int

    @property
    def seconds(self) -> float:
        """What its author waited in all."""
        return self.at - self.first_try


@dataclass(frozen=True, slots=True)
class Page:
    """A home timeline's newest page as somebody saw it."""

    viewer: int
    began: float
    ended: float
    ids: tuple[int, ...]


@dataclass
class Record:
    """All that the crowd was told."""

    tries: list[Try] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Texts that were refused for good, and how."""
    given_up: list[str] = field(default_factory=list)
    """Texts whose author's patience ended: whether they are there is open."""
    pages: list[Page] = field(default_factory=list)
    registered: dict[str, int] = field(default_factory=dict)
    """Names that were registered meanwhile, and the tries it took."""

    def failures(self, since: float = 0.0) -> list[Try]:
        """Tries that were not answered with success."""
        return [one for one in self.tries if one.began >= since and not one.outcome.startswith("2")]

    def outcomes(self, since: float = 0.0) -> dict[str, int]:
        """How often each kind of failure was seen."""
        return dict(Counter(f"{one.kind} {one.outcome}" for one in self.failures(since)))

    def report(self, name: str, since: float, trouble: float, back: float) -> str:
        """One line for people.

        Args:
            name: of the fault.
            since: when the load began.
            trouble: when the fault began.
            back: when what was hit was back.
        """
        failed = self.failures(since)
        posts = [one for one in self.accepted if one.first_try >= since]
        stall = max((one.seconds for one in posts), default=0.0)
        slowest = max((one.seconds for one in self.tries if one.began >= since), default=0.0)
        recovery = max((one.ended - back for one in failed if one.ended >= trouble), default=0.0)
        return (
            f"report: {name}: {len(posts)} posts accepted, {len(failed)} tries failed {self.outcomes(since) or ''},"
            f" slowest try {slowest:.2f} s, longest wait for a post {stall:.2f} s,"
            f" last failure {recovery:+.2f} s from its return"
        )


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Crowd:
    """People, their graph and their clients.

    Args:
        url: the edge.
    """

    pause_s = 1.0
    """Between one person's actions of a kind."""

    def __init__(self, url: str) -> None:
        self._client = client_of(url, timeout=_REQUEST_S)
        self.people: list[Person] = []
        self.record = Record()
        self._chance = random.Random(7)
        self._texts = 0

    async def gather(self) -> None:
        """Registers everybody; each follows the next `STEADY` in a ring."""
        self.people = list(await asyncio.gather(*(self._register(f"bird{i}") for i in range(PEOPLE))))
        await asyncio.gather(
            *(self._follow(person, other) for person in self.people for other in self.followed_by(person))
        )

    def followed_by(self, person: Person) -> list[Person]:
        """Whom a person follows all the time."""
        at = self.people.index(person)
        return [self.people[(at + step) % PEOPLE] for step in range(1, STEADY + 1)]

    async def close(self) -> None:
        """Ends all connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Everybody acts inside the block. After it nobody begins anything new; what was begun is carried through."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for person in self.people:
                group.create_task(self._posts(person, stop))
                group.create_task(self._reads(person, stop))
            for person in self.people[:4]:
                group.create_task(self._wavers(person, stop))
            group.create_task(self._registers(stop))
            try:
                yield
            finally:
                stop.set()

    async def posted(self, count: int, deadline_s: float = 20.0) -> None:
        """Waits until `count` more posts were accepted. Raises TimeoutError when they are not."""
        until = len(self.record.accepted) + count
        async with asyncio.timeout(deadline_s):
            while len(self.record.accepted) < until:  # noqa: ASYNC110 -- clients act in tasks of their own
                await asyncio.sleep(0.02)

    async def send(
        self, kind: str, method: str, path: str, *, person: Person | None = None, **more: object
    ) -> httpx.Response | None:
        """One try; None when no answer came."""
        began = time.monotonic()
        try:
            answer = await self._client.request(
                method,
                path,
                headers=person.headers if person else None,
                **more,  # type: ignore[arg-type]
            )
        except httpx.TransportError as error:
            self.record.tries.append(Try(kind, began, time.monotonic() - began, type(error).__name__))
            return None
        self.record.tries.append(Try(kind, began, time.monotonic() - began, str(answer.status_code)))
        return answer

    async def insist(
        self, kind: str, method: str, path: str, *, person: Person | None = None, **more: object
    ) -> tuple[httpx.Response | None, int]:
        """Tries until there is an answer that another try would not change: it, and the tries that it took."""
        until, pause, tries = time.monotonic() + BUDGET_S, 0.05, 0
        while True:
            tries += 1
            answer = await self.send(kind, method, path, person=person, **more)
            if (answer is not None and answer.status_code not in RETRIED) or time.monotonic() > until:
                return answer, tries
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)

    async def home(self, person: Person) -> list[int]:
        """All of a person's home timeline, page by page. Raises AssertionError for anything but 200."""
        ids: list[int] = []
        params: dict[str, str | int] = {"max_results": 100}
        for _ in range(10):
            answer, _ = await self.insist("check", "GET", _home_path(person), person=person, params=params)
            assert answer is not None and answer.status_code == 200, answer and answer.text
            body = answer.json()
            ids += [int(tweet["id"]) for tweet in body.get("data", [])]
            if "next_token" not in body["meta"]:
                return ids
            params["pagination_token"] = body["meta"]["next_token"]
        raise AssertionError("the timeline does not end")

    async def profiles(self) -> dict[int, Mapping[str, int]]:
        """Public metrics of everybody, by id."""
        ids = ",".join(str(person.id) for person in self.people)
        answer, _ = await self.insist(
            "check", "GET", "/2/users", person=self.people[0], params={"ids": ids, "user.fields": "public_metrics"}
        )
        assert answer is not None and answer.status_code == 200, answer and answer.text
        return {int(user["id"]): user["public_metrics"] for user in answer.json()["data"]}

    async def read_once(self, person: Person) -> httpx.Response | None:
        """One look at a home timeline; what was seen is kept."""
        began = time.monotonic()
        answer = await self.send("read", "GET", _home_path(person), person=person, params={"max_results": 100})
        if answer is not None and answer.status_code == 200:
            ids = tuple(int(tweet["id"]) for tweet in answer.json().get("data", []))
            self.record.pages.append(Page(person.id, began, time.monotonic(), ids))
        return answer

    async def post_once(self, person: Person) -> None:
        """One post, tried until it is accepted, refused, or patience ends."""
        self._texts += 1
        text = f"{person.username} sings {self._texts}"
        body = {"text": text, "request_id": str(uuid.uuid4())}
        began = time.monotonic()
        answer, tries = await self.insist("post", "POST", "/2/tweets", person=person, json=body)
        if answer is None or answer.status_code in RETRIED:
            self.record.given_up.append(text)
        elif answer.status_code == 201:
            made = int(answer.json()["data"]["id"])
            self.record.accepted.append(Accepted(made, person.id, text, began, time.monotonic(), tries))
        else:
            self.record.refused.append((text, f"{answer.status_code} {answer.text[:200]}"))

    async def _posts(self, person: Person, stop: asyncio.Event) -> None:
        while not await self._pause(stop):
            await self.post_once(person)

    async def _reads(self, person: Person, stop: asyncio.Event) -> None:
        while not await self._pause(stop):
            await self.read_once(person)

    async def _wavers(self, person: Person, stop: asyncio.Event) -> None:
        """Follows and unfollows somebody outside the steady graph; each change is carried through before the next."""
        other = self.people[(self.people.index(person) + STEADY + 2) % PEOPLE]
        while not await self._pause(stop):
            await self._follow(person, other)
            if await self._pause(stop):
                return
            path = f"/2/users/{person.id}/following/{other.id}"
            answer, _ = await self.insist("follow", "DELETE", path, person=person)
            assert answer is not None and answer.status_code == 200, answer and answer.text

    async def _follow(self, person: Person, other: Person) -> None:
        path = f"/2/users/{person.id}/following"
        answer, _ = await self.insist("follow", "POST", path, person=person, json={"target_user_id": str(other.id)})
        assert answer is not None and answer.status_code == 200, answer and answer.text

    async def _registers(self, stop: asyncio.Event) -> None:
        while not await self._pause(stop):
            name = f"late{uuid.uuid4().hex[:10]}"
            await self._register(name)

    async def _register(self, name: str) -> Person:
        """Registers. When an earlier try was carried out and its answer lost, the name is taken: by this very person,
        who signs in with the password that they chose."""
        body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "name": name}
        answer, tries = await self.insist("register", "POST", "/v1/auth/register", json=body)
        assert answer is not None, "nobody could register"
        if answer.status_code == 409 and tries > 1:
            login = {"username": name, "password": PASSWORD}
            answer, _ = await self.insist("login", "POST", "/v1/auth/login", json=login)
            assert answer is not None and answer.status_code == 200, answer and answer.text
        else:
            assert answer.status_code == 201, answer.text
        data = answer.json()["data"]
        self.record.registered[name] = tries
        return Person(int(data["user"]["id"]), name, data["access_token"])

    async def _pause(self, stop: asyncio.Event) -> bool:
        """Waits a moment; True when it is time to end."""
        try:
            async with asyncio.timeout(self.pause_s * self._chance.uniform(0.5, 1.5)):
                await stop.wait()
        except TimeoutError:
            return False
        return True


async def warmed(url: str, *, rounds: int = 20) -> None:
    """Uses a mesh until it is as quick as people are used to: engines that were started just now compile what they run.

    Args:
        url: the edge.
        rounds: of acts by everybody, at most.
    """
    crowd = Crowd(url)
    try:
        crowd.people = [await crowd._register(f"warm{number}") for number in range(2)]
        for _ in range(rounds):
            began = time.monotonic()
            for person, other in itertools.permutations(crowd.people):
                await crowd._follow(person, other)
                await crowd.post_once(person)
                await crowd.read_once(person)
            if time.monotonic() - began < _WARM_S:
                return
    finally:
        await crowd.close()


def _home_path(person: Person) -> str:
    return f"/2/users/{person.id}/timelines/reverse_chronological"
