"""The two kinds of tweet lists in the cache store: `fanout` adds to and removes from them, `timeline` reads them."""

from __future__ import annotations

from mesh.cache.lists import NewestLists
from mesh.cache.store import CacheStore

LIMIT = 800
"""Entries of one list: what a home timeline goes back to."""
_TTL_S = 7 * 86_400  # from the owner's last read: who does not come for a week has the list filled anew


def home_lists(store: CacheStore) -> NewestLists:
    """Home lists: what a person and those they follow wrote, save authors who are only pulled."""
    return NewestLists(store, "home:4:", limit=LIMIT, ttl_s=_TTL_S)


def author_lists(store: CacheStore) -> NewestLists:
    """Authors' own lists, for those whose tweets are pulled at read."""
    return NewestLists(store, "author:4:", limit=LIMIT, ttl_s=_TTL_S)
