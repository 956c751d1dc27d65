"""How a process begins: quickly, and with its garbage collector told what will live for as long as it does.

A service loads a thousand modules, and nothing of them is garbage: collections that look at them anyway are a fifth of
its start and, later, a tenth of all that it does.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 10_000
"""Allocations, less deallocations, before the youngest are looked at. Python's own 700 are fewer than one call makes,
so what it holds was looked at twice before it could be let go by counting references."""


@contextmanager
def importing() -> Iterator[None]:
    """For the block that imports a service: nothing is collected, and structlog does not find `rich`.

    structlog loads it for tracebacks in colours, which a service that writes JSON has none of.
    """
    gc.disable()
    hidden = "rich" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        if hidden:
            del sys.modules["rich"]
        gc.freeze()  # or the first collection after it looks at all of it
        gc.enable()


def settle() -> None:
    """To be called when a process has all that it keeps: that is never looked at again, and what is new less often.

    What of it is garbage by then stays: 0.1 MB of a service, for which 70 ms of CPU are too much.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
