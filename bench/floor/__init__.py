"""Floors: the least that the work of a benchmark can cost in this language, on this transport and this store."""
