"""Runs a model in a process of its own: a model that hangs, eats memory or crashes takes nobody with it.

`python -m services.moderation.models.serve URL` reads a line of JSON, a list of texts, from its input and writes one, a
list of numbers or `{"error": ...}`, to its output. The first line it writes is `[]`: the model is loaded.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from services.moderation.models.base import Model, folder_of


def load(url: str) -> Model:
    """The model that a URL names. Raises ModelError, ValueError."""
    from services.moderation.models.onnx_folder import OnnxFolder  # what it needs is not for those without one

    return OnnxFolder.load(folder_of(url))


def _answer(model: Model, texts: Sequence[str]) -> object:
    try:
        return [float(score) for score in model(texts)]
    except Exception as error:  # noqa: BLE001 -- whatever a model raises is told, and the next texts may do
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> int:
    """Serves until its input ends; 1 when the model cannot be loaded."""
    # Answers go where the parent reads; whatever a library prints goes with the log.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        model = load(sys.argv[1])
    except Exception as error:  # noqa: BLE001
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return 1
    out.write("[]\n")
    for line in sys.stdin:
        out.write(json.dumps(_answer(model, json.loads(line))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
