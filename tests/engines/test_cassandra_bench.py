"""`rookery bench cassandra`: that it runs, and that its figures make sense. How fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from .engines import ROOT


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("cassandra")
async def test_a_benchmark_prints_what_a_write_and_a_batch_of_reads_cost() -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", "cassandra", "--quick", "--rounds", "1", "--json"),
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
    assert report["bench"] == "cassandra"
    for side in ("floor", "rookery"):
        for step in ("write", "read"):
            assert report["costs"][side][step]["median"] > 0, (side, step)
    assert all(ratio["median"] > 0 for ratio in report["ratios"])
