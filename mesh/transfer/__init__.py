"""Copying what a store keeps to another one, perhaps of another kind, while nobody uses either."""
