"""The `ratelimit` service; see its README.md."""
