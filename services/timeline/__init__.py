"""The `timeline` service; see its README.md."""
