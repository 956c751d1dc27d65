"""Which store a URL names, and where in a cluster a key is."""

from __future__ import annotations

from collections import Counter

import pytest
from redis.crc import key_slot

from mesh.bus.open import open_bus
from mesh.cache.cluster import Cluster
from mesh.cache.keys import BUCKETS, bucket, owned, slot
from mesh.cache.open import open_cache
from mesh.cache.server import Server
from mesh.settings import SettingError


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("unix:///tmp/s?db=0", Server),
        ("redis://:secret@host:6379/0", Server),
        ("valkeys://host", Server),
        ("redis+cluster://one:6379,two:6380", Cluster),
        ("rediss+cluster://user:secret@one", Cluster),
        ("valkey+cluster://one", Cluster),
    ],
)
def test_the_scheme_chooses_the_kind_of_store(url: str, kind: type) -> None:
    assert type(open_cache(url)) is kind


@pytest.mark.parametrize(
    "url",
    ["", "kafka://h:1", "http://u:secret@h", "redis+cluster://", "redis+cluster://u:secret@", "redis+cluster://h:x"],
)
def test_a_url_of_no_cache_store_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingError, match="CACHE_URL") as refusal:
        open_cache(url)
    assert "secret" not in str(refusal.value)


def test_a_clusters_url_has_nodes_and_a_password() -> None:
    cluster = Cluster("redis+cluster://ada:a%2Fb%40c@one:1,[::1]:2,three/0?x=y")
    assert cluster._seeds == [("one", 1), ("::1", 2), ("three", 6379)]
    assert (cluster._access.name, cluster._access.password) == ("ada", "a/b@c")


@pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster", "valkey+cluster"])
def test_a_cluster_is_refused_as_a_bus_with_a_word_on_what_to_do(scheme: str) -> None:
    with pytest.raises(SettingError, match=r"BUS_URL: a cluster .* holds no bus; give one server, or Kafka"):
        open_bus(f"{scheme}://:secret@one:6379,two:6379")


@pytest.mark.parametrize("key", ["tweet:2:17", "a{b}c", "{}x", "{", "a{b", "x{y}{z}", "a{}{b}", "", "ü{ß}"])
def test_a_key_is_where_the_clients_of_the_field_look_for_it(key: str) -> None:
    assert slot(key) == slot(key.encode()) == key_slot(key.encode())


def test_all_keys_of_an_owner_share_a_slot() -> None:
    for owner in (1, 2**40 + 17, 2**63 - 1):
        assert len({slot(owned(prefix, owner)) for prefix in ("home:4:", "following:", "muted:")}) == 1


@pytest.mark.parametrize("step", [1, 1 << 12, 1 << 22])
def test_owners_spread_evenly_over_buckets_however_their_ids_come(step: int) -> None:
    """In a row; one a millisecond and worker; one a millisecond."""
    found = Counter(bucket(7 + n * step) for n in range(64 * BUCKETS))
    assert len(found) == BUCKETS
    assert max(found.values()) < 2 * 64
