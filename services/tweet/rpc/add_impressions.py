"""TweetMeshService.AddImpressions."""

from __future__ import annotations

from rookery.tweet.v1.tweet_mesh_pb2 import AddImpressionsRequest, AddImpressionsResponse

from mesh.errors import InvalidArgument, Violation
from services.tweet.store.base import CountStore


class AddImpressions:
    """Adds to how often tweets were shown."""

    def __init__(self, counts: CountStore) -> None:
        self._counts = counts

    async def __call__(self, request: AddImpressionsRequest) -> AddImpressionsResponse:
        """Raises InvalidArgument unless there is a count for each id."""
        if len(request.ids) != len(request.counts):
            problem = "must have as many elements as ids"
            raise InvalidArgument(f"counts {problem}.", violations=[Violation("counts", problem)])
        await self._counts.add_impressions(dict(zip(request.ids, request.counts, strict=True)))
        return AddImpressionsResponse()
