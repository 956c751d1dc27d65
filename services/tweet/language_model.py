"""The model by which languages are told: py3langid's, unpacked once for all processes of an installation.

As the library keeps it, it takes a second of CPU to unpack, and each process then has 90 MB of its own. Unpacked by
`python -m services.tweet.language_model`, which `make run` does, it is mapped: there at once, and in memory once.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

Rank = Callable[[str], Sequence[tuple[str, float]]]
"""From a text to languages and how probable each is, the most probable first."""

FOLDER = Path(sys.prefix) / "share" / "rookery"
"""Of the environment that the library is installed in."""
_PARTS = ("weights", "priors", "classes", "moves", "rows", "features")


def load_model(folder: Path = FOLDER) -> Rank:
    """The model as it was unpacked; else the library unpacks it, which takes a second of CPU and 90 MB of memory.

    Args:
        folder: where `unpack` was told to put it.
    """
    # Not imported with this module: the process is to answer before they are.
    import numpy
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier
    from py3langid.modelio import load_model as load_packed

    place = _place(folder)
    if place.is_dir():
        weights, priors, classes, moves, rows, features = (
            numpy.load(place / f"{part}.npy", mmap_mode="r") for part in _PARTS
        )
        # A view, as an array of numpy's makes an object of its own for each number that is taken out.
        parts: tuple[Any, ...] = (weights.view(numpy.ndarray), priors, classes.tolist(), memoryview(moves))
        found = LanguageIdentifier(*parts, features.tolist(), norm_probs=True, tk_row=rows.tolist())
    else:
        *parts_of_library, rows, features = load_packed(MODEL_DIR / MODEL_FILE)
        found = LanguageIdentifier(*parts_of_library, features, norm_probs=True, tk_row=rows)
    rank: Rank = found.rank
    rank("The first text takes longer.")
    return rank


def unpack(folder: Path = FOLDER) -> None:
    """Puts the model where `load_model` maps it from; does nothing when it is there. Raises OSError."""
    import numpy
    from py3langid.langid import MODEL_DIR, MODEL_FILE
    from py3langid.modelio import load_model as load_packed

    place = _place(folder)
    if place.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder))
    try:
        for name, part in zip(_PARTS, load_packed(MODEL_DIR / MODEL_FILE), strict=True):
            numpy.save(unfinished / f"{name}.npy", numpy.asarray(part))
        unfinished.chmod(0o755)
        unfinished.rename(place)  # whole, or not there
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not place.is_dir():  # nobody else was faster
            raise


def _place(folder: Path) -> Path:
    return folder / f"py3langid-{version('py3langid')}"


if __name__ == "__main__":
    unpack()
