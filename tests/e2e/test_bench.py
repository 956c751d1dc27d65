"""`rookery bench`: that it runs, and that its figures make sense. How fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from cli.profile import PROJECT


@pytest.mark.parametrize(
    ("name", "process"), [("home", "service"), ("fanout", "all")], ids=["home timeline", "fan-out"]
)
async def test_a_benchmark_prints_its_costs_and_ratios(name: str, process: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", name, "--quick", "--rounds", "1", "--json"),
        cwd=PROJECT,
        env={key: value for key, value in os.environ.items() if not key.startswith("ROOKERY_")},
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
    assert report["bench"] == name
    assert report["ratios"]
    for ratio in report["ratios"]:
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    for side, costs in report["costs"].items():
        assert costs[process]["median"] > 0, side
