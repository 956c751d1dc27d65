"""Where calls are counted: a port, and its adapter."""
