"""The tests of tests/stores/test_records.py, on a Valkey Cluster."""

from tests.engines.clusters import start_valkey, valkey  # noqa: F401
from tests.stores.test_records import *  # noqa: F403
