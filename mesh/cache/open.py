"""The cache store that a URL names."""

from __future__ import annotations

from mesh.cache.store import CacheStore
from mesh.settings import SettingError

_SERVER = ("redis", "rediss", "valkey", "valkeys", "unix")
_CLUSTER = ("redis+cluster", "rediss+cluster", "valkey+cluster", "valkeys+cluster")


def open_cache(url: str, *, connections: int = 64) -> CacheStore:
    """The cache store at a URL; it connects when it is used.

    Args:
        url: one server, `redis://`, `rediss://` (TLS) or `unix://`; or nodes of a cluster,
            `redis+cluster://name:password@host:port,host:port`, `rediss+cluster://`, of which one that answers is
            enough to find the others. `valkey` may stand for `redis`.
        connections: to one server, at most. To each node of a cluster there are five.

    Raises:
        SettingError: no cache store has such a URL. The URL is not repeated in the message.
    """
    scheme, _, rest = url.partition("://")
    named = scheme.replace("valkeys", "rediss").replace("valkey", "redis")
    # What is not used is not loaded: a client costs memory in every process.
    if scheme in _CLUSTER:
        from mesh.cache.cluster import Cluster

        return Cluster(f"{named}://{rest}")
    if scheme in _SERVER:
        from mesh.cache.server import Server

        return Server(f"{named}://{rest}", connections=connections)
    raise SettingError(
        "CACHE_URL: the cache store has a URL redis://..., rediss://..., unix://... or redis+cluster://host:port,..."
    )
