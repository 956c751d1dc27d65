"""`rookery bench neo4j`: that it runs, and that its figures make sense. How fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from .engines import ROOT


@pytest.mark.timeout(400)
async def test_a_benchmark_prints_what_a_page_costs(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", "neo4j", "--quick", "--json", "--folder", str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(350):
            printed, said = await child.communicate()
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()
    assert child.returncode == 0, said.decode()[-2000:]
    report = json.loads(printed)
    assert report["bench"] == "neo4j"
    for side in ("floor", "rookery"):
        assert report["costs"][side]["page"]["median"] > 0, side
    assert all(ratio["median"] > 0 for ratio in report["ratios"])
