"""`rookery bench bus`: that it runs, and that its figures make sense. How fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

from scripts.engines.control import Control

from .engines import ROOT


async def test_a_benchmark_prints_what_events_cost(engine: Callable[[str], Control]) -> None:
    engine("kafka")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", "bus", "--quick", "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(110):
            printed, said = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, said.decode()[-2000:]
    report = json.loads(printed)
    assert report["bench"] == "bus"
    for side in ("floor", "rookery"):
        assert report["costs"][side]["both"]["median"] > 0, side
    assert all(ratio["median"] > 0 for ratio in report["ratios"])
