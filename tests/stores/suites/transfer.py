"""What every store does as an end of a copy."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from mesh.errors import Unavailable
from mesh.transfer.base import EVENTS, Holder, Kind, Page, Record, Transfer, TransferError
from mesh.transfer.comparing import compare
from mesh.transfer.copying import copy

LEAVES = {"users": "signing_keys", "graph": "mutes", "tweets": "bookmarks", "moderation": "reports"}
"""Of each port a kind whose records nothing refers to."""


class Silent:
    """A Watcher whom nobody looks at."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None, int]] = []
        """Each phase: name, records in all, and those that were told."""

    @contextmanager
    def phase(self, name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        """See Watcher."""
        self.phases.append((name, total, done))

        def advance(count: int) -> None:
            self.phases[-1] = (name, total, self.phases[-1][2] + count)

        yield advance


class Wrapped:
    """A Transfer that hands everything on."""

    def __init__(self, inner: Transfer) -> None:
        self.inner = inner

    @property
    def kinds(self) -> Sequence[Kind]:
        return self.inner.kinds

    async def holders(self) -> Sequence[Holder]:
        return await self.inner.holders()

    async def settle(self) -> None:
        await self.inner.settle()

    async def count(self, kind: Kind) -> int | None:
        return await self.inner.count(kind)

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        return await self.inner.read(kind, after, limit)

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        await self.inner.write(kind, records)

    async def progress(self) -> str:
        return await self.inner.progress()

    async def save(self, progress: str) -> None:
        await self.inner.save(progress)

    async def finish(self) -> None:
        await self.inner.finish()

    async def clear(self) -> None:
        await self.inner.clear()

    async def close(self) -> None:
        await self.inner.close()


class Killed(BaseException):
    """The process is gone."""


class Mortal(Wrapped):
    """A target whose writer is killed before, within or after one of its next calls."""

    def __init__(self, inner: Transfer, chance: random.Random) -> None:
        super().__init__(inner)
        self._chance = chance
        self._left = chance.randint(1, 12)

    async def write(self, kind: Kind, records: Sequence[Record]) -> None:
        self._left -= 1
        if self._left <= 0:
            await self.inner.write(kind, records[: self._chance.randint(0, len(records))])
            raise Killed
        await self.inner.write(kind, records)

    async def save(self, progress: str) -> None:
        self._left -= 1
        if self._left <= 0:
            if self._chance.random() < 0.5:
                await self.inner.save(progress)
            raise Killed
        await self.inner.save(progress)

    async def finish(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise Killed
        await self.inner.finish()


class Unfinished(Wrapped):
    """A target whose writer is killed at the very end."""

    async def finish(self) -> None:
        raise Killed


class Edited(Wrapped):
    """A store that has other records of a kind than it has."""

    def __init__(self, inner: Transfer, kind: str, edit: Callable[[Record], Sequence[Record]]) -> None:
        super().__init__(inner)
        self._kind = kind
        self._edit = edit

    async def read(self, kind: Kind, after: str, limit: int) -> Page:
        page = await self.inner.read(kind, after, limit)
        if kind.name != self._kind:
            return page
        return Page([new for record in page.records for new in self._edit(record)], page.after)


async def records_of(store: Transfer, kind: Kind) -> list[Record]:
    """All there are, in the store's order."""
    found: list[Record] = []
    after = ""
    while True:
        page = await store.read(kind, after, 50)
        found += page.records
        after = page.after
        if not after:
            return found


async def all_of(store: Transfer) -> dict[str, list[Record]]:
    """Everything, in an order of its own."""
    return {kind.name: sorted(await records_of(store, kind), key=repr) for kind in store.kinds}


def events_by_key(events: Sequence[Record]) -> dict[tuple[object, object], list[object]]:
    """Ids of events, in their order, by topic and key."""
    names = list(EVENTS.fields)
    found: dict[tuple[object, object], list[object]] = {}
    for record in events:
        one = dict(zip(names, record, strict=True))
        found.setdefault((one["topic"], one["key"]), []).append(one["event_id"])
    return found


class TransferSuite(ABC):
    """Subclass it in an adapter's test module, and say for which ports it is."""

    ports: tuple[str, ...]
    """Names of ports: `users`, `graph`, `tweets`."""
    page = 7
    """Records of a page: so few that there are pages of everything."""

    @abstractmethod
    def filled(self, port: str, folder: Path) -> AbstractAsyncContextManager[Transfer]:
        """A source with something of every kind."""

    @abstractmethod
    def empty(self, port: str, folder: Path) -> AbstractAsyncContextManager[Transfer]:
        """A target: an empty store of the adapter under test."""

    @abstractmethod
    def embedded(self, port: str, folder: Path) -> AbstractAsyncContextManager[Transfer]:
        """A target: an empty store on SQLite, for the way back."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test runs for each port."""
        if "port" in metafunc.fixturenames:
            metafunc.parametrize("port", self.ports)

    @asynccontextmanager
    async def ends(self, port: str, folder: Path) -> AsyncIterator[tuple[Transfer, Transfer]]:
        """A source and a target."""
        for name in ("source", "target", "back"):
            (folder / name).mkdir(exist_ok=True)
        async with self.filled(port, folder / "source") as source, self.empty(port, folder / "target") as target:
            yield source, target

    async def test_a_copy_has_everything_and_so_has_the_copy_back(self, port: str, tmp_path: Path) -> None:
        async with self.ends(port, tmp_path) as (source, target):
            watched = Silent()
            outcome = await copy(source, target, origin="a", watcher=watched, page=self.page)
            assert list(outcome.differences) == []
            assert not outcome.resumed
            there = await all_of(source)
            assert all(there.values()), "a kind has no records to be copied"
            assert await all_of(target) == there
            assert outcome.copied == sum(one.records for one in outcome.summaries) == sum(map(len, there.values()))
            for name, total, told in watched.phases:
                times = 2 if name.startswith("compare") else 1
                assert told == times * len(there[name.split()[1]])
                assert total in (None, told)
            assert await target.progress() == ""
            events = await records_of(source, EVENTS)
            assert events_by_key(await records_of(target, EVENTS)) == events_by_key(events)

            async with self.embedded(port, tmp_path / "back") as back:
                outcome = await copy(target, back, origin="b", watcher=Silent(), page=self.page)
                assert list(outcome.differences) == []
                assert await all_of(back) == there
                assert events_by_key(await records_of(back, EVENTS)) == events_by_key(events)

    async def test_a_copy_that_is_killed_again_and_again_ends_with_everything(self, port: str, tmp_path: Path) -> None:
        chance = random.Random(port)
        async with self.ends(port, tmp_path) as (source, target):
            deaths = 0
            while True:
                try:
                    outcome = await copy(
                        source, Mortal(target, chance), origin="a", watcher=Silent(), page=3 * self.page
                    )
                    break
                except Killed:
                    deaths += 1
                    assert deaths < 200
            assert deaths > 1
            assert outcome.resumed
            assert list(outcome.differences) == []
            assert await all_of(target) == await all_of(source)

    async def test_differences_are_found_and_named(self, port: str, tmp_path: Path) -> None:
        async with self.ends(port, tmp_path) as (source, target):
            await copy(source, target, origin="a", watcher=Silent(), page=self.page)
            for kind in source.kinds:
                records = await records_of(source, kind)
                one, other = records[0], records[-1]
                name = [field for field in kind.fields if field not in kind.key][-1:] or [kind.key[-1]]
                place = list(kind.fields).index(name[0])
                changed = (*one[:place], _another(one[place]), *one[place + 1 :])
                if len(records) > 1:
                    lacking = Edited(target, kind.name, lambda record, gone=other: () if record == gone else (record,))
                    _, told = await compare(source, lacking, kind, lambda _: None, self.page)
                    assert [(one.key, one.what) for one in told[1:]] == [(kind.key_of(other), "missing at the target")]
                    _, told = await compare(lacking, target, kind, lambda _: None, self.page)
                    assert [(one.key, one.what) for one in told[1:]] == [(kind.key_of(other), "only at the target")]
                    assert f"{len(records) - 1:,} at the source, {len(records):,} at the target" in str(told[0])
                if name[0] not in kind.key:
                    wrong = Edited(
                        target, kind.name, lambda record, old=one, new=changed: (new if record == old else record,)
                    )
                    _, told = await compare(source, wrong, kind, lambda _: None, self.page)
                    assert [(one.key, one.what) for one in told[1:]] == [(kind.key_of(one), f"differs in {name[0]}")]

    async def test_a_target_with_data_of_its_own_is_refused_and_keeps_it(self, port: str, tmp_path: Path) -> None:
        async with self.ends(port, tmp_path) as (source, target):
            kind = source.kinds[0]
            [first] = (await source.read(kind, "", 1)).records
            await target.write(kind, [first])
            with pytest.raises(TransferError, match=f"data of its own: there are {kind.name}"):
                await copy(source, target, origin="a", watcher=Silent())
            assert await records_of(target, kind) == [first]
            assert await target.progress() == ""

    async def test_a_copy_is_gone_on_with_only_from_the_same_source_and_begun_anew_when_asked(
        self, port: str, tmp_path: Path
    ) -> None:
        async with self.ends(port, tmp_path) as (source, target):
            kind = next(one for one in source.kinds if one.name == LEAVES[port])
            await source.settle()  # of which a copy is made
            records = sorted(await records_of(source, kind), key=repr)
            with pytest.raises(Killed):
                await copy(source, Unfinished(target), origin="a", watcher=Silent(), page=self.page)
            with pytest.raises(TransferError, match="unfinished copy of another source, a"):
                await copy(source, target, origin="b", watcher=Silent(), page=self.page)
            # A record that was deleted at the source meanwhile is found, and gone after beginning anew.
            without = Edited(source, kind.name, lambda record, gone=records[0]: () if record == gone else (record,))
            outcome = await copy(without, target, origin="a", watcher=Silent(), page=self.page)
            assert [one.what for one in outcome.differences if one.key] == ["only at the target"]
            assert await target.progress(), "nobody may use what is not the same"
            outcome = await copy(without, target, origin="a", watcher=Silent(), page=self.page, again=True)
            assert list(outcome.differences) == []
            assert sorted(await records_of(target, kind), key=repr) == records[1:]
            assert await target.progress() == ""

    async def test_a_source_that_does_not_answer_ends_a_copy_that_goes_on_later(
        self, port: str, tmp_path: Path
    ) -> None:
        class Away(Wrapped):
            async def read(self, kind: Kind, after: str, limit: int) -> Page:
                if after:
                    raise Unavailable("gone")
                return await self.inner.read(kind, after, limit)

        async with self.ends(port, tmp_path) as (source, target):
            with pytest.raises(Unavailable):
                await copy(Away(source), target, origin="a", watcher=Silent(), page=self.page)
            outcome = await copy(source, target, origin="a", watcher=Silent(), page=self.page)
            assert outcome.resumed
            assert list(outcome.differences) == []


def _replaced(old: Record, new: Record, record: Record) -> Sequence[Record]:
    return (new if record == old else record,)


def _another(value: object) -> int | str | bytes | bool:
    """Not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return b"another" if isinstance(value, bytes) else "another"
