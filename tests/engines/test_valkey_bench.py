"""`rookery bench fanout --cluster`: that it runs, and its figures make sense. How fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

import pytest

from scripts.engines.control import Control

from .engines import ROOT


@pytest.mark.timeout(300)
async def test_a_benchmark_prints_what_a_follower_costs_in_a_cluster(engine: Callable[[str], Control]) -> None:
    engine("valkey")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", "fanout", "--cluster", "--quick", "--rounds", "1", "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(280):
            printed, said = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, said.decode()[-2000:]
    report = json.loads(printed)
    for entries in (800, 100):
        costs = report["costs"][f"cluster, lists of {entries}"]
        assert all(costs[role]["median"] > 0 for role in ("masters", "replicas", "all"))
        assert costs["all"]["median"] > report["costs"][f"cluster, lists of {entries}"]["masters"]["median"]
    assert sum("in a cluster over the floor" in ratio["name"] for ratio in report["ratios"]) == 2
