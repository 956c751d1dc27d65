"""GraphService.ListBlocking, ListMuting, ListFollowRequests and ListSentFollowRequests: lists for the viewer alone."""

from __future__ import annotations

from typing import Literal, Protocol

from rookery.api.v2.envelope_pb2 import Fields
from rookery.graph.v1.graph_service_pb2 import (
    ListBlockingRequest,
    ListFollowRequestsRequest,
    ListMutingRequest,
    ListSentFollowRequestsRequest,
)

from mesh.interceptors.viewer import require_self, require_viewer
from services.graph.store.base import Edge, GraphStore
from views.pages import Paged, Pages


class _Fetch(Protocol):
    async def __call__(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]: ...


class _OfViewer:
    """A request without an owner, as Pages takes it: the owner is the viewer."""

    def __init__(self, request: ListFollowRequestsRequest | ListSentFollowRequestsRequest, viewer_id: int) -> None:
        self._request = request
        self.id = viewer_id
        self.max_results: int = request.max_results
        self.pagination_token: str = request.pagination_token
        self.tweet: Fields = request.tweet
        self.post: Fields = request.post
        self.user: Fields = request.user
        self.expansions: str = request.expansions

    def HasField(self, field_name: Literal["max_results"], /) -> bool:
        """Whether an optional member is there."""
        return self._request.HasField(field_name)


async def _page(pages: Pages, request: Paged, name: str, read: _Fetch) -> bytes:
    """A page of the people in one of the lists of `request.id`, whoever blocks whom."""

    async def fetch(before: int, after: int, count: int) -> list[Edge]:
        return await read(request.id, before=before, after=after, limit=count)

    return await pages.people(
        request, name, fetch, key=lambda edge: edge.edge_id, user_id=lambda edge: edge.user_id, blocked=True
    )


class ListBlocking:
    """One page of whom the viewer blocks."""

    def __init__(self, store: GraphStore, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def __call__(self, request: ListBlockingRequest) -> bytes:
        """Raises PermissionDenied for somebody else's, InvalidArgument for a cursor of another request."""
        require_self(request.id)
        return await _page(self._pages, request, "blocking", self._store.blocking)


class ListMuting:
    """One page of whom the viewer mutes."""

    def __init__(self, store: GraphStore, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def __call__(self, request: ListMutingRequest) -> bytes:
        """Raises PermissionDenied for somebody else's, InvalidArgument for a cursor of another request."""
        require_self(request.id)
        return await _page(self._pages, request, "muting", self._store.muting)


class ListFollowRequests:
    """One page of who asks to follow the viewer."""

    def __init__(self, store: GraphStore, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def __call__(self, request: ListFollowRequestsRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        own = _OfViewer(request, require_viewer())
        return await _page(self._pages, own, "follow_requests", self._store.requests_received)


class ListSentFollowRequests:
    """One page of whom the viewer asks to be let follow."""

    def __init__(self, store: GraphStore, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def __call__(self, request: ListSentFollowRequestsRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        own = _OfViewer(request, require_viewer())
        return await _page(self._pages, own, "follow_requests/sent", self._store.requests_sent)
