"""CPU time of other processes, all of their threads, as the kernel counts it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def cpu_us(pid: int) -> int:
    """Microseconds of CPU that a process took so far, user and system, in steps of one tick (10 ms).

    From proc(5), /proc/PID/stat, fields 14 and 15. Raises FileNotFoundError when there is no such process.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


@dataclass
class Spent:
    """What processes took between two moments."""

    us: dict[str, int] = field(default_factory=dict)
    """Microseconds of CPU by the name given to a process; there after the block."""
    seconds: float = 0.0
    """Time that passed; there after the block."""


@contextmanager
def spent(pids: Mapping[str, int]) -> Iterator[Spent]:
    """Measures what each process takes inside the block."""
    found = Spent()
    before = {name: cpu_us(pid) for name, pid in pids.items()}
    started = time.perf_counter()
    yield found
    found.seconds = time.perf_counter() - started
    found.us = {name: cpu_us(pid) - before[name] for name, pid in pids.items()}
