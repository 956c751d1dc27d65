"""What a model of toxicity is, and which one a URL names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

Model = Callable[[Sequence[str]], Sequence[float]]
"""From texts to how toxic each is, 0 to 1. It blocks, and may raise anything."""
BUILT_IN = "builtin:alt-profanity-check"
"""The URL of the model that is in the tree."""
NONE = "none:"
"""The URL of no model: every text is harmless. For an operator who wants none."""


class ModelError(Exception):
    """A model cannot be loaded. The message says why."""


def folder_of(url: str) -> Path:
    """The folder of `onnx:///folder`. Raises ValueError for another URL."""
    parts = urlsplit(url)
    if parts.scheme != "onnx" or parts.netloc or not parts.path.startswith("/"):
        raise ValueError(f"a model is {BUILT_IN}, {NONE} or onnx:///folder, not {url!r}")
    return Path(unquote(parts.path))


def known(url: str) -> bool:
    """Whether a URL can name a model."""
    if url in (BUILT_IN, NONE):
        return True
    try:
        folder_of(url)
    except ValueError:
        return False
    return True
