"""Database access: one module a kind of store."""
