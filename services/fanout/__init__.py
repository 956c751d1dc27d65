"""The `fanout` service; see its README.md."""
