"""The tests of tests/stores/test_timeline_sources.py, on a Valkey Cluster."""

from tests.engines.clusters import start_valkey, valkey  # noqa: F401
from tests.stores.test_timeline_sources import *  # noqa: F403
