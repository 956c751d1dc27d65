"""UserService.SearchUsers."""

from __future__ import annotations

from struct import Struct

from rookery.api.v2.envelope_pb2 import Meta
from rookery.user.v1.user_service_pb2 import SearchUsersRequest

from mesh.errors import InvalidArgument, Violation
from mesh.interceptors.viewer import require_reader
from mesh.paging import Cursors
from services.user.store.base import FoundWord, UserStore
from services.user.words import prefix_of
from views.plan import users_plan
from views.present import present_users
from views.shown import Views

_DEFAULT_PAGE = 100  # as the X API has it
_MAX_ROUNDS = 20  # as in mesh/paging.py: a page of people who are all blocked ends, too
_ID = Struct(">Q")


class SearchUsers:
    """Finds people by the beginnings of their names."""

    def __init__(self, store: UserStore, views: Views, cursors: Cursors) -> None:
        self._store = store
        self._views = views
        self._cursors = cursors

    async def __call__(self, request: SearchUsersRequest) -> bytes:
        """Raises InvalidArgument for a query without anything to look for, and for another query's cursor."""
        plan = users_plan(request)
        viewer = require_reader()
        prefix = prefix_of(request.query)
        if not prefix:
            raise InvalidArgument(
                "One or more parameters to your request was invalid.",
                violations=[Violation("query", "must have something to look for")],
            )
        binding = f"users/search/{viewer}/{prefix}"
        token = request.pagination_token or request.next_token
        place = _unpack(self._cursors.open(token, binding)) if token else None
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE
        shown: list[tuple[FoundWord, bytes]] = []
        exhausted = False
        for _ in range(_MAX_ROUNDS):
            rows = await self._store.search(prefix, place, limit + 1)
            exhausted = len(rows) <= limit
            if rows:
                place = rows[-1]
                facts = await self._views.standings.of(viewer, [row.user_id for row in rows])
                shown += [
                    (row, record)
                    for row in rows
                    if facts.meets(row.user_id) and (record := facts.people[row.user_id]) is not None
                ]
            if exhausted or len(shown) > limit:
                break
        if len(shown) > limit:
            place = shown[limit - 1][0]
        elif exhausted:
            place = None
        meta = Meta(result_count=min(len(shown), limit))
        if place is not None:
            meta.next_token = self._cursors.seal(_pack(place), binding)
        return await present_users(plan, self._views, [record for _, record in shown[:limit]], viewer, meta=meta)


def _pack(place: FoundWord) -> bytes:
    return _ID.pack(place.user_id) + place.word.encode()


def _unpack(position: bytes) -> FoundWord:
    return FoundWord(position[_ID.size :].decode(), *_ID.unpack_from(position))
