"""Figures of several rounds, and how they are shown."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        found = sorted(values)
        return cls(found[0], statistics.median(found), found[-1])

    def text(self, digits: int = 0) -> str:
        """`median (min-max)`."""
        return f"{self.median:,.{digits}f} ({self.min:,.{digits}f}-{self.max:,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Ratio:
    """What something costs in units of its floor; the two were measured in the same rounds."""

    name: str
    """Of what, over what."""
    spread: Spread
    """Over all rounds."""
    target: float | None = None
    """The median is to be this at most; None where it is shown for information."""

    @property
    def text(self) -> str:
        """One line."""
        said = f"{self.name}: {self.spread.text(2)}"
        if self.target is None:
            return said
        return f"{said}, target {self.target:g}: {'met' if self.spread.median <= self.target else 'missed'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark found."""

    bench: str
    """Its name."""
    setup: Mapping[str, int]
    """Sizes: rounds, requests and so on."""
    unit: str
    """Of `costs`."""
    costs: Mapping[str, Mapping[str, Spread]]
    """By what was measured, then by process."""
    ratios: Sequence[Ratio]
    """The figures that it is run for."""

    def text(self, digits: int) -> str:
        """A table, and the ratios."""
        columns = list(dict.fromkeys(column for row in self.costs.values() for column in row))
        table = [[self.unit, *columns]]
        for name, row in self.costs.items():
            table.append([name, *(row[column].text(digits) if column in row else "" for column in columns)])
        widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(cells)
            )
            for cells in (zip(line, widths, strict=True) for line in table)
        ]
        sizes = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in self.setup.items())
        heading = f"{self.bench}: {sizes}; {machine()}. Median (min-max) over the rounds."
        return "\n".join([heading, "", *(line.rstrip() for line in lines), "", *(ratio.text for ratio in self.ratios)])

    def json(self) -> dict[str, object]:
        """The same for machines."""
        return {
            "bench": self.bench,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "setup": dict(self.setup),
            "unit": self.unit,
            "costs": {
                name: {process: _numbers(spread) for process, spread in row.items()} for name, row in self.costs.items()
            },
            "ratios": [
                {
                    "name": ratio.name,
                    **_numbers(ratio.spread),
                    "target": ratio.target,
                    "met": None if ratio.target is None else ratio.spread.median <= ratio.target,
                }
                for ratio in self.ratios
            ],
        }


def machine() -> str:
    """The machine's class: what figures may be compared across."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def _numbers(spread: Spread) -> dict[str, float]:
    return {"min": round(spread.min, 3), "median": round(spread.median, 3), "max": round(spread.max, 3)}
