"""The `graph` service; see its README.md."""
