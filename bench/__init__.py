"""Measurements: CPU per request of the hot paths, each next to a floor that does the least in the same run."""
