"""Turns ids into answers: hydration from the read model, and presentation in the shapes of the X API v2."""
