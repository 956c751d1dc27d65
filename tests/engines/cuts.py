"""A Cassandra session that is cut off at its nth statement: the process died there, or was told something wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from mesh.db.cassandra import Cassandra
from mesh.errors import Unavailable


class DiedError(Exception):
    """Nothing catches this, and nothing works any more after it: as good as `kill -9` between two statements."""


DIES, REFUSED, TIMES_OUT = "dies", "is refused", "is done, and times out"
CUTS = (DIES, REFUSED, TIMES_OUT)
"""What happens at a statement. Who dies does so right after it: before it would be after the one before."""


class Cut:
    """Stands before a Cassandra; one call of it is one statement, or one batch.

    Args:
        db: carries the statements out.
        how: what happens, one of CUTS.
        at: at which statement, from 1 on; 0 for none.
    """

    def __init__(self, db: Cassandra, how: str = DIES, at: int = 0) -> None:
        self._db = db
        self._how = how
        self._at = at
        self.statements = 0
        """How many there were."""
        self.writes: set[int] = set()
        """Which of them were none that only read."""
        self._dead = False

    @property
    def as_cassandra(self) -> Cassandra:
        """For those who want one."""
        return cast(Cassandra, self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._db, name)
        if name not in ("rows", "execute", "many", "batch", "conditional"):
            return method

        async def cut(*args: Any, **more: Any) -> Any:
            writes = name != "rows" and not (name == "many" and more.get("reads", True))
            return await self._run(lambda: method(*args, **more), writes)

        return cut

    async def _run(self, statement: Callable[[], Awaitable[Any]], writes: bool) -> Any:
        if self._dead:
            raise DiedError
        self.statements += 1
        if writes:
            self.writes.add(self.statements)
        if self.statements != self._at:
            return await statement()
        self._dead = self._how == DIES
        if self._how != REFUSED:
            await statement()
        if self._dead:
            raise DiedError
        raise Unavailable("the database did not answer in time")
