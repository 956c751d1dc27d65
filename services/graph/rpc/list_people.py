"""GraphService.ListFollowers and ListFollowing."""

from __future__ import annotations

from typing import Protocol

from rookery.api.v2.envelope_pb2 import Meta
from rookery.graph.v1.graph_service_pb2 import ListFollowersRequest, ListFollowingRequest

from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors, Position, keyset_page
from services.graph.store.base import Edge, GraphStore
from views.plan import users_plan
from views.present import Views, not_found, present_users
from views.record import is_there

_DEFAULT_PAGE = 100  # as the X API has it


class _Fetch(Protocol):
    async def __call__(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]: ...


class _ListPeople:
    def __init__(self, name: str, fetch: _Fetch, views: Views, cursors: Cursors) -> None:
        self._name = name
        self._fetch = fetch
        self._views = views
        self._cursors = cursors

    async def answer(self, request: ListFollowersRequest | ListFollowingRequest) -> bytes:
        plan = users_plan(request)
        binding = f"{self._name}/{require_viewer()}/{request.id}"
        position = Position(0)
        if request.pagination_token:
            position = Position.unpack(self._cursors.open(request.pagination_token, binding))
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE

        async def fetch(before: int, after: int, count: int) -> list[Edge]:
            return await self._fetch(request.id, before=before, after=after, limit=count)

        page = await keyset_page(fetch, lambda edge: edge.follow_id, position, limit)
        found = await self._views.users.get([request.id, *(edge.user_id for edge in page.rows)])
        if not is_there(found[0]):
            missing = [not_found("user", "id", str(request.id))]
            return await present_users(plan, self._views, [], errors=missing, meta=Meta(result_count=0))
        records = [record for record in found[1:] if record is not None and is_there(record)]
        meta = Meta(result_count=len(records))
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        return await present_users(plan, self._views, records, meta=meta)


class ListFollowers:
    """One page of who follows somebody."""

    def __init__(self, store: GraphStore, views: Views, cursors: Cursors) -> None:
        self._list = _ListPeople("followers", store.followers, views, cursors)

    async def __call__(self, request: ListFollowersRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        return await self._list.answer(request)


class ListFollowing:
    """One page of whom somebody follows."""

    def __init__(self, store: GraphStore, views: Views, cursors: Cursors) -> None:
        self._list = _ListPeople("following", store.following, views, cursors)

    async def __call__(self, request: ListFollowingRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        return await self._list.answer(request)
