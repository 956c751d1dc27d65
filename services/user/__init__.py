"""The `user` service; see its README.md."""
