"""One folder a service; each is its own process, and none imports another."""
