"""Access to the cache store (Valkey or Redis): what may vanish at any time, and be wrong never."""
