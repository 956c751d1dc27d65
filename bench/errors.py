"""What a benchmark says when it cannot be run."""

from __future__ import annotations

from cli.errors import OperatorError


class BenchError(OperatorError):
    """A benchmark cannot be run, or measured something other than it was to. The message says what."""
