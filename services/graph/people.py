"""People whom a request names."""

from __future__ import annotations

from mesh.errors import NotFound
from views.hydrate import Hydrator
from views.record import is_there


async def require_person(users: Hydrator, user_id: int, parameter: str) -> bytes:
    """Somebody's record. Raises NotFound, which names `parameter`, for who is not there."""
    record = (await users.get([user_id]))[0]
    if record is None or not is_there(record):
        raise NotFound(f"Could not find user with {parameter}: [{user_id}].")
    return record
