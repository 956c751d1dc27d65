"""The bus that a URL names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from mesh.bus.base import Bus
from mesh.settings import SettingError

_REDIS = ("redis", "rediss", "valkey", "unix")


def open_bus(url: str, *, registry: CollectorRegistry | None = None) -> Bus:
    """The bus at a URL; it connects when it is used.

    Args:
        url: `kafka://host:port,host:port/NAME` (the name may be left out), or for Redis Streams `redis://`, `rediss://`
            or `unix://`.
        registry: for metrics; by default none are exported.

    Raises:
        SettingError: no bus has such a URL. The URL is not repeated in the message.
    """
    scheme = url.partition("://")[0]
    # What is not used is not loaded: a client costs memory in every process.
    if scheme == "kafka":
        from mesh.bus.kafka import KafkaBus

        return KafkaBus(url, registry=registry)
    if scheme in _REDIS:
        from mesh.bus.redis_streams import RedisStreamsBus

        return RedisStreamsBus(url, registry=registry)
    if scheme.endswith("+cluster"):
        raise SettingError(
            "BUS_URL: a cluster of Redis or Valkey holds no bus; give one server, or Kafka (kafka://host:port,...)"
        )
    raise SettingError("BUS_URL: the bus has a URL kafka://..., redis://..., rediss://... or unix://...")
