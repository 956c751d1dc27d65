"""An archive as a file: a ZIP with one JSON document a section, written section by section in bounded memory.

The file has no name, so that nothing of it is left when the process dies. All methods block: call them in a thread.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from types import TracebackType
from typing import IO

PIECE = 1 << 20
"""Bytes of one piece of the finished file."""


class Archive:
    """A ZIP that grows."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)
        self._section: IO[bytes] | None = None
        self._counts: dict[str, int] = {}
        self._name = ""

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Whatever was begun is ended, so that a ZIP that is given up is not ended later, by chance, on a closed file.
        if self._section is not None:
            self._section.close()
            self._section = None
        self._zip.close()
        self._file.close()

    @property
    def counts(self) -> dict[str, int]:
        """Items of each section that was begun."""
        return dict(self._counts)

    def document(self, name: str, content: object) -> None:
        """Adds one file with one JSON document."""
        self._zip.writestr(f"{name}.json", json.dumps(content, ensure_ascii=False, indent=2) + "\n")

    def begin(self, name: str) -> None:
        """Begins a section: a file with a JSON array."""
        self._section = self._zip.open(f"{name}.json", "w", force_zip64=True)
        self._section.write(b"[")
        self._name, self._counts[name] = name, 0

    def add(self, items: Sequence[bytes]) -> None:
        """Adds JSON objects to the section."""
        if self._section is None:
            raise ValueError("no section was begun")
        for item in items:
            self._section.write(b"\n" if self._counts[self._name] == 0 else b",\n")
            self._section.write(item)
            self._counts[self._name] += 1

    def end(self) -> None:
        """Ends the section."""
        if self._section is None:
            raise ValueError("no section was begun")
        self._section.write(b"\n]\n")
        self._section.close()
        self._section = None

    def finish(self) -> int:
        """Ends the file; gives its bytes. Then `piece` reads it."""
        self._zip.close()
        size = self._file.seek(0, 2)
        self._file.seek(0)
        return size

    def piece(self) -> bytes:
        """The next piece of the finished file; empty at its end."""
        return self._file.read(PIECE)
