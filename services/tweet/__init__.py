"""The `tweet` service; see its README.md."""
