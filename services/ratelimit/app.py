"""Composition root of `ratelimit`."""

from __future__ import annotations

from prometheus_client import REGISTRY

from mesh.cache.open import open_cache
from mesh.server import EDGE, Service
from mesh.settings import Environment, SettingError
from services.ratelimit.contract import SHOULD_RATE_LIMIT
from services.ratelimit.limits_file import LimitsFileError
from services.ratelimit.rpc.should_rate_limit import ShouldRateLimit
from services.ratelimit.settings import RateLimitSettings
from services.ratelimit.store.cache import CacheCallStore
from services.ratelimit.watching import WatchedLimits

CALLS = "calls:1:"
"""Prefix of the keys of counts; the number is that of their layout."""


async def build(env: Environment) -> Service:
    """The service, put together from its settings. Raises SettingError when the limits are wrong."""
    settings = RateLimitSettings.read(env)
    try:
        limits = WatchedLimits(settings.limits_file, REGISTRY)
    except LimitsFileError as error:
        raise SettingError(f"the limits are wrong:\n{error}") from None
    cache = open_cache(settings.cache_url)
    return Service(
        name="ratelimit",
        rpcs=[],
        unary={SHOULD_RATE_LIMIT: ShouldRateLimit(limits, CacheCallStore(cache, CALLS), REGISTRY)},
        callers=frozenset({EDGE}),
        background={"limits": limits.run},
        stop=[cache.close],
    )
