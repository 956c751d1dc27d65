"""What the tables of a schema keep of people, so that nothing that is somebody's is forgotten when they ask for it.

Each service declares its tables; tests/wiring/test_personal.py compares that with the schema, and fails for a table or
a column that nobody thought of.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Raises ValueError when it says of somebody's rows neither in which section of the archive they are nor why in none,
    or not how they go.
    """

    people: tuple[str, ...] = ()
    """Columns that hold ids of people."""
    others: tuple[str, ...] = ()
    """Columns that hold ids of anything else."""
    sections: tuple[str, ...] = ()
    """Sections of the archive that have its rows."""
    left_out: str = ""
    """Why no section has them, or not all."""
    erased: str = ""
    """How what is somebody's goes when they do; or, in a table without people, why nothing in it is theirs."""

    def __post_init__(self) -> None:
        if self.people and not (self.sections or self.left_out):
            raise ValueError("a table with people is exported, or says why not")
        if not self.erased:
            raise ValueError("a table says how somebody's rows go, or why none is theirs")
