"""The port of `moderation` and its adapter."""
